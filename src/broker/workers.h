/* SPDX-License-Identifier: MIT */
/*
 * Workers of queue mode: conn_ops of the backend, except for messages.
 */
#ifndef BULKHEAD_BROKER_WORKERS_H
#define BULKHEAD_BROKER_WORKERS_H

#include "broker/proxy_impl.h"

void workers_on_ready(struct conn *conn);
void workers_on_room(struct conn *conn);
void workers_on_stalled(struct conn *conn);
bool workers_on_closed(struct conn *conn);

/* Requests wait, and no worker is ready; a suspect, and one that drains, is not. */
bool workers_are_awaited(const struct side *side);

/* The options of the backend changed, or are new: take them into account for all workers. */
void workers_configure(struct proxy *proxy);

#endif
