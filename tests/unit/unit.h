/* SPDX-License-Identifier: MIT */
/*
 * Shared by all unit test programs: their main.
 */
#ifndef BULKHEAD_TESTS_UNIT_H
#define BULKHEAD_TESTS_UNIT_H

#include <check.h>
#include <stdlib.h>

/*
 * How often to repeat: `n` times, or, under memcheck (BULKHEAD_VALGRIND), a part of that. It looks
 * at accesses, not at how much there is of everything.
 */
static inline int
unit_repeat(int n, int part)
{
	const char *memcheck = getenv("BULKHEAD_VALGRIND");

	return memcheck != NULL && memcheck[0] == '1' ? n / part : n;
}

/* Define main for a suite of one case; the body adds tests to `tc`. */
#define UNIT_MAIN(name, ...) \
	int main(void) \
	{ \
		Suite *suite = suite_create(name); \
		TCase *tc = tcase_create(name); \
		SRunner *runner; \
		int failed; \
		__VA_ARGS__; \
		suite_add_tcase(suite, tc); \
		runner = srunner_create(suite); \
		srunner_run_all(runner, CK_ENV); \
		failed = srunner_ntests_failed(runner); \
		srunner_free(runner); \
		return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE; \
	}

#endif
