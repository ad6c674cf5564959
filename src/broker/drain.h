/* SPDX-License-Identifier: MIT */
/*
 * Single peers that are drained: by an operator, or because a reload removes their endpoint. What
 * a peer has to finish is its mode's matter: see pattern.h.
 */
#ifndef BULKHEAD_BROKER_DRAIN_H
#define BULKHEAD_BROKER_DRAIN_H

#include "broker/proxy_impl.h"

struct connector;

/*
 * Drain a peer. When the peer has finished what it has, or after `timeout` ms, it is closed
 * politely, reason `admin`. Returns NULL, or a static text that says why the peer is not drained.
 */
const char *drain_peer(struct conn *conn, int64_t timeout);

/*
 * Close a connection politely, reason `admin`: now, or, if a client waits for replies, within a
 * second. Returns NULL, or a static text that says why not.
 */
const char *drain_kick(struct conn *conn);

/*
 * The connections of one endpoint: accepted by listeners of this origin, or dialled by this
 * connector.
 */
struct drain_endpoint {
	int side;
	uint32_t origin;
	const struct connector *connector; /* NULL: the endpoint is bound */
};

/*
 * A reload removes an endpoint: drain its ready peers as `reload`, and close the
 * connections that are not ready yet.
 */
void drain_endpoint(struct proxy *proxy, const struct drain_endpoint *endpoint);

/*
 * To be called every 20 ms or so from then on: close the connections that have finished, or, if
 * `late`, as many as the turn has time for. True: no connection is left.
 */
bool drain_endpoint_step(struct proxy *proxy, const struct drain_endpoint *endpoint, bool late);

/* The callback of proxy->drain_timer; and forget a peer that is gone. */
void drain_timer_cb(struct timer *timer);
void drain_forget(struct proxy *proxy, const struct peer *peer);

#endif
