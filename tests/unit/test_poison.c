/* SPDX-License-Identifier: MIT */
#include "base/poison.h"
#include "unit.h"

START_TEST(new_stream_is_clean)
{
	struct poison_guard g;

	poison_init(&g);
	ck_assert(!poison_midway(&g));
	ck_assert(!poison_is_poisoned(&g));
}
END_TEST

START_TEST(last_byte_disarms)
{
	struct poison_guard g;

	poison_init(&g);
	ck_assert_int_eq(poison_arm(&g), 0);
	ck_assert_int_eq(g.state, POISON_ARMED);
	poison_wrote(&g, 100, 0);
	ck_assert_int_eq(g.state, POISON_CLEAN);
	ck_assert(!poison_cancel(&g));
}
END_TEST

START_TEST(abandoned_halfway_is_poisoned)
{
	struct poison_guard g;

	poison_init(&g);
	poison_arm(&g);
	poison_wrote(&g, 40, 60);
	ck_assert(poison_midway(&g));
	ck_assert(poison_cancel(&g));
	ck_assert(poison_is_poisoned(&g));
}
END_TEST

/* Three frames of 10: the ends of the first and the second are no end of the message. */
START_TEST(multipart_disarms_only_at_the_very_end)
{
	struct poison_guard g;

	poison_init(&g);
	for (size_t left = 29; left > 0; left--) {
		ck_assert_int_eq(poison_arm(&g), 0);
		poison_wrote(&g, 1, left);
		ck_assert_int_eq(g.state, POISON_ARMED);
	}
	ck_assert_int_eq(poison_arm(&g), 0);
	poison_wrote(&g, 1, 0);
	ck_assert_int_eq(g.state, POISON_CLEAN);
}
END_TEST

/* A stop after the first byte, and one before the last. */
START_TEST(early_stop_is_poisoned)
{
	for (size_t left = 1; left < 100; left++) {
		struct poison_guard g;

		poison_init(&g);
		poison_arm(&g);
		poison_wrote(&g, 100 - left, left);
		ck_assert(poison_cancel(&g));
	}
}
END_TEST

START_TEST(cancel_before_the_first_byte_leaves_it_clean)
{
	struct poison_guard g;

	poison_init(&g);
	ck_assert(!poison_cancel(&g));
	poison_arm(&g);
	ck_assert(!poison_cancel(&g));
	ck_assert_int_eq(poison_arm(&g), 0);
	poison_wrote(&g, 0, 0);
	ck_assert_int_eq(g.state, POISON_CLEAN);
}
END_TEST

START_TEST(a_refused_write_in_between_stays_armed)
{
	struct poison_guard g;

	poison_init(&g);
	poison_arm(&g);
	poison_wrote(&g, 5, 5);
	poison_arm(&g);
	poison_wrote(&g, 0, 0); /* the kernel took nothing */
	ck_assert_int_eq(g.state, POISON_ARMED);
	ck_assert(poison_cancel(&g));
}
END_TEST

START_TEST(many_units_in_one_write)
{
	struct poison_guard g;

	poison_init(&g);
	poison_arm(&g);
	poison_wrote(&g, 1000, 7); /* the last of them was cut */
	ck_assert(poison_midway(&g));
	poison_arm(&g);
	poison_wrote(&g, 7, 0);
	ck_assert(!poison_cancel(&g));
}
END_TEST

START_TEST(poisoned_refuses_every_send_and_nothing_resets_it)
{
	struct poison_guard g;

	poison_init(&g);
	poison_arm(&g);
	poison_wrote(&g, 1, 1);
	poison_cancel(&g);
	for (int i = 0; i < 10; i++) {
		ck_assert_int_eq(poison_arm(&g), POISON_REFUSED);
		ck_assert(poison_cancel(&g));
		ck_assert(poison_is_poisoned(&g));
	}
}
END_TEST

UNIT_MAIN("poison", tcase_add_test(tc, new_stream_is_clean), tcase_add_test(tc, last_byte_disarms),
	tcase_add_test(tc, abandoned_halfway_is_poisoned),
	tcase_add_test(tc, multipart_disarms_only_at_the_very_end),
	tcase_add_test(tc, early_stop_is_poisoned),
	tcase_add_test(tc, cancel_before_the_first_byte_leaves_it_clean),
	tcase_add_test(tc, a_refused_write_in_between_stays_armed),
	tcase_add_test(tc, many_units_in_one_write),
	tcase_add_test(tc, poisoned_refuses_every_send_and_nothing_resets_it))
