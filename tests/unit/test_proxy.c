/* SPDX-License-Identifier: MIT */
/*
 * Router and proxy, on a real loop, with raw peers on socket pairs: who gets
 * what, and the conservation law after every step.
 */
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "broker/broker.h"
#include "broker/flight.h"
#include "net/sys.h"
#include "settle.h"
#include "unit.h"

static struct loop *loop;
static struct broker *broker;
static struct proxy *proxy;
static struct settle settling;
static uint8_t minor; /* the version of those who join is 3.minor */

enum { HOUR_MS = 3600000 };

/* Lets the loop settle; then the law must hold. */
static void
settle(void)
{
	settle_loop(&settling);
	ck_assert_ptr_null(proxy_check(proxy));
}

static void
setup(void)
{
	struct side_opts o = {.replies = true,
		.handshake_timeout = 10000,
		.heartbeat_timeout = 10000,
		.connect_timeout = 10000,
		.receive_hwm_bytes = 1 << 20,
		.send_hwm_bytes = 1 << 20,
		.max_message_size = 1 << 20,
		.max_message_parts = 10,
		.duplicate_routing_id = DUPLICATE_TAKEOVER};

	minor = 0;
	ck_assert_int_ge(sodium_init(), 0);
	log_set_level(LOG_LEVEL_ERROR);
	loop = loop_new();
	ck_assert_ptr_nonnull(loop);
	broker = broker_new(loop, 1 << 30);
	proxy = proxy_new(loop, "test", &o, &o);
	broker_add(broker, proxy);
	settle_init(&settling, loop);
}

static void
teardown(void)
{
	proxy_close_side(proxy, PROXY_BACKEND, false);
	proxy_close_side(proxy, PROXY_FRONTEND, false);
	do
		settle();
	while (loop->connections > 0);
	while (!proxy_drop_waiting(proxy))
		;
	ck_assert_ptr_null(proxy_check(proxy));
	ck_assert_uint_eq(loop->env.memory.used, 0);
	timer_stop(&settling.timer);
	broker_free(broker);
	loop_free(loop);
}

/* A raw peer behind its handshake; `id` may be NULL, more[len] are further properties. */
static int
join_with(int side, const char *type, const char *id, const char *more, size_t len)
{
	const uint8_t greeting[64] = {
		0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, minor, 'N', 'U', 'L', 'L'};
	struct sockaddr addr = {.sa_family = AF_UNIX};
	uint8_t ready[128], sink[256];
	int fds[2], n;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	conn_accept(&proxy->side[side], fds[0], &addr, sizeof(addr.sa_family));
	memcpy(ready + 2, "\5READY\13Socket-Type", 18);
	n = 18;
	memcpy(ready + 2 + n, "\0\0\0", 3);
	ready[2 + n + 3] = (uint8_t)strlen(type);
	memcpy(ready + 2 + n + 4, type, strlen(type));
	n += 4 + (int)strlen(type);
	if (id != NULL) {
		memcpy(ready + 2 + n, "\10Identity\0\0\0", 12);
		ready[2 + n + 12] = (uint8_t)strlen(id);
		memcpy(ready + 2 + n + 13, id, strlen(id));
		n += 13 + (int)strlen(id);
	}
	memcpy(ready + 2 + n, more, len);
	n += (int)len;
	ready[0] = 4;
	ready[1] = (uint8_t)n;
	ck_assert_int_eq(write(fds[1], greeting, 64), 64);
	ck_assert_int_eq(write(fds[1], ready, (size_t)n + 2), n + 2);
	settle();
	ck_assert_int_ge(
		read(fds[1], sink, sizeof(sink)), 0); /* greeting, READY; nothing if refused */
	return fds[1];
}

static int
join(int side, const char *type, const char *id)
{
	return join_with(side, type, id, "", 0);
}

static void
put(int fd, const char *bytes, size_t len)
{
	ck_assert_int_eq(write(fd, bytes, len), (ssize_t)len);
	settle();
}

static void
expect(int fd, const char *bytes, size_t len)
{
	char got[512];

	ck_assert_int_eq(read(fd, got, sizeof(got)), (ssize_t)len);
	ck_assert_mem_eq(got, bytes, len);
}

static void
expect_nothing(int fd)
{
	char got[16];

	ck_assert_int_eq(read(fd, got, sizeof(got)), -1);
}

#define PUT(fd, bytes) put(fd, bytes, sizeof(bytes) - 1)
#define EXPECT(fd, bytes) expect(fd, bytes, sizeof(bytes) - 1)

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
	PUT(worker, "\1\1r\0\1x"); /* a REQ wants its delimiter */
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

/* It is closed within a moment. */
static void
await_end(int fd)
{
	char sink[16];
	ssize_t n;

	for (int i = 0; (n = read(fd, sink, sizeof(sink))) != 0 && i < 500; i++) {
		usleep(20000);
		settle();
	}
	ck_assert_int_eq(n, 0);
}

/* It lives: what it sends is not read any more, and its id is contested. */
START_TEST(loser_that_stays)
{
	int old = join(PROXY_FRONTEND, "DEALER", "id"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);
	int newer = join(PROXY_FRONTEND, "DEALER", "id");

	PUT(old, "\0\1x");
	expect_nothing(worker);
	await_end(old);
	expect_nothing(worker);
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].received, 0);
	ck_assert_uint_eq(((struct peer *)list_entry(
				   proxy->side[PROXY_FRONTEND].conns.next, struct conn, node)
					  ->peer)
				  ->contests,
		1);
	close(old);
	close(newer);
	close(worker);
}
END_TEST

/*
 * It had closed already: what it sent is read, the id's holder has the reply, and nobody contests.
 */
START_TEST(loser_that_leaves)
{
	int old = join(PROXY_FRONTEND, "DEALER", "id"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);
	int newer = join(PROXY_FRONTEND, "DEALER", "id");
	struct peer *holder;

	ck_assert_int_eq(write(old, "\0\1x", 3), 3);
	close(old);
	settle();
	EXPECT(worker, "\1\2id\0\1x");
	ck_assert_uint_eq(proxy->side[PROXY_FRONTEND].connections, 1);
	holder = list_entry(proxy->side[PROXY_FRONTEND].conns.next, struct conn, node)->peer;
	ck_assert_uint_eq(holder->outstanding, 1);
	ck_assert_uint_eq(holder->contests, 0);
	PUT(worker, "\1\2id\0\1y");
	EXPECT(newer, "\0\1y");
	ck_assert_uint_eq(holder->outstanding, 0);
	close(newer);
	close(worker);
}
END_TEST

START_TEST(takeover_and_reject)
{
	int old = join(PROXY_FRONTEND, "DEALER", "id"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);
	int newer = join(PROXY_FRONTEND, "DEALER", "id"), third;
	char sink[16];

	PUT(worker, "\1\2id\0\1x");
	EXPECT(newer, "\0\1x");
	await_end(old);
	proxy->opts[PROXY_FRONTEND].duplicate_routing_id = DUPLICATE_REJECT;
	third = join(PROXY_FRONTEND, "DEALER", "id");
	settle();
	ck_assert_int_eq(read(third, sink, sizeof(sink)), 0);
	PUT(worker, "\1\2id\0\1y");
	EXPECT(newer, "\0\1y");
	ck_assert_uint_eq(proxy->counters[PROXY_FRONTEND].closed_by[CLOSE_DUPLICATE_ROUTING_ID], 2);
	close(old);
	close(newer);
	close(third);
	close(worker);
}
END_TEST

