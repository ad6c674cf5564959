/* SPDX-License-Identifier: MIT */
/*
 * The work of one turn of the daemon's loop, counted independently of net/budget.c: bytes and
 * messages that it reads when it is called back. A turn must end, and no ready peer may wait while
 * others are served repeatedly.
 */
#include <string.h>

#include "broker/deliveries.h"
#include "broker/peer.h"
#include "broker/proxy.h"
#include "net/conn.h"
#include "peers.h"
#include "sim.h"

/*
 * In units of net/budget.h, and never more than it counts itself: commands are not counted here,
 * except those of peers that send nothing else.
 */
static struct {
	uint64_t turn;
	uint64_t cost;                 /* of all reads in its callbacks */
	uint64_t of_side[PROXY_SIDES]; /* of the reads that cost much */
	struct sock *now;              /* the socket that is called back now */
	bool read;                     /* ... and was read meanwhile */
	uint64_t read_cost;            /* of reads that were not small */
	uint64_t chat_cost; /* of commands: they cost nothing when their peer is closed before */
} book;

/*
 * Requests requeued from workers so far, as far as can be seen, and the number of those workers;
 * requests that could move in one step, and all requests received, until then.
 */
static struct {
	uint64_t taken, workers, whole, received;
} returns;

void
turns_forget(void)
{
	book.turn = book.cost = 0;
	memset(&returns, 0, sizeof(returns));
	book.now = NULL;
}

static uint64_t
this_turn(void)
{
	return world.loop->turns + 1;
}

/* The cost of a chat's commands whose last bytes were read just now. */
static uint64_t
cost_of_chat(const struct sock *s, size_t bytes)
{
	size_t from = s->chat.from, to = s->in.read, before = to - bytes;

	if (s->chat.each == 0 || to < from)
		return 0;
	if (before < from)
		before = from;
	return ((to - from) / s->chat.each - (before - from) / s->chat.each) * s->chat.units;
}

void
turns_on_read(struct sock *s, size_t bytes, size_t accepted)
{
	uint64_t cost = bytes > BUDGET_SMALL ? (bytes >> BUDGET_BYTES) + BUDGET_MESSAGE * accepted
					     : BUDGET_READ + bytes;

	if (book.now != s)
		return;
	book.read = true;
	book.cost += cost;
	if (bytes > BUDGET_SMALL) {
		book.chat_cost = cost_of_chat(s, bytes);
		book.cost += book.chat_cost;
		if (bytes > BUDGET_MEDIUM || cost + book.chat_cost > BUDGET_PLAIN)
			book.read_cost += cost + book.chat_cost;
	}
}

void
turns_begin_call(struct sock *s)
{
	if (book.turn != this_turn()) {
		book.turn = this_turn();
		book.cost = 0;
		memset(book.of_side, 0, sizeof(book.of_side));
	}
	if (book.cost > world.loop->limits.turn)
		violation("a turn goes on, though what it read cost %llu",
			(unsigned long long)book.cost);
	book.now = s;
	book.read = false;
	book.read_cost = book.chat_cost = 0;
}

/*
 * A peer of its side that was ready and not read, in this turn or the one before, and since `turn`
 * at least.
 */
static const struct sock *
kept_waiting(const struct sock *s, uint64_t turn)
{
	for (const struct sock *other = socks; other != NULL; other = other->next)
		if (other != s && !other->daemon_closed && other->side == s->side &&
			other->turns.passed_over > 0 && other->turns.passed_over < turn &&
			other->turns.passed_over_last + 1 >= book.turn)
			return other;
	return NULL;
}

static void
was_read(struct sock *s)
{
	s->turns.passed_over = s->turns.times = 0;
	if (book.read_cost == 0) {
		s->turns.cheap++;
		return;
	}
	/* peers with small reads for long count as cheap again, and do not wait */
	if (s->turns.cheap < 8 && s->turns.dear_before > 0 &&
		kept_waiting(s, s->turns.dear_before) != NULL)
		violation("descriptor %d is read for the third time while %d waits for its first",
			s->fd, kept_waiting(s, s->turns.dear_before)->fd);
	if (s->turns.cheap == 0 && s->turns.dear > 0 &&
		book.of_side[s->side] > world.loop->limits.side)
		violation("descriptor %d is read, though its side has had its part", s->fd);
	book.of_side[s->side] += book.read_cost;
	s->turns.dear_before = s->turns.dear;
	s->turns.dear = book.turn;
	s->turns.cheap = 0;
}

static void
was_passed_over(struct sock *s)
{
	unsigned others = 0;

	for (const struct sock *other = socks; other != NULL; other = other->next)
		others += !other->daemon_closed && !other->listener && other->side == s->side;
	if (s->turns.passed_over == 0 || s->turns.passed_over_last + 1 < book.turn) {
		s->turns.passed_over = book.turn;
		s->turns.times = 0;
	}
	s->turns.passed_over_last = book.turn;
	if (++s->turns.times > 4 * others + 16)
		violation(
			"descriptor %d was ready %u times and is not read", s->fd, s->turns.times);
}

/* A queue moves in one step without tracking, if no request has to be examined. */
static bool
goes_whole(const struct peer *worker)
{
	return !world.flight && !(worker->answers == PEER_ANSWERS_DELIMITED && worker->uncounted);
}

/*
 * Requests are requeued in slices: from workers that stall, expire or close, only a bounded number
 * in one turn.
 */
void
turns_check_returns(const struct proxy *p)
{
	const struct counters *c = &p->counters[PROXY_BACKEND];
	uint64_t cut = 0, whole = world.flight ? 0 : c->queued, taken,
		 most = 4 * returns.workers + 1;

	list_each(node, tmp, &p->side[PROXY_BACKEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *worker = conn->peer;

		cut += worker != NULL && worker->ledger != NULL ? worker->ledger->cut : 0;
		whole -= world.flight || worker == NULL || goes_whole(worker) ? 0
									      : conn->out.messages;
	}
	taken = c->rerouted + c->redelivered + p->deliveries.requeued_count -
		(p->deliveries.never_sent - cut);
	most *= p->loop->limits.side / BUDGET_MESSAGE + 2;
	most += returns.whole + (world.flight ? 0 : c->received - returns.received);
	if (taken > returns.taken + most)
		violation("%llu requests were requeued in one turn, of %llu workers",
			(unsigned long long)(taken - returns.taken),
			(unsigned long long)returns.workers);
	returns.taken = taken;
	returns.whole = whole;
	returns.received = c->received;
	returns.workers = p->side[PROXY_BACKEND].connections;
}

void
turns_end_call(struct sock *s)
{
	const struct conn *conn = world_conn(s->fd);

	book.now = NULL;
	if (s->daemon_closed || conn == NULL || conn->state == CONN_CLOSED) {
		book.cost -= book.chat_cost;
		return;
	}
	if (book.read)
		was_read(s);
	else if (!s->listener && net_watches(s, WATCH_IN) && s->in.arrived > s->in.read)
		was_passed_over(s);
}
