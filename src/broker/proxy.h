/* SPDX-License-Identifier: MIT */
/*
 * A proxy: two sides, and a mode that decides which peer gets a message, and where the message
 * waits while no peer can take it. In mode queue:
 *
 *   client --> on_request --> balance --> worker's queue
 *                   \--(no worker has room)--> backlog of the client, in `waiting`
 *   worker --> on_reply --> router --> client's queue
 *                   \--(full, when_full = pause)--> backlog of the worker, in the
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
#include "base/reasons.h"
#include "base/sides.h"
#include "broker/balance.h"
#include "broker/deliveries.h"
#include "broker/ration.h"
#include "broker/router.h"
#include "broker/opts.h"
#include "net/side.h"

struct connector;

enum { PROXY_CONTESTED_MAX = 64 };

struct pattern;

/* What a proxy does; it goes on to later ones only. proxy.c sets it, and `paused`. */
enum proxy_life {
	PROXY_SERVES,
	PROXY_DRAINS, /* no new requests */
	PROXY_STOPS   /* connections are being closed: what is queued is dropped */
};

/* Are requests tracked? redeliver.c sets it: see redeliver.h. */
enum proxy_tracking {
	PROXY_UNTRACKED, /* 0, so that `if (proxy->tracking)` asks for one of the others */
	PROXY_TRACKS,
	PROXY_UNTRACKS /* no option asks for it any longer, but some requests are tracked */
};

struct proxy {
	char name[64];
	struct loop *loop;
	const struct pattern *pattern; /* its mode */
	struct side side[PROXY_SIDES];
	struct counters counters[PROXY_SIDES];
	struct proxy_opts opts[PROXY_SIDES];

	struct router router;
	struct balance balance;
	struct list waiting; /* backlogs of requests, served in turn */
	/* backlogs of clients that do not take their replies, or wait for their ration */
	struct list parked;
	struct ration ration;
	uint32_t blocked; /* backlogs of replies in clients' `blocked` lists */
	struct backlog
		*rerouted; /* requests of closed workers: served before all others; or NULL */
	struct task serve_task;
	struct task return_task;  /* continues what is taken back in slices: see requeue.c */
	struct timer retry_timer; /* serves again after there was no memory */

	struct deliveries deliveries;
	enum proxy_tracking tracking : 8;
	enum proxy_life life : 8;
	enum close_reason closing_reason : 8; /* of its connections, when it stops */
	bool paused;                          /* no new requests, until an operator resumes it */
	bool client_departed; /* while draining: a client is gone, its requests can be dropped */
	struct list drains;   /* of single peers, by an operator: see drain.c */
	struct timer drain_timer;
	uint64_t drain_answered, drain_given_up;
	struct timer silence_timer; /* runs while requests are outstanding: see silence.c */
	struct ratelimit silences, contests; /* their log lines */
	int64_t contested_at;                /* when two clients last had one id ... */
	/* ... as a text for people, truncated; empty: never */
	char contested_id[PROXY_CONTESTED_MAX];
	struct ratelimit too_big;                     /* log lines of replies over a limit */
	uint64_t unserved_requests, unserved_clients; /* late requests, and their clients */
};

/* Does it drain, or stop already? */
static inline bool
proxy_is_draining(const struct proxy *proxy)
{
	return proxy->life >= PROXY_DRAINS;
}

/* Are its connections being closed? */
static inline bool
proxy_is_stopping(const struct proxy *proxy)
{
	return proxy->life == PROXY_STOPS;
}

/*
 * Creates a proxy without endpoints; the options are copied. `name`: at most 63 bytes. NULL: no
 * memory.
 */
struct proxy *proxy_new(struct loop *loop, const char *name, const struct proxy_opts *frontend,
	const struct proxy_opts *backend);

/* Frees a proxy. All its connections must be gone. */
void proxy_free(struct proxy *proxy);

/* The name, valid as long as the proxy. */
const char *proxy_name(const struct proxy *proxy);

/* The side `which`, for its listeners and connectors; the proxy owns it. */
struct side *proxy_side(struct proxy *proxy, int which);

/* How many connections of a side are open. */
uint32_t proxy_connections(const struct proxy *proxy, int side);

/* The sums of one proxy, or of all (broker_totals). */
struct proxy_totals {
	uint64_t sent; /* messages, on both sides */
	uint64_t peers[PROXY_SIDES];
	uint32_t connections[PROXY_SIDES];
	/* requests that came too late to tell their clients of our end, and these clients */
	uint64_t unserved_requests, unserved_clients;
};
struct proxy_totals proxy_totals(const struct proxy *proxy);

/*
 * Drain all clients; what was accepted goes on. From then on, call proxy_drain_step
 * every 20 ms or so: clients that are no longer known to wait for anything are half-closed.
 */
void proxy_drain(struct proxy *proxy);
void proxy_drain_step(struct proxy *proxy);

/* proxy_drain for a proxy that a reload removes: its connections close as `reload`. */
void proxy_drain_removed(struct proxy *proxy);

/* How many requests a drain found answered or given up, or will have if it ends now. */
struct drain_result {
	uint64_t answered, given_up;
};
struct drain_result proxy_drain_result(const struct proxy *proxy);

/*
 * Use these options (copied) from now on, for existing connections as well, except what a handshake
 * fixes. Peers that wait are looked at again.
 */
void proxy_set_opts(
	struct proxy *proxy, const struct proxy_opts *frontend, const struct proxy_opts *backend);

/*
 * Stop reading requests from the frontend, or resume. What was accepted goes on in any case; a
 * draining proxy reads on.
 */
void proxy_pause(struct proxy *proxy, bool paused);

/*
 * True when no accepted message waits or is queued, and no request of a connected client is
 * unanswered.
 */
bool proxy_is_drained(const struct proxy *proxy);

/* Log what a drain waits for, unless it has finished; it ends in `left` ms at most. */
void proxy_log_drain(const struct proxy *proxy, int64_t left);

/*
 * Close the connections of one side: politely (conn_finish), or at once. Messages queued for them
 * are dropped and counted as `shutdown`.
 */
void proxy_close_side(struct proxy *proxy, int side, bool politely);

/*
 * proxy_close_side, politely, for as many connections as the turn has time for, at least one. True:
 * there are more, for the next turn.
 */
bool proxy_close_some(struct proxy *proxy, int side);

/*
 * Drop and count the messages that still wait for a peer; the last step of a stop. False: that was
 * a slice of them, and there are more.
 */
bool proxy_drop_waiting(struct proxy *proxy);

/*
 * The conservation law, from a count of every queue there is: for each side
 * received == sent + dropped + queued. Returns NULL, or a static text that says
 * what does not hold.
 */
const char *proxy_check(const struct proxy *proxy);

#endif
