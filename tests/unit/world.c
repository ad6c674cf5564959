/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <sodium.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "broker/pattern.h"
#include "broker/redeliver.h"

struct loop *loop;
struct broker *broker;
struct proxy *proxy;
struct settle settling;
uint8_t minor;

void
world_begin_with(const struct proxy_opts *opts)
{
	minor = 0;
	ck_assert_int_ge(sodium_init(), 0);
	log_set_level(LOG_LEVEL_ERROR);
	loop = loop_new();
	ck_assert_ptr_nonnull(loop);
	broker = broker_new(loop, 1 << 30);
	proxy = proxy_new(loop, "test", opts, opts);
	broker_add(broker, proxy);
	settle_init(&settling, loop);
}

void
world_begin(void)
{
	world_begin_with(&(struct proxy_opts){.queue.replies = true,
		.side.handshake_timeout = 10000,
		.side.heartbeat_timeout = 10000,
		.side.connect_timeout = 10000,
		.side.receive_hwm_bytes = 1 << 20,
		.side.send_hwm_bytes = 1 << 20,
		.side.max_message_size = 1 << 20,
		.side.max_message_parts = 10,
		.queue.duplicate_routing_id = DUPLICATE_TAKEOVER});
}

void
settle(void)
{
	settle_loop(&settling);
	ck_assert_ptr_null(proxy_check(proxy));
}

void
world_end(void)
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

int
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

int
join(int side, const char *type, const char *id)
{
	return join_with(side, type, id, "", 0);
}

struct conn *
last_conn(int side)
{
	return list_entry(proxy->side[side].conns.prev, struct conn, node);
}

struct peer *
client_called(const char *id)
{
	return router_find(&proxy->router, (const uint8_t *)id, strlen(id));
}

void
put(int fd, const char *bytes, size_t len)
{
	ck_assert_int_eq(write(fd, bytes, len), (ssize_t)len);
	settle();
}

void
expect(int fd, const char *bytes, size_t len)
{
	char got[512];

	ck_assert_int_eq(read(fd, got, sizeof(got)), (ssize_t)len);
	ck_assert_mem_eq(got, bytes, len);
}

void
expect_nothing(int fd)
{
	char got[16];

	ck_assert_int_eq(read(fd, got, sizeof(got)), -1);
}

void
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

void
track(bool redeliver, int64_t max_outstanding, int64_t answer_timeout)
{
	struct proxy_opts *o = &proxy->opts[PROXY_BACKEND];

	o->queue.redeliver = redeliver;
	o->queue.max_outstanding = max_outstanding;
	o->queue.answer_timeout = answer_timeout;
	o->queue.redeliver_limit = 3;
	proxy->pattern->configure(proxy);
	settle();
}
