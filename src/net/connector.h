/* SPDX-License-Identifier: MIT */
/*
 * One endpoint that Bulkhead dials: resolve, try every address, keep one
 * connection, and after its end start again with exponential backoff.
 */
#ifndef BULKHEAD_NET_CONNECTOR_H
#define BULKHEAD_NET_CONNECTOR_H

#include "net/endpoint.h"
#include "net/side.h"

struct connector; /* see conn.h */

enum connector_state {
	CONNECTOR_CONNECTED,
	CONNECTOR_CONNECTING, /* a lookup, an attempt or a handshake is under way */
	CONNECTOR_WAITING     /* until the next attempt */
};

/* The connector's state; *wait_ms: until the next attempt, 0 unless it is CONNECTOR_WAITING. */
enum connector_state connector_state(const struct connector *connector, int64_t *wait_ms);

/* The endpoint, as configured. */
const char *connector_endpoint(const struct connector *connector);

/* A connector for `endpoint` (copied); it does not dial before connector_start. NULL: no memory. */
struct connector *connector_new(struct side *side, const struct endpoint *endpoint);

void connector_start(struct connector *connector);

/* Stop dialling; an existing connection stays. */
void connector_stop(struct connector *connector);

/* Free it; its connection, if any, must be gone. NULL is fine. */
void connector_free(struct connector *connector);

#endif
