/* SPDX-License-Identifier: MIT */
/*
 * Who subscribed to what: the set of topics of each subscriber, and their union.
 *
 * A subscriber has a topic once or not at all: subscribing again changes
 * nothing, and one CANCEL ends it. (RFC 29 counts; libzmq, JeroMQ and jszmq do not,
 * and send one CANCEL for two SUBSCRIBE.)
 *
 * topics.h keeps the tree of topics, members.h who subscribed to one of them.
 * audience.h finds those that get a message.
 */
#ifndef BULKHEAD_BROKER_SUBSCRIPTIONS_H
#define BULKHEAD_BROKER_SUBSCRIPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/topics.h"

/* One subscriber; part of its peer, and at one address from enter to the end of leave. */
struct subscriber {
	uint32_t number;
	uint32_t count, cap;  /* its topics, and the room for them */
	uint32_t *topics;     /* their numbers in the tree, in no order */
	uint64_t topic_bytes; /* of all its topics together */
	uint64_t stamp;       /* the last of `searches` that found it: see audience.c */
	bool leaving;         /* gets nothing any more */
};

struct subscriptions {
	struct topics topics;
	struct subscriber **subscribers; /* by number; NULL: free */
	uint32_t cap;
	uint32_t first_free;  /* no number before this one is free */
	uint32_t present;     /* subscribers that are not leaving */
	uint64_t count;       /* of subscriptions */
	uint64_t topic_count; /* of topics: the union */
	uint64_t generation;  /* counts each change of who gets what */
	uint64_t searches;    /* of audiences: counted here, since subscribers are marked with it */
	size_t longest;       /* no topic is longer; it shrinks only when the last topic goes */
	uint64_t lists;       /* bytes of the subscribers' lists */
};

/* What a call changed. */
enum subscriptions_result {
	SUBSCRIPTIONS_UNCHANGED, /* it was subscribed already, or was not */
	SUBSCRIPTIONS_CHANGED,   /* but others have the topic, too */
	SUBSCRIPTIONS_UNION,     /* nobody had the topic before, or nobody has it any more */
	SUBSCRIPTIONS_NO_MEMORY  /* nothing changed */
};

/* No subscribers, no topics. False: no memory. */
bool subscriptions_init(struct subscriptions *s);

/* Free everything. All subscribers have left. */
void subscriptions_fini(struct subscriptions *s);

/* A new subscriber, without topics. False: no memory. */
bool subscriptions_enter(struct subscriptions *s, struct subscriber *subscriber);

/* Add a topic. *number: its number in s->topics; set if it was added. */
enum subscriptions_result subscriptions_add(struct subscriptions *s, struct subscriber *subscriber,
	const uint8_t *topic, size_t len, uint32_t *number);

/* Remove a topic. *number: the number that it had; set if it was removed. */
enum subscriptions_result subscriptions_cancel(struct subscriptions *s,
	struct subscriber *subscriber, const uint8_t *topic, size_t len, uint32_t *number);

/* The subscriber gets nothing from now on. subscriptions_leave takes its topics away. */
void subscriptions_begin_leave(struct subscriptions *s, struct subscriber *subscriber);

/*
 * Take away one topic of a subscriber that leaves. Returns SUBSCRIPTIONS_UNCHANGED when it has no
 * topic any more, and its number is free. Otherwise *number is the number that the topic had, and
 * the topic is written to name[*len]; *len is the room there before, which holds s->longest bytes.
 * After SUBSCRIPTIONS_UNCHANGED it must not be called again.
 */
enum subscriptions_result subscriptions_leave(struct subscriptions *s,
	struct subscriber *subscriber, uint32_t *number, uint8_t *name, size_t *len);

/* All that the subscriptions have allocated, in bytes. */
uint64_t subscriptions_bytes(const struct subscriptions *s);

/* Assert the invariants; for tests, fuzzers and simulation. */
void subscriptions_check(const struct subscriptions *s);

#endif
