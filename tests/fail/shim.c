/* SPDX-License-Identifier: MIT */
/*
 * Preloaded into the daemon: makes the Nth call of one kind fail, once.
 *
 *   FAIL_KIND    malloc, or the name of a system call below
 *   FAIL_NTH     1, 2, ...; 0: none, count only
 *   FAIL_ERRNO   what the call fails with
 *   FAIL_REPORT  a file that gets, when the process ends: calls of this kind,
 *                whether one failed, allocations that were never freed, and how
 *                often the process polled
 *
 * Or, repeatedly while the processes run:
 *
 *   FAIL_ORDERS  a file with a struct orders, which the test maps as well
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* The message process and the admin process have it in common. */
static struct orders {
	char in[16];   /* daemon, admin */
	char kind[32]; /* "": none fails */
	int64_t error;
	int64_t left;   /* calls until one fails; 0: none does; less: each does */
	int64_t failed; /* that did */
} * orders;

static int is_admin;
static const char *kind;
static long nth, calls, live, polls;
static int error;
static int failed;

static void begin(void) __attribute__((constructor));
static void
begin(void)
{
	kind = getenv("FAIL_KIND");
	nth = getenv("FAIL_NTH") != NULL ? atol(getenv("FAIL_NTH")) : 0;
	error = getenv("FAIL_ERRNO") != NULL ? atoi(getenv("FAIL_ERRNO")) : ENOMEM;
	is_admin = strcmp(program_invocation_name, "bulkhead: admin") == 0;
	if (kind == NULL)
		kind = "";
	if (getenv("FAIL_ORDERS") != NULL) {
		int fd = open(getenv("FAIL_ORDERS"), O_RDWR);

		orders = mmap(NULL, sizeof(*orders), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (orders == MAP_FAILED)
			_exit(98);
		close(fd);
	}
}

static void end(void) __attribute__((destructor));
static void
end(void)
{
	const char *path = getenv("FAIL_REPORT");
	char text[128];
	int fd, n;

	kind = "";
	orders = NULL;
	if (path == NULL)
		return;
	n = snprintf(text, sizeof(text), "%ld %d %ld %ld\n", calls, failed, live, polls);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, text, (size_t)n) != n)
		_exit(97);
	close(fd);
}

static int
is_ordered(const char *name)
{
	if (orders->left == 0 || strcmp(orders->in, is_admin ? "admin" : "daemon") != 0 ||
		strcmp(orders->kind, name) != 0 || (orders->left > 0 && --orders->left > 0))
		return 0;
	orders->failed++;
	errno = (int)orders->error;
	return 1;
}

/* True when this call is the one. */
static int
fails(const char *name)
{
	if (orders != NULL)
		return is_ordered(name);
	if (kind == NULL || strcmp(kind, name) != 0)
		return 0;
	if (++calls != nth)
		return 0;
	failed = 1;
	errno = error;
	return 1;
}

/* --- memory: glibc's own entries, since dlsym itself allocates ------------ */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void __libc_free(void *p);

static void *
counted(void *p)
{
	live += p != NULL;
	return p;
}

void *
malloc(size_t size)
{
	return fails("malloc") ? NULL : counted(__libc_malloc(size));
}

void *
calloc(size_t count, size_t size)
{
	return fails("malloc") ? NULL : counted(__libc_calloc(count, size));
}

void *
realloc(void *p, size_t size)
{
	if (fails("malloc"))
		return NULL;
	if (p == NULL)
		return counted(__libc_realloc(p, size));
	p = __libc_realloc(p, size);
	live -= p == NULL && size == 0;
	return p;
}

void
free(void *p)
{
	live -= p != NULL;
	__libc_free(p);
}

/* --- system calls --------------------------------------------------------- */

#define REAL(result, name, ...) \
	static result (*real)(__VA_ARGS__); \
	if (real == NULL) \
	*(void **)&real = dlsym(RTLD_NEXT, name)

#define WRAP(result, name, parameters, arguments, ...) \
	result name parameters; \
	result name parameters \
	{ \
		REAL(result, #name, __VA_ARGS__); \
		if (fails(#name)) \
			return -1; \
		return real arguments; \
	}

WRAP(int, socket, (int a, int b, int c), (a, b, c), int, int, int)
WRAP(int, bind, (int fd, const struct sockaddr *p, socklen_t n), (fd, p, n), int,
	const struct sockaddr *, socklen_t)
WRAP(int, listen, (int fd, int n), (fd, n), int, int)
WRAP(int, setsockopt, (int fd, int l, int o, const void *p, socklen_t n), (fd, l, o, p, n), int,
	int, int, const void *, socklen_t)
WRAP(int, getsockopt, (int fd, int l, int o, void *p, socklen_t *n), (fd, l, o, p, n), int, int,
	int, void *, socklen_t *)
WRAP(int, getsockname, (int fd, struct sockaddr *p, socklen_t *n), (fd, p, n), int,
	struct sockaddr *, socklen_t *)
WRAP(int, shutdown, (int fd, int how), (fd, how), int, int)
WRAP(ssize_t, readv, (int fd, const struct iovec *v, int n), (fd, v, n), int, const struct iovec *,
	int)
WRAP(ssize_t, recv, (int fd, void *p, size_t n, int f), (fd, p, n, f), int, void *, size_t, int)
WRAP(ssize_t, send, (int fd, const void *p, size_t n, int f), (fd, p, n, f), int, const void *,
	size_t, int)
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *m, int f), (fd, m, f), int,
	const struct msghdr *, int)
WRAP(ssize_t, recvmsg, (int fd, struct msghdr *m, int f), (fd, m, f), int, struct msghdr *, int)
WRAP(int, memfd_create, (const char *n, unsigned f), (n, f), const char *, unsigned)
WRAP(int, socketpair, (int a, int b, int c, int *p), (a, b, c, p), int, int, int, int *)
WRAP(int, epoll_ctl, (int fd, int op, int of, struct epoll_event *e), (fd, op, of, e), int, int,
	int, struct epoll_event *)

/* Peers' sockets: a read from the signal pipe can fail only with EINTR. */
static unsigned char is_peer[65536];

int
connect(int fd, const struct sockaddr *p, socklen_t n)
{
	REAL(int, "connect", int, const struct sockaddr *, socklen_t);
	is_peer[fd & 65535] = 1;
	return fails("connect") ? -1 : real(fd, p, n);
}

int
accept4(int fd, struct sockaddr *p, socklen_t *n, int flags)
{
	REAL(int, "accept4", int, struct sockaddr *, socklen_t *, int);
	int got = fails("accept4") ? -1 : real(fd, p, n, flags);

	if (got >= 0)
		is_peer[got & 65535] = 1;
	return got;
}

ssize_t
read(int fd, void *p, size_t n)
{
	REAL(ssize_t, "read", int, void *, size_t);
	if ((is_peer[fd & 65535] || error == EINTR) && fails("read"))
		return -1;
	return real(fd, p, n);
}

int
epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
	REAL(int, "epoll_wait", int, struct epoll_event *, int, int);
	polls++;
	if (fails("epoll_wait"))
		return -1;
	return real(fd, events, max, timeout);
}
