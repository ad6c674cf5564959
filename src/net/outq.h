/* SPDX-License-Identifier: MIT */
/*
 * A queue of messages in wire image, ready for writev. It serves for what
 * waits to be sent to a peer, for what was read ahead from one, and for the
 * one message that is still being read.
 *
 *   block         block                       block
 *   [m1|m2|m3|m4..|  ] -> [....large body....] -> [|m5|m6|          ]
 *    ^     ^       marks: where each message ends, growing down from the
 *    head  cursor         end of the block's own bytes
 *
 * Small messages are copied into the tail block: one memcpy, no allocation of
 * their own. Large bodies stay in the chunk that they were read into and are
 * queued by reference. What is queued is never changed.
 *
 * `head` is where the first message begins that is not wholly consumed;
 * `cursor` is how far it was handed to the kernel. The bytes between stay, so
 * that a message whose write was cancelled can be moved to another queue whole.
 *
 * A unit is a message or a command; commands are not counted as messages and
 * are left behind when messages move.
 */
#ifndef BULKHEAD_NET_OUTQ_H
#define BULKHEAD_NET_OUTQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/chunk.h"
#include "base/mem.h"

/* What all queues of one loop share. */
struct outq_env {
	struct chunk_pool pool;
	struct mem_account memory; /* what all queues cost: their chunks, each once */
	uint64_t now_ns;           /* the time of this turn: when what is queued now came */
};

struct outq_block;

struct outq {
	struct outq_block *first, *last;
	struct outq_block *cursor_block; /* NULL: at the end of all bytes */
	uint32_t cursor;                 /* offset into it */
	uint32_t messages;               /* complete ones */
	uint32_t commands;               /* complete ones */
	uint32_t grown;  /* about what it held at most, lately: its first block's size */
	uint64_t bytes;  /* from the head's first byte on, commands included */
	uint64_t unsent; /* from the cursor on */
};

/*
 * A complete message as it travels through the broker: contiguous in a read
 * buffer, or, when it came in pieces, alone in a queue of its own.
 */
struct message {
	const uint8_t *p;    /* the first `len` bytes; all of it unless rope is set */
	size_t len;          /* contiguous bytes at p */
	size_t size;         /* the whole wire image */
	struct outq *rope;   /* NULL, or the queue that holds just this message */
	struct chunk *chunk; /* NULL, or the chunk that p lies in: it may be queued by reference */
};

/* Bodies of at least this size are queued by reference. */
enum { OUTQ_BY_REFERENCE = 4096 };

enum { OUTQ_COMMANDS_MAX = 64, OUTQ_COMMAND_MAX = 32 };

void outq_init(struct outq *q);

/* Drop everything. */
void outq_fini(struct outq *q, struct outq_env *env);

static inline bool
outq_empty(const struct outq *q)
{
	return q->bytes == 0;
}

/*
 * Append a message: prefix[prefix_len] (up to 300 bytes), then the message without its first `skip`
 * bytes. A rope is emptied in any case. Returns false when there is no memory: then nothing was
 * appended.
 */
bool outq_push(struct outq *q, struct outq_env *env, const uint8_t *prefix, size_t prefix_len,
	struct message *message, size_t skip);

/* Append a command, data[len] being its whole frame. False: no memory. */
bool outq_push_command(struct outq *q, struct outq_env *env, const uint8_t *data, size_t len);

/*
 * Append bytes of a message that is not complete yet; by reference when `chunk`, in which they
 * lie, is not NULL. False: no memory.
 */
bool outq_append(
	struct outq *q, struct outq_env *env, const uint8_t *data, size_t len, struct chunk *chunk);

/*
 * Room for bytes that are read directly into the queue: at least 1 and at most
 * `want` bytes at *out. Returns how many, 0 when there is no memory.
 * outq_commit appends the `n` that came; nothing else may be called between.
 */
size_t outq_reserve(struct outq *q, struct outq_env *env, size_t want, uint8_t **out);
void outq_commit(struct outq *q, size_t n);

/* Copy the first bytes of the queue, at most `want`, to `out`. Returns how many. */
size_t outq_copy(const struct outq *q, uint8_t *out, size_t want);

/* What was appended last completes a message. */
void outq_end_message(struct outq *q);

/* View the first message, which is complete, as a message that is a rope. */
struct message outq_as_message(struct outq *q);

