/* SPDX-License-Identifier: MIT */
/*
 * Declarations that only the files of a proxy share. The order in which these files may call each
 * other is in tests/check_layers.sh.
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

/* Drop and count what is queued for a peer of that side. */
static inline void
proxy_drop_queue(struct proxy *proxy, int side, struct conn *conn, enum drop_reason reason)
{
	uint32_t dropped = conn_drop_all(conn);

	proxy->counters[side].dropped[reason] += dropped;
	conn->dropped += dropped;
}

#endif
