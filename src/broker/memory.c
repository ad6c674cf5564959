/* SPDX-License-Identifier: MIT */
#include "broker/memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "broker/broker_impl.h"
#include "net/conn.h"

enum {
	/* between two looks while over the limit, or while reading is paused or held back */
	LOOK_MS = 20,
	NEAR_MS = 200, /* ... while near it */
	TURN_MS = 200, /* of one for whom there is no room near the limit, if it is slow */
	BEYOND_MS = 2 * TURN_MS, /* from the beginning of one of those to that of the next */
	/* a message that comes so fast that it would double in this time keeps its turn */
	DOUBLE_MS = 250,
	CLOSE_AT_ONCE = 16,  /* peers, in one look */
	GIVE_BACK_MS = 10000 /* ... when they have been gone for so long */
};

static struct mem_account *
account_of(const struct memory *m)
{
	return &m->broker->loop->env.memory;
}

static size_t
side_count(const struct memory *m)
{
	return m->broker->count * PROXY_SIDES;
}

static struct side *
side_at(const struct memory *m, size_t i)
{
	return blame_side(m->broker, i);
}

static size_t
other_side(size_t i)
{
	return i / PROXY_SIDES * PROXY_SIDES + (PROXY_SIDES - 1 - i % PROXY_SIDES);
}

/*
 * A side whose reading brought in no more than its share is left alone, and so are its
 * peers, whatever the others hold. All shares together are a quarter of the limit.
 */
static uint64_t
share(const struct memory *m)
{
	return account_of(m)->limit / (UINT64_C(4) * PROXY_SIDES * m->broker->count);
}

/*
 * Who holds no more is not to blame, and a message under way that costs no more goes on at the
 * limit, too: all of them together cost no more than half of the eighth by which memory may pass
 * it.
 */
static uint64_t
large_part(const struct memory *m)
{
	return account_of(m)->limit / 16 / (m->broker->loop->connections + 1);
}

static bool
is_near(const struct memory *m)
{
	return account_of(m)->used > account_of(m)->limit / 4 * 3;
}

/* --- what is held, and who holds it --------------------------------------- */

static uint64_t
sources_cost(const struct list *head)
{
	uint64_t cost = 0;

	list_each_const(n, head)
		cost += outq_cost(&list_entry(n, struct source, node)->queue);
	return cost;
}

/* Requests and replies that wait for a peer to have room. */
static uint64_t
waiting_cost(const struct proxy *p, int side)
{
	uint64_t cost = 0;

	if (side == PROXY_BACKEND) {
		cost = sources_cost(&p->waiting) + sources_cost(&p->parked) +
			p->counters[PROXY_BACKEND].kept_bytes;
		return p->rerouted != NULL ? cost + outq_cost(&p->rerouted->queue) : cost;
	}
	list_each_const(n, &p->side[side].conns) {
		const struct peer *client = list_entry(n, struct conn, node)->peer;
		if (client != NULL)
			cost += sources_cost(&client->blocked);
	}
	return cost;
}

/* Does the worker take at once what it is given? Of two of them the one that holds less. */
static struct conn *
better_taker(const struct conn *conn, struct conn *taker)
{
	const struct peer *worker = conn->peer;

	if (conn->state != CONN_READY || conn_is_blocked(conn) || conn_is_broken(conn) ||
		conn->out.unsent > 0 || worker == NULL || worker->suspect || worker->retiring)
		return taker;
	if (taker != NULL && ((struct peer *)taker->peer)->outstanding <= worker->outstanding)
		return taker;
	return worker->conn;
}

/*
 * What reading a side brought in: its own part messages, and all that the other side has
 * queued or in flight. The largest part is left out: paused in the middle, it would stay for ever
 * where it is others that fill the memory.
 */
