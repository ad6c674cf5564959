/* SPDX-License-Identifier: MIT */
/*
 * The ROUTER side's table of routing ids (RFC 28): which client has which id.
 *
 * Ids that Bulkhead makes up are a zero byte and 32 bits; these bits hold the slot of the peer and
 * a generation, so that finding the peer is one array access, and a late reply to a client that is
 * gone does not reach the next client in its slot. Ids that peers bring are in a hash map.
 */
#ifndef BULKHEAD_BROKER_ROUTER_H
#define BULKHEAD_BROKER_ROUTER_H

#include <stddef.h>
#include <stdint.h>

#include "base/idmap.h"
#include "broker/peer.h"

struct router_slot {
	struct peer *peer; /* NULL: free */
	uint32_t generation;
	uint32_t next_free;
};

struct router {
	struct idmap named;
	struct router_slot *slots; /* slot 0 is never used */
	uint32_t count, cap;
	uint32_t free_first, free_last; /* first in, first out: an id is reused late */
	uint32_t free_count;
};

/* Initialise an empty table. */
void router_init(struct router *router);

/* Free the table. */
void router_fini(struct router *router);

/* Return the peer with this id, or NULL. */
struct peer *router_find(const struct router *router, const uint8_t *id, size_t len);

/*
 * Enter the peer. id[len] is the id that it brought, len 0: make one up. The id must not be taken.
 * Sets the peer's envelope, which must have room for the id. False: no memory; never when an id as
 * long was removed just before.
 */
bool router_add(struct router *router, struct peer *peer, const uint8_t *id, size_t len);

/* Remove the peer; its id is free at once. */
void router_remove(struct router *router, struct peer *peer);

#endif
