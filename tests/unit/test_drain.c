/* SPDX-License-Identifier: MIT */
/*
 * Peers that drain: which requests they may still send, what they get, and when they are closed.
 */
#include <unistd.h>

#include "base/clock.h"
#include "broker/drain.h"
#include "world.h"

/* It cannot know that its end is due: its requests until then are served. */
START_TEST(one_that_is_about_to_leave_may_ask)
{
	int client = join(PROXY_FRONTEND, "DEALER", "me"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);
	struct conn *conn = last_conn(PROXY_FRONTEND);
	struct peer *peer = conn->peer;

	ck_assert_ptr_null(broker_drain_peer(broker, conn->id, 100000));
	timer_stop(&proxy->drain_timer); /* not now */
	peer->accept_until = loop_now(loop);
	ck_assert(!proxy_is_drained(proxy));
	PUT(client, "\1\0\0\1a");
	EXPECT(worker, "\1\2me\1\0\0\1a");
	peer->outstanding = 0;
	peer->accept_until = 0; /* but not indefinitely */
	PUT(client, "\1\0\0\1b");
	expect_nothing(worker);
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].dropped[DROP_SHUTDOWN], 1);
	close(client);
	close(worker);
}
END_TEST

START_TEST(a_drained_worker_gets_nothing_new)
{
	int client = join(PROXY_FRONTEND, "DEALER", "me"),
	    first = join(PROXY_BACKEND, "DEALER", NULL);
	uint64_t id = last_conn(PROXY_BACKEND)->id;
	char byte;

	PUT(client, "\1\0\0\1a");
	EXPECT(first, "\1\2me\1\0\0\1a");
	ck_assert_ptr_null(broker_drain_peer(broker, id, 100000));
	ck_assert_str_eq(broker_drain_peer(broker, id, 1), "peer is already draining");
	ck_assert_str_eq(broker_drain_peer(broker, 99, 1),
		"no such peer; bulkheadctl peers shows their ids");
	PUT(client, "\1\0\0\1b"); /* waits: there is no other worker */
	expect_nothing(first);
	PUT(first, "\1\2me\1\0\0\1A");
	EXPECT(client, "\1\0\0\1A");
	while (read(first, &byte, 1) != 0) /* a timer closes it */
		settle();
	ck_assert_str_eq(broker_kick(broker, id), "peer is already being closed");
	close(first);
	settle();
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].closed_by[CLOSE_ADMIN], 1);
	ck_assert(list_empty(&proxy->drains));
	first = join(PROXY_BACKEND, "DEALER", NULL); /* its socket takes all waiting requests */
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].sent, 2);
	close(client);
	close(first);
}
END_TEST

START_TEST(a_drained_client_may_leave_before_its_time)
{
	int client = join(PROXY_FRONTEND, "DEALER", "me"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);

	PUT(client, "\1\0\0\1a");
	EXPECT(worker, "\1\2me\1\0\0\1a");
	struct conn *conn = last_conn(PROXY_FRONTEND);
	struct peer *peer = conn->peer;

	ck_assert_ptr_null(broker_drain_peer(broker, conn->id, 100000));
	peer->accept_until = CLOCK_NEVER; /* as long as this test takes */
	PUT(client, "\1\0\0\1b");
	EXPECT(worker, "\1\2me\1\0\0\1b"); /* sent before it could know about the drain */
	PUT(worker, "\1\2me\1\0\0\1A");
	expect_nothing(client); /* the other reply is still to come */
	peer->accept_until = 0;
	PUT(client, "\1\0\0\1c");
	expect_nothing(worker);
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].dropped[DROP_SHUTDOWN], 1);
	close(client);
	settle();
	ck_assert_uint_eq(proxy->counters[PROXY_FRONTEND].dropped[DROP_PEER_GONE], 1);
	ck_assert(list_empty(&proxy->drains));
	close(worker);
}
END_TEST

