/* SPDX-License-Identifier: MIT */
#include "net/outq.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/*
 * One block is one chunk. The queue's own small messages are the bytes of the
 * chunk itself (`borrowed` is NULL); a large body is borrowed from the chunk it
 * was read into, and this block's chunk holds the node and its marks alone.
 */
struct outq_block {
	struct outq_block *next;
	struct chunk *chunk;    /* where this very struct lives */
	struct chunk *borrowed; /* a reference to the chunk of a large body */
	const uint8_t *bytes;
	uint32_t size;       /* of the block's own bytes, marks included */
	uint32_t begin;      /* first byte that is kept */
	uint32_t len;        /* bytes filled */
	uint32_t marks;      /* units that end in this block ... */
	uint32_t first_mark; /* ... of which this many are gone */
	bool commands;       /* some of them may be commands; else none is */
	uint64_t since;      /* when what it begins with came */
};

/* Fills a chunk of 16 KiB, to the last byte. */
enum { GROWN_MAX = 16384 - sizeof(struct chunk) - sizeof(struct outq_block) - 4 };

/* As much as the largest chunk holds: whoever wants more is not to leave one behind for it. */
enum { RESERVE_MAX = 262144 };

enum { MARK_COMMAND = 1u << 31, MARK_OFFSET = MARK_COMMAND - 1 };

/* They follow this struct in the chunk. */
static uint8_t *
own_bytes(const struct outq_block *b)
{
	return (uint8_t *)(uintptr_t)(b + 1);
}

/* Marks lie in the chunk's end, growing down; chunk sizes are multiples of 8. */
static uint32_t *
mark_at(const struct outq_block *b, uint32_t i)
{
	return (uint32_t *)(void *)(own_bytes(b) + b->size) - 1 - i;
}

static uint32_t
mark_offset(const struct outq_block *b, uint32_t i)
{
	return *mark_at(b, i) & MARK_OFFSET;
}

/* Bytes that can still be filled when one more mark must fit as well. */
static uint32_t
room(const struct outq_block *b)
{
	uint32_t used = b->len + 4 * (b->marks + 1);

	if (b->borrowed != NULL)
		return 0;
	return used < b->size ? b->size - used : 0;
}

void
outq_init(struct outq *q)
{
	*q = (struct outq){0};
}

/* The account has each chunk once, however many queues refer to it. */
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

static struct outq_block *
block_new(struct outq_env *env, size_t want)
{
	struct chunk *chunk = chunk_new(&env->pool, sizeof(struct outq_block) + want + 4);
	struct outq_block *b;

	if (chunk == NULL)
		return NULL;
	count_chunk(env, chunk);
	b = (struct outq_block *)(void *)chunk->data;
	*b = (struct outq_block){
		.chunk = chunk, .size = chunk->size - (uint32_t)sizeof(*b), .since = env->now_ns};
	b->bytes = own_bytes(b);
	return b;
}

static void
block_free(struct outq_env *env, struct outq_block *b)
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
		block_free(env, b);
	}
	outq_init(q);
	q->grown = used > grown ? used : grown - (grown - used) / 8;
}

/*
 * A new tail block. A queue that was empty starts with what it needed before: most peers hold one
 * small message at a time. One that grows gets large blocks.
 */
static struct outq_block *
add_block(struct outq *q, struct outq_env *env, size_t want)
{
	size_t grown = q->last == NULL ? q->grown : (size_t)q->last->size * 4;
	struct outq_block *b;

	if (grown > GROWN_MAX)
		grown = GROWN_MAX;
	b = block_new(env, want > grown ? want : grown);
	if (b != NULL)
		link_block(q, b);
	return b;
}

static void
append(struct outq *q, size_t n)
{
	/* a cursor that had caught up stands at the first new byte */
	if (q->cursor_block == NULL && n > 0) {
		q->cursor_block = q->last;
		q->cursor = q->last->len;
	}
	q->last->len += (uint32_t)n;
	q->bytes += n;
	q->unsent += n;
}

