/* SPDX-License-Identifier: MIT */
/*
 * Hogs: clients that are ready, send no requests and cost as much as they can, also when all faults
 * are over. They send most of a large message and then a byte now and then, or announce one and
 * send nothing of it, or send commands by the thousand. The others are served beside them. In half
 * of these runs there are honest uploads, too, which come slowly: they must not be closed, whether
 * they are read or not. In runs with a tiny budget per turn, all of them may send commands, and
 * some do not read the answers.
 */
#include <string.h>

#include "base/clock.h"
#include "peers.h"
#include "sim.h"

enum {
	HOGS_MAX = 12,
	UPLOADS_MAX = 2,
	SIZE = 60000,     /* of the message that they announce ... */
	KEPT_BACK = 1000, /* ... of which the last bytes come one by one, if at all */
	DRIP_MS = 500,
	LONGEST_MS = 30000, /* after which one sends more of its message */
	COMMANDS = 3000,    /* at a time */
	NARROW = 1000,      /* that the kernel of a peer that does not read takes */
	/* a link may still stall that long after faults have ended */
	STALL_MS = 32000,
	SERVED_MS = 5000, /* in peace, a request is answered within that time */
	PIECE = 600,      /* of an upload, ... */
	PIECE_MS = 100    /* ... so often: a hundredth of it, at least */
};

enum hog_kind { DRIPS, ANNOUNCES, CHATS, PINGS, NAGS /* with PINGs, and reads nothing */, UPLOADS };

/* The commands that chatting hogs repeat, and the units that reading one costs the daemon. */
static const char *const commands[] = {
	[CHATS] = "\4", [PINGS] = "\4\7\4PING\0", [NAGS] = "\4\7\4PING\0"};
static const struct chat kinds[] = {[CHATS] = {.each = 2, .units = BUDGET_COMMAND},
	[PINGS] = {.each = 9, .units = BUDGET_ANSWER},
	[NAGS] = {.each = 9, .units = BUDGET_ANSWER}};

static struct hog {
	enum hog_kind kind;
	int fd;        /* 0: closed; it dials again ... */
	int64_t when;  /* ... then; or has something to send */
	int64_t until; /* then it begins again */
	size_t left;   /* of an upload */
} hogs[HOGS_MAX + UPLOADS_MAX];
static unsigned count;
static bool fills_memory;  /* there is a memory_limit that they reach */
static int64_t calm_at;    /* no faults from then on; CLOCK_NEVER: not known */
static int64_t over_since; /* memory_limit; CLOCK_NEVER: it is not */

/* All of them send only commands: they reach a turn's limits, and nothing else changes. */
static void
choose_floods(uint64_t z)
{
	count = 1 + (unsigned)(z >> 52 & 7);
	for (unsigned i = 0; i < count; i++)
		hogs[i] = (struct hog){CHATS + (z >> 40 & 0xff) * (i + 1) % 3, 0,
			world.now + 100 * (int64_t)i, 0, 0};
}

/* These runs are not chosen by random numbers, and theirs come last: see choose_flight(). */
void
hogs_choose(void)
{
	uint64_t z = (world.seed + 13) * 0x9e3779b97f4a7c15u;

	count = 0;
	calm_at = over_since = CLOCK_NEVER;
	fills_memory = false;
	if (strangers_are_there())
		return;
	if (z >> 61 != 0) {
		if (world.tight && (z >> 59 & 3) == 0)
			choose_floods(z);
		return;
	}
	fills_memory = true;
	count = (unsigned)between(8, HOGS_MAX);
	world.config.broker.max_connections = 0;
	world.config.broker.memory_limit = between(6, 9) * SIZE;
	for (int i = 0; i < PROXY_SIDES; i++) {
		struct proxy_opts *o = &world.proxy_config.side[i].opts;

		o->side.max_message_size = SIZE;
		o->side.receive_timeout = 30000;
		o->side.receive_deadline = 300000;
	}
	for (unsigned i = 0; i < count; i++)
		hogs[i] = (struct hog){chance(700) ? DRIPS : ANNOUNCES + rnd(2), 0,
			world.now + between(0, 3000), 0, 0};
	for (int i = 0; i < UPLOADS_MAX && (z >> 49 & 1) == 0; i++)
		hogs[count++] = (struct hog){UPLOADS, 0, world.now + between(0, 3000), 0, 0};
}

bool
hogs_are_there(void)
{
	return count > 0;
}

static struct sock *
find_open(int fd)
{
	for (struct sock *s = socks; s != NULL; s = s->next)
		if (s->fd == fd)
			return s->daemon_closed || s->reset ? NULL : s;
	return NULL;
}

static void
begin_message(struct sock *s, size_t bytes)
{
	static const uint8_t body[SIZE];
	uint8_t header[9] = {2};

	for (int i = 0; i < 8; i++)
		header[1 + i] = (uint8_t)((uint64_t)SIZE >> (56 - 8 * i));
	net_peer_write(s, header, sizeof(header));
	net_peer_write(s, body, bytes);
}

