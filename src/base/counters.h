/* SPDX-License-Identifier: MIT */
/*
 * Every counter of one side of a proxy, in one place. Message counters belong
 * to the side that the message is meant for: a request counts at the backend.
 */
#ifndef BULKHEAD_BASE_COUNTERS_H
#define BULKHEAD_BASE_COUNTERS_H

#include <stddef.h>
#include <stdint.h>

#include "base/reasons.h"

/*
 * Plain counters: one row is the field and log key, its kind (COUNTER or GAUGE), the metric's name
 * after "bulkhead_" (NULL: a metric with more labels has it), and its help text.
 */
#define COUNTERS(X) \
	X(received, COUNTER, "messages_received_total", \
		"Messages accepted for this side: the last byte was read") \
	X(sent, COUNTER, "messages_sent_total", \
		"Messages whose last byte was handed to the kernel") \
	X(queued, GAUGE, "queue_messages", "Messages accepted, and neither sent nor dropped") \
	X(queued_bytes, GAUGE, "queue_bytes", "Bytes of the messages in queues, as on the wire") \
	X(rerouted, COUNTER, "messages_rerouted_total", \
		"Messages moved from a closed or stalled peer to another") \
	X(peers, GAUGE, NULL, "Ready peers") \
	X(accepted, COUNTER, "connections_accepted_total", "Connections accepted") \
	X(closed, COUNTER, NULL, "Connections closed, all reasons") \
	X(connect_attempts, COUNTER, "connect_attempts_total", "Attempts to dial an endpoint") \
	X(reconnects, COUNTER, "reconnects_total", \
		"Completed handshakes of a dialled endpoint after its first") \
	X(handshakes_failed, COUNTER, "handshakes_failed_total", \
		"Connections that ended before they were ready") \
	X(unused, COUNTER, "connections_unused_total", \
		"Connections that their peer closed before it sent a byte") \
	X(send_timeouts, COUNTER, "send_timeouts_total", \
		"Times that a peer took no message for send_timeout") \
	X(poisoned, COUNTER, "poisoned_total", "Connections closed with a half-written message") \
	X(bytes_received, COUNTER, "bytes_received_total", "Bytes read from this side's peers") \
	X(bytes_sent, COUNTER, "bytes_sent_total", \
		"Bytes handed to the kernel for this side's peers") \
	X(outstanding, GAUGE, "outstanding", "Requests sent to workers and not answered") \
	X(redelivered, COUNTER, "messages_redelivered_total", \
		"Requests requeued from a worker that had them: sent again, or dropped") \
	X(kept_bytes, GAUGE, "kept_bytes", "Memory for requests in flight") \
	X(suspects, GAUGE, "suspects", "Workers that let answer_timeout pass") \
	X(silent, GAUGE, "silent", \
		"Workers that hold requests and have sent nothing for silent_after")

struct counters {
#define COUNTER_FIELD(name, kind, metric, help) uint64_t name;
	COUNTERS(COUNTER_FIELD)
#undef COUNTER_FIELD
	uint64_t dropped[DROP_REASON_COUNT];
	uint64_t closed_by[CLOSE_REASON_COUNT];
};

/* Sum over all drop reasons. */
uint64_t counters_dropped(const struct counters *c);

/*
 * Write all counters as `key=value` pairs into out; zero per-reason counters
 * are left out. Returns `out`, always NUL terminated.
 */
const char *counters_text(const struct counters *c, char *out, size_t size);

#endif
