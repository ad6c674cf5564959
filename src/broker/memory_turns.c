/* SPDX-License-Identifier: MIT */
/*
 * At the memory limit, large messages under way do not go on, except one of each side at a time:
 * which message, and for how long.
 */
#include "broker/memory_impl.h"
#include "net/conn.h"

enum {
	TURN_MS = 200,           /* of a slow message that does not fit near the limit */
	BEYOND_MS = 2 * TURN_MS, /* from the beginning of such a turn to that of the next */
	/* a message that comes so fast that it would double in this time keeps its turn */
	DOUBLE_MS = 250
};

/*
 * Whole messages, and small ones under way. The largest part message is left out, as in measure().
 */
uint64_t
memory_not_held_back(const struct memory *m, size_t i)
{
	const struct memory_held *h = &m->held[i];

	return side_at(m, i)->holds && h->large > 0 ? h->bytes + h->largest - h->large : h->bytes;
}

/*
 * Is memory that cannot be held back too much, or does it go on growing? The cost of queues is an
 * estimate, so the proportion counts.
 */
bool
memory_holding_is_not_enough(const struct memory *m)
{
	const struct mem_account *account = account_of(m);
	uint64_t rest = 1, held = 0;

	for (size_t i = 0; i < side_count(m); i++) {
		rest += memory_not_held_back(m, i);
		held += side_at(m, i)->holds ? m->held[i].large : 0;
	}
	return (double)account->used * (double)rest / (double)(rest + held) >
		(double)(mem_account_far_over(account) ? account->limit / 8 : account->limit);
}

/* Does the connection wait for memory, with the front of a message? */
static bool
waits_for_memory(const struct side *side, const struct conn *conn)
{
	return conn_is_open(conn) && conn->paused != 0 && !(conn->paused & CONN_PAUSED) &&
		conn != side->reading && !outq_empty(&conn->part);
}

/*
 * How far memory may grow by messages that go on: past the limit by an eighth, and by one message;
 * at most a quarter of the limit counts for that message if whole messages fill the memory.
 */
static uint64_t
most_allowed(const struct memory *m, size_t i)
{
	const struct mem_account *account = account_of(m);
	uint64_t message = (uint64_t)side_at(m, i)->opts->max_message_size;
	uint64_t most = account->limit / 4;

	if (m->held[i].parts < account->used / 2 && memory_holding_is_not_enough(m)) {
		if (broker_which_at(i) == PROXY_BACKEND)
			most = 0; /* the rest is for small messages */
		message = message > most ? most : message;
	}
	return account->limit + account->limit / 8 + message;
}

/* Does the rest of any message that waits fit into `room`, the memory that is left? */
static bool
anyone_has_room(const struct side *side, uint64_t room)
{
	list_each(node, tmp, &side->conns) {
		const struct conn *conn = list_entry(node, struct conn, node);

		if (waits_for_memory(side, conn) && session_body_left(&conn->session) <= room)
			return true;
	}
	return false;
}

/* --- whose turn it is ----------------------------------------------------- */

enum choice { OLDEST, FASTEST, SHORTEST, CHOICES };

/* Is `conn` a better choice than `best`? By `worth`; among equals, by the time waited. */
static bool
is_better(const struct conn *conn, double worth, const struct conn *best, double most)
{
	return best == NULL || worth > most ||
		(worth >= most && conn->paused_since < best->paused_since);
}

/*
 * The next connection that goes on, among those that have sent more and whose rest fits into
 * `room`: the one that has waited longest, or seems to send fastest, or has least left to send.
 */
static struct conn *
next_to_read(const struct side *side, uint64_t room, enum choice choice)
{
	int64_t now = loop_now(side->loop);
	struct conn *next = NULL;
	double most = 0;

	list_each(node, tmp, &side->conns) {
		struct conn *conn = list_entry(node, struct conn, node);
		uint64_t left = session_body_left(&conn->session);
		double worth = choice == SHORTEST ? -(double)left : 0;

		if (!waits_for_memory(side, conn) || left > room || blame_sends_nothing(conn))
			continue;
		if (choice == FASTEST)
			worth = (double)conn_pending(conn) /
				(double)(now - conn->paused_since + TURN_MS);
		if (is_better(conn, worth, next, most)) {
			next = conn;
			most = worth;
		}
	}
	return next;
}

/*
 * The connection that began last, among those that hold at least half as much as the largest: it
 * loses least.
 */
static struct conn *
last_to_come(const struct side *side)
{
	struct conn *last = NULL;
	uint64_t most = 0;

	list_each(node, tmp, &side->conns) {
		const struct conn *conn = list_entry(node, struct conn, node);

		if (waits_for_memory(side, conn) && outq_cost(&conn->part) > most)
			most = outq_cost(&conn->part);
	}
	list_each(node, tmp, &side->conns) {
		struct conn *conn = list_entry(node, struct conn, node);

		if (waits_for_memory(side, conn) && outq_cost(&conn->part) >= most / 2 &&
			(last == NULL || conn->part_since >= last->part_since))
			last = conn;
	}
	return last;
}

