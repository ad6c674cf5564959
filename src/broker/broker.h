/*
 * All proxies of one loop, and what holds over all of them: the memory limit.
 */
#ifndef BULKHEAD_BROKER_BROKER_H
#define BULKHEAD_BROKER_BROKER_H

#include "broker/proxy.h"

/* What reading one side brought in, in bytes. */
struct broker_held {
	uint64_t bytes; /* all of it but for the largest part message: one message always fits */
	bool in_parts;  /* most of it are part messages */
};

struct broker {
	struct loop *loop;
	struct proxy **proxies; /* count of them, owned */
	size_t count;
	struct timer memory_timer;
	bool memory_watched; /* the timer runs: it was over the limit a moment ago */
	/* when to give freed memory back to the system */
	struct timer give_back_timer;
	bool give_back_runs;
	bool much_freed;     /* large queues came and went since it was given back last */
	uint64_t held_peak;  /* bytes in queues since the timer was set */
	uint32_t crowd_peak; /* connections since memory was given back last */
	struct ratelimit complaints;
	uint64_t memory_seen; /* what was used when reading was last paused */
	struct broker_held *held; /* per proxy and side; by measure() */
};

/* A broker on `loop` without proxies, whose queues hold at most `memory_limit` bytes. */
struct broker *broker_new(struct loop *loop, uint64_t memory_limit);

/* Frees the proxies, too; all connections must be gone. */
void broker_free(struct broker *broker);

/* Add a proxy (proxy_new), which the broker owns from now on. */
void broker_add(struct broker *broker, struct proxy *proxy);

/* What an operator asks for. Each returns NULL, or a static text that says why not. */

/* Close the connection with this id politely, reason `admin`. */
const char *broker_kick(struct broker *broker, uint64_t id);

/* proxy_drain_peer for the connection with this id. */
const char *broker_drain_peer(struct broker *broker, uint64_t id, int64_t timeout);

/* proxy_pause for the proxy of this name. */
const char *broker_pause(struct broker *broker, const char *name, bool paused);

/*
 * Take a proxy out and free it; its connections must be gone. What still waits in it is dropped,
 * and its counters are logged for the last time, with an event `proxy_removed`.
 */
void broker_remove(struct broker *broker, struct proxy *proxy);

/*
 * Log every counter, one event `stats` per side, then `stats_end`, which says
 * whether the conservation law holds.
 */
void broker_log_stats(struct broker *broker);

#endif
