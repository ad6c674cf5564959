/* SPDX-License-Identifier: MIT */
#include "net/outq_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Fills a chunk of 16 KiB, to the last byte. */
enum { GROWN_MAX = 16384 - sizeof(struct chunk) - sizeof(struct outq_block) - 4 };

/* As much as the largest chunk holds: a larger reservation would get a chunk outside the pool. */
enum { RESERVE_MAX = 262144 };

void
outq_init(struct outq *q)
{
	*q = (struct outq){0};
}

/* A chunk is counted once, however many queues refer to it. */
static inline void
count_chunk(struct outq_env *env, struct chunk *chunk)
{
	chunk->counted = true;
	env->memory.used += chunk_cost(chunk);
}

void
outq_uncount(struct outq_env *env, struct chunk *chunk)
{
	chunk->counted = false;
	env->memory.used -= chunk_cost(chunk);
}

static inline void
drop_chunk(struct outq_env *env, struct chunk *chunk)
{
	if (!chunk_drop(chunk))
		return;
	env->memory.used -= chunk_cost(chunk);
	chunk_put_back(&env->pool, chunk);
}

struct outq_block *
outq_block_new(struct outq_env *env, size_t want)
{
	struct chunk *chunk = chunk_new(&env->pool, sizeof(struct outq_block) + want + 4);
	struct outq_block *b;

	if (chunk == NULL)
		return NULL;
	count_chunk(env, chunk);
	b = (struct outq_block *)(void *)chunk->data;
	*b = (struct outq_block){
		.chunk = chunk, .size = chunk->size - (uint32_t)sizeof(*b), .since = env->now_ns};
	b->bytes = block_own_bytes(b);
	return b;
}

void
outq_block_free(struct outq_env *env, struct outq_block *b)
{
	if (b->borrowed != NULL)
		drop_chunk(env, b->borrowed);
	drop_chunk(env, b->chunk);
}

static void
link_block(struct outq *q, struct outq_block *b)
{
	if (q->last != NULL)
		q->last->next = b;
	else
		q->first = b;
	q->last = b;
}

void
outq_fini(struct outq *q, struct outq_env *env)
{
	uint32_t used = 0, grown = q->grown;

	for (struct outq_block *b = q->first, *next; b != NULL; b = next) {
		next = b->next;
		if (b->borrowed == NULL)
			used += b->len + 4 * b->marks;
		outq_block_free(env, b);
	}
	outq_init(q);
	q->grown = used > grown ? used : grown - (grown - used) / 8;
}

/*
 * Adds a tail block. An empty queue starts with the size that it needed before, since most peers
 * hold one small message at a time; a growing queue gets larger and larger blocks.
 */
static struct outq_block *
add_block(struct outq *q, struct outq_env *env, size_t want)
{
	size_t grown = q->last == NULL ? q->grown : (size_t)q->last->size * 4;
	struct outq_block *b;

	if (grown > GROWN_MAX)
		grown = GROWN_MAX;
	b = outq_block_new(env, want > grown ? want : grown);
	if (b != NULL)
		link_block(q, b);
	return b;
}

static void
append(struct outq *q, size_t n)
{
	/* a cursor at the end of all bytes moves to the first new byte */
	if (q->cursor_block == NULL && n > 0) {
		q->cursor_block = q->last;
		q->cursor = q->last->len;
	}
	q->last->len += (uint32_t)n;
	q->bytes += n;
	q->unsent += n;
}

/* Copies data to the tail. False: no memory, and some of it may have been appended. */
static bool
copy_in(struct outq *q, struct outq_env *env, const uint8_t *data, size_t len)
{
	while (len > 0) {
		size_t n = q->last != NULL ? block_capacity(q->last) : 0;

		if (n == 0) {
			if (add_block(q, env, len) == NULL)
				return false;
			continue;
		}
		if (n > len)
			n = len;
		memcpy(block_own_bytes(q->last) + q->last->len, data, n);
		append(q, n);
		data += n;
		len -= n;
	}
	return true;
}

/* Appends bytes[len] of `chunk`, one reference to which it takes over. False: no memory. */
static bool
link_in(struct outq *q, struct outq_env *env, struct chunk *chunk, const uint8_t *bytes, size_t len)
{
	struct outq_block *b = outq_block_new(env, 0);

	if (b == NULL)
		return false;
	b->borrowed = chunk;
	if (!chunk->counted)
		count_chunk(env, chunk);
	b->bytes = bytes;
	link_block(q, b);
	append(q, len);
	return true;
}

