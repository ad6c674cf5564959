/* SPDX-License-Identifier: MIT */
/*
 * The topics that somebody subscribed to: a prefix tree whose nodes have numbers.
 *
 *   ""          root
 *   +- "weather."     a node without subscribers has branches, at least two
 *      +- "berlin"    "weather.berlin"
 *      +- "rome"
 *
 * (Only where memory ran out a node with one branch may be left in its place.)
 *
 * A node's label holds all bytes from its parent to itself, so that the tree is as deep
 * as topics branch, not as they are long. Nothing is recursive: a topic of a
 * megabyte is one node.
 *
 * A topic keeps its number as long as it has subscribers, so that a walk over all topics,
 * by number, can go on where it stopped, whatever came and went meanwhile. Free
 * numbers are used again, low ones first, and memory of which nothing is in use is freed.
 */
#ifndef BULKHEAD_BROKER_TOPICS_H
#define BULKHEAD_BROKER_TOPICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "broker/members.h"

#define TOPICS_NONE UINT32_MAX

enum {
	TOPICS_ROOT = 0, /* the node of the empty topic; it is always there */
	TOPICS_SEGMENT_BITS = 10,
	TOPICS_LABEL_HERE = 24
};

/* More than one branch: room for `cap` numbers of nodes, and then for the first byte of each. */
struct topic_branches {
	uint32_t cap;
	uint32_t nodes[];
};

/* One cache line: a step of a walk costs one miss, and one more where the tree branches. */
struct topic {
	_Alignas(64) uint32_t parent;
	uint32_t label_len;
	union {
		uint8_t here[TOPICS_LABEL_HERE];
		uint8_t *elsewhere; /* of a longer label */
	} label;
	struct members members;
	uint32_t branch_count;
	uint32_t only; /* the branch, when there is one; the next free node of a free one */
	struct topic_branches *branches;
};

struct topics_segment;

struct topics {
	struct topics_segment **segments;
	uint32_t count;      /* of segments, some of which are NULL */
	uint32_t first_free; /* no segment before this one has a free node */
	uint64_t bytes;      /* allocated, sets of members included */
};

/* An empty tree. False: no memory. */
bool topics_init(struct topics *topics);

/* Free the tree with its sets of members. */
void topics_fini(struct topics *topics);

struct topics_segment {
	uint32_t used, free; /* how many nodes are in use; the first free one, or TOPICS_NONE */
	_Alignas(64) struct topic nodes[1 << TOPICS_SEGMENT_BITS];
};

static inline struct topic *
topics_at(const struct topics *topics, uint32_t number)
{
	enum { MASK = (1 << TOPICS_SEGMENT_BITS) - 1 };

	return &topics->segments[number >> TOPICS_SEGMENT_BITS]->nodes[number & MASK];
}

static inline const uint8_t *
topic_label(const struct topic *topic)
{
	return topic->label_len <= TOPICS_LABEL_HERE ? topic->label.here : topic->label.elsewhere;
}

/* The branch of a node whose label begins with `byte`; TOPICS_NONE: there is none. */
static inline uint32_t
topics_branch(const struct topics *topics, const struct topic *topic, uint8_t byte)
{
	const uint8_t *bytes, *found;

	if (topic->branch_count == 0)
		return TOPICS_NONE;
	if (topic->branch_count == 1)
		return topic_label(topics_at(topics, topic->only))[0] == byte ? topic->only
									      : TOPICS_NONE;
	bytes = (const uint8_t *)(topic->branches->nodes + topic->branches->cap);
	found = memchr(bytes, byte, topic->branch_count);
	return found != NULL ? topic->branches->nodes[found - bytes] : TOPICS_NONE;
}

/*
 * One step of a walk down the tree along frame[len], from `node`, whose topic are the first *at
 * bytes of it. Returns the next node and adds to *at; TOPICS_NONE: there is none, and *at is
 * unchanged.
 */
static inline uint32_t
topics_step(
	const struct topics *topics, uint32_t node, const uint8_t *frame, size_t len, size_t *at)
{
	const struct topic *next;
	uint32_t number;

	if (*at >= len)
		return TOPICS_NONE;
	number = topics_branch(topics, topics_at(topics, node), frame[*at]);
	if (number == TOPICS_NONE)
		return TOPICS_NONE;
	next = topics_at(topics, number);
	if (next->label_len > len - *at ||
		memcmp(topic_label(next), frame + *at, next->label_len) != 0)
		return TOPICS_NONE;
	*at += next->label_len;
	return number;
}

/* The node of exactly this topic; TOPICS_NONE: there is none. It may have no members. */
uint32_t topics_find(const struct topics *topics, const uint8_t *topic, size_t len);

/*
 * The node of this topic, made if there is none; give it a member, or call topics_trim.
 * TOPICS_NONE: no memory, or 2^32 - 2^10 nodes.
 */
uint32_t topics_add(struct topics *topics, const uint8_t *topic, size_t len);

/* Add a member to a node's set, or remove one from it, and keep the account of bytes. */
bool topics_add_member(struct topics *topics, uint32_t node, uint32_t subscriber, uint32_t at);
void topics_remove_member(struct topics *topics, uint32_t node, struct member *member);

/* Take a node that has no members any more out of the tree, as far as nothing branches there. */
void topics_trim(struct topics *topics, uint32_t node);

/* How long the topic of a node is. */
size_t topics_len(const struct topics *topics, uint32_t node);

/* Write the topic of a node, of topics_len() bytes, to `out`. */
void topics_name(const struct topics *topics, uint32_t node, uint8_t *out, size_t len);

/*
 * The first node from `number` on that has members; TOPICS_NONE: there is no further one. Takes a
 * step for each number in between.
 */
uint32_t topics_next(const struct topics *topics, uint32_t number);

/* Assert the invariants of the tree; for tests, fuzzers and simulation. */
void topics_check(const struct topics *topics);

#endif
