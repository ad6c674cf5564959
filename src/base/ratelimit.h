/* SPDX-License-Identifier: MIT */
/* A limit of events per second, for log lines that a hostile peer can cause. */
#ifndef BULKHEAD_BASE_RATELIMIT_H
#define BULKHEAD_BASE_RATELIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct ratelimit {
	int64_t window;      /* start of the current second, ms */
	uint32_t used;       /* events let through in it */
	uint32_t limit;      /* events per second */
	uint64_t suppressed; /* suppressed since they were last reported */
};

void ratelimit_init(struct ratelimit *r, uint32_t per_second);

/* True when the event may be logged at `now_ms`; otherwise it is counted. */
bool ratelimit_pass(struct ratelimit *r, int64_t now_ms);

/*
 * How many events were suppressed before the current second, to be reported in one line; the count
 * starts again at 0. Returns 0 when there is nothing to report yet.
 */
uint64_t ratelimit_collect(struct ratelimit *r, int64_t now_ms);

#endif
