/* SPDX-License-Identifier: MIT */
/*
 * Two live clients with one routing id, which dial again whenever they are closed; or one that
 * disconnects and reconnects repeatedly, and whose end may come after its return. They send no
 * requests: the test is which of them may have the id.
 */
#include <string.h>

#include "base/clock.h"
#include "broker/peer.h"
#include "broker/router.h"
#include "net/conn.h"
#include "sim.h"

enum {
	/* after two claims within it, the third is refused, for that long */
	WINDOW_MS = 10000,
	HEARD_MS = 1000,
	SEEN_MS = 500, /* a loser that is still connected then has not ended by itself */
	SLACK_MS = 50
};

static const char id[] = "rival";
#define ID_LEN (sizeof(id) - 1)

static struct {
	bool any, returns; /* one that reconnects, not two that stay */
	struct rival {
		int fd;       /* 0: closed; it dials again ... */
		int64_t when; /* ... then; otherwise it sends, or reconnects, then */
	} here[2];
	struct rival leaving; /* its previous connection */
} rivals;

/* The last two claims that counted, or may have. */
struct contest {
	int64_t claimed, counted; /* claimed 0: in the turn in which it got it, too */
	uint64_t step;            /* the step in which it counted */
	bool sure;
};

static struct {
	uint64_t holder; /* peer; 0: none */
	bool ended;      /* ... whose peer has ended it */
	struct contest contests[2];
	unsigned count;
	uint64_t keeps; /* the peer that keeps the id ... */
	int64_t since;  /* ... since then */
} book;

/* These runs are not chosen by random numbers, and theirs come last: see choose_flight(). */
void
rivals_choose(void)
{
	uint64_t z = (world.seed + 19) * 0x9e3779b97f4a7c15u;

	memset(&rivals, 0, sizeof(rivals));
	memset(&book, 0, sizeof(book));
	if (z >> 61 != 0 || world.config.broker.max_connections > 0)
		return;
	rivals.any = true;
	rivals.returns = z >> 60 & 1;
	for (int i = 0; i < 2; i++)
		rivals.here[i] = (struct rival){0, world.now + between(0, 1000)};
}

static struct sock *
find(int fd)
{
	for (struct sock *s = socks; s != NULL && fd != 0; s = s->next)
		if (s->fd == fd)
			return s;
	return NULL;
}

/* Does the daemon's kernel know of no end? */
static bool
lives(int fd)
{
	const struct sock *s = find(fd);

	return s != NULL && !s->daemon_closed && !s->in.fin_arrived && !s->reset;
}

static void
dial(struct rival *r)
{
	static const char ready[] =
		"\4\56\5READY\13Socket-Type\0\0\0\6DEALER\10Identity\0\0\0\5rival";
	uint8_t greeting[64] = {0xff, [8] = 1, [9] = 0x7f, [10] = 3, [11] = 1, 'N', 'U', 'L', 'L'};
	struct sock *s = net_connect(PROXY_FRONTEND);

	r->when = world.now + between(50, 400);
	if (s == NULL)
		return;
	r->fd = s->fd;
	s->rival = true;
	count_fault(FAULT_RIVAL);
	net_peer_write(s, greeting, sizeof(greeting));
	net_peer_write(s, ready, sizeof(ready) - 1);
}

/* A rival reads, sends a PING, and closes when the daemon did; then it dials again. */
static void
live(struct rival *r)
{
	struct sock *s = find(r->fd);

	if (r->fd != 0 && (s == NULL || s->daemon_closed || s->peer_closed))
		*r = (struct rival){0, world.now + between(50, 200)};
	if (r->fd == 0 && world.now >= r->when && !world.stopping)
		dial(r);
	s = find(r->fd);
	if (s == NULL)
		return;
	net_peer_read(s, SIZE_MAX);
	if (s->out.fin_arrived) {
		net_peer_close(s);
	} else if (world.now >= r->when && !rivals.returns) {
		net_peer_write(s, "\4\7\4PING\0\0", 9);
		r->when = world.now + between(100, 500);
	}
}

/* It has the id: it reconnects, and the end of its old connection comes before or after that. */
static void
come_back(struct rival *r)
{
	const struct conn *conn = r->fd != 0 ? world_conn(r->fd) : NULL;
	struct sock *s = find(rivals.leaving.fd);

	if (s != NULL && !s->peer_closed && world.now >= rivals.leaving.when)
		net_peer_close(s);
	if (conn == NULL || conn->id != book.holder || world.now < r->when || world.stopping)
		return;
	if (s != NULL && !s->peer_closed)
		net_peer_close(s);
	rivals.leaving = (struct rival){r->fd, world.now + (chance(500) ? 0 : between(0, 350))};
	dial(r);
}

