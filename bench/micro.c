/* SPDX-License-Identifier: MIT */
/*
 * The cost of the steps of a message's life, in this process alone: decode, route,
 * enqueue, flush; no socket, no system call.
 *
 *     bench/micro [--rounds N] [--ms N] [--json] [NAME ...]   ns per message
 *     bench/micro --count NAME N     N messages, rounded up to whole batches; prints how many
 *     bench/micro --list             names, one in a line
 *
 * A step is called for whole batches. What it needs before (a queue that is
 * full, say) is made outside the time that counts. The rounds go over all cases in turn,
 * so that what else the machine does meets all of them; the median counts.
 *
 * Instructions: `bench/instructions --micro bench/micro`, which is callgrind with
 * --toggle-collect=measured.
 */
#include <inttypes.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/poison.h"
#include "broker/balance.h"
#include "broker/router.h"
#include "net/conn.h"
#include "zmtp/frame.h"
#include "zmtp/session.h"
#include "../tests/measured.h"

enum {
	CLIENTS = 1000,
	WORKERS = 10,
	FRONT = 1000,   /* bytes of a large message that come with its header */
	ENVELOPE = 7,   /* the frame of an id that Bulkhead made up */
	IOV_COUNT = 64, /* as in net/conn_out.c */
	ROUNDS_MAX = 1000
};

struct bench;

struct micro {
	const char *name, *text;
	uint32_t messages; /* in a batch */
	uint32_t size;     /* of a message: bytes of one part */
	uint32_t parts;
	size_t piece; /* bytes that are read, or written, at once */
	void (*make)(struct bench *b);
	void (*prepare)(struct bench *b); /* before each batch; or NULL */
	uint32_t (*run)(struct bench *b); /* one batch; returns the messages that came through */
};

/* The data of a case; each has its own. */
struct bench {
	const struct micro *micro;
	uint8_t *wire; /* a batch as it comes in, or one message */
	size_t wire_len;
	uint8_t *sink;
	uint8_t envelope[ENVELOPE];
	struct session_config config;
	struct session session;
	struct outq_env env;
	struct outq queue, part;
	struct poison_guard guard;
	struct router router;
	struct peer *clients[CLIENTS];
	uint32_t order[CLIENTS]; /* in which clients are looked for */
	struct balance balance;
	struct side_opts opts;
	struct side side;
	struct conn workers[WORKERS];
	double ns[ROUNDS_MAX];
};

static void
fail(const struct bench *b, const char *what)
{
	fprintf(stderr, "%s: %s\n", b->micro->name, what);
	exit(EXIT_FAILURE);
}

/* --- messages ------------------------------------------------------------- */

static size_t
message_room(const struct micro *m)
{
	return (size_t)m->parts * (WIRE_LONG_HEADER + m->size);
}

static size_t
put_message(const struct micro *m, uint8_t *to)
{
	size_t n = 0;

	for (uint32_t i = 0; i < m->parts; i++) {
		n += frame_encode(to + n, i + 1 < m->parts ? WIRE_FLAG_MORE : 0, m->size);
		memset(to + n, 'x', m->size);
		n += m->size;
	}
	return n;
}

/* RFC 37: TTL 0 and no context. */
static size_t
put_ping(const struct micro *m, uint8_t *to)
{
	static const uint8_t ping[] = {WIRE_FLAG_COMMAND, 7, 4, 'P', 'I', 'N', 'G', 0, 0};

	(void)m;
	memcpy(to, ping, sizeof(ping));
	return sizeof(ping);
}

static void
make_wire(struct bench *b, uint32_t count, size_t (*put)(const struct micro *, uint8_t *))
{
	free(b->wire);
	b->wire_len = 0;
	b->wire = mem_new(count * (message_room(b->micro) + 16));
	for (uint32_t i = 0; i < count; i++)
		b->wire_len += put(b->micro, b->wire + b->wire_len);
}

/* --- copy: the yardstick -------------------------------------------------- */

static void
make_copy(struct bench *b)
{
	make_wire(b, b->micro->messages, put_message);
	b->sink = mem_new(b->wire_len);
}

static uint32_t
run_copy(struct bench *b)
{
	size_t size = b->wire_len / b->micro->messages;

	for (uint32_t i = 0; i < b->micro->messages; i++) {
		memcpy(b->sink + i * size, b->wire + i * size, size);
		__asm__ volatile("" : : "r"(b->sink) : "memory"); /* it is wanted */
	}
	return b->micro->messages;
}

