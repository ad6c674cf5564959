/* SPDX-License-Identifier: MIT */
/*
 * peers.h - the clients and workers of a run: raw ZMTP 3.1 DEALER peers with the NULL mechanism on
 * one epoll descriptor. They do no more than a run needs, so that they cost less than what they
 * measure: a worker sends back what it reads as it is, a client compares bytes.
 *
 * A connection that ends is counted, with the requests that it took along, and made again.
 */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "histogram.h"
#include "image.h"
#include "target.h"

enum run_mode {
	RUN_CLOSED, /* every client keeps `window` requests in flight */
	RUN_OPEN,   /* requests leave at `rate`, whatever became of the earlier ones */
	RUN_SERVE,  /* there are only workers */
	RUN_ONEWAY, /* clients send as fast as they can, workers only take */
	RUN_IDLE,   /* connected, silent */
};

/*
 * Kinds of errors: X(NAME, word, noun, rest). `word` is the key in JSON; the others follow a
 * number.
 */
#define RUN_ERRORS(X) \
	X(REFUSED, refused, "connection", "refused") \
	X(CLOSED, closed, "connection", "closed by the other side") \
	X(FAILED, failed, "connection", "failed otherwise") \
	X(WRONG, wrong, "connection", "with wrong bytes") \
	X(TIMEOUT, timeout, "request", "timed out") \
	X(LOST, lost, "request", "lost with the connection") \
	X(UNEXPECTED, unexpected, "message", "that answered no request")

#define RUN_ERROR_NAME(name, word, noun, rest) RUN_ERROR_##name,
enum run_error { RUN_ERRORS(RUN_ERROR_NAME) RUN_ERROR_COUNT };
#undef RUN_ERROR_NAME

struct peer;

/* One run. The caller fills in the first part and zeroes the rest; run_fini frees what it takes. */
struct run {
	enum run_mode mode;
	unsigned n_clients, n_workers;
	unsigned window;
	double rate;         /* requests per second of all clients together */
	uint64_t timeout_ns; /* a request without a reply is given up after this */
	uint64_t may_make;   /* so many requests are made, and no more */
	bool any_reply;      /* replies need not be what was sent */
	bool blind;  /* workers send back what they read without looking: no heartbeats, no count */
	bool paired; /* workers get no routing ids: the peer is a byte relay */
	bool spin;   /* an open run polls without sleeping */
	const struct target *frontends, *backends;
	unsigned n_frontends, n_backends;
	struct image image;

	int epoll_fd;
	struct peer *peers; /* clients, then workers */
	unsigned n_ready, n_down;
	uint64_t retry_at; /* ns: when those that are down are tried again */
	uint8_t *scratch;
	bool started;        /* what goes wrong is counted now; before, it ends the program */
	bool sending;        /* new requests may leave */
	uint64_t open_start; /* ns: when the first request of an open run was due */
	uint64_t next_due;   /* ns: when the next one is */
	/* of the whole run; requests = replies + TIMEOUT + LOST + outstanding, except one way */
	uint64_t requests, replies, outstanding;
	uint64_t late_replies; /* came after their request was given up */
	uint64_t errors[RUN_ERROR_COUNT];
	/*
	 * since the last run_count_from_here(); messages are replies, or messages that workers took
	 */
	uint64_t messages, sends, late_sends, late_max_ns;
	/*
	 * ns, from when a request was to leave to its reply's last byte: since
	 * run_take_latencies(), and before
	 */
	struct histogram recent, latency;
};

/* Nanoseconds of the monotonic clock. */
uint64_t now_ns(void);

/*
 * Connects all peers and waits until each has the other side's READY. Returns NULL, or a text that
 * names the endpoint and says why that failed; it is static, and the run is only good for run_fini.
 * Returns early when *interrupted becomes true.
 */
const char *run_connect(struct run *run, const volatile bool *interrupted);

/* Lets requests leave: from now on run_turn() sends. */
void run_start(struct run *run);

/*
 * Takes what is ready, waiting at most `wait_ms` or until a signal comes; sends what is due; tries
 * again what is down.
 */
void run_turn(struct run *run, int wait_ms);

/*
 * Gives up requests that were sent `timeout` ns ago or longer: they count as TIMEOUT, and others
 * may leave instead. Call it now and then.
 */
void run_expire(struct run *run, uint64_t timeout);

/* Gives up all that nobody answered yet, sent or not: at the end. */
void run_give_up(struct run *run);

/* The first n workers stop reading and writing: to the other side it is as if they were stopped. */
void run_stall(struct run *run, unsigned n);

/* Messages, sends and latencies start at nothing here. */
void run_count_from_here(struct run *run);

/* Adds `recent` to `latency` and empties it. */
void run_take_latencies(struct run *run);

/* Closes everything and frees it, the image too. */
void run_fini(struct run *run);

#endif
