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
 * it is meant for: received == sent + dropped + queued, at every moment.
 */
#ifndef BULKHEAD_BROKER_PROXY_H
#define BULKHEAD_BROKER_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/counters.h"
#include "broker/balance.h"
#include "broker/router.h"
#include "net/side.h"

enum { PROXY_FRONTEND, PROXY_BACKEND, PROXY_SIDES };

struct proxy {
	char name[64];
	struct loop *loop;
	struct side side[PROXY_SIDES];
	struct counters counters[PROXY_SIDES];
	struct side_opts opts[PROXY_SIDES];

	struct router router;
	struct balance balance;
	struct list waiting;      /* sources of requests, served in turn */
	struct source *rerouted;  /* requests of closed workers: served before all others; or NULL */
	struct task serve_task;
	struct timer retry_timer;  /* to serve again what found no memory */
	bool retrying;             /* it runs */

	uint64_t outstanding; /* requests that workers hold, summed up */
	bool draining;        /* no new requests */
	bool paused;          /* no new requests, until an operator resumes it */
	struct list leaving;  /* peers that an operator drains */
	struct timer leaving_timer;
	bool stopping;        /* connections are being closed: what is queued is dropped */
	uint64_t drain_answered, drain_given_up;
};

/* A proxy without endpoints; `opts` are copied. The name is at most 63 bytes. */
struct proxy *proxy_new(struct loop *loop, const char *name, const struct side_opts *frontend,
	const struct side_opts *backend);

/* All its connections must be gone. */
void proxy_free(struct proxy *proxy);

/* Stop reading requests from the frontend; what was accepted goes on. */
void proxy_drain(struct proxy *proxy);

/*
 * Stop reading requests from the frontend, or go on. What was accepted goes on in any case; a
 * proxy that drains is not resumed.
 */
void proxy_pause(struct proxy *proxy, bool paused);

/*
 * A peer of this proxy takes nothing new: a worker no requests, and nothing more is read from a
 * client. When it has finished what it has, or `timeout` ms have passed, it is closed politely,
 * reason `admin`. Returns NULL, or a static text that says why not.
 */
const char *proxy_drain_peer(struct proxy *proxy, struct conn *conn, int64_t timeout);

/* True when nothing that was accepted is waiting, queued or unanswered. */
bool proxy_is_drained(const struct proxy *proxy);

/* How many messages are waiting, queued or, as requests, unanswered. */
uint64_t proxy_unfinished(const struct proxy *proxy);

/*
 * Close the connections of one side: politely (conn_finish), or at once. What
 * is queued for them is dropped and counted as `shutdown`.
 */
void proxy_close_side(struct proxy *proxy, int side, bool politely);

/* Drop and count what still waits for a peer; the last step of a stop. */
void proxy_drop_waiting(struct proxy *proxy);

/*
 * The conservation law, from a count of every queue there is: for each side
 * received == sent + dropped + queued. Returns NULL, or a static text that says
 * what does not hold.
 */
const char *proxy_check(const struct proxy *proxy);

#endif
