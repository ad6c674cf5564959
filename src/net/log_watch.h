/* SPDX-License-Identifier: MIT */
/*
 * The loop's part of the log: lines that stderr does not take at once are written when it is
 * writable.
 */
#ifndef BULKHEAD_NET_LOG_WATCH_H
#define BULKHEAD_NET_LOG_WATCH_H

#include "net/loop.h"

struct log_watch {
	struct loop *loop;
	struct task task;    /* lines wait: begin to watch at the end of this turn */
	struct watch *watch; /* NULL until it is needed */
	struct timer timer;  /* instead of a watch that is impossible, or wrong */
};

/* From now on this loop writes the lines that wait; at most one in a process. */
void log_watch_init(struct log_watch *log_watch, struct loop *loop);

/* Before the loop is freed. Lines that still wait are left to log_drain. */
void log_watch_fini(struct log_watch *log_watch);

#endif
