/* SPDX-License-Identifier: MIT */
/*
 * What is wrong, worst first, and what to do about it: the texts for /readyz, /api/status, the
 * status page and bulkheadctl.
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

/* Call `tell` for each trouble in the snapshot; `t` is valid during the call. */
void
trouble_each(const struct snapshot *s, void (*tell)(void *arg, const struct trouble *t), void *arg);

/*
 * True if the broker accepts messages and can deliver them: it is running, each bound endpoint
 * accepts, each proxy has a ready backend peer and is not paused. Writes a line to `why` for each
 * condition that is not met.
 */
bool trouble_is_ready(const struct snapshot *s, FILE *why);

#endif
