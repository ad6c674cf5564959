/* SPDX-License-Identifier: MIT */
/*
 * sim --seed N      one run, with its whole trace under -v
 * sim --seeds N     N runs, from --from
 * sim --seconds N   as many runs as fit
 */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sides.h"
#include "broker/proxy.h"
#include "check.h"
#include "daemon/service.h"
#include "peers.h"
#include "queue_mode.h"
#include "sim.h"

enum { TRACE_LINES = 48, TRACE_WIDTH = 240, PROBES = 3, PROBES_BESIDE_HOGS = 60, CALM_MS = 200000 };

struct world world;

static uint64_t random_state;
static char trace_ring[TRACE_LINES][TRACE_WIDTH];
static unsigned trace_at;
static bool verbose;
static uint64_t fingerprint; /* of everything that happened */
static uint64_t fault_count[FAULT_KINDS];
static struct {
	uint64_t seeds, flights, steps, messages, requests_done, virtual_ms;
	uint64_t redelivered, late, undeliverable, suspects;
} sums;

/* --- chance --------------------------------------------------------------- */

static uint64_t
next_random(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

uint64_t
rnd(uint64_t n)
{
	return next_random() % n;
}

int64_t
between(int64_t a, int64_t b)
{
	return a + (int64_t)rnd((uint64_t)(b - a) + 1);
}

bool
chance(unsigned permille)
{
	return rnd(1000) < permille;
}

/*
 * libsodium's random numbers come from the seed, too. Keys of hash tables have no visible effect:
 * they have numbers of their own, so that another table does not change the runs.
 */
static uint64_t key_state;

static const char *
sodium_name(void)
{
	return "simulation";
}

static uint32_t
sodium_random(void)
{
	return (uint32_t)next_random();
}

static void
sodium_buf(void *const buf, const size_t size)
{
	for (size_t i = 0; i < size; i++)
		((uint8_t *)buf)[i] = (uint8_t)(key_state += 0x9d);
}

void
count_fault(enum fault fault)
{
	fault_count[fault]++;
}

/* --- memory that peers cause to be taken (the linker wraps base/mem.c) ---- */

bool
memory_fails(unsigned of)
{
	if (!world.memory_faults || world.steps == 0 || world.healing || world.stopping ||
		rnd(of) != 0)
		return false;
	count_fault(FAULT_NO_MEMORY);
	return true;
}

void *__real_mem_try(size_t size);
void *__wrap_mem_try(size_t size);
void *__real_mem_try_new(size_t size);
void *__wrap_mem_try_new(size_t size);
void *__real_mem_try_resize(void *p, size_t size);
void *__wrap_mem_try_resize(void *p, size_t size);

void *
__wrap_mem_try(size_t size)
{
	return memory_fails(20) ? NULL : __real_mem_try(size);
}

void *
__wrap_mem_try_new(size_t size)
{
	return memory_fails(40) ? NULL : __real_mem_try_new(size);
}

void *
__wrap_mem_try_resize(void *p, size_t size)
{
	return memory_fails(40) ? NULL : __real_mem_try_resize(p, size);
}

/* --- trace ---------------------------------------------------------------- */

static void
trace_line(const char *text)
{
	char *line = trace_ring[trace_at++ % TRACE_LINES];

	snprintf(line, TRACE_WIDTH, "%9.3f  %s", (double)world.now / 1000, text);
	for (const char *p = line; *p != '\0'; p++)
		fingerprint = (fingerprint ^ (uint8_t)*p) * 0x100000001b3u;
	if (verbose)
		puts(line);
}

void
trace(const char *fmt, ...)
{
	char text[TRACE_WIDTH];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	trace_line(text);
}

void
detail(const char *fmt, ...)
{
	va_list args;

	if (!verbose)
		return;
	printf("%9.3f    . ", (double)world.now / 1000);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
}

static void
print_trace(void)
{
	unsigned from = trace_at > TRACE_LINES ? trace_at - TRACE_LINES : 0;

	const struct proxy_opts *o[] = {
		&world.proxy_config.side[0].opts, &world.proxy_config.side[1].opts};

	printf("seed %" PRIu64 ", step %" PRIu64 "; faults of the network %u/1000, of memory %s; ",
		world.seed, world.steps, world.net_faults, world.memory_faults ? "yes" : "no");
	printf("memory_limit %lld\n", (long long)world.config.broker.memory_limit);
	for (int i = 0; i < PROXY_SIDES; i++)
		printf("%s: send_timeout %lld send_hwm %lld send_hwm_bytes %lld "
		       "receive_hwm_bytes %lld "
		       "when_full %s duplicates %s\n",
			side_name(i), (long long)o[i]->side.send_timeout,
			(long long)o[i]->side.send_hwm, (long long)o[i]->side.send_hwm_bytes,
			(long long)o[i]->side.receive_hwm_bytes,
			o[i]->queue.when_full == WHEN_FULL_PAUSE           ? "pause"
				: o[i]->queue.when_full == WHEN_FULL_CLOSE ? "close"
									   : "drop",
			o[i]->queue.duplicate_routing_id == DUPLICATE_REJECT ? "reject"
									     : "takeover");
	if (!world.flight)
		printf("replies %s balance %s\n", o[1]->queue.replies ? "yes" : "no",
			o[1]->queue.balance == BALANCE_LEAST_OUTSTANDING ? "least_outstanding"
									 : "round_robin");
	else
		printf("redeliver %s max_outstanding %lld answer_timeout %lld redeliver_limit %lld "
		       "balance %s\n",
			o[1]->queue.redeliver ? "yes" : "no",
			(long long)o[1]->queue.max_outstanding,
			(long long)o[1]->queue.answer_timeout,
			(long long)o[1]->queue.redeliver_limit,
			o[1]->queue.balance == BALANCE_LEAST_OUTSTANDING ? "least_outstanding"
									 : "round_robin");
	puts("the last that happened (virtual seconds):");
	for (unsigned i = from; i < trace_at; i++)
		puts(trace_ring[i % TRACE_LINES]);
}

void
violation(const char *fmt, ...)
{
	va_list args;

	print_trace();
	check_print();
	printf("VIOLATION (seed %" PRIu64 ", at %.3f s): ", world.seed, (double)world.now / 1000);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\nreplay with: sim -v --seed %" PRIu64 "\n", world.seed);
	fflush(stdout);
	_exit(1);
}

static void
on_abort(int number)
{
	/* nothing else runs any more: printing is safe enough in this handler */
	signal(number, SIG_DFL);
	print_trace();
	printf("CRASH (seed %" PRIu64 "): signal %d\n", world.seed, number);
	fflush(stdout);
	_exit(1);
}

/* With a sanitizer, its report ends in on_abort, too. */
const char *__asan_default_options(void);
const char *
__asan_default_options(void)
{
	return "abort_on_error=1:handle_abort=0";
}

const char *__ubsan_default_options(void);
const char *
__ubsan_default_options(void)
{
	return "abort_on_error=1:print_stacktrace=1";
}

/* --- log: base/log.h, into the trace -------------------------------------- */

static uint64_t drained_given_up;

void
log_open(void)
{
}

void
log_set_level(enum log_level level)
{
	(void)level;
}

enum log_level
log_get_level(void)
{
	return LOG_LEVEL_DEBUG;
}

const char *
log_level_name(enum log_level level)
{
	(void)level;
	return "debug";
}

/* No file changes during a run. */
bool
log_level_parse(const char *name, enum log_level *out)
{
	(void)name, (void)out;
	return false;
}

bool
log_enabled(enum log_level level)
{
	(void)level;
	return true;
}

__attribute__((format(printf, 3, 0))) static void
write_event(enum log_level level, const char *event, const char *fmt, va_list args)
{
	char text[1024];
	int n = snprintf(text, sizeof(text), "    %s ", event);
	const char *found;

	vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, args);
	trace_line(text);
	if (level == LOG_LEVEL_ERROR)
		violation("the daemon logs an error: %s", text);
	world.suspects += strcmp(event, "worker_suspect") == 0;
	if (strcmp(event, "drained") == 0 && (found = strstr(text, "given_up=")) != NULL)
		drained_given_up = strtoull(found + 9, NULL, 10);
}

