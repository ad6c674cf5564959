/* SPDX-License-Identifier: MIT */
/*
 * Rations: while replies fill the memory, or did a moment ago, a client may have few requests under
 * way: the more replies it has taken, the more requests, and none while it does not take its
 * replies. Further requests wait, in order. So a client that does not take replies has to wait, and
 * no worker stands still with a reply that there is no room for.
 */
#ifndef BULKHEAD_BROKER_RATION_H
#define BULKHEAD_BROKER_RATION_H

#include <stdbool.h>
#include <stdint.h>

struct peer;
struct proxy;

struct ration {
	bool on;        /* requests are checked */
	bool few;       /* ... and counted; otherwise only clients that do not take replies wait */
	int64_t until;  /* `few` holds, ms */
	int64_t lasts;  /* ... for so long after memory was short; longer when it soon is again */
	int64_t spared; /* when waiting clients last got an extra ration */
	uint64_t too_much; /* what may be queued for a client that is blocked, in bytes of memory */
};

/*
 * Ration requests for some seconds from now on. `too_much`: the cost of a large message, see
 * memory.c.
 */
void ration_begin(struct proxy *proxy, uint64_t too_much);

/* To be called repeatedly while ration.on is set: lets clients go on that may. */
void ration_check(struct proxy *proxy, uint64_t too_much);

/*
 * Does the kernel take too little of what is queued for the client? Then the client does not read.
 */
bool ration_takes_too_little(const struct peer *client);

/* Has the client as many requests under way as it may have? Only called while ration.on is set. */
bool ration_is_used_up(const struct peer *client);

#endif
