/* SPDX-License-Identifier: MIT */
/*
 * Messages that wait: of each sender those that no receiver has taken yet, and those that were
 * rerouted from closed or stalled workers.
 */
#ifndef BULKHEAD_BROKER_BACKLOG_H
#define BULKHEAD_BROKER_BACKLOG_H

#include "broker/proxy_impl.h"

/*
 * Messages from one sender that wait for a receiver, in order. A backlog outlives its peer:
 * messages that a peer sent before it left count.
 */
struct backlog {
	/* requests: in proxy->waiting or ->parked; replies: in a client's `blocked` list */
	struct list node;
	struct proxy *proxy;
	struct peer *peer; /* NULL: the sender is gone */
	struct outq queue; /* requests: ready to be sent, with the id; replies: as received */
};

/* The peer's backlog, made if there is none. NULL: no memory. */
struct backlog *backlog_of(struct peer *peer);

/* Free an empty backlog and take it out of every list. */
void backlog_free(struct backlog *backlog);

/* The peer is about to be freed: an empty backlog goes with it, another one lives on. */
void backlog_orphan(struct peer *peer);

/* A message that waits for a peer is queued, too. */
static inline void
backlog_count(struct counters *c, uint64_t size)
{
	c->queued++;
	c->queued_bytes += size;
}

static inline void
backlog_uncount(struct counters *c, uint64_t size)
{
	c->queued--;
	c->queued_bytes -= size;
}

/* Count a drop. An empty backlog must not stay: later messages would wait for it. */
static inline void
backlog_drop_for_memory(struct counters *c, struct backlog *s)
{
	c->dropped[DROP_QUEUE_FULL]++;
	if (s != NULL && outq_empty(&s->queue))
		backlog_free(s);
}

/* Later in this turn, serve the requests that wait. */
static inline void
backlog_serve_soon(struct proxy *proxy)
{
	loop_defer(proxy->loop, LOOP_RESUME, &proxy->serve_task);
}

/* Are a client's requests not passed on, so that no more replies come for the client? */
static inline bool
backlog_is_parked(const struct peer *client)
{
	return (client->overflow != NULL || client->waits) && !client->draining;
}

/* Add a request to those of the client that wait. Without memory it is dropped and counted. */
void backlog_hold(struct proxy *proxy, struct peer *client, struct message *message);

/*
 * A part of a backlog was passed on: read from its peer, of side `sender`, again when half is gone.
 */
void backlog_relieve(struct proxy *proxy, struct backlog *backlog, int sender);

/* Free a backlog whose last message was passed on; commands may be left in it. */
static inline void
backlog_end(struct proxy *proxy, struct backlog *backlog)
{
	outq_fini(&backlog->queue, env_of(proxy));
	backlog_free(backlog);
}

/* Make the client's requests wait: memory is short, and enough of them are under way (ration.h). */
void backlog_begin_wait(struct proxy *proxy, struct peer *client);

/* Drop and count the requests of a backlog, and free it. */
void backlog_drop(struct proxy *proxy, struct backlog *backlog, enum drop_reason reason);

/* Create proxy->rerouted if there is none. False: no memory. */
bool backlog_make_rerouted(struct proxy *proxy);

/*
 * Free proxy->rerouted if it is empty: an empty backlog would stop the requests that wait after it.
 */
void backlog_end_empty_rerouted(struct proxy *proxy);

/*
 * Move the first message that is queued for a closed or stalled worker to proxy->rerouted, which is
 * served before all others. False: no memory; the message stays.
 */
bool backlog_reroute_one(struct proxy *proxy, struct peer *worker);

#endif