static struct peer *
holder_of(const char *id)
{
	return router_find(&proxy->router, (const uint8_t *)id, strlen(id));
}

/*
 * What is asked for by somebody whose id was taken, twice, and never answered: nobody waits for it.
 */
START_TEST(what_the_replaced_asked_is_settled)
{
	int old = join(PROXY_FRONTEND, "DEALER", "id"), newer, newest, worker;

	PUT(old, "\0\1x"); /* a REP throws that away */
	PUT(old, "\1\0\0\1y");
	newer = join(PROXY_FRONTEND, "DEALER", "id");
	newest = join(PROXY_FRONTEND, "DEALER", "id");
	ck_assert_uint_eq(holder_of("id")->outstanding, 2);
	worker = join(PROXY_BACKEND, "REP", NULL); /* while the others are still there */
	ck_assert_uint_eq(holder_of("id")->outstanding, 1);
	PUT(worker, "\1\2id\1\0\0\1Y");
	EXPECT(newest, "\1\0\0\1Y");
	ck_assert_uint_eq(holder_of("id")->outstanding, 0);
	close(old);
	close(newer);
	close(newest);
	close(worker);
}
END_TEST

START_TEST(what_the_gone_asked_is_settled)
{
	int old = join(PROXY_FRONTEND, "DEALER", "id"), newer, worker;

	PUT(old, "\0\1x");
	newer = join(PROXY_FRONTEND, "DEALER", "id");
	close(old);
	settle();
	ck_assert_uint_eq(proxy->side[PROXY_FRONTEND].connections, 1);
	ck_assert_uint_eq(holder_of("id")->outstanding, 1);
	worker = join(PROXY_BACKEND, "REP", NULL);
	ck_assert_uint_eq(holder_of("id")->outstanding, 0);
	close(newer);
	close(worker);
}
END_TEST

/* A reply that its client cannot take is the answer all the same. */
START_TEST(a_dropped_reply_is_settled)
{
	int client = join(PROXY_FRONTEND, "REQ", "id"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);

	PUT(client, "\1\0\0\1x");
	ck_assert_uint_eq(holder_of("id")->outstanding, 1);
	PUT(worker, "\1\2id\0\1y");
	expect_nothing(client);
	ck_assert_uint_eq(proxy->counters[PROXY_FRONTEND].dropped[DROP_MALFORMED], 1);
	ck_assert_uint_eq(holder_of("id")->outstanding, 0);
	close(client);
	close(worker);
}
END_TEST

/* --- requests in flight --------------------------------------------------- */

static void
track(bool redeliver, int64_t max_outstanding, int64_t answer_timeout)
{
	struct side_opts *o = &proxy->opts[PROXY_BACKEND];

	o->redeliver = redeliver;
	o->max_outstanding = max_outstanding;
	o->answer_timeout = answer_timeout;
	o->redeliver_limit = 3;
	flight_configure(proxy);
	settle();
}

/* What a worker sends unasked settles nothing: the books know. */
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
	ck_assert_uint_eq(holder_of("id")->outstanding, 1);
	PUT(worker, "\1\2id\1\0\0\1y");
	ck_assert_uint_eq(holder_of("id")->outstanding, 0);
	close(client);
	close(worker);
	close(other);
}
END_TEST

/* Lets the loop run until so many workers are suspect. */
static void
wait_for_suspects(uint64_t count)
{
	for (int i = 0; i < 100000 && proxy->counters[PROXY_BACKEND].suspects != count; i++)
		settle();
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].suspects, count);
}

enum { REPLIES = 7000, REPLY = 100, CHUNKS = 200 };

static struct {
	struct chunk *of[CHUNKS];
	size_t count, again;
} chunks;

static void
see_chunk(void *arg, struct chunk *chunk)
{
	(void)arg;
	ck_assert_uint_lt(chunks.count, CHUNKS);
	chunk->refs++; /* it is not used for anything else meanwhile */
	chunks.of[chunks.count++] = chunk;
}

static void
let_chunks_go(void)
{
	for (size_t i = 0; i < chunks.count; i++) {
		if (chunks.of[i]->refs == 1 && chunks.of[i]->counted)
			outq_uncount(&loop->env, chunks.of[i]);
		chunk_unref(&loop->env.pool, chunks.of[i]);
	}
}

static void
see_again(void *arg, struct chunk *chunk)
{
	(void)arg;
	for (size_t i = 0; i < chunks.count; i++)
		chunks.again += chunks.of[i] == chunk;
}

/* What an older client takes over comes in one step, as it lies, and without the PINGs in it. */
START_TEST(an_older_client_takes_over_without_the_pings)
{
	int client = join(PROXY_FRONTEND, "DEALER", "me"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL), next;
	struct conn *old = list_entry(proxy->side[PROXY_FRONTEND].conns.prev, struct conn, node);
	static char got[REPLIES * REPLY];
	char reply[4 + 3 + REPLY] = "\1\2me\1\0";
	uint32_t queued;
	ssize_t n;

	reply[6] = '\0';
	reply[7] = REPLY - 4;
	memset(reply + 8, 'x', sizeof(reply) - 8);
	for (int i = 0; i < REPLIES; i++) {
		ck_assert_int_eq(
			write(worker, reply, 4 + 2 + 2 + REPLY - 4), 4 + 2 + 2 + REPLY - 4);
		if (i % 100 == 0)
			settle();
	}
	settle();
	queued = old->out.messages;
	ck_assert_uint_gt(queued, REPLIES / 2);
	ck_assert(outq_push_command(&old->out, &loop->env, (const uint8_t *)"\4\7\4PING\0\0", 9));
	chunks.count = chunks.again = 0;
	outq_each_chunk(&old->out, see_chunk, NULL);
	next = join(PROXY_FRONTEND, "DEALER", "me");
	ck_assert_uint_eq(proxy->counters[PROXY_FRONTEND].rerouted, queued);
	outq_each_chunk(&list_entry(proxy->side[PROXY_FRONTEND].conns.prev, struct conn, node)->out,
		see_again, NULL);
	ck_assert_uint_gt(chunks.again, chunks.count / 3); /* the others were written */
	let_chunks_go();
	while ((n = read(next, got, sizeof(got))) > 0) {
		ck_assert_ptr_null(memmem(got, (size_t)n, "PING", 4));
		settle();
	}
	ck_assert_uint_eq(proxy->counters[PROXY_FRONTEND].queued, 0);
	close(client);
	close(next);
	close(worker);
}
END_TEST

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

/* To one that is there already, and idle: nothing else has to happen first. */
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

/* redeliver_limit workers, not one more and not one less. */
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

/* What it had behind the request that kills it is not to blame, however often that happens. */
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

/* Late, and the first: it passes, and the request is not given to anybody else. */
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
	proxy->opts[PROXY_BACKEND].answer_timeout = HOUR_MS;
	PUT(client, "\1\0\0\1b"); /* on trial, or when the answer came */
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

/* A reply cannot answer what its worker did not get yet. */
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

/* A shorter answer_timeout holds for a worker that has nothing to do just now, too. */
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

