/* SPDX-License-Identifier: MIT */
#include "base/chunk.h"

#include <stdlib.h>

#include "base/mem.h"

/*
 * Sizes of data. A connection that sends one small message at a time needs only the first class; a
 * busy one grows into the larger ones. The largest are close to each other, since the part of a
 * chunk that a message does not fill is wasted.
 */
#define CLASS(size) (size) - sizeof(struct chunk)
static const uint32_t class_size[CHUNK_CLASSES] = {CLASS(256), CLASS(2048), CLASS(16384),
	CLASS(32768), CLASS(65536), CLASS(98304), CLASS(131072), CLASS(196608), CLASS(262144)};

/*
 * Free chunks that are kept for reuse: 1 to 4 MiB of each class, as much as a turn of large
 * messages needs, and 20 MiB in all. malloc would return such sizes to the kernel, and fault in
 * every page again.
 */
static const uint32_t class_keep[CHUNK_CLASSES] = {4096, 512, 256, 32, 32, 32, 16, 8, 16};

static unsigned
class_of(size_t want)
{
	unsigned c = 0;

	if (want > class_size[CHUNK_CLASSES - 2])
		return CHUNK_CLASSES - 1;
	while (class_size[c] < want)
		c++;
	return c;
}

void
chunk_pool_init(struct chunk_pool *pool)
{
	*pool = (struct chunk_pool){0};
}

void
chunk_pool_fini(struct chunk_pool *pool)
{
	for (unsigned c = 0; c < CHUNK_CLASSES; c++) {
		for (struct chunk *k = pool->free[c], *next; k != NULL; k = next) {
			next = k->next_free;
			free(k);
		}
	}
	chunk_pool_init(pool);
}

struct chunk *
chunk_new(struct chunk_pool *pool, size_t want)
{
	unsigned c = class_of(want);
	struct chunk *k = pool->free[c];

	if (k != NULL) {
		pool->free[c] = k->next_free;
		pool->free_count[c]--;
	} else {
		k = mem_try(sizeof(*k) + class_size[c]);
		if (k == NULL)
			return NULL;
		k->size = class_size[c];
		k->class_ = (uint16_t)c;
	}
	k->counted = false;
	k->refs = 1;
	return k;
}

void
chunk_put_back(struct chunk_pool *pool, struct chunk *chunk)
{
	unsigned c = chunk->class_;

	if (pool->free_count[c] >= class_keep[c]) {
		free(chunk);
		return;
	}
	chunk->next_free = pool->free[c];
	pool->free[c] = chunk;
	pool->free_count[c]++;
}

size_t
chunk_class_size(size_t want)
{
	return class_size[class_of(want)];
}

uint64_t
chunk_pool_bytes(const struct chunk_pool *pool)
{
	uint64_t bytes = 0;

	for (unsigned c = 0; c < CHUNK_CLASSES; c++)
		bytes += (uint64_t)pool->free_count[c] * chunk_cost_of(class_size[c]);
	return bytes;
}
