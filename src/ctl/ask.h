/* SPDX-License-Identifier: MIT */
/*
 * A command from question to exit status.
 */
#ifndef BULKHEAD_CTL_ASK_H
#define BULKHEAD_CTL_ASK_H

#include <jansson.h>

#include "ctl/args.h"

enum { CTL_DONE = 0, CTL_REFUSED = 1, CTL_NO_DAEMON = 2 };

/*
 * Send `command` and parse the answer into *answer, which is the caller's (json_decref); NULL
 * unless CTL_DONE is returned. Errors go to stderr, after the text `before`.
 */
int ask(const struct args *args, int command, const char *before, json_t **answer);

/* Run a command of the daemon's and print the answer. Returns the exit status. */
int ask_and_show(const struct args *args);

/*
 * Flush stdout. Returns `status`, or prints an error and returns CTL_REFUSED when not everything
 * could be written: a full disk, a limit, a broken pipe.
 */
int ask_flush(int status);

#endif
