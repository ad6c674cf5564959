/* SPDX-License-Identifier: MIT */
/*
 * The texts made of a snapshot: metrics, readiness, and JSON.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/history.h"
#include "admin/metrics.h"
#include "admin/trouble.h"
#include "admin/view.h"
#include "net/conn.h"
#include "unit.h"

static struct proxy_view proxies[2];
static struct snapshot_endpoint endpoints[1];
static struct snapshot snapshot;

static void
setup(void)
{
	memset(proxies, 0, sizeof(proxies));
	strcpy(proxies[0].name, "a");
	strcpy(proxies[1].name, "b.c");
	endpoints[0] = (struct snapshot_endpoint){
		.side = PROXY_FRONTEND, .bound = true, .works = true, .state = "listening"};
	strcpy(endpoints[0].proxy, "a");
	strcpy(endpoints[0].text, "tcp://127.0.0.1:5555");
	snapshot = (struct snapshot){.state = "running",
		.loop.memory_bytes = 77,
		.loop.free_buffer_bytes = 78,
		.max_fds = 1024,
		.admin_starts = 3,
		.proxies = proxies,
		.proxy_count = 2,
		.endpoints = endpoints,
		.endpoint_count = 1};
	for (int i = 0; i < 2; i++)
		proxies[i].side[PROXY_BACKEND].in_state[CONN_READY] = 1;
}

static void
has_line(const char *text, const char *line)
{
	const char *p = strstr(text, line);

	ck_assert_msg(p != NULL && (p == text || p[-1] == '\n') && p[strlen(line)] == '\n',
		"%s\nis not a line of\n%s", line, text);
	ck_assert_msg(strstr(p + 1, line) == NULL, "%s stands there twice", line);
}

START_TEST(every_value_has_its_line)
{
	struct side_view *side = &proxies[1].side[PROXY_FRONTEND];
	const struct process process = {.open_fds = 12, .resident_bytes = 4096};
	size_t len;
	char *text;

	side->counters.received = UINT64_MAX;
	side->counters.queued_bytes = 5;
	side->counters.dropped[DROP_PEER_GONE] = 6;
	side->counters.closed_by[CLOSE_ADMIN] = 7;
	side->in_state[CONN_STALLED] = 8;
	side->suspects = 9;
	side->draining = 10;
	histogram_add(&side->forward, 20000, 2);
	histogram_add(&side->forward, UINT64_C(11000000000), 1);
	histogram_add(&snapshot.loop.lag, 1, 1);
	proxies[1].paused = true;
	text = metrics_text(&snapshot, &process, &len);
	ck_assert_uint_eq(strlen(text), len);
	has_line(text, "# TYPE bulkhead_messages_received_total counter");
	has_line(text,
		"bulkhead_messages_received_total{proxy=\"b.c\",side=\"frontend\"} "
		"18446744073709551615");
	has_line(text, "bulkhead_messages_received_total{proxy=\"b.c\",side=\"backend\"} 0");
	has_line(text, "# TYPE bulkhead_queue_bytes gauge");
	has_line(text, "bulkhead_queue_bytes{proxy=\"b.c\",side=\"frontend\"} 5");
	has_line(text,
		"bulkhead_messages_dropped_total{proxy=\"b.c\",side=\"frontend\","
		"reason=\"peer_gone\"} 6");
	has_line(text,
		"bulkhead_connections_closed_total{proxy=\"b.c\",side=\"frontend\","
		"reason=\"admin\"} 7");
	has_line(text, "bulkhead_peers{proxy=\"b.c\",side=\"frontend\",state=\"stalled\"} 8");
	has_line(text, "bulkhead_peers{proxy=\"a\",side=\"frontend\",state=\"stalled\"} 0");
	has_line(text, "bulkhead_peers{proxy=\"b.c\",side=\"frontend\",state=\"suspect\"} 9");
	has_line(text, "bulkhead_peers{proxy=\"b.c\",side=\"frontend\",state=\"draining\"} 10");
	has_line(text,
		"bulkhead_forward_seconds_bucket{proxy=\"b.c\",side=\"frontend\","
		"le=\"1e-05\"} 0");
	has_line(text,
		"bulkhead_forward_seconds_bucket{proxy=\"b.c\",side=\"frontend\","
		"le=\"2e-05\"} 2");
	has_line(text,
		"bulkhead_forward_seconds_bucket{proxy=\"b.c\",side=\"frontend\","
		"le=\"10.48576\"} 2");
	has_line(text,
		"bulkhead_forward_seconds_bucket{proxy=\"b.c\",side=\"frontend\","
		"le=\"+Inf\"} 3");
	has_line(
		text, "bulkhead_forward_seconds_sum{proxy=\"b.c\",side=\"frontend\"} 11.000040000");
	has_line(text, "bulkhead_forward_seconds_count{proxy=\"b.c\",side=\"frontend\"} 3");
	has_line(text, "bulkhead_loop_lag_seconds_bucket{le=\"1e-05\"} 1");
	has_line(text, "bulkhead_loop_lag_seconds_count 1");
	has_line(text, "bulkhead_paused{proxy=\"b.c\"} 1");
	has_line(text, "bulkhead_memory_bytes 77");
	has_line(text, "bulkhead_free_buffer_bytes 78");
	has_line(text, "bulkhead_admin_starts_total 3");
	has_line(text, "bulkhead_last_good_config 0");
	has_line(text, "process_open_fds 12");
	has_line(text, "process_resident_memory_bytes 4096");
	has_line(text, "process_max_fds 1024");
	has_line(text, "bulkhead_build_info{version=\"" PACKAGE_VERSION "\"} 1");
	free(text);
}
END_TEST

static void
ready_is(bool ready, const char *why)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	ck_assert_int_eq(trouble_is_ready(&snapshot, out), ready);
	fclose(out);
	ck_assert_str_eq(text, why);
	free(text);
}

START_TEST(readiness_names_all_that_is_missing)
{
	ready_is(true, "");
	endpoints[0].bound = endpoints[0].works = false; /* one that is dialled */
	ready_is(true, "");
	endpoints[0].bound = true;
	proxies[0].paused = true;
	proxies[1].side[PROXY_BACKEND].in_state[CONN_READY] = 0;
	proxies[1].side[PROXY_BACKEND].in_state[CONN_STALLED] = 1;
	strcpy(snapshot.state, "draining");
	ready_is(false,
		"the broker is draining\n"
		"proxy a: frontend tcp://127.0.0.1:5555 accepts no connections at the moment\n"
		"proxy a: paused\n"
		"proxy b.c: no backend peer is ready\n");
	strcpy(snapshot.state, "running");
	proxies[0].paused = false;
	endpoints[0].bound = false;
	proxies[1].side[PROXY_BACKEND].suspects = 1;
	ready_is(
		false, "proxy b.c: no backend peer is ready, 1 is suspect (past answer_timeout)\n");
	proxies[1].side[PROXY_BACKEND].suspects = 2;
	ready_is(false,
		"proxy b.c: no backend peer is ready, 2 are suspect (past answer_timeout)\n");
	proxies[1].side[PROXY_BACKEND].draining = 3;
	ready_is(false,
		"proxy b.c: no backend peer is ready, 2 are suspect (past answer_timeout), "
		"3 are draining\n");
}
END_TEST