/* Options that came when it held requests already: the answer to one of those counts as well. */
START_TEST(a_suspect_returns_with_an_older_answer)
{
	int client = join(PROXY_FRONTEND, "DEALER", "me"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);

	PUT(client, "\1\1o\1\0\0\1a");
	track(true, 0, 1);
	PUT(client, "\1\1n\1\0\0\1b");
	wait_for_suspects(1);
	proxy->opts[PROXY_BACKEND].answer_timeout = HOUR_MS;
	PUT(worker, "\1\2me\1\1o\1\0\0\1A");
	EXPECT(client, "\1\1o\1\0\0\1A");
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].suspects, 0);
	close(client);
	close(worker);
}
END_TEST

/* All that it held was taken back before it left: it has nothing to answer, but room some day. */
START_TEST(a_suspect_without_requests_returns_with_room)
{
	static char request[2000] = {1, 0, 2, 0, 0, 0, 0, 0, 0, 0x07, 0xc5}, sink[65536];
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	struct conn *conn;
	int client, worker;

	proxy->opts[PROXY_BACKEND].send_timeout = 3600000;
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
	proxy->opts[PROXY_BACKEND].answer_timeout = HOUR_MS;
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

/* Slot 0 is nobody's, whatever lay in the memory that the table came from. */
/* The connection that joined last on this side. */
static struct conn *
last_conn(int side)
{
	return list_entry(proxy->side[side].conns.prev, struct conn, node);
}

/* --- requests by the thousand that change hands --------------------------- */

enum { MANY = 600, SIDE_UNITS = 60, SLICE = SIDE_UNITS / BUDGET_MESSAGE + 1 };

static uint64_t
in_the_books(void)
{
	return proxy->inflight.count;
}

static uint64_t
waiting_again(void)
{
	return proxy->inflight.again_count;
}

static uint64_t
held_by_workers(void)
{
	uint64_t sum = 0;

	list_each(node, tmp, &proxy->side[PROXY_BACKEND].conns) {
		const struct peer *worker = list_entry(node, struct conn, node)->peer;
		sum += worker != NULL ? worker->outstanding : 0;
	}
	return sum;
}

/* What the last worker holds is past answer_timeout, an hour, and a trial of it is as far away. */
static void
be_late(void)
{
	struct holder *h = ((struct peer *)last_conn(PROXY_BACKEND)->peer)->holder;

	ck_assert_int_eq(proxy->opts[PROXY_BACKEND].answer_timeout, HOUR_MS);
	list_each(node, tmp, &h->held)
		list_entry(node, struct delivery, node)->given -= 2 * HOUR_MS;
	timer_set(&h->timer, 1);
}

/* The one that joined before all others. */
static uint64_t
held_by_first(void)
{
	const struct list *conns = &proxy->side[PROXY_BACKEND].conns;
	const struct peer *worker = list_entry(conns->next, struct conn, node)->peer;

	return conns->next != conns->prev && worker != NULL ? worker->outstanding : 0;
}

static void
stop_cb(struct task *task)
{
	(void)task;
	loop_stop(loop);
}

static void
one_turn(void)
{
	struct task task;

	task_init(&task, stop_cb);
	loop->stopping = false;
	loop_defer(loop, LOOP_LOOK, &task);
	loop_run(loop);
	ck_assert_ptr_null(proxy_check(proxy));
}

/*
 * Turn by turn until there are `rest`: in none of them more than a slice at the end, and one
 * before.
 */
static void
expect_slices(uint64_t (*left)(void), uint64_t rest)
{
	uint64_t before = left(), now;

	for (int turns = 0; before > rest; turns++, before = now) {
		ck_assert_int_lt(turns, 100000); /* the first ones wait for a timer */
		one_turn();
		now = left();
		ck_assert_uint_le(before - now, 2 * SLICE);
	}
	one_turn();
	ck_assert_uint_eq(left(), rest);
}

/* A client that asks MANY requests, and a worker that has all of them. */
static void
ask_much(int *client, int *worker)
{
	char bytes[MANY][6], got[MANY * 10 + 1];

	if (!proxy->tracking)
		track(true, 0, HOUR_MS);
	*client = join(PROXY_FRONTEND, "DEALER", "me");
	if (*worker < 0)
		*worker = join(PROXY_BACKEND, "DEALER", NULL);
	for (int i = 0; i < MANY; i++)
		memcpy(bytes[i], (char[]){1, 0, 0, 2, (char)(i >> 8), (char)i}, 6);
	put(*client, bytes[0], sizeof(bytes));
	ck_assert_int_eq(read(*worker, got, sizeof(got)), MANY * 10);
	ck_assert_uint_ge(proxy->inflight.count, MANY);
	loop->limits.side = SIDE_UNITS;
}

/* The worker gets so many requests, in order. */
static void
expect_many(int worker, int count)
{
	char got[(MANY + 1) * 10 + 1];

	for (int i = 0; i < 100 && proxy->counters[PROXY_BACKEND].redelivered < MANY; i++)
		one_turn();
	settle();
	ck_assert_int_eq(read(worker, got, sizeof(got)), count * 10);
	for (int i = 0; i < count; i++)
		ck_assert_mem_eq(&got[i * 10],
			((char[]){1, 2, 'm', 'e', 1, 0, 0, 2, (char)(i >> 8), (char)i}), 10);
}

START_TEST(a_worker_that_closes_is_taken_from_in_slices)
{
	int client, worker = -1, next;

	ask_much(&client, &worker);
	next = join(PROXY_BACKEND, "DEALER", NULL);
	close(worker);
	one_turn();
	one_turn();
	ck_assert_uint_gt(proxy->inflight.returns, 0);
	/* it comes while there is more: it does not overtake */
	ck_assert_int_eq(write(client, (char[]){1, 0, 0, 2, MANY >> 8, (char)MANY}, 6), 6);
	expect_slices(held_by_first, 0);
	expect_many(next, MANY + 1);
	ck_assert_uint_eq(proxy->inflight.returns, 0);
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].redelivered, MANY);
	close(client);
	close(next);
}
END_TEST

START_TEST(a_worker_that_is_late_is_taken_from_in_slices)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	int client, worker = -1;

	ask_much(&client, &worker);
	be_late();
	expect_slices(held_by_workers, 0);
	ck_assert_uint_eq(c->suspects, 1);
	ck_assert_uint_eq(proxy->inflight.again_count, MANY);
	PUT(worker, "\1\2me\1\0\0\2hi"); /* to the oldest: nobody else has to have it */
	EXPECT(client, "\1\0\0\2hi");
	ck_assert_uint_eq(c->outstanding, MANY - 1);
	close(client);
	close(worker);
}
END_TEST

/* In its queue: those are cut, and count as queued until they are with those that wait. */
START_TEST(a_queue_that_is_late_goes_in_slices)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	int client, worker, small = 1;
	char body[4 + 200] = {1, 0, 0, (char)200}, got[512];
	const struct conn *conn;
	uint64_t cut;

	track(true, 0, HOUR_MS);
	client = join(PROXY_FRONTEND, "DEALER", "me");
	worker = join(PROXY_BACKEND, "DEALER", NULL);
	conn = last_conn(PROXY_BACKEND);
	setsockopt(conn->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	for (int i = 0; i < MANY; i++)
		put(client, body, sizeof(body));
	cut = MANY - c->sent - (conn->out.bytes > conn->out.unsent); /* what is partly out stays */
	ck_assert_uint_gt(cut, MANY / 2);
	loop->limits.side = SIDE_UNITS;
	be_late();
	expect_slices(held_by_workers, MANY - c->sent - cut);
	ck_assert_uint_eq(proxy->inflight.never_sent, cut);
	ck_assert_uint_eq(c->rerouted, cut);
	while (read(worker, got, sizeof(got)) > 0)
		;
	close(worker);
	settle();
	close(client);
}
END_TEST