static void
measure(struct memory *m)
{
	uint64_t large = large_part(m);

	for (size_t i = 0; i < side_count(m); i++)
		m->held[i] = (struct memory_held){0};
	for (size_t i = 0; i < side_count(m); i++) {
		struct memory_held *h = &m->held[i], *other = &m->held[other_side(i)];

		list_each(node, tmp, &side_at(m, i)->conns) {
			struct conn *conn = list_entry(node, struct conn, node);
			uint64_t part = outq_cost(&conn->part);

			other->bytes += blame_queue_cost(conn);
			h->parts += part;
			h->large += part > large ? part : 0;
			h->largest = part > h->largest ? part : h->largest;
			if (i % PROXY_SIDES == PROXY_BACKEND)
				h->taker = better_taker(conn, h->taker);
		}
		h->bytes += h->parts - h->largest;
		other->bytes +=
			waiting_cost(m->broker->proxies[i / PROXY_SIDES], (int)(i % PROXY_SIDES));
	}
	for (size_t i = 0; i < side_count(m); i++)
		m->held[i].over_share = m->held[i].bytes + m->held[i].largest > share(m);
}

/* --- what is done about it ------------------------------------------------ */

/* Some are closed, and what they held goes in slices: it is being freed already. */
static bool
is_closing(const struct memory *m)
{
	for (size_t i = 0; i < side_count(m); i++)
		if (side_at(m, i)->in_state[CONN_CLOSED] > 0)
			return true;
	return false;
}

/* Close those that hold most and stand still, until that is enough. False: there is none. */
static bool
close_standing(struct memory *m)
{
	uint64_t over = account_of(m)->used - account_of(m)->limit, most;
	struct conn *worst;
	int closed = 0;

	if (is_closing(m))
		return true;
	while (closed < CLOSE_AT_ONCE &&
		(worst = blame_worst(&m->blame, m->broker, m->held, large_part(m), &most)) !=
			NULL) {
		bool worker =
			worst->side == &((struct peer *)worst->peer)->proxy->side[PROXY_BACKEND];

		conn_close(worst, CLOSE_OVER_LIMIT, "memory_limit");
		closed++;
		if (worker || most >= over) /* one worker alone: another takes its queue now */
			break;
		over -= most;
	}
	return closed > 0;
}

static void
complain(struct memory *m, struct ratelimit *limit, const struct side *side, const char *action)
{
	if (!ratelimit_pass(limit, loop_now(m->broker->loop)))
		return;
	log_event(LOG_LEVEL_WARNING, "memory_limit",
		"proxy=%s side=%s action=%s memory_bytes=%" PRIu64 " limit=%" PRIu64,
		side->proxy_name, side->name, action, account_of(m)->used, account_of(m)->limit);
}

/* Large messages wait, so that the small ones of everybody else need not. */
static void
hold_large_parts(struct memory *m)
{
	for (size_t i = 0; i < side_count(m); i++) {
		struct side *side = side_at(m, i);

		if (!m->held[i].over_share) {
			side_release(side);
			continue;
		}
		if (!side->holds && m->held[i].large > 0)
			complain(m, &m->hold_complaints, side, "hold_large_messages");
		side_hold(side, large_part(m));
	}
	m->holding = true;
}

static void
release_parts(struct memory *m)
{
	for (size_t i = 0; i < side_count(m); i++)
		side_release(side_at(m, i));
	m->holding = false;
}

/*
 * What side `i` brought in that is not held back: whole messages, and small ones under way. The
 * largest is left out, here as well.
 */
static uint64_t
not_held_back(const struct memory *m, size_t i)
{
	const struct memory_held *h = &m->held[i];

	return side_at(m, i)->holds && h->large > 0 ? h->bytes + h->largest - h->large : h->bytes;
}

/*
 * Is it what cannot be held back that is too much, or that goes on growing? What queues cost is an
 * estimate, so it is the proportion that counts.
 */
static bool
holding_is_not_enough(const struct memory *m)
{
	const struct mem_account *account = account_of(m);
	uint64_t rest = 1, held = 0;

	for (size_t i = 0; i < side_count(m); i++) {
		rest += not_held_back(m, i);
		held += side_at(m, i)->holds ? m->held[i].large : 0;
	}
	return (double)account->used * (double)rest / (double)(rest + held) >
		(double)(mem_account_far_over(account) ? account->limit / 8 : account->limit);
}

/* Small replies pass up to there, where large ones have to wait. */
static bool
small_replies_fit(const struct memory *m)
{
	return account_of(m)->used <= account_of(m)->limit + account_of(m)->limit / 4;
}