START_TEST(json_shows_peers)
{
	static char texts[] = "tcp://[::1]:5\0id";
	struct snapshot_peer peer = {.view = {.id = 9,
					     .side = PROXY_BACKEND,
					     .state = CONN_STALLED,
					     .was_ready = true,
					     .poison = PEER_ARMED,
					     .queued = 3},
		.proxy = 1,
		.address_len = 13,
		.routing_id = 13,
		.routing_id_len = 3};
	char *text;

	snapshot.peers = &peer;
	snapshot.peer_count = 1;
	snapshot.texts = texts;
	text = view_peers(&snapshot);
	ck_assert_ptr_nonnull(strstr(text,
		"\"id\":9,\"proxy\":\"b.c\",\"side\":\"backend\","
		"\"routing_id\":\"0x006964\",\"address\":\"tcp://[::1]:5\""));
	ck_assert_ptr_nonnull(strstr(text, "\"state\":\"stalled\",\"poison\":\"armed\""));
	free(text);
	peer.view.draining = true;
	text = view_peers(&snapshot);
	ck_assert_ptr_nonnull(strstr(text, "\"state\":\"draining\""));
	free(text);
	text = view_text("error", "a \"quoted\" word", 15);
	ck_assert_str_eq(text, "{\"error\":\"a \\\"quoted\\\" word\"}");
	free(text);
}
END_TEST

