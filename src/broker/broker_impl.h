/* SPDX-License-Identifier: MIT */
/*
 * The struct of a broker, for the files of broker/ only.
 */
#ifndef BULKHEAD_BROKER_BROKER_IMPL_H
#define BULKHEAD_BROKER_BROKER_IMPL_H

#include "broker/broker.h"
#include "broker/memory.h"
#include "broker/proxy.h"

struct broker {
	struct loop *loop;
	struct proxy **proxies; /* `count` proxies, owned */
	size_t count, cap;
	struct memory memory;
	struct broker_report {
		size_t next;       /* proxy */
		unsigned slices;   /* begun */
		const char *wrong; /* with a proxy logged before; NULL: nothing */
	} report;                  /* of broker_log_some; all zero between two reports */
};

/*
 * The sides of all proxies have numbers, one after the other, for what is kept of each. These
 * functions alone know how.
 */
static inline size_t
broker_side_count(const struct broker *broker)
{
	return broker->count * PROXY_SIDES;
}

/* The proxy of the side with this number, which of its sides that is, and the side. */
static inline struct proxy *
broker_proxy_at(const struct broker *broker, size_t number)
{
	return broker->proxies[number / PROXY_SIDES];
}

static inline enum proxy_side
broker_which_at(size_t number)
{
	return number % PROXY_SIDES == PROXY_BACKEND ? PROXY_BACKEND : PROXY_FRONTEND;
}

static inline struct side *
broker_side_at(const struct broker *broker, size_t number)
{
	return &broker_proxy_at(broker, number)->side[broker_which_at(number)];
}

/* The number of the other side of the same proxy. */
static inline size_t
broker_other_side(size_t number)
{
	return broker_which_at(number) == PROXY_BACKEND ? number - 1 : number + 1;
}

#endif
