/* SPDX-License-Identifier: MIT */
/*
 * The memory limit. At the limit, in this order: large messages under way do not go on, except one
 * of each side; the peers that hold most and do not move are closed (blame.h); if that is not
 * enough, a side is not read at all. Freed memory is given back to the system from here, too.
 */
#ifndef BULKHEAD_BROKER_MEMORY_H
#define BULKHEAD_BROKER_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/ratelimit.h"
#include "broker/blame.h"
#include "net/loop.h"

struct broker;

struct memory_round {
	unsigned choice;
	int64_t since; /* ms */
};

/*
 * The turns of one side's large messages that wait for memory: `near` among those that fit near the
 * limit, `beyond` among all that fit at all; when the last such turn began, ms.
 */
struct memory_turns {
	struct memory_round near, beyond;
	int64_t beyond_at;
};

struct memory {
	struct broker *broker;
	struct timer timer;
	bool watched; /* the timer runs: memory was near the limit a moment ago */
	bool holding; /* large messages under way are held back */
	struct ratelimit complaints, hold_complaints;
	uint64_t seen;            /* what was used when reading was last paused */
	uint64_t used_before;     /* at the timer's last check */
	int64_t pressed;          /* since when nothing moves and no peer is to blame; 0: moving */
	struct memory_held *held; /* per proxy and side; by measure() */
	struct memory_turns *turns; /* likewise */
	struct blame blame;
	/* when to give freed memory back to the system */
	struct timer trim_timer;
	bool trim_runs;
	bool trim_due;      /* large queues came and went since memory was given back last */
	uint64_t held_peak; /* bytes in queues since the timer was set */
	uint32_t peak;      /* connections since memory was given back last */
};

/*
 * Initialise, for all proxies of `broker`, which outlives `memory`. The limit is in
 * loop->env.memory.
 */
void memory_init(struct memory *memory, struct broker *broker);
void memory_fini(struct memory *memory);

/* Make room for `proxies` proxies. False: no memory. */
bool memory_reserve(struct memory *memory, size_t proxies);

/* To be called when broker->count has changed; memory_reserve made room before. */
void memory_proxies_changed(struct memory *memory);

enum {
	MEMORY_MUCH_HELD = 8 << 20,    /* bytes in queues, or ... */
	MEMORY_MANY_CONNECTIONS = 1000 /* ... connections, whose memory is worth giving back */
};

/* True if memory_check has nothing to do, as in most turns. */
static inline bool
memory_is_calm(const struct loop *loop)
{
	const struct mem_account *account = &loop->env.memory;

	return account->used < MEMORY_MUCH_HELD && account->used <= account->limit / 4 * 3 &&
		loop->connections < MEMORY_MANY_CONNECTIONS;
}

/* At the end of a turn that is not calm: act when the limit is exceeded. */
void memory_check(struct memory *memory);

#endif