/* Whatever the bytes, the answer is valid and distinguishes them. */
START_TEST(text_that_is_not_utf8_is_shown)
{
	static const struct {
		const char *text, *json;
	} cases[] = {{"\xff", "\\\\xff"}, {"a\xc3", "a\\\\xc3"},
		{"\xc3\xa4\x80", "\xc3\xa4\\\\x80"}, {"\xed\xa0\x80", "\\\\xed\\\\xa0\\\\x80"},
		{"\xf4\x90\x80\x80z", "\\\\xf4\\\\x90\\\\x80\\\\x80z"},
		{"\xc0\xaf", "\\\\xc0\\\\xaf"}, {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *text = view_text("error", cases[i].text, strlen(cases[i].text)), want[128];

		snprintf(want, sizeof(want), "{\"error\":\"%s\"}", cases[i].json);
		ck_assert_str_eq(text, want);
		free(text);
	}
}
END_TEST

START_TEST(names_and_endpoints_that_are_not_utf8_are_shown)
{
	static char texts[] = "ipc:///tmp/\xfc";
	struct snapshot_peer peer = {.address_len = 12, .view.state = CONN_READY};
	char *text;

	snapshot.peers = &peer;
	snapshot.peer_count = 1;
	snapshot.texts = texts;
	strcpy(endpoints[0].text, "ipc:///tmp/\xe4");
	text = view_status(&snapshot);
	ck_assert_ptr_nonnull(strstr(text, "\"endpoint\":\"ipc:///tmp/\\\\xe4\""));
	free(text);
	text = view_peers(&snapshot);
	ck_assert_ptr_nonnull(strstr(text, "\"address\":\"ipc:///tmp/\\\\xfc\""));
	free(text);
	endpoints[0].works = false;
	text = view_status(&snapshot);
	ck_assert_ptr_nonnull(strstr(text, "frontend ipc:///tmp/\\\\xe4 accepts no connections"));
	free(text);
}
END_TEST

/* A file with errors, with which the broker does not run. */
START_TEST(the_last_good_configuration)
{
	char *text = view_status(&snapshot);
	size_t len;

	ck_assert_ptr_nonnull(strstr(text, "\"last_good\":null,"));
	free(text);
	snapshot.last_good = 1;
	snapshot.wrong_line = 12;
	strcpy(snapshot.file, "/etc/\xe4.ini");
	text = view_status(&snapshot);
	ck_assert_ptr_nonnull(
		strstr(text, "\"last_good\":{\"file\":\"/etc/\\\\xe4.ini\",\"wrong_line\":12},"));
	free(text);
	text = metrics_text(&snapshot, &(struct process){0}, &len);
	has_line(text, "bulkhead_last_good_config 1");
	free(text);
}
END_TEST

START_TEST(numbers_have_no_dust)
{
	char *text;

	snapshot.uptime_ms = 28017;
	proxies[0].side[0].forward.sum_ns = UINT64_C(1234567890123);
	text = view_status(&snapshot);
	ck_assert_ptr_nonnull(strstr(text, "\"uptime_seconds\":28.017,"));
	free(text);
	text = view_stats(&snapshot);
	ck_assert_ptr_nonnull(strstr(text, "\"sum\":1234.567890123,"));
	ck_assert_ptr_null(strstr(text, "9999"));
	ck_assert_ptr_null(strstr(text, "0000000000"));
	free(text);
}
END_TEST

/* A snapshot arrives at the other process whole, or not at all. */
START_TEST(snapshots_are_shared)
{
	static char texts[] = "tcp://[::1]:5";
	struct snapshot_peer peer = {.view.id = 9, .proxy = 1, .address_len = 13};
	struct snapshot *s;
	int fd;

	snapshot.peers = &peer;
	snapshot.peer_count = 1;
	snapshot.texts = texts;
	snapshot.texts_len = 13;
	fd = snapshot_share(&snapshot);
	ck_assert_int_ge(fd, 0);
	s = snapshot_map(fd);
	ck_assert_ptr_nonnull(s);
	ck_assert_str_eq(s->proxies[1].name, "b.c");
	ck_assert_str_eq(s->endpoints[0].text, "tcp://127.0.0.1:5555");
	ck_assert_uint_eq(s->peers[0].view.id, 9);
	ck_assert_mem_eq(s->texts, texts, 13);
	snapshot_free(s);
	for (off_t len = lseek(fd, 0, SEEK_END) - 1; len >= 0; len -= 61) {
		ck_assert_int_eq(ftruncate(fd, len), 0);
		ck_assert_ptr_null(snapshot_map(fd));
	}
	close(fd);
}
END_TEST

/* --- troubles ------------------------------------------------------------- */

static struct trouble found[8];
static size_t found_count;

static void
note_trouble(void *arg, const struct trouble *t)
{
	(void)arg;
	ck_assert_uint_lt(found_count, sizeof(found) / sizeof(found[0]));
	found[found_count++] = *t;
}

static void
is_found(size_t i, const char *kind, bool bad, bool unready, const char *text)
{
	ck_assert_uint_lt(i, found_count);
	ck_assert_str_eq(found[i].kind, kind);
	ck_assert_str_eq(found[i].text, text);
	ck_assert_int_eq(found[i].bad, bad);
	ck_assert_int_eq(found[i].unready, unready);
	ck_assert_uint_gt(strlen(found[i].advice), 20);
}

START_TEST(the_worst_trouble_comes_first)
{
	found_count = 0;
	trouble_each(&snapshot, note_trouble, NULL);
	ck_assert_uint_eq(found_count, 0);
	snapshot.loop.memory_limit = 1000;
	snapshot.loop.memory_bytes = 901;
	snapshot.loop.connections = 96;
	snapshot.loop.max_connections = 100;
	snapshot.last_good = 1;
	snapshot.wrong_line = 3;
	strcpy(snapshot.file, "/etc/b.ini");
	proxies[0].side[PROXY_BACKEND].counters.silent = 3;
	proxies[0].side[PROXY_BACKEND].suspects = proxies[0].side[PROXY_BACKEND].counters.suspects =
		1;
	proxies[0].side[PROXY_BACKEND].named[PEER_SUSPECT][0] = 7;
	proxies[1].side[PROXY_FRONTEND].in_state[CONN_STALLED] = 5;
	for (uint64_t i = 0; i < SIDE_NAMED_PEERS; i++)
		proxies[1].side[PROXY_FRONTEND].named[PEER_STALLED][i] = UINT64_MAX - i;
	proxies[1].side[PROXY_BACKEND].in_state[CONN_READY] = 0;
	strcpy(proxies[1].contested_id, "shop-1");
	trouble_each(&snapshot, note_trouble, NULL);
	ck_assert_uint_eq(found_count, 8);
	is_found(0, "no_worker", true, true, "proxy b.c: no backend peer is ready");
	is_found(1, "last_good", true, false,
		"runs with the last good configuration: /etc/b.ini:3 has errors");
	is_found(2, "suspect", true, false,
		"proxy a: 1 worker is suspect (past answer_timeout): peer 7");
	ck_assert_uint_eq(found[2].peers[0], 7);
	ck_assert_uint_eq(found[2].peers[1], 0);
	ck_assert_uint_eq(found[2].count, 1);
	ck_assert_str_eq(found[2].proxy, "a");
	ck_assert_int_eq(found[2].side, PROXY_BACKEND);
	is_found(3, "routing_id", false, false,
		"proxy b.c: clients take the routing id shop-1 from each other");
	is_found(4, "stalled", false, false,
		"proxy b.c: 5 clients are stalled (took nothing for send_timeout): peers "
		"18446744073709551615, 18446744073709551614, 18446744073709551613 and 2 more");
	is_found(5, "silent", false, false, "proxy a: 2 workers are silent (past silent_after)");
	is_found(6, "memory", false, false, "queues hold 90 % of memory_limit");
	is_found(7, "connections", false, false,
		"96 of 100 connections are taken (max_connections)");
	proxies[0].side[PROXY_BACKEND].counters.silent = 1; /* only the suspect: reported once */
	snapshot.loop.memory_bytes = 900;
	snapshot.loop.connections = 95;
	snapshot.last_good = 0;
	proxies[1].contested_id[0] = '\0';
	found_count = 0;
	trouble_each(&snapshot, note_trouble, NULL);
	ck_assert_uint_eq(found_count, 3);
}
END_TEST

/*
 * However many proxies there are, the answer is bounded; who is not ready is in not_ready, whole.
 */
START_TEST(troubles_in_json_are_bounded)
{
	enum { MANY = VIEW_TROUBLES_MAX + 7 };
	static struct proxy_view many[MANY];
	json_t *top, *first;
	char *text;

	snapshot.proxies = many;
	snapshot.proxy_count = MANY;
	for (int i = 0; i < MANY; i++)
		snprintf(many[i].name, sizeof(many[i].name), "p%d", i);
	strcpy(snapshot.instance, "orders");
	text = view_status(&snapshot);
	ck_assert_ptr_nonnull(text);
	top = json_loads(text, 0, NULL);
	ck_assert_uint_eq(json_array_size(json_object_get(top, "troubles")), VIEW_TROUBLES_MAX);
	ck_assert_int_eq(json_integer_value(json_object_get(top, "troubles_left_out")), 7);
	ck_assert_uint_eq(json_array_size(json_object_get(top, "not_ready")), MANY);
	first = json_array_get(json_object_get(top, "troubles"), 0);
	ck_assert_str_eq(json_string_value(json_object_get(first, "kind")), "no_worker");
	ck_assert_str_eq(json_string_value(json_object_get(first, "level")), "bad");
	ck_assert_str_eq(json_string_value(json_object_get(first, "proxy")), "p0");
	ck_assert_str_eq(json_string_value(json_object_get(first, "side")), "backend");
	ck_assert_str_eq(json_string_value(json_object_get(top, "instance")), "orders");
	ck_assert(json_is_string(json_object_get(top, "host")));
	json_decref(top);
	free(text);
}
END_TEST

/* --- history -------------------------------------------------------------- */

static struct history history;

static void
sample(int64_t taken_ms)
{
	snapshot.taken_ms = taken_ms;
	history_add(&history, &snapshot);
}

static json_t *
past(int64_t after_ms)
{
	char *text = view_history(&history, after_ms);
	json_t *top = json_loads(text, 0, NULL);

	ck_assert_msg(top != NULL, "%s", text);
	free(text);
	return top;
}

/* Element `i` of a column of the proxy at `p`; -1: there is none. */
static int64_t
past_value(const json_t *top, size_t p, const char *column, size_t i)
{
	const json_t *list =
		json_object_get(json_array_get(json_object_get(top, "proxies"), p), column);

	ck_assert(json_is_array(list));
	return i < json_array_size(list) ? json_integer_value(json_array_get(list, i)) : -1;
}

static void
past_is(size_t p, const char *column, int64_t first, int64_t second)
{
	json_t *top = past(0);

	ck_assert_msg(past_value(top, p, column, 0) == first, "%s", column);
	ck_assert_msg(past_value(top, p, column, 1) == second, "%s", column);
	ck_assert_int_eq(past_value(top, p, column, 2), -1);
	json_decref(top);
}

START_TEST(history_tells_what_came_between)
{
	struct side_view *f = &proxies[0].side[PROXY_FRONTEND];
	struct side_view *b = &proxies[0].side[PROXY_BACKEND];
	json_t *top;

	memset(&history, 0, sizeof(history));
	b->counters.received = 1000;
	histogram_add(&b->forward, 5, 1000);
	sample(10000);
	b->counters.received = 1010;
	f->counters.received = 7;
	f->counters.dropped[DROP_PEER_GONE] = 2;
	b->counters.dropped[DROP_UNDELIVERABLE] = 3;
	b->counters.queued = 4;
	f->counters.queued = UINT64_C(5000000000);
	b->counters.outstanding = 6;
	histogram_add(&b->forward, 15000, 9);
	histogram_add(&f->forward, UINT64_C(60000000000), 1);
	sample(12000);
	b->counters.received = 1011;
	sample(14500);
	sample(14500); /* of the same moment: none */
	past_is(0, "requests", 10, 1);
	past_is(0, "replies", 7, 0);
	past_is(0, "dropped_replies", 2, 0);
	past_is(0, "dropped_requests", 3, 0);
	past_is(0, "queued_requests", 4, 4);
	past_is(0, "queued_replies", UINT32_MAX, UINT32_MAX);
	past_is(0, "unanswered", 6, 6);
	past_is(0, "p50_us", 15, 0);
	past_is(0, "p90_us", 20, 0);
	past_is(0, "p99_us", 10485760, 0);
	past_is(1, "requests", 0, 0);
	top = past(12000);
	ck_assert_int_eq(past_value(top, 0, "requests", 0), 1);
	ck_assert_int_eq(past_value(top, 0, "requests", 1), -1);
	ck_assert_int_eq(
		json_integer_value(json_array_get(json_object_get(top, "times"), 0)), 14500);
	ck_assert_int_eq(
		json_integer_value(json_array_get(json_object_get(top, "lengths_ms"), 0)), 2500);
	json_decref(top);
	top = past(14500);
	ck_assert_uint_eq(json_array_size(json_object_get(top, "times")), 0);
	json_decref(top);
	history_clear(&history);
}
END_TEST

START_TEST(history_is_bounded)
{
	json_t *top;

	memset(&history, 0, sizeof(history));
	for (int i = 0; i <= HISTORY_SAMPLES + 20; i++) {
		proxies[0].side[PROXY_BACKEND].counters.received += (uint64_t)i;
		sample(1000 + i * HISTORY_MS);
	}
	top = past(0);
	ck_assert_uint_eq(json_array_size(json_object_get(top, "times")), HISTORY_SAMPLES);
	ck_assert_int_eq(past_value(top, 0, "requests", 0), 21);
	ck_assert_int_eq(past_value(top, 0, "requests", HISTORY_SAMPLES - 1), HISTORY_SAMPLES + 20);
	ck_assert_int_eq(past_value(top, 0, "requests", HISTORY_SAMPLES), -1);
	json_decref(top);
	ck_assert_uint_le(
		sizeof(history) + HISTORY_PROXIES * sizeof(struct history_proxy), 1200 * 1000);
	history_clear(&history);
}
END_TEST

/* A reload removes them, adds others, and some under the name of one that was. */
START_TEST(history_follows_the_proxies)
{
	json_t *top;

	memset(&history, 0, sizeof(history));
	proxies[0].side[PROXY_BACKEND].counters.received = 50;
	snapshot.proxy_count = 1;
	sample(1000);
	sample(3000);
	snapshot.proxy_count = 2;
	sample(5000);
	sample(7000);
	proxies[0].side[PROXY_BACKEND].counters.received = 3;
	sample(9000);
	proxies[0].side[PROXY_BACKEND].counters.received = 5;
	sample(11000);
	top = past(0);
	ck_assert_int_eq(past_value(top, 0, "requests", 0), 2);
	ck_assert_int_eq(past_value(top, 0, "requests", 1), -1);
	ck_assert_int_eq(past_value(top, 1, "requests", 2), 0);
	ck_assert_int_eq(past_value(top, 1, "requests", 3), -1);
	json_decref(top);
	snapshot.proxies++;
	snapshot.proxy_count = 1;
	sample(13000);
	ck_assert_uint_eq(history.proxy_count, 1);
	ck_assert_str_eq(history.proxies[0]->name, "b.c");
	history_clear(&history);
}
END_TEST

START_TEST(history_is_not_kept_of_too_many)
{
	static struct proxy_view many[HISTORY_PROXIES + 1];

	memset(&history, 0, sizeof(history));
	snapshot.proxies = many;
	for (int i = 0; i <= HISTORY_PROXIES; i++)
		snprintf(many[i].name, sizeof(many[i].name), "p%d", i);
	snapshot.proxy_count = HISTORY_PROXIES;
	sample(1000);
	ck_assert_uint_eq(history.proxy_count, HISTORY_PROXIES);
	snapshot.proxy_count = HISTORY_PROXIES + 1;
	sample(3000);
	ck_assert(history.too_many);
	ck_assert_uint_eq(history.proxy_count, 0);
	ck_assert_uint_eq(history.count, 0);
	snapshot.proxy_count = 1;
	sample(5000);
	ck_assert(!history.too_many);
	ck_assert_uint_eq(history.count, 1);
	history_clear(&history);
}
END_TEST

UNIT_MAIN("metrics", tcase_add_checked_fixture(tc, setup, NULL),
	tcase_add_test(tc, every_value_has_its_line),
	tcase_add_test(tc, readiness_names_all_that_is_missing),
	tcase_add_test(tc, json_shows_peers), tcase_add_test(tc, text_that_is_not_utf8_is_shown),
	tcase_add_test(tc, names_and_endpoints_that_are_not_utf8_are_shown),
	tcase_add_test(tc, the_last_good_configuration), tcase_add_test(tc, numbers_have_no_dust),
	tcase_add_test(tc, snapshots_are_shared), tcase_add_test(tc, the_worst_trouble_comes_first),
	tcase_add_test(tc, troubles_in_json_are_bounded),
	tcase_add_test(tc, history_tells_what_came_between), tcase_add_test(tc, history_is_bounded),
	tcase_add_test(tc, history_follows_the_proxies),
	tcase_add_test(tc, history_is_not_kept_of_too_many))
