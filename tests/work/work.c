/* SPDX-License-Identifier: MIT */
/*
 * Things that happen to many peers at once, so that their work can be counted: see tests/work/run.
 *
 *     work CASE N     a proxy on a real loop, with raw peers on socket pairs; the case with N of
 *     them
 *     work            names of cases, and how much they may grow when N is four times as much
 *
 * Only the instructions of measured() count.
 */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "broker/broker.h"
#include "broker/queue_drain.h"
#include "net/conn.h"
#include "../measured.h"
#include "../unit/settle.h"

enum { SKIPPED = 77, TRIES = 1000 };

static struct loop *loop;
static struct broker *broker;
static struct proxy *proxy;
static struct settle settling;

static void
must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "work: %s\n", what);
	exit(1);
}

static void
settle(void)
{
	const char *wrong;

	settle_loop(&settling);
	wrong = proxy_check(proxy);
	must(wrong == NULL, wrong);
}

static void
put(int fd, const void *bytes, size_t len)
{
	must(write(fd, bytes, len) == (ssize_t)len, "a write is not taken");
	settle();
}

/*
 * A raw peer after its handshake; if `room` is not 0, its kernel holds about that many bytes.
 */
static int
join(int side, const char *type, const char *id, int room)
{
	static const uint8_t greeting[64] = {
		0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0, 'N', 'U', 'L', 'L'};
	struct sockaddr addr = {.sa_family = AF_UNIX};
	uint8_t ready[128] = {4}, sink[256];
	int fds[2], n;

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0, "no socket");
	if (room > 0)
		(void)setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	must(conn_accept(&proxy->side[side], fds[0], &addr, sizeof(addr.sa_family)) != NULL,
		"no peer");
	n = sprintf((char *)ready + 2, "\5READY\13Socket-Type") + 2;
	n += 3;
	n += sprintf((char *)ready + n, "%c%s", (int)strlen(type), type);
	if (id != NULL) {
		n += sprintf((char *)ready + n, "\10Identity") + 3;
		n += sprintf((char *)ready + n, "%c%s", (int)strlen(id), id);
	}
	ready[1] = (uint8_t)(n - 2);
	put(fds[1], greeting, sizeof(greeting));
	put(fds[1], ready, (size_t)n);
	must(read(fds[1], sink, sizeof(sink)) > 0, "no handshake");
	return fds[1];
}

static struct conn *
last_conn(int side)
{
	return list_entry(proxy->side[side].conns.prev, struct conn, node);
}

/* --- clients are sent away ------------------------------------------------ */

/* The last one does not read its replies, so that a worker waits. */
static void
make_drain(unsigned n)
{
	static const char request[] = "\1\0\0\1x";
	static uint8_t reply[4 + 2 + 9 + 20000] = {
		1, 2, 'm', 'e', 1, 0, 2, 0, 0, 0, 0, 0, 0, 20000 >> 8, 20000 & 0xff};
	int worker = join(PROXY_BACKEND, "DEALER", NULL, 0), client;
	unsigned tries = 0;

	for (unsigned i = 1; i < n; i++)
		join(PROXY_FRONTEND, "DEALER", NULL, 0);
	client = join(PROXY_FRONTEND, "DEALER", "me", 4096);
	put(client, request, sizeof(request) - 1);
	while (proxy->blocked == 0 && tries++ < TRIES)
		put(worker, reply, sizeof(reply));
	must(proxy->blocked == 1, "no worker waits");
}

static void
drain(void)
{
	list_each(node, tmp, &proxy->side[PROXY_FRONTEND].conns)
		queue_drain_begin(list_entry(node, struct conn, node), CLOSE_RELOAD, NULL);
	list_each(node, tmp, &proxy->side[PROXY_FRONTEND].conns)
		queue_drain_continue(
			list_entry(node, struct conn, node), false, CLOSE_RELOAD, NULL);
}

/* --- a worker goes, and many requests are queued for it ------------------- */

static void
make_reroute(unsigned n)
{
	static const char request[] = "\1\0\0\20sixteen bytes...";
	int client;

	join(PROXY_BACKEND, "REP", NULL, 4096);
	client = join(PROXY_FRONTEND, "DEALER", "me", 0);
	for (unsigned i = 0; i < n; i++)
		put(client, request, sizeof(request) - 1);
	must(last_conn(PROXY_BACKEND)->out.messages > n / 2, "nothing is queued");
}

/* ... and must be examined: a REP does not answer one of them. */
static void
make_looked_at(unsigned n)
{
	int client;

	make_reroute(n);
	client = join(PROXY_FRONTEND, "DEALER", "you", 0);
	put(client, "\0\1x", 3);
}

static void
reroute(void)
{
	conn_close(last_conn(PROXY_BACKEND), CLOSE_ADMIN, NULL);
	settle_loop(&settling);
}

static void
check_reroute(unsigned n)
{
	must(proxy->counters[PROXY_BACKEND].rerouted > n / 2, "nothing went on");
}

/* --- all of them ---------------------------------------------------------- */

static const struct work {
	const char *name;
	double most; /* times as much, when there are four times as many */
	void (*make)(unsigned n);
	void (*run)(void);
	void (*check)(unsigned n); /* or NULL */
	unsigned sockets;          /* of each */
} works[] = {
	{"drain", 5, make_drain, drain, NULL, 2},
	{"reroute", 1.5, make_reroute, reroute, check_reroute, 0},
	{"looked-at", 5, make_looked_at, reroute, check_reroute, 0},
};

enum { WORKS = sizeof(works) / sizeof(works[0]) };

/* callgrind finds this function by its name and counts nothing else. */
static KEEP void
measured(const struct work *w)
{
	w->run();
}

static void
begin(void)
{
	struct proxy_opts o = {.queue.replies = true,
				  .side.handshake_timeout = 10000,
				  .side.heartbeat_timeout = 10000,
				  .side.connect_timeout = 10000,
				  .side.receive_hwm_bytes = 1 << 20,
				  .side.send_hwm_bytes = 1 << 24,
				  .side.max_message_size = 1 << 20,
				  .side.max_message_parts = 10,
				  .queue.duplicate_routing_id = DUPLICATE_TAKEOVER},
			  frontend = o;

	frontend.side.send_hwm_bytes = 1000;
	frontend.queue.when_full = WHEN_FULL_PAUSE;
	log_set_level(LOG_LEVEL_ERROR);
	loop = loop_new();
	must(loop != NULL, "no loop");
	broker = broker_new(loop, 1 << 30);
	proxy = proxy_new(loop, "work", &frontend, &o);
	broker_add(broker, proxy);
	settle_init(&settling, loop);
}

static bool
have_sockets(unsigned n)
{
	struct rlimit fds;

	if (getrlimit(RLIMIT_NOFILE, &fds) != 0)
		return false;
	fds.rlim_cur = fds.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &fds) == 0 && fds.rlim_cur > n + 64;
}

int
main(int argc, char **argv)
{
	unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 0;

	for (int i = 0; argc < 3 && i < WORKS; i++)
		printf("%s %g\n", works[i].name, works[i].most);
	if (argc < 3)
		return 0;
	if (sodium_init() < 0)
		return 1;
	for (int i = 0; i < WORKS; i++) {
		if (strcmp(argv[1], works[i].name) != 0)
			continue;
		if (!have_sockets(n * works[i].sockets))
			return SKIPPED;
		begin();
		works[i].make(n);
		measured(&works[i]);
		if (works[i].check != NULL)
			works[i].check(n);
		return 0;
	}
	fprintf(stderr, "work: there is no %s\n", argv[1]);
	return 1;
}
