/* SPDX-License-Identifier: MIT */
/*
 * The timing wheel, against a plain list of timers.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "net/wheel.h"
#include "unit.h"

enum { TIMERS = 200, STEPS = 20000 };

static struct wheel wheel;
static struct timer timers[TIMERS];
static int64_t model[TIMERS]; /* when each is due; CLOCK_NEVER: it does not run */
static uint64_t seed;

static uint64_t
rnd(uint64_t below)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (seed >> 33) % below;
}

static void
reset(int64_t now)
{
	seed = 1;
	wheel_init(&wheel, now);
	for (int i = 0; i < TIMERS; i++) {
		timers[i] = (struct timer){.due = CLOCK_NEVER};
		list_init(&timers[i].node);
		model[i] = CLOCK_NEVER;
	}
}

static int64_t
first_of_model(void)
{
	int64_t first = CLOCK_NEVER;

	for (int i = 0; i < TIMERS; i++)
		first = model[i] < first ? model[i] : first;
	return first;
}

static void
set(int i, int64_t due)
{
	wheel_remove(&wheel, &timers[i]);
	wheel_add(&wheel, &timers[i], due);
	model[i] = timers[i].due;
}

/* The timers that are due by `now` in the model, and no others, are called in order. */
static void
advance(int64_t now)
{
	struct list expired, *node;
	int64_t before = INT64_MIN;

	list_init(&expired);
	wheel_advance(&wheel, now, &expired);
	while ((node = list_pop(&expired)) != NULL) {
		struct timer *t = list_entry(node, struct timer, node);
		ck_assert_int_eq(t->due, model[t - timers]);
		ck_assert_int_ge(t->due, before);
		before = t->due;
		model[t - timers] = CLOCK_NEVER;
	}
	ck_assert_int_gt(first_of_model(), now);
}

/* Delays of all lengths, from one millisecond to years. */
static void
storm(int64_t now)
{
	reset(now);
	for (int step = 0; step < STEPS; step++) {
		int i = (int)rnd(TIMERS);
		int64_t next;

		if (rnd(4) == 0) {
			wheel_remove(&wheel, &timers[i]);
			model[i] = CLOCK_NEVER;
		} else {
			set(i, now + 1 + (int64_t)(rnd(UINT64_C(1) << 31) >> rnd(31)));
		}
		next = wheel_next(&wheel);
		ck_assert_int_gt(next, now);
		ck_assert_int_le(next, first_of_model());
		ck_assert(next != CLOCK_NEVER || first_of_model() == CLOCK_NEVER);
		if (rnd(3) > 0)
			continue;
		/* late, early, or just when it asked to be called */
		if (rnd(3) == 0 && next != CLOCK_NEVER)
			now = next;
		else
			now += (int64_t)(rnd(UINT64_C(1) << 20) >> rnd(20));
		advance(now);
	}
}

START_TEST(goes_off_as_set)
{
	storm(0);
	storm(63);
	storm((INT64_C(1) << 36) - 5);
	storm(INT64_C(123456789012));
}
END_TEST

/* Called only when it asks for it, it must reach the timer in a few steps, not in thousands. */
START_TEST(a_far_one_takes_few_steps)
{
	int64_t now = 4095, due = now + INT64_C(10) * 365 * 86400 * 1000;
	int steps = 0;

	reset(now);
	set(0, due);
	for (; model[0] != CLOCK_NEVER; steps++)
		advance(wheel_next(&wheel));
	ck_assert_int_eq(wheel.now_ms, due);
	ck_assert_int_le(steps, WHEEL_LEVELS);
	ck_assert_int_eq(wheel_next(&wheel), CLOCK_NEVER);
}
END_TEST

START_TEST(times_out_of_range)
{
	reset(1000);
	set(0, 1000); /* not before the next millisecond */
	set(1, -5);
	set(2, CLOCK_NEVER - 1); /* clipped */
	ck_assert_int_eq(timers[0].due, 1001);
	ck_assert_int_eq(timers[1].due, 1001);
	ck_assert_int_eq(timers[2].due, 1000 + (INT64_C(1) << 40));
	advance(999); /* the clock does not go back */
	ck_assert_int_eq(wheel.now_ms, 1000);
	advance(1001);
	ck_assert_int_eq(model[0], CLOCK_NEVER);
	ck_assert_int_ne(model[2], CLOCK_NEVER);
}
END_TEST

/* A timer that runs may stop another that is to run next. */
START_TEST(removed_from_the_expired)
{
	struct list expired;

	reset(0);
	set(0, 10);
	set(1, 10);
	set(2, 70);
	list_init(&expired);
	wheel_advance(&wheel, 10, &expired);
	wheel_remove(&wheel, &timers[0]);
	ck_assert(!list_linked(&timers[0].node));
	wheel_remove(&wheel, &timers[1]);
	ck_assert(list_empty(&expired));
	ck_assert_int_eq(wheel_next(&wheel), 64);
	model[0] = model[1] = CLOCK_NEVER;
	advance(70);
	ck_assert_int_eq(model[2], CLOCK_NEVER);
}
END_TEST

UNIT_MAIN("wheel", tcase_add_test(tc, goes_off_as_set),
	tcase_add_test(tc, a_far_one_takes_few_steps), tcase_add_test(tc, times_out_of_range),
	tcase_add_test(tc, removed_from_the_expired))
