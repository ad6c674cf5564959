/* SPDX-License-Identifier: MIT */
/*
 * A queue of messages in wire image, ready for writev: the messages that wait
 * to be sent to a peer, a backlog of messages that no peer has taken yet, a kept
 * copy of a request, or the one message that is still being read.
 *
 *   block         block                       block
 *   [m1|m2|m3|m4..|  ] -> [....large body....] -> [|m5|m6|          ]
 *    ^     ^       marks: where each message ends, growing down from the
 *    head  cursor         end of the block's own bytes
 *
 * Small messages are copied into the tail block: one memcpy, no allocation of
 * their own. Large bodies stay in the chunk that they were read into and are
 * queued by reference. Queued bytes never change.
 *
 * `head` is the beginning of the first message that is not wholly consumed;
 * `cursor` is the first byte that was not handed to the kernel. The bytes
 * between them stay, so that a message whose write was cancelled can be moved to
 * another queue whole.
 *
 * A unit is a message or a command; commands are not counted as messages and
 * do not move with them.
 *
 * outq.c has what is done for each message, outq_bulk.c what is done to a queue
 * as a whole.
 */
#ifndef BULKHEAD_NET_OUTQ_H
#define BULKHEAD_NET_OUTQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/chunk.h"
#include "base/mem.h"
#include "net/message.h"

/* Shared by all queues of one loop. */
struct outq_env {
	struct chunk_pool pool;
	struct mem_account memory; /* the cost of all queues: of their chunks, each once */
	uint64_t now_ns;           /* the time of this turn: when what is queued now came */
};

struct outq_block;

struct outq {
	struct outq_block *first, *last;
	struct outq_block *cursor_block; /* NULL: at the end of all bytes */
	uint32_t cursor;                 /* offset into it */
	uint32_t messages;               /* complete ones */
	uint32_t commands;               /* complete ones */
	uint32_t grown;  /* decaying high-water mark in bytes: the size of the next first block */
	uint64_t bytes;  /* from the head's first byte on, commands included */
	uint64_t unsent; /* from the cursor on */
};

/* Bodies of at least this size are queued by reference. */
enum { OUTQ_BY_REFERENCE = 4096 };

enum { OUTQ_COMMANDS_MAX = 64, OUTQ_COMMAND_MAX = 32 };

/* An empty queue. */
void outq_init(struct outq *q);

/* Drop everything and free it; the queue is empty then, and can be used again. */
void outq_fini(struct outq *q, struct outq_env *env);

/* True when nothing is queued, not even a part of a message. */
static inline bool
outq_empty(const struct outq *q)
{
	return q->bytes == 0;
}

/*
 * Append a message: prefix[prefix_len] (up to 300 bytes), then the message without its first `skip`
 * bytes. A rope is emptied in any case. False: no memory, and nothing was appended.
 */
bool outq_push(struct outq *q, struct outq_env *env, const uint8_t *prefix, size_t prefix_len,
	struct message *message, size_t skip);

/* Append a command, whose whole frame is data[len]. False: no memory. */
bool outq_push_command(struct outq *q, struct outq_env *env, const uint8_t *data, size_t len);

/*
 * Append bytes of a message that is not complete yet; by reference if they lie in a `chunk` that is
 * not NULL. False: no memory.
 */
bool outq_append(
	struct outq *q, struct outq_env *env, const uint8_t *data, size_t len, struct chunk *chunk);

/*
 * Reserve space for bytes that are read directly into the queue: at least 1 and
 * at most `want` bytes at *out. Returns how many, 0 when there is no memory.
 * outq_commit appends the first `n` of them; nothing else may be called between
 * the two.
 */
size_t outq_reserve(struct outq *q, struct outq_env *env, size_t want, uint8_t **out);
void outq_commit(struct outq *q, size_t n);

/* Copy the first bytes of the queue, at most `want`, to `out`. Returns how many. */
size_t outq_copy(const struct outq *q, uint8_t *out, size_t want);