/* Copies data to the tail. The caller made sure by ensure() that nothing fails. */
static bool
copy_in(struct outq *q, struct outq_env *env, const uint8_t *data, size_t len)
{
	while (len > 0) {
		size_t n = q->last != NULL ? room(q->last) : 0;

		if (n == 0) {
			if (add_block(q, env, len) == NULL)
				return false;
			continue;
		}
		if (n > len)
			n = len;
		memcpy(own_bytes(q->last) + q->last->len, data, n);
		append(q, n);
		data += n;
		len -= n;
	}
	return true;
}

/* Takes over one reference to `chunk`, which holds bytes[len]. */
static bool
link_in(struct outq *q, struct outq_env *env, struct chunk *chunk, const uint8_t *bytes, size_t len)
{
	struct outq_block *b = block_new(env, 0);

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

/* Where the queue's end stands, to be able to take back a push that ran out of memory. */
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
		block_free(env, b);
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

/* A block that has no room for a mark never gets to be asked: room() keeps four bytes back. */
static void
mark_end(struct outq *q, uint32_t flag)
{
	struct outq_block *b = q->last;

	*mark_at(b, b->marks++) = b->len | flag;
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
	chunk->refs--; /* whoever offers it has one, too */
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
	size_t n = q->last != NULL ? room(q->last) : 0;

	assert(want > 0);
	if (want > RESERVE_MAX)
		want = RESERVE_MAX;
	/*
	 * A body that will be queued by reference gets blocks of its own, as large as they come.
	 * The end of one would make for small reads; but what is empty must not be left behind,
	 * either.
	 */
	if (n < want / 4 || n == 0) {
		struct outq_block *b = block_new(env, want);
		if (b == NULL)
			return 0;
		link_block(q, b);
		n = room(b);
	}
	*out = own_bytes(q->last) + q->last->len;
	return n < want ? n : want;
}

void
outq_commit(struct outq *q, size_t n)
{
	append(q, n);
}

/* --- walking -------------------------------------------------------------- */

/* A place in a queue, on its way over whole units. */
struct walk {
	struct outq_block *block;
	uint32_t offset;
	uint32_t mark;
};

static struct walk
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
 * Steps to the end of the unit at w. Returns its size, 0 when it is not
 * complete; *flag says whether it is a command.
 */
static uint64_t
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
	*flag = *mark_at(w->block, w->mark) & MARK_COMMAND;
	size += mark_offset(w->block, w->mark) - w->offset;
	w->offset = mark_offset(w->block, w->mark);
	w->mark++;
	return size;
}

/*
 * From a boundary of units over the messages that end in the next block, when no command does: as
 * many as that are, at once. 0: there may be commands in it, or there is none.
 */
static uint32_t
walk_messages(struct walk *w)
{
	struct outq_block *b = w->block;
	uint32_t mark = w->mark, count;

	while (b != NULL && mark == b->marks) {
		b = b->next;
		mark = b != NULL ? b->first_mark : 0;
	}
	if (b == NULL || b->commands)
		return 0;
	count = b->marks - mark;
	*w = (struct walk){b, mark_offset(b, b->marks - 1), b->marks};
	return count;
}

/* The first message, commands before it passed over. Returns its size; *from: where it begins. */
static uint64_t
find_message(const struct outq *q, struct walk *from, struct walk *to)
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

