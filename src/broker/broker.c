#include "broker/broker.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "broker/flight.h"
#include "net/conn.h"

enum {
	MEMORY_CHECK_MS = 20,   /* between two looks while over the limit */
	/* A peer holds memory in vain that took nothing of its queue for this long ... */
	STUCK_CLIENT_MS = 250,
	STUCK_WORKER_MS = 1000, /* (what a worker has queued is only moved by closing it) */
	SILENT_MS = 1000, /* ... or whose message did not go on */
	MUCH_HELD = 8 << 20, /* bytes in queues, or ... */
	CROWD = 1000,        /* ... connections, whose memory is worth giving back ... */
	GIVE_BACK_MS = 10000 /* ... when they have been gone for so long */
};

static void on_turn(void *arg);
static void memory_timer_cb(struct timer *timer);
static void give_back_cb(struct timer *timer);

struct broker *
broker_new(struct loop *loop, uint64_t memory_limit)
{
	struct broker *b = mem_new(sizeof(*b));

	b->loop = loop;
	timer_init(&b->memory_timer, loop, memory_timer_cb);
	timer_init(&b->give_back_timer, loop, give_back_cb);
	ratelimit_init(&b->complaints, 10);
	loop->env.memory.limit = memory_limit;
	loop->on_turn = on_turn;
	loop->on_turn_arg = b;
	return b;
}

void
broker_free(struct broker *b)
{
	for (size_t i = 0; i < b->count; i++)
		proxy_free(b->proxies[i]);
	b->loop->on_turn = NULL;
	timer_stop(&b->memory_timer);
	timer_stop(&b->give_back_timer);
	free(b->proxies);
	free(b->held);
	free(b);
}

void
broker_add(struct broker *b, struct proxy *proxy)
{
	b->proxies = mem_resize(b->proxies, (b->count + 1) * sizeof(struct proxy *));
	b->proxies[b->count++] = proxy;
	b->held = mem_resize(b->held, b->count * PROXY_SIDES * sizeof(*b->held));
}

/* --- memory limit -------------------------------------------------------- */

/*
 * A side whose reading brought in no more than its share is left alone, and so are its
 * peers, whatever the others hold. All shares together are a quarter of the limit.
 */
static uint64_t
share(const struct broker *b)
{
	return b->loop->env.memory.limit / (UINT64_C(4) * PROXY_SIDES * b->count);
}

/*
 * What reading a side brought in: its own part messages, and all that the other side has
 * queued or in flight. The largest part is left out: paused in the middle, it would stay for ever where
 * it is others that fill the memory.
 */
static void
measure(struct broker *b)
{
	for (size_t i = 0; i < b->count * PROXY_SIDES; i++) {
		struct proxy *p = b->proxies[i / PROXY_SIDES];
		const struct counters *c = &p->counters[PROXY_SIDES - 1 - i % PROXY_SIDES];
		uint64_t queued = c->queued_bytes + c->kept_bytes;
		uint64_t parts = 0, largest = 0;

		list_each(node, tmp, &p->side[i % PROXY_SIDES].conns)
		{
			uint64_t part = list_entry(node, struct conn, node)->part.bytes;
			parts += part;
			largest = part > largest ? part : largest;
		}
		b->held[i] = (struct broker_held){queued + parts - largest, parts > queued};
	}
}

/*
 * What connection `conn` of side `i` holds without any use for it now: of its queue, if
 * `queues`, the front of a message that does not go on, and what a worker let lapse. Where it is
 * us who do not read, the peer is not to blame, and closing it wins little, as long as it is
 * queues that hold most.
 */
static uint64_t
held_in_vain(const struct broker *b, size_t i, const struct conn *conn, bool queues)
{
	int64_t now = loop_now(b->loop);
	int64_t stuck = i % PROXY_SIDES == PROXY_BACKEND ? STUCK_WORKER_MS : STUCK_CLIENT_MS;
	size_t other = i / PROXY_SIDES * PROXY_SIDES + (PROXY_SIDES - 1 - i % PROXY_SIDES);
	uint64_t held = 0;

	if (!conn_is_open(conn) || conn->peer == NULL)
		return 0;
	if (queues && b->held[other].bytes > share(b) &&
		(conn->state == CONN_STALLED ||
			(conn->blocked && now - conn->blocked_since >= stuck)))
		held += conn->out.bytes;
	if (b->held[i].bytes > share(b) &&
		(b->held[i].in_parts ? now - conn->last_in : conn_silent_for(conn)) >= SILENT_MS)
		held += conn->part.bytes;
	/* it answers nothing of that: reading would pause until it closes */
	if (i % PROXY_SIDES == PROXY_BACKEND && b->held[other].bytes > share(b))
		held += flight_lapsed_bytes(conn->peer, now, STUCK_WORKER_MS);
	return held;
}

