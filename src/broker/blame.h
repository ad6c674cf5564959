/* SPDX-License-Identifier: MIT */
/*
 * At the memory limit: who holds memory and does not move? Whoever brought on or took less than a
 * 128th of what it holds in the last second stands still: it would need minutes. That holds for one
 * that is silent, too. A peer that we do not read is not to blame while what it sent lies in our
 * kernel; as soon as it is read its second begins.
 */
#ifndef BULKHEAD_BROKER_BLAME_H
#define BULKHEAD_BROKER_BLAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct broker;
struct conn;
struct side;

enum { BLAME_MS = 1000 }; /* who did not move for so long stands still */

/* What reading one side brought in, in bytes of memory. */
struct memory_held {
	uint64_t bytes;   /* all of it but for the largest part message: one message always fits */
	uint64_t largest; /* that one */
	uint64_t parts;   /* part messages, with the largest */
	uint64_t large;   /* of them those that are held back; see memory.c */
	struct conn *taker; /* a worker that takes at once what it is given; NULL: none */
	bool over_share;    /* more than what is always left to a side */
};

/* When a connection moved last, by a 128th of what it holds, and how far it had come. */
struct blame_mark {
	size_t side;
	uint64_t id, bytes_in, bytes_out;
	int64_t in_since, out_since;
};

/* Of the connections that hold anything; in the order of proxies, sides and connections. */
struct blame {
	struct blame_mark *marks, *spare;
	size_t count, room;
};

/* Side `i` of all sides of all proxies. */
struct side *blame_side(const struct broker *broker, size_t i);

/* What waits for the peer, not counting what waits elsewhere until it has room. */
uint64_t blame_queue_cost(const struct conn *conn);

/* Is it the peer that does not go on with its message, whether we read it or not? */
bool blame_sends_nothing(const struct conn *conn);

/* See how far everybody has come. To be called again and again while memory is short. */
void blame_look(struct blame *blame, const struct broker *broker);

/*
 * The connection that holds most in vain, and how much that is: its queue, the front of a message
 * that does not go on, and what a worker let lapse. `held` is for each side. Closing one that holds
 * no more than `least` would win nothing. NULL: nobody is to blame.
 */
struct conn *blame_worst(const struct blame *blame, const struct broker *broker,
	const struct memory_held *held, uint64_t least, uint64_t *most);

/* Forget what was seen: memory is not short any more, or the sides have changed. */
void blame_forget(struct blame *blame);

#endif
