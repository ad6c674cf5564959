/* SPDX-License-Identifier: MIT */
/*
 * The differences between two configurations, as a list of changes. It looks at the two and at the
 * table of options, and at nothing that runs.
 */
#ifndef BULKHEAD_DAEMON_DIFF_H
#define BULKHEAD_DAEMON_DIFF_H

#include <stdbool.h>

#include "base/text.h"
#include "daemon/config.h"
#include "daemon/options.h"
#include "daemon/slice.h"

enum change_kind {
	CHANGE_PROXY_ADDED,
	CHANGE_PROXY_REMOVED,
	CHANGE_ENDPOINT_ADDED,
	CHANGE_ENDPOINT_REMOVED,
	CHANGE_OPTION
};

/* All pointers except `from` and `to` point into the two configurations and the table. */
struct change {
	enum change_kind kind;
	const char *proxy; /* NULL: an option of [broker] */
	int side;          /* PROXY_FRONTEND or PROXY_BACKEND; -1: the proxy, or the broker */
	bool binds;        /* an endpoint of `bind`, not of `connect` */
	const struct endpoint *endpoint;
	const struct option_row *row; /* an option */
	char *from, *to;              /* its values as a file would have them */
};

struct diff {
	const struct config *now, *next;
	struct change *changes; /* count of them */
	size_t count;
	bool no_memory; /* some are missing */
	unsigned stage; /* of the comparing */
	size_t at;      /* the next proxy of it */
};

/*
 * Begin to compare (diff_step goes on). The changes are options first, then proxies and endpoints;
 * two endpoints are the same if their texts are. After a proxy that is added or removed come its
 * endpoints, and its options are not listed. Both configurations must outlive the result
 * (diff_free). NULL: no memory.
 */
struct diff *diff_new(const struct config *now, const struct config *next);

/* Go on for one slice. False: all was compared, or there was no memory. */
bool diff_step(struct diff *diff, struct slice *slice);

/* Free it at any time; NULL is fine. */
void diff_free(struct diff *diff);

/* How many of the changes need a restart. */
size_t diff_restarts(const struct diff *diff);

/* Append one change as a line for people. */
void diff_print(const struct change *change, struct text *out);

/*
 * If the change needs a restart, copy the value of `now` to `next`, since that still applies. The
 * texts of the change stay as they are.
 */
void diff_keep_old(const struct change *change, const struct config *now, struct config *next);

#endif
