/*
 * One endpoint that Bulkhead dials: resolve, try every address, keep one
 * connection, and after its end start again with exponential backoff.
 */
#ifndef BULKHEAD_NET_CONNECTOR_H
#define BULKHEAD_NET_CONNECTOR_H

#include "net/endpoint.h"
#include "net/side.h"

struct connector;

/* A connector for `endpoint` (copied); it does not dial before connector_start. */
struct connector *connector_new(struct side *side, const struct endpoint *endpoint);

void connector_start(struct connector *connector);

/* Dial no more; a connection that exists goes on. */
void connector_stop(struct connector *connector);

/* Free it; its connection, if any, must be gone. NULL is fine. */
void connector_free(struct connector *connector);

/* Called by conn.c: the handshake of its connection is over. */
void connector_on_ready(struct connector *connector);

/* Called by conn.c's reaper: its connection is gone. */
void connector_on_closed(
	struct connector *connector, bool was_ready, enum close_reason reason);

#endif
