/* SPDX-License-Identifier: MIT */
/*
 * A proxy in queue mode: which peer gets which message, and the conservation law after every step.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "net/conn_impl.h"
#include "world.h"

START_TEST(request_and_reply)
{
	int client = join(PROXY_FRONTEND, "DEALER", "me"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);

	PUT(client, "\1\0\0\2hi");
	EXPECT(worker, "\1\2me\1\0\0\2hi");
	PUT(worker, "\1\2me\1\0\0\3you");
	EXPECT(client, "\1\0\0\3you");
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].outstanding, 0);
	close(client);
	close(worker);
}
END_TEST

START_TEST(requests_wait_for_a_worker_and_outlive_their_client)
{
	int client = join(PROXY_FRONTEND, "DEALER", "me"), worker;

	PUT(client, "\0\1a\0\1b");
	close(client);
	settle();
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].queued, 2);
	worker = join(PROXY_BACKEND, "DEALER", NULL);
	settle();
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].sent, 2);
	PUT(worker, "\1\2me\0\1x");
	ck_assert_uint_eq(proxy->counters[PROXY_FRONTEND].dropped[DROP_UNROUTABLE], 1);
	close(worker);
}
END_TEST

START_TEST(round_robin)
{
	int client = join(PROXY_FRONTEND, "DEALER", "c");
	int one = join(PROXY_BACKEND, "DEALER", NULL), two = join(PROXY_BACKEND, "DEALER", NULL);

	PUT(client, "\0\1a\0\1b\0\1c\0\1d");
	EXPECT(one, "\1\1c\0\1a\1\1c\0\1c");
	EXPECT(two, "\1\1c\0\1b\1\1c\0\1d");
	close(client);
	close(one);
	close(two);
}
END_TEST

START_TEST(replies_that_no_one_can_take)
{
	int req = join(PROXY_FRONTEND, "REQ", "r"), worker = join(PROXY_BACKEND, "DEALER", NULL);
	struct counters *c = &proxy->counters[PROXY_FRONTEND];

	PUT(worker, "\0\1x"); /* no envelope */
	ck_assert_uint_eq(c->dropped[DROP_MALFORMED], 1);
	PUT(worker, "\1\1r\0\1x"); /* a REQ needs its delimiter */
	ck_assert_uint_eq(c->dropped[DROP_MALFORMED], 2);
	PUT(worker, "\1\1z\1\0\0\1x");
	ck_assert_uint_eq(c->dropped[DROP_UNROUTABLE], 1);
	expect_nothing(req);
	PUT(worker, "\1\1r\1\4abcd\1\0\0\1x"); /* with a request id */
	EXPECT(req, "\1\4abcd\1\0\0\1x");
	close(req);
	close(worker);
}
END_TEST

START_TEST(a_worker_that_takes_nothing_gives_its_queue_back)
{
	static char request[200000] = {
		2, 0, 0, 0, 0, 0, 0x03, 0x0d, 0x37}; /* one frame of 199,991 */
	int client = join(PROXY_FRONTEND, "DEALER", "c"), other;
	int stuck = join(PROXY_BACKEND, "DEALER", NULL), sent = 0;
	size_t at = 0;

	while (at < 2 * sizeof(request)) {
		ssize_t n = write(client, request + at % sizeof(request),
			sizeof(request) - at % sizeof(request));
		if (n > 0)
			at += (size_t)n;
		settle();
		ck_assert_int_lt(++sent, 200);
	}
	settle();
	ck_assert_uint_gt(proxy->counters[PROXY_BACKEND].queued, 0);
	close(stuck);
	settle();
	ck_assert_uint_gt(proxy->counters[PROXY_BACKEND].rerouted, 0);
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].poisoned, 1);
	other = join(PROXY_BACKEND, "DEALER", NULL);
	for (at = 0; proxy->counters[PROXY_BACKEND].queued > 0 && at < 1000; at++) {
		char sink[65536];
		while (read(other, sink, sizeof(sink)) > 0)
			;
		settle();
	}
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].sent, 2);
	close(client);
	close(other);
}
END_TEST

START_TEST(a_paused_proxy_reads_no_requests)
{
	int client = join(PROXY_FRONTEND, "DEALER", "me"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);

	PUT(client, "\1\0\0\1a");
	EXPECT(worker, "\1\2me\1\0\0\1a");
	ck_assert_ptr_null(broker_pause(broker, "test", true));
	ck_assert_str_eq(broker_pause(broker, "test", true), "proxy is already paused");
	ck_assert_str_eq(broker_pause(broker, "other", true),
		"no such proxy; bulkheadctl status shows their names");
	PUT(client, "\1\0\0\1b");
	expect_nothing(worker);
	PUT(worker, "\1\2me\1\0\0\1A");
	EXPECT(client, "\1\0\0\1A");
	ck_assert_ptr_null(broker_pause(broker, "test", false));
	settle();
	EXPECT(worker, "\1\2me\1\0\0\1b");
	ck_assert_str_eq(broker_pause(broker, "test", false), "proxy is not paused");
	proxy_drain(proxy);
	ck_assert_str_eq(broker_pause(broker, "test", true), "proxy is draining");
	close(client);
	close(worker);
}
END_TEST

/* Input that never ends, and work that was put off until the next turn. */
static struct watch *always;
static unsigned times_ready, times_ready_before_task;

static void
ready_cb(void *arg, unsigned events)
{
	(void)arg, (void)events;
	if (++times_ready > 1000)
		watch_set(always, 0);
}

static void
resumed_cb(struct task *task)
{
	(void)task;
	times_ready_before_task = times_ready;
	loop_stop(loop);
}

START_TEST(work_put_off_does_not_wait_for_silence)
{
	struct task task;
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	always = watch_new(loop, fds[0], ready_cb, NULL);
	watch_set(always, WATCH_IN);
	task_init(&task, resumed_cb);
	times_ready = 0;
	loop->stopping = false;
	loop_defer(loop, LOOP_RESUME, &task);
	loop_run(loop);
	ck_assert_uint_le(times_ready_before_task, 1);
	watch_free(always);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

/* Its queue, with our READY in it, must not be rerouted. */
START_TEST(a_peer_that_took_no_whole_handshake_is_closed_not_stalled)
{
	int fd = join(PROXY_FRONTEND, "DEALER", NULL);
	struct conn *conn = last_conn(PROXY_FRONTEND);

	conn->hello_end = conn->bytes_out + 1;
	conn->send_due = loop_now(loop);
	conn_check_send(conn, loop_now(loop));
	ck_assert_int_eq(conn->state, CONN_CLOSED);
	ck_assert_int_eq(conn->reason, CLOSE_SEND_TIMEOUT);
	ck_assert_str_eq(conn->detail, "handshake not fully sent");
	close(fd);
}
END_TEST

UNIT_MAIN("proxy", tcase_add_checked_fixture(tc, world_begin, world_end),
	tcase_add_test(tc, request_and_reply),
	tcase_add_test(tc, requests_wait_for_a_worker_and_outlive_their_client),
	tcase_add_test(tc, round_robin), tcase_add_test(tc, replies_that_no_one_can_take),
	tcase_add_test(tc, a_worker_that_takes_nothing_gives_its_queue_back),
	tcase_add_test(tc, a_paused_proxy_reads_no_requests),
	tcase_add_test(tc, work_put_off_does_not_wait_for_silence),
	tcase_add_test(tc, a_peer_that_took_no_whole_handshake_is_closed_not_stalled))