START_TEST(replies_are_forgotten_in_slices)
{
	struct side_opts o;
	int client, worker = -1;

	ask_much(&client, &worker);
	o = proxy->opts[PROXY_BACKEND];
	o.replies = false;
	proxy_set_opts(proxy, &proxy->opts[PROXY_FRONTEND], &o);
	ck_assert_uint_ge(proxy->inflight.count, MANY - SLICE);
	expect_slices(in_the_books, 0);
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].outstanding, 0);
	ck_assert_uint_eq(held_by_workers(), 0);
	ck_assert(!proxy->tracking);
	PUT(client, "\1\0\0\2hi");
	EXPECT(worker, "\1\2me\1\0\0\2hi");
	close(client);
	close(worker);
}
END_TEST

START_TEST(what_nobody_waits_for_is_dropped_in_slices)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	int first, client, worker, slices = 1;

	track(true, 0, HOUR_MS);
	first = join(PROXY_FRONTEND, "DEALER", "yo");
	worker = join(PROXY_BACKEND, "DEALER", NULL);
	PUT(first, "\1\0\0\1a");
	EXPECT(worker, "\1\2yo\1\0\0\1a");
	ask_much(&client, &worker);
	close(worker);
	expect_slices(in_the_books, 0);
	ck_assert_uint_eq(proxy->inflight.again_count, MANY + 1);
	if (_i == 0) {
		/* a client leaves while the proxy drains, and another one's request waits before */
		proxy_drain(proxy);
		close(client);
		expect_slices(waiting_again, 1);
		ck_assert_uint_eq(c->dropped[DROP_PEER_GONE], MANY);
		ck_assert(!proxy_is_drained(proxy));
		close(first);
		settle();
		ck_assert(proxy_is_drained(proxy));
		return;
	}
	close(first);
	for (; !proxy_drop_waiting(proxy); slices++)
		ck_assert_ptr_null(proxy_check(proxy));
	ck_assert_int_eq(slices, (MANY + 1 + SLICE - 1) / SLICE);
	ck_assert_uint_eq(c->outstanding, 0);
	close(client);
}
END_TEST

/* --- ... where requests are only counted ---------------------------------- */

enum { SMALL_BODY = 40, SMALL = 4 + SMALL_BODY };

/* What is queued for the worker that joined before all others. */
static uint64_t
queued_for_first(void)
{
	const struct conn *conn =
		list_entry(proxy->side[PROXY_BACKEND].conns.next, struct conn, node);

	return conn->out.messages;
}

/* So it is numbered from the first one on. */
static void
small_request(char bytes[SMALL], int i)
{
	memset(bytes, 0, SMALL);
	memcpy(bytes, (char[]){1, 0, 0, SMALL_BODY, (char)(i >> 8), (char)i}, 6);
}

/*
 * Most of MANY requests are queued for a REP, and one of those after every hundredth is none that
 * it answers, so that they have to be looked at. Returns how many those are.
 */
static int
ask_a_rep(int *client, int *worker)
{
	char request[SMALL];
	int small = 1, none = 0;

	*client = join(PROXY_FRONTEND, "DEALER", "me");
	*worker = join(PROXY_BACKEND, "REP", NULL);
	setsockopt(last_conn(PROXY_BACKEND)->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	for (int i = 0; i < MANY; i++) {
		small_request(request, i);
		put(*client, request, sizeof(request));
		if (i % 100 != 99)
			continue;
		PUT(*client, "\0\1x");
		none++;
	}
	ck_assert(!proxy->tracking);
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].outstanding, MANY);
	ck_assert_uint_gt(queued_for_first(), MANY / 2);
	loop->limits.side = SIDE_UNITS;
	return none;
}

/* What comes to the worker, each once. `ordered`: in order. Returns how many that are. */
static uint64_t
read_small(int worker, bool *had, bool ordered)
{
	static char got[MANY * (4 + SMALL) * 2];
	size_t len = 0;
	ssize_t n;
	int last = -1;
	uint64_t count = 0;

	while ((n = read(worker, got + len, sizeof(got) - len)) > 0) {
		len += (size_t)n;
		settle();
	}
	for (const char *p = got; p < got + len; p += 4 + (p[4] == 0 ? 3 : SMALL)) {
		int number = (uint8_t)p[8] << 8 | (uint8_t)p[9];

		ck_assert_mem_eq(p, "\1\2me", 4);
		if (p[4] == 0)
			continue;
		ck_assert(!ordered || number > last);
		ck_assert(!had[number]);
		had[number] = true;
		last = number;
		count++;
	}
	return count;
}

START_TEST(without_books_a_queue_is_looked_through_in_slices)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	int client, worker, next, none = ask_a_rep(&client, &worker);
	bool had[MANY + 1] = {false};
	uint64_t before = c->sent, queued = queued_for_first(), count;
	char request[SMALL];

	next = join(PROXY_BACKEND, "REP", NULL);
	close(worker);
	one_turn();
	one_turn();
	ck_assert_uint_gt(c->rerouted, 0);
	ck_assert_uint_le(c->rerouted, 3 * SLICE);
	flight_configure(proxy); /* a reload opens no books for that */
	ck_assert(!proxy->tracking);
	/* it comes while there is more: it does not overtake */
	small_request(request, MANY);
	ck_assert_int_eq(write(client, request, sizeof(request)), sizeof(request));
	expect_slices(queued_for_first, 0);
	settle();
	ck_assert_uint_eq(c->rerouted, queued);
	count = read_small(next, had, true);
	ck_assert(had[MANY]);
	ck_assert_uint_eq(c->sent, before + queued + 1);
	ck_assert_uint_lt(count, queued + 1);
	ck_assert_uint_ge(count, queued + 1 - (uint64_t)none);
	ck_assert_uint_eq(c->outstanding, count);
	ck_assert_uint_eq(held_by_workers(), count);
	ck_assert(!proxy->tracking);
	ck_assert_uint_eq(proxy->inflight.returns, 0);
	close(client);
	close(next);
}
END_TEST

