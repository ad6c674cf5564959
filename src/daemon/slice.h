/* SPDX-License-Identifier: MIT */
/*
 * A slice of a long piece of work: what one turn of the loop does of it, so that messages pass
 * meanwhile. It is counted in units, a microsecond each at most, and the clock is looked at as
 * well: what a unit takes depends on the machine.
 */
#ifndef BULKHEAD_DAEMON_SLICE_H
#define BULKHEAD_DAEMON_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

enum { SLICE_UNITS = 3000, SLICE_NS = 2000000 };

struct slice {
	unsigned left;  /* units */
	uint64_t until; /* ns */
};

static inline struct slice
slice_begin(void)
{
	return (struct slice){SLICE_UNITS, clock_now_ns() + SLICE_NS};
}

/*
 * May `units` more be done in this turn? Yes for the first of a slice, whatever they are, so that
 * it always goes on; and yes when `slice` is NULL: all at once.
 */
static inline bool
slice_take(struct slice *slice, unsigned units)
{
	if (slice == NULL)
		return true;
	if (slice->left < SLICE_UNITS && (slice->left < units || clock_now_ns() >= slice->until))
		return false;
	slice->left -= units < slice->left ? units : slice->left;
	return true;
}

#endif
