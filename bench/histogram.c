/* SPDX-License-Identifier: MIT */
#include "histogram.h"

#include <string.h>

static unsigned
bucket_of(uint64_t value)
{
	unsigned shift;

	if (value < HISTOGRAM_SUB)
		return (unsigned)value;
	shift = 63 - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
	/* the leading bit is left out, it is in the shift */
	return (shift + 1) * HISTOGRAM_SUB + (unsigned)((value >> shift) - HISTOGRAM_SUB);
}

/* the largest value that falls into the bucket */
static uint64_t
end_of(unsigned bucket)
{
	unsigned shift = bucket / HISTOGRAM_SUB;

	if (shift == 0)
		return bucket;
	return ((uint64_t)(bucket % HISTOGRAM_SUB + HISTOGRAM_SUB + 1) << (shift - 1)) - 1;
}

void
histogram_reset(struct histogram *h)
{
	memset(h, 0, sizeof(*h));
}

void
histogram_add(struct histogram *h, uint64_t value)
{
	h->count++;
	h->sum += value;
	if (value > h->max)
		h->max = value;
	h->buckets[bucket_of(value)]++;
}

void
histogram_merge(struct histogram *h, const struct histogram *from)
{
	if (from->count == 0)
		return;
	h->count += from->count;
	h->sum += from->sum;
	if (from->max > h->max)
		h->max = from->max;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		h->buckets[i] += from->buckets[i];
}

uint64_t
histogram_quantile(const struct histogram *h, double quantile)
{
	uint64_t want = (uint64_t)(quantile * (double)h->count + 0.5), seen = 0;

	if (h->count == 0)
		return 0;
	if (want == 0)
		want = 1;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->buckets[i];
		if (seen >= want)
			return end_of(i) < h->max ? end_of(i) : h->max;
	}
	return h->max;
}

double
histogram_mean(const struct histogram *h)
{
	return h->count > 0 ? (double)h->sum / (double)h->count : 0;
}