uint64_t
outq_peek(const struct outq *q, const uint8_t **p, size_t *len)
{
	struct walk from, to;
	uint64_t size = find_message(q, &from, &to);

	if (size == 0)
		return 0;
	/*
	 * it may begin right behind the last byte of a block, or of one that nothing was read into
	 */
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

const uint8_t *
outq_front(const struct message *message, uint8_t *buf, size_t want, size_t *len)
{
	struct walk w, end;

	*len = message->len;
	if (message->rope == NULL || message->len >= want || message->len >= message->size)
		return message->p;
	*len = 0;
	find_message(message->rope, &w, &end);
	for (; w.block != NULL && *len < want;
		w.block = w.block->next, w.offset = w.block != NULL ? w.block->begin : 0) {
		uint32_t stop = w.block == end.block ? end.offset : w.block->len;
		size_t n = stop - w.offset;

		if (n > want - *len)
			n = want - *len;
		if (n > 0)
			memcpy(buf + *len, w.block->bytes + w.offset, n);
		*len += n;
		if (w.block == end.block)
			break;
	}
	return buf;
}

static void
begin_pieces(const struct message *message, struct outq_at *at)
{
	struct walk w, end;

	find_message(message->rope, &w, &end);
	at->block = w.block;
	at->offset = w.offset;
	at->end = end.block;
	at->stop = end.offset;
}

const uint8_t *
outq_piece(const struct message *message, struct outq_at *at, size_t *len)
{
	bool begun = at->begun;

	at->begun = true;
	if (message->rope == NULL) {
		*len = message->len;
		return begun ? NULL : message->p;
	}
	if (!begun)
		begin_pieces(message, at);
	while (at->block != NULL) {
		const struct outq_block *b = at->block;
		uint32_t from = at->offset, stop = b == at->end ? at->stop : b->len;

		at->block = b != at->end ? b->next : NULL;
		at->offset = at->block != NULL ? at->block->begin : 0;
		*len = stop - from;
		if (*len > 0)
			return b->bytes + from;
	}
	return NULL;
}

size_t
outq_copy(const struct outq *q, uint8_t *out, size_t want)
{
	size_t len = 0;

	for (const struct outq_block *b = q->first; b != NULL && len < want; b = b->next) {
		size_t n = b->len - b->begin;

		if (n > want - len)
			n = want - len;
		if (n > 0)
			memcpy(out + len, b->bytes + b->begin, n);
		len += n;
	}
	return len;
}

/*
 * Everything before `w` is done with. Blocks that are wholly behind are freed;
 * the cursor never stays behind the head.
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
		block_free(env, b);
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

/* Takes the units up to `to`, the last of them a message, out of the books. */
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

	if (find_message(q, &from, &to) == 0)
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

/* Appends the bytes from `w` to `end`, the first `skip` left out. */
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

/* What was moved is no younger for that: the blocks behind `last` begin with it. */
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
	uint64_t size = find_message(from, &begin, end);

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

/* Frees everything from `w` on, which is a boundary of units that the cursor has not passed. */
static void
cut_at(struct outq *q, struct outq_env *env, struct walk w)
{
	struct outq_block *b = w.block->next;
	uint64_t gone = w.block->len - w.offset;

	for (struct outq_block *next; b != NULL; b = next) {
		next = b->next;
		gone += b->len - b->begin;
		block_free(env, b);
	}
	w.block->next = NULL;
	w.block->len = w.offset;
	w.block->marks = w.mark;
	q->last = w.block;
	if (gone == q->unsent)
		q->cursor_block = NULL;
	q->bytes -= gone;
	q->unsent -= gone;
	if (q->bytes == 0)
		outq_fini(q, env);
}

/* All units from there on. */
static struct outq_progress
count_from(struct walk w)
{
	struct outq_progress sum = {0};
	uint32_t flag = 0, messages;
	uint64_t size;

	for (;;) {
		while ((messages = walk_messages(&w)) > 0)
			sum.messages += messages;
		size = walk_unit(&w, &flag);
		if (size == 0)
			return sum;
		if (flag) {
			sum.commands++;
			sum.command_bytes += size;
		} else {
			sum.messages++;
		}
	}
}

struct outq_progress
outq_clear(struct outq *q, struct outq_env *env)
{
	struct outq_progress all = {.messages = q->messages};

	if (q->commands > 0)
		all = count_from(walk_start(q));
	outq_fini(q, env);
	return all;
}

void
outq_splice(struct outq *to, struct outq *from)
{
	if (from->first == NULL)
		return;
	if (to->cursor_block == NULL) {
		to->cursor_block = from->first;
		to->cursor = from->first->begin;
	}
	if (to->last != NULL)
		to->last->next = from->first;
	else
		to->first = from->first;
	to->last = from->last;
	to->messages += from->messages;
	to->commands += from->commands;
	to->bytes += from->bytes;
	to->unsent += from->bytes;
	outq_init(from);
}

/*
 * Makes two blocks of the one that `end` lies in: the second one has the bytes from there on, by
 * reference. False: no memory.
 */
static bool
split_block(struct outq *q, struct outq_env *env, struct walk *end)
{
	struct outq_block *b = end->block, *rest;
	uint32_t marks = b->marks - end->mark;

	rest = block_new(env, (size_t)marks * sizeof(uint32_t));
	if (rest == NULL)
		return false;
	if (b->borrowed == NULL) { /* nothing may be appended where others have bytes */
		b->borrowed = b->chunk;
		b->chunk->refs++;
	}
	rest->borrowed = b->borrowed;
	rest->borrowed->refs++;
	rest->bytes = b->bytes;
	rest->begin = end->offset;
	rest->len = b->len;
	rest->since = b->since;
	rest->commands = true;
	rest->marks = marks;
	for (uint32_t i = 0; i < marks; i++)
		*mark_at(rest, i) = *mark_at(b, end->mark + i);
	rest->next = b->next;
	b->next = rest;
	b->marks = end->mark;
	b->len = end->offset;
	if (q->last == b)
		q->last = rest;
	*end = (struct walk){rest, rest->begin, 0};
	return true;
}

/*
 * Takes out the unit between two places of a walk. Its bytes stay where others lie before and after
 * it.
 */
static bool
take_out(struct outq *q, struct outq_env *env, struct walk from, struct walk *to)
{
	struct outq_block *b = to->block;

	if (from.block == b && from.offset > b->begin) {
		if (to->offset < b->len && !split_block(q, env, to))
			return false;
		b->len = from.offset;
		b->marks--;
		if (to->block == b)
			*to = (struct walk){b, b->len, b->marks};
		return true;
	}
	if (from.block != b) {
		from.block->len = from.offset;
		for (struct outq_block *between = from.block->next; between != b;
			between = between->next)
			between->len = between->begin;
	}
	b->begin = to->offset;
	b->first_mark = to->mark;
	return true;
}

bool
outq_drop_commands(struct outq *q, struct outq_env *env)
{
	struct walk at = walk_start(q), before;
	uint32_t flag = 0;
	uint64_t size;

	if (q->first == NULL)
		return true;
	while (q->commands > 0) {
		while (walk_messages(&at) > 0)
			;
		before = at;
		size = walk_unit(&at, &flag);
		if (size == 0 || (flag && !take_out(q, env, before, &at)))
			break;
		q->commands -= flag != 0;
		q->bytes -= flag != 0 ? size : 0;
	}
	q->cursor_block = q->first;
	q->cursor = q->first->begin;
	q->unsent = q->bytes;
	if (q->bytes == 0)
		outq_fini(q, env);
	return q->commands == 0;
}

struct outq_progress
outq_cut(struct outq *q, struct outq_env *env)
{
	struct outq_progress cut;
	struct walk w = walk_start(q);
	uint32_t flag = 0;

	if (q->unsent < q->bytes)
		walk_unit(&w, &flag);
	cut = count_from(w);
	q->messages -= cut.messages;
	q->commands -= cut.commands;
	if (cut.messages + cut.commands > 0)
		cut_at(q, env, w);
	return cut;
}

/* The bytes between two places of a walk. */
static void
copy_between(const struct walk *from, const struct walk *to, uint8_t *out)
{
	const struct outq_block *b = from->block;
	uint32_t at = from->offset, end;

	for (;; b = b->next, at = b->begin) {
		end = b == to->block ? to->offset : b->len;
		memcpy(out, b->bytes + at, end - at);
		out += end - at;
		if (b == to->block)
			return;
	}
}

void
outq_copy_commands(const struct outq *q, struct outq_commands *out)
{
	struct walk at = walk_start(q), before;
	uint32_t flag = 0, left = q->commands;
	uint64_t size;

	out->count = 0;
	if (left > 0 && q->unsent < q->bytes) {
		walk_unit(&at, &flag);
		left -= flag != 0;
	}
	while (left > 0) {
		while (walk_messages(&at) > 0)
			;
		before = at;
		size = walk_unit(&at, &flag);
		if (size == 0)
			return;
		left -= flag != 0;
		if (flag && size <= OUTQ_COMMAND_MAX && out->count < OUTQ_COMMANDS_MAX) {
			copy_between(&before, &at, out->bytes[out->count]);
			out->sizes[out->count++] = (uint8_t)size;
		}
	}
}

/* Up to 16 bytes without a call: what goes in front of a request is rarely longer. */
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

/* The usual case: all of it fits behind the last message. */
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
	if (room(q->last) < prefix_len + len)
		return false;
	to = own_bytes(q->last) + q->last->len;
	copy_prefix(to, prefix, prefix_len);
	memcpy(to + prefix_len, message->p + skip, len);
	append(q, prefix_len + len);
	mark_end(q, 0);
	return true;
}