/*
 * The first bytes of a message in one piece: a pointer into the message where
 * they lie together, otherwise to buf, where up to `want` bytes are gathered.
 * *len: how many there are, at least min(want, message->size).
 */
const uint8_t *outq_front(const struct message *message, uint8_t *buf, size_t want, size_t *len);

/*
 * The pieces that a message lies in, one after the other: `at` is all zero before the first.
 * Returns the piece, *len bytes, or NULL after the last one.
 */
struct outq_at {
	const struct outq_block *block, *end;
	uint32_t offset, stop;
	bool begun;
};
const uint8_t *outq_piece(const struct message *message, struct outq_at *at, size_t *len);

/*
 * Move the first message, whole and from its first byte, to the tail of `to`.
 * Commands before it are dropped. Returns its size, 0 when there is no message
 * or no memory (then it stays).
 */
uint64_t outq_move(struct outq *to, struct outq *from, struct outq_env *env);

/*
 * Append the first message of `from` to `to` and leave it where it is; large parts of it are
 * shared. Returns its size, 0 when there is no message or no memory.
 */
uint64_t outq_share(struct outq *to, const struct outq *from, struct outq_env *env);

/* Drop the first message and commands before it. Returns false when there is none. */
bool outq_drop(struct outq *q, struct outq_env *env);

/* Wire size of the first complete message (0: none); its first *len bytes are at *p. */
uint64_t outq_peek(const struct outq *q, const uint8_t **p, size_t *len);

/* Fill up to `max` entries with what is to be written. Returns how many; *total: their bytes. */
int outq_iov(const struct outq *q, struct iovec *iov, int max, size_t *total);

/* What a write, or a cut, came to. */
struct outq_progress {
	uint32_t messages; /* whole ones that are out now */
	uint32_t commands;
	uint64_t command_bytes; /* of those commands */
	uint64_t left;          /* bytes of the unit that was cut, 0 at a boundary */
	/* env->now_ns of when the oldest of it came; of later ones in its block, too */
	uint64_t since;
};

/* `n` bytes from the cursor on were handed to the kernel: free what is done with. */
struct outq_progress outq_consume(struct outq *q, struct outq_env *env, size_t n);

/*
 * Drop what the kernel has no byte of: all units behind the one that is partly out, if one is.
 * Returns what they were; `left` means nothing here.
 */
struct outq_progress outq_cut(struct outq *q, struct outq_env *env);

/* PINGs, PONGs and the like. */
struct outq_commands {
	uint32_t count;
	uint8_t sizes[OUTQ_COMMANDS_MAX];
	uint8_t bytes[OUTQ_COMMANDS_MAX][OUTQ_COMMAND_MAX];
};

/*
 * Copy the commands that outq_cut would drop, in their order; those that are too long, or too many,
 * are left out.
 */
void outq_copy_commands(const struct outq *q, struct outq_commands *out);

/*
 * Drop everything. Returns what it was. A step for each unit only when there are commands among
 * them.
 */
struct outq_progress outq_clear(struct outq *q, struct outq_env *env);

/*
 * Move all of `from` to the tail of `to`, as it is: commands among it, and from its first byte on a
 * unit that is partly out. Costs the same however much it is, and cannot fail. `from`, which holds
 * whole units only, is empty afterwards.
 */
void outq_splice(struct outq *to, struct outq *from);

/*
 * Take all commands out; nothing of what is left counts as handed to the kernel any more. A step
 * for each message only in blocks that have commands. False: no memory, and some are left. Only for
 * a queue of whole units.
 */
bool outq_drop_commands(struct outq *q, struct outq_env *env);

/*
 * A chunk that was offered to queues by reference (message.chunk), and that `counted` says of that
 * they took it: no queue refers to it any more, and it is used for something else again.
 */
void outq_uncount(struct outq_env *env, struct chunk *chunk);

/*
 * About what the queue costs: its bytes, their bookkeeping, and what its last chunk still has room
 * for. Chunks that it shares with others are part of it.
 */
size_t outq_cost(const struct outq *q);

/* Assert that all that is said above holds; for tests, fuzzers and simulation. */
void outq_check(const struct outq *q);

/* Calls `each` for every chunk that the queue refers to, as often as it does; likewise. */
void outq_each_chunk(const struct outq *q, void (*each)(void *arg, struct chunk *chunk), void *arg);

#endif
