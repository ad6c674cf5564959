/* SPDX-License-Identifier: MIT */
/*
 * Declarations that memory.c and memory_turns.c share. Sides are numbered: those of the first
 * proxy, those of the second, and so on.
 */
#ifndef BULKHEAD_BROKER_MEMORY_IMPL_H
#define BULKHEAD_BROKER_MEMORY_IMPL_H

#include "broker/broker_impl.h"
#include "broker/memory.h"

static inline struct mem_account *
account_of(const struct memory *m)
{
	return &m->broker->loop->env.memory;
}

static inline size_t
side_count(const struct memory *m)
{
	return broker_side_count(m->broker);
}

static inline struct side *
side_at(const struct memory *m, size_t i)
{
	return broker_side_at(m->broker, i);
}

/*
 * A side whose reading brought in no more than its share is left alone, and so are its
 * peers, whatever the others hold. All shares together are a quarter of the limit.
 */
static inline uint64_t
share(const struct memory *m)
{
	return account_of(m)->limit / (UINT64_C(4) * side_count(m));
}

/*
 * A peer that holds no more than this is not to blame, and a message under way that costs no more
 * goes on at the limit, too: all such messages together cost at most half of the eighth by which
 * memory may pass the limit.
 */
static inline uint64_t
large_part(const struct memory *m)
{
	return account_of(m)->limit / 16 / (m->broker->loop->connections + 1);
}

/* --- memory_turns.c ------------------------------------------------------- */

/* Memory that side `i` holds, except in large messages that are held back. */
uint64_t memory_not_held_back(const struct memory *m, size_t i);

/* Is the memory over the limit even if no large message goes on? */
bool memory_holding_is_not_enough(const struct memory *m);

/* Let large messages that are held back go on, one at a time: end a turn, and begin the next. */
void memory_let_one_finish(struct memory *m);

#endif
