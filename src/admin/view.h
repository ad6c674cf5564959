/* SPDX-License-Identifier: MIT */
/*
 * Snapshots as JSON, with the monotonic time of those that rates are told from. Each function
 * returns a text to be freed with free(), or NULL without memory. Text that is not UTF-8 is shown
 * with its bytes as \xNN.
 */
#ifndef BULKHEAD_ADMIN_VIEW_H
#define BULKHEAD_ADMIN_VIEW_H

#include "admin/history.h"
#include "admin/snapshot.h"

enum { VIEW_TROUBLES_MAX = 32 };

/*
 * Host and instance, state, limits, readiness, log level; what is wrong and what to do, the worst
 * first, VIEW_TROUBLES_MAX at most; each proxy with its peers and endpoints.
 */
char *view_status(const struct snapshot *s);

/* Every connection of a snapshot that has them. */
char *view_peers(const struct snapshot *s);

/* Every counter and histogram. */
char *view_stats(const struct snapshot *s);

/*
 * The last events of the log, without those that say what is in the configuration: that is shown
 * over the control socket alone.
 */
char *view_events(void);

/*
 * The samples that were taken after this time, ms on the snapshots' clock; 0: all. Each column of a
 * proxy ends with the last one; it is shorter where the proxy was not there yet.
 */
char *view_history(const struct history *h, int64_t after_ms);

/* What is missing until it is ready, a line each, and whether it is. */
char *view_readiness(const struct snapshot *s, bool *ready);

/* {"NAME": "text"} */
char *view_text(const char *name, const char *text, size_t len);

#endif
