/* SPDX-License-Identifier: MIT */
/*
 * A storm of connects and disconnects, for tests/leak/run.
 *
 *   storm FRONTEND_TCP_PORT FRONTEND_PATH BACKEND_TCP_PORT BACKEND_PATH COUNT DEADLINE
 *
 * Every kind of visit in turn, each over tcp and over a Unix socket; half of COUNT at the frontend
 * and half at the backend. A visitor reads everything that the daemon sends before it disconnects
 * (or leaves exactly that unread), so that the reason of its close is fixed. At the end:
 *
 *   did SIDE KIND REASON COUNT
 *   fact NAME COUNT
 *
 * Poisoned peers come in batches; before they disconnect, `wait SIDE COUNT` says how many
 * connections of that side send_timeout must have closed, and a line on stdin confirms it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { FRONTEND, BACKEND, SIDES };
enum {
	BATCH = 32,      /* poisoned peers at a time */
	BIG = 262144,    /* a message that the small socket buffers do not take */
	SETTLE = 8,      /* turns of the daemon after which it has freed an earlier visitor */
	ADDRESSES = 200, /* 127.0.0.2 and up: more ports, so that TIME_WAIT delays none */
	NAMES = 64
};

static const char *const side_names[SIDES] = {"frontend", "backend"};
static struct {
	uint16_t port;
	const char *path;
} where[SIDES];
static int deadline;

/* The visit under way. */
static int side;
static bool ipc;
static unsigned serial;
static const char *kind = "none";

/* The peer that stays for a whole phase: the worker that answers, or the client that sends. */
static int resident = -1;

static uint8_t buf[BIG + 1024];

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "storm: %s, %s over %s, visit %u: ", side_names[side], kind,
		ipc ? "ipc" : "tcp", serial);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

/* --- what was done -------------------------------------------------------- */

static struct {
	int side;
	const char *kind, *reason;
	uint64_t count;
} tally[NAMES];
static uint64_t late_collectors, half_closed, poisoned;
static unsigned timed_out[SIDES];

static void
did(const char *reason)
{
	int i;

	for (i = 0; i < NAMES && tally[i].count > 0; i++)
		if (tally[i].side == side && tally[i].kind == kind && tally[i].reason == reason)
			break;
	if (i == NAMES)
		die("more kinds than NAMES");
	tally[i].side = side;
	tally[i].kind = kind;
	tally[i].reason = reason;
	tally[i].count++;
}

static const char PEER_CLOSED[] = "peer_closed", IO_ERROR[] = "io_error",
		  EITHER[] = "peer_closed|io_error", SEND_TIMEOUT[] = "send_timeout";

/* --- sockets -------------------------------------------------------------- */

static int
dial_sized(bool small)
{
	struct timeval limit = {.tv_sec = deadline};
	int fd = socket(ipc ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), size = 4096,
	    on = 1;

	if (fd < 0)
		die("socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (small)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (ipc) {
		struct sockaddr_un un = {.sun_family = AF_UNIX};
		snprintf(un.sun_path, sizeof(un.sun_path), "%s", where[side].path);
		if (connect(fd, (struct sockaddr *)&un, sizeof(un)) != 0)
			die("connect: %s", strerror(errno));
	} else {
		struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
		from.sin_addr.s_addr = htonl(0x7f000002u + serial % ADDRESSES);
		to.sin_addr.s_addr = htonl(0x7f000001u);
		to.sin_port = htons(where[side].port);
		setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (bind(fd, (struct sockaddr *)&from, sizeof(from)) != 0 ||
			connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
			die("connect: %s", strerror(errno));
	}
	return fd;
}

static int
dial(void)
{
	return dial_sized(false);
}

static void
put(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			die("send: %s", strerror(errno));
		p += n;
		len -= (size_t)n;
	}
}

