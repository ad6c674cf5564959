/*
 * Every counter of one side of a proxy, in one place. Message counters belong
 * to the side that the message is meant for: a request counts at the backend.
 */
#ifndef BULKHEAD_BASE_COUNTERS_H
#define BULKHEAD_BASE_COUNTERS_H

#include <stddef.h>
#include <stdint.h>

#include "base/reasons.h"

/* Plain counters: field and log key are one row. `queued` and `queued_bytes` are gauges. */
#define COUNTERS(X)                                                                                \
	X(received)           /* messages accepted for this side: last byte was read */            \
	X(sent)               /* last byte was handed to the kernel */                             \
	X(queued)             /* accepted, and neither sent nor dropped; gauge */                  \
	X(queued_bytes)       /* their wire bytes; gauge */                                        \
	X(rerouted)           /* moved from a closed or stalled peer to another */                 \
	X(peers)              /* ready peers; gauge */                                             \
	X(accepted)           /* connections accepted */                                           \
	X(closed)             /* connections closed, all reasons */                                \
	X(connect_attempts)                                                                        \
	X(reconnects)         /* completed handshakes of a dialled endpoint after its first */     \
	X(handshakes_failed)                                                                       \
	X(send_timeouts)                                                                           \
	X(poisoned)           /* connections closed with a half-written message */                 \
	X(bytes_received)                                                                          \
	X(bytes_sent)                                                                              \
	X(outstanding)        /* requests sent to workers and not answered; gauge */               \
	X(redelivered)        /* requests taken back from a worker that had them, to be sent again */ \
	X(kept_bytes)         /* memory for requests in flight; gauge */                           \
	X(suspects)           /* workers that let answer_timeout pass; gauge */

struct counters {
#define COUNTER_FIELD(name) uint64_t name;
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
