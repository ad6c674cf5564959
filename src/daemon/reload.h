/* SPDX-License-Identifier: MIT */
/*
 * A reload reads and checks the whole file, and binds new endpoints; only if all of that succeeds,
 * it applies the differences. It works in slices, and messages pass between them. Everything that
 * can fail, including allocations, comes first and leaves the broker as it was.
 */
#ifndef BULKHEAD_DAEMON_RELOAD_H
#define BULKHEAD_DAEMON_RELOAD_H

#include "daemon/config.h"
#include "daemon/running.h"
#include "daemon/slice.h"

struct reload;

/*
 * Begin to reload the file that `now` was read from. `now`, and the proxies and endpoints in
 * `running`, must stay as they are until reload_end. NULL: no memory.
 */
struct reload *reload_new(struct running *running, const struct config *now);

/* Go on for one slice. False: the reload is over; a failure was logged. */
bool reload_step(struct reload *reload, struct slice *slice);

struct reload_summary {
	char *report;             /* the changes or the errors, as lines (free); NULL: no memory */
	size_t changes, restarts; /* all changes, and those that need a restart */
};

/*
 * Free it. Returns the configuration that applies from now on (config_free); or NULL if the reload
 * failed or was not over. In the second case, all that is not applied yet is undone, and logged.
 */
struct config *reload_end(struct reload *reload, struct reload_summary *summary);

#endif
