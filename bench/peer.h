/* SPDX-License-Identifier: MIT */
/*
 * peer.h - one connection of a run, as peers.c, connect.c, client.c and worker.c share it.
 */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <sys/types.h>

#include "peers.h"
#include "stream.h"

#include "zmtp/command.h"
#include "zmtp/greeting.h"

#define SCRATCH (256u << 10)

enum peer_state {
	PEER_DOWN,       /* no connection; it is made at run->retry_at */
	PEER_CONNECTING, /* the kernel is at it */
	PEER_GREETING,   /* our greeting and READY left */
	PEER_HANDSHAKE,  /* the other side's greeting came; its READY is missing */
	PEER_READY,
};

/* A request that is on its way. */
struct slot {
	uint64_t seq; /* 0: nothing is on its way here */
	uint64_t due; /* ns: when it was to leave */
};

struct peer {
	int fd; /* -1: none */
	enum peer_state state;
	bool worker, wants_write, reads;
	uint32_t index;
	struct image_reader reader; /* where bytes are compared */
	/* a worker's: what it could not send back yet */
	uint8_t *left;
	size_t left_at, left_len;
	/* a client's */
	struct slot *slots;
	uint64_t *given_up; /* for each slot the last request that was given up in it */
	uint32_t *free;     /* slots where nothing is on its way: a stack, unused without idents */
	uint32_t n_free;
	uint32_t *unsent; /* ring of `window` slots that have to leave, in the order of their seq */
	uint32_t unsent_at, n_unsent;
	size_t sent_of_first;
	uint64_t seq;     /* requests that were made so far */
	uint64_t settled; /* of those: answered, or given up; without idents, in order */
	size_t pong_at, pong_len;
	uint8_t pong[COMMAND_PING_MAX]; /* has to leave between two messages */
	/* seldom looked at, and long */
	const struct target *target;
	struct greeting greeting;
	struct frame_reader command;
	struct stream stream; /* where bytes are not compared */
};

/* --- peers.c -------------------------------------------------------------- */

/* Tells epoll what this peer waits for. */
void peer_watch(struct run *run, struct peer *peer, int op);
void peer_want_write(struct run *run, struct peer *peer, bool wants);

/*
 * The connection is over: counts `error`, frees the requests that were on it, and has it made
 * again. Before the run started, it keeps `why` for run_connect instead.
 */
void peer_fail(struct run *run, struct peer *peer, enum run_error error, const char *why, ...)
	__attribute__((format(printf, 4, 5)));

/* The same for a write or read that failed with errno. */
void peer_fail_errno(struct run *run, struct peer *peer);

/* --- connect.c ------------------------------------------------------------ */

/* Opens the connection of a peer that is down. */
void peer_connect(struct run *run, struct peer *peer);

/* It can be written to: the connection is there, or failed. */
void peer_connected(struct run *run, struct peer *peer);

/* Reads greeting and READY; returns how many bytes those were. The peer may have failed then. */
size_t peer_handshake(struct run *run, struct peer *peer, const uint8_t *data, size_t len);

/* --- client.c ------------------------------------------------------------- */

/* False: there is not enough memory. */
bool client_init(struct run *run, struct peer *c);
void client_fini(struct peer *c);

/* Makes the requests that it has room for, except in open loop, and sends what is unsent. */
void client_fill(struct run *run, struct peer *c, uint64_t now);

/* Sends what is unsent, until the kernel takes no more. */
void client_flush(struct run *run, struct peer *c);
void client_on_writable(struct run *run, struct peer *c);

/* Makes and sends the requests of all clients that are due. */
void client_send_due(struct run *run);

/* Takes bytes up to the next command. False: they are wrong. */
bool client_read(struct run *run, struct peer *c, const uint8_t *data, size_t len, size_t *used,
	uint64_t now);

/* Sends this PONG when no message is half sent. */
void client_pong(struct run *run, struct peer *c, const uint8_t *pong, size_t len);

/* Frees the requests that were under way, counting each as `error`. */
void client_drop(struct run *run, struct peer *c, enum run_error error);

/* --- worker.c ------------------------------------------------------------- */

/* Takes bytes up to the next command, and sends them back. False: they are wrong. */
bool worker_read(struct run *run, struct peer *w, const uint8_t *data, size_t len, size_t *used);

/* Sends bytes after those that are left. */
void worker_send(struct run *run, struct peer *w, const uint8_t *data, size_t len);
void worker_on_writable(struct run *run, struct peer *w);

#endif