static void
dial(struct hog *h)
{
	static const char hello[] = "\xff\0\0\0\0\0\0\0\1\x7f\3\1NULL";
	static const char ready[] = "\4\34\5READY\13Socket-Type\0\0\0\6DEALER";
	uint8_t greeting[64] = {0};
	struct sock *s = net_connect(PROXY_FRONTEND);

	h->when = world.now + between(1000, 10000);
	if (s == NULL)
		return;
	count_fault(FAULT_HOG);
	h->fd = s->fd;
	h->until = world.now + between(3000, LONGEST_MS);
	s->in.send_room = s->in.receive_room = s->out.receive_room = 262144;
	memcpy(greeting, hello, sizeof(hello) - 1);
	net_peer_write(s, greeting, sizeof(greeting));
	net_peer_write(s, ready, sizeof(ready) - 1);
	h->left = SIZE - 2;
	if (h->kind == UPLOADS) {
		h->until = CLOCK_NEVER;
		h->when = world.now + PIECE_MS;
	}
	if (h->kind == NAGS)
		s->out.receive_room = NARROW;
	if (h->kind < CHATS || h->kind == UPLOADS)
		begin_message(s, h->kind == DRIPS ? SIZE - KEPT_BACK : 1);
	else
		s->chat = kinds[h->kind];
	s->chat.from = s->in.written;
}

/* Without its last byte: the whole message would have no receiver. */
static void
upload(struct hog *h, struct sock *s)
{
	static const uint8_t body[PIECE];
	size_t n = h->left < PIECE ? h->left : PIECE;

	if (n == 0) {
		net_peer_reset(s);
		return;
	}
	net_peer_write(s, body, n);
	h->left -= n;
	h->when = world.now + PIECE_MS;
}

static void
go_on(struct hog *h, struct sock *s)
{
	if (h->kind != NAGS)
		net_peer_read(s, SIZE);
	if (h->kind == UPLOADS) {
		upload(h, s);
		return;
	}
	if (world.now >= h->until) {
		net_peer_reset(s);
		return;
	}
	h->when = world.now + (h->kind == DRIPS ? DRIP_MS : between(100, 5000));
	if (h->kind == DRIPS)
		net_peer_write(s, "", 1);
	else if (h->kind >= CHATS)
		for (int i = 0; i < COMMANDS; i++)
			net_peer_write(s, commands[h->kind], s->chat.each);
}

bool
hogs_is_upload(const struct sock *s)
{
	for (unsigned i = 0; i < count; i++)
		if (hogs[i].kind == UPLOADS && hogs[i].fd == s->fd)
			return world.now >= calm_at;
	return false;
}

void
hogs_step(void)
{
	if (world.healing && calm_at == CLOCK_NEVER)
		calm_at = world.now + STALL_MS;
	for (unsigned i = 0; i < count && !world.stopping; i++) {
		struct hog *h = &hogs[i];
		struct sock *s = h->fd != 0 ? find_open(h->fd) : NULL;

		if (h->fd != 0 && s == NULL) {
			h->fd = 0;
			h->when = world.now + between(1000, 10000);
		}
		if (world.now < h->when)
			continue;
		if (s != NULL)
			go_on(h, s);
		else
			dial(h);
	}
}

int64_t
hogs_next(void)
{
	int64_t next = CLOCK_NEVER;

	for (unsigned i = 0; i < count && !world.stopping; i++)
		if (hogs[i].when < next)
			next = hogs[i].when;
	return next;
}

/*
 * If messages under way fill the memory, those that stand still are closed until the others have
 * room: that takes a second or two, and one for each that has to be read for it.
 */
static void
check_limit(void)
{
	const struct mem_account *m = &world_proxy()->loop->env.memory;
	const struct list *conns = &world_proxy()->side[PROXY_FRONTEND].conns;
	uint64_t parts = 0;

	for (const struct list *n = conns->next; n != conns && mem_account_over(m); n = n->next)
		parts += outq_cost(&list_entry(n, struct conn, node)->part);
	if (!mem_account_over(m) || parts < m->used / 4 * 3 || world.now < calm_at ||
		world.freezes || world.stopping)
		over_since = CLOCK_NEVER;
	else if (over_since == CLOCK_NEVER)
		over_since = world.now;
	else if (world.now - over_since > SERVED_MS)
		violation(
			"memory is over its limit for %lld ms, because of clients without requests",
			(long long)(world.now - over_since));
}

void
hogs_check(void)
{
	if (fills_memory)
		check_limit();
	for (const struct peer_sim *p = peers; p != NULL && count > 0 && !world.stopping;
		p = p->next)
		if (p->probes > 0 && p->probe_due == CLOCK_NEVER &&
			world.now - p->probed_at > SERVED_MS)
			violation(
				"client %d waits for its reply for %lld ms, beside clients without requests",
				p->number, (long long)(world.now - p->probed_at));
}