/* False if the connection ended before that. */
static bool
try_take(int fd, void *data, size_t len)
{
	uint8_t *p = data;

	while (len > 0) {
		ssize_t n = recv(fd, p, len, MSG_WAITALL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != ECONNRESET)
			die("receive: %s", strerror(errno));
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static void
take(int fd, void *data, size_t len)
{
	if (!try_take(fd, data, len))
		die("the daemon closed where %zu more bytes were due", len);
}

/* Reads to the end: then the daemon has closed and forgotten the connection. */
static void
drain(int fd)
{
	while (try_take(fd, buf, 1))
		;
	close(fd);
}

static void
leave(int fd)
{
	shutdown(fd, SHUT_WR);
	drain(fd);
}

/* Waits until there is something to read, and does not read it. */
static void
await(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (poll(&p, 1, deadline * 1000) != 1)
		die("nothing came");
}

/* --- ZMTP ----------------------------------------------------------------- */

static const uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 1, 'N', 'U', 'L', 'L'};
static const char ping[] = "\4\7\4PING\0\0", pong[] = "\4\5\4PONG";

static size_t
make_ready(uint8_t *out, const char *type, const char *id, size_t id_len)
{
	size_t n = 2, type_len = strlen(type);

	out[0] = 4;
	memcpy(out + n, "\5READY\13Socket-Type\0\0\0", 21);
	n += 21;
	out[n++] = (uint8_t)type_len;
	memcpy(out + n, type, type_len);
	n += type_len;
	memcpy(out + n, "\10Identity\0\0\0", 12);
	n += 12;
	out[n++] = (uint8_t)id_len;
	memcpy(out + n, id, id_len);
	n += id_len;
	out[1] = (uint8_t)(n - 2);
	return n;
}

/* Sends our greeting and reads the daemon's, with its READY: a NULL server sends that at once. */
static void
greet(int fd)
{
	uint8_t theirs[64 + 2 + 255];

	put(fd, greeting, sizeof(greeting));
	take(fd, theirs, 66);
	if (theirs[64] != 4)
		die("frame %u where READY was due", theirs[64]);
	take(fd, theirs + 66, theirs[65]);
}

static void
say_ready(int fd, const char *type, const char *id)
{
	uint8_t ready[512];

	put(fd, ready, make_ready(ready, type, id, strlen(id)));
}

/* The daemon has handled everything that this peer sent. */
static void
sync_with(int fd)
{
	uint8_t got[7];

	put(fd, ping, sizeof(ping) - 1);
	take(fd, got, sizeof(got));
	if (memcmp(got, pong, 7) != 0)
		die("no PONG");
}

static int
join(const char *id)
{
	int fd = dial();

	greet(fd);
	say_ready(fd, "DEALER", id);
	sync_with(fd);
	return fd;
}

static size_t
put_header(uint8_t *out, uint8_t flags, size_t len)
{
	out[0] = flags | 2;
	for (int i = 0; i < 8; i++)
		out[8 - i] = (uint8_t)((uint64_t)len >> (8 * i));
	return 9;
}

/* One frame into out[size]; its flags, or -1 at the end of the connection. */
static int
take_frame(int fd, uint8_t *out, size_t size, size_t *len)
{
	uint8_t h[9];

	if (!try_take(fd, h, 2))
		return -1;
	*len = h[1];
	if (h[0] & 2) {
		if (!try_take(fd, h + 2, 7))
			return -1;
		*len = 0;
		for (int i = 1; i < 9; i++)
			*len = *len << 8 | h[i];
	}
	if (h[0] > 3 || *len > size)
		die("a frame with flags %u and %zu bytes", h[0], *len);
	return try_take(fd, out, *len) ? h[0] & 1 : -1;
}

/* [id] [empty] [body] of a worker; the id stays in place for the reply. */
static uint8_t envelope[2 + 255];

static bool
take_request(int worker, size_t want)
{
	size_t len, none;

	if (take_frame(worker, envelope + 2, 255, &len) < 0)
		return false;
	envelope[0] = 1;
	envelope[1] = (uint8_t)len;
	if (take_frame(worker, buf, 0, &none) < 0 || take_frame(worker, buf, sizeof(buf), &len) < 0)
		return false;
	if (len != want)
		die("a request of %zu bytes, not %zu", len, want);
	for (size_t i = 0; i < len; i++)
		if (buf[i] != (uint8_t)(i * 7))
			die("byte %zu of the request is not what was sent", i);
	return true;
}

/* A request or a reply: the empty frame and a body with a pattern. */
static void
put_body(int fd, size_t len)
{
	size_t n = 2;

	memcpy(buf, "\1\0", 2);
	n += put_header(buf + n, 0, len);
	for (size_t i = 0; i < len; i++)
		buf[n + i] = (uint8_t)(i * 7);
	put(fd, buf, n + len);
}

static void
put_reply(int worker, size_t len)
{
	put(worker, envelope, 2u + envelope[1]);
	put_body(worker, len);
}

static void
take_reply(int client, size_t want)
{
	size_t len;

	if (take_frame(client, buf, 0, &len) != 1 ||
		take_frame(client, buf, sizeof(buf), &len) != 0 || len != want)
		die("not the reply that was sent");
}

/* At the backend: the daemon has freed all earlier visitors. */
static void
settle(void)
{
	for (int i = 0; i < SETTLE; i++)
		sync_with(resident);
}

/* --- visits: before READY ------------------------------------------------- */

static void
gone_at_once(void)
{
	close(dial());
	did(EITHER);
}

static void
silent(void)
{
	int fd = dial();

	take(fd, buf, 10);
	close(fd);
	did(PEER_CLOSED);
}

static void
in_the_greeting(void)
{
	size_t cut = 1 + serial % 63;
	int fd = dial();

	put(fd, greeting, cut);
	take(fd, buf, cut < 10 ? 10 : cut == 10 ? 11 : 64);
	close(fd);
	did(PEER_CLOSED);
}

static void
in_ready(void)
{
	uint8_t ready[512];
	size_t len = make_ready(ready, "DEALER", "someone", 7);
	int fd = dial();

	greet(fd);
	put(fd, ready, 1 + serial % (len - 1));
	close(fd);
	did(PEER_CLOSED);
}

/* The only way to reset a Unix socket: to close it with something unread. */
static void
reset(int fd)
{
	struct linger none = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	close(fd);
	did(IO_ERROR);
}

static void
reset_at_once(void)
{
	int fd = dial();

	await(fd);
	reset(fd);
}

static void
http(void)
{
	static const char get[] = "GET / HTTP/1.1\r\nHost: example\r\n\r\n";
	int fd = dial();

	put(fd, get, sizeof(get) - 1);
	drain(fd);
	did("protocol_error");
}

static void
mechanism(void)
{
	uint8_t plain[64];
	int fd = dial();

	memcpy(plain, greeting, sizeof(plain));
	memcpy(plain + 12, "PLAIN", 5);
	put(fd, plain, sizeof(plain));
	drain(fd);
	did("mechanism_mismatch");
}

static void
socket_type(void)
{
	int fd = dial();

	greet(fd);
	say_ready(fd, serial & 1 ? "PUB" : "NONSENSE", "");
	drain(fd);
	did("incompatible_socket_type");
}

static void
bad_id(void)
{
	uint8_t ready[512];
	int fd = dial();

	greet(fd);
	put(fd, ready, make_ready(ready, "DEALER", "\0mine", 5));
	drain(fd);
	did("bad_routing_id");
}

/* --- visits: after READY -------------------------------------------------- */

static void
reset_when_ready(void)
{
	int fd = join("");

	put(fd, ping, sizeof(ping) - 1);
	await(fd);
	reset(fd);
}

static void
reset_in_a_message(void)
{
	int fd = join("");

	put(fd, "\1\0", 2);
	put(fd, ping, sizeof(ping) - 1);
	await(fd);
	reset(fd);
}

static void
in_a_header(void)
{
	int fd = join(serial & 1 ? "a name" : "");

	put(fd, "\1\0\2\0\0\0", 3 + serial % 4);
	close(fd);
	did(PEER_CLOSED);
}

static void
in_a_body(void)
{
	int fd = join("");

	put(fd, "\1\0\0\24hello", 9);
	close(fd);
	did(PEER_CLOSED);
}

static void
in_a_large_body(void)
{
	int fd = join("");

	put_header(buf, 0, BIG);
	memset(buf + 9, 'x', BIG);
	put(fd, buf, 9 + serial * 977u % BIG);
	close(fd);
	did(PEER_CLOSED);
}

static void
between_frames(void)
{
	int fd = join("");

	put(fd, "\1\0\1\5hello", 9);
	close(fd);
	did(PEER_CLOSED);
}

static void
too_big(void)
{
	int fd = join("");

	put(fd, buf, put_header(buf, 0, (size_t)1 << 40));
	if (side == BACKEND) { /* a reply costs its worker nothing: it is read for as long as it
				  comes */
		close(fd);
		did(PEER_CLOSED);
		return;
	}
	drain(fd);
	did("message_too_big");
}

static void
too_many_parts(void)
{
	int fd = join("");

	put(fd, "\1\0\1\0\1\0\1\0\1\0\1\0\0\0", 14); /* tests/leak/run allows four */
	if (side == BACKEND) {
		close(fd);
		did(PEER_CLOSED);
		return;
	}
	drain(fd);
	did("too_many_parts");
}

/* --- visits of clients ---------------------------------------------------- */

static void
answer(size_t asked, size_t len)
{
	if (!take_request(resident, asked))
		die("the worker's connection ended");
	put_reply(resident, len);
}

static void
client_served(void)
{
	size_t len = serial % 3 == 0 ? 5000 : serial % 300;
	int fd = join(serial & 2 ? "client" : "");

	put_body(fd, len);
	answer(len, len);
	take_reply(fd, len);
	close(fd);
	did(PEER_CLOSED);
}

static void
client_half_closed(void)
{
	int fd = join("");

	put_body(fd, 10);
	leave(fd);
	answer(10, 10); /* to no client */
	half_closed++;
	did(PEER_CLOSED);
}

/* They are left alone for a while, in case they end by themselves. */
static int losers[BATCH];
static int lost;

static void
end_losers(void)
{
	kind = "taken_over";
	while (lost > 0) {
		drain(losers[--lost]);
		did("duplicate_routing_id");
	}
}

static void
client_taken_over(void)
{
	char id[16];
	int newer;

	snprintf(id, sizeof(id), "id %u", serial);
	losers[lost++] = join(id);
	newer = join(id);
	close(newer);
	did(PEER_CLOSED);
	if (lost == BATCH)
		end_losers();
}

static int batch[BATCH];
static int batched;

/* The harness sees them closed. */
static void
end_batch(void)
{
	char line[16];

	timed_out[side] += (unsigned)batched;
	printf("wait %s %u\n", side_names[side], timed_out[side]);
	fflush(stdout);
	if (fgets(line, sizeof(line), stdin) == NULL)
		die("the harness is gone");
	while (batched > 0)
		close(batch[--batched]);
}

static int
join_deaf(void)
{
	int fd = dial_sized(true);

	greet(fd);
	say_ready(fd, "DEALER", "");
	sync_with(fd);
	return fd;
}

static void
client_poisoned(void)
{
	int fd = join_deaf();

	put_body(fd, 10);
	answer(10, BIG);
	poisoned++;
	did(SEND_TIMEOUT);
	batch[batched++] = fd;
	if (batched == BATCH)
		end_batch();
}

/* --- visits of workers ---------------------------------------------------- */

/* A worker that holds one request of the resident client. */
static int
worker_with_request(size_t len)
{
	int fd;

	settle();
	fd = join("");
	put_body(resident, len);
	return fd;
}

static void
worker_serves(void)
{
	int fd = worker_with_request(serial % 5000);

	if (!take_request(fd, serial % 5000))
		die("closed");
	put_reply(fd, 10);
	take_reply(resident, 10);
	close(fd);
	did(PEER_CLOSED);
}

static void
worker_half_closed(void)
{
	int fd = worker_with_request(10);

	if (!take_request(fd, 10))
		die("closed");
	put_reply(fd, 10);
	leave(fd);
	take_reply(resident, 10);
	did(PEER_CLOSED);
}

/* The request is in its socket: sent, as far as ZMTP can say. */
static void
worker_reads_nothing(void)
{
	int fd = worker_with_request(10);

	await(fd);
	reset(fd);
}

static void
worker_dies_in_its_reply(void)
{
	int fd = worker_with_request(10);

	if (!take_request(fd, 10))
		die("closed");
	put(fd, envelope, 2u + envelope[1]);
	put(fd, "\1\0\0\24hello", 9);
	close(fd);
	did(PEER_CLOSED);
}

/*
 * A worker that reads gets the poisoned workers' requests, whole. If it is too slow for
 * send_timeout, on a busy machine, the next one gets the rest.
 */
static void
collect(int requests)
{
	int left = requests;

	while (left > 0) {
		int fd = dial();

		greet(fd);
		say_ready(fd, "DEALER", "");
		while (left > 0 && take_request(fd, BIG)) {
			put_reply(fd, 10);
			take_reply(resident, 10);
			left--;
		}
		if (left > 0) {
			close(fd);
			late_collectors++;
			timed_out[BACKEND]++;
			did(SEND_TIMEOUT);
		} else {
			leave(fd);
			did(PEER_CLOSED);
		}
	}
}

static void
workers_poisoned(int count)
{
	if (count == 0)
		return;
	settle();
	for (int i = 0; i < count; i++) {
		serial++;
		ipc = i & 1;
		batch[batched++] = join_deaf();
	}
	for (int i = 0; i < count; i++) {
		put_body(resident, BIG);
		poisoned++;
		did(SEND_TIMEOUT);
	}
	end_batch();
	collect(count);
}

static int owed;

/* Counts as one of the next batch. */
static void
worker_poisoned(void)
{
	if (++owed == BATCH) {
		workers_poisoned(owed);
		owed = 0;
	}
}

/* --- the storm ------------------------------------------------------------ */

struct visit {
	const char *name;
	void (*pay)(void);
};

static const struct visit common[] = {{"gone_at_once", gone_at_once}, {"silent", silent},
	{"in_the_greeting", in_the_greeting}, {"in_ready", in_ready},
	{"reset_at_once", reset_at_once}, {"http", http}, {"mechanism", mechanism},
	{"socket_type", socket_type}, {"reset_when_ready", reset_when_ready},
	{"reset_in_a_message", reset_in_a_message}, {"in_a_header", in_a_header},
	{"in_a_body", in_a_body}, {"in_a_large_body", in_a_large_body},
	{"between_frames", between_frames}, {"too_big", too_big},
	{"too_many_parts", too_many_parts}};

static const struct visit own[SIDES][5] = {
	[FRONTEND] = {{"served", client_served}, {"half_closed", client_half_closed},
		{"bad_id", bad_id}, {"taken_over", client_taken_over},
		{"poisoned", client_poisoned}},
	[BACKEND] = {{"serves", worker_serves}, {"half_closed", worker_half_closed},
		{"reads_nothing", worker_reads_nothing},
		{"dies_in_its_reply", worker_dies_in_its_reply}, {"poisoned", worker_poisoned}}};

enum { COMMON = sizeof(common) / sizeof(common[0]) };

static void
pay_visits(int where_to, unsigned count)
{
	unsigned kinds = COMMON;

	while (kinds < COMMON + 5 && own[where_to][kinds - COMMON].pay != NULL)
		kinds++;
	for (unsigned i = 0; i < count; i++) {
		unsigned k = i % kinds;
		const struct visit *v = k < COMMON ? &common[k] : &own[where_to][k - COMMON];

		side = where_to;
		ipc = (i / kinds) & 1;
		serial++;
		kind = v->name;
		v->pay();
	}
	end_losers();
	kind = "poisoned";
	if (where_to == FRONTEND && batched > 0)
		end_batch();
	if (where_to == BACKEND)
		workers_poisoned(owed);
}

/* `visitors` come to one side while one peer of the other stays. */
static void
phase(int visitors, unsigned count)
{
	side = visitors == FRONTEND ? BACKEND : FRONTEND;
	ipc = false;
	kind = "resident";
	resident = join("");
	pay_visits(visitors, count);
	side = visitors == FRONTEND ? BACKEND : FRONTEND;
	kind = "resident";
	leave(resident);
	did(PEER_CLOSED);
}

int
main(int argc, char **argv)
{
	unsigned count;

	if (argc != 7) {
		fprintf(stderr, "usage: %s PORT PATH PORT PATH COUNT DEADLINE\n", argv[0]);
		return 2;
	}
	where[FRONTEND].port = (uint16_t)atoi(argv[1]);
	where[FRONTEND].path = argv[2];
	where[BACKEND].port = (uint16_t)atoi(argv[3]);
	where[BACKEND].path = argv[4];
	count = (unsigned)atoi(argv[5]);
	deadline = atoi(argv[6]);
	phase(FRONTEND, count / 2);
	phase(BACKEND, count - count / 2);
	for (int i = 0; i < NAMES && tally[i].count > 0; i++)
		printf("did %s %s %s %llu\n", side_names[tally[i].side], tally[i].kind,
			tally[i].reason, (unsigned long long)tally[i].count);
	printf("fact half_closed %llu\nfact poisoned %llu\nfact late_collectors %llu\n",
		(unsigned long long)half_closed, (unsigned long long)poisoned,
		(unsigned long long)late_collectors);
	return 0;
}
