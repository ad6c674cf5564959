/* SPDX-License-Identifier: MIT */
/*
 * Places for connections: how many there may be, and who gets the last ones.
 *
 * Each side of each proxy keeps a share of the process-wide limit: limit / (8 x proxies), at least
 * one place, as long as all shares together fit. Places past the shares are taken first come, first
 * served. So neither strangers nor idle peers of one side can keep out the peers of another.
 *
 * At a limit a new connection takes the place of one that was accepted and has not finished its
 * handshake: the oldest of the address that has the most of these. Ready peers, and dialled
 * connections, keep their places.
 *
 * Until it is ready or closed, an accepted connection is in a list, ordered by age, in a bucket of
 * its side that its address selects. Messages cost nothing here.
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
	SLOTS_GRACE_MS = 20 /* a new connection keeps its place at least this long */
};

/* Places of a loop. */
struct slots {
	struct hash_key key;  /* of addresses: nobody can aim at a bucket */
	struct list sides;    /* all struct side, by slots.node */
	struct list unshaken; /* the sides that have connections in their handshake */
	uint32_t side_count;
	uint32_t share;        /* of each side, with this many sides ... */
	uint32_t shared_limit; /* ... and this limit */
	uint32_t short_limit;  /* the limit since descriptors ran out ... */
	int64_t short_until;   /* ... until then */
	uint64_t reserved;     /* places of all shares that are free */
};

/* Places of a side. */
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

/* Add a side that has no connections yet; remove one that has none left. */
void slots_add_side(struct side *side);
void slots_remove_side(struct side *side);

/*
 * Count a connection of the side that was created, or is freed; connections are counted only here.
 */
void slots_take(struct side *side);
void slots_release(struct side *side);

/* Enter an accepted connection, whose handshake begins, under its peer's address. */
void slots_enter(struct conn *conn, const struct sockaddr *addr);

/* The connection is ready or closed. Does nothing for one that was never entered. */
void slots_leave(struct conn *conn);

/* Bring the shares up to date, and find a place for one more connection of this side. */
bool slots_find_place(struct side *side);

/*
 * Close a connection in its handshake, so that this side, which has no place left, gets one when
 * the connection is freed. Returns 0; or in how many ms the oldest may be closed; or -1 when none
 * is in its handshake.
 */
int64_t slots_evict(struct side *side);

/*
 * The system has no descriptor for another connection: for the next second, the present number of
 * connections is the limit, and shares are computed from it.
 */
void slots_run_short(struct loop *loop);

/* Is that limit in force? */
bool slots_are_short(struct loop *loop);

#endif
