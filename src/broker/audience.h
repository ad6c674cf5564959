/* SPDX-License-Identifier: MIT */
/*
 * Who gets a message: the subscribers that have a topic which is a prefix of its first frame.
 *
 * An audience is a set of subscribers, each once. Messages of the same
 * subscribers have the same audience, the same pointer, whatever their topics are,
 * so that a mode can give many messages to an audience in one step.
 *
 * A cache stands before the tree of topics: a frame is looked up by as many of its first
 * bytes as can matter. It is for one state of the subscriptions; the first search
 * after a change begins with an empty one.
 */
#ifndef BULKHEAD_BROKER_AUDIENCE_H
#define BULKHEAD_BROKER_AUDIENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "broker/subscriptions.h"

enum {
	AUDIENCE_KEY = 46,         /* bytes of a frame that the cache compares */
	AUDIENCE_BUCKETS = 1024,   /* of the table in which equal audiences are found */
	AUDIENCE_ENTRIES_MIN = 64, /* of the cache; a power of two */
	AUDIENCE_ENTRIES_MAX = 65536
};

/* Valid until the next search, or as long as somebody holds it (audience_hold). */
struct audience {
	struct audience *next; /* in its bucket */
	uint32_t refs;
	uint32_t count;
	uint64_t hash;
	struct subscriber *members[];
};

/* One cache line. */
struct audience_entry {
	_Alignas(64) struct audience *audience; /* NULL: nobody */
	uint64_t epoch;                         /* another one: the entry is empty */
	uint8_t len;
	bool longer; /* the frame has more bytes than `key`, and they did not matter */
	uint8_t key[AUDIENCE_KEY];
};

struct audiences {
	struct subscriptions *subscriptions;
	uint64_t generation; /* of the subscriptions, for which all this holds */
	uint64_t epoch;
	struct audience_entry *entries;
	uint32_t entry_count;
	uint32_t stored; /* entries written in this epoch, or since there are more of them */
	struct audience *buckets[AUDIENCE_BUCKETS];
	uint64_t bytes, bytes_max; /* of the audiences; more of them empty the cache */
	struct subscriber **found; /* for one search */
	uint32_t found_cap;
};

/* What a search says. */
enum audience_result { AUDIENCE_NOBODY, AUDIENCE_FOUND, AUDIENCE_NO_MEMORY };

/* `bytes_max`: what the audiences may take before the cache begins again. */
void audiences_init(
	struct audiences *audiences, struct subscriptions *subscriptions, uint64_t bytes_max);
void audiences_fini(struct audiences *audiences);

/* What the cache and the audiences in it have allocated, in bytes. */
uint64_t audiences_bytes(const struct audiences *audiences);

/* Those that get a message whose first frame is frame[len]: *out, NULL if nobody does. */
enum audience_result audiences_find(
	struct audiences *audiences, const uint8_t *frame, size_t len, struct audience **out);

/* Keep an audience beyond the next search. Its subscribers must not be freed meanwhile. */
void audience_hold(struct audience *audience);
void audience_release(struct audience *audience);

#endif
