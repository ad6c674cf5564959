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
 * worker that did not answer; see flight.h.)
 */
#ifndef BULKHEAD_BROKER_PROXY_H
#define BULKHEAD_BROKER_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/counters.h"
#include "broker/balance.h"
#include "broker/inflight.h"
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

	struct inflight inflight;
	bool track;           /* the options of section 8 ask for books; see flight.h */
	bool tracking;        /* there are books */
	bool draining;        /* no new requests */
	bool clients_left;    /* since it drains: what waits for another worker may be nobody's */
	bool paused;          /* no new requests, until an operator resumes it */
	struct list leaving;  /* peers that an operator drains */
	struct timer leaving_timer;
	bool stopping;        /* connections are being closed: what is queued is dropped */
	bool removed;         /* a reload took it out: its connections close as `reload` */
	uint64_t drain_answered, drain_given_up;
	struct ratelimit too_big; /* log lines of replies over a limit */
};

/* A proxy without endpoints; `opts` are copied. The name is at most 63 bytes. */
struct proxy *proxy_new(struct loop *loop, const char *name, const struct side_opts *frontend,
	const struct side_opts *backend);

/* All its connections must be gone. */
void proxy_free(struct proxy *proxy);

/* Stop reading requests from the frontend; what was accepted goes on. */
void proxy_drain(struct proxy *proxy);

/*
 * Other options from now on (copied): for the connections that are there as well, but for what a
 * handshake fixes. Peers that wait are looked at again.
 */
void proxy_set_opts(struct proxy *proxy, const struct side_opts *frontend,
	const struct side_opts *backend);

/*
 * A ready peer of either side takes no further part: a client is not read any more, a worker gets
 * no further requests. What it has goes on. Nothing undoes it; conn_finish is what follows.
 */
void proxy_retire(struct conn *conn);

/*
 * True when nothing is queued for this peer, or waits, or is unanswered: of a client, as many
 * replies left as requests came, so that one whose requests get no reply never is.
 */
bool proxy_is_idle(const struct conn *conn);

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
