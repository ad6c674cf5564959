/* SPDX-License-Identifier: MIT */
/*
 * The bound that no broker can beat: a program that copies bytes between two sockets and knows no
 * messages.
 *
 *   peer_relay FRONTEND_PORT BACKEND_PORT [BUFFER_SIZE]
 *
 * Binds on 127.0.0.1, says "listening" on stdout, and runs until a signal ends it. The n-th
 * connection of the frontend is paired with the n-th of the backend; one without a partner waits,
 * unread. When one of a pair ends, both are closed.
 *
 * One thread, level-triggered epoll. Bytes are read into one buffer that all connections share and
 * written on at once, so that most of them never leave the cache. What the receiver does not take
 * stays where it is: the direction keeps that buffer, and another takes its place as the shared
 * one. Nothing is copied in user space. Buffers of 256 KiB came out best for large messages, and
 * no worse for small ones, among 32 KiB to 1 MiB.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* gcc does not see what hangs from a static struct, or is in the kernel's hands (epoll), as held */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

enum {
	FRONTEND,
	BACKEND,
	SIDES,
	EVENTS = 512,
	BACKLOG = 1024,
	ACCEPTS = 64, /* of one listener in one turn */
};

struct buffer {
	struct buffer *next; /* among the free ones */
	size_t start, end;   /* what the receiver has not taken */
	uint8_t bytes[];
};

/* One end of a pair. A listener is one too, without a partner. */
struct end {
	int fd;
	uint32_t interest; /* what epoll knows */
	struct end *partner;
	struct buffer *stuck; /* read from the partner, for this descriptor; or NULL */
	struct end *next;     /* among those that wait for a partner, or of dead pairs */
	bool dead;
};

static struct relay {
	int epoll;
	struct end listeners[SIDES];
	struct end *waiting, **waiting_tail; /* all of one side; oldest first */
	int waiting_side;
	struct end *dead;       /* freed at the end of the turn: events may still name them */
	struct buffer *scratch; /* never NULL */
	struct buffer *free;
	size_t buffer_size;
} relay;

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "peer_relay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *
must(void *p)
{
	if (p == NULL)
		die("malloc");
	return p;
}

static struct buffer *
buffer_take(void)
{
	struct buffer *b = relay.free;

	if (b == NULL)
		b = must(malloc(sizeof *b + relay.buffer_size));
	else
		relay.free = b->next;
	return b;
}

/* The last one given is the first one taken: its bytes are the likeliest to be cached. */
static void
buffer_give(struct buffer *b)
{
	b->next = relay.free;
	relay.free = b;
}

/* --- interest ------------------------------------------------------------- */

/* Reads while the partner takes what was read, writes while something is stuck. */
static void
update_interest(struct end *e)
{
	uint32_t wanted =
		(e->partner->stuck == NULL ? EPOLLIN : 0u) | (e->stuck != NULL ? EPOLLOUT : 0u);
	struct epoll_event event = {.events = wanted, .data.ptr = e};

	if (wanted == e->interest)
		return;
	if (epoll_ctl(relay.epoll, EPOLL_CTL_MOD, e->fd, &event) != 0)
		die("epoll_ctl");
	e->interest = wanted;
}

static void
update_both(struct end *e)
{
	update_interest(e);
	update_interest(e->partner);
}

static void
close_end(struct end *e)
{
	(void)close(e->fd);
	if (e->stuck != NULL)
		buffer_give(e->stuck);
	e->stuck = NULL;
	e->dead = true;
	e->next = relay.dead;
	relay.dead = e;
}

static void
close_pair(struct end *e)
{
	struct end *partner = e->partner;

	close_end(e);
	close_end(partner);
}

/* --- bytes ---------------------------------------------------------------- */