/* It stalls, and takes messages again when a part of its queue went: the rest stays with it. */
START_TEST(without_books_a_queue_comes_back_half_way)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	int client, worker, next;
	bool had[MANY] = {false};
	uint64_t count, others;

	ask_a_rep(&client, &worker);
	next = join(PROXY_BACKEND, "REP", NULL);
	proxy->opts[PROXY_BACKEND].send_timeout = 1;
	side_opts_changed(&proxy->side[PROXY_BACKEND], &(struct side_opts){0});
	for (int i = 0; i < 100000 && c->rerouted == 0; i++)
		one_turn();
	ck_assert_uint_gt(c->rerouted, 0);
	ck_assert_uint_le(c->rerouted, 2 * SLICE);
	ck_assert_uint_eq(proxy->inflight.returns, 1);
	proxy->opts[PROXY_BACKEND].send_timeout = 0;
	side_opts_changed(&proxy->side[PROXY_BACKEND], &(struct side_opts){.send_timeout = 1});
	count = read_small(worker, had, false);
	ck_assert_uint_eq(proxy->inflight.returns, 0);
	ck_assert_uint_lt(c->rerouted, MANY / 2); /* the rest stayed */
	others = read_small(next, had, true);
	ck_assert_uint_gt(others, 0);
	ck_assert_uint_eq(count + others, MANY);
	ck_assert_uint_eq(c->outstanding, MANY);
	ck_assert_uint_eq(held_by_first(), count);
	close(client);
	close(worker);
	close(next);
}
END_TEST

/*
 * The books are opened while a queue is looked through: they are kept as if they had been there
 * before.
 */
START_TEST(books_are_opened_while_a_queue_is_looked_through)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	int client, worker, next;
	bool had[MANY] = {false};
	uint64_t queued, count;

	ask_a_rep(&client, &worker);
	queued = queued_for_first();
	next = join(PROXY_BACKEND, "REP", NULL);
	close(worker);
	one_turn();
	one_turn();
	ck_assert_uint_eq(proxy->inflight.returns, 1);
	proxy->opts[PROXY_BACKEND].redeliver = true;
	proxy->opts[PROXY_BACKEND].redeliver_limit = 3;
	flight_configure(proxy);
	expect_slices(queued_for_first, 0);
	settle();
	ck_assert_uint_eq(proxy->inflight.returns, 0);
	ck_assert_uint_eq(c->rerouted, queued);
	count = read_small(next, had, true);
	ck_assert(had[MANY - 1]);
	ck_assert_uint_eq(c->outstanding, count);
	ck_assert_uint_eq(in_the_books(), count);
	close(client);
	close(next);
}
END_TEST

START_TEST(router_slot_0)
{
	struct router r;
	struct peer *peer = peer_new(proxy, NULL, 0);
	void *old[7];
	uint8_t id[5] = {0};

	for (int i = 0; i < 7; i++) {
		old[i] = malloc(64 * sizeof(struct router_slot));
		memset(old[i], 0, 64 * sizeof(struct router_slot));
		memset(old[i], 1, sizeof(void *));
	}
	for (int i = 0; i < 7; i++)
		free(old[i]);
	router_init(&r);
	router_add(&r, peer, NULL, 0);
	for (unsigned generation = 0; generation < 4096; generation++) {
		id[1] = (uint8_t)(generation >> 4);
		id[2] = (uint8_t)(generation << 4);
		ck_assert_ptr_null(router_find(&r, id, 5));
	}
	router_remove(&r, peer);
	peer_free(peer);
	router_fini(&r);
}
END_TEST

START_TEST(router_ids)
{
	struct router r;
	struct peer *peers[100];
	uint8_t first[5];

	router_init(&r);
	for (int i = 0; i < 100; i++) {
		peers[i] = peer_new(proxy, NULL, 5);
		router_add(&r, peers[i], (const uint8_t *)"named", i == 50 ? 5 : 0);
	}
	for (int i = 0; i < 100; i++)
		ck_assert(router_find(&r, peer_id(peers[i]), peer_id_len(peers[i])) == peers[i]);
	ck_assert(router_find(&r, (const uint8_t *)"named", 5) == peers[50]);
	memcpy(first, peer_id(peers[0]), 5);
	router_remove(&r, peers[0]);
	ck_assert_ptr_null(router_find(&r, first, 5));
	router_add(&r, peers[0], NULL, 0); /* the slot again, but not the id */
	ck_assert_ptr_null(router_find(&r, first, 5));
	ck_assert_ptr_null(router_find(&r, (const uint8_t *)"\0\377\377\377\377", 5));
	ck_assert_ptr_null(router_find(&r, (const uint8_t *)"\0\0\0\0\0", 5));
	ck_assert_ptr_null(router_find(&r, (const uint8_t *)"\0\1", 2));
	for (int i = 0; i < 100; i++) {
		router_remove(&r, peers[i]);
		peer_free(peers[i]);
	}
	router_fini(&r);
}
END_TEST

/*
 * One client that comes and goes: a reply that is late by that much must not reach its successor.
 */
START_TEST(router_ids_come_back_late)
{
	struct router r;
	struct peer *peer = peer_new(proxy, NULL, 0);
	uint8_t first[5];

	router_init(&r);
	router_add(&r, peer, NULL, 0);
	memcpy(first, peer_id(peer), 5);
	for (int i = unit_repeat(100000, 10); i > 0; i--) {
		router_remove(&r, peer);
		ck_assert_ptr_null(router_find(&r, first, 5));
		router_add(&r, peer, NULL, 0);
		ck_assert_ptr_null(router_find(&r, first, 5));
	}
	router_remove(&r, peer);
	ck_assert_uint_le(r.count, 10000); /* and the table stays small */
	peer_free(peer);
	router_fini(&r);
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

START_TEST(a_paused_proxy_reads_no_requests)
{
	int client = join(PROXY_FRONTEND, "DEALER", "me"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);

	PUT(client, "\1\0\0\1a");
	EXPECT(worker, "\1\2me\1\0\0\1a");
	ck_assert_ptr_null(broker_pause(broker, "test", true));
	ck_assert_str_eq(broker_pause(broker, "test", true), "the proxy is paused already");
	ck_assert_str_eq(broker_pause(broker, "other", true),
		"there is no such proxy; bulkheadctl status shows their names");
	PUT(client, "\1\0\0\1b");
	expect_nothing(worker);
	PUT(worker, "\1\2me\1\0\0\1A");
	EXPECT(client, "\1\0\0\1A");
	ck_assert_ptr_null(broker_pause(broker, "test", false));
	settle();
	EXPECT(worker, "\1\2me\1\0\0\1b");
	close(client);
	close(worker);
}
END_TEST

enum { CROWD = 20, AT_ONCE = 3, CROWD_TURNS = 50 };

/* How many of the clients are held, or on their way out, looked at in every turn. */
static struct {
	struct task task;
	bool (*is)(const struct conn *conn);
	void (*go_on)(void);
	unsigned held, target, most, turns; /* most: that changed in one turn */
	bool fewer, timed;                  /* timed: turns pass until a timer goes off */
} crowd;

static bool
is_held(const struct conn *conn)
{
	return (conn->paused & CONN_HELD) != 0;
}

static bool
is_leaving(const struct conn *conn)
{
	return conn->state == CONN_LINGER;
}

static unsigned
count_held(void)
{
	unsigned held = 0;

	list_each(node, tmp, &proxy->side[PROXY_FRONTEND].conns)
		held += crowd.is(list_entry(node, struct conn, node));
	return held;
}

static void
crowd_task_cb(struct task *task)
{
	unsigned held = count_held(),
		 changed = held > crowd.held ? held - crowd.held : crowd.held - held;

	crowd.most = changed > crowd.most ? changed : crowd.most;
	crowd.held = held;
	crowd.turns += !crowd.timed;
	if ((crowd.fewer ? held <= crowd.target : held >= crowd.target) ||
		crowd.turns == CROWD_TURNS)
		loop_stop(loop);
	else
		loop_defer(loop, LOOP_RESUME, task);
	if (crowd.go_on != NULL)
		crowd.go_on();
}

static void
turn_until(bool (*is)(const struct conn *conn), void (*go_on)(void), unsigned target)
{
	task_init(&crowd.task, crowd_task_cb);
	crowd.is = is;
	crowd.go_on = go_on;
	crowd.held = count_held();
	crowd.target = target;
	crowd.fewer = target < crowd.held;
	crowd.most = crowd.turns = 0;
	loop->stopping = false;
	loop_defer(loop, LOOP_RESUME, &crowd.task);
	loop_run(loop);
	ck_assert_uint_lt(crowd.turns, CROWD_TURNS);
	ck_assert_uint_le(crowd.most,
		AT_ONCE + 2); /* the one that passes the limit; and who is about to be read */
}

static void
turn_until_held(unsigned target)
{
	turn_until(is_held, NULL, target);
}

static void
make_crowd(int *clients)
{
	char name[] = "a";

	for (int i = 0; i < CROWD; i++, name[0]++)
		clients[i] = join(PROXY_FRONTEND, "DEALER", name);
}

static void
close_crowd(const int *clients)
{
	for (int i = 0; i < CROWD; i++)
		close(clients[i]);
}

/* Thousands are held, and let go, in slices; but none of them is read from the first moment on. */
START_TEST(a_crowd_is_paused_in_slices)
{
	int clients[CROWD], worker = join(PROXY_BACKEND, "DEALER", NULL);
	char byte;

	make_crowd(clients);
	loop->limits.side = AT_ONCE * BUDGET_PAUSE;
	ck_assert_ptr_null(broker_pause(broker, "test", true));
	ck_assert_int_eq(write(clients[CROWD - 1], "\1\0\0\1x", 5), 5);
	turn_until_held(CROWD);
	for (int i = 0; i < CROWD - 1; i++)
		ck_assert_int_eq(write(clients[i], "\1\0\0\1x", 5), 5);
	settle();
	expect_nothing(worker);
	ck_assert_ptr_null(broker_pause(broker, "test", false));
	close(clients[0]); /* its turn is next */
	turn_until_held(0);
	settle();
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].received, CROWD);
	while (read(worker, &byte, 1) > 0)
		;
	for (int i = 1; i < CROWD; i++)
		close(clients[i]);
	close(worker);
}
END_TEST

