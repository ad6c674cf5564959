/* SPDX-License-Identifier: MIT */
/*
 * What is different between two configurations, as a list of changes. Pure: it looks at the two
 * and at the table of options, and at nothing that runs.
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

/* The pointers but for `from` and `to` point into the two configurations and the table. */
struct change {
	enum change_kind kind;
	const char *proxy; /* NULL: an option of [broker] */
	int side;          /* PROXY_FRONTEND or PROXY_BACKEND; -1: the proxy, or the broker */
	bool binds;        /* an endpoint: of `bind`, not of `connect` */
	const struct endpoint *endpoint;
	const struct option_row *row; /* an option */
	char *from, *to;              /* its values as they would stand in a file */
};

struct diff {
	const struct config *now, *next;
	struct change *changes; /* count of them */
	size_t count;
	bool no_memory; /* some are missing */
	unsigned stage; /* of the comparing */
	size_t at;      /* in it */
};

/*
 * All that is different in `next`: options first, then proxies and endpoints, which are the same
 * when their text is. A proxy that is added or removed is followed by its endpoints; its options
 * are not listed. Both configurations must outlive the result (diff_free). It is all there when
 * diff_step has said so. NULL: no memory.
 */
struct diff *diff_new(const struct config *now, const struct config *next);

/* Compare on, as far as the slice allows. False: that was all, or there was no memory. */
bool diff_step(struct diff *diff, struct slice *slice);

/* NULL is fine, and one that is not all there. */
void diff_free(struct diff *diff);

/* How many options need a restart. */
size_t diff_restarts(const struct diff *diff);

/* Write one change as a line for people, with its end. */
void diff_print(const struct change *change, struct text *out);

/*
 * If it needs a restart, give `next` the value of `now`, since that still holds. The texts of the
 * change stay as they are.
 */
void diff_keep_old(const struct change *change, const struct config *now, struct config *next);

#endif
