/* SPDX-License-Identifier: MIT */
/*
 * Requests that wait for their reply, counted with the worker that has them and with the client
 * that sent them.
 */
#ifndef BULKHEAD_BROKER_OUTSTANDING_H
#define BULKHEAD_BROKER_OUTSTANDING_H

#include "base/clock.h"
#include "broker/envelope.h"
#include "broker/proxy_impl.h"
#include "broker/silence.h"

/* One more request is outstanding. */
static inline void
outstanding_add(struct proxy *proxy)
{
	uint64_t count = ++proxy->counters[PROXY_BACKEND].outstanding;

	if (count == 1 && proxy->silence_timer.due == CLOCK_NEVER)
		silence_watch(proxy);
}

/* Does the request count as outstanding until the worker answers? */
static inline bool
outstanding_expects(const struct peer *worker, const struct message *request)
{
	if (worker->answers == PEER_ANSWERS_ALL)
		return true;
	return worker->answers == PEER_ANSWERS_DELIMITED && envelope_has_delimiter(request);
}

/* The worker holds one request less. False: the worker held none. */
static inline bool
outstanding_settle(struct proxy *proxy, struct peer *worker)
{
	if (worker->outstanding == 0)
		return false;
	balance_settled(&proxy->balance, worker);
	proxy->counters[PROXY_BACKEND].outstanding--;
	return true;
}

/* The client's oldest unanswered request is answered, or will not be. */
static inline void
outstanding_answer(struct peer *client)
{
	client->outstanding -= client->outstanding > 0;
}

/* Count a request for the worker, which will answer it. */
static inline void
outstanding_give(struct proxy *proxy, struct peer *worker)
{
	balance_given(&proxy->balance, worker);
	outstanding_add(proxy);
}

/*
 * A request of `client` will not be answered. If another client took over its id, that client has
 * its count, too.
 */
static inline void
outstanding_forgo(struct proxy *proxy, struct peer *client)
{
	if (__builtin_expect(!client->routed, 0))
		client = router_find(&proxy->router, peer_id(client), peer_id_len(client));
	if (client != NULL)
		outstanding_answer(client);
}

#endif
