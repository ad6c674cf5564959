/* SPDX-License-Identifier: MIT */
#include "broker/router.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "zmtp/wire.h"

enum {
	SLOT_BITS = 20, /* a million clients of one proxy; the other 12 bits are the generation */
	SLOT_MASK = (1 << SLOT_BITS) - 1,
	/*
	 * This many slots lie idle before one is reused: with 4096 generations each, an id is not
	 * reused until 16 million clients have come and gone, however few are connected at once.
	 */
	IDLE_SLOTS = 4096
};

void
router_init(struct router *r)
{
	*r = (struct router){.count = 1};
	idmap_init(&r->named);
}

void
router_fini(struct router *r)
{
	idmap_fini(&r->named);
	free(r->slots);
}

static uint32_t
read_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

struct peer *
router_find(const struct router *r, const uint8_t *id, size_t len)
{
	const struct router_slot *slot;
	uint32_t value;

	if (len == 0)
		return NULL;
	if (id[0] != 0 || len != PEER_MADE_UP_ID)
		return idmap_get(&r->named, id, len);
	value = read_u32(id + 1);
	if ((value & SLOT_MASK) >= r->count || r->slots == NULL)
		return NULL;
	slot = &r->slots[value & SLOT_MASK];
	return slot->peer != NULL && slot->generation == value >> SLOT_BITS ? slot->peer : NULL;
}

static void
set_envelope(struct peer *peer, const uint8_t *id, size_t len)
{
	peer->envelope[0] = WIRE_FLAG_MORE;
	peer->envelope[1] = (uint8_t)len;
	memcpy(peer->envelope + 2, id, len);
	peer->envelope_len = (uint16_t)(len + 2);
}

/* False: no memory. */
static bool
grow(struct router *r)
{
	uint32_t cap = r->cap > 0 ? r->cap * 2 : 64;
	struct router_slot *slots = mem_try_resize(r->slots, cap * sizeof(*slots));

	if (slots == NULL)
		return false;
	slots[0] = (struct router_slot){0}; /* never used, but a peer may ask for it */
	r->slots = slots;
	r->cap = cap;
	return true;
}

/* 0: no slot is free. */
static uint32_t
take_free_slot(struct router *r)
{
	uint32_t i = r->free_first;

	if (i == 0)
		return 0;
	r->free_first = r->slots[i].next_free;
	if (r->free_first == 0)
		r->free_last = 0;
	r->free_count--;
	return i;
}

/* 0: no memory. */
static uint32_t
take_slot(struct router *r)
{
	uint32_t i;

	if (r->free_count >= IDLE_SLOTS || r->count > SLOT_MASK || (r->count >= r->cap && !grow(r)))
		return take_free_slot(r);
	i = r->count++;
	r->slots[i] = (struct router_slot){.generation = randombytes_random() >> SLOT_BITS};
	return i;
}

static bool
make_up_id(struct router *r, struct peer *peer)
{
	uint32_t i = take_slot(r), value;
	uint8_t id[PEER_MADE_UP_ID];

	if (i == 0)
		return false;
	r->slots[i].peer = peer;
	value = r->slots[i].generation << SLOT_BITS | i;
	id[0] = 0;
	for (int b = 0; b < 4; b++)
		id[1 + b] = (uint8_t)(value >> (24 - 8 * b));
	peer->slot = i;
	set_envelope(peer, id, sizeof(id));
	return true;
}

bool
router_add(struct router *r, struct peer *peer, const uint8_t *id, size_t len)
{
	assert(!peer->routed);
	if (len > 0) {
		set_envelope(peer, id, len);
		peer->routed = idmap_put(&r->named, peer_id(peer), len, peer);
	} else {
		peer->routed = make_up_id(r, peer);
	}
	return peer->routed;
}

void
router_remove(struct router *r, struct peer *peer)
{
	uint32_t i = peer->slot;

	if (!peer->routed)
		return;
	peer->routed = false;
	if (i == 0) {
		idmap_remove(&r->named, peer_id(peer), peer_id_len(peer));
		return;
	}
	r->slots[i].peer = NULL;
	r->slots[i].generation = (r->slots[i].generation + 1) & (UINT32_MAX >> SLOT_BITS);
	r->slots[i].next_free = 0;
	r->free_count++;
	if (r->free_last != 0)
		r->slots[r->free_last].next_free = i;
	else
		r->free_first = i;
	r->free_last = i;
	peer->slot = 0;
}
