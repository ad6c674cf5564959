/* SPDX-License-Identifier: MIT */
/*
 * A timing wheel: timers that live in what they act on. Setting, stopping and
 * running one takes a constant time and no memory, however many there are, so
 * that none of it can fail.
 *
 *   level 0   64 slots of  1 ms     the 64 ms that `now_ms` is in
 *   level 1   64 slots of 64 ms     the 4 s around those
 *   ...
 *   level 6   64 slots of  2 years  the 139 years around those: the clock's whole range
 *
 * A timer lies on the level of the highest digit, to the base of 64, in which
 * its time differs from `now_ms`, in the slot of that digit. When `now_ms`
 * reaches a slot of a higher level, the timers in it move down. A timer is set
 * at most 34 years ahead, which keeps its time in the clock's range for 104
 * years after the clock's start.
 */
#ifndef BULKHEAD_NET_WHEEL_H
#define BULKHEAD_NET_WHEEL_H

#include <stdint.h>

#include "base/list.h"

struct loop;

struct timer {
	struct list node; /* in a slot while the timer is running */
	int64_t due;      /* ms; CLOCK_NEVER: not running */
	void (*run)(struct timer *timer);
	struct loop *loop;
};

enum { WHEEL_BITS = 6, WHEEL_SLOTS = 1 << WHEEL_BITS, WHEEL_LEVELS = 7, WHEEL_FARTHEST_BITS = 40 };

struct wheel {
	int64_t now_ms;              /* every timer due by then has expired */
	uint64_t busy[WHEEL_LEVELS]; /* a bit for each slot that holds timers */
	struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

/* An empty wheel at the time `now_ms`. */
void wheel_init(struct wheel *wheel, int64_t now_ms);

/*
 * Start a timer that is not running, to expire at `due`, but no earlier than
 * wheel->now_ms + 1 and no later than 34 years after wheel->now_ms.
 */
void wheel_add(struct wheel *wheel, struct timer *timer, int64_t due);

/* Stop a timer. Does nothing when it is not running. */
void wheel_remove(struct wheel *wheel, struct timer *timer);

/*
 * When to call wheel_advance next: when the first timer is due, or earlier.
 * CLOCK_NEVER: no timer is running.
 */
int64_t wheel_next(const struct wheel *wheel);

/*
 * Advance to `now_ms`, and move every timer that is due by then to the tail of
 * `expired`, ordered by due time. A `now_ms` before wheel->now_ms changes
 * nothing. The moved timers still count as running; wheel_remove takes them out
 * of `expired`, too.
 */
void wheel_advance(struct wheel *wheel, int64_t now_ms, struct list *expired);

#endif
