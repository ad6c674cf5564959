/* SPDX-License-Identifier: MIT */
/*
 * The last good configuration: a copy of the file that the broker last started with, or reloaded. A
 * start with mistakes in the file fails, so that the operator sees them. The next start uses the
 * copy: a supervisor starts the broker again after a second, and the service goes on.
 *
 * The copy has the lines of the file and mode 0600, and is used only if no other user can have
 * written it. If the file is missing, the copy is not used.
 */
#ifndef BULKHEAD_DAEMON_LAST_GOOD_H
#define BULKHEAD_DAEMON_LAST_GOOD_H

#include <stdbool.h>
#include <stdio.h>

#include "daemon/config.h"

struct last_good {
	const char *path; /* of the copy; NULL: none is kept */
	bool in_use;      /* the broker runs with it */
	int line;         /* then: the line of the first error; 0: the file cannot be read */
};

/*
 * Call it when `file` has errors, the first at `line`. Returns the copy, with the path of the file,
 * so that a reload reads the file; or NULL: then *again says whether the next start uses the copy.
 * Writes what it does to `err`.
 */
struct config *
last_good_load(struct last_good *last_good, const char *file, int line, FILE *err, bool *again);

/*
 * The broker has started with `config`: copy it. A copy that cannot be written is logged. Takes the
 * source out of `config`.
 */
void last_good_started(struct last_good *last_good, struct config *config);

/* The same after a reload: the copy is no longer in use. */
void last_good_reloaded(struct last_good *last_good, struct config *config);

#endif
