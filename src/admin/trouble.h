/* SPDX-License-Identifier: MIT */
/*
 * What is wrong, the worst first, and what to do about it, in words: the one place that they come
 * from, for /readyz, /api/status, the status page and bulkheadctl.
 */
#ifndef BULKHEAD_ADMIN_TROUBLE_H
#define BULKHEAD_ADMIN_TROUBLE_H

#include <stdbool.h>
#include <stdio.h>

#include "admin/snapshot.h"

enum { TROUBLE_TEXT_MAX = ENDPOINT_TEXT_MAX + 160 };

struct trouble {
	const char *kind;                 /* a bare word */
	const char *proxy;                /* NULL: of the broker */
	int side;                         /* -1: of both, or none */
	bool bad;                         /* otherwise a warning */
	bool unready;                     /* the broker is not ready as long as it lasts */
	uint64_t count;                   /* of peers; 0: it is not about peers */
	uint64_t peers[SIDE_NAMED_PEERS]; /* the first of them; 0: no more */
	char text[TROUBLE_TEXT_MAX];      /* what */
	const char *advice;               /* what to do: static text */
};

/* Tell each trouble of the snapshot; `t` is only there during the call. */
void
trouble_each(const struct snapshot *s, void (*tell)(void *arg, const struct trouble *t), void *arg);

/*
 * Does it take messages and can it deliver them: running, each bound endpoint accepts, each proxy
 * has a ready backend peer and is not paused? Writes each thing that is missing as one line to
 * `why`.
 */
bool trouble_is_ready(const struct snapshot *s, FILE *why);

#endif