void
log_event(enum log_level level, const char *event, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	write_event(level, event, fmt, args);
	va_end(args);
}

void
log_secret_event(enum log_level level, const char *event, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	write_event(level, event, fmt, args);
	va_end(args);
}

/* A trace is never full. */
void
log_on_wait(void (*wait)(void *arg), void *arg)
{
	(void)wait, (void)arg;
}

int
log_fd(void)
{
	return -1;
}

bool
log_waits(void)
{
	return false;
}

size_t
log_waiting(void)
{
	return 0;
}

bool
log_flush(void)
{
	return true;
}

void
log_drain(int ms)
{
	(void)ms;
}

const char *
log_quote(char *out, size_t size, const void *data, size_t len)
{
	snprintf(out, size, "%.*s", (int)len, (const char *)data);
	return out;
}

/* --- configuration of a run ----------------------------------------------- */

static int64_t
pick(const int64_t *values, size_t count)
{
	return values[rnd(count)];
}

#define PICK(...) \
	pick((const int64_t[]){__VA_ARGS__}, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

static void
set_side(struct config_side *c, int64_t max_size)
{
	c->present = true;
	c->opts = (struct proxy_opts){
		.queue.replies = true,
		.side.send_timeout = PICK(0, 50, 1000, 10000),
		.side.receive_timeout = PICK(0, 500, 30000),
		.side.receive_deadline = PICK(0, 3000, 300000),
		.side.handshake_timeout = PICK(200, 3000, 10000),
		.side.heartbeat_interval = PICK(0, 300, 10000),
		.side.heartbeat_timeout = PICK(100, 3000, 30000),
		.side.connect_timeout = PICK(10, 1000, 5000),
		.side.reconnect_min = PICK(1, 100),
		.side.reconnect_max = PICK(100, 5000, 30000),
		.side.reconnect_jitter = PICK(0, 25, 100),
		.side.receive_hwm_bytes = PICK(1, 500, 20000, 1 << 20),
		.side.send_hwm = PICK(0, 0, 1, 3, 100),
		.side.send_hwm_bytes = PICK(1, 300, 5000, 1 << 20),
		.side.max_message_size = max_size,
		.side.max_message_parts = PICK(8, 20, 1024),
		.side.backlog = 64,
		.queue.when_full = rnd(2),
		.queue.duplicate_routing_id = rnd(2),
	};
}

static void
set_endpoints(struct config_side *c, struct endpoint *bind, struct endpoint *dial, unsigned dials)
{
	const char *wrong = endpoint_parse(&bind[0], "ipc://@sim", true);

	c->bind = bind;
	c->bind_count = 1;
	c->connect = dial;
	c->connect_count = dials;
	for (unsigned i = 0; wrong == NULL && i < dials; i++)
		wrong = endpoint_parse(
			&dial[i], chance(300) ? "ipc://@elsewhere" : "tcp://host:1", false);
	if (wrong != NULL)
		abort();
}

/* Large queues, and little memory for them. */
static void
press_for_memory(void)
{
	world.config.broker.memory_limit = 60000;
	world.crowd[PROXY_BACKEND] = 1;
	for (int i = 0; i < PROXY_SIDES; i++) {
		struct proxy_opts *o = &world.proxy_config.side[i].opts;
		o->side.max_message_size = 1500;
		o->side.receive_hwm_bytes = o->side.send_hwm_bytes = 1 << 20;
		o->side.send_hwm = 0;
	}
}

/*
 * In every second run the backend tracks requests. These runs are not chosen by random numbers, and
 * their own numbers are drawn last, so that the other runs stay the same.
 */
static void
choose_flight(void)
{
	struct proxy_opts *o = &world.proxy_config.side[PROXY_BACKEND].opts;
	uint64_t z = (world.seed + 1) * 0x9e3779b97f4a7c15u;

	o->queue.redeliver_limit = 3;
	o->queue.balance = z >> 62 & 1;
	world.flight = z >> 63;
	o->queue.silent_after = (int64_t[]){0, 50, 1000, 5000}[z >> 56 & 3];
	o->queue.replies = world.flight || (z >> 59 & 7) != 0;
	if (!world.flight)
		return;
	do {
		o->queue.redeliver = chance(700);
		o->queue.max_outstanding = PICK(0, 0, 1, 2, 5, 50);
		o->queue.answer_timeout = PICK(0, 50, 500, 5000);
		o->queue.balance = rnd(2);
	} while (!o->queue.redeliver && o->queue.max_outstanding == 0 &&
		o->queue.answer_timeout == 0);
	o->queue.redeliver_limit = PICK(1, 2, 3, 10);
}

static void
start_world(uint64_t seed)
{
	static struct endpoint bind[PROXY_SIDES][1], dial[PROXY_SIDES][3];
	int64_t max_size, faults_end;
	uint64_t z;

	world = (struct world){.seed = seed};
	random_state = seed * 0x2545f4914f6cdd1du + 1;
	fingerprint = 0xcbf29ce484222325u;
	trace_at = 0;
	world.now = between(1000, 1000000);
	world.net_faults = (unsigned)PICK(0, 20, 100, 300);
	world.tiny_pieces = chance(300);
	world.freezes = chance(200);
	world.memory_faults = chance(150);
	world.stop_early = chance(200);
	world.crowd[PROXY_FRONTEND] = (unsigned)between(1, 8);
	world.crowd[PROXY_BACKEND] = (unsigned)between(1, chance(400) ? 2 : 8);
	max_size = PICK(1500, 20000, 300000);
	world.config.broker = (struct config_broker){
		.drain_timeout = PICK(100, 3000, 10000),
		.memory_limit = PICK(150000, 800000, 1 << 30, 1 << 30, 1 << 30),
		.max_connections = PICK(0, 0, 16),
	};
	world.config.proxy = &world.proxy_config;
	world.config.proxy_count = 1;
	snprintf(world.proxy_config.name, sizeof(world.proxy_config.name), "sim");
	for (int i = 0; i < PROXY_SIDES; i++) {
		set_side(&world.proxy_config.side[i], max_size);
		set_endpoints(&world.proxy_config.side[i], bind[i], dial[i],
			chance(400) ? (unsigned)between(1, 3) : 0);
	}
	if (world.config.broker.memory_limit < max_size * 4)
		world.config.broker.memory_limit = max_size * 4;
	if (chance(150))
		press_for_memory();
	faults_end = world.now + PICK(500, 5000, 60000, 600000);
	world.heal_at = faults_end;
	world.stop_at = world.stop_early ? faults_end : CLOCK_NEVER;
	world.probe_at = world.ask_at = world.second_signal_at = world.give_up_at = CLOCK_NEVER;
	drained_given_up = 0;
	check_reset();
	for (int i = 0; i < 16;
		i++) /* as many as the first table's key took when it was the only one */
		next_random();
	choose_flight();
	strangers_choose();
	rivals_choose();
	/* not drawn, for the same reason */
	world.brokers = ((world.seed + 43) * 0x9e3779b97f4a7c15u) >> 62 == 0;
	world.halves = ((world.seed + 51) * 0x9e3779b97f4a7c15u) >> 62 == 0;
	z = (world.seed + 29) * 0x9e3779b97f4a7c15u;
	world.tight = z >> 62 == 0 || z >> 60 == 11; /* the first with tracking, others without */
	hogs_choose();
	if (((world.seed + 37) * 0x9e3779b97f4a7c15u) >> 61 == 0)
		world.proxy_config.side[PROXY_FRONTEND].opts.queue.when_full = WHEN_FULL_CLOSE;
}

/* --- course of events ----------------------------------------------------- */

struct proxy *
world_proxy(void)
{
	struct broker *b;

	if (world.loop == NULL || world.loop->on_turn == NULL)
		return NULL;
	b = world.loop->on_turn_arg;
	return b->count > 0 ? b->proxies[0] : NULL;
}

struct conn *
world_conn(int fd)
{
	struct proxy *p = world_proxy();

	for (int i = 0; p != NULL && i < PROXY_SIDES; i++) {
		list_each(node, tmp, &p->side[i].conns) {
			struct conn *conn = list_entry(node, struct conn, node);
			if (conn->fd == fd)
				return conn;
		}
	}
	return NULL;
}

static int64_t next_arrival;

static enum temper
some_temper(void)
{
	return chance(450) ? HONEST : (enum temper)rnd(TEMPERS);
}

static void
arrivals(void)
{
	int side;

	if (world.healing || world.stopping || world.now < next_arrival)
		return;
	next_arrival = world.now + (chance(600) ? between(0, 50) : between(0, 5000));
	side = (int)rnd(2);
	if (peers_live(side) >= world.crowd[side] || message_count > 1500)
		return;
	peer_connect(side, some_temper());
}

/*
 * How many peers may stay: below a limit there must be places for the new peers in peace, and for
 * those that the daemon dials.
 */
static int64_t
places_to_keep(void)
{
	const struct config_side *side = world.proxy_config.side;
	int64_t limit = world.config.broker.max_connections, newcomers = 4, left;

	if (limit == 0)
		return INT64_MAX;
	left = limit - newcomers -
		(int64_t)(side[PROXY_FRONTEND].connect_count + side[PROXY_BACKEND].connect_count);
	return left < 0 ? 0 : left < 4 ? left : 4;
}

static void
heal(void)
{
	int64_t most = places_to_keep(), kept = 0;

	trace("faults end");
	world.healing = true;
	for (struct peer_sim *p = peers; p != NULL; p = p->next)
		peer_heal(p, ++kept > most);
	world.probe_at = world.now + CALM_MS;
}

static void
probe(void)
{
	trace("probes");
	world.probe_at = CLOCK_NEVER;
	for (int side = 0; side < PROXY_SIDES; side++)
		for (int i = 0; i < 2; i++) {
			struct peer_sim *p = peer_connect(side, HONEST);
			if (p == NULL)
				violation("the daemon does not listen any more");
			p->late = true;
		}
	world.ask_at = world.now + CALM_MS / 10;
	world.stop_at = world.now + CALM_MS / 2;
}

/* The new peers are ready by now: every client sends a request, which must be answered. */
static void
send_probes(void)
{
	if (world.now < world.ask_at)
		return;
	world.ask_at = CLOCK_NEVER;
	for (struct peer_sim *p = peers; p != NULL; p = p->next) {
		if (p->late && !p->outlasted && (p->sock == NULL || p->sock->daemon_closed))
			violation("peer %d, which connected in peace, is closed", p->number);
		if (p->sock == NULL || p->sock->peer_closed || p->side != PROXY_FRONTEND)
			continue;
		if (p->sock->daemon_closed)
			continue; /* closed while there were faults, and it has not noticed yet */
		if (!p->ready)
			violation("client %d is not ready after %d s of peace", p->number,
				CALM_MS / 10000);
		p->probes = hogs_are_there() ? PROBES_BESIDE_HOGS : PROBES;
		queue_probe(p);
	}
}

/* A worker that was closed for send_timeout may have had some, which are not sent to another. */
static bool
probes_are_lost(const struct proxy *proxy)
{
	bool outlasted = false;

	for (const struct peer_sim *p = peers; p != NULL; p = p->next)
		outlasted |= p->outlasted && p->side == PROXY_BACKEND;
	return outlasted && !proxy->opts[PROXY_BACKEND].queue.redeliver;
}

static void
check_peace(void)
{
	const struct proxy *p = world_proxy();

	for (struct peer_sim *c = peers; c != NULL; c = c->next)
		if (c->probes > 0 && !probes_are_lost(p))
			violation("%u probes of client %d are not answered", c->probes, c->number);
	for (int i = 0; i < PROXY_SIDES; i++)
		if (p->counters[i].queued != 0)
			violation("%s: %" PRIu64 " messages still queued in peace", p->side[i].name,
				p->counters[i].queued);
	queue_check_peace(p);
}

/* A while before the stop, in peace: clients send requests until they see our end. */
static void
say_farewell(void)
{
	trace("clients ask until the end");
	world.farewell = true;
	world.farewell_from = message_count;
	world.farewell_drops = queue_lost();
	for (struct peer_sim *p = peers; p != NULL; p = p->next) {
		if (p->side != PROXY_FRONTEND || p->sock == NULL || p->sock->peer_closed ||
			chance(200))
			continue;
		p->wants = (unsigned)between(1, 40);
		p->in_flight = 0;
		peer_wake(p);
	}
	world.stop_at = world.now + between(0, chance(500) ? 20 : 400);
}

static void
stop(void)
{
	if (world.stop_early) {
		count_fault(FAULT_STOP_SIGNAL);
	} else if (!world.farewell) {
		check_peace();
		if (world.config.broker.memory_limit >= 1 << 30 && !world.memory_faults &&
			chance(600)) {
			say_farewell();
			return;
		}
	}
	trace("SIGTERM");
	world.stopping = true;
	world.stop_at = CLOCK_NEVER;
	if (chance(300))
		world.second_signal_at = world.now + between(0, 2000);
	net_raise(SIGTERM);
	world.give_up_at = world.now + world.config.broker.drain_timeout + 25000;
}

void
world_step(void)
{
	if (world_proxy() == NULL)
		return;
	arrivals();
	strangers_step();
	rivals_step();
	hogs_step();
	if (world.now >= world.stop_at)
		stop();
	if (!world.healing && !world.stopping && world.now >= world.heal_at)
		heal();
	if (world.now >= world.probe_at && !world.stopping)
		probe();
	if (!world.stopping)
		send_probes();
	if (world.now >= world.second_signal_at) {
		trace("SIGTERM again");
		world.second_signal = true;
		world.second_signal_at = CLOCK_NEVER;
		net_raise(SIGTERM);
	}
	if (world.stopping && world.now > world.give_up_at)
		violation("the daemon does not stop");
}

int64_t
world_next(void)
{
	int64_t next = CLOCK_NEVER;

	if (!world.healing && !world.stopping) {
		next = next_arrival;
		if (world.heal_at < next)
			next = world.heal_at;
	}
	if (strangers_next() < next)
		next = strangers_next();
	if (rivals_next() < next)
		next = rivals_next();
	if (hogs_next() < next)
		next = hogs_next();
	if (world.stop_at < next)
		next = world.stop_at;
	if (world.probe_at < next && !world.stopping)
		next = world.probe_at;
	if (world.second_signal_at < next)
		next = world.second_signal_at;
	if (world.ask_at < next && !world.stopping)
		next = world.ask_at;
	if (world.stopping && world.give_up_at < next)
		next = world.give_up_at + 1;
	return next < world.now ? world.now + 1 : next;
}

/* --- runs ----------------------------------------------------------------- */

/*
 * May requests be given up at the stop: is it cut short, may requests expire, or clients be closed?
 */
static bool
may_give_up(void)
{
	return world.farewell &&
		(world.second_signal || world.config.broker.drain_timeout < 3000 ||
			world.proxy_config.side[PROXY_BACKEND].opts.queue.answer_timeout > 0 ||
			world.proxy_config.side[PROXY_FRONTEND].opts.queue.when_full ==
				WHEN_FULL_CLOSE);
}

static uint64_t
run_seed(uint64_t seed)
{
	int64_t begin;
	int status;

	start_world(seed);
	begin = world.now;
	next_arrival = world.now;
	status = service_run(&world.config, 0, (struct last_good){0});
	if (status != EXIT_CLEAN)
		violation("exit status %d", status);
	net_check_empty();
	if (!world.stop_early && drained_given_up > world.anonymous && !may_give_up())
		violation("%" PRIu64 " requests were given up in peace", drained_given_up);
	for (int i = 0; i < message_count; i++) {
		sums.messages += messages[i].accepted;
		sums.requests_done += messages[i].kind == REPLY && messages[i].handled > 0;
	}
	sums.seeds++;
	sums.flights += world.flight;
	sums.redelivered += world.redelivered;
	sums.late += world.late;
	sums.undeliverable += world.undeliverable;
	sums.suspects += world.suspects;
	sums.steps += world.steps;
	sums.virtual_ms += (uint64_t)(world.now - begin);
	peers_free();
	messages_free();
	return fingerprint;
}

static void
report(void)
{
	static const char *const names[FAULT_KINDS] = {
#define FAULT_TEXT(name, text) text,
		FAULTS(FAULT_TEXT)
#undef FAULT_TEXT
	};

	printf("seeds %" PRIu64 ", steps %" PRIu64 ", messages accepted %" PRIu64
	       ", replies that arrived %" PRIu64 ", virtual hours %.1f\n",
		sums.seeds, sums.steps, sums.messages, sums.requests_done,
		(double)sums.virtual_ms / 3600000);
	printf("requests in flight tracked in %" PRIu64 " of them: redelivered %" PRIu64
	       ", late replies %" PRIu64 ", undeliverable %" PRIu64 ", suspects %" PRIu64 "\n",
		sums.flights, sums.redelivered, sums.late, sums.undeliverable, sums.suspects);
	printf("faults injected:\n");
	for (int i = 0; i < FAULT_KINDS; i++)
		printf("  %12" PRIu64 "  %s\n", fault_count[i], names[i]);
}

static double
seconds_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static const char usage[] =
	"usage: sim [-v] [--seed N | --seeds N [--from N] | --seconds N [--from N]]\n"
	"  --seed N      one run (with -v: everything that happens)\n"
	"  --seeds N     N runs; default 2000\n"
	"  --seconds N   as many runs as fit in N seconds\n"
	"  --from N      the first seed; default 1\n"
	"  --quiet       no table at the end\n";

int
main(int argc, char **argv)
{
	static const struct option options[] = {{"seed", 1, NULL, 's'}, {"seeds", 1, NULL, 'n'},
		{"from", 1, NULL, 'f'}, {"seconds", 1, NULL, 't'}, {"quiet", 0, NULL, 'q'},
		{"help", 0, NULL, 'h'}, {NULL, 0, NULL, 0}};
	static struct randombytes_implementation random = {
		sodium_name, sodium_random, NULL, NULL, sodium_buf, NULL};
	uint64_t from = 1, count = 2000;
	double seconds = 0, begin = seconds_now();
	bool quiet = false;
	int c;

	while ((c = getopt_long(argc, argv, "vh", options, NULL)) != -1) {
		switch (c) {
		case 's':
			from = strtoull(optarg, NULL, 10);
			count = 1;
			break;
		case 'n':
			count = strtoull(optarg, NULL, 10);
			break;
		case 'f':
			from = strtoull(optarg, NULL, 10);
			break;
		case 't':
			seconds = strtod(optarg, NULL);
			break;
		case 'q':
			quiet = true;
			break;
		case 'v':
			verbose = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	randombytes_set_implementation(&random);
	if (sodium_init() < 0)
		return 2;
	signal(SIGABRT, on_abort);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__clang__) /* a sanitizer says more */
	signal(SIGSEGV, on_abort);
#endif
	/* a seed must give the same run twice */
	if (run_seed(from) != run_seed(from))
		violation("the same seed took two courses");
	for (uint64_t i = 1; seconds > 0 ? seconds_now() - begin < seconds : i < count; i++)
		run_seed(from + i);
	if (!quiet)
		report();
	printf("CHECK: simulation, seeds %" PRIu64 " to %" PRIu64 "\n", from,
		from + sums.seeds - 2);
	return 0;
}
