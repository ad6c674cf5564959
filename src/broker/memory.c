#include "broker/memory.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "broker/flight.h"
#include "net/conn.h"

enum {
	MEMORY_CHECK_MS = 20, /* between two looks while over the limit */
	/* A peer holds memory in vain that took nothing of its queue for this long ... */
	STUCK_CLIENT_MS = 250,
	STUCK_WORKER_MS = 1000, /* (what a worker has queued is only moved by closing it) */
	SILENT_MS = 1000,       /* ... or whose message did not go on */
	MUCH_HELD = 8 << 20,    /* bytes in queues, or ... */
	CROWD = 1000,           /* ... connections, whose memory is worth giving back ... */
	GIVE_BACK_MS = 10000    /* ... when they have been gone for so long */
};

/*
 * A side whose reading brought in no more than its share is left alone, and so are its
 * peers, whatever the others hold. All shares together are a quarter of the limit.
 */
static uint64_t
share(const struct memory *m)
{
	return m->broker->loop->env.memory.limit / (UINT64_C(4) * PROXY_SIDES * m->broker->count);
}

/*
 * What reading a side brought in: its own part messages, and all that the other side has
 * queued or in flight. The largest part is left out: paused in the middle, it would stay for ever
 * where it is others that fill the memory.
 */
static void
measure(struct memory *m)
{
	for (size_t i = 0; i < m->broker->count * PROXY_SIDES; i++) {
		struct proxy *p = m->broker->proxies[i / PROXY_SIDES];
		const struct counters *c = &p->counters[PROXY_SIDES - 1 - i % PROXY_SIDES];
		uint64_t queued = c->queued_bytes + c->kept_bytes;
		uint64_t parts = 0, largest = 0;

		list_each (node, tmp, &p->side[i % PROXY_SIDES].conns) {
			uint64_t part = list_entry(node, struct conn, node)->part.bytes;
			parts += part;
			largest = part > largest ? part : largest;
		}
		m->held[i] = (struct memory_held){queued + parts - largest, parts > queued};
	}
}

/*
 * What connection `conn` of side `i` holds without any use for it now: of its queue, if
 * `queues`, the front of a message that does not go on, and what a worker let lapse. Where it is
 * us who do not read, the peer is not to blame, and closing it wins little, as long as it is
 * queues that hold most.
 */
static uint64_t
held_in_vain(const struct memory *m, size_t i, const struct conn *conn, bool queues)
{
	int64_t now = loop_now(m->broker->loop);
	int64_t stuck = i % PROXY_SIDES == PROXY_BACKEND ? STUCK_WORKER_MS : STUCK_CLIENT_MS;
	size_t other = i / PROXY_SIDES * PROXY_SIDES + (PROXY_SIDES - 1 - i % PROXY_SIDES);
	uint64_t held = 0;

	if (!conn_is_open(conn) || conn->peer == NULL)
		return 0;
	if (queues && m->held[other].bytes > share(m) &&
		(conn->state == CONN_STALLED ||
			(conn->blocked && now - conn->blocked_since >= stuck)))
		held += conn->out.bytes + peer_backlog_bytes(conn->peer);
	if (m->held[i].bytes > share(m) &&
		(m->held[i].in_parts ? now - conn->last_in : conn_silent_for(conn)) >= SILENT_MS)
		held += conn->part.bytes;
	/* it answers nothing of that: reading would pause until it closes */
	if (i % PROXY_SIDES == PROXY_BACKEND && m->held[other].bytes > share(m))
		held += flight_lapsed_bytes(conn->peer, now, STUCK_WORKER_MS);
	return held;
}

static bool
close_worst_peer(struct memory *m, bool queues)
{
	struct conn *worst = NULL;
	uint64_t most = 0;

	for (size_t i = 0; i < m->broker->count * PROXY_SIDES; i++) {
		struct proxy *p = m->broker->proxies[i / PROXY_SIDES];
		list_each (node, tmp, &p->side[i % PROXY_SIDES].conns) {
			struct conn *conn = list_entry(node, struct conn, node);
			uint64_t held = held_in_vain(m, i, conn, queues);
			if (held > most) {
				most = held;
				worst = conn;
			}
		}
	}
	if (worst == NULL)
		return false;
	conn_close(worst, CLOSE_OVER_LIMIT, "memory_limit");
	return true;
}

