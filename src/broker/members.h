/* SPDX-License-Identifier: MIT */
/*
 * The subscribers of one topic: a set of pairs of numbers.
 *
 * Most topics have one subscriber, which needs no memory of its own. Up to
 * MEMBERS_LINEAR stand in an array; more of them are a hash table, so that each
 * of ten thousand is found, added and removed in constant time.
 */
#ifndef BULKHEAD_BROKER_MEMBERS_H
#define BULKHEAD_BROKER_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMBERS_NOBODY UINT32_MAX

enum { MEMBERS_LINEAR = 8 };

struct member {
	uint32_t subscriber; /* number of a subscriber; MEMBERS_NOBODY: an empty place */
	uint32_t at;         /* where the topic stands in the subscriber's list of topics */
};

struct members {
	uint32_t count;
	uint32_t cap; /* places in `many`; 0: `one` is the only place */
	union {
		struct member one;
		struct member *many;
	};
};

/* An empty set. */
void members_init(struct members *members);

/* Free the set. */
void members_fini(struct members *members);

/* The member with this number; NULL: there is none. */
struct member *members_find(struct members *members, uint32_t subscriber);

/* Add a number that is not in the set. False: no memory. */
bool members_add(struct members *members, uint32_t subscriber, uint32_t at);

/* Remove one that members_find returned. All other pointers into the set become invalid. */
void members_remove(struct members *members, struct member *member);

/* How many places there are: members_place returns each of them. */
static inline uint32_t
members_places(const struct members *members)
{
	return members->cap <= MEMBERS_LINEAR ? members->count : members->cap;
}

/* The place number `i`; its subscriber may be MEMBERS_NOBODY. */
static inline const struct member *
members_place(const struct members *members, uint32_t i)
{
	return members->cap == 0 ? &members->one : &members->many[i];
}

/* The memory that the set has allocated, in bytes. */
static inline size_t
members_bytes(const struct members *members)
{
	return members->cap * sizeof(struct member);
}

#endif
