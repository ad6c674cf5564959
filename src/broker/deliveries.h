/* SPDX-License-Identifier: MIT */
/*
 * Requests in flight: which worker holds which, so that a reply finds the request
 * that it answers, and, on request, the requests themselves, so that another worker can have
 * them. Books only: who gets what is redeliver.c's.
 *
 *   struct request    one request, from its first delivery until no reply to it can come any more
 *   struct delivery   one worker that was given it; the first one lives in the request
 *   struct ledger     all deliveries to one worker
 *
 * A delivery is `pending` while its worker is waited for, `expired` from then on: late replies have
 * to be known for what they are, also where many requests look alike.
 *
 * A reply answers the oldest delivery to its worker with the same envelope: the routing id
 * and all frames up to and including the delimiter, an empty frame with more behind it; each of
 * at most 255 bytes, and 512 together. A request without a delimiter has its routing id for an
 * envelope, and any reply to that client answers it that answers no other.
 *
 * Everything takes constant time; a table that grows moves on by a few places with each delivery.
 * Its hash is keyed, because peers choose what is in an envelope.
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

/* What one worker was given. */
struct ledger {
	struct peer *worker;
	struct list pending, expired;
	uint32_t expired_count;
	bool parallel;      /* it answered a request that was not its oldest */
	uint64_t unkept_to; /* from this number on, the requests that it was given are kept */
	/* requests it holds that no delivery stands for: given before there were books */
	uint64_t counted;
	struct timer timer; /* answer_timeout of its oldest */
	struct timer trial; /* while it is suspect: when it may have one more request */
	int64_t pause;      /* before the last trial, ms; 0: there was none */

	/* requeue.c's, while what it holds is taken back, or forgotten, in slices */
	struct list node; /* in deliveries->returning */
	struct list
		*next;  /* in `pending`: what is looked at next; when that goes, the one after it */
	bool late;      /* answer_timeout passed for it */
	bool rerouting; /* its queue goes to others */
	bool forgetting; /* no replies are expected any more */
	bool closed;
	bool first_blamed;  /* of those taken back for one reason, the first one was */
	uint64_t had;       /* late: messages with numbers below were sent by then */
	bool first;         /* rerouting: the first message of its queue is still there */
	uint64_t gone;      /* messages that ever left the front of its queue without being sent */
	uint64_t cut_from;  /* late: from this number on, they are in no queue any more ... */
	uint64_t cut;       /* ... so many, which count as queued until they are in `requeued` */
	uint64_t forget_to; /* forgetting: those with numbers below */
};

struct deliveries {
	struct outq_env *env;
	struct counters *counters; /* kept_bytes */
	struct delivery **table;   /* size of them, a power of two; NULL: none yet */
	size_t size, count;        /* count: deliveries in it, and in `old` */
	struct delivery **old; /* while it grows: the table of half its size, or NULL; before ... */
	size_t old_at;         /* ... this place it is empty */
	struct request *spare; /* free ones, kept for the next */
	uint32_t spare_count;
	struct list requeued; /* requests that wait for another worker */
	uint64_t requeued_count;
	uint64_t never_sent; /* of these, and of those cut: no worker ever had all of it */
	/* in `requeued`: redeliver_discard_gone looks at it next; NULL: it is not at it */
	struct list *sweep;
	struct list returning; /* ledgers with something to do in slices; see requeue.c */
	/* ledgers whose requests are on their way to `requeued`: newer ones wait */
	uint32_t returns;
	struct histogram answers; /* how long they took, from when a worker was chosen */
	struct hash_key hash_key;
};

/* Empty books. `counters` are the backend's. */
void
deliveries_init(struct deliveries *deliveries, struct outq_env *env, struct counters *counters);

/* All ledgers must be gone; drops what waits in `requeued`. */
void deliveries_fini(struct deliveries *deliveries);

/* Enter the request as held, at time `now` (ms), as message `number`. NULL: no memory. */
struct delivery *deliveries_assign(struct deliveries *deliveries, struct ledger *ledger,
	struct request *request, uint64_t number, int64_t now);

/* The worker is no longer waited for; its reply will still be matched. */
void deliveries_expire(struct deliveries *deliveries, struct delivery *delivery);

/* Take it out of the books; the request is freed with its last one (request_release). */
void deliveries_remove(struct deliveries *deliveries, struct delivery *delivery);

/* The delivery that this message from the ledger's worker answers, or NULL. */
struct delivery *deliveries_match(
	struct deliveries *deliveries, struct ledger *ledger, const struct message *message);

/* Count an answer that took `ms`. */
void deliveries_replied(struct deliveries *deliveries, int64_t ms);

/*
 * A ledger without deliveries. NULL: no memory. `on_due` runs when its timer goes off, `on_trial`
 * when that of its next trial does.
 */
struct ledger *ledger_new(struct peer *worker, struct loop *loop, void (*on_due)(struct timer *),
	void (*on_trial)(struct timer *));

/* All its deliveries must be gone. */
void ledger_free(struct ledger *ledger);

static inline struct delivery *
ledger_oldest(const struct ledger *ledger)
{
	return list_empty(&ledger->pending)
		? NULL
		: list_entry(ledger->pending.next, struct delivery, node);
}

/*
 * Assert that the table is what the ledgers' lists say: each delivery is found, duplicates are in
 * order. `pending`: how many are waited for at this ledger.
 */
void
deliveries_check(const struct deliveries *deliveries, const struct ledger *ledger, uint64_t held);

#endif
