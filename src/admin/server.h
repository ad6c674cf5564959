/* SPDX-License-Identifier: MIT */
/*
 * The admin process: it serves the HTTP port and the control socket, and makes all text. keeper.c
 * executes it, and it knows only what comes over its channel: the listening sockets, snapshots, the
 * configuration as text, the last events. It has no privileges, and its own limits on memory and
 * descriptors. It ends when the channel is closed, that is, with the message process.
 *
 * Snapshots, and the pages made from them, are kept for a moment: many requests cost the message
 * process one snapshot.
 */
#ifndef BULKHEAD_ADMIN_SERVER_H
#define BULKHEAD_ADMIN_SERVER_H

#include <stdbool.h>

/* True if the program was started as the admin process, by a message process. */
bool server_is_wanted(char *const *argv);

/* Run as the admin process. Returns the exit status. */
int server_run(void);

#endif
