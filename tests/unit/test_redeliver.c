/* SPDX-License-Identifier: MIT */
/*
 * Requests whose worker closes or does not answer: which worker gets them, and which reply passes.
 */
#include <unistd.h>

#include "base/clock.h"
#include "world.h"

/* A worker's unasked messages settle no request: the ledger shows that. */
START_TEST(an_unasked_reply_settles_nothing)
{
	int client = join(PROXY_FRONTEND, "DEALER", "id"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);
	int other;

	track(false, 0, 100000);
	PUT(client, "\1\0\0\1x");
	other = join(PROXY_BACKEND, "DEALER", NULL);
	PUT(other, "\1\2id\1\0\0\1?");
	EXPECT(client, "\1\0\0\1?");
	ck_assert_uint_eq(client_called("id")->outstanding, 1);
	PUT(worker, "\1\2id\1\0\0\1y");
	ck_assert_uint_eq(client_called("id")->outstanding, 0);
	close(client);
	close(worker);
	close(other);
}
END_TEST

/* Lets the loop run until that many workers are suspect. */
static void
wait_for_suspects(uint64_t count)
{
	for (int i = 0; i < 100000 && proxy->counters[PROXY_BACKEND].suspects != count; i++)
		settle();
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].suspects, count);
}

START_TEST(a_request_goes_to_another_worker)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	int client, one, two;

	track(true, 0, 0);
	client = join(PROXY_FRONTEND, "DEALER", "me");
	one = join(PROXY_BACKEND, "DEALER", NULL);
	PUT(client, "\1\0\0\1a\1\0\0\1b");
	EXPECT(one, "\1\2me\1\0\0\1a\1\2me\1\0\0\1b");
	PUT(one, "\1\2me\1\0\0\1A");
	EXPECT(client, "\1\0\0\1A");
	ck_assert_uint_eq(c->outstanding, 1);
	close(one);
	settle();
	ck_assert_uint_eq(c->outstanding, 1);
	two = join(PROXY_BACKEND, "DEALER", NULL);
	settle();
	ck_assert_uint_eq(c->redelivered, 1);
	PUT(two, "\1\2me\1\0\0\1B");
	EXPECT(client, "\1\0\0\1B");
	PUT(two, "\1\2me\1\0\0\1B"); /* which answers nothing */
	expect_nothing(client);
	ck_assert_uint_eq(proxy->counters[PROXY_FRONTEND].dropped[DROP_LATE_REPLY], 1);
	ck_assert_uint_eq(c->outstanding, 0);
	ck_assert_uint_eq(c->kept_bytes, 0);
	close(client);
	close(two);
}
END_TEST

/* To a worker that is connected and idle: at once. */
START_TEST(a_request_goes_to_an_idle_worker)
{
	int client, one, two;

	track(true, 0, 0);
	client = join(PROXY_FRONTEND, "DEALER", "me");
	one = join(PROXY_BACKEND, "DEALER", NULL);
	two = join(PROXY_BACKEND, "DEALER", NULL);
	PUT(client, "\1\0\0\1a");
	EXPECT(one, "\1\2me\1\0\0\1a");
	close(one);
	settle();
	EXPECT(two, "\1\2me\1\0\0\1a");
	close(client);
	close(two);
}
END_TEST

/* Exactly redeliver_limit workers. */
START_TEST(a_request_that_kills_is_dropped)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	int client;

	track(true, 0, 0);
	client = join(PROXY_FRONTEND, "DEALER", "me");
	PUT(client, "\1\0\0\1a");
	for (uint64_t i = 0; i < 3; i++) {
		int worker = join(PROXY_BACKEND, "DEALER", NULL);

		settle();
		ck_assert_uint_eq(c->sent, i + 1);
		ck_assert_uint_eq(c->dropped[DROP_UNDELIVERABLE], 0);
		close(worker);
		settle();
	}
	ck_assert_uint_eq(c->dropped[DROP_UNDELIVERABLE], 1);
	ck_assert_uint_eq(c->redelivered, 3);
	ck_assert_uint_eq(c->outstanding, 0);
	ck_assert_uint_eq(c->kept_bytes, 0);
	close(client);
}
END_TEST

