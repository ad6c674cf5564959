/* SPDX-License-Identifier: MIT */
/*
 * Snapshots as JSON; those from which rates are computed have the monotonic time. Each function
 * returns a text to be freed with free(), or NULL without memory. Bytes that are not UTF-8 are
 * shown as \xNN.
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
 * The last events of the log, except secret ones (log_secret_event).
 */
char *view_events(void);

/*
 * The samples that were taken after this time, in ms of the snapshots' clock; 0: all. Each column
 * of a proxy ends with the last sample; it is shorter if the proxy did not exist at first.
 */
char *view_history(const struct history *h, int64_t after_ms);

/* The conditions that are not met, a line each; and whether the broker is ready. */
char *view_readiness(const struct snapshot *s, bool *ready);

/* {"NAME": "text"} */
char *view_text(const char *name, const char *text, size_t len);

#endif
