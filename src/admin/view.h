/*
 * Snapshots as JSON, with the monotonic time of those that rates are told from. Each function
 * returns a text to be freed with free(), or NULL without memory. Text that is not UTF-8 is shown
 * with its bytes as \xNN.
 */
#ifndef BULKHEAD_ADMIN_VIEW_H
#define BULKHEAD_ADMIN_VIEW_H

#include "admin/snapshot.h"

/* State, limits, readiness, log level; each proxy with its peers and endpoints. */
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

/* What is missing until it is ready, a line each, and whether it is. */
char *view_readiness(const struct snapshot *s, bool *ready);

/* {"NAME": "text"} */
char *view_text(const char *name, const char *text, size_t len);

#endif
