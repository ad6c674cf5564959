/* SPDX-License-Identifier: MIT */
/*
 * The blocks of a queue, their marks, and a walk over its units: what outq.c, outq_bulk.c and
 * message.c share with each other and with nobody else.
 *
 *   chunk  | struct outq_block | own bytes: m1 m2 m3 ...        marks |
 *                                begin^  ^cursor    ^len     ...2 1 0
 */
#ifndef BULKHEAD_NET_OUTQ_IMPL_H
#define BULKHEAD_NET_OUTQ_IMPL_H

#include "net/outq.h"

/*
 * One block is one chunk. Small messages are copied into the chunk itself (`borrowed` is NULL). A
 * large body is borrowed from the chunk it was read into; the block's own chunk then holds only
 * this struct and the marks.
 */
struct outq_block {
	struct outq_block *next;
	struct chunk *chunk;    /* where this struct itself is */
	struct chunk *borrowed; /* a reference to the chunk of a large body */
	const uint8_t *bytes;
	uint32_t size;       /* of the block's own bytes, marks included */
	uint32_t begin;      /* first byte that is kept */
	uint32_t len;        /* bytes filled */
	uint32_t marks;      /* units that end in this block ... */
	uint32_t first_mark; /* ... and how many of them are gone */
	bool commands;       /* some of the units may be commands; false: none is */
	uint64_t since;      /* when the first unit of the block came */
};

/* A mark is the offset at which a unit ends. */
enum { MARK_COMMAND = 1u << 31, MARK_OFFSET = MARK_COMMAND - 1 };

/* A block's own bytes follow the struct in its chunk. */
static inline uint8_t *
block_own_bytes(const struct outq_block *b)
{
	return (uint8_t *)(uintptr_t)(b + 1);
}

/* Marks grow down from the chunk's end; chunk sizes are multiples of 8. */
static inline uint32_t *
block_mark(const struct outq_block *b, uint32_t i)
{
	return (uint32_t *)(void *)(block_own_bytes(b) + b->size) - 1 - i;
}

static inline uint32_t
block_mark_offset(const struct outq_block *b, uint32_t i)
{
	return *block_mark(b, i) & MARK_OFFSET;
}

/* Bytes that can still be filled if one more mark must fit as well. */
static inline uint32_t
block_capacity(const struct outq_block *b)
{
	uint32_t used = b->len + 4 * (b->marks + 1);

	if (b->borrowed != NULL)
		return 0;
	return used < b->size ? b->size - used : 0;
}

/* outq.c: a block whose own bytes are at least `want`, linked to no queue. NULL: no memory. */
struct outq_block *outq_block_new(struct outq_env *env, size_t want);
void outq_block_free(struct outq_env *env, struct outq_block *b);

/* A place in a queue, at a boundary of units. */
struct walk {
	struct outq_block *block;
	uint32_t offset;
	uint32_t mark;
};

static inline struct walk
walk_start(const struct outq *q)
{
	struct walk w = {q->first, 0, 0};

	if (w.block != NULL) {
		w.offset = w.block->begin;
		w.mark = w.block->first_mark;
	}
	return w;
}

/*
 * Steps to the end of the unit at w. Returns the unit's size, 0 when it is not
 * complete; *flag is MARK_COMMAND for a command, 0 for a message.
 */
static inline uint64_t
walk_unit(struct walk *w, uint32_t *flag)
{
	uint64_t size = 0;

	while (w->block != NULL && w->mark == w->block->marks) {
		size += w->block->len - w->offset;
		w->block = w->block->next;
		w->offset = w->block != NULL ? w->block->begin : 0;
		w->mark = w->block != NULL ? w->block->first_mark : 0;
	}
	if (w->block == NULL)
		return 0;
	*flag = *block_mark(w->block, w->mark) & MARK_COMMAND;
	size += block_mark_offset(w->block, w->mark) - w->offset;
	w->offset = block_mark_offset(w->block, w->mark);
	w->mark++;
	return size;
}

/*
 * The first message; commands before it are skipped. Returns its size, 0 when there is none;
 * *from and *to: where it begins and ends.
 */
static inline uint64_t
walk_to_message(const struct outq *q, struct walk *from, struct walk *to)
{
	uint32_t flag = 0;
	uint64_t size;

	*to = walk_start(q);
	do {
		*from = *to;
		size = walk_unit(to, &flag);
	} while (size > 0 && flag != 0);
	return size;
}

#endif
