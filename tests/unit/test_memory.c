/* SPDX-License-Identifier: MIT */
/*
 * The memory limit, check by check: which peer is held back, which has its turn, which is closed.
 * Raw peers on socket pairs fill the memory while there is no limit; then there is one, and the
 * test sets the time: no turn of the loop comes between.
 */
#include <unistd.h>

#include "broker/broker_impl.h"
#include "net/conn_impl.h"
#include "world.h"

enum { LARGE = 300000, MOST = 250000, SMALL = 2000, MORE = 5000, PEERS = 8 };

static struct side *side;
static int fds[PEERS];
static unsigned count;

static void
setup(void)
{
	world_begin_with(&(struct proxy_opts){.queue.replies = true,
		.side.handshake_timeout = 10000,
		.side.connect_timeout = 10000,
		.side.receive_hwm_bytes = 1 << 22,
		.side.send_hwm_bytes = 1 << 22,
		.side.max_message_size = 1 << 20,
		.side.max_message_parts = 10});
	side = &proxy->side[PROXY_FRONTEND];
	count = 0;
}

static void
teardown(void)
{
	loop_read_clock(loop); /* the loop sets the time again */
	world_end();
	for (unsigned i = 0; i < count; i++)
		close(fds[i]);
}

/* Writes all of it, and lets the loop read as much as it may. */
static void
put_all(int fd, const uint8_t *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		ck_assert_int_gt(n, 0);
		bytes += n;
		len -= (size_t)n;
		settle_loop(&settling);
	}
}

/* A client in the middle of a message of `size` bytes: `sent` of them have been read. */
static struct conn *
client(size_t size, size_t sent)
{
	static const uint8_t body[LARGE];
	uint8_t header[9] = {2};
	int fd = join(PROXY_FRONTEND, "DEALER", NULL);

	fds[count++] = fd;
	for (int i = 0; i < 8; i++)
		header[1 + i] = (uint8_t)((uint64_t)size >> (56 - 8 * i));
	put_all(fd, header, sizeof(header));
	put_all(fd, body, sent);
	return last_conn(PROXY_FRONTEND);
}

/* Sends more, which is not read before the loop turns. */
static void
send_more(unsigned i, size_t bytes)
{
	static const uint8_t more[LARGE];

	ck_assert_int_eq(write(fds[i], more, bytes), (ssize_t)bytes);
}

static void
look_after(int64_t ms)
{
	loop->now_ms = loop_now(loop) + ms;
	loop->now_is_fresh = true;
	broker->memory.timer.run(&broker->memory.timer);
}

/* Sets a limit: that part of the memory in use. */
static void
begin_limit(unsigned percent)
{
	loop->env.memory.limit = loop->env.memory.used * percent / 100;
	look_after(0);
}

/* Two are in the middle of a message, and more of each can be read. */
static void
two_go_on(void)
{
	for (unsigned i = 0; i < 2; i++)
		client(LARGE, MOST);
	send_more(0, MORE);
	send_more(1, MORE);
}

START_TEST(large_ones_wait_and_small_ones_go_on)
{
	struct conn *large[4], *small;
	uint64_t before;

	for (int i = 0; i < 4; i++)
		large[i] = client(LARGE, MOST);
	small = client(SMALL, SMALL / 2);
	begin_limit(95);
	ck_assert(side->holds && !side->read_paused);
	for (int i = 0; i < 4; i++)
		ck_assert(!conn_wants_input(large[i]));
	ck_assert(conn_wants_input(small));
	before = large[0]->bytes_in;
	send_more(0, 1000);
	send_more(4, SMALL / 2);
	settle_loop(&settling);
	ck_assert_uint_eq(large[0]->bytes_in, before);
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].received, 1);
}
END_TEST

/* Others hold the memory permanently: a peer that stands still with little stays. */
START_TEST(next_to_nothing_is_not_blamed)
{
	struct conn *large, *small;

	client(60000, 60000);
	for (int i = 0; i < 12; i++)
		put_all(fds[0],
			(uint8_t[60009]){
				2, [6] = 60000 >> 16, [7] = 60000 >> 8 & 0xff, [8] = 60000 & 0xff},
			60009);
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].received, 13);
	small = client(SMALL, SMALL / 2);
	large = client(LARGE, MOST);
	begin_limit(80);
	look_after(1100);
	ck_assert_int_eq(large->state, CONN_CLOSED);
	ck_assert_int_eq(large->reason, CLOSE_OVER_LIMIT);
	ck_assert_int_eq(small->state, CONN_READY);
	ck_assert_uint_eq(side->in_state[CONN_CLOSED], 1);
}
END_TEST

/* There is no room for the rest of any message: the last one is closed, after a second. */
START_TEST(nobody_is_pressed_at_once)
{
	struct conn *last = NULL;

	for (unsigned i = 0; i < 4; i++)
		last = client(LARGE, MOST);
	proxy->opts[PROXY_FRONTEND].side.max_message_size = LARGE;
	for (unsigned i = 0; i < 4; i++)
		send_more(i, MORE);
	begin_limit(50);
	ck_assert_uint_eq(side->in_state[CONN_CLOSED], 0);
	look_after(600);
	ck_assert_uint_eq(side->in_state[CONN_CLOSED], 0);
	look_after(600);
	ck_assert_int_eq(last->state, CONN_CLOSED);
	ck_assert_str_eq(last->detail, "memory_limit has no room for the rest of its message");
	ck_assert_ptr_null(side->reading);
}
END_TEST

