/* SPDX-License-Identifier: MIT */
#include "net/backoff.h"

void
backoff_reset(struct backoff *b)
{
	b->next = 0;
}

int64_t
backoff_next(struct backoff *b, int64_t min, int64_t max, int64_t jitter, uint32_t random)
{
	int64_t delay = b->next > min ? b->next : min;
	int64_t spread;

	if (delay > max)
		delay = max;
	b->next = delay > max / 2 ? max : delay * 2;
	spread = delay * jitter / 100;
	delay += (int64_t)((double)random / UINT32_MAX * 2.0 * (double)spread) - spread;
	return delay > 0 ? delay : 1;
}
