/* SPDX-License-Identifier: MIT */
/*
 * One request, from its first delivery to a worker until no reply to it is possible: its envelope,
 * by which replies are matched, and, if the message is kept, the message, so that another worker
 * can have it. A small message is kept in the struct itself, and the structs are reused.
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

/* The delivery of a request to one worker; the first delivery is part of the request. */
struct delivery {
	struct list node; /* in ledger->pending or ->expired, oldest first */
	struct ledger *ledger;
	struct request *request;
	/*
	 * The table's chains hold the oldest delivery of each envelope; younger deliveries with
	 * the same envelope are its duplicates.
	 */
	struct delivery *chain, **slot; /* slot: the pointer here; NULL for a duplicate */
	struct list duplicates;
	/* number of the message: as conn_next_number counts, plus ledger->gone */
	uint64_t number;
	int64_t given; /* time of the delivery, ms */
	uint32_t hash;
	bool expired;
};

struct request {
	union {
		struct list node;      /* in deliveries->requeued */
		struct request *spare; /* once it is free: the next free request */
	};
	struct outq *kept;  /* a large message that is kept; NULL: see `whole` */
	uint64_t size;      /* wire bytes of the message with its routing id */
	const uint8_t *key; /* its envelope, as in struct envelope */
	uint32_t key_hash;
	uint16_t key_len;
	uint32_t room;          /* size of `bytes` */
	uint32_t refs;          /* deliveries that exist */
	uint32_t deliveries;    /* deliveries so far */
	uint32_t culprit_count; /* of these, those whose failure it may have caused */
	bool whole;             /* a small message that is kept, in `bytes` */
	bool delimited;         /* the envelope ends with an empty frame */
	bool answered;          /* a reply was passed on: further replies are late */
	bool waiting;           /* it is in deliveries->requeued */
	bool queued;            /* waiting, and counted as queued: no worker ever had all of it */
	bool outstanding;       /* counted as outstanding */
	struct delivery first;
	uint8_t bytes[]; /* at least the envelope */
};

/*
 * Return a new request that consists of prefix[prefix_len], the client's routing id as a frame, and
 * `message`. With `keep` its bytes are kept: a large message is then consumed, and the request's
 * `kept` is what to send; otherwise the message is left unchanged. NULL: no memory.
 */
struct request *request_new(struct deliveries *deliveries, const uint8_t *prefix, size_t prefix_len,
	struct message *message, bool keep);

/* The same for the first message of `queue`, which stays there. NULL: no memory, or no envelope. */
struct request *request_of(struct deliveries *deliveries, struct outq *queue, bool keep);

/* Is the message kept, so that it can be sent again? */
static inline bool
request_is_kept(const struct request *r)
{
	return r->whole || r->kept != NULL;
}

/* Return the client's routing id, and its length in *len. */
const uint8_t *request_client(const struct request *request, size_t *len);

/* Free the kept message: the request will not be sent again. */
void request_drop_bytes(struct deliveries *deliveries, struct request *request);

/* Free a request unless it has a delivery or is in `requeued`. */
void request_release(struct deliveries *deliveries, struct request *request);

/* Append a request to `requeued`, or take it out. `queued`: no worker ever had all of it. */
void request_requeue(struct deliveries *deliveries, struct request *request, bool queued);
void request_unqueue(struct deliveries *deliveries, struct request *request);

#endif