static bool
close_worst_peer(struct broker *b, bool queues)
{
	struct conn *worst = NULL;
	uint64_t most = 0;

	for (size_t i = 0; i < b->count * PROXY_SIDES; i++) {
		struct proxy *p = b->proxies[i / PROXY_SIDES];
		list_each(node, tmp, &p->side[i % PROXY_SIDES].conns)
		{
			struct conn *conn = list_entry(node, struct conn, node);
			uint64_t held = held_in_vain(b, i, conn, queues);
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
pause_worst_side(struct broker *b)
{
	struct side *worst = NULL;
	uint64_t most = share(b);

	for (size_t i = 0; i < b->count * PROXY_SIDES; i++) {
		struct side *side = &b->proxies[i / PROXY_SIDES]->side[i % PROXY_SIDES];
		if (!side->read_paused && b->held[i].bytes > most) {
			most = b->held[i].bytes;
			worst = side;
		}
	}
	b->memory_seen = b->loop->env.memory.used;
	if (worst == NULL)
		return;
	side_pause(worst, true);
	if (!ratelimit_pass(&b->complaints, loop_now(b->loop)))
		return;
	log_event(LOG_LEVEL_WARNING, "memory_limit",
		"proxy=%s side=%s action=pause_reading memory_bytes=%" PRIu64 " limit=%" PRIu64,
		worst->proxy_name, worst->name, b->loop->env.memory.used,
		b->loop->env.memory.limit);
}

/* Do requests that wait for their replies hold more than the replies do? Only reading frees them. */
static bool
waits_for_replies(const struct broker *b, size_t i)
{
	const struct proxy *p = b->proxies[i / PROXY_SIDES];

	return i % PROXY_SIDES == PROXY_BACKEND &&
		p->counters[PROXY_BACKEND].kept_bytes > b->held[i].bytes;
}

/* Read again what brought in no more than `held`. */
static void
resume_reading(struct broker *b, uint64_t held)
{
	for (size_t i = 0; i < b->count * PROXY_SIDES; i++) {
		struct proxy *p = b->proxies[i / PROXY_SIDES];
		struct side *side = &p->side[i % PROXY_SIDES];

		if (!side->read_paused ||
			(b->held[i].bytes > held && !waits_for_replies(b, i)) ||
			(i % PROXY_SIDES == PROXY_FRONTEND && (p->draining || p->paused)))
			continue;
		side_pause(side, false);
		b->memory_seen = 0; /* what it brings in is to be seen, be it less than back then */
	}
}

static void
watch_memory(struct broker *b)
{
	if (!close_worst_peer(b, true))
		pause_worst_side(b);
	b->memory_watched = true;
	timer_set(&b->memory_timer, MEMORY_CHECK_MS);
}

/* Runs until memory is down to three quarters, so that reading does not flutter. */
static void
memory_timer_cb(struct timer *timer)
{
	struct broker *b = list_entry(timer, struct broker, memory_timer);
	struct mem_account *m = &b->loop->env.memory;

	measure(b);
	resume_reading(b, share(b) / 2);
	if (mem_account_over(m)) {
		watch_memory(b);
	} else if (m->used > m->limit / 4 * 3) {
		/* part messages of peers that we do not read would stay for ever */
		close_worst_peer(b, false);
		timer_set(&b->memory_timer, MEMORY_CHECK_MS);
	} else {
		b->memory_watched = false;
		resume_reading(b, UINT64_MAX);
	}
}

static void
note_size(struct broker *b)
{
	if (b->loop->env.memory.used > b->held_peak)
		b->held_peak = b->loop->env.memory.used;
	if (b->loop->connections > b->crowd_peak)
		b->crowd_peak = b->loop->connections;
	if (b->give_back_runs)
		return;
	b->give_back_runs = true;
	timer_set(&b->give_back_timer, GIVE_BACK_MS);
}

/*
 * While large queues come and go, their memory stays, or each message would fault its pages in
 * anew. Of a crowd that left, what the few that stayed need lies scattered over all its memory:
 * three quarters have paid for looking through it.
 */
static void
give_back_cb(struct timer *timer)
{
	struct broker *b = list_entry(timer, struct broker, give_back_timer);
	uint32_t here = b->loop->connections;

	if (b->held_peak >= MUCH_HELD) {
		b->much_freed = true;
	} else if (b->much_freed || (b->crowd_peak >= CROWD && here <= b->crowd_peak / 4)) {
		chunk_pool_fini(&b->loop->env.pool);
		mem_give_back();
		b->much_freed = false;
		b->crowd_peak = here;
	}
	b->held_peak = b->loop->env.memory.used;
	b->give_back_runs = b->much_freed || b->crowd_peak >= CROWD;
	if (b->give_back_runs)
		timer_set(&b->give_back_timer, GIVE_BACK_MS);
}

/*
 * Closing takes its time, one peer after the other; when more comes in meanwhile than
 * that gives back, reading pauses as well.
 */
static void
on_turn(void *arg)
{
	struct broker *b = arg;
	const struct mem_account *m = &b->loop->env.memory;

	if (m->used >= MUCH_HELD || b->loop->connections >= CROWD)
		note_size(b);
	if (!mem_account_over(m))
		return;
	if (!b->memory_watched) {
		b->memory_seen = 0;
		measure(b);
		watch_memory(b);
	}
	if (mem_account_far_over(m) && m->used > b->memory_seen) {
		measure(b);
		pause_worst_side(b);
	}
}

/* --- statistics ---------------------------------------------------------- */

static void
log_proxy_stats(struct proxy *p)
{
	char text[1536];

	for (int s = 0; s < PROXY_SIDES; s++) {
		side_log_suppressed(&p->side[s]);
		log_event(LOG_LEVEL_NOTICE, "stats", "proxy=%s side=%s %s", p->name,
			p->side[s].name, counters_text(&p->counters[s], text, sizeof(text)));
	}
}

/* What `held` says of the others is measured anew before it is used. */
void
broker_remove(struct broker *b, struct proxy *proxy)
{
	size_t i = 0;

	while (b->proxies[i] != proxy)
		i++;
	proxy_drop_waiting(proxy);
	log_proxy_stats(proxy);
	log_event(LOG_LEVEL_NOTICE, "proxy_removed", "proxy=%s conserved=%s", proxy->name,
		proxy_check(proxy) == NULL ? "yes" : "no");
	for (b->count--; i < b->count; i++)
		b->proxies[i] = b->proxies[i + 1];
	proxy_free(proxy);
}

void
broker_log_stats(struct broker *b)
{
	const char *wrong = NULL;

	for (size_t i = 0; i < b->count; i++) {
		log_proxy_stats(b->proxies[i]);
		if (wrong == NULL)
			wrong = proxy_check(b->proxies[i]);
	}
	log_event(wrong != NULL ? LOG_LEVEL_ERROR : LOG_LEVEL_NOTICE, "stats_end",
		"conserved=%s memory_bytes=%" PRIu64 " connections=%" PRIu32 "%s%s%s",
		wrong != NULL ? "no" : "yes", b->loop->env.memory.used, b->loop->connections,
		wrong != NULL ? " detail=\"" : "", wrong != NULL ? wrong : "",
		wrong != NULL ? "\"" : "");
}

/* --- what an operator asks for -------------------------------------------- */

static struct conn *
find_conn(struct broker *b, uint64_t id, struct proxy **proxy)
{
	for (size_t i = 0; i < b->count * PROXY_SIDES; i++) {
		*proxy = b->proxies[i / PROXY_SIDES];
		list_each(node, tmp, &(*proxy)->side[i % PROXY_SIDES].conns)
		{
			struct conn *conn = list_entry(node, struct conn, node);
			if (conn->id == id && conn->state != CONN_CLOSED)
				return conn;
		}
	}
	return NULL;
}

const char *
broker_kick(struct broker *b, uint64_t id)
{
	struct proxy *proxy;
	struct conn *conn = find_conn(b, id, &proxy);

	if (conn == NULL)
		return "there is no such peer";
	if (conn->state == CONN_LINGER)
		return "it is being closed already";
	conn_finish(conn, CLOSE_ADMIN, "kicked");
	return NULL;
}

const char *
broker_drain_peer(struct broker *b, uint64_t id, int64_t timeout)
{
	struct proxy *proxy;
	struct conn *conn = find_conn(b, id, &proxy);

	return conn != NULL ? proxy_drain_peer(proxy, conn, timeout) : "there is no such peer";
}

const char *
broker_pause(struct broker *b, const char *name, bool paused)
{
	for (size_t i = 0; i < b->count; i++) {
		struct proxy *p = b->proxies[i];

		if (strcmp(p->name, name) != 0)
			continue;
		if (p->draining)
			return "it is draining";
		if (p->paused == paused)
			return paused ? "it is paused already" : "it is not paused";
		proxy_pause(p, paused);
		return NULL;
	}
	return "there is no such proxy";
}
