/* SPDX-License-Identifier: MIT */
/*
 * Hundreds of requests that move between queues: no turn of the loop moves more than a slice.
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/pattern.h"
#include "broker/redeliver.h"
#include "world.h"

enum { MANY = 600, SIDE_UNITS = 60, SLICE = SIDE_UNITS / BUDGET_MESSAGE + 1 };

static uint64_t
in_the_books(void)
{
	return proxy->deliveries.count;
}

static uint64_t
waiting_again(void)
{
	return proxy->deliveries.requeued_count;
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

/* The last worker's requests are past answer_timeout, an hour; its trial is as far away. */
static void
be_late(void)
{
	struct ledger *h = ((struct peer *)last_conn(PROXY_BACKEND)->peer)->ledger;

	ck_assert_int_eq(proxy->opts[PROXY_BACKEND].queue.answer_timeout, HOUR_MS);
	list_each(node, tmp, &h->pending)
		list_entry(node, struct delivery, node)->given -= 2 * HOUR_MS;
	timer_set(&h->timer, 1);
}

/* The worker that joined first. */
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
	loop_defer(loop, LOOP_OBSERVE, &task);
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

/* A client that sends MANY requests, and a worker that has all of them. */
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
	ck_assert_uint_ge(proxy->deliveries.count, MANY);
	loop->limits.side = SIDE_UNITS;
}

/* The worker gets that many requests, in order. */
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
	ck_assert_uint_gt(proxy->deliveries.returns, 0);
	/* it comes while there is more: it does not overtake */
	ck_assert_int_eq(write(client, (char[]){1, 0, 0, 2, MANY >> 8, (char)MANY}, 6), 6);
	expect_slices(held_by_first, 0);
	expect_many(next, MANY + 1);
	ck_assert_uint_eq(proxy->deliveries.returns, 0);
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
	ck_assert_uint_eq(proxy->deliveries.requeued_count, MANY);
	PUT(worker, "\1\2me\1\0\0\2hi"); /* a reply to the oldest: it is not sent again */
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
	ck_assert_uint_eq(proxy->deliveries.never_sent, cut);
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
	struct proxy_opts o;
	int client, worker = -1;

	ask_much(&client, &worker);
	o = proxy->opts[PROXY_BACKEND];
	o.queue.replies = false;
	proxy_set_opts(proxy, &proxy->opts[PROXY_FRONTEND], &o);
	ck_assert_uint_ge(proxy->deliveries.count, MANY - SLICE);
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
	ck_assert_uint_eq(proxy->deliveries.requeued_count, MANY + 1);
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

enum { SMALL_BODY = 40, SMALL = 4 + SMALL_BODY };

/* The number of messages queued for the worker that joined first. */
static uint64_t
queued_for_first(void)
{
	const struct conn *conn =
		list_entry(proxy->side[PROXY_BACKEND].conns.next, struct conn, node);

	return conn->out.messages;
}

/* The `i`th request: its body begins with that number. */
static void
small_request(char bytes[SMALL], int i)
{
	memset(bytes, 0, SMALL);
	memcpy(bytes, (char[]){1, 0, 0, SMALL_BODY, (char)(i >> 8), (char)i}, 6);
}

/*
 * Most of MANY requests are queued for a REP, which does not answer every hundredth, so that they
 * must be examined. Returns the number of unanswerable ones.
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

/* Reads the worker's requests, each once; if `ordered`, in order. Returns their number. */
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
	proxy->pattern->configure(proxy); /* a reload starts no tracking for that */
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
	/* those that a REP discards are not waited for, wherever they go */
	ck_assert_uint_eq(client_called("me")->outstanding, MANY + 1);
	ck_assert(!proxy->tracking);
	ck_assert_uint_eq(proxy->deliveries.returns, 0);
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
	proxy->opts[PROXY_BACKEND].side.send_timeout = 1;
	side_opts_changed(&proxy->side[PROXY_BACKEND], &(struct side_opts){0});
	for (int i = 0; i < 100000 && c->rerouted == 0; i++)
		one_turn();
	ck_assert_uint_gt(c->rerouted, 0);
	ck_assert_uint_le(c->rerouted, 2 * SLICE);
	ck_assert_uint_eq(proxy->deliveries.returns, 1);
	proxy->opts[PROXY_BACKEND].side.send_timeout = 0;
	side_opts_changed(&proxy->side[PROXY_BACKEND], &(struct side_opts){.send_timeout = 1});
	count = read_small(worker, had, false);
	ck_assert_uint_eq(proxy->deliveries.returns, 0);
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
 * Tracking starts while a queue is examined: the ledgers are the same as if it had been on before.
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
	ck_assert_uint_eq(proxy->deliveries.returns, 1);
	proxy->opts[PROXY_BACKEND].queue.redeliver = true;
	proxy->opts[PROXY_BACKEND].queue.redeliver_limit = 3;
	proxy->pattern->configure(proxy);
	expect_slices(queued_for_first, 0);
	settle();
	ck_assert_uint_eq(proxy->deliveries.returns, 0);
	ck_assert_uint_eq(c->rerouted, queued);
	count = read_small(next, had, true);
	ck_assert(had[MANY - 1]);
	ck_assert_uint_eq(c->outstanding, count);
	ck_assert_uint_eq(in_the_books(), count);
	close(client);
	close(next);
}
END_TEST

UNIT_MAIN("requests_in_slices", tcase_add_checked_fixture(tc, world_begin, world_end),
	tcase_add_test(tc, a_worker_that_closes_is_taken_from_in_slices),
	tcase_add_test(tc, a_worker_that_is_late_is_taken_from_in_slices),
	tcase_add_test(tc, a_queue_that_is_late_goes_in_slices),
	tcase_add_test(tc, replies_are_forgotten_in_slices),
	tcase_add_loop_test(tc, what_nobody_waits_for_is_dropped_in_slices, 0, 2),
	tcase_add_test(tc, without_books_a_queue_is_looked_through_in_slices),
	tcase_add_test(tc, without_books_a_queue_comes_back_half_way),
	tcase_add_test(tc, books_are_opened_while_a_queue_is_looked_through))
