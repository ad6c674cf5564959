/* SPDX-License-Identifier: MIT */
/*
 * The last 15 minutes of each proxy, for the charts of the status page: a sample every two seconds,
 * kept by the admin process, and lost when that ends. It takes HISTORY_PROXY_BYTES for each proxy,
 * 1.2 MB for the HISTORY_PROXIES proxies that it can hold. If there are more proxies, nothing is
 * kept, and the message process is not asked for samples.
 */
#ifndef BULKHEAD_ADMIN_HISTORY_H
#define BULKHEAD_ADMIN_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "admin/snapshot.h"

enum {
	HISTORY_MS = 2000,     /* between two samples */
	HISTORY_SAMPLES = 450, /* 15 minutes */
	HISTORY_PROXIES = 64
};

/*
 * The columns of a sample, by their names in C and JSON: messages since the sample before, then
 * present values, then quantiles of the times that messages spent in the broker since the sample
 * before, in microseconds; 0: there was no message.
 */
#define HISTORY_COLUMNS(X) \
	X(requests) \
	X(replies) \
	X(dropped_requests) \
	X(dropped_replies) \
	X(queued_requests) \
	X(queued_replies) \
	X(unanswered) \
	X(p50_us) \
	X(p90_us) \
	X(p99_us)

#define HISTORY_ENUM(name) HISTORY_##name,
enum history_column { HISTORY_COLUMNS(HISTORY_ENUM) HISTORY_COLUMN_COUNT };
#undef HISTORY_ENUM

/* When a sample was taken, on the clock of base/clock.h, and how long after the one before. */
struct history_time {
	int64_t taken_ms;
	uint32_t length_ms; /* 0 for the very first */
};

/* The samples of one proxy. */
struct history_proxy {
	char name[64];
	uint64_t first; /* its first sample */
	bool seen;      /* in the present snapshot */
	uint64_t requests, replies,
		dropped[PROXY_SIDES];        /* the counters when it was seen last ... */
	uint64_t forward[HISTOGRAM_BUCKETS]; /* ... and both sides' times */
	uint32_t value[HISTORY_SAMPLES]
		      [HISTORY_COLUMN_COUNT]; /* sample n is at n % HISTORY_SAMPLES */
};

enum { HISTORY_PROXY_BYTES = sizeof(struct history_proxy) };

/* All zero: nothing is kept yet. */
struct history {
	uint64_t count;  /* samples ever taken */
	int64_t last_ms; /* when the last snapshot in it was taken */
	bool too_many;   /* proxies in the last snapshot */
	struct history_time times[HISTORY_SAMPLES];
	struct history_proxy *proxies[HISTORY_PROXIES]; /* proxy_count of them */
	size_t proxy_count;
};

/*
 * Take a sample from a snapshot. Without memory a new proxy gets no samples until there is some.
 * The first sample of a proxy begins when it is first seen, or when another proxy has taken its
 * name.
 */
void history_add(struct history *h, const struct snapshot *s);

/* The oldest sample that is kept; h->count: there is none. */
uint64_t history_first(const struct history *h);

/* The name of a column. */
const char *history_column_name(enum history_column column);

/* Discard all samples. */
void history_clear(struct history *h);

#endif
