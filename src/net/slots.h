/* SPDX-License-Identifier: MIT */
/*
 * Places for connections: how many there may be, and who gets the last ones.
 *
 * Each side of each proxy keeps a share of the process-wide limit: limit / (8 x proxies), at least
 * one place, as long as all shares together fit. Places past the shares are for whoever comes
 * first. So neither strangers nor idle peers of one side keep the others' peers out.
 *
 * At a limit a newcomer gets the place of a connection that was accepted and has not finished its
 * handshake: of the address that has most of those, the one that has been at it longest. Ready
 * peers, and connections that we dialled, keep their places.
 *
 * An accepted connection stands in a list by age in one of its side's buckets, which its address
 * chooses, until it is ready or closed. Nothing here is touched by a message.
 */
#ifndef BULKHEAD_NET_SLOTS_H
#define BULKHEAD_NET_SLOTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/hash.h"
#include "base/list.h"

struct conn;
struct loop;
struct side;

enum {
	SLOTS_BUCKETS = 32,
	SLOTS_GRACE_MS = 20 /* so long a newcomer keeps its place in any case */
};

/* Of a loop. */
struct slots {
	struct hash_key key;  /* of the hash of addresses: nobody chooses a neighbour's bucket */
	struct list sides;    /* all struct side, by slots.node */
	struct list unshaken; /* those of them that have connections in their handshake */
	uint32_t side_count;
	uint32_t share;        /* of each side, with this many sides ... */
	uint32_t shared_limit; /* ... and this limit */
	uint32_t short_limit;  /* as many as there were descriptors for, when accept failed ... */
	int64_t short_until;   /* ... which holds until then */
	uint64_t reserved;     /* places of all shares that are free */
};

/* Of a side. */
struct side_slots {
	struct list node;     /* in slots.sides */
	struct list unshaken; /* in slots.unshaken */
	uint32_t count;       /* in all buckets */
	struct {
		struct list conns; /* struct conn by `shaking`, the oldest first */
		uint32_t count;
	} buckets[SLOTS_BUCKETS];
};

void slots_init(struct slots *slots);

/* A side that has no connections yet comes; one that has none any more goes, from all lists. */
void slots_add_side(struct side *side);
void slots_remove_side(struct side *side);

/* A connection of the side was made, or is freed: the only place where these are counted. */
void slots_take(struct side *side);
void slots_give_back(struct side *side);

/* An accepted connection, whose handshake begins, came from this address. */
void slots_enter(struct conn *conn, const struct sockaddr *addr);

/* It is ready, or closed. Harmless for one that never entered. */
void slots_leave(struct conn *conn);

/* Is there a place for one more connection to this side? */
bool slots_has_room(struct side *side);

/*
 * Close a connection that is in its handshake so that this side, which has no room, gets a place
 * when that is freed. Returns 0; or for how many ms each of them has still to be spared; or -1 when
 * there is none.
 */
int64_t slots_evict(struct side *side);

/*
 * The system has no descriptor for another connection: as many as there are now is the limit for
 * the next second, with shares and all.
 */
void slots_run_short(struct loop *loop);

/* Does such a limit hold? */
bool slots_are_short(struct loop *loop);

#endif
