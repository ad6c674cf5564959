/* SPDX-License-Identifier: MIT */
/*
 * Work that writes many lines to the log waits while the log's reader is behind, so that no line is
 * lost: as long as the reader takes something, and a second longer. Nothing blocks here: the caller
 * tries again later.
 */
#ifndef BULKHEAD_DAEMON_PACE_H
#define BULKHEAD_DAEMON_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

enum {
	PACE_BYTES = 64 * 1024, /* that may wait for the reader: a quarter of what is kept for it */
	PACE_HANGS_MS = 1000,
	PACE_RETRY_MS = 5
};

/* All zero at first. */
struct pace {
	size_t least;  /* bytes that waited when the reader last took something */
	int64_t until; /* when the reader counts as hung, ms; 0: nothing waits */
	bool hangs;    /* it is not waited for until it has taken everything */
};

/* True if the work should wait. */
static inline bool
pace_waits(struct pace *p, int64_t now_ms)
{
	size_t waiting = log_waiting();

	if (waiting <= PACE_BYTES) {
		*p = (struct pace){0};
		return false;
	}
	if (p->until == 0 || waiting < p->least) {
		p->least = waiting;
		p->until = now_ms + PACE_HANGS_MS;
	}
	p->hangs = p->hangs || now_ms >= p->until;
	return !p->hangs;
}

#endif
