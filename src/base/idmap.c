/* SPDX-License-Identifier: MIT */
#include "base/idmap.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void
idmap_init(struct idmap *map)
{
	*map = (struct idmap){0};
	hash_key_init(&map->key);
}

void
idmap_fini(struct idmap *map)
{
	free(map->slots);
	*map = (struct idmap){0};
}

/* The slot that holds the id, or the empty one where it belongs. */
static struct idmap_slot *
find(const struct idmap *map, const uint8_t *id, size_t len, uint32_t hash)
{
	size_t i = hash & (map->cap - 1);

	for (;; i = (i + 1) & (map->cap - 1)) {
		struct idmap_slot *s = &map->slots[i];
		if (s->id == NULL ||
			(s->hash == hash && s->len == len && memcmp(s->id, id, len) == 0))
			return s;
	}
}

void *
idmap_get(const struct idmap *map, const uint8_t *id, size_t len)
{
	struct idmap_slot *s;

	if (map->count == 0)
		return NULL;
	s = find(map, id, len, hash_keyed(&map->key, id, len));
	return s->id != NULL ? s->value : NULL;
}

static bool
grow(struct idmap *map)
{
	struct idmap_slot *old = map->slots;
	size_t old_cap = map->cap, cap = old_cap > 0 ? old_cap * 2 : 16;
	struct idmap_slot *slots = mem_try_new(cap * sizeof(*slots));

	if (slots == NULL)
		return false;
	map->cap = cap;
	map->slots = slots;
	for (size_t i = 0; i < old_cap; i++)
		if (old[i].id != NULL)
			*find(map, old[i].id, old[i].len, old[i].hash) = old[i];
	free(old);
	return true;
}

bool
idmap_put(struct idmap *map, const uint8_t *id, size_t len, void *value)
{
	uint32_t hash = hash_keyed(&map->key, id, len);
	struct idmap_slot *s;

	if ((map->count + 1) * 4 > map->cap * 3 && !grow(map))
		return false;
	s = find(map, id, len, hash);
	assert(s->id == NULL);
	*s = (struct idmap_slot){.id = id, .len = (uint32_t)len, .hash = hash, .value = value};
	map->count++;
	return true;
}

void
idmap_remove(struct idmap *map, const uint8_t *id, size_t len)
{
	struct idmap_slot *s = find(map, id, len, hash_keyed(&map->key, id, len));
	size_t hole, mask = map->cap - 1;

	assert(s->id != NULL);
	hole = (size_t)(s - map->slots);
	/* close the gap, so that no probe sequence is broken and no tombstone is left */
	for (size_t i = (hole + 1) & mask; map->slots[i].id != NULL; i = (i + 1) & mask) {
		size_t home = map->slots[i].hash & mask;
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			map->slots[hole] = map->slots[i];
			hole = i;
		}
	}
	map->slots[hole].id = NULL;
	map->count--;
}