/* Where the queue ends, so that a push that runs out of memory can be undone. */
struct tail {
	struct outq_block *last;
	uint32_t len;
	uint64_t bytes;
	bool at_end;
};

static struct tail
tail_save(const struct outq *q)
{
	return (struct tail){
		q->last, q->last != NULL ? q->last->len : 0, q->bytes, q->cursor_block == NULL};
}

static void
tail_restore(struct outq *q, struct outq_env *env, struct tail t)
{
	struct outq_block *b = t.last != NULL ? t.last->next : q->first;

	for (struct outq_block *next; b != NULL; b = next) {
		next = b->next;
		outq_block_free(env, b);
	}
	q->last = t.last;
	if (t.last != NULL) {
		t.last->next = NULL;
		t.last->len = t.len;
	} else {
		q->first = NULL;
	}
	q->unsent -= q->bytes - t.bytes;
	q->bytes = t.bytes;
	if (t.at_end)
		q->cursor_block = NULL;
}

/* Ends a unit. The mark always fits: block_capacity() keeps four bytes back. */
static void
mark_end(struct outq *q, uint32_t flag)
{
	struct outq_block *b = q->last;

	*block_mark(b, b->marks++) = b->len | flag;
	if (flag) {
		q->commands++;
		b->commands = true;
	} else {
		q->messages++;
	}
}

/* Appends bytes of a chunk by reference. */
static bool
refer_to(struct outq *q, struct outq_env *env, struct chunk *chunk, const uint8_t *data, size_t len)
{
	chunk->refs++;
	if (link_in(q, env, chunk, data, len))
		return true;
	chunk->refs--; /* the caller has another reference */
	return false;
}

bool
outq_append(
	struct outq *q, struct outq_env *env, const uint8_t *data, size_t len, struct chunk *chunk)
{
	struct tail t;

	if (chunk != NULL)
		return refer_to(q, env, chunk, data, len);
	t = tail_save(q);
	if (copy_in(q, env, data, len))
		return true;
	tail_restore(q, env, t);
	return false;
}

void
outq_end_message(struct outq *q)
{
	mark_end(q, 0);
}

bool
outq_push_command(struct outq *q, struct outq_env *env, const uint8_t *data, size_t len)
{
	if (!outq_append(q, env, data, len, NULL))
		return false;
	mark_end(q, MARK_COMMAND);
	return true;
}

size_t
outq_reserve(struct outq *q, struct outq_env *env, size_t want, uint8_t **out)
{
	size_t n = q->last != NULL ? block_capacity(q->last) : 0;

	assert(want > 0);
	if (want > RESERVE_MAX)
		want = RESERVE_MAX;
	/*
	 * A body that will be queued by reference gets blocks of its own, as large as possible. The
	 * rest of the last block would make for small reads; but an empty block must not be left
	 * before the new one, either.
	 */
	if (n < want / 4 || n == 0) {
		struct outq_block *b = outq_block_new(env, want);
		if (b == NULL)
			return 0;
		link_block(q, b);
		n = block_capacity(b);
	}
	*out = block_own_bytes(q->last) + q->last->len;
	return n < want ? n : want;
}

void
outq_commit(struct outq *q, size_t n)
{
	append(q, n);
}

uint64_t
outq_peek(const struct outq *q, const uint8_t **p, size_t *len)
{
	struct walk from, to;
	uint64_t size = walk_to_message(q, &from, &to);

	if (size == 0)
		return 0;
	/* it may begin after the last byte of a block, or of several empty ones */
	while (from.offset == from.block->len) {
		from.block = from.block->next;
		from.offset = from.block->begin;
	}
	*p = from.block->bytes + from.offset;
	*len = from.block == to.block ? to.offset - from.offset : from.block->len - from.offset;
	return size;
}

struct message
outq_as_message(struct outq *q)
{
	struct message m = {.rope = q};

	m.size = (size_t)outq_peek(q, &m.p, &m.len);
	return m;
}

/*
 * Moves the head to `w`. Blocks that end before it are freed; a cursor before it
 * moves along.
 */