/* --- decode --------------------------------------------------------------- */

/* As conn_in.c does it: whole messages the short way, all else by session_pull. */
static uint32_t
feed(struct bench *b, uint8_t *p, size_t len)
{
	enum session_event_kind kind;
	struct session_event ev;
	uint32_t count = 0;

	do {
		if (session_between(&b->session)) {
			for (size_t n; (n = session_whole(&b->session, p, len)) > 0;
				p += n, len -= n)
				count++;
			if (len == 0)
				break;
		}
		kind = session_pull(&b->session, p, len, &ev);
		p += ev.used;
		len -= ev.used;
		count += kind == SESSION_MESSAGE || kind == SESSION_SEND;
	} while (kind != SESSION_MORE && kind != SESSION_BAD);
	return count;
}

static void
make_session(struct bench *b)
{
	static const uint8_t greeting[WIRE_GREETING_SIZE] = {
		0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 1, 'N', 'U', 'L', 'L'};
	static const uint8_t ready[] = "\4\34\5READY\13Socket-Type\0\0\0\6DEALER";
	uint8_t hello[sizeof(greeting) + sizeof(ready) - 1];

	b->config = (struct session_config){
		.mechanism = &mechanism_null,
		.type = SOCKTYPE_ROUTER,
		.accepts = 1u << SOCKTYPE_DEALER,
		.max_message_size = 1 << 20,
		.max_message_parts = 1000,
	};
	session_init(&b->session, &b->config);
	memcpy(hello, greeting, sizeof(greeting));
	memcpy(hello + sizeof(greeting), ready, sizeof(ready) - 1);
	feed(b, hello, sizeof(hello));
	if (b->session.phase != SESSION_TRAFFIC)
		fail(b, "the handshake failed");
}

static void
make_decode(struct bench *b)
{
	make_session(b);
	make_wire(b, b->micro->messages, put_message);
}

static void
make_commands(struct bench *b)
{
	make_session(b);
	make_wire(b, b->micro->messages, put_ping);
}

static uint32_t
run_decode(struct bench *b)
{
	uint32_t count = 0;

	for (size_t at = 0, n; at < b->wire_len; at += n) {
		n = b->wire_len - at;
		if (n > b->micro->piece)
			n = b->micro->piece;
		count += feed(b, b->wire + at, n);
	}
	return count;
}

/* --- route ---------------------------------------------------------------- */

static void
make_clients(struct bench *b, bool named)
{
	uint32_t seed = 1;
	char name[16];

	router_init(&b->router);
	for (uint32_t i = 0; i < CLIENTS; i++) {
		int len = named ? snprintf(name, sizeof(name), "client-%06" PRIu32, i) : 0;

		b->clients[i] = mem_must(peer_new(NULL, NULL, (size_t)len));
		if (!router_add(&b->router, b->clients[i], (const uint8_t *)name, (size_t)len))
			fail(b, "no memory");
		b->order[i] = i;
	}
	for (uint32_t i = CLIENTS; i > 1; i--) { /* the same in every run */
		uint32_t j = (seed = seed * 1664525 + 1013904223) % i, other = b->order[j];

		b->order[j] = b->order[i - 1];
		b->order[i - 1] = other;
	}
}

static void
make_unnamed_clients(struct bench *b)
{
	make_clients(b, false);
}

static void
make_named_clients(struct bench *b)
{
	make_clients(b, true);
}

static uint32_t
run_find(struct bench *b)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < b->micro->messages; i++) {
		const struct peer *client = b->clients[b->order[i % CLIENTS]];

		count += router_find(&b->router, peer_id(client), peer_id_len(client)) == client;
	}
	return count;
}

/* Workers with a message in their queue, so that room is a question. */
static void
make_workers(struct bench *b)
{
	make_wire(b, 1, put_message);
	b->opts = (struct side_opts){.send_hwm = 1 << 20, .send_hwm_bytes = INT64_C(1) << 30};
	b->side.opts = &b->opts;
	balance_init(&b->balance);
	for (int i = 0; i < WORKERS; i++) {
		struct conn *conn = &b->workers[i];
		struct message m = {.p = b->wire, .len = b->wire_len, .size = b->wire_len};

		conn->side = &b->side;
		conn->state = CONN_READY;
		conn->peer = mem_must(peer_new(NULL, conn, 0));
		if (!outq_push(&conn->out, &b->env, NULL, 0, &m, 0))
			fail(b, "no memory");
		balance_add(&b->balance, conn->peer);
	}
}

