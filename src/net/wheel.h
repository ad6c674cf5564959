/* SPDX-License-Identifier: MIT */
/*
 * A timing wheel: timers that live in what they act on. Setting, stopping and
 * running one takes a constant time and no memory, however many there are, so
 * that none of it can fail.
 *
 *   level 0   64 slots of  1 ms     the 64 ms that `now` is in
 *   level 1   64 slots of 64 ms     the 4 s around those
 *   ...                             up to 139 years
 *
 * A timer lies on the level of the highest digit, to the base of 64, in which
 * its time differs from `now`, in the slot of that digit. When `now` comes to a
 * slot of a higher level, what is in it moves down.
 */
#ifndef BULKHEAD_NET_WHEEL_H
#define BULKHEAD_NET_WHEEL_H

#include <stdint.h>

#include "base/list.h"

struct loop;

struct timer {
	struct list node; /* in a slot, while it runs */
	int64_t due;      /* ms; CLOCK_NEVER: it does not run */
	void (*run)(struct timer *timer);
	struct loop *loop;
};

enum { WHEEL_BITS = 6, WHEEL_SLOTS = 1 << WHEEL_BITS, WHEEL_LEVELS = 7 };

struct wheel {
	int64_t now;                 /* everything that was due by then has gone off */
	uint64_t busy[WHEEL_LEVELS]; /* a bit for each slot that holds timers */
	struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

/* An empty wheel at `now`, ms. */
void wheel_init(struct wheel *wheel, int64_t now);

/*
 * Enter a timer that does not run, to go off at `due`: at wheel->now + 1 at the
 * earliest, and in 34 years at the latest.
 */
void wheel_add(struct wheel *wheel, struct timer *timer, int64_t due);

/* Take a timer out. Harmless when it does not run. */
void wheel_remove(struct wheel *wheel, struct timer *timer);

/*
 * When to call wheel_advance next: no later than the first timer is due, maybe
 * earlier. CLOCK_NEVER: no timer runs.
 */
int64_t wheel_next(const struct wheel *wheel);

/*
 * Go on to `now`, and move every timer that is due by then to the tail of
 * `expired`, in the order of their times. An earlier `now` than before is taken
 * for the same. Those timers still count as running; wheel_remove takes them
 * out of `expired` as well.
 */
void wheel_advance(struct wheel *wheel, int64_t now, struct list *expired);

#endif
