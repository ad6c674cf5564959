/* SPDX-License-Identifier: MIT */
/*
 * Time. All deadlines in the program are milliseconds of one monotonic clock.
 */
#ifndef BULKHEAD_BASE_CLOCK_H
#define BULKHEAD_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* A deadline that never comes. */
#define CLOCK_NEVER INT64_MAX

/* Milliseconds of the monotonic clock. */
int64_t clock_now_ms(void);

/* The same clock in nanoseconds, for measurements. */
uint64_t clock_now_ns(void);

/* Write the wall clock's UTC time as 2026-01-31T12:34:56.123Z into out[size >= 25]. */
void clock_wall_text(char *out, size_t size);

#endif
