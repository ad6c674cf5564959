/* SPDX-License-Identifier: MIT */
/*
 * One request, from its first delivery to a worker until no reply to it can come any more: its
 * envelope, so that a reply finds it, and, where it is kept, the message, so that another worker
 * can have it. Small ones are kept in the struct itself, and the structs are used again.
 */
#ifndef BULKHEAD_BROKER_REQUEST_H
#define BULKHEAD_BROKER_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "net/outq.h"

struct ledger;
struct deliveries;
struct request;

/* One worker that was given a request; the first one lives in the request. */
struct delivery {
	struct list node; /* in ledger->pending or ->expired, oldest first */
	struct ledger *ledger;
	struct request *request;
	/*
	 * The table's chains hold the oldest of each envelope; younger ones with the same are its
	 * duplicates.
	 */
	struct delivery *chain, **slot; /* slot: what points here, NULL for a duplicate */
	struct list duplicates;
	/* of the message, as conn_next_number counts them, and ledger->gone more */
	uint64_t number;
	int64_t given; /* ms */
	uint32_t hash;
	bool expired;
};

struct request {
	union {
		struct list node;      /* in deliveries->requeued */
		struct request *spare; /* once it is free: the next one */
	};
	struct outq *kept;  /* large and kept: the message; NULL: see `whole` */
	uint64_t size;      /* wire bytes of the message, routing id in front */
	const uint8_t *key; /* its envelope, as matched */
	uint32_t key_hash;
	uint16_t key_len;
	uint32_t room;          /* of `bytes` */
	uint32_t refs;          /* deliveries */
	uint32_t deliveries;    /* so far */
	uint32_t culprit_count; /* of them, those at which it may have been at fault */
	bool whole;             /* small and kept: `bytes` is the message */
	bool delimited;         /* the envelope ends with an empty frame */
	bool answered;          /* a reply passed: further ones are late */
	bool waiting;           /* it is in deliveries->requeued */
	bool queued;            /* waiting, and counted as queued: no worker ever had all of it */
	bool outstanding;       /* counted as such */
	struct delivery first;
	uint8_t bytes[]; /* at least the envelope */
};

/*
 * A request out of prefix[prefix_len], the client's routing id as a frame, and `message`. With
 * `keep` its bytes are kept: a large message is then consumed, and the request's `kept` is what
 * to send; otherwise the message is left as it is. NULL: no memory.
 */
struct request *request_new(struct deliveries *deliveries, const uint8_t *prefix, size_t prefix_len,
	struct message *message, bool keep);

/* A request out of the first message of `queue`, which stays there. NULL: no memory. */
struct request *request_of(struct deliveries *deliveries, struct outq *queue, bool keep);

/* Is the message kept, so that it can be sent again? */
static inline bool
request_is_kept(const struct request *r)
{
	return r->whole || r->kept != NULL;
}

/* The routing id of the client; *len: its bytes. */
const uint8_t *request_client(const struct request *request, size_t *len);

/* It is not to be sent any more: free the bytes of the message. */
void request_drop_bytes(struct deliveries *deliveries, struct request *request);

/* Free a request when nothing holds it any more: no delivery, and `requeued` neither. */
void request_release(struct deliveries *deliveries, struct request *request);

/* Put it to the end of `requeued`, or take it out. `queued`: no worker ever had all of it. */
void request_requeue(struct deliveries *deliveries, struct request *request, bool queued);
void request_unqueue(struct deliveries *deliveries, struct request *request);

#endif