/* Do messages under way of that side fill the memory? Then nothing else frees it. */
static bool
parts_fill(const struct memory *m, size_t i)
{
	return m->held[i].parts >= account_of(m)->used / 2;
}

/*
 * No connection can go on with a message. Other memory may yet be freed; if such messages fill the
 * memory, and the rest of none fits, close connections until one does.
 */
static void
press(struct memory *m, size_t i, uint64_t room)
{
	const struct side *side = side_at(m, i);
	int64_t now = loop_now(m->broker->loop);
	struct conn *conn;

	if (!parts_fill(m, i) || anyone_has_room(side, room))
		return;
	if (m->pressed == 0)
		m->pressed = now;
	if (now - m->pressed < BLAME_MS)
		return;
	while (!anyone_has_room(side, room) && (conn = last_to_come(side)) != NULL) {
		room += outq_cost(&conn->part);
		conn_close(conn, CLOSE_OVER_LIMIT,
			"memory_limit has no room for the rest of its message");
	}
	m->pressed = now;
}

/*
 * Do requests fill the memory, and wait for workers whose replies are held back? Then one such
 * reply goes on though there is no room for it: nothing else frees memory.
 */
static bool
frees_requests(const struct memory *m, size_t i)
{
	const struct proxy *p = broker_proxy_at(m->broker, i);
	uint64_t bytes = m->held[i].bytes;

	return broker_which_at(i) == PROXY_BACKEND && p->counters[PROXY_BACKEND].outstanding > 0 &&
		bytes <= account_of(m)->limit / 2 && bytes < m->held[broker_other_side(i)].bytes;
}

/* How much memory is left up to `most`. */
static uint64_t
room_below(const struct memory *m, uint64_t most)
{
	uint64_t used = account_of(m)->used;

	return used < most ? most - used : 0;
}

/* How much memory is left before it is far over the limit. */
static uint64_t
near_room(const struct memory *m)
{
	return room_below(m, account_of(m)->limit + account_of(m)->limit / 8);
}

/*
 * A connection keeps its turn while more of its message is there, or so much comes that what it
 * holds would double in a moment; for a second at most. A slow message gathers in our kernel until
 * its next turn. Without room near the limit, turns are not that short: memory is to get no fuller.
 */
static bool
has_its_turn(const struct memory *m, const struct side *side)
{
	const struct conn *conn = side->reading;
	int64_t since = loop_now(m->broker->loop) - side->reading_since;

	if (conn == NULL || since >= BLAME_MS)
		return false;
	if (session_body_left(&conn->session) > near_room(m) && since < TURN_MS)
		return true;
	return !blame_sends_nothing(conn) ||
		(conn->bytes_in - side->reading_from) * DOUBLE_MS >=
		outq_cost(&conn->part) * (uint64_t)since;
}

/*
 * Others fill the memory: besides one message, the side has no more than what is always left to it.
 */
static bool
one_always_fits(const struct memory *m, size_t i)
{
	return m->held[i].bytes <= share(m);
}

/* Which kind of connection is preferred for a moment, before the next kind is. */
static enum choice
choice_of(struct memory_round *round, int64_t now)
{
	if (now - round->since >= TURN_MS) {
		round->choice++;
		round->since = now;
	}
	return round->choice % CHOICES;
}

/*
 * Which connection has the next turn? In rounds: the one that has waited longest, so that none
 * waits indefinitely; the one that sends fastest, which need not wait for all slow ones; and the
 * one that is done soonest, which frees memory. First those that fit near the limit, but now and
 * then the others as well.
 */
static struct conn *
choose(struct memory *m, size_t i)
{
	struct side *side = side_at(m, i);
	struct memory_turns *t = &m->turns[i];
	int64_t now = loop_now(m->broker->loop);
	struct conn *next = NULL;

	/*
	 * if a side is paused because it brought in too many whole messages, little may be added to
	 * them
	 */
	if ((!side->read_paused || parts_fill(m, i)) &&
		(now - t->beyond_at >= BEYOND_MS || !anyone_has_room(side, near_room(m)))) {
		next = next_to_read(
			side, room_below(m, most_allowed(m, i)), choice_of(&t->beyond, now));
		if (next != NULL)
			t->beyond_at = now;
	}
	if (next == NULL)
		next = next_to_read(side, near_room(m), choice_of(&t->near, now));
	if (next == NULL && (one_always_fits(m, i) || frees_requests(m, i)))
		next = next_to_read(side, UINT64_MAX, OLDEST);
	return next;
}

/*
 * If messages stand still only because they are held back, they would never move, and peers that do
 * not go on would not be seen. So one connection at a time is read, until its message is whole, or
 * little more of it comes, or a second has passed, and others wait.
 */
void
memory_let_one_finish(struct memory *m)
{
	for (size_t i = 0; i < side_count(m); i++) {
		struct side *side = side_at(m, i);
		struct conn *next;

		if ((!side->holds && !side->read_paused) || has_its_turn(m, side))
			continue;
		next = choose(m, i);
		if (next != NULL) {
			side_let_read(side, next);
			m->pressed = 0;
		} else if (side->reading == NULL) {
			press(m, i, room_below(m, most_allowed(m, i)));
		}
	}
}