/* Another proxy keeps the memory filled: the one message of this proxy continues. */
START_TEST(one_message_of_each_side_always_fits)
{
	struct proxy_opts o = proxy->opts[PROXY_FRONTEND];
	struct proxy *other = proxy_new(loop, "other", &o, &o), *first = proxy;
	struct conn *conn;

	broker_add(broker, other);
	for (int i = 0; i < 3; i++) /* whole messages, which wait */
		client(LARGE, LARGE);
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].received, 3);
	proxy = other;
	side = &other->side[PROXY_FRONTEND];
	conn = client(LARGE, MOST);
	other->opts[PROXY_FRONTEND].side.max_message_size =
		1000; /* as if it were longer than the room */
	send_more(3, MORE);
	begin_limit(50);
	ck_assert(first->side[PROXY_FRONTEND].read_paused);
	ck_assert(side->holds);
	ck_assert_ptr_eq(side->reading, conn);
	loop_read_clock(loop);
	proxy_close_side(other, PROXY_FRONTEND, false);
	proxy = first;
	side = &first->side[PROXY_FRONTEND];
}
END_TEST

/*
 * They alone fill the memory, far over the limit, and their side is paused: one must continue, or
 * the side stays paused.
 */
START_TEST(one_goes_on_where_their_side_is_paused)
{
	two_go_on();
	side_pause(side, true);
	begin_limit(83);
	ck_assert(mem_account_far_over(&loop->env.memory));
	ck_assert(side->read_paused);
	ck_assert_ptr_nonnull(side->reading);
}
END_TEST

/* A peer that always sends more has a turn of a second; then the next peer's turn begins. */
START_TEST(a_turn_is_a_second_at_most)
{
	struct conn *first, *second;

	two_go_on();
	begin_limit(80);
	first = side->reading;
	ck_assert_ptr_nonnull(first);
	look_after(600);
	ck_assert_ptr_eq(side->reading, first);
	look_after(600);
	second = side->reading;
	ck_assert_ptr_nonnull(second);
	ck_assert_ptr_ne(second, first);
	look_after(1100);
	ck_assert_ptr_eq(side->reading, first);
	ck_assert_uint_eq(side->in_state[CONN_CLOSED], 0);
}
END_TEST

/* If all bytes of one were read and few more come, the next one's turn begins long before. */
START_TEST(who_is_slow_has_a_short_turn)
{
	struct conn *first;

	two_go_on();
	begin_limit(80);
	first = side->reading;
	first->bytes_in += MORE; /* as if it were read */
	ck_assert_int_gt(read(first->fd, (uint8_t[MORE]){0}, MORE), 0);
	look_after(300);
	ck_assert_ptr_nonnull(side->reading);
	ck_assert_ptr_ne(side->reading, first);
}
END_TEST

/*
 * The fast peer has just come; many slow peers came long before, and each has as many unread
 * bytes.
 */
START_TEST(who_sends_fast_need_not_wait_for_all)
{
	struct conn *fast = NULL;
	int turns = 0;

	for (unsigned i = 0; i < PEERS; i++)
		fast = client(LARGE, MOST);
	for (unsigned i = 0; i < PEERS; i++)
		send_more(i, MORE);
	begin_limit(80);
	look_after(10000);
	while (side->reading != fast) {
		fast->paused_since = loop_now(loop) + 1000;
		look_after(1100);
		ck_assert_int_lt(++turns, 4); /* one of each kind of choice */
	}
}
END_TEST

/* However fast others send and end: each one has its turn. */
START_TEST(nobody_waits_for_its_turn_indefinitely)
{
	struct conn *slow = client(LARGE, MOST - 100000);
	int turns = 0;

	for (unsigned i = 1; i < 5; i++)
		client(LARGE, MOST);
	send_more(0, MORE);
	for (unsigned i = 1; i < 5; i++)
		send_more(i, 9 * MORE);
	begin_limit(80);
	while (side->reading != slow) {
		look_after(1100);
		ck_assert_int_lt(++turns, 3 * 5);
	}
	ck_assert_uint_eq(side->in_state[CONN_CLOSED], 0);
}
END_TEST

/* A peer that ended its side is read to its end, except far over the limit. */
START_TEST(what_a_peer_left_is_read_up_to_the_limit)
{
	struct conn *conn = client(SMALL, SMALL / 2);
	uint64_t before = conn->bytes_in;

	conn_pause(conn, true);
	send_more(0, 100);
	conn_read(conn);
	ck_assert_uint_eq(conn->bytes_in, before);
	conn_set_hung_up(conn);
	loop->env.memory.limit = loop->env.memory.used;
	conn_read(conn);
	ck_assert_uint_eq(conn->bytes_in, before + 100);
	send_more(0, 100);
	loop->env.memory.limit = loop->env.memory.used / 2;
	conn_read(conn);
	ck_assert_uint_eq(conn->bytes_in, before + 100);
	ck_assert_int_eq(conn->state, CONN_CLOSED);
	ck_assert_int_eq(conn->reason, CLOSE_OVER_LIMIT);
	ck_assert_str_eq(
		conn->detail, "peer closed; memory_limit reached before its data was read");
}
END_TEST

UNIT_MAIN("memory", tcase_add_checked_fixture(tc, setup, teardown),
	  tcase_add_test(tc, large_ones_wait_and_small_ones_go_on),
	  tcase_add_test(tc, next_to_nothing_is_not_blamed),
	  tcase_add_test(tc, nobody_is_pressed_at_once),
	  tcase_add_test(tc, one_message_of_each_side_always_fits),
	  tcase_add_test(tc, one_goes_on_where_their_side_is_paused);
	  tcase_add_test(tc, a_turn_is_a_second_at_most),
	  tcase_add_test(tc, who_is_slow_has_a_short_turn),
	  tcase_add_test(tc, who_sends_fast_need_not_wait_for_all),
	  tcase_add_test(tc, nobody_waits_for_its_turn_indefinitely),
	  tcase_add_test(tc, what_a_peer_left_is_read_up_to_the_limit))
