/* SPDX-License-Identifier: MIT */
/*
 * A ready peer, as the broker sees it, and its messages that were read and have no receiver yet.
 */
#ifndef BULKHEAD_BROKER_PEER_H
#define BULKHEAD_BROKER_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "net/conn.h"

struct proxy;
struct backlog;

enum { PEER_MADE_UP_ID = WIRE_MADE_UP_ID }; /* bytes of an id that Bulkhead made up */

/* Which requests count as unanswered until a reply comes. */
enum peer_answers {
	PEER_ANSWERS_ALL,
	PEER_ANSWERS_DELIMITED, /* a REP discards all others: see envelope.h */
	PEER_ANSWERS_NONE       /* replies = no */
};

struct peer {
	struct conn *conn;
	struct proxy *proxy;
	struct backlog *backlog; /* NULL: nothing waits */

	union {
		struct list ready; /* a worker: in the balance, while it has room */
		/* a client: backlogs of replies that wait for room in its queue */
		struct list blocked;
	};

	/*
	 * A worker: unanswered requests: counted, or, when tracked, the number of pending
	 * deliveries. A client: its requests without a reply so far.
	 */
	uint64_t outstanding;

	union {
		/* a worker: see deliveries.h; NULL: requests are only counted */
		struct ledger *ledger;
		/* a client: replies that come after those in its queue, or NULL */
		struct outq *overflow;
	};
	union {
		uint64_t lift; /* a worker: counted in addition to `outstanding`: see balance.h */
		/* a draining client: until when its requests are taken, ms */
		int64_t accept_until;
	};
	union {
		struct level *level; /* a worker: in the balance, with least_outstanding */
		struct {
			/*
			 * A client: the times of the claims to its id that count; when `keeps` is
			 * set: since when it keeps the id. Low bits, ms.
			 */
			uint32_t contested[2];
		};
	};
	union {
		/* a worker: when no more messages than `heard` had come, ms: see silence.c */
		uint32_t quiet_since;
		/* a client: when it was told, or until when we held it up, ms */
		uint32_t told_since;
	};

	union {
		/* a client: in the router, for an id that Bulkhead made up; 0: none */
		uint32_t slot;
		uint32_t heard; /* a worker: messages that had come from it at the last sweep */
	};
	uint16_t envelope_len;
	uint16_t spare; /* a client: how many more requests it may have under way: see ration.h */
	/* a client: it has an overflow, drains or waits: its messages take the slow path */
	bool aside;
	bool suspect;        /* a worker that let answer_timeout pass ... */
	uint8_t answers : 2; /* a worker: enum peer_answers */
	bool trial : 1;      /* ... and may have one request to show that it answers again */
	bool routed : 1;     /* a client: the router knows it */
	bool draining : 1; /* the peer finishes its work, and gets no more: see queue_drain_begin */
	bool hasty : 1;    /* the peer drains, and its replies are no longer held back */
	bool replied : 1;  /* the peer drains, and since then a reply or its BYE came */
	bool told : 1;     /* the peer drains, and was sent DRAINING: see queue_drain.c */
	bool silent : 1;   /* a worker: silent_after passed without a message from it */
	bool keeps : 1;    /* a client: it keeps its id for a while */
	bool claimed : 1;  /* a client: another one took its id while it seemed to live */
	uint8_t contests : 2; /* a client: claims in `contested` */
	bool unserved : 1;    /* the peer sent a request after our half-close */
	bool waits : 1;     /* a client: its requests wait, because memory is short: see ration.h */
	uint8_t grants : 4; /* ... and so often it got more: four times as many each time */
	bool uncounted : 1; /* a worker: it was sent requests that it does not answer */
	/* a worker: its requests are being taken back in slices, and it gets no more */
	bool returning : 1;
	/* its routing id as the first frame of its requests: MORE, length, id */
	uint8_t envelope[];
};

/*
 * Return a peer for `conn`, whose envelope has room for an id of id_len bytes, or for one that is
 * made up. NULL: no memory.
 */
struct peer *peer_new(struct proxy *proxy, struct conn *conn, size_t id_len);

/* Free the peer, which has no backlog (backlog_orphan). */
void peer_free(struct peer *peer);

/* Call when `suspect` or `draining` changed: the peer's side counts it accordingly. */
void peer_set_service(const struct peer *peer);

/* The peer's routing id, and its length. */
static inline const uint8_t *
peer_id(const struct peer *peer)
{
	return peer->envelope + 2;
}

static inline size_t
peer_id_len(const struct peer *peer)
{
	return peer->envelope_len - 2u;
}

/* The bytes of a client's overflow; 0 for a worker. */
static inline uint64_t
peer_overflow_bytes(const struct peer *peer)
{
	return peer->aside && peer->overflow != NULL ? peer->overflow->bytes : 0;
}

/* Is a draining client in the middle of a request that it began in time? */
static inline bool
peer_is_asking(const struct peer *client)
{
	return client->conn->part_since < client->accept_until;
}

/*
 * Is a draining client asking, or may it be about to? A client in a loop sends the next request as
 * soon as it has its reply: that request must come before the end. A client that was told says BYE.
 */
static inline bool
peer_may_ask(const struct peer *client, int64_t now_ms)
{
	return peer_is_asking(client) || (!client->replied && now_ms < client->accept_until);
}

/* May a draining client ask, or does it wait for a reply? */
static inline bool
peer_awaits(const struct peer *client, int64_t now_ms)
{
	return client->outstanding > 0 || peer_may_ask(client, now_ms);
}

#endif
