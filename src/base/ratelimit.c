/* SPDX-License-Identifier: MIT */
#include "base/ratelimit.h"

void
ratelimit_init(struct ratelimit *r, uint32_t per_second)
{
	*r = (struct ratelimit){.limit = per_second, .window = INT64_MIN / 2};
}

bool
ratelimit_pass(struct ratelimit *r, int64_t now_ms)
{
	if (now_ms - r->window >= 1000) {
		r->window = now_ms;
		r->used = 0;
	}
	if (r->used < r->limit) {
		r->used++;
		return true;
	}
	r->suppressed++;
	return false;
}

uint64_t
ratelimit_collect(struct ratelimit *r, int64_t now_ms)
{
	uint64_t n = r->suppressed;

	if (n == 0 || now_ms - r->window < 1000)
		return 0;
	r->suppressed = 0;
	return n;
}
