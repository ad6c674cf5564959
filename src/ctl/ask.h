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
 * Ask for `command` and parse the answer into *answer, which is the caller's (json_decref); NULL
 * unless CTL_DONE is returned. Complaints go to stderr, prefixed by `before`.
 */
int ask(const struct args *args, int command, const char *before, json_t **answer);

/* Run a command of the daemon's, and print what came of it. Returns the exit status. */
int ask_and_show(const struct args *args);

/*
 * `status`, when stdout took all that was written to it; CTL_REFUSED and a complaint when a full
 * disk, a limit or a broken pipe kept it from that.
 */
int ask_flush(int status);

#endif
