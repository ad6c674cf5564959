/* SPDX-License-Identifier: MIT */
/*
 * At the memory limit: which peers hold memory and do not move? A peer that sent or took less than
 * a 128th of what it holds in the last second stands still: it would need minutes. So does a silent
 * peer. If we do not read from a peer, it is not to blame while what it sent lies in our kernel;
 * its second begins as soon as it is read.
 */
#ifndef BULKHEAD_BROKER_BLAME_H
#define BULKHEAD_BROKER_BLAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct broker;
struct conn;
struct side;

enum { BLAME_MS = 1000 }; /* a peer that did not move for so long stands still */

/* What reading one side brought in, in bytes of memory. */
struct memory_held {
	uint64_t bytes;     /* all, except the largest part message: one message always fits */
	uint64_t largest;   /* the largest part message */
	uint64_t parts;     /* part messages, including the largest */
	uint64_t large;     /* part messages that are held back; see memory.c */
	struct conn *taker; /* a worker that takes at once what it is given; NULL: none */
	bool over_share;    /* more than what is always left to a side */
};

/* When a connection moved last, by a 128th of what it holds, and how far it had come. */
struct blame_mark {
	size_t side;
	uint64_t id, bytes_in, bytes_out;
	int64_t in_since, out_since;
};

/* Marks of connections that hold anything, in the order of proxies, sides and connections. */
struct blame {
	struct blame_mark *marks, *spare;
	size_t count, room;
};

/* Cost of the peer's queue and overflow, without messages that wait elsewhere until it has room. */
uint64_t blame_queue_cost(const struct conn *conn);

/* Does the peer not go on with its message, whether we read from it or not? */
bool blame_sends_nothing(const struct conn *conn);

/* Record how far every peer has come. To be called repeatedly while memory is short. */
void blame_measure(struct blame *blame, const struct broker *broker);

/*
 * The connection that holds most memory needlessly, and how much that is (*most): its queue, the
 * front of a message that does not go on, and a worker's expired requests. `held` has an element
 * for each side. Closing a connection that holds no more than `least` would win nothing. NULL: no
 * peer is to blame.
 */
struct conn *blame_worst(const struct blame *blame, const struct broker *broker,
	const struct memory_held *held, uint64_t least, uint64_t *most);

/* Forget what was seen: memory is not short any more, or the sides have changed. */
void blame_forget(struct blame *blame);

#endif