/*
 * Stop reading the side that brought in most of what cannot be held back. Of replies the small ones
 * pass for longer, and clients have to take what they have got before they are given more to ask
 * for.
 */
static void
pause_worst_side(struct memory *m)
{
	size_t worst = side_count(m);
	uint64_t most = 0;

	m->seen = account_of(m)->used;
	if (!holding_is_not_enough(m))
		return;
	for (size_t i = 0; i < side_count(m); i++) {
		if (!side_at(m, i)->read_paused && m->held[i].bytes > share(m) &&
			not_held_back(m, i) > most) {
			most = not_held_back(m, i);
			worst = i;
		}
	}
	if (worst == side_count(m))
		return;
	if (worst % PROXY_SIDES == PROXY_BACKEND) {
		struct proxy *p = m->broker->proxies[worst / PROXY_SIDES];

		if (!p->ration.few)
			complain(m, &m->complaints, side_at(m, other_side(worst)),
				"ration_requests");
		ration_begin(p, large_part(m));
		if (small_replies_fit(m))
			return;
	}
	side_pause(side_at(m, worst), true);
	complain(m, &m->complaints, side_at(m, worst), "pause_reading");
}

/*
 * Do requests that wait for their replies hold more than the replies do? Only reading frees them.
 */
static bool
waits_for_replies(const struct memory *m, size_t i)
{
	const struct proxy *p = m->broker->proxies[i / PROXY_SIDES];

	return i % PROXY_SIDES == PROXY_BACKEND &&
		p->counters[PROXY_BACKEND].kept_bytes > m->held[i].bytes;
}

/* Read again what brought in no more than `held`. Returns whether a side is still paused. */
static bool
resume_reading(struct memory *m, uint64_t held)
{
	bool paused = false;

	for (size_t i = 0; i < side_count(m); i++) {
		struct proxy *p = m->broker->proxies[i / PROXY_SIDES];
		struct side *side = side_at(m, i);

		if (!side->read_paused)
			continue;
		if ((m->held[i].bytes > held && !waits_for_replies(m, i)) ||
			(i % PROXY_SIDES == PROXY_FRONTEND && p->paused && !p->draining)) {
			paused = true;
			continue;
		}
		side_pause(side, false);
		m->seen = 0; /* what it brings in is to be seen, be it less than back then */
	}
	return paused;
}

/* Does it wait for memory with the front of a message? */
static bool
waits_for_memory(const struct side *side, const struct conn *conn)
{
	return conn_is_open(conn) && conn->paused != 0 && !(conn->paused & CONN_PAUSED) &&
		conn != side->reading && !outq_empty(&conn->part);
}

/*
 * Up to there memory may grow by messages that go on: it may pass the limit by an eighth, and by
 * one message; by a quarter of the limit where it is what came whole that fills it.
 */
static uint64_t
most_allowed(const struct memory *m, size_t i)
{
	const struct mem_account *account = account_of(m);
	uint64_t message = (uint64_t)side_at(m, i)->opts->max_message_size;
	uint64_t most = account->limit / 4;

	if (m->held[i].parts < account->used / 2 && holding_is_not_enough(m)) {
		if (i % PROXY_SIDES == PROXY_BACKEND)
			most = 0; /* the rest is for small ones */
		message = message > most ? most : message;
	}
	return account->limit + account->limit / 8 + message;
}

/* `room` is what memory has left. */
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

enum choice { OLDEST, FASTEST, SHORTEST, CHOICES };

/*
 * Is `conn` a better choice than what was the best so far? By `worth`; the one that has waited
 * longer among equals.
 */
static bool
is_better(const struct conn *conn, double worth, const struct conn *best, double most)
{
	return best == NULL || worth > most ||
		(worth >= most && conn->paused_since < best->paused_since);
}

/*
 * The next one that goes on, among those that have sent more and for whose rest there is room: the
 * one that has waited longest, or that seems to send fastest, or that has least left to send.
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
 * Of those that hold at least half as much as the largest the one that began last: it loses least.
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

/* Is it messages under way of that side that fill the memory? Nothing else frees it, then. */
static bool
parts_fill(const struct memory *m, size_t i)
{
	return m->held[i].parts >= account_of(m)->used / 2;
}

