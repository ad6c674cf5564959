/* SPDX-License-Identifier: MIT */
#include "broker/broker.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/broker_impl.h"
#include "broker/drain.h"
#include "net/conn.h"

enum { MANY_LINES = 64 * 1024 }; /* bytes of the log that wait for its reader */

static void
on_turn(void *arg)
{
	struct broker *b = arg;

	if (!memory_is_calm(b->loop))
		memory_check(&b->memory);
}

struct broker *
broker_new(struct loop *loop, uint64_t memory_limit)
{
	struct broker *b = mem_new(sizeof(*b));

	b->loop = loop;
	loop->env.memory.limit = memory_limit;
	loop->on_turn = on_turn;
	loop->on_turn_arg = b;
	memory_init(&b->memory, b);
	return b;
}

void
broker_free(struct broker *b)
{
	for (size_t i = 0; i < b->count; i++)
		proxy_free(b->proxies[i]);
	b->loop->on_turn = NULL;
	memory_fini(&b->memory);
	free(b->proxies);
	free(b);
}

bool
broker_reserve(struct broker *b, size_t more)
{
	size_t cap = b->count + more;
	struct proxy **proxies;

	if (cap <= b->cap)
		return true;
	if (cap < 2 * b->cap)
		cap = 2 * b->cap;
	proxies = mem_try_resize(b->proxies, cap * sizeof(struct proxy *));
	if (proxies == NULL)
		return false;
	b->proxies = proxies;
	if (!memory_reserve(&b->memory, cap))
		return false;
	b->cap = cap;
	return true;
}

void
broker_add(struct broker *b, struct proxy *proxy)
{
	mem_must(broker_reserve(b, 1) ? b : NULL);
	b->proxies[b->count++] = proxy;
	memory_proxies_changed(&b->memory);
}

struct loop *
broker_loop(const struct broker *b)
{
	return b->loop;
}

size_t
broker_proxy_count(const struct broker *b)
{
	return b->count;
}

const struct proxy *
broker_proxy(const struct broker *b, size_t number)
{
	return b->proxies[number];
}

struct proxy_totals
broker_totals(const struct broker *b)
{
	struct proxy_totals sum = {0};

	for (size_t i = 0; i < b->count; i++) {
		const struct proxy_totals t = proxy_totals(b->proxies[i]);

		sum.sent += t.sent;
		sum.unserved_requests += t.unserved_requests;
		sum.unserved_clients += t.unserved_clients;
		for (int side = 0; side < PROXY_SIDES; side++) {
			sum.peers[side] += t.peers[side];
			sum.connections[side] += t.connections[side];
		}
	}
	return sum;
}

void
broker_set_memory_limit(struct broker *b, uint64_t memory_limit)
{
	b->loop->env.memory.limit = memory_limit;
}

/* --- the end -------------------------------------------------------------- */

void
broker_drain(struct broker *b)
{
	for (size_t i = 0; i < b->count; i++)
		proxy_drain(b->proxies[i]);
}

void
broker_drain_step(struct broker *b)
{
	for (size_t i = 0; i < b->count; i++)
		proxy_drain_step(b->proxies[i]);
}

bool
broker_is_drained(const struct broker *b)
{
	for (size_t i = 0; i < b->count; i++)
		if (!proxy_is_drained(b->proxies[i]))
			return false;
	return true;
}

void
broker_log_drain(const struct broker *b, int64_t left)
{
	for (size_t i = 0; i < b->count; i++)
		proxy_log_drain(b->proxies[i], left);
}

struct drain_result
broker_drain_result(const struct broker *b)
{
	struct drain_result sum = {0};

	for (size_t i = 0; i < b->count; i++) {
		const struct drain_result r = proxy_drain_result(b->proxies[i]);

		sum.answered += r.answered;
		sum.given_up += r.given_up;
	}
	return sum;
}

void
broker_close_side(struct broker *b, int side, bool politely)
{
	for (size_t i = 0; i < b->count; i++)
		proxy_close_side(b->proxies[i], side, politely);
}

void
broker_drop_waiting(struct broker *b)
{
	for (size_t i = 0; i < b->count; i++)
		while (!proxy_drop_waiting(b->proxies[i]))
			;
}

/* --- statistics ----------------------------------------------------------- */

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

