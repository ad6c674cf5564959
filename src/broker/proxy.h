/* SPDX-License-Identifier: MIT */
/*
 * A proxy in queue mode: ROUTER in front, DEALER behind. Who gets what, and
 * where it waits when nobody can take it.
 *
 *   client --> on_request --> balance --> worker's queue
 *                   \--(no worker has room)--> source of the client, in `waiting`
 *   worker --> on_reply --> router --> client's queue
 *                   \--(full, when_full = pause)--> source of the worker, in the
 *                                                   client's `blocked` list
 *
 * Backpressure lives here and only here. Every message is counted at the side
 * it is meant for: received + redelivered == sent + dropped + queued, at every
 * moment. (`redelivered` are requests that were sent, and taken back from a
 * worker that did not answer; see redeliver.h.)
 */
#ifndef BULKHEAD_BROKER_PROXY_H
#define BULKHEAD_BROKER_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/counters.h"
#include "base/sides.h"
#include "broker/balance.h"
#include "broker/deliveries.h"
#include "broker/ration.h"
#include "broker/router.h"
#include "net/side.h"

struct connector;

enum { PROXY_CONTESTED_MAX = 64 };

struct pattern;

struct proxy {
	char name[64];
	struct loop *loop;
	const struct pattern *pattern; /* its mode */
	struct side side[PROXY_SIDES];
	struct counters counters[PROXY_SIDES];
	struct side_opts opts[PROXY_SIDES];

	struct router router;
	struct balance balance;
	struct list waiting; /* sources of requests, served in turn */
	/* ... of clients that do not take their replies, or wait for their ration */
	struct list parked;
	struct ration ration;
	uint32_t blocked;        /* sources of replies in clients' `blocked` lists */
	struct source *rerouted; /* requests of closed workers: served before all others; or NULL */
	struct task serve_task;
	struct task return_task;  /* goes on with what is taken back in slices: see requeue.c */
	struct timer retry_timer; /* to serve again what found no memory */
	bool retrying;            /* it runs */

	struct deliveries deliveries;
	bool track;          /* the options of section 8 ask for books; see redeliver.h */
	bool tracking;       /* there are books */
	bool draining;       /* no new requests */
	bool clients_left;   /* since it drains: what waits for another worker may be nobody's */
	bool paused;         /* no new requests, until an operator resumes it */
	struct list leaving; /* peers that an operator drains */
	struct timer leaving_timer;
	bool stopping; /* connections are being closed: what is queued is dropped */
	bool removed;  /* a reload took it out: its connections close as `reload` */
	uint64_t drain_answered, drain_given_up;
	struct timer silence_timer; /* runs while requests are outstanding: see silence.c */
	struct ratelimit silences, contests; /* their log lines */
	int64_t contested_at;                /* when two clients had one id last ... */
	/* ... which, for people, cut; empty: they never had */
	char contested_id[PROXY_CONTESTED_MAX];
	struct ratelimit too_big;                     /* log lines of replies over a limit */
	uint64_t unserved_requests, unserved_clients; /* that asked when it was too late */
};

/* A proxy without endpoints; `opts` are copied. The name is at most 63 bytes. NULL: no memory. */
struct proxy *proxy_new(struct loop *loop, const char *name, const struct side_opts *frontend,
	const struct side_opts *backend);

/* All its connections must be gone. */
void proxy_free(struct proxy *proxy);

const char *proxy_name(const struct proxy *proxy);

/* PROXY_FRONTEND or PROXY_BACKEND, for its listeners and connectors; the proxy's. */
struct side *proxy_side(struct proxy *proxy, int which);

/* How many connections of a side are open. */
uint32_t proxy_connections(const struct proxy *proxy, int side);

/* Sums of a proxy, or of all (broker_totals). */
struct proxy_totals {
	uint64_t sent; /* messages, on both sides */
	uint64_t peers[PROXY_SIDES];
	uint32_t connections[PROXY_SIDES];
	/* requests that came after it was too late to tell their clients of our end, and these */
	uint64_t unserved_requests, unserved_clients;
};
struct proxy_totals proxy_totals(const struct proxy *proxy);

