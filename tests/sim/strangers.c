/* SPDX-License-Identifier: MIT */
/*
 * Strangers: they connect, send nothing or begin a greeting, and dial again when they are closed,
 * also when all faults are over. No peer may have to wait for a place because of them.
 */
#include "base/clock.h"
#include "net/conn.h"
#include "sim.h"

enum { STRANGERS_MAX = 24, LATE_MS = 30 };

static struct stranger {
	int fd;       /* 0: closed; it dials again ... */
	int64_t when; /* ... then */
} strangers[STRANGERS_MAX];
static unsigned count;
/* since when a stranger holds a place that a new peer could have; CLOCK_NEVER: none does */
static int64_t held_since[PROXY_SIDES];

/* These runs are not chosen by random numbers, and theirs come last: see choose_flight(). */
void
strangers_choose(void)
{
	uint64_t z = (world.seed + 7) * 0x9e3779b97f4a7c15u;

	count = 0;
	for (int i = 0; i < PROXY_SIDES; i++)
		held_since[i] = CLOCK_NEVER;
	if (z >> 61 != 0)
		return;
	world.config.broker.max_connections = between(10, 16);
	count = (unsigned)between(4, STRANGERS_MAX);
	for (unsigned i = 0; i < count; i++)
		strangers[i] = (struct stranger){0, world.now + between(0, 1000)};
}

bool
strangers_are_there(void)
{
	return count > 0;
}

static bool
is_open(int fd)
{
	for (const struct sock *s = socks; s != NULL; s = s->next)
		if (s->fd == fd)
			return !s->daemon_closed;
	return false;
}

static void
dial(struct stranger *s)
{
	struct sock *sock = net_connect(chance(700) ? PROXY_FRONTEND : PROXY_BACKEND);

	s->when = world.now + between(50, 400);
	if (sock == NULL)
		return;
	s->fd = sock->fd;
	count_fault(FAULT_STRANGER);
	if (chance(300))
		net_peer_write(sock, "\xff\0\0\0\0\0\0\0\1\x7f", 10);
}

void
strangers_step(void)
{
	for (unsigned i = 0; i < count && !world.stopping; i++) {
		struct stranger *s = &strangers[i];

		if (s->fd != 0 && !is_open(s->fd))
			*s = (struct stranger){0, world.now + between(50, 400)};
		if (s->fd == 0 && world.now >= s->when)
			dial(s);
	}
}

int64_t
strangers_next(void)
{
	int64_t next = CLOCK_NEVER;

	for (unsigned i = 0; i < count && !world.stopping; i++)
		if (strangers[i].fd == 0 && strangers[i].when < next)
			next = strangers[i].when;
	return next;
}

/* --- what must hold ------------------------------------------------------- */

static int64_t
share(void)
{
	int64_t limit = world.config.broker.max_connections;

	return limit / 8 > 1 ? limit / 8 : 1;
}

/*
 * The oldest accepted connection of the side that is in its handshake, if it could have made room a
 * while ago; *many: how many there are. All have one address.
 */
static const struct conn *
holder(const struct side *side, unsigned *many)
{
	const struct conn *oldest = NULL;

	*many = 0;
	list_each(node, tmp, &side->conns) {
		const struct conn *conn = list_entry(node, struct conn, node);

		if (conn->connector != NULL || conn->was_ready || conn->state == CONN_CLOSED)
			continue;
		if (oldest == NULL || conn->opened < oldest->opened)
			oldest = conn;
		++*many;
	}
	return oldest != NULL && oldest->opened + SLOTS_GRACE_MS + LATE_MS < net_timers_ran_at()
		? oldest
		: NULL;
}

static bool
somebody_waits(int side)
{
	for (const struct sock *s = socks; s != NULL; s = s->next)
		if (s->listener && s->side == side && !s->daemon_closed && s->pending_count > 0)
			return !net_watches(s, WATCH_IN);
	return false;
}

static int64_t
accepted(const struct side *side)
{
	int64_t n = 0;

	list_each(node, tmp, &side->conns)
		n += list_entry(node, struct conn, node)->connector == NULL;
	return n;
}

/* The connection whose place a new peer of this side could get. */
static const struct conn *
who_makes_room(const struct proxy *p, int side)
{
	unsigned here, there = 0;
	const struct conn *own = holder(&p->side[side], &here), *other = NULL;

	if (accepted(&p->side[!side]) > share())
		other = holder(&p->side[!side], &there);
	return there > here ? other : here > there ? own : NULL;
}

/*
 * The connection that the listener checked last may have become ready meanwhile; it checks again
 * when that one's grace would have ended: it may take that long until it finds the other one.
 */
static bool
since_long(int side, bool holds)
{
	if (!holds || held_since[side] == CLOCK_NEVER)
		held_since[side] = holds ? world.now : CLOCK_NEVER;
	return holds && net_timers_ran_at() > held_since[side] + SLOTS_GRACE_MS;
}

void
strangers_check(const struct proxy *p)
{
	const struct conn *conn;

	if (world.config.broker.max_connections == 0 || world.memory_faults || world.stopping)
		return;
	for (int i = 0; i < PROXY_SIDES; i++) {
		if (accepted(&p->side[i]) > world.config.broker.max_connections - share())
			violation("%s: the other side's share of connections is taken",
				p->side[i].name);
		/* without descriptors, or if accept() is forbidden, the listener retries later */
		conn = somebody_waits(i) && world.now >= p->loop->slots.short_until + 200 &&
				world.now >= net_forbidden_at() + 200
			? who_makes_room(p, i)
			: NULL;
		if (since_long(i, conn != NULL))
			violation("%s: a peer waits, and peer %llu holds a place in its handshake",
				p->side[i].name, (unsigned long long)conn->id);
	}
}