/* It comes back before all of it was paused; nobody is left behind, whoever ends meanwhile. */
START_TEST(a_pause_is_taken_back_half_way)
{
	int clients[CROWD], worker = join(PROXY_BACKEND, "DEALER", NULL);
	char byte;

	make_crowd(clients);
	loop->limits.side = AT_ONCE * BUDGET_PAUSE;
	ck_assert_ptr_null(broker_pause(broker, "test", true));
	turn_until_held(2 * AT_ONCE);
	conn_close(list_entry(proxy->side[PROXY_FRONTEND].next_pausing, struct conn, node),
		CLOSE_ADMIN, NULL);
	ck_assert_ptr_null(broker_pause(broker, "test", false));
	turn_until_held(AT_ONCE);
	conn_close(list_entry(proxy->side[PROXY_FRONTEND].next_pausing, struct conn, node),
		CLOSE_ADMIN, NULL);
	turn_until_held(0);
	for (int i = 0; i < CROWD; i++)
		(void)!send(clients[i], "\1\0\0\1x", 5, MSG_NOSIGNAL);
	settle();
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].received, CROWD - 2);
	while (read(worker, &byte, 1) > 0)
		;
	close_crowd(clients);
	close(worker);
}
END_TEST

static bool
has_new_options(const struct conn *conn)
{
	return conn->timer.due <= conn->last_in + conn->side->opts->heartbeat_interval;
}

/*
 * It costs system calls; whoever ends meanwhile, and one change after another, leaves nobody
 * behind.
 */
START_TEST(a_crowd_is_given_options_in_slices)
{
	struct side_opts frontend = proxy->opts[PROXY_FRONTEND],
			 backend = proxy->opts[PROXY_BACKEND];
	int clients[CROWD];
	char name[] = "a";

	minor = 1; /* older ones are sent no PINGs */
	for (int i = 0; i < CROWD; i++, name[0]++)
		clients[i] = join(PROXY_FRONTEND, "DEALER", name);
	loop->limits.side = AT_ONCE * BUDGET_CHANGE;
	frontend.heartbeat_interval = 5000;
	proxy_set_opts(proxy, &frontend, &backend);
	turn_until(has_new_options, NULL, 2 * AT_ONCE);
	conn_close(list_entry(proxy->side[PROXY_FRONTEND].next_changing, struct conn, node),
		CLOSE_ADMIN, NULL);
	turn_until(has_new_options, NULL, CROWD - 1);
	frontend.heartbeat_interval = 4000;
	proxy_set_opts(proxy, &frontend, &backend);
	turn_until(has_new_options, NULL, 2 * AT_ONCE);
	frontend.heartbeat_interval = 3000;
	proxy_set_opts(proxy, &frontend, &backend);
	turn_until(has_new_options, NULL, CROWD - 1);
	for (int i = 0; i < CROWD; i++)
		close(clients[i]);
}
END_TEST

static void
close_some_cb(void)
{
	proxy_close_some(proxy, PROXY_FRONTEND);
}

static bool
was_read(const struct conn *conn)
{
	return conn->messages_in > 0;
}

/*
 * Each sends little, but of that as many messages as can be, which cost more with books; then one
 * with a single message is cheap.
 */
START_TEST(a_dense_crowd_is_read_in_slices)
{
	enum { DENSE = 250, ONE = 500 };
	int clients[CROWD], worker = join(PROXY_BACKEND, "DEALER", NULL);
	char empty[2 * DENSE] = "", one[ONE] = "\2\0\0\0\0\0\0\1",
		       sink[4096]; /* 500 - 9 bytes follow */

	if (_i == 1)
		track(false, INT64_MAX, 0);
	one[8] = (char)(ONE - 9 - 256);
	make_crowd(clients);
	loop->limits = BUDGET_LIMITS;
	loop->limits.side =
		AT_ONCE * DENSE * (_i == 0 ? BUDGET_MESSAGE : BUDGET_MESSAGE + BUDGET_BOOKS);
	for (int i = 0; i < CROWD; i++)
		ck_assert_int_eq(write(clients[i], empty, sizeof(empty)), sizeof(empty));
	turn_until(was_read, NULL, CROWD);
	settle();
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].received, CROWD * DENSE);
	while (read(worker, sink, sizeof(sink)) > 0)
		settle();
	close_crowd(clients);
	settle();

	make_crowd(clients);
	loop->limits = BUDGET_LIMITS;
	loop->limits.side = 1;
	for (int i = 0; i < CROWD; i++)
		ck_assert_int_eq(write(clients[i], one, sizeof(one)), sizeof(one));
	proxy->side[PROXY_FRONTEND].line.spent = 0; /* of an earlier turn */
	settle();
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].received, CROWD * DENSE + CROWD);
	ck_assert_uint_eq(proxy->side[PROXY_FRONTEND].line.spent, 0);
	while (read(worker, sink, sizeof(sink)) > 0)
		settle();
	close_crowd(clients);
	close(worker);
}
END_TEST

