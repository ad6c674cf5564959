/* SPDX-License-Identifier: MIT */
/*
 * The ROUTER side's book of routing ids (RFC 28): which client an id means.
 *
 * Ids that Bulkhead makes up are a zero byte and 32 bits; those hold the slot of
 * the peer and a generation, so that finding the peer is one array access, and
 * a late reply to a gone client does not reach the next one in its slot. Ids
 * that peers bring are in a hash map.
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
	uint32_t free_first, free_last; /* first in, first out: ids come back as late as can be */
	uint32_t free_count;
};

void router_init(struct router *router);
void router_fini(struct router *router);

/* The peer with this id, or NULL. */
struct peer *router_find(const struct router *router, const uint8_t *id, size_t len);

/*
 * Enter the peer. id[len] is the identity it brought, len 0: make one up. The
 * id must not be taken. Sets the peer's envelope, which has room for it. False:
 * no memory; never when an id as long was removed just before.
 */
bool router_add(struct router *router, struct peer *peer, const uint8_t *id, size_t len);

/* Forget the peer; its id is free at once. */
void router_remove(struct router *router, struct peer *peer);

#endif
