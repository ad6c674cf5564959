/* SPDX-License-Identifier: MIT */
/*
 * The loop's part of the log: what stderr does not take at once is written when it is writable.
 */
#ifndef BULKHEAD_NET_LOG_WATCH_H
#define BULKHEAD_NET_LOG_WATCH_H

#include "net/loop.h"

struct log_watch {
	struct loop *loop;
	struct task task;    /* lines wait: begin to watch, when this turn is over */
	struct watch *watch; /* NULL until it is needed */
	struct timer timer;  /* where watching is not possible, or says yes when a write says no */
};

/* From now on lines that wait are written by this loop; one in a process. */
void log_watch_init(struct log_watch *log_watch, struct loop *loop);

/* Before the loop goes. What waits then is left to log_drain. */
void log_watch_fini(struct log_watch *log_watch);

#endif
