/*
 * The memory limit: which peer to close, which side to pause, and when to give freed memory back
 * to the system.
 */
#ifndef BULKHEAD_BROKER_MEMORY_H
#define BULKHEAD_BROKER_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/ratelimit.h"
#include "net/loop.h"

struct broker;

/* What reading one side brought in, in bytes. */
struct memory_held {
	uint64_t bytes; /* all of it but for the largest part message: one message always fits */
	bool in_parts;  /* most of it are part messages */
};

struct memory {
	struct broker *broker;
	struct timer timer;
	bool watched; /* the timer runs: it was over the limit a moment ago */
	/* when to give freed memory back to the system */
	struct timer give_back_timer;
	bool give_back_runs;
	bool much_freed;     /* large queues came and went since it was given back last */
	uint64_t held_peak;  /* bytes in queues since the timer was set */
	uint32_t crowd_peak; /* connections since memory was given back last */
	struct ratelimit complaints;
	uint64_t seen;            /* what was used when reading was last paused */
	struct memory_held *held; /* per proxy and side; by measure() */
};

/* For all proxies of `broker`, which outlives it. The limit itself is in loop->env.memory. */
void memory_init(struct memory *memory, struct broker *broker);
void memory_fini(struct memory *memory);

/* broker->count is larger than it was. */
void memory_proxy_added(struct memory *memory);

/* At the end of every turn: act when the limit is exceeded. */
void memory_look(struct memory *memory);

#endif
