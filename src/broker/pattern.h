/* SPDX-License-Identifier: MIT */
/*
 * A mode: the socket types of its two sides, and its functions for rare events. Messages do not
 * pass through here: net/ calls side->ops, which a mode may swap between two turns of the loop.
 *
 * Only proxy.c calls these functions, from the loop's thread, between two messages.
 */
#ifndef BULKHEAD_BROKER_PATTERN_H
#define BULKHEAD_BROKER_PATTERN_H

#include "broker/proxy.h"
#include "zmtp/socktype.h"

struct pattern_side {
	enum socktype type;         /* our type, as READY says it */
	unsigned accepts;           /* 1 << SOCKTYPE_X of peers */
	const struct conn_ops *ops; /* until the mode swaps them */
	bool flush_at_end;          /* see struct side */
	bool enveloped;             /* see struct session_config */
	bool hears_draining;        /* the same */
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

	/* A connection of side `which` is about to be closed politely, at the end of a stop. */
	void (*close)(struct proxy *proxy, int which, struct conn *conn);

	/*
	 * Drop and count (as `shutdown`) messages that wait for a peer. False: that was a slice of
	 * them, and there are more.
	 */
	bool (*drop_waiting)(struct proxy *proxy);

	/*
	 * Add the messages that wait outside the connections' queues to messages[], for each side.
	 * Returns NULL, or a static text that says what does not hold.
	 */
	const char *(*check)(const struct proxy *proxy, uint64_t messages[PROXY_SIDES]);
};

/* ROUTER and DEALER: requests to workers, replies to clients. */
extern const struct pattern pattern_queue;

#endif