static void
advance_head(struct outq *q, struct outq_env *env, struct walk w)
{
	bool cursor_behind = false;
	uint64_t gone = 0;

	while (q->first != w.block) {
		struct outq_block *b = q->first;
		gone += b->len - b->begin;
		cursor_behind |= q->cursor_block == b;
		if (q->cursor_block == b)
			q->unsent -= b->len - q->cursor;
		else if (cursor_behind)
			q->unsent -= b->len - b->begin;
		q->first = b->next;
		outq_block_free(env, b);
	}
	if (q->first == NULL) {
		q->last = q->cursor_block = NULL;
	} else {
		struct outq_block *b = q->first;
		gone += w.offset - b->begin;
		if (cursor_behind) {
			q->unsent -= w.offset - b->begin;
			q->cursor_block = b;
			q->cursor = w.offset;
		} else if (q->cursor_block == b && q->cursor < w.offset) {
			q->unsent -= w.offset - q->cursor;
			q->cursor = w.offset;
		}
		b->begin = w.offset;
		b->first_mark = w.mark;
	}
	q->bytes -= gone;
	if (q->bytes == 0)
		outq_fini(q, env);
}

/* Subtracts the units up to `to`, the last of which is a message, from the counts. */
static void
uncount(struct outq *q, const struct walk *to)
{
	struct walk w = walk_start(q);
	uint32_t flag = 0;

	do {
		walk_unit(&w, &flag);
		if (flag)
			q->commands--;
		else
			q->messages--;
	} while (w.block != to->block || w.mark != to->mark);
}

bool
outq_drop(struct outq *q, struct outq_env *env)
{
	struct walk from, to;

	if (walk_to_message(q, &from, &to) == 0)
		return false;
	uncount(q, &to);
	advance_head(q, env, to);
	return true;
}

/* Appends bytes[n] of block b: by reference when that pays, copied otherwise. */
static bool
transfer(struct outq *to, struct outq_env *env, struct outq_block *b, uint32_t offset, size_t n)
{
	struct chunk *chunk = b->borrowed != NULL ? b->borrowed : b->chunk;

	if (n < OUTQ_BY_REFERENCE)
		return copy_in(to, env, b->bytes + offset, n);
	return refer_to(to, env, chunk, b->bytes + offset, n);
}

/* Appends the bytes from `w` to `end`, except the first `skip`. */
static bool
transfer_range(struct outq *to, struct outq_env *env, struct walk w, struct walk end, size_t skip)
{
	for (; w.block != NULL; w.block = w.block->next, w.offset = w.block ? w.block->begin : 0) {
		uint32_t stop = w.block == end.block ? end.offset : w.block->len;
		size_t n = stop - w.offset, cut = skip < n ? skip : n;

		skip -= cut;
		if (n > cut && !transfer(to, env, w.block, w.offset + (uint32_t)cut, n - cut))
			return false;
		if (w.block == end.block)
			return true;
	}
	return true;
}

/* A message keeps its age when it moves: the blocks after `last` begin with it. */
static void
keep_age(struct outq *q, struct outq_block *last, uint64_t since)
{
	for (struct outq_block *b = last != NULL ? last->next : q->first; b != NULL; b = b->next)
		b->since = since;
}

/*
 * Appends the first message of `from`, which ends at *end. Returns its size, 0: none, or no memory.
 */
static uint64_t
append_first(struct outq *to, const struct outq *from, struct outq_env *env, struct walk *end)
{
	struct tail t = tail_save(to);
	struct walk begin;
	uint64_t size = walk_to_message(from, &begin, end);

	if (size == 0)
		return 0;
	if (!transfer_range(to, env, begin, *end, 0)) {
		tail_restore(to, env, t);
		return 0;
	}
	mark_end(to, 0);
	keep_age(to, t.last, from->first->since);
	return size;
}

uint64_t
outq_share(struct outq *to, const struct outq *from, struct outq_env *env)
{
	struct walk end;

	return append_first(to, from, env, &end);
}

uint64_t
outq_move(struct outq *to, struct outq *from, struct outq_env *env)
{
	struct walk end;
	uint64_t size = append_first(to, from, env, &end);

	if (size == 0)
		return 0;
	uncount(from, &end);
	advance_head(from, env, end);
	return size;
}

/* Up to 16 bytes without a call: the envelope before a request is rarely longer. */
static void
copy_prefix(uint8_t *to, const uint8_t *from, size_t n)
{
	if (n >= 8 && n <= 16) {
		memcpy(to, from, 8);
		memcpy(to + n - 8, from + n - 8, 8);
	} else if (n >= 4 && n < 8) {
		memcpy(to, from, 4);
		memcpy(to + n - 4, from + n - 4, 4);
	} else if (n > 0) {
		memcpy(to, from, n);
	}
}