/* The bytes that were appended last complete a message. */
void outq_end_message(struct outq *q);

/* View the first message, which is complete, as a message that is a rope. */
struct message outq_as_message(struct outq *q);

/*
 * Move the first message, whole and from its first byte, to the tail of `to`.
 * Commands before it are dropped. Returns its size; 0: there is no message, or no
 * memory, and nothing changed.
 */
uint64_t outq_move(struct outq *to, struct outq *from, struct outq_env *env);

/*
 * Append a copy of the first message of `from` to `to`, which shares its large parts. Returns its
 * size, 0 when there is no message or no memory.
 */
uint64_t outq_share(struct outq *to, const struct outq *from, struct outq_env *env);

/* Drop the first message and commands before it. False: there is no message. */
bool outq_drop(struct outq *q, struct outq_env *env);

/* Returns the wire size of the first complete message (0: none); *p: its first *len bytes. */
uint64_t outq_peek(const struct outq *q, const uint8_t **p, size_t *len);

/* Fill up to `max` entries with the bytes from the cursor on. Returns how many; *total: bytes. */
int outq_iov(const struct outq *q, struct iovec *iov, int max, size_t *total);

/* The units that a write consumed, or that a cut dropped. */
struct outq_progress {
	uint32_t messages; /* whole ones */
	uint32_t commands;
	uint64_t command_bytes; /* of those commands */
	uint64_t left;          /* bytes of the unit that was cut, 0 at a boundary */
	/* env->now_ns when the oldest message came; those in its block count as old */
	uint64_t since;
};

/* `n` bytes from the cursor on were handed to the kernel: free the units that are out. */
struct outq_progress outq_consume(struct outq *q, struct outq_env *env, size_t n);

/*
 * Drop the units of which the kernel has no byte: all of them, or those after the one that is
 * partly out. Returns what they were; `left` is not set.
 */
struct outq_progress outq_cut(struct outq *q, struct outq_env *env);

/* Copies of queued commands: PINGs, PONGs and the like. */
struct outq_commands {
	uint32_t count;
	uint8_t sizes[OUTQ_COMMANDS_MAX];
	uint8_t bytes[OUTQ_COMMANDS_MAX][OUTQ_COMMAND_MAX];
};

/*
 * Copy the commands that outq_cut would drop, in order, except those that are too long or too many.
 */
void outq_copy_commands(const struct outq *q, struct outq_commands *out);

/*
 * Drop everything. Returns what it was. Takes a step for each unit if commands are among them, and
 * one for each block otherwise.
 */
struct outq_progress outq_clear(struct outq *q, struct outq_env *env);

/*
 * Move everything in `from`, which holds whole units only, to the tail of `to`: commands too, and a
 * unit that is partly out from its first byte on. Takes constant time and cannot fail; `from` is
 * empty afterwards.
 */
void outq_splice(struct outq *to, struct outq *from);

/*
 * Drop all commands of a queue that holds whole units only. The cursor is at the head afterwards.
 * Takes a step for each message only in blocks that have commands. False: no memory, and some
 * commands are left.
 */
bool outq_drop_commands(struct outq *q, struct outq_env *env);

/*
 * A chunk that queues took by reference (message.chunk; chunk->counted is set): no queue refers to
 * it any more, and it no longer counts as memory of queues.
 */
void outq_uncount(struct outq_env *env, struct chunk *chunk);

/*
 * An estimate of the memory that the queue takes: its bytes, their marks, and the free capacity of
 * its last block. Chunks that it shares with other queues count in full.
 */
size_t outq_cost(const struct outq *q);

/* Assert the queue's invariants; for tests, fuzzers and simulation. */
void outq_check(const struct outq *q);

/* Call `each` for every reference of the queue to a chunk; for the same users. */
void outq_each_chunk(const struct outq *q, void (*each)(void *arg, struct chunk *chunk), void *arg);

#endif