void
rivals_step(void)
{
	if (!rivals.any)
		return;
	live(&rivals.here[0]);
	if (rivals.returns)
		come_back(&rivals.here[0]);
	else
		live(&rivals.here[1]);
}

int64_t
rivals_next(void)
{
	int64_t next = CLOCK_NEVER;
	const struct rival *all[] = {&rivals.here[0], &rivals.here[1], &rivals.leaving};

	for (int i = 0; rivals.any && i < 3; i++)
		if ((!world.stopping || all[i]->fd != 0) && all[i]->when > world.now &&
			all[i]->when < next)
			next = all[i]->when;
	return next;
}

/* --- what must hold ------------------------------------------------------- */

static const struct conn *
conn_by_id(const struct proxy *p, uint64_t peer)
{
	for (const struct list *n = p->side[PROXY_FRONTEND].conns.next;
		n != &p->side[PROXY_FRONTEND].conns; n = n->next)
		if (list_entry(n, struct conn, node)->id == peer)
			return list_entry(n, struct conn, node);
	return NULL;
}

/*
 * Did the contest count before the last turn? In a turn new peers come first, and closed ones are
 * freed last.
 */
static bool
was_sure(const struct contest *c)
{
	return c->sure && c->step + 1 < world.steps;
}

/* The id has a new holder. */
static void
note_change(const struct conn *loser)
{
	struct sock *s;

	if (loser == NULL ||
		!conn_is_yielding(loser)) { /* free in between: earlier claims do not count */
		book.contests[0].sure = book.contests[1].sure = false;
		return;
	}
	s = find(loser->fd);
	s->claimed_at = world.now;
	if (!lives(s->fd) || loser->hung_up) /* a write to it failed */
		return;
	s->lived = world.now - loser->last_in < HEARD_MS;
	if (book.keeps == loser->id && world.now - book.since < WINDOW_MS - SLACK_MS)
		violation("peer %llu keeps its id, and it is taken", (unsigned long long)loser->id);
	if (s->lived && book.count == 2 && was_sure(&book.contests[0]) &&
		was_sure(&book.contests[1]) && world.now - book.contests[0].claimed <= WINDOW_MS)
		violation(
			"the id of peer %llu is taken a third time", (unsigned long long)loser->id);
}

static uint64_t
holder_of(const struct proxy *p)
{
	const struct peer *peer = router_find(&p->router, (const uint8_t *)id, ID_LEN);

	return peer != NULL ? peer->conn->id : 0;
}

void
rivals_check(const struct proxy *p)
{
	uint64_t holder;

	if (!rivals.any)
		return;
	holder = holder_of(p);
	if (holder != book.holder && book.holder != 0)
		note_change(holder != 0 ? conn_by_id(p, book.holder) : NULL);
	for (struct sock *s = socks; s != NULL; s = s->next)
		s->ended = s->rival && !lives(s->fd);
	book.holder = holder;
	book.ended = holder != 0 && find(conn_by_id(p, holder)->fd)->ended;
}

/* The loser is freed: did it stay until it was closed? */
static void
note_contest(const struct sock *s)
{
	/* the daemon knows since its last turn, or closed it before it could know */
	if (s->ended || (s->claimed_at != 0 && world.now < s->claimed_at + SEEN_MS - SLACK_MS))
		return;
	if (book.count == 2)
		book.contests[0] = book.contests[--book.count];
	book.contests[book.count++] = (struct contest){s->claimed_at, world.now, world.steps,
		s->lived && lives(s->fd) && world.now - s->claimed_at >= SEEN_MS &&
			!world.stopping && holder_of(world_proxy()) != 0};
}

static void
check_refusal(const struct conn *newcomer)
{
	uint64_t holder = holder_of(world_proxy());

	if (holder == 0) /* it got the id in this turn, and is freed */
		holder = book.holder;
	if (holder == 0 || (holder == book.holder && book.ended))
		violation("peer %llu is refused an id that nobody has",
			(unsigned long long)newcomer->id);
	if (world_proxy()->opts[PROXY_FRONTEND].queue.duplicate_routing_id == DUPLICATE_REJECT)
		return;
	if (book.keeps == holder && world.now - book.since <= WINDOW_MS + SLACK_MS)
		return;
	if (book.count < 2 || world.now - book.contests[0].counted > WINDOW_MS + SLACK_MS)
		violation("peer %llu is refused an id that nobody contested",
			(unsigned long long)newcomer->id);
	book.keeps = holder;
	book.since = world.now;
	book.count = 0;
}

void
rivals_closing(const struct sock *s, const struct conn *conn)
{
	if (!s->rival || conn->reason != CLOSE_DUPLICATE_ROUTING_ID)
		return;
	if (conn_is_yielding(conn))
		note_contest(s);
	else
		check_refusal(conn);
}
