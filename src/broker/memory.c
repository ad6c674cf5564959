#include "broker/memory.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "broker/flight.h"
#include "net/conn.h"

enum {
	LOOK_MS = 20,    /* between two looks while over the limit, or while a side is paused */
	NEAR_MS = 200,   /* ... while near it */
	STANDS_MS = 1000, /* a peer that did not move for so long stands still */
	/*
	 * So does one that would take so many seconds for what it holds. A peer that we do not read is
	 * not slow while this much of it lies in our kernel.
	 */
	SLOW_SECONDS = 128,
	PENDING = 2048,
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
	return &m->broker->proxies[i / PROXY_SIDES]->side[i % PROXY_SIDES];
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

static bool
over_share(const struct memory *m, size_t i)
{
	return m->held[i].bytes + m->held[i].largest > share(m);
}

static bool
is_near(const struct memory *m)
{
	return account_of(m)->used > account_of(m)->limit / 4 * 3;
}

/* --- what is held, and who holds it ------------------------------------------ */

/* What waits for the peer, not counting what waits elsewhere until it has room. */
static uint64_t
queue_cost(const struct conn *conn)
{
	const struct peer *peer = conn->peer;
	uint64_t cost = outq_cost(&conn->out);

	return peer != NULL && peer->aside && peer->backlog != NULL ? cost + outq_cost(peer->backlog)
								     : cost;
}

static uint64_t
sources_cost(const struct list *head)
{
	uint64_t cost = 0;

	for (const struct list *n = head->next; n != head; n = n->next)
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
	for (const struct list *n = p->side[side].conns.next; n != &p->side[side].conns; n = n->next) {
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

	if (conn->state != CONN_READY || conn->blocked || conn->write_broken ||
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
	for (size_t i = 0; i < side_count(m); i++)
		m->held[i] = (struct memory_held){0};
	for (size_t i = 0; i < side_count(m); i++) {
		struct memory_held *h = &m->held[i], *other = &m->held[other_side(i)];

		list_each(node, tmp, &side_at(m, i)->conns)
		{
			struct conn *conn = list_entry(node, struct conn, node);
			uint64_t part = outq_cost(&conn->part);

			other->bytes += queue_cost(conn);
			h->parts += part;
			h->largest = part > h->largest ? part : h->largest;
			if (i % PROXY_SIDES == PROXY_BACKEND)
				h->taker = better_taker(conn, h->taker);
		}
		h->bytes += h->parts - h->largest;
		other->bytes += waiting_cost(m->broker->proxies[i / PROXY_SIDES],
			(int)(i % PROXY_SIDES));
	}
}

/* --- who stands still --------------------------------------------------------- */

/* The sample of this connection, if there is one; *at goes along with the walk. */
static const struct memory_sample *
find_sample(const struct memory *m, size_t *at, size_t side, uint64_t id)
{
	const struct memory_sample *s = m->samples;

	while (*at < m->sample_count && (s[*at].side < side || (s[*at].side == side && s[*at].id < id)))
		++*at;
	return *at < m->sample_count && s[*at].side == side && s[*at].id == id ? &s[*at] : NULL;
}

/* Did it move less of what it held than anybody could wait for? */
static bool
crawls(uint64_t moved, uint64_t held)
{
	return held > 0 && moved <= held / SLOW_SECONDS;
}

/* Is it the peer that does not go on with its message, whether we read it or not? */
static bool
sends_nothing(const struct conn *conn)
{
	size_t pending = conn_pending(conn);

	return pending < PENDING && pending < session_body_left(&conn->session) + 1;
}

/* Once a second, as long as memory is short. */
static void
take_samples(struct memory *m)
{
	int64_t now = loop_now(m->broker->loop);
	struct memory_sample *next;
	size_t at = 0, count = 0;

	if (m->sampled != 0 && now - m->sampled < STANDS_MS)
		return;
	next = mem_try(m->broker->loop->connections * sizeof(*next) + 1);
	if (next == NULL)
		return;
	for (size_t i = 0; i < side_count(m); i++) {
		list_each(node, tmp, &side_at(m, i)->conns)
		{
			const struct conn *conn = list_entry(node, struct conn, node);
			const struct memory_sample *s;
			struct memory_sample *n = &next[count];

			*n = (struct memory_sample){i, conn->id, conn->bytes_in, conn->bytes_out,
				outq_cost(&conn->part), queue_cost(conn), false, false};
			if (!conn_is_open(conn) || n->part + n->queue == 0)
				continue;
			s = find_sample(m, &at, i, conn->id);
			n->slow_in = s != NULL && n->part > 0 &&
				crawls(conn->bytes_in - s->bytes_in, s->part) && sends_nothing(conn);
			n->slow_out = s != NULL && conn->blocked &&
				crawls(conn->bytes_out - s->bytes_out, s->queue);
			count++;
		}
	}
	free(m->samples);
	m->samples = next;
	m->sample_count = count;
	m->sampled = now;
}

static void
drop_samples(struct memory *m)
{
	free(m->samples);
	m->samples = NULL;
	m->sample_count = 0;
	m->sampled = 0;
}

static bool
takes_nothing(const struct conn *conn, const struct memory_sample *s, int64_t now)
{
	if (conn->state == CONN_STALLED || (conn->blocked && now - conn->blocked_since >= STANDS_MS))
		return true;
	return s != NULL && s->slow_out && conn->blocked &&
		crawls(conn->bytes_out - s->bytes_out, s->queue);
}

static bool
goes_on_with_nothing(const struct conn *conn, const struct memory_sample *s)
{
	if (conn_silent_for(conn) >= STANDS_MS)
		return sends_nothing(conn);
	return s != NULL && s->slow_in && crawls(conn->bytes_in - s->bytes_in, s->part) &&
		sends_nothing(conn);
}

/* What a worker has queued is only moved by closing it, and that wins nothing when nobody takes it. */
static bool
can_be_taken(const struct conn *conn, const struct conn *taker)
{
	const struct side_opts *o = conn->side->opts;
	const struct peer *from = conn->peer, *to = taker != NULL ? taker->peer : NULL;

	return to != NULL && taker != conn && to->outstanding <= from->outstanding / 2 &&
		(o->max_outstanding == 0 || to->outstanding < (uint64_t)o->max_outstanding) &&
		(taker->out.messages == 0 ||
			taker->out.bytes + conn->out.bytes <= (uint64_t)o->send_hwm_bytes);
}

/*
 * What connection `conn` of side `i` holds without any use for it now: its queue, the front of a
 * message that does not go on, and what a worker let lapse.
 */
static uint64_t
held_in_vain(const struct memory *m, size_t i, const struct conn *conn, const struct memory_sample *s)
{
	int64_t now = loop_now(m->broker->loop);
	bool backend = i % PROXY_SIDES == PROXY_BACKEND;
	bool others = over_share(m, other_side(i));
	uint64_t held = 0, part;

	if (!conn_is_open(conn) || conn->peer == NULL)
		return 0;
	if (others && takes_nothing(conn, s, now) &&
		(!backend || can_be_taken(conn, m->held[i].taker)))
		held += queue_cost(conn);
	part = over_share(m, i) ? outq_cost(&conn->part) : 0;
	if (part > 0 && goes_on_with_nothing(conn, s))
		held += part;
	/* it answers nothing of that: reading would pause until it closes */
	if (backend && others)
		held += flight_lapsed_bytes(conn->peer, now, STANDS_MS);
	return held;
}

/* --- what is done about it ----------------------------------------------------- */

static struct conn *
find_worst(const struct memory *m, uint64_t *most)
{
	struct conn *worst = NULL;
	size_t at = 0;

	*most = 0;
	for (size_t i = 0; i < side_count(m); i++) {
		list_each(node, tmp, &side_at(m, i)->conns)
		{
			struct conn *conn = list_entry(node, struct conn, node);
			uint64_t held =
				held_in_vain(m, i, conn, find_sample(m, &at, i, conn->id));
			if (held > *most) {
				*most = held;
				worst = conn;
			}
		}
	}
	return worst;
}

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
	while (closed < CLOSE_AT_ONCE && (worst = find_worst(m, &most)) != NULL) {
		bool worker = worst->side == &((struct peer *)worst->peer)->proxy->side[PROXY_BACKEND];

		conn_close(worst, CLOSE_OVER_LIMIT, "memory_limit");
		closed++;
		if (worker || most >= over) /* one worker alone: another takes its queue now */
			break;
		over -= most;
	}
	return closed > 0;
}

/* Stop reading the side that brought in most. */
static void
pause_worst_side(struct memory *m)
{
	struct side *worst = NULL;
	uint64_t most = share(m);

	for (size_t i = 0; i < side_count(m); i++) {
		struct side *side = side_at(m, i);
		if (!side->read_paused && m->held[i].bytes > most) {
			most = m->held[i].bytes;
			worst = side;
		}
	}
	m->seen = account_of(m)->used;
	if (worst == NULL)
		return;
	side_pause(worst, true);
	if (!ratelimit_pass(&m->complaints, loop_now(m->broker->loop)))
		return;
	log_event(LOG_LEVEL_WARNING, "memory_limit",
		"proxy=%s side=%s action=pause_reading memory_bytes=%" PRIu64 " limit=%" PRIu64,
		worst->proxy_name, worst->name, account_of(m)->used, account_of(m)->limit);
}

/* Do requests that wait for their replies hold more than the replies do? Only reading frees them. */
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

/* The largest part message of a side, among those that are not read and could go on. */
static struct conn *
largest_part(const struct side *side)
{
	struct conn *largest = NULL;
	uint64_t most = 0;

	list_each(node, tmp, &side->conns)
	{
		struct conn *conn = list_entry(node, struct conn, node);
		uint64_t part = conn_is_open(conn) && !(conn->paused & CONN_PAUSED) ? outq_cost(&conn->part) : 0;

		if (part > most) {
			most = part;
			largest = conn;
		}
	}
	return largest;
}

/*
 * Where it is part messages that fill the memory, and none stands still but by our pause, nothing
 * would ever move: one at a time is read to its end. When there is no room for that, it goes.
 */
static void
let_one_finish(struct memory *m)
{
	int64_t now = loop_now(m->broker->loop);

	for (size_t i = 0; i < side_count(m); i++) {
		struct side *side = side_at(m, i);
		struct conn *conn;

		if (!side->read_paused || m->held[i].parts < account_of(m)->used / 2 ||
			(side->reading != NULL && !outq_empty(&side->reading->part)))
			continue;
		conn = largest_part(side);
		if (conn == NULL || !mem_account_far_over(account_of(m))) {
			side_let_read(side, conn);
			m->pressed = 0;
		} else if (m->pressed == 0) {
			m->pressed = now;
		} else if (now - m->pressed >= STANDS_MS) {
			conn_close(conn, CLOSE_OVER_LIMIT, "memory_limit");
			m->pressed = now;
		}
	}
}

static void
enforce(struct memory *m)
{
	if (close_standing(m))
		return;
	pause_worst_side(m);
	let_one_finish(m);
}

/*
 * Reading goes on below three quarters of the limit, so that it does not begin and end all the time;
 * or below the limit as soon as memory does not get less any more. What is left then waits for a
 * peer that does not move, and others must not.
 */
static void
look(struct memory *m)
{
	uint64_t used = account_of(m)->used;
	bool paused;

	measure(m);
	take_samples(m);
	paused = resume_reading(m, share(m) / 2);
	if (mem_account_over(account_of(m))) {
		enforce(m);
		paused = true;
	} else if (paused && (!is_near(m) || used >= m->used_before)) {
		resume_reading(m, UINT64_MAX);
	}
	m->used_before = used;
	m->watched = is_near(m) || paused;
	if (m->watched)
		timer_set(&m->timer, paused ? LOOK_MS : NEAR_MS);
	else
		drop_samples(m);
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

/*
 * Closing takes its time; when more comes in meanwhile than that gives back, reading pauses as well.
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
	} else if (mem_account_over(account) && m->timer.due > loop_now(m->broker->loop) + LOOK_MS) {
		look(m);
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
}

void
memory_fini(struct memory *m)
{
	timer_stop(&m->timer);
	timer_stop(&m->give_back_timer);
	drop_samples(m);
	free(m->held);
}

bool
memory_reserve(struct memory *m, size_t proxies)
{
	struct memory_held *held =
		mem_try_resize(m->held, (proxies * PROXY_SIDES + 1) * sizeof(*held));

	if (held == NULL)
		return false;
	m->held = held;
	return true;
}

void
memory_proxies_changed(struct memory *m)
{
	drop_samples(m); /* they count the sides */
}