START_TEST(a_crowd_is_closed_in_slices)
{
	int clients[CROWD];

	make_crowd(clients);
	loop->limits.side = loop->limits.turn = AT_ONCE * BUDGET_END;
	turn_until(is_leaving, close_some_cb, CROWD);
	ck_assert(!proxy_close_some(proxy, PROXY_FRONTEND));
	close_crowd(clients);
}
END_TEST

/* Those that have nothing to wait for; what others have to write does not wait for all of them. */
START_TEST(a_crowd_leaves_in_slices)
{
	int clients[CROWD], worker = join(PROXY_BACKEND, "DEALER", NULL);

	make_crowd(clients);
	loop->limits.side = loop->limits.turn = AT_ONCE * BUDGET_END;
	list_each(node, tmp, &proxy->side[PROXY_FRONTEND].conns)
		conn_leave(list_entry(node, struct conn, node), CLOSE_ADMIN, NULL, false);
	ck_assert_int_eq(write(clients[CROWD - 1], "\1\0\0\1x", 5), 5);
	crowd.timed = true;
	turn_until(is_leaving, NULL, 2 * AT_ONCE);
	ck_assert_uint_gt(crowd.most, 1);
	EXPECT(worker, "\1\1t\1\0\0\1x");
	turn_until(is_leaving, NULL, CROWD);
	close_crowd(clients);
	close(worker);
}
END_TEST

/*
 * Threads of one program share a thread for I/O, which must not be given all their ends in one
 * moment.
 */
START_TEST(a_crowd_with_replies_leaves_one_by_one)
{
	int clients[CROWD], worker = join(PROXY_BACKEND, "DEALER", NULL);
	char replies[CROWD][8];

	make_crowd(clients);
	for (int i = 0; i < CROWD; i++) {
		memcpy(replies[i], "\1\1a\1\0\0\1x", sizeof(replies[i]));
		replies[i][2] = (char)('a' + i);
		PUT(clients[i], "\1\0\0\1x");
		expect(worker, replies[i], sizeof(replies[i]));
	}
	list_each(node, tmp, &proxy->side[PROXY_FRONTEND].conns)
		ck_assert_ptr_null(
			broker_drain_peer(broker, list_entry(node, struct conn, node)->id, 100000));
	ck_assert_int_eq(write(worker, replies, sizeof(replies)), sizeof(replies));
	crowd.timed = true;
	turn_until(is_leaving, NULL, CROWD);
	ck_assert_uint_eq(crowd.most, 1);
	for (int i = 0; i < CROWD; i++)
		EXPECT(clients[i], "\1\0\0\1x");
	close_crowd(clients);
	close(worker);
}
END_TEST

/* It has no way to know that its end is due: what it asks until then is served. */
START_TEST(one_that_is_about_to_leave_may_ask)
{
	int client = join(PROXY_FRONTEND, "DEALER", "me"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);
	struct conn *conn = last_conn(PROXY_FRONTEND);
	struct peer *peer = conn->peer;

	ck_assert_ptr_null(broker_drain_peer(broker, conn->id, 100000));
	timer_stop(&proxy->leaving_timer); /* not now */
	peer->accept_until = loop_now(loop);
	ck_assert(!proxy_is_drained(proxy));
	PUT(client, "\1\0\0\1a");
	EXPECT(worker, "\1\2me\1\0\0\1a");
	peer->outstanding = 0;
	peer->accept_until = 0; /* but not for ever */
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
	ck_assert_str_eq(broker_drain_peer(broker, id, 1), "the peer is draining already");
	ck_assert_str_eq(broker_drain_peer(broker, 99, 1),
		"there is no such peer; bulkheadctl peers shows their ids");
	PUT(client, "\1\0\0\1b"); /* waits: nobody else is there */
	expect_nothing(first);
	PUT(first, "\1\2me\1\0\0\1A");
	EXPECT(client, "\1\0\0\1A");
	while (read(first, &byte, 1) != 0) /* its end comes by a timer */
		settle();
	close(first);
	settle();
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].closed_by[CLOSE_ADMIN], 1);
	ck_assert(list_empty(&proxy->leaving));
	first = join(PROXY_BACKEND, "DEALER", NULL); /* which swallows what waited */
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
	EXPECT(worker, "\1\2me\1\0\0\1b"); /* sent before it could know */
	PUT(worker, "\1\2me\1\0\0\1A");
	expect_nothing(client); /* the other reply is still to come */
	peer->accept_until = 0;
	PUT(client, "\1\0\0\1c");
	expect_nothing(worker);
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].dropped[DROP_SHUTDOWN], 1);
	close(client);
	settle();
	ck_assert_uint_eq(proxy->counters[PROXY_FRONTEND].dropped[DROP_PEER_GONE], 1);
	ck_assert(list_empty(&proxy->leaving));
	close(worker);
}
END_TEST

/* It lies there whole when the last reply goes out, and many reads are needed to take it in. */
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
	ck_assert_int_eq(read(client, got, sizeof(got)), 0); /* that was its last */
	close(client);
	close(worker);
}
END_TEST

#define DRAINING "\4\11\10DRAINING"
static const char hears[] = "\23X-Bulkhead-Draining\0\0\0\0011";
#define BYE "\4\4\3BYE"

/* Does the backend want those that it dials at once? */
static bool
workers_are_awaited(void)
{
	const struct side *workers = &proxy->side[PROXY_BACKEND];

	return workers->ops->is_awaited(workers);
}

