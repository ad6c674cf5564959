/*
 * peers.h - the clients and workers of a run: raw ZMTP 3.1 DEALER peers with the NULL mechanism on
 * one epoll descriptor. They do no more than a run needs, so that they cost less than what they
 * measure: a worker sends back what it reads without looking, a client compares bytes.
 */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include "histogram.h"
#include "image.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum run_mode {
	RUN_CLOSED, /* every client keeps `window` requests in flight */
	RUN_OPEN,   /* requests leave at `rate`, whatever became of the earlier ones */
	RUN_ONEWAY, /* clients send as fast as they can, workers only take */
	RUN_IDLE,   /* connected, silent */
};

struct peer;

/* One run. The caller fills in the first part and zeroes the rest; run_init does the rest. */
struct run {
	enum run_mode mode;
	unsigned n_clients, n_workers;
	unsigned window;
	double rate; /* requests per second of all clients together */
	bool paired; /* workers get no routing ids: the peer is a byte relay */
	const struct sockaddr_in *frontends, *backends; /* n_proxies of each */
	unsigned n_proxies;
	struct image image;

	int epoll_fd;
	struct peer *peers; /* clients, then workers */
	unsigned n_ready;
	uint8_t *scratch;
	bool sending; /* new requests may leave */
	uint64_t open_start; /* ns: when the first request of an open run was due */
	/* since the last run_count_from_here(); messages are replies, or one-way messages taken */
	uint64_t messages, lost, wrong, sends, late_sends, late_max_ns;
	uint64_t outstanding;
	struct histogram latency; /* ns: from when a request was to leave to its reply's last byte */
};

/* Nanoseconds of the monotonic clock. */
uint64_t now_ns(void);

/*
 * Connects all peers and waits until each has the other side's READY. Ends the program with status
 * 1 and a line when that fails.
 */
void run_connect(struct run *run);

/* Lets requests leave: from now on run_turn() sends. */
void run_start(struct run *run);

/* Takes what is ready, waiting at most `wait_ms`; sends what is due. Ends the program when a
 * peer's connection ends. */
void run_turn(struct run *run, int wait_ms);

/*
 * Counts clients' requests that nothing came back for in `silence` ns as lost and lets others leave
 * instead. Call it now and then.
 */
void run_give_up(struct run *run, uint64_t silence);

/* The first n workers stop reading and writing: to the other side it is as if they were stopped. */
void run_stall(struct run *run, unsigned n);

/* Counters and latencies start at nothing here. */
void run_count_from_here(struct run *run);

/* Closes everything and frees it. */
void run_fini(struct run *run);

#endif