/* The usual case: the message fits into the last block. */
static bool
push_small(struct outq *q, struct outq_env *env, const uint8_t *prefix, size_t prefix_len,
	const struct message *message, size_t skip)
{
	size_t len = message->len - skip;
	uint8_t *to;

	if (q->last == NULL &&
		(prefix_len + len > OUTQ_BY_REFERENCE ||
			add_block(q, env, prefix_len + len) == NULL))
		return false;
	if (block_capacity(q->last) < prefix_len + len)
		return false;
	to = block_own_bytes(q->last) + q->last->len;
	copy_prefix(to, prefix, prefix_len);
	memcpy(to + prefix_len, message->p + skip, len);
	append(q, prefix_len + len);
	mark_end(q, 0);
	return true;
}

/* The other cases: the block is full, the message is large, or it came in pieces. */
static bool __attribute__((noinline)) push_any(struct outq *q, struct outq_env *env,
	const uint8_t *prefix, size_t prefix_len, struct message *message, size_t skip)
{
	struct tail t = tail_save(q);
	struct walk begin, end;
	bool ok;

	ok = copy_in(q, env, prefix, prefix_len);
	if (message->chunk != NULL) {
		ok = ok && refer_to(q, env, message->chunk, message->p + skip, message->len - skip);
	} else if (message->rope == NULL) {
		ok = ok && copy_in(q, env, message->p + skip, message->len - skip);
	} else {
		walk_to_message(message->rope, &begin, &end);
		ok = ok && transfer_range(q, env, begin, end, skip);
		outq_drop(message->rope, env);
	}
	if (!ok) {
		tail_restore(q, env, t);
		return false;
	}
	mark_end(q, 0);
	return true;
}

bool
outq_push(struct outq *q, struct outq_env *env, const uint8_t *prefix, size_t prefix_len,
	struct message *message, size_t skip)
{
	assert(skip <= message->size && prefix_len + message->size > skip);
	return (message->rope == NULL && message->chunk == NULL &&
		       push_small(q, env, prefix, prefix_len, message, skip)) ||
		push_any(q, env, prefix, prefix_len, message, skip);
}

/* --- writing -------------------------------------------------------------- */

int
outq_iov(const struct outq *q, struct iovec *iov, int max, size_t *total)
{
	int n = 0;

	*total = 0;
	for (struct outq_block *b = q->cursor_block; b != NULL && n < max; b = b->next) {
		uint32_t from = b == q->cursor_block ? q->cursor : b->begin;
		if (b->len == from)
			continue;
		/* writev takes a pointer to what it only reads */
		iov[n].iov_base = (void *)(uintptr_t)(b->bytes + from);
		iov[n].iov_len = b->len - from;
		*total += iov[n++].iov_len;
	}
	return n;
}

/* Moves the cursor over n bytes. */
static void
advance_cursor(struct outq *q, size_t n)
{
	q->unsent -= n;
	while (q->cursor_block != NULL) {
		uint32_t rest = q->cursor_block->len - q->cursor;
		if (n < rest) {
			q->cursor += (uint32_t)n;
			return;
		}
		n -= rest;
		q->cursor_block = q->cursor_block->next;
		q->cursor = q->cursor_block != NULL ? q->cursor_block->begin : 0;
	}
}

/* Is the last byte that of a unit? */
static bool
ends_whole(const struct outq *q)
{
	const struct outq_block *b = q->last;

	return b != NULL && b->marks > b->first_mark &&
		block_mark_offset(b, b->marks - 1) == b->len;
}

struct outq_progress
outq_consume(struct outq *q, struct outq_env *env, size_t n)
{
	struct outq_progress done = {0};
	struct walk w, at;
	uint32_t flag = 0;
	uint64_t size, rest;

	done.since = q->first != NULL ? q->first->since : 0;
	if (n == q->unsent && q->commands == 0 && ends_whole(q)) {
		done.messages = q->messages;
		outq_fini(q, env);
		return done;
	}
	advance_cursor(q, n);
	rest = q->bytes - q->unsent; /* bytes that are out, from the head on */
	w = at = walk_start(q);
	while (rest > 0 && (size = walk_unit(&w, &flag)) > 0) {
		if (size > rest) {
			done.left = size - rest;
			break;
		}
		rest -= size;
		at = w;
		if (flag) {
			done.commands++;
			done.command_bytes += size;
		} else {
			done.messages++;
		}
	}
	q->messages -= done.messages;
	q->commands -= done.commands;
	if (done.messages + done.commands > 0)
		advance_head(q, env, at);
	return done;
}
