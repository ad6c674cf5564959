/* SPDX-License-Identifier: MIT */
/*
 * Map from routing id to a pointer: open addressing with linear probing, by a
 * keyed hash, because peers choose their ids.
 */
#ifndef BULKHEAD_BASE_IDMAP_H
#define BULKHEAD_BASE_IDMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"

struct idmap_slot {
	const uint8_t *id; /* owned by the value; NULL: empty */
	uint32_t len;
	uint32_t hash;
	void *value;
};

struct idmap {
	struct idmap_slot *slots; /* cap of them; cap is a power of two, or 0 */
	size_t cap, count;
	struct hash_key key;
};

/* An empty map with a random key. */
void idmap_init(struct idmap *map);

/* Frees the table, not the values. */
void idmap_fini(struct idmap *map);

/* The value of id[len], or NULL. */
void *idmap_get(const struct idmap *map, const uint8_t *id, size_t len);

/*
 * Add id[len] -> value. The id must not be there yet, and its bytes must live
 * as long as the entry. False: no memory; never when an entry was removed just
 * before.
 */
bool idmap_put(struct idmap *map, const uint8_t *id, size_t len, void *value);

/* Remove id[len], which must be there. */
void idmap_remove(struct idmap *map, const uint8_t *id, size_t len);

#endif
