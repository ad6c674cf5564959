/* SPDX-License-Identifier: MIT */
/*
 * The heap that one idle connection takes, libevent's part and the allocator's
 * rounding included. The goal is 1 KiB, tables that grow to twice their size
 * and freed memory between the pieces included as well; so less than that here.
 */
#include <arpa/inet.h>
#include <malloc.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "broker/proxy.h"
#include "net/conn.h"
#include "settle.h"
#include "unit.h"

enum {
	PEERS = 400,
	BYTES_EACH = 976 /* raise it only on purpose: 10,000 connections cost 10,000 times that */
};

#define REQUEST "\1\0\0\100aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd"
#define REQUEST_LEN (sizeof(REQUEST) - 1)
#define ENVELOPE_LEN 7 /* with a generated id */

static struct loop *loop;
static struct proxy *proxy;
static struct settle settling;
static int clients[PEERS];

static void
settle(void)
{
	settle_loop(&settling);
	ck_assert_ptr_null(proxy_check(proxy));
}

/* A raw peer that sent its part of the handshake. */
static int
join(int side, uint16_t port)
{
	static const uint8_t hello[] =
		"\377\0\0\0\0\0\0\0\0\177\3\0NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
		"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
		"\4\34\5READY\13Socket-Type\0\0\0\6DEALER";
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fds[2];

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	conn_accept(&proxy->side[side], fds[0], (struct sockaddr *)&addr, sizeof(addr));
	ck_assert_int_eq(write(fds[1], hello, sizeof(hello) - 1), (ssize_t)sizeof(hello) - 1);
	return fds[1];
}

static size_t
swallow(int fd, char *out, size_t size)
{
	ssize_t n = read(fd, out, size);

	ck_assert_int_gt(n, 0);
	return (size_t)n;
}

/* The heap in use, without the chunks that wait in the pool. */
static size_t
heap_in_use(void)
{
	chunk_pool_fini(&loop->env.pool);
	return mallinfo2().uordblks;
}

START_TEST(idle_connections_are_small)
{
	struct proxy_opts o = {.queue.replies = true,
		.side.handshake_timeout = 10000,
		.side.heartbeat_interval = 10000,
		.side.heartbeat_timeout = 10000,
		.side.receive_hwm_bytes = 1 << 20,
		.side.send_hwm_bytes = 1 << 20,
		.side.max_message_size = 1 << 20,
		.side.max_message_parts = 10};
	static char buf[PEERS * (ENVELOPE_LEN + REQUEST_LEN)];
	size_t empty, idle, after;
	int worker;

	ck_assert_int_ge(sodium_init(), 0);
	log_set_level(LOG_LEVEL_ERROR);
	loop = loop_new();
	loop->env.memory.limit = 1 << 30;
	proxy = proxy_new(loop, "test", &o, &o);
	settle_init(&settling, loop);
	worker = join(PROXY_BACKEND, 1024);
	settle();
	swallow(worker, buf, sizeof(buf));

	empty = heap_in_use();
	for (int i = 0; i < PEERS; i++)
		clients[i] = join(PROXY_FRONTEND, (uint16_t)(40000 + i));
	settle();
	for (int i = 0; i < PEERS; i++)
		swallow(clients[i], buf, sizeof(buf));
	idle = heap_in_use();
	ck_assert_uint_eq(proxy->side[PROXY_FRONTEND].connections, PEERS);
	ck_assert_uint_eq(proxy->counters[PROXY_FRONTEND].peers, PEERS);

	for (int i = 0; i < PEERS; i++)
		ck_assert_int_eq(write(clients[i], REQUEST, REQUEST_LEN), (ssize_t)REQUEST_LEN);
	settle();
	ck_assert_uint_eq(swallow(worker, buf, sizeof(buf)), sizeof(buf));
	ck_assert_int_eq(write(worker, buf, sizeof(buf)), (ssize_t)sizeof(buf));
	settle();
	for (int i = 0; i < PEERS; i++)
		ck_assert_uint_eq(swallow(clients[i], buf, sizeof(buf)), REQUEST_LEN);
	after = heap_in_use();

	if (empty != 0) { /* 0: another allocator (a sanitizer's, valgrind's) does not report it */
		printf("%zu bytes for each idle connection, %zu after a message\n",
			(idle - empty) / PEERS, (after - empty) / PEERS);
		ck_assert_uint_gt(idle, empty);
		ck_assert_uint_le((idle - empty) / PEERS, BYTES_EACH);
		ck_assert_uint_le((after - empty) / PEERS, BYTES_EACH);
	}

	for (int i = 0; i < PEERS; i++)
		close(clients[i]);
	close(worker);
	proxy_close_side(proxy, PROXY_BACKEND, false);
	proxy_close_side(proxy, PROXY_FRONTEND, false);
	settle();
	timer_stop(&settling.timer);
	proxy_free(proxy);
	loop_free(loop);
}
END_TEST

UNIT_MAIN("footprint", tcase_add_test(tc, idle_connections_are_small))
