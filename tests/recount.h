/* SPDX-License-Identifier: MIT */
/*
 * The memory of queues, counted independently of the account: each chunk that one of them refers
 * to, once.
 */
#ifndef BULKHEAD_TESTS_RECOUNT_H
#define BULKHEAD_TESTS_RECOUNT_H

#include <stdlib.h>

#include "net/outq.h"

struct recount {
	struct chunk **at;
	size_t count, cap;
};

static inline void
recount_chunk(void *arg, struct chunk *chunk)
{
	struct recount *r = arg;

	if (r->count == r->cap) {
		r->cap = r->cap * 2 + 64;
		r->at = realloc(r->at, r->cap * sizeof(struct chunk *));
		if (r->at == NULL)
			abort();
	}
	r->at[r->count++] = chunk;
}

static inline void
recount_queue(struct recount *r, const struct outq *q)
{
	outq_each_chunk(q, recount_chunk, r);
}

static inline int
recount_order(const void *a, const void *b)
{
	const struct chunk *x = *(struct chunk *const *)a, *y = *(struct chunk *const *)b;

	return (x > y) - (x < y);
}

/* Returns the sum, in bytes, and empties `r`. */
static inline uint64_t
recount_end(struct recount *r)
{
	uint64_t sum = 0;

	if (r->count > 0)
		qsort(r->at, r->count, sizeof(struct chunk *), recount_order);
	for (size_t i = 0; i < r->count; i++)
		if (i == 0 || r->at[i - 1] != r->at[i])
			sum += sizeof(struct chunk) + r->at[i]->size + 16;
	free(r->at);
	*r = (struct recount){0};
	return sum;
}

#endif