static uint32_t
run_balance(struct bench *b)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < b->micro->messages; i++)
		count += balance_next(&b->balance, b->wire_len + ENVELOPE) != NULL;
	return count;
}

/* --- enqueue -------------------------------------------------------------- */

static void
make_queue(struct bench *b)
{
	static const uint8_t envelope[ENVELOPE] = {WIRE_FLAG_MORE, 5, 0, 1, 2, 3, 4};

	memcpy(b->envelope, envelope, sizeof(envelope));
	make_wire(b, 1, put_message);
	outq_init(&b->queue);
	outq_init(&b->part);
	poison_init(&b->guard);
}

static void
empty_queue(struct bench *b)
{
	outq_fini(&b->queue, &b->env);
}

static uint32_t
run_push(struct bench *b)
{
	for (uint32_t i = 0; i < b->micro->messages; i++) {
		struct message m = {.p = b->wire, .len = b->wire_len, .size = b->wire_len};

		if (!outq_push(&b->queue, &b->env, b->envelope, ENVELOPE, &m, 0))
			break;
	}
	return b->queue.messages;
}

/*
 * As net/conn_in.c: the front of a large message came with others, the rest is
 * read into its place (by nobody here), and the last byte ends it.
 */
static bool
read_part(struct bench *b)
{
	size_t left = b->wire_len - FRONT - 1;
	uint8_t *place;

	if (!outq_append(&b->part, &b->env, b->wire, FRONT, NULL))
		return false;
	while (left > 0) {
		size_t n = outq_reserve(&b->part, &b->env, left, &place);

		if (n == 0)
			return false;
		outq_commit(&b->part, n);
		left -= n;
	}
	if (!outq_append(&b->part, &b->env, b->wire + b->wire_len - 1, 1, NULL))
		return false;
	outq_end_message(&b->part);
	return true;
}

static uint32_t
run_push_held(struct bench *b)
{
	for (uint32_t i = 0; i < b->micro->messages; i++) {
		struct message m;

		if (!read_part(b))
			break;
		m = outq_as_message(&b->part);
		if (!outq_push(&b->queue, &b->env, b->envelope, ENVELOPE, &m, 0))
			break;
	}
	return b->queue.messages;
}

/* --- flush ---------------------------------------------------------------- */

/* As net/conn_out.c, for a kernel that takes `piece` bytes at once. */
static uint32_t
flush(struct outq *q, struct outq_env *env, struct poison_guard *guard, size_t piece)
{
	struct iovec iov[IOV_COUNT];
	uint32_t count = 0;
	size_t total;

	while (outq_iov(q, iov, IOV_COUNT, &total) > 0 && poison_arm(guard) == 0) {
		size_t n = total < piece ? total : piece;
		struct outq_progress done = outq_consume(q, env, n);

		poison_wrote(guard, n, (size_t)done.left);
		count += done.messages;
	}
	return count;
}

static void
fill_queue(struct bench *b)
{
	empty_queue(b);
	run_push(b);
}

static void
fill_queue_held(struct bench *b)
{
	empty_queue(b);
	run_push_held(b);
}

static uint32_t
run_flush(struct bench *b)
{
	return flush(&b->queue, &b->env, &b->guard, b->micro->piece);
}

/* --- all of it: requests from one client to ten workers ------------------- */

static void
make_requests(struct bench *b)
{
	make_queue(b);
	make_workers(b);
	make_decode(b);
	for (int i = 0; i < WORKERS; i++)
		outq_fini(&b->workers[i].out, &b->env);
}

static uint32_t
run_requests(struct bench *b)
{
	const uint8_t *p = b->wire;
	size_t len = b->wire_len, n;
	uint32_t count = 0;

	while ((n = session_whole(&b->session, p, len)) > 0) {
		struct message m = {.p = p, .len = n, .size = n};
		struct peer *worker = balance_next(&b->balance, m.size + ENVELOPE);

		if (worker == NULL ||
			!outq_push(&worker->conn->out, &b->env, b->envelope, ENVELOPE, &m, 0))
			break;
		p += n;
		len -= n;
	}
	for (int i = 0; i < WORKERS; i++)
		count += flush(&b->workers[i].out, &b->env, &b->guard, b->micro->piece);
	return count;
}

