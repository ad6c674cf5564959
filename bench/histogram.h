/* SPDX-License-Identifier: MIT */
/*
 * histogram.h - how often a value came, to 1/128 of the value, in constant memory and time: HDR
 * style buckets, 128 for each power of two. Values are nanoseconds, or whatever the caller counts.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 7
#define HISTOGRAM_SUB (1u << HISTOGRAM_SUB_BITS)
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_SUB_BITS + 1) * HISTOGRAM_SUB)

struct histogram {
	uint64_t count, sum, max;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* Takes every value out. */
void histogram_reset(struct histogram *h);

/* Counts one value. */
void histogram_add(struct histogram *h, uint64_t value);

/* Counts all of `from` in `h`, too. */
void histogram_merge(struct histogram *h, const struct histogram *from);

/* The value that `quantile` (0 to 1) of all values do not exceed; 0 when there is none. */
uint64_t histogram_quantile(const struct histogram *h, double quantile);

/* The mean of all values; 0 when there is none. */
double histogram_mean(const struct histogram *h);

#endif
