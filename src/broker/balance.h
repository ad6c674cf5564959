/* SPDX-License-Identifier: MIT */
/*
 * Which of the workers that may have one gets the next request (RFC 28, DEALER).
 *
 * round_robin: each worker in turn. least_outstanding: the worker with the fewest unanswered
 * requests; ties are broken round robin. Workers without room are in neither list, and workers that
 * count for the same number of requests share a level, so that choosing a worker, and a request
 * more or less, costs the same however many workers there are.
 *
 * A worker counts for its unanswered requests and its `lift`: a worker that comes, or comes back,
 * is lifted to the least that any other worker counts for, because otherwise all one-way traffic
 * would go to it. No lift is more than any worker with room counts for, or counted for since. So a
 * worker that holds nothing is always among the least.
 */
#ifndef BULKHEAD_BROKER_BALANCE_H
#define BULKHEAD_BROKER_BALANCE_H

#include "broker/peer.h"

/* Workers that count for the same number of requests. */
struct level {
	struct list node; /* in balance->levels.node, by load, or in ->spare */
	struct list workers;
	uint64_t load;
};

struct balance {
	struct list ready;   /* round robin: struct peer */
	struct level levels; /* the head of their list: no worker can have its load */
	struct list spare;
	uint64_t max_outstanding; /* requests that one worker may hold; UINT64_MAX: any number */
	uint64_t lift;            /* no worker's lift is more */
	uint64_t floor; /* while no worker has room: the load of the last worker that had */
	bool least;     /* least_outstanding */
};

/* Initialise without workers, for round robin and without a limit. */
void balance_init(struct balance *balance);

/* Free the spare levels; all workers must have been removed. */
void balance_fini(struct balance *balance);

/*
 * Call these before a worker is added for the first time, and after it was removed for the last:
 * there are as many levels as there can be different loads. False: no memory.
 */
bool balance_join(struct balance *balance, struct peer *worker);
void balance_quit(struct balance *balance);

/*
 * Add a worker that has room; its turn comes after all others. No effect if it was added already,
 * drains, is suspect and not on trial, or has requests that are being taken back.
 */
void balance_add(struct balance *balance, struct peer *worker);

/* Remove a worker that is closed, stalled or suspect. No effect if it was not added. */
void balance_remove(struct balance *balance, struct peer *worker);

/* The worker had its turn, with a message that does not count. */
void balance_skip(struct peer *worker);

/* Move to the next level up or down: parts of balance_given and balance_settled. */
void balance_rise(struct balance *balance, struct peer *worker);
void balance_fall(struct balance *balance, struct peer *worker);

static inline struct level *
level_of(const struct list *node)
{
	return list_entry(node, struct level, node);
}

static inline bool
level_is_for_one(const struct level *level)
{
	return level->workers.next == level->workers.prev;
}

/* The worker holds one request more. */
static inline void
balance_given(struct balance *balance, struct peer *worker)
{
	struct level *level = worker->level;

	worker->outstanding++;
	if (level == NULL)
		return;
	if (level_is_for_one(level) && level_of(level->node.next)->load != level->load + 1)
		level->load++;
	else
		balance_rise(balance, worker);
}

/* The worker holds one request less. */
static inline void
balance_settled(struct balance *balance, struct peer *worker)
{
	struct level *level = worker->level;

	worker->outstanding--;
	if (level == NULL)
		return;
	if (level_is_for_one(level) && level->load > balance->lift &&
		level_of(level->node.prev)->load != level->load - 1)
		level->load--;
	else
		balance_fall(balance, worker);
}

/* balance_next for round robin, and when the first of the least has no room. */
struct peer *balance_search(struct balance *balance, size_t size);

/*
 * Make room for a message of `size` bytes: a full queue is written first. False: the worker takes
 * no more now.
 */
static inline bool
balance_make_room(const struct balance *balance, const struct peer *worker, size_t size)
{
	return worker->conn->state == CONN_READY &&
		worker->outstanding < balance->max_outstanding &&
		conn_make_room(worker->conn, size);
}

/*
 * Return the next worker that has room for a message of `size` bytes, or NULL. Workers without room
 * leave until they are added again.
 */
static inline struct peer *
balance_next(struct balance *balance, size_t size)
{
	const struct level *least = level_of(balance->levels.node.next);

	if (least != &balance->levels) {
		struct peer *worker = list_entry(least->workers.next, struct peer, ready);

		if (balance_make_room(balance, worker, size))
			return worker;
	}
	return balance_search(balance, size);
}

#endif