/* The request has arrived whole when the last reply is sent, and takes many reads. */
START_TEST(a_request_that_came_in_time_is_read_to_its_end)
{
	enum { BODY = 5000, WINDOW = 200 };
	uint8_t request[11 + BODY] = {1, 0, 2, 0, 0, 0, 0, 0, 0, BODY >> 8, BODY & 0xff},
			     got[20 + BODY];
	int client, worker;

	loop->limits.window = WINDOW;
	client = join(PROXY_FRONTEND, "DEALER", "me");
	worker = join(PROXY_BACKEND, "DEALER", NULL);
	PUT(client, "\1\0\0\1a");
	EXPECT(worker, "\1\2me\1\0\0\1a");
	struct conn *conn = last_conn(PROXY_FRONTEND);
	struct peer *peer = conn->peer;

	ck_assert_ptr_null(broker_drain_peer(broker, conn->id, 100000));
	peer->accept_until = CLOCK_NEVER; /* as long as this test takes */
	ck_assert_int_eq(write(worker, "\1\2me\1\0\0\1A", 9), 9);
	put(client, (const char *)request, sizeof(request));
	EXPECT(client, "\1\0\0\1A");
	ck_assert_int_eq(read(worker, got, sizeof(got)), 4 + (ssize_t)sizeof(request));
	ck_assert_mem_eq(got + 4, request, sizeof(request));
	PUT(worker, "\1\2me\1\0\0\1B");
	EXPECT(client, "\1\0\0\1B");
	ck_assert_int_eq(read(client, got, sizeof(got)), 0); /* no other reply is pending */
	close(client);
	close(worker);
}
END_TEST

#define DRAINING "\4\11\10DRAINING"
static const char hears[] = "\23X-Bulkhead-Draining\0\0\0\0011";
#define BYE "\4\4\3BYE"

/* Does the backend wait for workers, so that it dials at once? */
static bool
workers_are_awaited(void)
{
	const struct side *workers = &proxy->side[PROXY_BACKEND];

	return workers->ops->is_awaited(workers);
}

/* A Bulkhead that stops: new requests go to other workers, and it answers those that it has. */
START_TEST(a_worker_that_leaves_gets_nothing_new)
{
	int client = join(PROXY_FRONTEND, "DEALER", "me"),
	    first = join(PROXY_BACKEND, "ROUTER", NULL);
	int second;

	PUT(client, "\1\0\0\1a");
	EXPECT(first, "\1\2me\1\0\0\1a");
	PUT(first, DRAINING);
	EXPECT(first, BYE);
	PUT(first, DRAINING); /* a second DRAINING is answered, and changes nothing */
	EXPECT(first, BYE);
	ck_assert(!workers_are_awaited());
	PUT(client, "\1\0\0\1b"); /* waits: there is no other worker */
	expect_nothing(first);
	ck_assert(workers_are_awaited());
	second = join(PROXY_BACKEND, "DEALER", NULL);
	ck_assert(!workers_are_awaited());
	PUT(client, "\1\0\0\1c");
	EXPECT(second, "\1\2me\1\0\0\1c");
	PUT(first, "\1\2me\1\0\0\1A");
	EXPECT(client, "\1\0\0\1A");
	expect_nothing(first);
	close(first);
	settle();
	close(client);
	close(second);
}
END_TEST

/* A client that is another Bulkhead loses nothing, and no reply is held back. */
START_TEST(a_client_that_was_told_says_bye)
{
	int client, worker = join(PROXY_BACKEND, "DEALER", NULL);
	char byte;

	client = join_with(PROXY_FRONTEND, "DEALER", "me", hears, sizeof(hears) - 1);
	PUT(client, "\1\0\0\1a\1\0\0\1b");
	EXPECT(worker, "\1\2me\1\0\0\1a\1\2me\1\0\0\1b");
	struct conn *conn = last_conn(PROXY_FRONTEND);
	struct peer *peer = conn->peer;

	ck_assert_ptr_null(broker_drain_peer(broker, conn->id, 100000));
	settle();
	EXPECT(client, DRAINING);
	PUT(worker, "\1\2me\1\0\0\1A");
	EXPECT(client, "\1\0\0\1A"); /* at once */
	peer->accept_until = 0;      /* this is for clients that do not get DRAINING */
	PUT(client, "\1\0\0\1c");
	EXPECT(worker, "\1\2me\1\0\0\1c"); /* sent before it could know about the drain */
	PUT(worker, "\1\2me\1\0\0\1B\1\2me\1\0\0\1C");
	EXPECT(client, "\1\0\0\1B\1\0\0\1C");
	ck_assert_int_eq(conn->state, CONN_READY); /* more requests may come */
	PUT(client, "\1\0\0\1d" BYE);
	EXPECT(worker, "\1\2me\1\0\0\1d");
	ck_assert_int_eq(conn->state, CONN_READY);
	PUT(worker, "\1\2me\1\0\0\1D");
	EXPECT(client, "\1\0\0\1D");
	ck_assert_int_eq(read(client, &byte, 1), 0);
	ck_assert_uint_eq(counters_dropped(&proxy->counters[PROXY_BACKEND]), 0);
	close(client);
	close(worker);
}
END_TEST

