/*
 * What proxy.c and flight.c share with each other and with nobody else.
 */
#ifndef BULKHEAD_BROKER_PROXY_IMPL_H
#define BULKHEAD_BROKER_PROXY_IMPL_H

#include "broker/proxy.h"

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

/*
 * Move the first message that is queued for a worker, closed or stalled, to those
 * that are served before all others. False: no memory; it stays.
 */
bool proxy_reroute_one(struct proxy *proxy, struct peer *worker);

/* Serve what waits later in this turn. */
void proxy_serve_soon(struct proxy *proxy);

#endif