/* Requests after the one that kills the worker are not to blame, however often that happens. */
START_TEST(a_request_is_not_to_blame_for_others)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	int client, worker;

	track(true, 0, 0);
	client = join(PROXY_FRONTEND, "DEALER", "me");
	PUT(client, "\1\1k\1\0\0\4kill\1\1g\1\0\0\4good");
	for (int i = 0; i < 3; i++) {
		worker = join(PROXY_BACKEND, "DEALER", NULL);
		settle();
		close(worker);
		settle();
	}
	ck_assert_uint_eq(c->dropped[DROP_UNDELIVERABLE], 1);
	worker = join(PROXY_BACKEND, "DEALER", NULL);
	settle();
	PUT(worker, "\1\2me\1\1g\1\0\0\2ok");
	EXPECT(client, "\1\1g\1\0\0\2ok");
	close(worker);
	close(client);
}
END_TEST

START_TEST(max_outstanding_holds_requests_back)
{
	int client, worker;

	track(false, 2, 0);
	client = join(PROXY_FRONTEND, "DEALER", "me");
	worker = join(PROXY_BACKEND, "DEALER", NULL);
	PUT(client, "\1\0\0\1a\1\0\0\1b\1\0\0\1c");
	EXPECT(worker, "\1\2me\1\0\0\1a\1\2me\1\0\0\1b");
	PUT(worker, "\1\2me\1\0\0\1A");
	EXPECT(worker, "\1\2me\1\0\0\1c");
	EXPECT(client, "\1\0\0\1A");
	close(client);
	close(worker);
}
END_TEST

/* A late first reply passes, and the request is not sent to another worker. */
START_TEST(a_suspect_returns_with_its_answer)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	int client, worker;

	track(false, 0, 1);
	client = join(PROXY_FRONTEND, "DEALER", "me");
	worker = join(PROXY_BACKEND, "DEALER", NULL);
	PUT(client, "\1\0\0\1a");
	wait_for_suspects(1);
	EXPECT(worker, "\1\2me\1\0\0\1a");
	proxy->opts[PROXY_BACKEND].queue.answer_timeout = HOUR_MS;
	PUT(client, "\1\0\0\1b"); /* on trial, or when the reply came */
	PUT(worker, "\1\2me\1\0\0\1A");
	EXPECT(client, "\1\0\0\1A");
	EXPECT(worker, "\1\2me\1\0\0\1b");
	ck_assert_uint_eq(c->suspects, 0);
	ck_assert_uint_eq(c->redelivered, 0);
	ck_assert_uint_eq(c->outstanding, 1);
	close(client);
	close(worker);
}
END_TEST

/* A reply cannot answer a request that its worker has not got yet. */
START_TEST(a_reply_before_its_request)
{
	static char request[400000] = {1, 0, 2, 0, 0, 0, 0, 0, 0x06, 0x1a, 0x75};
	struct counters *c = &proxy->counters[PROXY_FRONTEND];
	int client, one, two;
	size_t at = 0;

	track(true, 0, 0);
	client = join(PROXY_FRONTEND, "DEALER", "me");
	one = join(PROXY_BACKEND, "DEALER", NULL);
	PUT(client, "\1\0\0\1a");
	EXPECT(one, "\1\2me\1\0\0\1a");
	for (int i = 0; at < sizeof(request);
		i++) { /* it takes no more than fits into its socket */
		ssize_t n = write(client, request + at, sizeof(request) - at);

		at += n > 0 ? (size_t)n : 0;
		settle();
		ck_assert_int_lt(i, 200);
	}
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].queued, 1);
	PUT(one, "\1\2me\1\0\0\1A\1\2me\1\0\0\1A"); /* twice */
	EXPECT(client, "\1\0\0\1A");
	ck_assert_uint_eq(c->dropped[DROP_LATE_REPLY], 1);
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].outstanding, 1);
	close(one);
	settle();
	two = join(PROXY_BACKEND, "DEALER", NULL);
	for (int i = 0; proxy->counters[PROXY_BACKEND].queued > 0; i++) {
		static char sink[65536];

		while (read(two, sink, sizeof(sink)) > 0)
			;
		settle();
		ck_assert_int_lt(i, 200);
	}
	PUT(two, "\1\2me\1\0\0\1B");
	EXPECT(client, "\1\0\0\1B"); /* one reply for each request */
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].outstanding, 0);
	close(client);
	close(two);
}
END_TEST