/* Another Bulkhead that stops: what comes from now on goes to others, what it has it answers. */
START_TEST(a_worker_that_leaves_gets_nothing_new)
{
	int client = join(PROXY_FRONTEND, "DEALER", "me"),
	    first = join(PROXY_BACKEND, "ROUTER", NULL);
	int second;

	PUT(client, "\1\0\0\1a");
	EXPECT(first, "\1\2me\1\0\0\1a");
	PUT(first, DRAINING);
	EXPECT(first, BYE);
	PUT(first, DRAINING); /* once more is answered, and changes nothing */
	EXPECT(first, BYE);
	ck_assert(!workers_are_awaited());
	PUT(client, "\1\0\0\1b"); /* waits: nobody else is there */
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

/* A client that is another Bulkhead: nothing of it is lost, and no reply is held back. */
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
	peer->accept_until = 0;      /* this is for those that are not told */
	PUT(client, "\1\0\0\1c");
	EXPECT(worker, "\1\2me\1\0\0\1c"); /* sent before it could know */
	PUT(worker, "\1\2me\1\0\0\1B\1\2me\1\0\0\1C");
	EXPECT(client, "\1\0\0\1B\1\0\0\1C");
	ck_assert_int_eq(conn->state, CONN_READY); /* there may be more of them */
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

/* ... and when it does not, it is sent away all the same. BYE without being told is nothing. */
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
 * ... nor when it asks on and on: what comes when it has had the time to say BYE is not served,
 * unless it was held up by us.
 */
START_TEST(a_client_that_asks_on_is_not_served_for_ever)
{
	int client = join_with(PROXY_FRONTEND, "DEALER", "me", hears, sizeof(hears) - 1), worker;
	struct peer *peer = last_conn(PROXY_FRONTEND)->peer;
	const struct counters *c = &proxy->counters[PROXY_BACKEND];
	char byte;

	ck_assert_ptr_null(broker_drain_peer(broker, peer->conn->id, 100000));
	settle();
	EXPECT(client, DRAINING);
	PUT(client, "\1\0\0\1a"); /* waits: no worker is there */
	peer->told_since -= HOUR_MS;
	peer->accept_until = 0;
	proxy_drain_step(proxy);
	PUT(client, "\1\0\0\1b");
	ck_assert_uint_eq(c->queued, 2);
	worker = join(PROXY_BACKEND, "DEALER", NULL); /* which swallows both */
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
	ck_assert_int_eq(read(client, &byte, 1), 0); /* that was its last */
	close(client);
	close(worker);
}
END_TEST

/* --- rations -------------------------------------------------------------- */

#define ASK3(x) "\1\0\0\2" x "1\1\0\0\2" x "2\1\0\0\2" x "3"
#define GOT(id, x) "\1\2" id "\1\0\0\2" x
#define TAKEN(x) "\1\0\0\2" x

/* Memory is short, for as long as the test takes; nobody is spared for having waited for long. */
static void
begin_rations(void)
{
	ration_begin(proxy, 1000);
	proxy->ration.until = proxy->ration.spared = INT64_MAX / 2;
}

/*
 * One request at a time for whoever has taken nothing yet, in order; a reply brings the next one
 * on.
 */
START_TEST(newcomers_ask_one_at_a_time)
{
	int worker = join(PROXY_BACKEND, "DEALER", NULL), client;

	begin_rations();
	client = join(PROXY_FRONTEND, "DEALER", "me");
	PUT(client, ASK3("a"));
	EXPECT(worker, GOT("me", "a1"));
	ration_look(proxy, 1000);
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

/* The more replies it has taken, the more it may ask for at once. */
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
	for (int i = 0; i < 2; i++) { /* the second look comes too soon */
		ration_look(proxy, 1000);
		settle();
	}
}

/*
 * Workers that never answer: each second a client may go on by four times as many. When all is
 * over, by all.
 */
START_TEST(nobody_waits_for_its_ration_for_ever)
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
	ration_look(proxy, 1000);
	settle();
	EXPECT(worker, GOT("me", "c1") GOT("me", "c2") GOT("me", "c3"));
	ration_look(proxy, 1000);
	ck_assert(!proxy->ration.on);
	PUT(client, ASK3("d"));
	EXPECT(worker, GOT("me", "d1") GOT("me", "d2") GOT("me", "d3"));
	close(client);
	close(worker);
}
END_TEST

/* Replies lie there for it: it asks nothing more, be memory short or not any more. Others do. */
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
	ration_look(proxy, 1000);
	settle();
	expect_nothing(worker);
	PUT(other, ASK3("c"));
	EXPECT(worker, GOT("ot", "c1") GOT("ot", "c2") GOT("ot", "c3"));
	while (read(client, sink, sizeof(sink)) > 0)
		settle();
	ration_look(proxy, 1000);
	settle();
	EXPECT(worker, GOT("me", "b1") GOT("me", "b2") GOT("me", "b3"));
	ration_look(proxy, 1000);
	ck_assert(!proxy->ration.on);
	close(client);
	close(other);
	close(worker);
}
END_TEST

/* One that is sent away, and one that goes by itself: what they asked is passed on. */
START_TEST(who_leaves_is_not_rationed)
{
	int worker = join(PROXY_BACKEND, "DEALER", NULL),
	    client = join(PROXY_FRONTEND, "DEALER", "me");
	int other = join(PROXY_FRONTEND, "DEALER", "ot");

	begin_rations();
	PUT(client, ASK3("a"));
	EXPECT(worker, GOT("me", "a1"));
	ck_assert_ptr_null(broker_drain_peer(broker, holder_of("me")->conn->id, 100000));
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

UNIT_MAIN("proxy", tcase_add_checked_fixture(tc, setup, teardown),
	tcase_add_test(tc, request_and_reply),
	tcase_add_test(tc, requests_wait_for_a_worker_and_outlive_their_client),
	tcase_add_test(tc, round_robin), tcase_add_test(tc, replies_that_no_one_can_take),
	tcase_add_test(tc, a_worker_that_takes_nothing_gives_its_queue_back),
	tcase_add_test(tc, takeover_and_reject),
	tcase_add_test(tc, an_older_client_takes_over_without_the_pings),
	tcase_add_test(tc, loser_that_stays), tcase_add_test(tc, loser_that_leaves),
	tcase_add_test(tc, what_the_replaced_asked_is_settled),
	tcase_add_test(tc, what_the_gone_asked_is_settled),
	tcase_add_test(tc, a_dropped_reply_is_settled),
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
	tcase_add_test(tc, a_suspect_without_requests_returns_with_room),
	tcase_add_test(tc, a_worker_that_closes_is_taken_from_in_slices),
	tcase_add_test(tc, a_worker_that_is_late_is_taken_from_in_slices),
	tcase_add_test(tc, a_queue_that_is_late_goes_in_slices),
	tcase_add_test(tc, replies_are_forgotten_in_slices),
	tcase_add_loop_test(tc, what_nobody_waits_for_is_dropped_in_slices, 0, 2),
	tcase_add_test(tc, without_books_a_queue_is_looked_through_in_slices),
	tcase_add_test(tc, without_books_a_queue_comes_back_half_way),
	tcase_add_test(tc, books_are_opened_while_a_queue_is_looked_through),
	tcase_add_test(tc, router_slot_0), tcase_add_test(tc, router_ids),
	tcase_add_test(tc, router_ids_come_back_late),
	tcase_add_test(tc, work_put_off_does_not_wait_for_silence),
	tcase_add_test(tc, a_paused_proxy_reads_no_requests),
	tcase_add_test(tc, a_crowd_is_paused_in_slices),
	tcase_add_test(tc, a_pause_is_taken_back_half_way),
	tcase_add_test(tc, a_crowd_is_given_options_in_slices),
	tcase_add_loop_test(tc, a_dense_crowd_is_read_in_slices, 0, 2),
	tcase_add_test(tc, a_crowd_is_closed_in_slices),
	tcase_add_test(tc, a_crowd_leaves_in_slices),
	tcase_add_test(tc, a_crowd_with_replies_leaves_one_by_one),
	tcase_add_test(tc, one_that_is_about_to_leave_may_ask),
	tcase_add_test(tc, a_drained_worker_gets_nothing_new),
	tcase_add_test(tc, a_drained_client_may_leave_before_its_time),
	tcase_add_test(tc, a_request_that_came_in_time_is_read_to_its_end),
	tcase_add_test(tc, a_worker_that_leaves_gets_nothing_new),
	tcase_add_test(tc, a_client_that_was_told_says_bye),
	tcase_add_test(tc, a_client_that_asks_on_is_not_served_for_ever),
	tcase_add_test(tc, newcomers_ask_one_at_a_time),
	tcase_add_test(tc, who_takes_replies_may_ask_for_more),
	tcase_add_test(tc, nobody_waits_for_its_ration_for_ever),
	tcase_add_test(tc, who_does_not_take_replies_asks_nothing),
	tcase_add_test(tc, who_leaves_is_not_rationed),
	tcase_add_test(tc, a_client_that_says_no_bye_is_not_waited_for))
