/* SPDX-License-Identifier: MIT */
#include "admin/history.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static uint32_t
narrowed(uint64_t n)
{
	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

/*
 * The value, in us, below which this part of the values lies; evenly distributed in a bucket. For
 * the last bucket, which has no end, its beginning.
 */
static uint32_t
quantile_us(const uint64_t bucket[HISTOGRAM_BUCKETS], uint64_t count, double part)
{
	double want = part * (double)count, seen = 0;

	for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
		double low = i > 0 ? (double)histogram_bound(i - 1) : 0, n = (double)bucket[i];

		if (n > 0 && seen + n >= want) {
			double us = (low + ((double)histogram_bound(i) - low) * (want - seen) / n) /
				1e3;

			return us > 1 ? (uint32_t)us : 1;
		}
		seen += n;
	}
	return count > 0 ? (uint32_t)(histogram_bound(HISTOGRAM_BOUNDS - 1) / 1000) : 0;
}

static void
set_times(struct history_proxy *p, const struct proxy_view *now, uint32_t *row)
{
	uint64_t came[HISTOGRAM_BUCKETS], count = 0;

	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t sum = now->side[PROXY_FRONTEND].forward.bucket[i] +
			now->side[PROXY_BACKEND].forward.bucket[i];

		came[i] = sum - p->forward[i];
		count += came[i];
		p->forward[i] = sum;
	}
	row[HISTORY_p50_us] = quantile_us(came, count, 0.5);
	row[HISTORY_p90_us] = quantile_us(came, count, 0.9);
	row[HISTORY_p99_us] = quantile_us(came, count, 0.99);
}

static void
set_row(struct history_proxy *p, const struct proxy_view *now, uint32_t *row)
{
	const struct counters *f = &now->side[PROXY_FRONTEND].counters;
	const struct counters *b = &now->side[PROXY_BACKEND].counters;
	uint64_t dropped[PROXY_SIDES] = {
		[PROXY_FRONTEND] = counters_dropped(f), [PROXY_BACKEND] = counters_dropped(b)};

	row[HISTORY_requests] = narrowed(b->received - p->requests);
	row[HISTORY_replies] = narrowed(f->received - p->replies);
	row[HISTORY_dropped_requests] =
		narrowed(dropped[PROXY_BACKEND] - p->dropped[PROXY_BACKEND]);
	row[HISTORY_dropped_replies] =
		narrowed(dropped[PROXY_FRONTEND] - p->dropped[PROXY_FRONTEND]);
	row[HISTORY_queued_requests] = narrowed(b->queued);
	row[HISTORY_queued_replies] = narrowed(f->queued);
	row[HISTORY_unanswered] = narrowed(b->outstanding);
	set_times(p, now, row);
	p->requests = b->received;
	p->replies = f->received;
	memcpy(p->dropped, dropped, sizeof(dropped));
}

/* A reload may have replaced it by a new proxy of the same name, whose counters began at 0. */
static bool
is_another(const struct history_proxy *p, const struct proxy_view *now)
{
	return now->side[PROXY_BACKEND].counters.received < p->requests ||
		now->side[PROXY_FRONTEND].counters.received < p->replies;
}

/* NULL without memory. */
static struct history_proxy *
proxy_of(struct history *h, const char *name)
{
	struct history_proxy *p;

	for (size_t i = 0; i < h->proxy_count; i++)
		if (strcmp(h->proxies[i]->name, name) == 0)
			return h->proxies[i];
	p = mem_try_new(sizeof(*p));
	if (p == NULL)
		return NULL;
	memcpy(p->name, name, sizeof(p->name));
	p->first = UINT64_MAX;
	h->proxies[h->proxy_count++] = p;
	return p;
}

/* Frees the samples of proxies that no longer exist. */
static void
forget_removed(struct history *h, const struct snapshot *s)
{
	size_t left = 0;

	for (size_t i = 0; i < h->proxy_count; i++)
		h->proxies[i]->seen = false;
	for (size_t i = 0; i < s->proxy_count; i++)
		for (size_t j = 0; j < h->proxy_count; j++)
			if (strcmp(h->proxies[j]->name, s->proxies[i].name) == 0)
				h->proxies[j]->seen = true;
	for (size_t i = 0; i < h->proxy_count; i++) {
		if (h->proxies[i]->seen)
			h->proxies[left++] = h->proxies[i];
		else
			free(h->proxies[i]);
	}
	h->proxy_count = left;
}

static void
add_proxy(struct history *h, const struct proxy_view *now, uint64_t number)
{
	struct history_proxy *p = proxy_of(h, now->name);

	if (p == NULL)
		return;
	if (p->first == UINT64_MAX || is_another(p, now)) {
		uint32_t ignored[HISTORY_COLUMN_COUNT];

		memset(p->forward, 0, sizeof(p->forward));
		set_row(p, now, ignored);
		p->first = number + 1;
		return;
	}
	set_row(p, now, p->value[number % HISTORY_SAMPLES]);
}

void
history_add(struct history *h, const struct snapshot *s)
{
	int64_t length = h->count > 0 ? s->taken_ms - h->last_ms : 0;
	struct history_time *t = &h->times[h->count % HISTORY_SAMPLES];

	h->too_many = s->proxy_count > HISTORY_PROXIES;
	if (h->too_many) {
		history_clear(h);
		h->too_many = true;
		return;
	}
	if (h->count > 0 && length <= 0)
		return;
	forget_removed(h, s);
	for (size_t i = 0; i < s->proxy_count; i++)
		add_proxy(h, &s->proxies[i], h->count);
	*t = (struct history_time){s->taken_ms, narrowed((uint64_t)length)};
	h->last_ms = s->taken_ms;
	h->count++;
}

uint64_t
history_first(const struct history *h)
{
	return h->count > HISTORY_SAMPLES ? h->count - HISTORY_SAMPLES : 0;
}

const char *
history_column_name(enum history_column column)
{
#define HISTORY_NAME(name) #name,
	static const char *const names[] = {HISTORY_COLUMNS(HISTORY_NAME)};
#undef HISTORY_NAME

	return names[column];
}

void
history_clear(struct history *h)
{
	for (size_t i = 0; i < h->proxy_count; i++)
		free(h->proxies[i]);
	memset(h, 0, sizeof(*h));
}
