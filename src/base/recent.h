/* SPDX-License-Identifier: MIT */
/*
 * The last events that were logged, to be shown. What is noteworthy has a ring of its own, so
 * that peers that come and go do not push it out. Part of the log, and process-wide as that is.
 *
 * Another process may read along (recent_share, recent_attach): one process writes, without a lock,
 * and who reads while something is written reads again.
 */
#ifndef BULKHEAD_BASE_RECENT_H
#define BULKHEAD_BASE_RECENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

enum {
	RECENT_RING = 48, /* notice or worse; and as many of level info */
	RECENT_EVENTS = 2 * RECENT_RING,
	RECENT_NAME_MAX = 32,
	RECENT_TEXT_MAX = 400
};

struct recent_event {
	uint64_t number; /* 1 for the first of all */
	enum log_level level;
	bool secret;   /* it quotes the configuration: see log_secret_event */
	char when[32]; /* UTC, as in the log */
	char event[RECENT_NAME_MAX];
	char text[RECENT_TEXT_MAX]; /* what follows the name in the log; long ones are cut */
};

/* Keep an event of level info or worse, now. */
void recent_add(enum log_level level, bool secret, const char *event, const char *text, size_t len);

/*
 * Copy what is kept into out[RECENT_EVENTS], oldest first. Returns how many; 0 also when the other
 * process stopped in the middle of writing one.
 */
size_t recent_copy(struct recent_event *out);

/* The number of the last event; 0: there was none. */
uint64_t recent_last(void);

/*
 * Keep all of it in memory that another process may read from now on. Returns a descriptor for
 * that process, the caller's to close, or -1 and errno: nothing was changed.
 */
int recent_share(void);

/* Show what the process keeps that this descriptor came from. False when that is not possible. */
bool recent_attach(int fd);

#endif
