/* SPDX-License-Identifier: MIT */
/*
 * The memory limit. At the limit, in this order: large messages that are under way do not go on,
 * except one of each side; the peers that hold most and do not move are closed (blame.h); a side is
 * not read at all where that is not enough. And when to give freed memory back to the system.
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
 * The turns of large messages of one side that wait for memory: among those for whom there is room
 * near the limit, and among all for whom there is any; when that was, ms.
 */
struct memory_turns {
	struct memory_round near, beyond;
	int64_t beyond_at;
};

struct memory {
	struct broker *broker;
	struct timer timer;
	bool watched; /* the timer runs: it was near the limit a moment ago */
	bool holding; /* large messages under way are held back */
	struct ratelimit complaints, hold_complaints;
	uint64_t seen;            /* what was used when reading was last paused */
	uint64_t used_before;     /* at the timer's last look */
	int64_t pressed;          /* since when nothing moves and nobody is to blame; 0: it moves */
	struct memory_held *held; /* per proxy and side; by measure() */
	struct memory_turns *turns; /* likewise */
	struct blame blame;
	/* when to give freed memory back to the system */
	struct timer give_back_timer;
	bool give_back_runs;
	bool much_freed;     /* large queues came and went since it was given back last */
	uint64_t held_peak;  /* bytes in queues since the timer was set */
	uint32_t crowd_peak; /* connections since memory was given back last */
};

/* For all proxies of `broker`, which outlives it. The limit itself is in loop->env.memory. */
void memory_init(struct memory *memory, struct broker *broker);
void memory_fini(struct memory *memory);

/* Make room for so many proxies. False: no memory. */
bool memory_reserve(struct memory *memory, size_t proxies);

/* broker->count is larger than it was, as far as there is room, or smaller. */
void memory_proxies_changed(struct memory *memory);

enum {
	MEMORY_MUCH_HELD = 8 << 20, /* bytes in queues, or ... */
	MEMORY_CROWD = 1000         /* ... connections, whose memory is worth giving back */
};

/* True where memory_look has nothing to do, as in most turns. */
static inline bool
memory_is_calm(const struct loop *loop)
{
	const struct mem_account *account = &loop->env.memory;

	return account->used < MEMORY_MUCH_HELD && account->used <= account->limit / 4 * 3 &&
		loop->connections < MEMORY_CROWD;
}

/* At the end of a turn that is not calm: act when the limit is exceeded. */
void memory_look(struct memory *memory);

#endif
