/* SPDX-License-Identifier: MIT */
/*
 * How peers are drained in mode queue: a worker gets no more requests and is closed when it holds
 * none; a client is half-closed with its last reply. pattern.h says what a mode has to do.
 */
#ifndef BULKHEAD_BROKER_QUEUE_DRAIN_H
#define BULKHEAD_BROKER_QUEUE_DRAIN_H

#include "broker/proxy_impl.h"

enum {
	DRAIN_GRACE_MS = 250, /* requests that a draining client sends until then are served */
	DRAIN_BYE_MS = 1000,  /* a client that was told, and sends nothing, is waited for */
	DRAIN_TOLD_MS = 5000  /* ... a client that asks on is served, while we do not hold it up */
};

/* conn_ops.on_draining of the backend, on_bye of the frontend: see queue_drain.c. */
void queue_drain_on_draining(struct conn *conn);
void queue_drain_on_bye(struct conn *conn);

/*
 * A draining client sent a request. True: it is to be served, because it came before our
 * half-close, and soon enough. False: it is dropped and counted.
 */
bool queue_drain_serves(struct proxy *proxy, struct peer *client);

/* Count a request of this client as not served, for the last line of the log. */
void queue_drain_note_unserved(struct proxy *proxy, struct peer *client);

/*
 * Drain a ready peer of either side; nothing undoes this. A worker gets no further requests. A
 * client is half-closed with its last reply, or at once when none is to come; until then its
 * replies are held back, as far as they fit into send_hwm_bytes, and what the client sends after
 * the first moments is dropped as `shutdown`.
 */
void queue_drain_begin(struct conn *conn, enum close_reason reason, const char *detail);

/*
 * To be called for a draining peer every 20 ms or so: closes the peer politely when it has finished
 * what it has, or if `late`.
 */
void
queue_drain_continue(struct conn *conn, bool late, enum close_reason reason, const char *detail);

/* The first half of queue_drain_begin; queue_drain_continue or queue_drain_step does the rest. */
void queue_drain_mark(struct conn *conn, enum close_reason reason, const char *detail);

/* Drain all clients. */
void queue_drain_clients(struct proxy *proxy);

/* To be called every 20 ms or so while clients drain: half-closes those that wait for nothing. */
void queue_drain_step(struct proxy *proxy);

/*
 * True when no accepted message waits or is queued, and no request of a connected client is
 * unanswered.
 */
bool queue_drain_is_over(const struct proxy *proxy);

/* How many messages still wait, are queued, or are unanswered in that sense. */
uint64_t queue_drain_unfinished(const struct proxy *proxy);

/* Log what the drain waits for, unless it is over; it ends in `left` ms at most. */
void queue_drain_log(const struct proxy *proxy, int64_t left);

#endif
