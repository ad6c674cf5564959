/*
 * Which worker has the next request, of those that may have one (RFC 28, DEALER).
 *
 * round_robin: one after the other. least_outstanding: the one with the fewest unanswered
 * requests, and of those alike one after the other. Workers without room are in neither list,
 * and workers with as many requests share a level, so that choosing one costs the same however
 * many there are.
 */
#ifndef BULKHEAD_BROKER_BALANCE_H
#define BULKHEAD_BROKER_BALANCE_H

#include "broker/peer.h"

/* Workers with the same number of requests. */
struct level {
	struct list node; /* in balance->levels, by count, or in ->spare */
	struct list workers;
	uint64_t count;
};

struct balance {
	struct list ready; /* round robin: struct peer */
	bool least;        /* least_outstanding */
	uint64_t max_outstanding; /* that one worker may hold; UINT64_MAX: any number */
	struct list levels, spare;
};

void balance_init(struct balance *balance);

/* Frees the spare levels. */
void balance_fini(struct balance *balance);

/*
 * Before a worker is added for the first time, and after it was removed for the last: as many
 * levels as there can be different counts. Only needed for least_outstanding. False: no memory.
 */
bool balance_join(struct balance *balance);
void balance_quit(struct balance *balance);

/*
 * The worker has room: it takes its turn after all others. Harmless when it is in already, and for
 * one that retires.
 */
void balance_add(struct balance *balance, struct peer *worker);

/* It is closed or stalled. Harmless when it is not in. */
void balance_remove(struct balance *balance, struct peer *worker);

/* Put a worker that is in to the level of its count. */
void balance_move(struct balance *balance, struct peer *worker);

/* worker->outstanding changed. */
static inline void
balance_changed(struct balance *balance, struct peer *worker)
{
	if (balance->least && list_linked(&worker->ready))
		balance_move(balance, worker);
}

/*
 * The next worker that has room for a message of `size` bytes, or NULL. Those
 * that have none leave until they are added again.
 */
struct peer *balance_next(struct balance *balance, size_t size);

/* The same by whatever is set above; balance_next is for round robin without a limit. */
struct peer *balance_next_tracked(struct balance *balance, size_t size);

#endif