/* ... and without its BYE it is closed nevertheless. A BYE without DRAINING has no effect. */
START_TEST(a_client_that_says_no_bye_is_not_waited_for)
{
	int client = join_with(PROXY_FRONTEND, "DEALER", "me", hears, sizeof(hears) - 1);
	int worker = join(PROXY_BACKEND, "DEALER", NULL);
	struct peer *peer = last_conn(PROXY_FRONTEND)->peer;

	PUT(client, BYE BYE);
	PUT(client, "\1\0\0\1a");
	EXPECT(worker, "\1\2me\1\0\0\1a");
	PUT(worker, "\1\2me\1\0\0\1A");
	EXPECT(client, "\1\0\0\1A");
	ck_assert_ptr_null(broker_drain_peer(broker, peer->conn->id, 100000));
	settle();
	EXPECT(client, DRAINING);
	await_end(client);
	close(client);
	close(worker);
}
END_TEST

/*
 * ... nor if it keeps sending requests: those that come after the time for BYE are not served,
 * unless we had paused it.
 */
START_TEST(a_client_that_keeps_asking_is_not_served_indefinitely)
{
	int client = join_with(PROXY_FRONTEND, "DEALER", "me", hears, sizeof(hears) - 1), worker;
	struct peer *peer = last_conn(PROXY_FRONTEND)->peer;
	const struct counters *c = &proxy->counters[PROXY_BACKEND];
	char byte;

	ck_assert_ptr_null(broker_drain_peer(broker, peer->conn->id, 100000));
	settle();
	EXPECT(client, DRAINING);
	PUT(client, "\1\0\0\1a"); /* waits: there is no worker */
	peer->told_since -= HOUR_MS;
	peer->accept_until = 0;
	proxy_drain_step(proxy);
	PUT(client, "\1\0\0\1b");
	ck_assert_uint_eq(c->queued, 2);
	worker = join(PROXY_BACKEND, "DEALER", NULL); /* its socket takes both */
	ck_assert_uint_eq(c->sent, 2);
	peer->told_since -= HOUR_MS;
	PUT(client, "\1\0\0\1c"); /* soon after the last one */
	EXPECT(worker, "\1\2me\1\0\0\1c");
	peer->accept_until = 0;
	PUT(client, "\1\0\0\1d");
	expect_nothing(worker);
	ck_assert_uint_eq(c->dropped[DROP_SHUTDOWN], 1);
	PUT(worker, "\1\2me\1\0\0\1A\1\2me\1\0\0\1B");
	EXPECT(client, "\1\0\0\1A\1\0\0\1B");
	PUT(worker, "\1\2me\1\0\0\1C");
	EXPECT(client, "\1\0\0\1C");
	ck_assert_int_eq(read(client, &byte, 1), 0); /* no other reply is pending */
	close(client);
	close(worker);
}
END_TEST

UNIT_MAIN("drain", tcase_add_checked_fixture(tc, world_begin, world_end),
	tcase_add_test(tc, one_that_is_about_to_leave_may_ask),
	tcase_add_test(tc, a_drained_worker_gets_nothing_new),
	tcase_add_test(tc, a_drained_client_may_leave_before_its_time),
	tcase_add_test(tc, a_request_that_came_in_time_is_read_to_its_end),
	tcase_add_test(tc, a_worker_that_leaves_gets_nothing_new),
	tcase_add_test(tc, a_client_that_was_told_says_bye),
	tcase_add_test(tc, a_client_that_says_no_bye_is_not_waited_for),
	tcase_add_test(tc, a_client_that_keeps_asking_is_not_served_indefinitely))