/*
 * Send the clients away (proxy_retire); what was accepted goes on. proxy_drain_step is for every
 * 20 ms or so from then on: clients go of which nobody knows any more that they wait for something.
 */
void proxy_drain(struct proxy *proxy);
void proxy_drain_step(struct proxy *proxy);

/* proxy_drain for a proxy that a reload removes: its connections close as `reload`. */
void proxy_drain_removed(struct proxy *proxy);

/* What became of the requests that a drain found, or will have if it ends now. */
struct drain_result {
	uint64_t answered, given_up;
};
struct drain_result proxy_drain_result(const struct proxy *proxy);

/*
 * The connections of one endpoint: those that listeners of this origin accepted, or that this
 * connector dialled.
 */
struct proxy_endpoint {
	int side;
	uint32_t origin;
	const struct connector *connector; /* NULL: it is bound */
};

/*
 * A reload removes an endpoint: retire its ready peers (proxy_retire) as `reload`, and close the
 * connections that are not ready yet.
 */
void proxy_drain_endpoint(struct proxy *proxy, const struct proxy_endpoint *endpoint);

/*
 * For every 20 ms or so from then on: close those that have finished, or, when it is `late`, all,
 * as many as the turn has time for. True: there are none left.
 */
bool
proxy_drain_endpoint_step(struct proxy *proxy, const struct proxy_endpoint *endpoint, bool late);

/*
 * Other options from now on (copied): for the connections that are there as well, but for what a
 * handshake fixes. Peers that wait are looked at again.
 */
void proxy_set_opts(
	struct proxy *proxy, const struct side_opts *frontend, const struct side_opts *backend);

/*
 * A ready peer of either side takes no further part, and nothing undoes it. A worker gets no
 * further requests. A client is half-closed with the last reply to what it asked, at once when
 * there is none to come; until then its replies are held back, as far as they fit into
 * send_hwm_bytes, and what it sends after the first moments is dropped as `shutdown`.
 */
void proxy_retire(struct conn *conn, enum close_reason reason, const char *detail);

/*
 * To be called for it every 20 ms or so: closes it, politely, when it has finished what it has, or
 * when it is late.
 */
void proxy_retire_step(struct conn *conn, bool late, enum close_reason reason, const char *detail);

/*
 * Stop reading requests from the frontend, or go on. What was accepted goes on in any case; a
 * proxy that drains is not resumed.
 */
void proxy_pause(struct proxy *proxy, bool paused);

/*
 * Retire a peer. When it has finished what it has, or `timeout` ms have passed, it is closed
 * politely, reason `admin`. Returns NULL, or a static text that says why not.
 */
const char *proxy_drain_peer(struct conn *conn, int64_t timeout);

/*
 * Close a connection politely, reason `admin`: now, or, a client that waits for replies, within a
 * second. Returns as proxy_drain_peer does.
 */
const char *proxy_kick(struct conn *conn);

/*
 * True when nothing that was accepted is waiting or queued, or, as a request whose client is there,
 * unanswered.
 */
bool proxy_is_drained(const struct proxy *proxy);

/* How many messages that is. */
uint64_t proxy_unfinished(const struct proxy *proxy);

/* Say in the log what a drain waits for, if it does; it ends in `left` ms at most. */
void proxy_log_drain(const struct proxy *proxy, int64_t left);

/*
 * Close the connections of one side: politely (conn_finish), or at once. What
 * is queued for them is dropped and counted as `shutdown`.
 */
void proxy_close_side(struct proxy *proxy, int side, bool politely);

/*
 * The same, politely, for as many of them as the turn has time for, at least one. True: there are
 * more, for the next turn.
 */
bool proxy_close_some(struct proxy *proxy, int side);

/*
 * Drop and count what still waits for a peer; the last step of a stop. False: that was a slice of
 * it, and there is more.
 */
bool proxy_drop_waiting(struct proxy *proxy);

/*
 * The conservation law, from a count of every queue there is: for each side
 * received == sent + dropped + queued. Returns NULL, or a static text that says
 * what does not hold.
 */
const char *proxy_check(const struct proxy *proxy);

#endif
