/* SPDX-License-Identifier: MIT */
/*
 * The admin process: it serves the HTTP port and the control socket, and makes all text. It was
 * executed by keeper.c, and knows nothing but what comes over its channel: the listening sockets,
 * snapshots, the configuration as text, the last events. It has no privileges, and limits of its
 * own on memory and descriptors. It ends with the channel, that is with the message process.
 *
 * Snapshots and what is made of them are kept for a moment: many requests cost the message process
 * one look.
 */
#ifndef BULKHEAD_ADMIN_SERVER_H
#define BULKHEAD_ADMIN_SERVER_H

#include <stdbool.h>

/* Was the program started as the admin process, by a message process? */
bool server_is_wanted(char *const *argv);

/* Be it. Returns the exit status. */
int server_run(void);

#endif
