/* SPDX-License-Identifier: MIT */
/*
 * How long things took: counts in buckets whose bounds double, from 10 us to 10 s. Only the loop
 * that owns it adds to it; others get a copy.
 */
#ifndef BULKHEAD_BASE_HISTOGRAM_H
#define BULKHEAD_BASE_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

enum {
	HISTOGRAM_BOUNDS = 21,
	HISTOGRAM_BUCKETS = HISTOGRAM_BOUNDS + 1, /* the last bucket: longer than every bound */
	HISTOGRAM_FIRST_NS = 10000
};

struct histogram {
	uint64_t bucket[HISTOGRAM_BUCKETS]; /* not cumulative */
	uint64_t sum_ns;
	/* things that ended in this turn; added when the turn's length is known */
	uint64_t held;
	struct histogram *next_held;
};

/* The bucket of a time in ns. */
static inline unsigned
histogram_bucket(uint64_t ns)
{
	uint64_t times = ns > 0 ? (ns - 1) / HISTOGRAM_FIRST_NS : 0;
	unsigned i = times > 0 ? 64 - (unsigned)__builtin_clzll(times) : 0;

	return i < HISTOGRAM_BOUNDS ? i : (unsigned)HISTOGRAM_BOUNDS;
}

/* Add `n` things that took `ns` each, which belongs in bucket `i`. */
static inline void
histogram_add_to(struct histogram *h, unsigned i, uint64_t ns, uint64_t n)
{
	h->bucket[i] += n;
	h->sum_ns += ns * n;
}

/* Add `n` things that took `ns` each. */
static inline void
histogram_add(struct histogram *h, uint64_t ns, uint64_t n)
{
	histogram_add_to(h, histogram_bucket(ns), ns, n);
}

/* How many things were added. */
uint64_t histogram_count(const struct histogram *h);

/* The upper bound of bucket `i`, below HISTOGRAM_BOUNDS, in ns. */
uint64_t histogram_bound(size_t i);

/* Hold `n` things in `list`: they are added when their common time is known. */
static inline void
histogram_hold(struct histogram **list, struct histogram *h, uint64_t n)
{
	if (h->held == 0) {
		h->next_held = *list;
		*list = h;
	}
	h->held += n;
}

/*
 * Add everything held in `list`; it took `ns`, which belongs in bucket `i`. The list is empty
 * afterwards.
 */
static inline void
histogram_add_held(struct histogram **list, unsigned i, uint64_t ns)
{
	struct histogram *next;

	for (struct histogram *h = *list; h != NULL; h = next) {
		next = h->next_held;
		histogram_add_to(h, i, ns, h->held);
		h->held = 0;
	}
	*list = NULL;
}

#endif
