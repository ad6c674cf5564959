/* SPDX-License-Identifier: MIT */
/*
 * The HTTP server at both of its doors, a Unix socket and a TCP port: what clients send, in pieces,
 * is answered at once, later or never; memory runs out when the input says so; a client leaves, or
 * shuts its half. Nobody is answered who has gone, every connection ends, and the next client is
 * served.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/hosts.h"
#include "admin/http.h"
#include "admin/pages.h"
#include "base/mem.h"
#include "fuzz.h"
#include "no_memory.h"

enum { DOORS = 2, WAITING_MAX = 64, TURNS = 4 };

static struct door {
	struct sockaddr_storage addr;
	socklen_t len;
} doors[DOORS];

static struct loop *loop;
static struct http_server *server;
static struct http_body *body;
static struct task busy;
static unsigned turns_left;
static struct http_request *waiting[WAITING_MAX];
static unsigned waiting_count;
static uint8_t how; /* they are answered: 0 at once, 1 later, 2 never */

/* --- the server's owner --------------------------------------------------- */

static void
reply(struct http_request *r)
{
	const struct request_head *q = http_request(r);
	const char *argument;
	bool ours = hosts_mean_us(q->host, http_local(r), "name", NULL);

	http_reply(r, page_find(q->path, &argument) != NULL && ours ? 200 : 404, TEXT_TYPE, body,
		q->minor == 0 ? "GET" : NULL, NULL);
}

static void
on_request(void *arg, struct http_request *r)
{
	(void)arg;
	if (how == 0) {
		reply(r);
		return;
	}
	assert(waiting_count < WAITING_MAX);
	waiting[waiting_count++] = r;
}

static void
forget(unsigned i)
{
	waiting[i] = waiting[--waiting_count];
}

static void
on_gone(void *arg, struct http_request *r)
{
	(void)arg;
	for (unsigned i = 0; i < waiting_count; i++) {
		if (waiting[i] == r) {
			forget(i);
			return;
		}
	}
	abort(); /* one that was answered, or never asked */
}

static void
on_accept_error(void *arg, int error)
{
	(void)arg, (void)error;
}

/* --- turns ---------------------------------------------------------------- */

static void
busy_cb(struct task *task)
{
	loop_defer(loop, LOOP_RESUME, task); /* no turn waits */
}

static void
on_turn(void *arg)
{
	(void)arg;
	if (--turns_left == 0)
		loop_stop(loop);
}

static void
turn(unsigned n)
{
	turns_left = n;
	loop->stopping = false;
	loop_run(loop);
}

static void
answer_those_that_wait(void)
{
	while (waiting_count > 0) {
		struct http_request *r = waiting[0];

		forget(0);
		reply(r);
	}
}

/* --- the outside ---------------------------------------------------------- */

static void
open_door(struct door *door, int family)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr un = {.sa_family = AF_UNIX};
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (family == AF_INET)
		assert(bind(fd, (struct sockaddr *)&in, sizeof(in)) == 0);
	else
		assert(bind(fd, &un, sizeof(un.sa_family)) == 0); /* any abstract name */
	assert(listen(fd, 64) == 0);
	door->len = sizeof(door->addr);
	assert(getsockname(fd, (struct sockaddr *)&door->addr, &door->len) == 0);
	assert(http_listen(server, fd));
}

static void
set_up(void)
{
	const struct http_hooks hooks = {NULL, on_request, on_gone, on_accept_error};
	char *text = malloc(3000);

	memset(text, 'b', 3000);
	loop = loop_new();
	loop->on_turn = on_turn;
	server = http_new(loop, &hooks);
	body = http_body_new(text, 3000);
	task_init(&busy, busy_cb);
	loop_defer(loop, LOOP_RESUME, &busy);
	open_door(&doors[0], AF_UNIX);
	open_door(&doors[1], AF_INET);
}

static int
dial(unsigned which)
{
	const struct linger reset = {1, 0};
	int fd = socket(doors[which].addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert(fd >= 0);
	/* no port is left behind, waiting */
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	(void)connect(fd, (struct sockaddr *)&doors[which].addr, doors[which].len);
	turn(1);
	return fd;
}

static void
is_served(unsigned which)
{
	static const char request[] = "GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n";
	char answer[8192];
	int fd = dial(which);
	ssize_t n = -1;

	assert(send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) > 0);
	for (int i = 0; i < 1000 && n <= 0; i++) {
		turn(1);
		n = recv(fd, answer, sizeof(answer), 0);
	}
	assert(n > 12 && memcmp(answer, "HTTP/1.1 ", 9) == 0);
	close(fd);
	turn(TURNS);
}

/* Last bytes: door, how it is answered, when memory runs out, how it leaves; the sizes of the
 * pieces. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, data + len};
	unsigned which;
	uint8_t leaves;
	char trash[4096];
	int fd;

	if (loop == NULL)
		set_up();
	which = input_last(&in) % DOORS;
	how = input_last(&in) % 3;
	leaves = input_last(&in) % 4;
	fd = dial(which);
	fail_after = input_last(&in);
	while (input_left(&in) > 0) {
		size_t n = (size_t)input_last(&in) * 8 + 1;

		n = n < input_left(&in) ? n : input_left(&in);
		if (n == 0 || send(fd, in.p, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
		in.p += n;
		turn(which == 0 ? 1 : 2);
		if (how == 1)
			answer_those_that_wait();
		if (leaves != 3)
			(void)!recv(fd, trash, sizeof(trash), 0);
	}
	fail_after = 0;
	if (leaves == 1)
		(void)shutdown(fd, SHUT_WR);
	turn(TURNS);
	if (leaves == 2)
		close(fd);
	turn(1);
	answer_those_that_wait(); /* also those who have left */
	turn(1);
	if (leaves != 2)
		close(fd);
	turn(TURNS);
	how = 0;
	answer_those_that_wait();
	is_served(1 - which);
	return 0;
}