/* --- cases ---------------------------------------------------------------- */

#define WHOLE SIZE_MAX

static const struct micro cases[] = {
	{"copy-64", "memcpy of 64 B messages, one by one: the yardstick", 960, 64, 1, WHOLE,
		make_copy, NULL, run_copy},
	{"decode-64", "64 B messages, 62 KiB of them in the buffer", 960, 64, 1, WHOLE, make_decode,
		NULL, run_decode},
	{"decode-1k", "1 KiB messages", 63, 1024, 1, WHOLE, make_decode, NULL, run_decode},
	{"decode-parts", "messages of 10 parts of 64 B", 96, 64, 10, WHOLE, make_decode, NULL,
		run_decode},
	{"decode-cut", "64 B messages in reads of 100 bytes", 960, 64, 1, 100, make_decode, NULL,
		run_decode},
	{"decode-ping", "PING commands, PONG made for each", 960, 0, 1, WHOLE, make_commands, NULL,
		run_decode},
	{"route-id", "one of 1,000 clients by an id that was made up", 1000, 64, 1, WHOLE,
		make_unnamed_clients, NULL, run_find},
	{"route-named", "one of 1,000 clients by its own id of 13 bytes", 1000, 64, 1, WHOLE,
		make_named_clients, NULL, run_find},
	{"route-worker", "the next of 10 workers that has room", 1000, 64, 1, WHOLE, make_workers,
		NULL, run_balance},
	{"enqueue-64", "64 B after an envelope, 960 in a queue", 960, 64, 1, WHOLE, make_queue,
		empty_queue, run_push},
	{"enqueue-1k", "1 KiB, 63 in a queue", 63, 1024, 1, WHOLE, make_queue, empty_queue,
		run_push},
	{"enqueue-held", "64 KiB that was read into its place, by reference", 16, 65536, 1, WHOLE,
		make_queue, empty_queue, run_push_held},
	{"flush-64", "960 of 64 B, all of them taken at once", 960, 64, 1, WHOLE, make_queue,
		fill_queue, run_flush},
	{"flush-1k", "63 of 1 KiB", 63, 1024, 1, WHOLE, make_queue, fill_queue, run_flush},
	{"flush-held", "16 of 64 KiB", 16, 65536, 1, WHOLE, make_queue, fill_queue_held, run_flush},
	{"flush-cut", "960 of 64 B, taken 1,000 bytes at a time", 960, 64, 1, 1000, make_queue,
		fill_queue, run_flush},
	{"request-64", "64 B: decode, route to a worker, enqueue, flush", 960, 64, 1, WHOLE,
		make_requests, NULL, run_requests},
};

enum { CASES = sizeof(cases) / sizeof(cases[0]) };

static struct bench *
bench_new(const struct micro *micro)
{
	struct bench *b = mem_new(sizeof(*b));

	b->micro = micro;
	chunk_pool_init(&b->env.pool);
	b->env.memory.limit = UINT64_MAX;
	micro->make(b);
	return b;
}

static void
bench_free(struct bench *b)
{
	for (int i = 0; i < WORKERS; i++) {
		if (b->workers[i].peer == NULL)
			continue;
		balance_remove(&b->balance, b->workers[i].peer);
		peer_free(b->workers[i].peer);
		outq_fini(&b->workers[i].out, &b->env);
	}
	for (int i = 0; i < CLIENTS && b->clients[i] != NULL; i++) {
		router_remove(&b->router, b->clients[i]);
		peer_free(b->clients[i]);
	}
	router_fini(&b->router);
	session_fini(&b->session);
	outq_fini(&b->queue, &b->env);
	outq_fini(&b->part, &b->env);
	if (b->env.memory.used != 0)
		fail(b, "the account of memory does not end at 0");
	chunk_pool_fini(&b->env.pool);
	free(b->wire);
	free(b->sink);
	free(b);
}

/* --- measuring ------------------------------------------------------------ */

/* callgrind finds this function by its name and counts nothing else. */
static KEEP uint32_t
measured(struct bench *b)
{
	return b->micro->run(b);
}

