/* SPDX-License-Identifier: MIT */
/*
 * The struct of a broker, for the files of broker/ only.
 */
#ifndef BULKHEAD_BROKER_BROKER_IMPL_H
#define BULKHEAD_BROKER_BROKER_IMPL_H

#include "broker/broker.h"
#include "broker/memory.h"

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

#endif
