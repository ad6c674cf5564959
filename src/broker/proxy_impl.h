/*
 * What proxy.c, replies.c, flight.c and change.c share with each other and with nobody else.
 */
#ifndef BULKHEAD_BROKER_PROXY_IMPL_H
#define BULKHEAD_BROKER_PROXY_IMPL_H

#include "broker/proxy.h"

static inline struct proxy *
proxy_of(const struct conn *conn)
{
	return ((struct peer *)conn->peer)->proxy;
}

static inline struct outq_env *
env_of(struct proxy *proxy)
{
	return &proxy->loop->env;
}

/* A message that waits for a peer is queued, too. */
static inline void
count_waiting(struct counters *c, uint64_t size)
{
	c->queued++;
	c->queued_bytes += size;
}

static inline void
uncount_waiting(struct counters *c, uint64_t size)
{
	c->queued--;
	c->queued_bytes -= size;
}

/* An empty source must not stay: what comes later would wait behind nothing. */
static inline void
drop_for_memory(struct counters *c, struct source *s)
{
	c->dropped[DROP_QUEUE_FULL]++;
	if (s != NULL && outq_empty(&s->queue))
		source_free(s);
}

/* The worker holds one request less. False: it held none. */
static inline bool
settle_one(struct proxy *proxy, struct peer *worker)
{
	if (worker->outstanding == 0)
		return false;
	balance_settled(&proxy->balance, worker);
	proxy->counters[PROXY_BACKEND].outstanding--;
	return true;
}

/*
 * Move the first message that is queued for a worker, closed or stalled, to those
 * that are served before all others. False: no memory; it stays.
 */
bool proxy_reroute_one(struct proxy *proxy, struct peer *worker);

/* A worker sent a message: conn_ops.on_message of the backend. */
void proxy_on_reply(struct conn *conn, struct message *message);

/* A reply over a limit: conn_ops.on_discarded of the backend. */
void proxy_on_discarded(struct conn *conn, struct message *front, const char *option);

/* Replies that waited for a client's room: one attempt for each of these sources. */
void proxy_serve_blocked(struct proxy *proxy, struct list *blocked);

/* The timer of peers that an operator drains; and one of them is gone. */
void proxy_leaving_timer_cb(struct timer *timer);
void proxy_forget_leaving(struct proxy *proxy, const struct peer *peer);

/* Serve what waits later in this turn. */
void proxy_serve_soon(struct proxy *proxy);

#endif
