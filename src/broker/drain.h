/* SPDX-License-Identifier: MIT */
/*
 * How a peer is drained: it finishes its work, gets no more, and is then closed. drain.c says why a
 * client is half-closed with its last reply. proxy.h has what the owner of a proxy may ask for.
 */
#ifndef BULKHEAD_BROKER_DRAIN_H
#define BULKHEAD_BROKER_DRAIN_H

#include "broker/proxy_impl.h"

enum {
	DRAIN_GRACE_MS = 250, /* requests that a draining client sends until then are served */
	DRAIN_BYE_MS = 1000,  /* a client that was told, and sends nothing, is waited for */
	DRAIN_TOLD_MS = 5000  /* ... a client that asks on is served, while we do not hold it up */
};

/* conn_ops.on_draining of the backend, on_bye of the frontend: see drain.c. */
void drain_on_draining(struct conn *conn);
void drain_on_bye(struct conn *conn);

/*
 * A draining client sent a request. True: it is to be served, because it came before our
 * half-close, and soon enough. False: it is dropped and counted.
 */
bool drain_serves(struct proxy *proxy, struct peer *client);

/* Count a request of this client as not served, for the last line of the log. */
void drain_note_unserved(struct proxy *proxy, struct peer *client);

/*
 * Drain a ready peer of either side; nothing undoes this. A worker gets no further requests. A
 * client is half-closed with its last reply, or at once when none is to come; until then its
 * replies are held back, as far as they fit into send_hwm_bytes, and what the client sends after
 * the first moments is dropped as `shutdown`.
 */
void drain_begin(struct conn *conn, enum close_reason reason, const char *detail);

/*
 * To be called for a draining peer every 20 ms or so: closes the peer politely when it has finished
 * what it has, or if `late`.
 */
void drain_continue(struct conn *conn, bool late, enum close_reason reason, const char *detail);

/* The first half of drain_begin; drain_continue or proxy_drain_step does the rest. */
void drain_mark(struct conn *conn, enum close_reason reason, const char *detail);

/* Drain all clients. */
void drain_clients(struct proxy *proxy);

/* The callback of the timer of peers that an operator drains; and forget a peer that is gone. */
void drain_timer_cb(struct timer *timer);
void drain_forget(struct proxy *proxy, const struct peer *peer);

#endif