static int64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* One batch. Returns its ns. */
static int64_t
run_batch(struct bench *b)
{
	int64_t start;
	uint32_t count;

	if (b->micro->prepare != NULL)
		b->micro->prepare(b);
	start = now_ns();
	count = measured(b);
	start = now_ns() - start;
	if (count != b->micro->messages)
		fail(b, "not every message came through");
	return start;
}

static double
run_round(struct bench *b, int64_t at_least_ns)
{
	int64_t sum = 0;
	uint64_t messages = 0;

	run_batch(b); /* the others used the caches meanwhile */
	while (sum < at_least_ns) {
		sum += run_batch(b);
		messages += b->micro->messages;
	}
	return (double)sum / (double)messages;
}

static int
by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void
report(struct bench *const benches[], int count, int rounds, bool json)
{
	if (json)
		printf("{\"rounds\": %d, \"unit\": \"ns per message\", \"cases\": [\n", rounds);
	for (int i = 0; i < count; i++) {
		struct bench *b = benches[i];
		double median;

		qsort(b->ns, (size_t)rounds, sizeof(b->ns[0]), by_size);
		median = (b->ns[(rounds - 1) / 2] + b->ns[rounds / 2]) / 2;
		if (json)
			printf("  {\"name\": \"%s\", \"median\": %.2f, \"min\": %.2f, \"max\": "
			       "%.2f}%s\n",
				b->micro->name, median, b->ns[0], b->ns[rounds - 1],
				i + 1 < count ? "," : "");
		else
			printf("%-13s %9.2f ns  (%.2f to %.2f)  %s\n", b->micro->name, median,
				b->ns[0], b->ns[rounds - 1], b->micro->text);
	}
	if (json)
		printf("]}\n");
}

static const struct micro *
find_case(const char *name)
{
	for (int i = 0; i < CASES; i++)
		if (strcmp(cases[i].name, name) == 0)
			return &cases[i];
	fprintf(stderr, "no case is called %s; --list shows them\n", name);
	exit(EXIT_FAILURE);
}

static uint64_t
number(const char *text, uint64_t most)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	if (end == text || *end != '\0' || text[0] == '-' || n < 1 || n > most) {
		fprintf(stderr, "%s is not a number from 1 to %" PRIu64 "\n", text, most);
		exit(EXIT_FAILURE);
	}
	return n;
}

static int
count_only(const char *name, uint64_t wanted)
{
	struct bench *b = bench_new(find_case(name));
	uint64_t done = 0;

	while (done < wanted) {
		run_batch(b);
		done += b->micro->messages;
	}
	bench_free(b);
	printf("%" PRIu64 "\n", done);
	return EXIT_SUCCESS;
}

static int
usage(void)
{
	fprintf(stderr,
		"usage: micro [--rounds N] [--ms N] [--json] [NAME ...]\n"
		"       micro --count NAME N\n"
		"       micro --list\n");
	return EXIT_FAILURE;
}

int
main(int argc, char **argv)
{
	struct bench *benches[CASES];
	uint64_t ms = 5;
	int count = 0, rounds = 15;
	bool json = false;

	if (sodium_init() < 0)
		return EXIT_FAILURE;
	if (argc == 4 && strcmp(argv[1], "--count") == 0)
		return count_only(argv[2], number(argv[3], UINT32_MAX));
	if (argc == 2 && strcmp(argv[1], "--list") == 0) {
		for (int i = 0; i < CASES; i++)
			printf("%s\n", cases[i].name);
		return EXIT_SUCCESS;
	}
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0)
			json = true;
		else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
			rounds = (int)number(argv[++i], ROUNDS_MAX);
		else if (strcmp(argv[i], "--ms") == 0 && i + 1 < argc)
			ms = number(argv[++i], 10000);
		else if (argv[i][0] == '-' || count == CASES)
			return usage();
		else
			benches[count++] = bench_new(find_case(argv[i]));
	}
	if (count == 0)
		for (; count < CASES; count++)
			benches[count] = bench_new(&cases[count]);
	for (int r = 0; r < rounds; r++)
		for (int i = 0; i < count; i++)
			benches[i]->ns[r] = run_round(benches[i], (int64_t)ms * 1000000);
	report(benches, count, rounds, json);
	for (int i = 0; i < count; i++)
		bench_free(benches[i]);
	return EXIT_SUCCESS;
}