/* A shorter answer_timeout applies to a worker that is idle, too. */
START_TEST(a_new_answer_timeout_holds_at_once)
{
	int client, worker;

	track(true, 0, HOUR_MS);
	client = join(PROXY_FRONTEND, "DEALER", "me");
	worker = join(PROXY_BACKEND, "DEALER", NULL);
	PUT(client, "\1\0\0\1a");
	PUT(worker, "\1\2me\1\0\0\1A");
	EXPECT(client, "\1\0\0\1A");
	track(true, 0, 1);
	PUT(client, "\1\0\0\1b");
	wait_for_suspects(1);
	close(client);
	close(worker);
}
END_TEST

/* Options that are set while it holds requests: a reply to one of those counts as well. */
START_TEST(a_suspect_returns_with_an_older_answer)
{
	int client = join(PROXY_FRONTEND, "DEALER", "me"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);

	PUT(client, "\1\1o\1\0\0\1a");
	track(true, 0, 1);
	PUT(client, "\1\1n\1\0\0\1b");
	wait_for_suspects(1);
	proxy->opts[PROXY_BACKEND].queue.answer_timeout = HOUR_MS;
	PUT(worker, "\1\2me\1\1o\1\0\0\1A");
	EXPECT(client, "\1\1o\1\0\0\1A");
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].suspects, 0);
	close(client);
	close(worker);
}
END_TEST

/* All of the worker's requests were requeued before they left: it has none to answer. */
START_TEST(a_suspect_without_requests_returns_with_room)
{
	static char request[2000] = {1, 0, 2, 0, 0, 0, 0, 0, 0, 0x07, 0xc5}, sink[65536];
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	struct conn *conn;
	int client, worker;

	proxy->opts[PROXY_BACKEND].side.send_timeout = 3600000;
	track(true, 0, 0);
	client = join(PROXY_FRONTEND, "DEALER", "me");
	worker = join(PROXY_BACKEND, "DEALER", NULL);
	for (int i = 0; c->queued == 0; i++) { /* its socket takes a request whole or not at all */
		put(client, request, sizeof(request));
		ck_assert_int_lt(i, 10000);
	}
	for (uint64_t i = 0; i < c->sent; i++) {
		PUT(worker, "\1\2me\1\0\0\1A"); /* blindly */
		EXPECT(client, "\1\0\0\1A");
	}
	ck_assert_uint_eq(c->outstanding, 1);
	conn = list_entry(proxy->side[PROXY_BACKEND].conns.next, struct conn, node);
	ck_assert_int_ne(conn->send_due, CLOCK_NEVER);
	track(true, 0, 1000); /* and its trial comes as much later */
	wait_for_suspects(1);
	ck_assert_uint_eq(c->rerouted, 1);
	ck_assert_int_eq(conn->send_due, CLOCK_NEVER); /* nothing is late any more */
	proxy->opts[PROXY_BACKEND].queue.answer_timeout = HOUR_MS;
	while (read(worker, sink, sizeof(sink)) > 0)
		;
	wait_for_suspects(0);
	ck_assert_int_eq(read(worker, sink, sizeof(sink)), 4 + sizeof(request));
	PUT(worker, "\1\2me\1\0\0\1A");
	EXPECT(client, "\1\0\0\1A");
	ck_assert_uint_eq(c->outstanding, 0);
	close(client);
	close(worker);
}
END_TEST

UNIT_MAIN("redeliver", tcase_add_checked_fixture(tc, world_begin, world_end),
	tcase_add_test(tc, an_unasked_reply_settles_nothing),
	tcase_add_test(tc, a_request_goes_to_another_worker),
	tcase_add_test(tc, a_request_goes_to_an_idle_worker),
	tcase_add_test(tc, a_request_that_kills_is_dropped),
	tcase_add_test(tc, a_request_is_not_to_blame_for_others),
	tcase_add_test(tc, max_outstanding_holds_requests_back),
	tcase_add_test(tc, a_suspect_returns_with_its_answer),
	tcase_add_test(tc, a_reply_before_its_request),
	tcase_add_test(tc, a_new_answer_timeout_holds_at_once),
	tcase_add_test(tc, a_suspect_returns_with_an_older_answer),
	tcase_add_test(tc, a_suspect_without_requests_returns_with_room))
