/*
 * Round robin over the workers that are ready and have room (RFC 28, DEALER).
 * Those without room are not in the ring, so that choosing one costs the same
 * however many wait.
 */
#ifndef BULKHEAD_BROKER_BALANCE_H
#define BULKHEAD_BROKER_BALANCE_H

#include "broker/peer.h"

struct balance {
	struct list ready; /* struct peer */
};

void balance_init(struct balance *balance);

/*
 * The worker has room: it takes its turn after all others. Harmless when it is in already, or
 * leaving.
 */
void balance_add(struct balance *balance, struct peer *worker);

/* It is closed or stalled. Harmless when it is not in. */
void balance_remove(struct balance *balance, struct peer *worker);

/*
 * The next worker that has room for a message of `size` bytes, or NULL. Those
 * that have none leave the ring until they are added again.
 */
struct peer *balance_next(struct balance *balance, size_t size);

#endif