/*
 * Nobody can go on with a message. What others brought in may yet go; where it is such messages
 * that fill the memory, and there is no room for the rest of any, some go until there is.
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
 * Is it requests that fill the memory, and do they wait for workers whose replies are held back?
 * One of those goes on though there is no room for it: nothing else frees anything.
 */
static bool
frees_requests(const struct memory *m, size_t i)
{
	const struct proxy *p = m->broker->proxies[i / PROXY_SIDES];
	uint64_t bytes = m->held[i].bytes;

	return i % PROXY_SIDES == PROXY_BACKEND && p->counters[PROXY_BACKEND].outstanding > 0 &&
		bytes <= account_of(m)->limit / 2 && bytes < m->held[other_side(i)].bytes;
}

/* What memory has left up to `most`. */
static uint64_t
room_below(const struct memory *m, uint64_t most)
{
	uint64_t used = account_of(m)->used;

	return used < most ? most - used : 0;
}

/* ... before it is far over. */
static uint64_t
near_room(const struct memory *m)
{
	return room_below(m, account_of(m)->limit + account_of(m)->limit / 8);
}

/*
 * It keeps its turn while more of its message is there, or so much comes that what it holds would
 * double in a moment; for a second at most. What comes slowly gathers in our kernel until its next
 * turn. Where there is no room near the limit turns are not that short: memory is to get no fuller.
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
 * It is others that fill the memory: beside one message the side has no more than what is always
 * left to it.
 */
static bool
one_always_fits(const struct memory *m, size_t i)
{
	return m->held[i].bytes <= share(m);
}

/* Who is preferred, for a moment; then the next kind is. */
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
 * Who has the next turn? In rounds: whoever has waited longest, so that nobody waits for ever,
 * whoever sends fastest, who need not wait for all that are slow, and whoever is done soonest,
 * which frees memory. First those for whom there is room near the limit, but the others now and
 * then as well.
 */
