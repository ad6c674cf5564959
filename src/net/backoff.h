/* SPDX-License-Identifier: MIT */
/*
 * Exponential backoff with jitter.
 */
#ifndef BULKHEAD_NET_BACKOFF_H
#define BULKHEAD_NET_BACKOFF_H

#include <stdint.h>

struct backoff {
	int64_t next; /* ms before jitter; 0: the minimum */
};

/* Start over from the minimum. */
void backoff_reset(struct backoff *b);

/*
 * The next delay in ms: `min`, doubled with every call up to `max`, then moved
 * by up to `jitter` percent both ways, as `random` (any 32 bits) says. At
 * least 1.
 */
int64_t backoff_next(struct backoff *b, int64_t min, int64_t max, int64_t jitter, uint32_t random);

#endif
