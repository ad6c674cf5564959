/* SPDX-License-Identifier: MIT */
/*
 * Reload: the file is read and checked whole, new endpoints are bound, and only when all of that
 * went well the difference is applied. All of it is done in slices, between which messages pass;
 * what is prepared can fail, for want of memory, too, and leaves everything as it was; what is
 * applied cannot.
 */
#ifndef BULKHEAD_DAEMON_RELOAD_H
#define BULKHEAD_DAEMON_RELOAD_H

#include "daemon/config.h"
#include "daemon/running.h"
#include "daemon/slice.h"

struct reload;

/*
 * A reload of the file that `now` came from, of what runs by it; both must stay as they are until
 * reload_end. NULL: no memory.
 */
struct reload *reload_new(struct running *running, const struct config *now);

/* Go on, as far as the slice allows. False: it is over; a failure was logged. */
bool reload_step(struct reload *reload, struct slice *slice);

struct reload_summary {
	char *report; /* lines that say what was done, or is wrong (free); NULL: no memory */
	size_t changes, restarts; /* those that need one */
};

/*
 * Frees it. The configuration that holds now is returned, and the caller's (config_free); NULL when
 * the reload failed, or was not over: then what is not applied yet is taken back, and that is
 * logged.
 */
struct config *reload_end(struct reload *reload, struct reload_summary *summary);

#endif
