#include "base/chunk.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

/*
 * Sizes of data. A connection that sends one small message at a time gets by
 * with the first class; a busy one grows into the larger ones.
 */
static const uint32_t class_size[CHUNK_CLASSES] = {
	256 - sizeof(struct chunk), 2048 - sizeof(struct chunk), 16384 - sizeof(struct chunk),
	65536 - sizeof(struct chunk), 262144 - sizeof(struct chunk)};

/*
 * Free chunks kept for reuse: at most 1 MiB of the small classes and 4 MiB of the large ones, what
 * a turn of large messages goes through; malloc gives such sizes back to the kernel and has to
 * fault every page of them in again.
 */
static const uint32_t class_keep[CHUNK_CLASSES] = {4096, 512, 256, 64, 16};

static unsigned
class_of(size_t want)
{
	unsigned c = 0;

	while (c < CHUNK_CLASSES - 1 && class_size[c] < want)
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
		k->class_ = c;
	}
	k->refs = 1;
	return k;
}

void
chunk_unref(struct chunk_pool *pool, struct chunk *chunk)
{
	unsigned c = chunk->class_;

	assert(chunk->refs > 0);
	if (--chunk->refs > 0)
		return;
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
