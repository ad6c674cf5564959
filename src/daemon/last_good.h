/* SPDX-License-Identifier: MIT */
/*
 * The last good configuration: a copy of the file that the broker last started with, or reloaded. A
 * start with mistakes in the file fails, since whoever asked for it must hear of them; the next
 * one, a second later when a supervisor starts it again, uses the copy, so that a mistake is not
 * the end of the service.
 *
 * The copy has the file's own lines, mode 0600, and is believed only when nobody else can have
 * written it. A file that is not there is no mistake: nothing is started in its place.
 */
#ifndef BULKHEAD_DAEMON_LAST_GOOD_H
#define BULKHEAD_DAEMON_LAST_GOOD_H

#include <stdbool.h>
#include <stdio.h>

#include "daemon/config.h"

struct last_good {
	const char *path; /* of the copy; NULL: none is kept */
	bool in_use;      /* it is what the broker runs with */
	int line;         /* then: of the file's first mistake; 0: the file could not be read */
};

/*
 * `file` has mistakes, the first in this line. Returns the copy, which is in use then, and bears
 * the file's path, so that a reload reads that; or NULL, and whether to start again to have the
 * copy. Tells all of it in `err`.
 */
struct config *
last_good_load(struct last_good *last_good, const char *file, int line, FILE *err, bool *again);

/* The broker has started with it. A copy that cannot be made is logged. Takes the source out of
 * `config`. */
void last_good_started(struct last_good *last_good, struct config *config);

/* ... or has reloaded it: the copy is in use no more. */
void last_good_reloaded(struct last_good *last_good, struct config *config);

#endif