/* All else: a block is full, the message is large, or it came in pieces. */
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
		find_message(message->rope, &begin, &end);
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

	return b != NULL && b->marks > b->first_mark && mark_offset(b, b->marks - 1) == b->len;
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
	rest = q->bytes - q->unsent; /* out, counted from the head */
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

size_t
outq_cost(const struct outq *q)
{
	size_t units = (size_t)q->messages + q->commands, cost;

	if (q->first == NULL)
		return 0;
	cost = (size_t)q->bytes + units * sizeof(uint32_t) + room(q->last) + q->first->begin;
	if (units > 0 && q->bytes / units >= OUTQ_BY_REFERENCE) /* each has a block for its node */
		cost += units * chunk_cost(q->first->chunk);
	return cost;
}

void
outq_each_chunk(const struct outq *q, void (*each)(void *arg, struct chunk *chunk), void *arg)
{
	for (const struct outq_block *b = q->first; b != NULL; b = b->next) {
		each(arg, b->chunk);
		if (b->borrowed != NULL)
			each(arg, b->borrowed);
	}
}

void
outq_check(const struct outq *q)
{
	uint64_t bytes = 0, unsent = 0;
	uint32_t messages = 0, commands = 0;
	bool seen = false;

	for (const struct outq_block *b = q->first; b != NULL; b = b->next) {
		assert(b->begin <= b->len && b->first_mark <= b->marks);
		assert(b->next != NULL || b == q->last);
		bytes += b->len - b->begin;
		if (b == q->cursor_block) {
			seen = true;
			assert(q->cursor >= b->begin && q->cursor <= b->len);
			unsent += b->len - q->cursor;
		} else if (seen) {
			unsent += b->len - b->begin;
		}
		for (uint32_t i = b->first_mark; i < b->marks; i++) {
			assert(mark_offset(b, i) > (i > 0 ? mark_offset(b, i - 1) : 0) ||
				mark_offset(b, i) == 0);
			assert(mark_offset(b, i) <= b->len);
			if (*mark_at(b, i) & MARK_COMMAND)
				commands++;
			else
				messages++;
		}
	}
	assert(seen == (q->cursor_block != NULL));
	assert(bytes == q->bytes && unsent == q->unsent);
	assert(messages == q->messages && commands == q->commands);
	assert((q->first == NULL) == (q->last == NULL));
	(void)bytes, (void)unsent, (void)messages, (void)commands;
}
