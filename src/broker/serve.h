/* SPDX-License-Identifier: MIT */
/*
 * Requests that wait are given to workers that have room, fairly over their senders.
 */
#ifndef BULKHEAD_BROKER_SERVE_H
#define BULKHEAD_BROKER_SERVE_H

#include "broker/proxy_impl.h"

/* The client uses up a part of its ration (ration.h); NULL: the client is gone. */
static inline void
serve_use_ration(struct peer *client)
{
	if (client != NULL && client->spare > 0)
		client->spare--;
}

/* Give the requests that wait to workers that have room, in slices. */
void serve_waiting(struct proxy *proxy);

/* The callbacks of proxy->serve_task and proxy->retry_timer. */
void serve_on_task(struct task *task);
void serve_on_retry(struct timer *timer);

/*
 * A client is gone while the proxy drains: soon, drop its requests, for which a drain must not
 * wait: such clients are not let in again.
 */
void serve_drop_departed(struct proxy *proxy);

#endif
