/* SPDX-License-Identifier: MIT */
/*
 * The settings of one side of a proxy, as plain data: daemon/config fills them.
 */
#ifndef BULKHEAD_BROKER_OPTS_H
#define BULKHEAD_BROKER_OPTS_H

#include "broker/queue.h"
#include "net/opts.h"

struct proxy_opts {
	struct side_opts side;   /* what every mode has, and net/ reads */
	struct queue_opts queue; /* what mode queue reads */
};

#endif
