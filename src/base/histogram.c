/* SPDX-License-Identifier: MIT */
#include "base/histogram.h"

uint64_t
histogram_count(const struct histogram *h)
{
	uint64_t n = 0;

	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		n += h->bucket[i];
	return n;
}

uint64_t
histogram_bound(size_t i)
{
	return (uint64_t)HISTOGRAM_FIRST_NS << i;
}
