/* SPDX-License-Identifier: MIT */
/*
 * What mode queue has to show of a proxy and its peers: the functions of pattern.h.
 */
#ifndef BULKHEAD_BROKER_QUEUE_DESCRIBE_H
#define BULKHEAD_BROKER_QUEUE_DESCRIBE_H

#include "broker/describe.h"

/* How long workers took, and the id that two clients had lately. */
void queue_describe(const struct proxy *proxy, struct proxy_view *view);

/* What a peer holds, what waits from it, its routing id, and whether it is suspect or silent. */
void queue_describe_peer(const struct conn *conn, struct peer_view *view, struct peer_text *text);

/* See struct pattern. */
enum peer_fault queue_fault(const struct conn *conn);

#endif
