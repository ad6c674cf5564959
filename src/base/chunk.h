/* SPDX-License-Identifier: MIT */
/*
 * Chunks: reference counted blocks of bytes, from per-loop free lists by size
 * class. A chunk is written by its one owner while it has a single reference;
 * once shared it is immutable.
 */
#ifndef BULKHEAD_BASE_CHUNK_H
#define BULKHEAD_BASE_CHUNK_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHUNK_CLASSES = 9 };

struct chunk {
	struct chunk *next_free;
	uint32_t refs;
	uint32_t size;   /* capacity of data, bytes */
	uint16_t class_; /* index of its size class */
	bool counted;    /* set by its user: it is in the memory account; false when it is new */
	_Alignas(8) uint8_t data[];
};

/* One per loop. */
struct chunk_pool {
	struct chunk *free[CHUNK_CLASSES];
	uint32_t free_count[CHUNK_CLASSES];
};

void chunk_pool_init(struct chunk_pool *pool);

/* Give the free lists back to the system; chunks in use are not touched. */
void chunk_pool_fini(struct chunk_pool *pool);

/*
 * A chunk with one reference and the smallest class that holds `want` bytes;
 * the largest class (256 KiB) when none does. NULL when there is no memory.
 */
struct chunk *chunk_new(struct chunk_pool *pool, size_t want);

/* Return a chunk without references to the pool. */
void chunk_put_back(struct chunk_pool *pool, struct chunk *chunk);

/* What a chunk of `size` bytes of data takes: its header and the allocator's are in it. */
static inline size_t
chunk_cost_of(size_t size)
{
	enum { ALLOCATOR = 16 }; /* what malloc adds */

	return sizeof(struct chunk) + size + ALLOCATOR;
}

/* How much memory the chunk takes, in bytes. */
static inline size_t
chunk_cost(const struct chunk *chunk)
{
	return chunk_cost_of(chunk->size);
}

/* How much memory the free chunks take that are kept for reuse, in bytes. */
uint64_t chunk_pool_bytes(const struct chunk_pool *pool);

/* Drop a reference. True: that was the last one, and the chunk is to be put back. */
static inline bool
chunk_drop(struct chunk *chunk)
{
	assert(chunk->refs > 0);
	return --chunk->refs == 0;
}

/* Drop a reference; the last one puts the chunk back. */
static inline void
chunk_unref(struct chunk_pool *pool, struct chunk *chunk)
{
	if (chunk_drop(chunk))
		chunk_put_back(pool, chunk);
}

/* Capacity of the class that serves `want` bytes. */
size_t chunk_class_size(size_t want);

#endif
