/*
 * What a snapshot becomes: the metrics' text, readiness, and JSON.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/metrics.h"
#include "admin/view.h"
#include "net/conn.h"
#include "unit.h"

static struct snapshot_proxy proxies[2];
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
		.memory_bytes = 77,
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
	struct snapshot_side *side = &proxies[1].side[PROXY_FRONTEND];
	const struct process process = {.open_fds = 12, .resident_bytes = 4096};
	size_t len;
	char *text;

	side->counters.received = UINT64_MAX;
	side->counters.queued_bytes = 5;
	side->counters.dropped[DROP_PEER_GONE] = 6;
	side->counters.closed_by[CLOSE_ADMIN] = 7;
	side->in_state[CONN_STALLED] = 8;
	side->suspects = 9;
	side->leaving = 10;
	histogram_add(&side->forward, 20000, 2);
	histogram_add(&side->forward, UINT64_C(11000000000), 1);
	histogram_add(&snapshot.lag, 1, 1);
	proxies[1].paused = true;
	text = metrics_text(&snapshot, &process, &len);
	ck_assert_uint_eq(strlen(text), len);
	has_line(text, "# TYPE bulkhead_messages_received_total counter");
	has_line(text, "bulkhead_messages_received_total{proxy=\"b.c\",side=\"frontend\"} "
		       "18446744073709551615");
	has_line(text, "bulkhead_messages_received_total{proxy=\"b.c\",side=\"backend\"} 0");
	has_line(text, "# TYPE bulkhead_queue_bytes gauge");
	has_line(text, "bulkhead_queue_bytes{proxy=\"b.c\",side=\"frontend\"} 5");
	has_line(text, "bulkhead_messages_dropped_total{proxy=\"b.c\",side=\"frontend\","
		       "reason=\"peer_gone\"} 6");
	has_line(text, "bulkhead_connections_closed_total{proxy=\"b.c\",side=\"frontend\","
		       "reason=\"admin\"} 7");
	has_line(text, "bulkhead_peers{proxy=\"b.c\",side=\"frontend\",state=\"stalled\"} 8");
	has_line(text, "bulkhead_peers{proxy=\"a\",side=\"frontend\",state=\"stalled\"} 0");
	has_line(text, "bulkhead_peers{proxy=\"b.c\",side=\"frontend\",state=\"suspect\"} 9");
	has_line(text, "bulkhead_peers{proxy=\"b.c\",side=\"frontend\",state=\"draining\"} 10");
	has_line(text, "bulkhead_forward_seconds_bucket{proxy=\"b.c\",side=\"frontend\","
		       "le=\"1e-05\"} 0");
	has_line(text, "bulkhead_forward_seconds_bucket{proxy=\"b.c\",side=\"frontend\","
		       "le=\"2e-05\"} 2");
	has_line(text, "bulkhead_forward_seconds_bucket{proxy=\"b.c\",side=\"frontend\","
		       "le=\"10.48576\"} 2");
	has_line(text, "bulkhead_forward_seconds_bucket{proxy=\"b.c\",side=\"frontend\","
		       "le=\"+Inf\"} 3");
	has_line(text, "bulkhead_forward_seconds_sum{proxy=\"b.c\",side=\"frontend\"} 11.000040000");
	has_line(text, "bulkhead_forward_seconds_count{proxy=\"b.c\",side=\"frontend\"} 3");
	has_line(text, "bulkhead_loop_lag_seconds_bucket{le=\"1e-05\"} 1");
	has_line(text, "bulkhead_loop_lag_seconds_count 1");
	has_line(text, "bulkhead_paused{proxy=\"b.c\"} 1");
	has_line(text, "bulkhead_memory_bytes 77");
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

	ck_assert_int_eq(snapshot_is_ready(&snapshot, out), ready);
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
	ready_is(false, "the broker is draining\n"
			"proxy a: frontend tcp://127.0.0.1:5555 accepts no connections at the moment\n"
			"proxy a: paused\n"
			"proxy b.c: no backend peer is ready\n");
	strcpy(snapshot.state, "running");
	proxies[0].paused = false;
	endpoints[0].bound = false;
	proxies[1].side[PROXY_BACKEND].suspects = 1;
	ready_is(false, "proxy b.c: no backend peer is ready, 1 is suspect (past answer_timeout)\n");
	proxies[1].side[PROXY_BACKEND].suspects = 2;
	ready_is(false, "proxy b.c: no backend peer is ready, 2 are suspect (past answer_timeout)\n");
	proxies[1].side[PROXY_BACKEND].leaving = 3;
	ready_is(false, "proxy b.c: no backend peer is ready, 2 are suspect (past answer_timeout), "
			"3 are draining\n");
}
END_TEST

START_TEST(json_shows_peers)
{
	static char texts[] = "tcp://[::1]:5\0id";
	struct snapshot_peer peer = {.id = 9,
		.proxy = 1,
		.side = PROXY_BACKEND,
		.state = CONN_STALLED,
		.was_ready = true,
		.poison = SNAPSHOT_ARMED,
		.queued = 3,
		.address_len = 13,
		.routing_id = 13,
		.routing_id_len = 3};
	char *text;

	snapshot.peers = &peer;
	snapshot.peer_count = 1;
	snapshot.texts = texts;
	text = view_peers(&snapshot);
	ck_assert_ptr_nonnull(strstr(text, "\"id\":9,\"proxy\":\"b.c\",\"side\":\"backend\","
					   "\"routing_id\":\"0x006964\",\"address\":\"tcp://[::1]:5\""));
	ck_assert_ptr_nonnull(strstr(text, "\"state\":\"stalled\",\"poison\":\"armed\""));
	free(text);
	peer.leaving = true;
	text = view_peers(&snapshot);
	ck_assert_ptr_nonnull(strstr(text, "\"state\":\"draining\""));
	free(text);
	text = view_text("error", "a \"quoted\" word", 15);
	ck_assert_str_eq(text, "{\"error\":\"a \\\"quoted\\\" word\"}");
	free(text);
}
END_TEST

/* Whatever the bytes: an answer, in which they can be told. */
START_TEST(text_that_is_not_utf8_is_shown)
{
	static const struct {
		const char *text, *json;
	} cases[] = {{"\xff", "\\\\xff"}, {"a\xc3", "a\\\\xc3"}, {"\xc3\xa4\x80", "\xc3\xa4\\\\x80"},
		{"\xed\xa0\x80", "\\\\xed\\\\xa0\\\\x80"}, {"\xf4\x90\x80\x80z", "\\\\xf4\\\\x90\\\\x80\\\\x80z"},
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
	struct snapshot_peer peer = {.address_len = 12, .state = CONN_READY};
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

/* A file with mistakes, and the broker runs without it. */
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

/* What goes over to the other process comes back whole, or not at all. */
START_TEST(snapshots_are_shared)
{
	static char texts[] = "tcp://[::1]:5";
	struct snapshot_peer peer = {.id = 9, .proxy = 1, .address_len = 13};
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
	ck_assert_uint_eq(s->peers[0].id, 9);
	ck_assert_mem_eq(s->texts, texts, 13);
	snapshot_free(s);
	for (off_t len = lseek(fd, 0, SEEK_END) - 1; len >= 0; len -= 61) {
		ck_assert_int_eq(ftruncate(fd, len), 0);
		ck_assert_ptr_null(snapshot_map(fd));
	}
	close(fd);
}
END_TEST

UNIT_MAIN("metrics", tcase_add_checked_fixture(tc, setup, NULL),
	tcase_add_test(tc, every_value_has_its_line),
	tcase_add_test(tc, readiness_names_all_that_is_missing),
	tcase_add_test(tc, json_shows_peers),
	tcase_add_test(tc, text_that_is_not_utf8_is_shown),
	tcase_add_test(tc, names_and_endpoints_that_are_not_utf8_are_shown),
	tcase_add_test(tc, the_last_good_configuration),
	tcase_add_test(tc, numbers_have_no_dust),
	tcase_add_test(tc, snapshots_are_shared))
