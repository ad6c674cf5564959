/* SPDX-License-Identifier: MIT */
/*
 * A mode: the socket types of its two sides, and its functions for rare events. Messages do not
 * pass through here: net/ calls side->ops, which a mode may swap between two turns of the loop.
 *
 * proxy.c, drain.c and describe.c call these functions, between two messages.
 */
#ifndef BULKHEAD_BROKER_PATTERN_H
#define BULKHEAD_BROKER_PATTERN_H

#include "broker/describe.h"
#include "broker/proxy.h"
#include "zmtp/socktype.h"

struct pattern_side {
	enum socktype type;         /* our type, as READY says it */
	unsigned accepts;           /* 1 << SOCKTYPE_X of peers */
	const struct conn_ops *ops; /* until the mode swaps them */
	bool flush_at_end;          /* see struct side */
	bool enveloped;             /* see struct session_config */
	bool hears_draining;        /* the same */
	bool kick_waits;            /* a peer that is kicked has a moment to finish its work */
};

struct pattern {
	const char *name;
	struct pattern_side side[PROXY_SIDES];

	/*
	 * Initialise the mode's part of a proxy. The options are set, the sides are not there yet.
	 */
	void (*init)(struct proxy *proxy);

	/* Free that part. No connection is left, nothing waits (drop_waiting has returned true). */
	void (*fini)(struct proxy *proxy);

	/* Apply new or changed options, to connected peers as well. */
	void (*configure)(struct proxy *proxy);

	/* Accept no new messages; what was accepted goes on. Called once. */
	void (*drain)(struct proxy *proxy);

	/* To be called every 20 ms or so from then on. */
	void (*drain_step)(struct proxy *proxy);

	/* Does no accepted message wait any more, and has every peer what it is owed? */
	bool (*is_drained)(const struct proxy *proxy);

	/* How many messages still wait, or are owed, in that sense. */
	uint64_t (*unfinished)(const struct proxy *proxy);

	/* Log what the drain waits for, unless it is over; it ends in `left` ms at most. */
	void (*log_drain)(const struct proxy *proxy, int64_t left);

	/*
	 * Drain one ready peer: it gets nothing new, and finishes what it has. Nothing undoes this.
	 * The reason and the detail are those with which it is closed.
	 */
	void (*drain_peer)(struct conn *conn, enum close_reason reason, const char *detail);

	/*
	 * To be called for such a peer, while it is open, every 20 ms or so: close it politely when
	 * it has finished, or now if `late`.
	 */
	void (*drain_peer_step)(
		struct conn *conn, bool late, enum close_reason reason, const char *detail);

	/* A connection of side `which` is about to be closed politely, at the end of a stop. */
	void (*close)(struct proxy *proxy, int which, struct conn *conn);

	/*
	 * Drop and count (as `shutdown`) messages that wait for a peer. False: that was a slice of
	 * them, and there are more.
	 */
	bool (*drop_waiting)(struct proxy *proxy);

	/* Fill in what the mode knows of a proxy, and of a ready peer. The rest is filled in. */
	void (*describe)(const struct proxy *proxy, struct proxy_view *view);
	void (*describe_peer)(
		const struct conn *conn, struct peer_view *view, struct peer_text *text);

	/* What is wrong with a ready peer in CONN_READY; PEER_FAULTS: nothing. */
	enum peer_fault (*fault)(const struct conn *conn);

	/*
	 * Add the messages that wait outside the connections' queues to messages[], for each side.
	 * Returns NULL, or a static text that says what does not hold.
	 */
	const char *(*check)(const struct proxy *proxy, uint64_t messages[PROXY_SIDES]);
};

/* ROUTER and DEALER: requests to workers, replies to clients. */
extern const struct pattern pattern_queue;

#endif
