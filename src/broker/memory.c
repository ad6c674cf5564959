/* SPDX-License-Identifier: MIT */
#include "broker/memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "broker/backlog.h"
#include "broker/memory_impl.h"
#include "net/conn.h"

enum {
	/* between two checks while over the limit, or while reading is paused or held back */
	CHECK_MS = 20,
	NEAR_MS = 200,      /* ... while near it */
	CLOSE_AT_ONCE = 16, /* peers, in one check */
	TRIM_MS = 10000     /* until freed memory is given back */
};

static bool
is_near(const struct memory *m)
{
	return account_of(m)->used > account_of(m)->limit / 4 * 3;
}

/* --- memory that is held, and by whom ------------------------------------- */

static uint64_t
backlogs_cost(const struct list *head)
{
	uint64_t cost = 0;

	list_each_const(n, head)
		cost += outq_cost(&list_entry(n, struct backlog, node)->queue);
	return cost;
}

/* Requests and replies that wait for a peer to have room. */
static uint64_t
waiting_cost(const struct proxy *p, int side)
{
	uint64_t cost = 0;

	if (side == PROXY_BACKEND) {
		cost = backlogs_cost(&p->waiting) + backlogs_cost(&p->parked) +
			p->counters[PROXY_BACKEND].kept_bytes;
		return p->rerouted != NULL ? cost + outq_cost(&p->rerouted->queue) : cost;
	}
	list_each_const(n, &p->side[side].conns) {
		const struct peer *client = list_entry(n, struct conn, node)->peer;
		if (client != NULL)
			cost += backlogs_cost(&client->blocked);
	}
	return cost;
}

/* Of two workers that take at once what they are given, the one that holds less. */
static struct conn *
better_taker(const struct conn *conn, struct conn *taker)
{
	const struct peer *worker = conn->peer;

	if (conn->state != CONN_READY || conn_is_blocked(conn) || conn_is_broken(conn) ||
		conn->out.unsent > 0 || worker == NULL || worker->suspect || worker->draining)
		return taker;
	if (taker != NULL && ((struct peer *)taker->peer)->outstanding <= worker->outstanding)
		return taker;
	return worker->conn;
}

/*
 * What reading a side brought in: its own part messages, and all that the other side has queued or
 * in flight. The largest part message is left out: paused in the middle, it would stay indefinitely
 * if other messages fill the memory.
 */
static void
measure(struct memory *m)
{
	uint64_t large = large_part(m);

	for (size_t i = 0; i < side_count(m); i++)
		m->held[i] = (struct memory_held){0};
	for (size_t i = 0; i < side_count(m); i++) {
		struct memory_held *h = &m->held[i], *other = &m->held[broker_other_side(i)];

		list_each(node, tmp, &side_at(m, i)->conns) {
			struct conn *conn = list_entry(node, struct conn, node);
			uint64_t part = outq_cost(&conn->part);

			other->bytes += blame_queue_cost(conn);
			h->parts += part;
			h->large += part > large ? part : 0;
			h->largest = part > h->largest ? part : h->largest;
			if (broker_which_at(i) == PROXY_BACKEND)
				h->taker = better_taker(conn, h->taker);
		}
		h->bytes += h->parts - h->largest;
		other->bytes += waiting_cost(broker_proxy_at(m->broker, i), broker_which_at(i));
	}
	for (size_t i = 0; i < side_count(m); i++)
		m->held[i].over_share = m->held[i].bytes + m->held[i].largest > share(m);
}

/* --- at the limit --------------------------------------------------------- */

/* Are connections closed whose memory is still being freed, in slices? */
static bool
is_closing(const struct memory *m)
{
	for (size_t i = 0; i < side_count(m); i++)
		if (side_at(m, i)->in_state[CONN_CLOSED] > 0)
			return true;
	return false;
}

/* Close the peers that hold most and stand still, until that is enough. False: there are none. */
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

/* Hold back large messages, so that the small ones of all others need not wait. */
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

/* Small replies pass up to a quarter over the limit, where large replies have to wait. */
static bool
small_replies_fit(const struct memory *m)
{
	return account_of(m)->used <= account_of(m)->limit + account_of(m)->limit / 4;
}

/*
 * Stop reading the side that brought in most of what cannot be held back. Small replies pass for
 * longer, and clients have to take their replies before they may ask for more.
 */
static void
pause_worst_side(struct memory *m)
{
	size_t worst = side_count(m);
	uint64_t most = 0;

	m->seen = account_of(m)->used;
	if (!memory_holding_is_not_enough(m))
		return;
	for (size_t i = 0; i < side_count(m); i++) {
		if (!side_at(m, i)->read_paused && m->held[i].bytes > share(m) &&
			memory_not_held_back(m, i) > most) {
			most = memory_not_held_back(m, i);
			worst = i;
		}
	}
	if (worst == side_count(m))
		return;
	if (broker_which_at(worst) == PROXY_BACKEND) {
		struct proxy *p = broker_proxy_at(m->broker, worst);

		if (!p->ration.few)
			complain(m, &m->complaints, side_at(m, broker_other_side(worst)),
				"ration_requests");
		ration_begin(p, large_part(m));
		if (small_replies_fit(m))
			return;
	}
	side_pause(side_at(m, worst), true);
	complain(m, &m->complaints, side_at(m, worst), "pause_reading");
}

/*
 * Do requests that wait for replies hold more than the replies do? Only reading replies frees them.
 */
