/* SPDX-License-Identifier: MIT */
/*
 * A slice is the part of a long piece of work that one turn of the loop does, so that messages pass
 * between two slices. It is counted in units of a microsecond at most; a slice also ends by the
 * clock, since the time of a unit depends on the machine.
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
 * Take `units` from the slice; false: it has not that many left. The first call always succeeds, so
 * that every slice makes progress. NULL is a slice without an end.
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
