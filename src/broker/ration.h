/* SPDX-License-Identifier: MIT */
/*
 * Rations: while replies fill the memory, or did a moment ago, a client has few requests under way
 * at a time: the more replies it has taken, the more of them. And none as long as it does not take
 * what it has got. What it asks beyond that waits, in order. So it is whoever does not take replies
 * that waits for them, and no worker stands still with a reply that there is no room for.
 */
#ifndef BULKHEAD_BROKER_RATION_H
#define BULKHEAD_BROKER_RATION_H

#include <stdbool.h>
#include <stdint.h>

struct peer;
struct proxy;

struct ration {
	bool on;       /* requests are looked at */
	bool few;      /* ... and are counted; otherwise only those wait that do not take replies */
	int64_t until; /* `few` holds, ms */
	int64_t lasts; /* ... for so long after memory was short: longer when that was soon again */
	int64_t spared;    /* when those who wait were last given some more */
	uint64_t too_much; /* what may be queued for a client that is blocked, in bytes of memory */
};

/* For some seconds from now on. `too_much` is the cost of a large message, see memory.c. */
void ration_begin(struct proxy *proxy, uint64_t too_much);

/* To be called again and again while ration.on is set: lets those go on that may. */
void ration_look(struct proxy *proxy, uint64_t too_much);

/* The kernel takes too little of what is queued for the client: it does not read. */
bool ration_takes_too_little(const struct peer *client);

/* Has it as many requests under way as it may have? Only asked while ration.on is set. */
bool ration_is_used_up(const struct peer *client);

#endif
