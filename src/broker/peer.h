/* SPDX-License-Identifier: MIT */
/*
 * A ready peer, as the broker sees it, and what was read from it but has no
 * receiver yet.
 */
#ifndef BULKHEAD_BROKER_PEER_H
#define BULKHEAD_BROKER_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "net/conn.h"

struct proxy;

enum { PEER_MADE_UP_ID = WIRE_MADE_UP_ID }; /* bytes of an id that Bulkhead made up */

/*
 * Messages of one sender that wait for a receiver, in order. A source outlives
 * its peer: what a peer sent before it left counts.
 */
struct source {
	struct list node; /* requests: in proxy->waiting; replies: in a client's blocked list */
	struct proxy *proxy;
	struct peer *peer; /* NULL: the sender is gone */
	struct outq queue; /* requests: ready to be sent, id in front; replies: as received */
};

/* Which requests count as unanswered until a reply comes. */
enum peer_answers {
	PEER_ANSWERS_ALL,
	PEER_ANSWERS_DELIMITED, /* a REP throws all others away: see envelope.h */
	PEER_ANSWERS_NONE       /* replies = no */
};

struct peer {
	struct conn *conn;
	struct proxy *proxy;
	struct source *source; /* NULL: nothing waits */

	union {
		struct list ready; /* a worker: in the balance, while it has room */
		/* a client: sources of replies that wait for room in its queue */
		struct list blocked;
	};

	/*
	 * A worker: requests it holds, by 1:1 counting, or those in its holder. A client: its
	 * requests that no reply came to yet.
	 */
	uint64_t outstanding;

	union {
		/* a worker: see deliveries.h; NULL: requests are only counted */
		struct ledger *ledger;
		/* a client: replies that come after what is in its queue, or NULL */
		struct outq *backlog;
	};
	union {
		uint64_t lift; /* a worker: what it counts for without holding it: see balance.h */
		/* a client that leaves: its requests are taken until then, ms */
		int64_t accept_until;
	};
	union {
		struct level *level; /* a worker: in the balance, with least_outstanding */
		struct {
			/*
			 * A client, ms, their low bits: when the claims to its id counted that do;
			 * when `keeps` is set: since when it keeps it.
			 */
			uint32_t contested[2];
		};
	};
	union {
		/* a worker: when `heard` was all that came, ms: see silence.c */
		uint32_t quiet_since;
		/* a client: it was told then, or held up by us until then, ms */
		uint32_t told_since;
	};

	/* a client */
	union {
		uint32_t slot;  /* in the router, for an id that Bulkhead made up; 0: none */
		uint32_t heard; /* a worker: messages that had come from it at the last look */
	};
	uint16_t envelope_len;
	uint16_t spare; /* a client: so many requests more it may have under way: see ration.h */
	/* a client: it has a backlog, leaves or waits: its messages take the long way */
	bool aside;
	bool suspect;         /* a worker that let answer_timeout pass ... */
	uint8_t answers : 2;  /* a worker: enum peer_answers */
	bool trial : 1;       /* ... and may have one request to show that it answers again */
	bool routed : 1;      /* a client: the router knows it */
	bool retiring : 1;    /* it finishes what it has, and gets nothing new: see proxy_retire */
	bool hasty : 1;       /* it leaves, and its replies are not held back any more */
	bool replied : 1;     /* it leaves, and a reply came since it began to, or its BYE */
	bool told : 1;        /* it leaves, and was sent DRAINING: see drain.c */
	bool silent : 1;      /* a worker: silent_after passed without a message from it */
	bool keeps : 1;       /* a client: it keeps its id for a while */
	bool claimed : 1;     /* a client: another one took its id while it seemed to live */
	uint8_t contests : 2; /* a client: in `contested` */
	bool unserved : 1;    /* it asked after our half-close */
	bool waits : 1;       /* a client: its requests wait, since memory is short: see ration.h */
	uint8_t patience : 4; /* ... for how long: it may have four times as many more each time */
	bool uncounted : 1;   /* a worker: it was sent requests that it does not answer */
	/* a worker: what it has is being taken back in slices, and it gets no more */
	bool returning : 1;
	/* its routing id as the frame in front of its requests: MORE, length, id */
	uint8_t envelope[];
};

/* NULL: no memory. Its envelope has room for an id of id_len bytes, or one that is made up. */
struct peer *peer_new(struct proxy *proxy, struct conn *conn, size_t id_len);

/* Free; its source, if any, lives on without it. */
void peer_free(struct peer *peer);

/* `suspect` or `retiring` changed: its side counts it as that, no longer as ready. */
void peer_set_service(const struct peer *peer);

/* The peer's routing id. */
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

/* Of replies that come after what is in a client's queue. A worker has none. */
static inline uint64_t
peer_backlog_bytes(const struct peer *peer)
{
	return peer->aside && peer->backlog != NULL ? peer->backlog->bytes : 0;
}

/* The peer's source, made when there is none. NULL: no memory. */
struct source *peer_source(struct peer *peer);

/* Free an empty source, taking it out of every list. */
void source_free(struct source *source);

#endif
