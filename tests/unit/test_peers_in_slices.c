/* SPDX-License-Identifier: MIT */
/*
 * Many peers that are paused, changed, read or closed at once: some of them in each turn of the
 * loop.
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "world.h"

enum { CROWD = 20, AT_ONCE = 3, CROWD_TURNS = 50 };

/* How many of the clients are held, or closing, counted in every turn. */
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
		AT_ONCE + 2); /* the one that passes the limit; and the one about to be read */
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

/* Thousands are paused, and resumed, in slices; but none of them is read from the start. */
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

/* It resumes before all were paused; none is left paused, whichever ends meanwhile. */
START_TEST(a_pause_is_undone_half_way)
{
	int clients[CROWD], worker = join(PROXY_BACKEND, "DEALER", NULL);
	char byte;

	make_crowd(clients);
	loop->limits.side = AT_ONCE * BUDGET_PAUSE;
	ck_assert_ptr_null(broker_pause(broker, "test", true));
	turn_until_held(2 * AT_ONCE);
	conn_close(list_entry(proxy->side[PROXY_FRONTEND].pausing.next, struct conn, node),
		CLOSE_ADMIN, NULL);
	ck_assert_ptr_null(broker_pause(broker, "test", false));
	turn_until_held(AT_ONCE);
	conn_close(list_entry(proxy->side[PROXY_FRONTEND].pausing.next, struct conn, node),
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
 * New options cost system calls; every client gets them, even if others end meanwhile, or a change
 * follows another.
 */
START_TEST(a_crowd_is_given_options_in_slices)
{
	struct proxy_opts frontend = proxy->opts[PROXY_FRONTEND],
			  backend = proxy->opts[PROXY_BACKEND];
	int clients[CROWD];
	char name[] = "a";

	minor = 1; /* older ones are sent no PINGs */
	for (int i = 0; i < CROWD; i++, name[0]++)
		clients[i] = join(PROXY_FRONTEND, "DEALER", name);
	loop->limits.side = AT_ONCE * BUDGET_CHANGE;
	frontend.side.heartbeat_interval = 5000;
	proxy_set_opts(proxy, &frontend, &backend);
	turn_until(has_new_options, NULL, 2 * AT_ONCE);
	conn_close(list_entry(proxy->side[PROXY_FRONTEND].changing.next, struct conn, node),
		CLOSE_ADMIN, NULL);
	turn_until(has_new_options, NULL, CROWD - 1);
	frontend.side.heartbeat_interval = 4000;
	proxy_set_opts(proxy, &frontend, &backend);
	turn_until(has_new_options, NULL, 2 * AT_ONCE);
	frontend.side.heartbeat_interval = 3000;
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
		AT_ONCE * DENSE * (_i == 0 ? BUDGET_MESSAGE : BUDGET_MESSAGE + BUDGET_TRACK);
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

/* Clients without pending requests are closed; other writes do not wait for all of them. */
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
 * Threads of one program share an I/O thread, which must not get all their ends in one moment.
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

UNIT_MAIN("peers_in_slices", tcase_add_checked_fixture(tc, world_begin, world_end),
	tcase_add_test(tc, a_crowd_is_paused_in_slices),
	tcase_add_test(tc, a_pause_is_undone_half_way),
	tcase_add_test(tc, a_crowd_is_given_options_in_slices),
	tcase_add_loop_test(tc, a_dense_crowd_is_read_in_slices, 0, 2),
	tcase_add_test(tc, a_crowd_is_closed_in_slices),
	tcase_add_test(tc, a_crowd_leaves_in_slices),
	tcase_add_test(tc, a_crowd_with_replies_leaves_one_by_one))
