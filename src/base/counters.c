/* SPDX-License-Identifier: MIT */
#include "base/counters.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

uint64_t
counters_dropped(const struct counters *c)
{
	uint64_t sum = 0;

	for (int i = 0; i < DROP_REASON_COUNT; i++)
		sum += c->dropped[i];
	return sum;
}

/* Appends one pair at *len; nothing is written past the end. */
static void
put(char *out, size_t size, size_t *len, const char *prefix, const char *key, uint64_t value)
{
	int n;

	if (*len >= size)
		return;
	n = snprintf(out + *len, size - *len, "%s%s%s=%" PRIu64, *len > 0 ? " " : "", prefix, key,
		value);
	if (n > 0)
		*len += (size_t)n;
}

const char *
counters_text(const struct counters *c, char *out, size_t size)
{
	size_t len = 0;

	out[0] = '\0';
#define PUT(name, kind, metric, help) put(out, size, &len, "", #name, c->name);
	COUNTERS(PUT)
#undef PUT
	put(out, size, &len, "", "dropped", counters_dropped(c));
	for (int i = 0; i < DROP_REASON_COUNT; i++)
		if (c->dropped[i] > 0)
			put(out, size, &len, "drop_", drop_reason_name(i), c->dropped[i]);
	for (int i = 0; i < CLOSE_REASON_COUNT; i++)
		if (c->closed_by[i] > 0)
			put(out, size, &len, "closed_", close_reason_name(i), c->closed_by[i]);
	return out;
}
