/* SPDX-License-Identifier: MIT */
/*
 * Clients that are rationed because memory is short: how many requests each may send.
 */
#include <unistd.h>

#include "world.h"

#define ASK3(x) "\1\0\0\2" x "1\1\0\0\2" x "2\1\0\0\2" x "3"
#define GOT(id, x) "\1\2" id "\1\0\0\2" x
#define TAKEN(x) "\1\0\0\2" x

/* Memory is short during the whole test; no client is exempt for having waited long. */
static void
begin_rations(void)
{
	ration_begin(proxy, 1000);
	proxy->ration.until = proxy->ration.spared = INT64_MAX / 2;
}

/*
 * One request at a time for clients that have read no reply yet, in order; a reply lets the next
 * one pass.
 */
START_TEST(newcomers_ask_one_at_a_time)
{
	int worker = join(PROXY_BACKEND, "DEALER", NULL), client;

	begin_rations();
	client = join(PROXY_FRONTEND, "DEALER", "me");
	PUT(client, ASK3("a"));
	EXPECT(worker, GOT("me", "a1"));
	ration_check(proxy, 1000);
	settle();
	expect_nothing(worker);
	PUT(worker, GOT("me", "A1"));
	EXPECT(client, TAKEN("A1"));
	EXPECT(worker, GOT("me", "a2"));
	PUT(worker, GOT("me", "A2"));
	EXPECT(worker, GOT("me", "a3"));
	expect_nothing(worker);
	ck_assert(proxy->ration.on);
	close(client);
	close(worker);
}
END_TEST

/* The more replies it has read, the more requests it may have pending. */
START_TEST(who_takes_replies_may_ask_for_more)
{
	int worker = join(PROXY_BACKEND, "DEALER", NULL),
	    client = join(PROXY_FRONTEND, "DEALER", "me");
	char sink[64];

	for (int i = 0; i < 16; i++) {
		PUT(client, "\1\0\0\1x");
		ck_assert_int_gt(read(worker, sink, sizeof(sink)), 0);
		PUT(worker, "\1\2me\1\0\0\1y");
		ck_assert_int_gt(read(client, sink, sizeof(sink)), 0);
	}
	begin_rations();
	PUT(client, ASK3("a"));
	EXPECT(worker, GOT("me", "a1") GOT("me", "a2") GOT("me", "a3"));
	PUT(client, "\1\0\0\2a4");
	expect_nothing(worker);
	PUT(worker, GOT("me", "A1"));
	EXPECT(worker, GOT("me", "a4"));
	close(client);
	close(worker);
}
END_TEST

static void
spare_those_who_wait(void)
{
	proxy->ration.spared = 0;
	for (int i = 0; i < 2; i++) { /* the second check comes too soon */
		ration_check(proxy, 1000);
		settle();
	}
}

/*
 * Workers that never answer: each second a client may send four times as many. When memory
 * suffices again, all.
 */
START_TEST(nobody_waits_for_its_ration_indefinitely)
{
	int worker = join(PROXY_BACKEND, "DEALER", NULL),
	    client = join(PROXY_FRONTEND, "DEALER", "me");

	begin_rations();
	PUT(client, ASK3("a") ASK3("b") ASK3("c"));
	EXPECT(worker, GOT("me", "a1"));
	spare_those_who_wait();
	EXPECT(worker, GOT("me", "a2"));
	expect_nothing(worker);
	spare_those_who_wait();
	EXPECT(worker, GOT("me", "a3") GOT("me", "b1") GOT("me", "b2") GOT("me", "b3"));
	expect_nothing(worker);
	proxy->ration.until = 0;
	ration_check(proxy, 1000);
	settle();
	EXPECT(worker, GOT("me", "c1") GOT("me", "c2") GOT("me", "c3"));
	ration_check(proxy, 1000);
	ck_assert(!proxy->ration.on);
	PUT(client, ASK3("d"));
	EXPECT(worker, GOT("me", "d1") GOT("me", "d2") GOT("me", "d3"));
	close(client);
	close(worker);
}
END_TEST

/* Replies wait for it: none of its requests pass, whether or not memory is short. Others' do. */
START_TEST(who_does_not_take_replies_asks_nothing)
{
	static char reply[400000] = "\1\2me\1\0\2\0\0\0\0\0\x06\x1a\x6f"; /* one body of 399,983 */
	int worker = join(PROXY_BACKEND, "DEALER", NULL),
	    client = join(PROXY_FRONTEND, "DEALER", "me");
	int other = join(PROXY_FRONTEND, "DEALER", "ot");
	char sink[65536];

	begin_rations();
	PUT(client, "\1\0\0\2a1");
	EXPECT(worker, GOT("me", "a1"));
	for (size_t at = 0; at < sizeof(reply); settle()) {
		ssize_t n = write(worker, reply + at, sizeof(reply) - at);
		at += n > 0 ? (size_t)n : 0;
	}
	PUT(client, ASK3("b"));
	expect_nothing(worker);
	proxy->ration.until = proxy->ration.spared = 0;
	ration_check(proxy, 1000);
	settle();
	expect_nothing(worker);
	PUT(other, ASK3("c"));
	EXPECT(worker, GOT("ot", "c1") GOT("ot", "c2") GOT("ot", "c3"));
	while (read(client, sink, sizeof(sink)) > 0)
		settle();
	ration_check(proxy, 1000);
	settle();
	EXPECT(worker, GOT("me", "b1") GOT("me", "b2") GOT("me", "b3"));
	ration_check(proxy, 1000);
	ck_assert(!proxy->ration.on);
	close(client);
	close(other);
	close(worker);
}
END_TEST

/* A client that is drained, and one that disconnects: their requests are passed on. */
START_TEST(who_leaves_is_not_rationed)
{
	int worker = join(PROXY_BACKEND, "DEALER", NULL),
	    client = join(PROXY_FRONTEND, "DEALER", "me");
	int other = join(PROXY_FRONTEND, "DEALER", "ot");

	begin_rations();
	PUT(client, ASK3("a"));
	EXPECT(worker, GOT("me", "a1"));
	ck_assert_ptr_null(broker_drain_peer(broker, client_called("me")->conn->id, 100000));
	settle();
	EXPECT(worker, GOT("me", "a2") GOT("me", "a3"));
	PUT(other, ASK3("b"));
	EXPECT(worker, GOT("ot", "b1"));
	close(other);
	settle();
	EXPECT(worker, GOT("ot", "b2") GOT("ot", "b3"));
	close(client);
	close(worker);
}
END_TEST

UNIT_MAIN("ration", tcase_add_checked_fixture(tc, world_begin, world_end),
	tcase_add_test(tc, newcomers_ask_one_at_a_time),
	tcase_add_test(tc, who_takes_replies_may_ask_for_more),
	tcase_add_test(tc, nobody_waits_for_its_ration_indefinitely),
	tcase_add_test(tc, who_does_not_take_replies_asks_nothing),
	tcase_add_test(tc, who_leaves_is_not_rationed))
