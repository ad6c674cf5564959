/* SPDX-License-Identifier: MIT */
/*
 * Workers of queue mode: conn_ops of the backend, except those for messages.
 */
#ifndef BULKHEAD_BROKER_WORKERS_H
#define BULKHEAD_BROKER_WORKERS_H

#include "broker/proxy_impl.h"

/* See struct conn_ops. workers_on_closed returns false while it has more slices to do. */
void workers_on_ready(struct conn *conn);
void workers_on_room(struct conn *conn);
void workers_on_stalled(struct conn *conn);
bool workers_on_closed(struct conn *conn);

/* True if requests wait and no worker is ready; suspect and draining workers are not ready. */
bool workers_are_awaited(const struct side *side);

/* Apply new or changed options of the backend to all workers. */
void workers_configure(struct proxy *proxy);

#endif
