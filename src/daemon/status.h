/* SPDX-License-Identifier: MIT */
/*
 * The state of the daemon in one line, for systemctl status: "12 frontend peers, 4 backend peers,
 * 8.1k msg/s".
 */
#ifndef BULKHEAD_DAEMON_STATUS_H
#define BULKHEAD_DAEMON_STATUS_H

#include <stddef.h>

#include "broker/broker.h"

struct status {
	const struct broker *broker;
	uint64_t sent;    /* messages, when the line was last written ... */
	int64_t taken_ms; /* ... and when that was */
};

void status_init(struct status *status, const struct broker *broker);

/* Write the line into out[size]; its rate is the average since the last time. */
void status_text(struct status *status, char *out, size_t size);

#endif
