/*
 * Hogs: clients that are ready, ask for nothing and cost what they can, also when all faults are over.
 * They send most of a large message and then a byte now and then, or announce one and send nothing of
 * it, or send commands by the thousand. The others are served beside them. In runs where a turn may
 * cost next to nothing, all of them may send commands, and some do not read what they get for them.
 */
#include <string.h>

#include "base/clock.h"
#include "sim.h"

enum {
	HOGS_MAX = 12,
	SIZE = 60000,       /* of what they announce ... */
	KEPT_BACK = 1000,   /* ... of which the last bytes come one by one, if at all */
	DRIP_MS = 500,
	LONGEST_MS = 30000, /* that one goes on with its message */
	COMMANDS = 3000,    /* at a time */
	NARROW = 1000,      /* bytes that the kernel of one who does not read takes */
	SERVED_MS = 5000    /* in peace, a request is answered within this much */
};

enum hog_kind { DRIPS, ANNOUNCES, CHATS, PINGS, NAGS /* with PINGs, and reads nothing */ };

/* What those who chat send, again and again, and what taking in one of them costs the daemon. */
static const char *const commands[] = {[CHATS] = "\4", [PINGS] = "\4\7\4PING\0", [NAGS] = "\4\7\4PING\0"};
static const struct chat kinds[] = {[CHATS] = {.each = 2, .units = BUDGET_COMMAND},
	[PINGS] = {.each = 9, .units = BUDGET_ANSWER},
	[NAGS] = {.each = 9, .units = BUDGET_ANSWER}};

static struct hog {
	enum hog_kind kind;
	int fd;        /* 0: closed; it dials again ... */
	int64_t when;  /* ... then; or has something to send */
	int64_t until; /* then it begins anew */
} hogs[HOGS_MAX];
static unsigned count;

/* Nobody sends anything but commands: they meet a turn's limits, and all else is as it was. */
static void
choose_floods(uint64_t z)
{
	count = 1 + (unsigned)(z >> 52 & 7);
	for (unsigned i = 0; i < count; i++)
		hogs[i] = (struct hog){CHATS + (z >> 40 & 0xff) * (i + 1) % 3, 0,
			world.now + 100 * (int64_t)i, 0};
}

/* Which runs these are is not drawn, and what follows is drawn last: see choose_flight(). */
void
hogs_choose(void)
{
	uint64_t z = (world.seed + 13) * 0x9e3779b97f4a7c15u;

	count = 0;
	if (strangers_are_there())
		return;
	if (z >> 61 != 0) {
		if (world.tight && (z >> 59 & 3) == 0)
			choose_floods(z);
		return;
	}
	count = (unsigned)between(8, HOGS_MAX);
	world.config.broker.max_connections = 0;
	world.config.broker.memory_limit = between(6, 9) * SIZE;
	for (int i = 0; i < PROXY_SIDES; i++) {
		struct side_opts *o = &world.proxy_config.side[i].opts;

		o->max_message_size = SIZE;
		o->receive_timeout = 30000;
		o->receive_deadline = 300000;
	}
	for (unsigned i = 0; i < count; i++)
		hogs[i] = (struct hog){chance(700) ? DRIPS : ANNOUNCES + rnd(2), 0,
			world.now + between(0, 3000), 0};
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
	if (h->kind == NAGS)
		s->out.receive_room = NARROW;
	if (h->kind < CHATS)
		begin_message(s, h->kind == DRIPS ? SIZE - KEPT_BACK : 1);
	else
		s->chat = kinds[h->kind];
	s->chat.from = s->in.written;
}

static void
go_on(struct hog *h, struct sock *s)
{
	if (h->kind != NAGS)
		net_peer_read(s, SIZE);
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

void
hogs_step(void)
{
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

void
hogs_check(void)
{
	for (const struct peer_sim *p = peers; p != NULL && count > 0 && !world.stopping; p = p->next)
		if (p->probes > 0 && p->probe_due == CLOCK_NEVER && world.now - p->probed_at > SERVED_MS)
			violation("client %d waits for its reply for %lld ms, beside clients that ask nothing",
				p->number, (long long)(world.now - p->probed_at));
}
