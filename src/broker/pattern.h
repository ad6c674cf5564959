/* SPDX-License-Identifier: MIT */
/*
 * A mode: what its two sides are, and what it does when something rare happens. Messages do not
 * come through here: net/ calls side->ops, which a mode may swap between two turns of the loop.
 *
 * Every function is called by proxy.c alone, from the loop's thread, between two messages.
 */
#ifndef BULKHEAD_BROKER_PATTERN_H
#define BULKHEAD_BROKER_PATTERN_H

#include "broker/proxy.h"
#include "zmtp/socktype.h"

struct pattern_side {
	enum socktype type;         /* ours, as READY says it */
	unsigned accepts;           /* 1 << SOCKTYPE_X of peers */
	const struct conn_ops *ops; /* until the mode swaps them */
	bool flush_at_end;          /* see struct side */
	bool enveloped;             /* see struct session_config */
	bool hears_draining;        /* the same */
};

struct pattern {
	const char *name;
	struct pattern_side side[PROXY_SIDES];

	/* The proxy's options are set, its sides are not there yet. */
	void (*init)(struct proxy *proxy);

	/* No connection is left; nothing waits (drop_waiting was called until it returned true). */
	void (*fini)(struct proxy *proxy);

	/* Options changed, or are new: for peers that are there as well. */
	void (*configure)(struct proxy *proxy);

	/* No new messages are to be accepted: what was accepted goes on. Called once. */
	void (*drain)(struct proxy *proxy);

	/* A connection of side `which` is about to be closed politely, at the end of a stop. */
	void (*close)(struct proxy *proxy, int which, struct conn *conn);

	/*
	 * Drop and count (as `shutdown`) what waits for a peer. False: that was a slice of it, and
	 * there is more.
	 */
	bool (*drop_waiting)(struct proxy *proxy);

	/*
	 * Add what waits outside of the connections' queues to messages[], for each side. Returns
	 * NULL, or a static text that says what does not hold.
	 */
	const char *(*check)(const struct proxy *proxy, uint64_t messages[PROXY_SIDES]);
};

/* ROUTER and DEALER: requests to workers, replies to clients. */
extern const struct pattern pattern_queue;

#endif
