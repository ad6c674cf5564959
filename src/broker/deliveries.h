/* SPDX-License-Identifier: MIT */
/*
 * Requests in flight: which worker holds which request, so that a reply finds the request that it
 * answers, and, if asked for, the requests themselves, so that another worker can have them. These
 * are only the records: redeliver.c decides which worker gets which request.
 *
 *   struct request    one request, from its first delivery until no reply to it is possible
 *   struct delivery   its delivery to one worker; the first delivery is part of the request
 *   struct ledger     all deliveries to one worker
 *
 * A delivery is `pending` while the broker waits for its worker, `expired` afterwards: late replies
 * must be recognised, even if many requests have the same envelope.
 *
 * A reply answers the oldest delivery to its worker with the same envelope: the routing id
 * and all frames up to and including the delimiter, an empty frame with MORE; each of at most 255
 * bytes, and 512 together. The envelope of a request without a delimiter is its routing id; a reply
 * to that client that answers no other request answers this one.
 *
 * Every operation takes constant time; a table that grows moves a few places with each delivery.
 * Its hash is keyed, because peers choose the contents of an envelope.
 */
#ifndef BULKHEAD_BROKER_DELIVERIES_H
#define BULKHEAD_BROKER_DELIVERIES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/counters.h"
#include "base/hash.h"
#include "base/histogram.h"
#include "base/list.h"
#include "broker/request.h"
#include "net/loop.h"

struct peer;

/* All deliveries to one worker. */
struct ledger {
	struct peer *worker;
	struct list pending, expired;
	uint32_t expired_count;
	bool parallel;      /* the worker answered a request that was not its oldest */
	uint64_t unkept_to; /* requests with numbers from this one on are kept */
	/* requests sent before tracking was enabled: counted, but not recorded */
	uint64_t counted;
	struct timer timer; /* answer_timeout of the oldest pending delivery */
	struct timer trial; /* while the worker is suspect: when it may have one more request */
	int64_t pause;      /* pause before the last trial, ms; 0: no trial yet */

	/* for requeue.c, while deliveries are taken back, or forgotten, in slices */
	struct list node; /* in deliveries->returning */
	/* in `pending`: the delivery to look at next; if that is removed, the one after it */
	struct list *next;
	bool late;       /* answer_timeout passed */
	bool rerouting;  /* the worker's queue goes to other workers */
	bool forgetting; /* no replies are expected any longer */
	bool closed;
	bool first_blamed;  /* of the requests taken back for one reason, the first was blamed */
	uint64_t had;       /* late: messages with lower numbers were sent by then */
	bool first;         /* rerouting: the first message of the queue is still there */
	uint64_t gone;      /* messages ever taken from the front of the queue without being sent */
	uint64_t cut_from;  /* late: messages from this number on were cut out of the queue ... */
	uint64_t cut;       /* ... this many, which count as queued until they are in `requeued` */
	uint64_t forget_to; /* forgetting: deliveries with lower numbers */
};

struct deliveries {
	struct outq_env *env;
	struct counters *counters; /* where kept_bytes is counted */
	struct delivery **table;   /* `size` chains, a power of two; NULL: none yet */
	size_t size, count;        /* count: deliveries in `table` and in `old` */
	struct delivery **old; /* while the table grows: the one of half its size; else NULL ... */
	size_t old_at;         /* ... empty before this place */
	struct request *spare; /* free requests, for reuse */
	uint32_t spare_count;
	struct list requeued; /* requests that wait for another worker */
	uint64_t requeued_count;
	uint64_t never_sent; /* requests in `requeued`, or cut, that no worker ever had all of */
	/* in `requeued`: the next one for redeliver_discard_gone; NULL: no sweep is under way */
	struct list *sweep;
	struct list returning; /* ledgers with work to do in slices: see requeue.c */
	/* ledgers whose requests are being moved to `requeued`: newer requests wait */
	uint32_t returns;
	struct histogram answers; /* times from the choice of a worker to its reply */
	struct hash_key hash_key;
};

/* Initialise without deliveries. `counters`: the backend's. */
void
deliveries_init(struct deliveries *deliveries, struct outq_env *env, struct counters *counters);

/* Free the table and the requests in `requeued`. All ledgers must have been freed. */
void deliveries_fini(struct deliveries *deliveries);

/*
 * Record and return the delivery of a request to the ledger's worker, at time `now_ms`, as
 * message `number`. NULL: no memory.
 */
struct delivery *deliveries_assign(struct deliveries *deliveries, struct ledger *ledger,
	struct request *request, uint64_t number, int64_t now_ms);

/* Stop waiting for the worker's reply; a late reply is still matched. */
void deliveries_expire(struct deliveries *deliveries, struct delivery *delivery);

/* Remove the delivery; a request is freed with its last delivery (request_release). */
void deliveries_remove(struct deliveries *deliveries, struct delivery *delivery);

/* Return the delivery that a message from the ledger's worker answers, or NULL. */
struct delivery *deliveries_match(
	struct deliveries *deliveries, struct ledger *ledger, const struct message *message);

/* Count a reply that took `ms`. */
void deliveries_replied(struct deliveries *deliveries, int64_t ms);

/*
 * Return a ledger without deliveries. `on_due` runs when its `timer` expires, `on_trial` when
 * its `trial` does. NULL: no memory.
 */
struct ledger *ledger_new(struct peer *worker, struct loop *loop, void (*on_due)(struct timer *),
	void (*on_trial)(struct timer *));

/* Free a ledger, or NULL; all its deliveries must have been removed. */
void ledger_free(struct ledger *ledger);

/* Return the oldest pending delivery, or NULL. */
static inline struct delivery *
ledger_oldest(const struct ledger *ledger)
{
	return list_empty(&ledger->pending)
		? NULL
		: list_entry(ledger->pending.next, struct delivery, node);
}

/*
 * Assert that the table matches the ledger's lists: each delivery is found, duplicates are in
 * order. `held`: the number of pending deliveries of this ledger.
 */
void
deliveries_check(const struct deliveries *deliveries, const struct ledger *ledger, uint64_t held);

#endif