static bool
waits_for_replies(const struct memory *m, size_t i)
{
	const struct proxy *p = broker_proxy_at(m->broker, i);

	return broker_which_at(i) == PROXY_BACKEND &&
		p->counters[PROXY_BACKEND].kept_bytes > m->held[i].bytes;
}

/*
 * Read the sides again that brought in no more than `held`. Returns whether a side is still paused.
 */
static bool
resume_reading(struct memory *m, uint64_t held)
{
	bool paused = false;

	for (size_t i = 0; i < side_count(m); i++) {
		struct proxy *p = broker_proxy_at(m->broker, i);
		struct side *side = side_at(m, i);

		if (!side->read_paused)
			continue;
		if ((m->held[i].bytes > held && !waits_for_replies(m, i)) ||
			(broker_which_at(i) == PROXY_FRONTEND && p->paused &&
				!proxy_is_draining(p))) {
			paused = true;
			continue;
		}
		side_pause(side, false);
		m->seen = 0; /* look at what the side brings in, even if it is less than before */
	}
	return paused;
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
	memory_let_one_finish(m);
}

/* Returns whether there still are rations. */
static bool
check_rations(struct memory *m)
{
	bool on = false;

	for (size_t i = 0; i < m->broker->count; i++) {
		ration_check(m->broker->proxies[i], large_part(m));
		on |= m->broker->proxies[i]->ration.on;
	}
	return on;
}

/*
 * Reading resumes below three quarters of the limit, so that it does not flap; or below the limit
 * as soon as memory stops shrinking. The rest of the memory then waits for a peer that does not
 * move, and other peers must not wait for it.
 */
static void
check_now(struct memory *m)
{
	uint64_t used = account_of(m)->used;
	bool paused;

	if (!mem_account_far_over(account_of(m)))
		m->pressed = 0;
	measure(m);
	blame_measure(&m->blame, m->broker);
	paused = resume_reading(m, share(m) / 2) || m->holding;
	if (mem_account_over(account_of(m))) {
		enforce(m);
		paused = true;
	} else if (paused && (!is_near(m) || used >= m->used_before)) {
		resume_reading(m, UINT64_MAX);
		release_parts(m);
	}
	m->used_before = used;
	paused |= check_rations(m);
	m->watched = is_near(m) || paused;
	if (m->watched)
		timer_set(&m->timer, paused ? CHECK_MS : NEAR_MS);
	else
		blame_forget(&m->blame);
}

static void
memory_timer_cb(struct timer *timer)
{
	check_now(list_entry(timer, struct memory, timer));
}

/* --- freed memory --------------------------------------------------------- */

static void
note_size(struct memory *m)
{
	if (m->broker->loop->env.memory.used > m->held_peak)
		m->held_peak = m->broker->loop->env.memory.used;
	if (m->broker->loop->connections > m->peak)
		m->peak = m->broker->loop->connections;
	if (m->trim_runs)
		return;
	m->trim_runs = true;
	timer_set(&m->trim_timer, TRIM_MS);
}

/*
 * While large queues come and go, their memory stays, or each message would fault its pages in
 * again. After many peers disconnect, the others' allocations are spread over the whole heap:
 * trimming it is worth the cost once three quarters are gone.
 */
static void
trim_cb(struct timer *timer)
{
	struct memory *m = list_entry(timer, struct memory, trim_timer);
	uint32_t here = m->broker->loop->connections;

	if (m->held_peak >= MEMORY_MUCH_HELD) {
		m->trim_due = true;
	} else if (m->trim_due || (m->peak >= MEMORY_MANY_CONNECTIONS && here <= m->peak / 4)) {
		chunk_pool_fini(&m->broker->loop->env.pool);
		mem_trim();
		m->trim_due = false;
		m->peak = here;
	}
	m->held_peak = m->broker->loop->env.memory.used;
	m->trim_runs = m->trim_due || m->peak >= MEMORY_MANY_CONNECTIONS;
	if (m->trim_runs)
		timer_set(&m->trim_timer, TRIM_MS);
}

/* Has a connection finished its turn? Then the next turn begins at once. */
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

/* Closing takes time; when more comes in meanwhile than closing frees, reading pauses as well. */
void
memory_check(struct memory *m)
{
	const struct mem_account *account = account_of(m);

	if (account->used >= MEMORY_MUCH_HELD ||
		m->broker->loop->connections >= MEMORY_MANY_CONNECTIONS)
		note_size(m);
	if (!m->watched && is_near(m)) {
		m->seen = 0;
		check_now(m);
	} else if (mem_account_over(account) &&
		(!m->holding || m->timer.due > loop_now(m->broker->loop) + CHECK_MS)) {
		check_now(m);
	} else if (m->holding && turn_ended(m)) {
		memory_let_one_finish(m);
	}
	if (mem_account_far_over(account) && account->used > m->seen) {
		measure(m);
		pause_worst_side(m);
	}
}

/* --- life ----------------------------------------------------------------- */

void
memory_init(struct memory *m, struct broker *broker)
{
	*m = (struct memory){.broker = broker};
	timer_init(&m->timer, broker->loop, memory_timer_cb);
	timer_init(&m->trim_timer, broker->loop, trim_cb);
	ratelimit_init(&m->complaints, 10);
	ratelimit_init(&m->hold_complaints, 1);
}

void
memory_fini(struct memory *m)
{
	timer_stop(&m->timer);
	timer_stop(&m->trim_timer);
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
	blame_forget(&m->blame); /* the marks hold the sides' numbers */
	if (m->turns != NULL)
		memset(m->turns, 0, side_count(m) * sizeof(*m->turns));
}
