/* SPDX-License-Identifier: MIT */
/*
 * Mode queue: a ROUTER for clients, a DEALER for workers.
 */
#ifndef BULKHEAD_BROKER_QUEUE_H
#define BULKHEAD_BROKER_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

enum when_full { WHEN_FULL_DROP, WHEN_FULL_PAUSE, WHEN_FULL_CLOSE };
enum balance_policy { BALANCE_ROUND_ROBIN, BALANCE_LEAST_OUTSTANDING };
enum duplicate_policy { DUPLICATE_REJECT, DUPLICATE_TAKEOVER };

/* The settings of a side, besides struct side_opts. Durations are milliseconds. */
struct queue_opts {
	int64_t when_full;            /* enum when_full; of the frontend */
	int64_t duplicate_routing_id; /* enum duplicate_policy; of the frontend */
	/* of the backend */
	int64_t balance;         /* enum balance_policy */
	int64_t max_outstanding; /* requests one worker may hold; 0: no limit */
	int64_t answer_timeout;  /* 0: never */
	int64_t redeliver_limit;
	int64_t silent_after; /* 0: never */
	bool redeliver;
	bool replies; /* false: a request is done once it is sent */
};

struct proxy;

/* Turn rations on or off (see ration.h). */
void queue_set_rationed(struct proxy *proxy, bool rationed);

#endif