/* Stop reading the side that brought in most. */
static void
pause_worst_side(struct memory *m)
{
	struct side *worst = NULL;
	uint64_t most = share(m);

	for (size_t i = 0; i < m->broker->count * PROXY_SIDES; i++) {
		struct side *side = &m->broker->proxies[i / PROXY_SIDES]->side[i % PROXY_SIDES];
		if (!side->read_paused && m->held[i].bytes > most) {
			most = m->held[i].bytes;
			worst = side;
		}
	}
	m->seen = m->broker->loop->env.memory.used;
	if (worst == NULL)
		return;
	side_pause(worst, true);
	if (!ratelimit_pass(&m->complaints, loop_now(m->broker->loop)))
		return;
	log_event(LOG_LEVEL_WARNING, "memory_limit",
		"proxy=%s side=%s action=pause_reading memory_bytes=%" PRIu64 " limit=%" PRIu64,
		worst->proxy_name, worst->name, m->broker->loop->env.memory.used,
		m->broker->loop->env.memory.limit);
}

/* Do requests that wait for their replies hold more than the replies do? Only reading frees them.
 */
static bool
waits_for_replies(const struct memory *m, size_t i)
{
	const struct proxy *p = m->broker->proxies[i / PROXY_SIDES];

	return i % PROXY_SIDES == PROXY_BACKEND &&
	       p->counters[PROXY_BACKEND].kept_bytes > m->held[i].bytes;
}

/* Read again what brought in no more than `held`. */
static void
resume_reading(struct memory *m, uint64_t held)
{
	for (size_t i = 0; i < m->broker->count * PROXY_SIDES; i++) {
		struct proxy *p = m->broker->proxies[i / PROXY_SIDES];
		struct side *side = &p->side[i % PROXY_SIDES];

		if (!side->read_paused || (m->held[i].bytes > held && !waits_for_replies(m, i)) ||
			(i % PROXY_SIDES == PROXY_FRONTEND && p->paused && !p->draining))
			continue;
		side_pause(side, false);
		m->seen = 0; /* what it brings in is to be seen, be it less than back then */
	}
}

static void
watch_memory(struct memory *m)
{
	if (!close_worst_peer(m, true))
		pause_worst_side(m);
	m->watched = true;
	timer_set(&m->timer, MEMORY_CHECK_MS);
}

/* Runs until memory is down to three quarters, so that reading does not flutter. */
static void
memory_timer_cb(struct timer *timer)
{
	struct memory *m = list_entry(timer, struct memory, timer);
	struct mem_account *account = &m->broker->loop->env.memory;

	measure(m);
	resume_reading(m, share(m) / 2);
	if (mem_account_over(account)) {
		watch_memory(m);
	} else if (account->used > account->limit / 4 * 3) {
		/* part messages of peers that we do not read would stay for ever */
		close_worst_peer(m, false);
		timer_set(&m->timer, MEMORY_CHECK_MS);
	} else {
		m->watched = false;
		resume_reading(m, UINT64_MAX);
	}
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

	if (m->held_peak >= MUCH_HELD) {
		m->much_freed = true;
	} else if (m->much_freed || (m->crowd_peak >= CROWD && here <= m->crowd_peak / 4)) {
		chunk_pool_fini(&m->broker->loop->env.pool);
		mem_give_back();
		m->much_freed = false;
		m->crowd_peak = here;
	}
	m->held_peak = m->broker->loop->env.memory.used;
	m->give_back_runs = m->much_freed || m->crowd_peak >= CROWD;
	if (m->give_back_runs)
		timer_set(&m->give_back_timer, GIVE_BACK_MS);
}

/*
 * Closing takes its time, one peer after the other; when more comes in meanwhile than
 * that gives back, reading pauses as well.
 */
void
memory_look(struct memory *m)
{
	const struct mem_account *account = &m->broker->loop->env.memory;

	if (account->used >= MUCH_HELD || m->broker->loop->connections >= CROWD)
		note_size(m);
	if (!mem_account_over(account))
		return;
	if (!m->watched) {
		m->seen = 0;
		measure(m);
		watch_memory(m);
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
	free(m->held);
}

void
memory_proxy_added(struct memory *m)
{
	m->held = mem_resize(m->held, m->broker->count * PROXY_SIDES * sizeof(*m->held));
}
