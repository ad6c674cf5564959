/* SPDX-License-Identifier: MIT */
/*
 * The alternative to Bulkhead that users have: zmq_proxy() between a ROUTER and a DEALER of libzmq.
 *
 *   peer_proxy FRONTEND_PORT BACKEND_PORT [IO_THREADS]
 *
 * Binds on 127.0.0.1, says "listening" and the version of libzmq on stdout, and runs until a
 * signal ends it. The sockets keep libzmq's defaults; raised are only the limits without which many
 * connections do not come in: descriptors, and the listen queue, as long as Bulkhead's own.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <zmq.h>

enum { BACKLOG = 1024 };

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "peer_proxy: %s: %s\n", what, zmq_strerror(zmq_errno()));
	exit(1);
}

static long
number(const char *text, long most)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end != '\0' || n < 1 || n > most) {
		fprintf(stderr, "peer_proxy: %s is not a number from 1 to %ld\n", text, most);
		exit(1);
	}
	return n;
}

static void *
bound(void *ctx, int type, long port)
{
	void *sock = zmq_socket(ctx, type);
	int backlog = BACKLOG;
	char endpoint[64];

	if (sock == NULL)
		die("zmq_socket");
	if (zmq_setsockopt(sock, ZMQ_BACKLOG, &backlog, sizeof backlog) != 0)
		die("ZMQ_BACKLOG");
	snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%ld", port);
	if (zmq_bind(sock, endpoint) != 0)
		die(endpoint);
	return sock;
}

int
main(int argc, char **argv)
{
	struct rlimit limit;
	void *ctx, *frontend, *backend;
	long threads;
	int major, minor, patch;

	if (argc < 3 || argc > 4) {
		fprintf(stderr, "usage: %s FRONTEND_PORT BACKEND_PORT [IO_THREADS]\n", argv[0]);
		return 1;
	}
	threads = argc > 3 ? number(argv[3], 64) : 1;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	ctx = zmq_ctx_new();
	if (ctx == NULL)
		die("zmq_ctx_new");
	if (zmq_ctx_set(ctx, ZMQ_IO_THREADS, (int)threads) != 0)
		die("ZMQ_IO_THREADS");
	frontend = bound(ctx, ZMQ_ROUTER, number(argv[1], 65535));
	backend = bound(ctx, ZMQ_DEALER, number(argv[2], 65535));
	zmq_version(&major, &minor, &patch);
	printf("listening libzmq %d.%d.%d\n", major, minor, patch);
	(void)fflush(stdout);
	(void)zmq_proxy(frontend, backend, NULL);
	die("zmq_proxy");
}