/* Writes what is in the buffer; false when the connection is broken. */
static bool
write_out(struct end *to, struct buffer *b)
{
	ssize_t n = send(to->fd, b->bytes + b->start, b->end - b->start, MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	b->start += (size_t)n;
	return true;
}

/* One read and one write: who has more comes again with the next turn. */
static void
on_readable(struct end *from)
{
	struct end *to = from->partner;
	struct buffer *b = relay.scratch;
	ssize_t n = recv(from->fd, b->bytes, relay.buffer_size, 0);

	if (n <= 0) {
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			close_pair(from);
		return;
	}
	b->start = 0;
	b->end = (size_t)n;
	if (!write_out(to, b)) {
		close_pair(from);
	} else if (b->start < b->end) {
		to->stuck = b;
		relay.scratch = buffer_take();
		update_both(from);
	}
}

static void
on_writable(struct end *to)
{
	struct buffer *b = to->stuck;

	if (!write_out(to, b)) {
		close_pair(to);
	} else if (b->start == b->end) {
		to->stuck = NULL;
		buffer_give(b);
		update_both(to);
	}
}

static void
on_event(struct end *e, uint32_t events)
{
	if (!e->dead && (events & EPOLLOUT) && e->stuck != NULL)
		on_writable(e);
	if (!e->dead && (events & EPOLLIN) && e->partner->stuck == NULL)
		on_readable(e);
	else if (!e->dead && (events & (EPOLLERR | EPOLLHUP)))
		close_pair(e);
}

/* --- connections ---------------------------------------------------------- */

static void
watch(struct end *e)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = e};

	e->interest = EPOLLIN;
	if (epoll_ctl(relay.epoll, EPOLL_CTL_ADD, e->fd, &event) != 0)
		die("epoll_ctl");
}

static void
pair(struct end *a, struct end *b)
{
	a->partner = b;
	b->partner = a;
	watch(a);
	watch(b);
}

static void
arrived(int side, int fd)
{
	struct end *e = must(calloc(1, sizeof *e));
	struct end *first = relay.waiting;
	int on = 1;

	e->fd = fd;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
		die("TCP_NODELAY");
	if (first != NULL && relay.waiting_side != side) {
		relay.waiting = first->next;
		pair(e, first);
		return;
	}
	if (first == NULL)
		relay.waiting_tail = &relay.waiting;
	relay.waiting_side = side;
	*relay.waiting_tail = e;
	relay.waiting_tail = &e->next;
}

static void
on_acceptable(int side)
{
	int i, fd;

	for (i = 0; i < ACCEPTS; i++) {
		fd = accept4(relay.listeners[side].fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			arrived(side, fd);
		else if (errno == EAGAIN)
			return;
		else if (errno != EINTR && errno != ECONNABORTED)
			die("accept");
	}
}

static void
reap(void)
{
	struct end *e;

	while ((e = relay.dead) != NULL) {
		relay.dead = e->next;
		free(e);
	}
}

static void
turn(void)
{
	struct epoll_event events[EVENTS];
	int i, side, n = epoll_wait(relay.epoll, events, EVENTS, -1);

	if (n < 0 && errno != EINTR)
		die("epoll_wait");
	for (i = 0; i < n; i++) {
		for (side = 0; side < SIDES; side++)
			if (events[i].data.ptr == &relay.listeners[side])
				break;
		if (side < SIDES)
			on_acceptable(side);
		else
			on_event(events[i].data.ptr, events[i].events);
	}
	reap();
}

/* --- start ---------------------------------------------------------------- */

static long
number(const char *text, long most)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end != '\0' || n < 1 || n > most) {
		fprintf(stderr, "peer_relay: %s is not a number from 1 to %ld\n", text, most);
		exit(1);
	}
	return n;
}

static void
listen_on(int side, long port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
		bind(fd, (struct sockaddr *)&addr, sizeof addr) != 0 || listen(fd, BACKLOG) != 0)
		die("listen");
	relay.listeners[side].fd = fd;
	watch(&relay.listeners[side]);
}

int
main(int argc, char **argv)
{
	struct rlimit limit;

	if (argc < 3 || argc > 4) {
		fprintf(stderr, "usage: %s FRONTEND_PORT BACKEND_PORT [BUFFER_SIZE]\n", argv[0]);
		return 1;
	}
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	relay.buffer_size = (size_t)(argc > 3 ? number(argv[3], 64 << 20) : 256 << 10);
	relay.scratch = buffer_take();
	relay.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (relay.epoll < 0)
		die("epoll_create1");
	listen_on(FRONTEND, number(argv[1], 65535));
	listen_on(BACKEND, number(argv[2], 65535));
	puts("listening");
	(void)fflush(stdout);
	for (;;)
		turn();
}