static struct conn *
choose(struct memory *m, size_t i)
{
	struct side *side = side_at(m, i);
	struct memory_turns *t = &m->turns[i];
	int64_t now = loop_now(m->broker->loop);
	struct conn *next = NULL;

	/*
	 * where a side is paused since it brought in too much that is whole, little may be added to
	 * that
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
 * What is held back would never move where nobody stands still but by that, nor would it be seen
 * who does not go on. So one at a time is read, until its message is whole, or little more comes of
 * it, or a second has passed, and others wait.
 */
static void
let_one_finish(struct memory *m)
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

static void
enforce(struct memory *m)
{
	hold_large_parts(m);
	if (close_standing(m)) {
		m->pressed = 0;
		return;
	}
	pause_worst_side(m);
	let_one_finish(m);
}

/* Returns whether there still are any. */
static bool
look_at_rations(struct memory *m)
{
	bool on = false;

	for (size_t i = 0; i < m->broker->count; i++) {
		ration_look(m->broker->proxies[i], large_part(m));
		on |= m->broker->proxies[i]->ration.on;
	}
	return on;
}

/*
 * Reading goes on below three quarters of the limit, so that it does not begin and end all the
 * time; or below the limit as soon as memory does not get less any more. What is left then waits
 * for a peer that does not move, and others must not.
 */
static void
look(struct memory *m)
{
	uint64_t used = account_of(m)->used;
	bool paused;

	if (!mem_account_far_over(account_of(m)))
		m->pressed = 0;
	measure(m);
	blame_look(&m->blame, m->broker);
	paused = resume_reading(m, share(m) / 2) || m->holding;
	if (mem_account_over(account_of(m))) {
		enforce(m);
		paused = true;
	} else if (paused && (!is_near(m) || used >= m->used_before)) {
		resume_reading(m, UINT64_MAX);
		release_parts(m);
	}
	m->used_before = used;
	paused |= look_at_rations(m);
	m->watched = is_near(m) || paused;
	if (m->watched)
		timer_set(&m->timer, paused ? LOOK_MS : NEAR_MS);
	else
		blame_forget(&m->blame);
}

static void
memory_timer_cb(struct timer *timer)
{
	look(list_entry(timer, struct memory, timer));
}

static void
note_size(struct memory *m)
{
	if (m->broker->loop->env.memory.used > m->held_peak)
		m->held_peak = m->broker->loop->env.memory.used;
	if (m->broker->loop->connections > m->crowd_peak)
		m->crowd_peak = m->broker->loop->connections;
	if (m->give_back_runs)
		return;
	m->give_back_runs = true;
	timer_set(&m->give_back_timer, GIVE_BACK_MS);
}

/*
 * While large queues come and go, their memory stays, or each message would fault its pages in
 * anew. Of a crowd that left, what the few that stayed need lies scattered over all its memory:
 * three quarters have paid for looking through it.
 */
static void
give_back_cb(struct timer *timer)
{
	struct memory *m = list_entry(timer, struct memory, give_back_timer);
	uint32_t here = m->broker->loop->connections;

	if (m->held_peak >= MEMORY_MUCH_HELD) {
		m->much_freed = true;
	} else if (m->much_freed || (m->crowd_peak >= MEMORY_CROWD && here <= m->crowd_peak / 4)) {
		chunk_pool_fini(&m->broker->loop->env.pool);
		mem_give_back();
		m->much_freed = false;
		m->crowd_peak = here;
	}
	m->held_peak = m->broker->loop->env.memory.used;
	m->give_back_runs = m->much_freed || m->crowd_peak >= MEMORY_CROWD;
	if (m->give_back_runs)
		timer_set(&m->give_back_timer, GIVE_BACK_MS);
}

/* Is somebody done that had its turn? Then it is the next one's at once. */
static bool
turn_ended(const struct memory *m)
{
	bool ended = false;

	for (size_t i = 0; i < side_count(m); i++) {
		ended |= side_at(m, i)->holds && side_at(m, i)->reading_ended &&
			!side_at(m, i)->read_paused;
		side_at(m, i)->reading_ended = false;
	}
	return ended;
}

/*
 * Closing takes its time; when more comes in meanwhile than that gives back, reading pauses as
 * well.
 */
void
memory_look(struct memory *m)
{
	const struct mem_account *account = account_of(m);

	if (account->used >= MEMORY_MUCH_HELD || m->broker->loop->connections >= MEMORY_CROWD)
		note_size(m);
	if (!m->watched && is_near(m)) {
		m->seen = 0;
		look(m);
	} else if (mem_account_over(account) &&
		(!m->holding || m->timer.due > loop_now(m->broker->loop) + LOOK_MS)) {
		look(m);
	} else if (m->holding && turn_ended(m)) {
		let_one_finish(m);
	}
	if (mem_account_far_over(account) && account->used > m->seen) {
		measure(m);
		pause_worst_side(m);
	}
}

void
memory_init(struct memory *m, struct broker *broker)
{
	*m = (struct memory){.broker = broker};
	timer_init(&m->timer, broker->loop, memory_timer_cb);
	timer_init(&m->give_back_timer, broker->loop, give_back_cb);
	ratelimit_init(&m->complaints, 10);
	ratelimit_init(&m->hold_complaints, 1);
}

void
memory_fini(struct memory *m)
{
	timer_stop(&m->timer);
	timer_stop(&m->give_back_timer);
	blame_forget(&m->blame);
	free(m->held);
	free(m->turns);
}

bool
memory_reserve(struct memory *m, size_t proxies)
{
	size_t sides = proxies * PROXY_SIDES + 1;
	struct memory_held *held = mem_try_resize(m->held, sides * sizeof(*held));
	struct memory_turns *turns;

	if (held == NULL)
		return false;
	m->held = held;
	turns = mem_try_resize(m->turns, sides * sizeof(*turns));
	if (turns == NULL)
		return false;
	m->turns = turns;
	memset(turns, 0, sides * sizeof(*turns));
	return true;
}

void
memory_proxies_changed(struct memory *m)
{
	blame_forget(&m->blame); /* they count the sides */
	if (m->turns != NULL)
		memset(m->turns, 0, side_count(m) * sizeof(*m->turns));
}
