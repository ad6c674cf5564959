/* SPDX-License-Identifier: MIT */
#include "net/slots.h"

#include <netinet/in.h>
#include <string.h>

#include "net/conn.h"
#include "net/side.h"

enum { SHARE_PART = 8, SHORT_MS = 1000 };

void
slots_init(struct slots *s)
{
	*s = (struct slots){0};
	list_init(&s->sides);
	list_init(&s->unshaken);
	hash_key_init(&s->key);
}

void
slots_add_side(struct side *side)
{
	struct slots *s = &side->loop->slots;
	struct side_slots *of = &side->slots;

	list_init(&of->node);
	list_init(&of->unshaken);
	of->count = 0;
	for (int i = 0; i < SLOTS_BUCKETS; i++) {
		list_init(&of->buckets[i].conns);
		of->buckets[i].count = 0;
	}
	list_push(&s->sides, &of->node);
	s->side_count++;
	s->shared_limit = 0; /* shares must be computed again */
}

void
slots_remove_side(struct side *side)
{
	struct slots *s = &side->loop->slots;

	list_remove(&side->slots.node);
	list_remove(&side->slots.unshaken);
	s->side_count--;
	s->shared_limit = 0;
}

/* --- shares --------------------------------------------------------------- */

static uint32_t
share_of(uint32_t limit, uint32_t sides)
{
	uint32_t share = limit / (SHARE_PART * sides / 2), most = limit / sides;

	if (share == 0)
		share = 1;
	return share < most ? share : most;
}

bool
slots_are_short(struct loop *loop)
{
	return loop->slots.short_until > 0 && loop_now(loop) < loop->slots.short_until;
}

void
slots_run_short(struct loop *loop)
{
	loop->slots.short_limit = loop->connections;
	loop->slots.short_until = loop_now(loop) + SHORT_MS;
}

static uint32_t
limit_of(struct loop *loop)
{
	uint32_t limit = loop->max_connections;

	if (!slots_are_short(loop) || loop->slots.short_limit > limit)
		return limit;
	return loop->slots.short_limit;
}

/* Computes the shares again if sides or the limit have changed. Returns the limit. */
static uint32_t
update_shares(struct loop *loop)
{
	struct slots *s = &loop->slots;
	uint32_t limit = limit_of(loop);

	if (s->shared_limit == limit || s->side_count == 0)
		return limit;
	s->shared_limit = limit;
	s->share = share_of(limit, s->side_count);
	s->reserved = 0;
	list_each(node, tmp, &s->sides) {
		const struct side *side = list_entry(node, struct side, slots.node);
		if (side->connections < s->share)
			s->reserved += s->share - side->connections;
	}
	return limit;
}

void
slots_take(struct side *side)
{
	struct slots *s = &side->loop->slots;

	update_shares(side->loop);
	if (side->connections < s->share)
		s->reserved--;
	side->connections++;
	side->loop->connections++;
}

void
slots_release(struct side *side)
{
	struct slots *s = &side->loop->slots;

	update_shares(side->loop);
	side->connections--;
	side->loop->connections--;
	if (side->connections < s->share)
		s->reserved++;
}

/* Is a place free in the side's own share, which no other side can use? */
static bool
within_share(const struct side *side)
{
	return side->connections < side->loop->slots.share;
}

static bool
side_is_full(const struct side *side)
{
	return side->opts->max_connections > 0 &&
		side->connections >= (uint64_t)side->opts->max_connections;
}

bool
slots_find_place(struct side *side)
{
	const struct loop *loop = side->loop;
	uint32_t limit = update_shares(side->loop);

	if (side_is_full(side) || loop->connections >= limit)
		return false;
	return within_share(side) || loop->connections + loop->slots.reserved < limit;
}

/* --- handshakes ----------------------------------------------------------- */

/* The bucket of an IPv4 address, of the network of an IPv6 address, or of all Unix peers. */
static unsigned
bucket_of(const struct slots *s, const struct sockaddr *addr)
{
	uint8_t from[16] = {0};
	struct sockaddr_in6 in6;
	struct sockaddr_in in;

	if (addr->sa_family == AF_INET) {
		memcpy(&in, addr, sizeof(in));
		memcpy(from, &in.sin_addr, 4);
	} else if (addr->sa_family == AF_INET6) {
		memcpy(&in6, addr, sizeof(in6));
		if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr))
			memcpy(from, in6.sin6_addr.s6_addr + 12, 4);
		else
			memcpy(from, in6.sin6_addr.s6_addr, 8);
	}
	return hash_keyed(&s->key, from, sizeof(from)) % SLOTS_BUCKETS;
}

void
slots_enter(struct conn *conn, const struct sockaddr *addr)
{
	struct side *side = conn->side;
	struct side_slots *of = &side->slots;
	unsigned bucket = bucket_of(&side->loop->slots, addr);

	conn->bucket = (uint8_t)(bucket + 1);
	list_init(&conn->shaking);
	list_push(&of->buckets[bucket].conns, &conn->shaking);
	of->buckets[bucket].count++;
	if (of->count++ == 0)
		list_push(&side->loop->slots.unshaken, &of->unshaken);
}

void
slots_leave(struct conn *conn)
{
	struct side_slots *of = &conn->side->slots;

	if (conn->bucket == 0)
		return;
	list_remove(&conn->shaking);
	of->buckets[conn->bucket - 1].count--;
	conn->bucket = 0;
	if (--of->count == 0)
		list_remove(&of->unshaken);
	conn->rerouted = conn->dropped = 0; /* they lie where the node was */
}

/* --- at a limit ----------------------------------------------------------- */

struct choice {
	struct conn *conn; /* NULL: none yet */
	uint32_t count;    /* connections that its address has */
};

static void
consider(struct choice *best, const struct side *side)
{
	for (int i = 0; i < SLOTS_BUCKETS && side->slots.count > 0; i++) {
		const struct list *conns = &side->slots.buckets[i].conns;
		uint32_t count = side->slots.buckets[i].count;
		struct conn *oldest = list_entry(conns->next, struct conn, shaking);

		if (count > best->count ||
			(count > 0 && count == best->count && oldest->opened < best->conn->opened))
			*best = (struct choice){oldest, count};
	}
}

/*
 * Chooses a connection whose end leaves a place that `side` may take: other sides keep their
 * shares. NULL: there is none.
 */
static struct conn *
choose(const struct side *side)
{
	const struct slots *s = &side->loop->slots;
	struct choice best = {NULL, 0};

	consider(&best, side);
	if (side_is_full(side))
		return best.conn;
	list_each_const(n, &s->unshaken) {
		const struct side *other = list_entry(n, struct side, slots.unshaken);

		if (other != side && other->connections > s->share)
			consider(&best, other);
	}
	return best.conn;
}

int64_t
slots_evict(struct side *side)
{
	struct conn *conn = choose(side);
	int64_t left;

	if (conn == NULL)
		return -1;
	/* when even the oldest is new, no connection is closed for the newcomers */
	left = conn->opened + SLOTS_GRACE_MS - loop_now(side->loop);
	if (left > 0)
		return left;
	conn_close(conn, CLOSE_OVER_LIMIT,
		slots_are_short(side->loop) ? "no descriptor is left" : "max_connections");
	return 0;
}