void
broker_remove(struct broker *b, struct proxy *proxy)
{
	size_t i = 0;

	while (b->proxies[i] != proxy)
		i++;
	while (!proxy_drop_waiting(proxy))
		;
	log_proxy_stats(proxy);
	log_event(LOG_LEVEL_NOTICE, "proxy_removed",
		"proxy=%s conserved=%s unserved_requests=%" PRIu64 " unserved_clients=%" PRIu64,
		proxy->name, proxy_check(proxy) == NULL ? "yes" : "no", proxy->unserved_requests,
		proxy->unserved_clients);
	if (i < b->report.next) /* the next proxy is not left out */
		b->report.next--;
	for (b->count--; i < b->count; i++)
		b->proxies[i] = b->proxies[i + 1];
	memory_proxies_changed(&b->memory);
	proxy_free(proxy);
}

/* Returns what is left of the patience. */
static int
wait_for_reader(int patience)
{
	int64_t until = clock_now_ms() + patience;

	log_drain(patience);
	return (int)(until - clock_now_ms());
}

static void
log_end(struct broker *b)
{
	const char *wrong = b->report.wrong;

	log_event(wrong != NULL ? LOG_LEVEL_ERROR : LOG_LEVEL_NOTICE, "stats_end",
		"conserved=%s memory_bytes=%" PRIu64 " connections=%" PRIu32
		" slices=%u free_buffer_bytes=%" PRIu64 "%s%s%s",
		wrong != NULL ? "no" : "yes", b->loop->env.memory.used, b->loop->connections,
		b->report.slices, loop_free_buffer_bytes(b->loop),
		wrong != NULL ? " detail=\"" : "", wrong != NULL ? wrong : "",
		wrong != NULL ? "\"" : "");
	b->report = (struct broker_report){0};
}

bool
broker_log_some(struct broker *b, bool (*may)(void *arg), void *arg)
{
	b->report.slices++;
	while (b->report.next < b->count) {
		const struct proxy *p = b->proxies[b->report.next];

		if (!may(arg))
			return true;
		log_proxy_stats(b->proxies[b->report.next++]);
		if (b->report.wrong == NULL)
			b->report.wrong = proxy_check(p);
	}
	log_end(b);
	return false;
}

bool
broker_is_logging(const struct broker *b)
{
	return b->report.slices > 0;
}

/* Always true: at the end there is no other turn. */
static bool
waits_for_reader(void *arg)
{
	int *patience = arg;

	if (*patience > 0 && log_waiting() > MANY_LINES)
		*patience = wait_for_reader(*patience);
	return true;
}

void
broker_log_stats(struct broker *b, int patience)
{
	b->report = (struct broker_report){0}; /* a report that was under way begins again */
	(void)broker_log_some(b, waits_for_reader, &patience);
}

/* --- what an operator asks for -------------------------------------------- */

static struct conn *
find_conn(struct broker *b, uint64_t id, struct proxy **proxy)
{
	for (size_t i = 0; i < broker_side_count(b); i++) {
		*proxy = broker_proxy_at(b, i);
		list_each(node, tmp, &broker_side_at(b, i)->conns) {
			struct conn *conn = list_entry(node, struct conn, node);
			if (conn->id == id && conn->state != CONN_CLOSED)
				return conn;
		}
	}
	return NULL;
}

static const char no_such_peer[] = "no such peer; bulkheadctl peers shows their ids";

const char *
broker_kick(struct broker *b, uint64_t id)
{
	struct proxy *proxy;
	struct conn *conn = find_conn(b, id, &proxy);

	return conn != NULL ? drain_kick(conn) : no_such_peer;
}

const char *
broker_drain_peer(struct broker *b, uint64_t id, int64_t timeout)
{
	struct proxy *proxy;
	struct conn *conn = find_conn(b, id, &proxy);

	return conn != NULL ? drain_peer(conn, timeout) : no_such_peer;
}

const char *
broker_pause(struct broker *b, const char *name, bool paused)
{
	for (size_t i = 0; i < b->count; i++) {
		struct proxy *p = b->proxies[i];

		if (strcmp(p->name, name) != 0)
			continue;
		if (proxy_is_draining(p))
			return "proxy is draining";
		if (p->paused == paused)
			return paused ? "proxy is already paused" : "proxy is not paused";
		proxy_pause(p, paused);
		return NULL;
	}
	return "no such proxy; bulkheadctl status shows their names";
}
