/* SPDX-License-Identifier: MIT */
/*
 * What is done to a queue as a whole: dropping, cutting, splicing, taking commands out, measuring,
 * checking. None of it is done for each message.
 */
#include <assert.h>
#include <string.h>

#include "net/outq_impl.h"

/*
 * Steps over all messages that end in the next block, if no command ends there. Returns how many;
 * 0: there may be commands among them, or there is no unit left.
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
	*w = (struct walk){b, block_mark_offset(b, b->marks - 1), b->marks};
	return count;
}

/* Frees everything from `w` on; the cursor has not passed it. */
static void
cut_at(struct outq *q, struct outq_env *env, struct walk w)
{
	struct outq_block *b = w.block->next;
	uint64_t gone = w.block->len - w.offset;

	for (struct outq_block *next; b != NULL; b = next) {
		next = b->next;
		gone += b->len - b->begin;
		outq_block_free(env, b);
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

/* Counts all units from `w` on. */
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
 * Splits the block of `end` in two; the second one refers to the bytes from there on. False: no
 * memory.
 */
static bool
split_block(struct outq *q, struct outq_env *env, struct walk *end)
{
	struct outq_block *b = end->block, *rest;
	uint32_t marks = b->marks - end->mark;

	rest = outq_block_new(env, (size_t)marks * sizeof(uint32_t));
	if (rest == NULL)
		return false;
	if (b->borrowed == NULL) { /* so that nothing is appended over bytes of the rest */
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
		*block_mark(rest, i) = *block_mark(b, end->mark + i);
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
 * Takes out the unit between two places of a walk. Its bytes stay in the block when there are
 * others before and after them.
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

/* Copies the bytes between two places of a walk. */
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

size_t
outq_cost(const struct outq *q)
{
	size_t units = (size_t)q->messages + q->commands, cost;

	if (q->first == NULL)
		return 0;
	cost = (size_t)q->bytes + units * sizeof(uint32_t) + block_capacity(q->last) +
		q->first->begin;
	if (units > 0 && q->bytes / units >= OUTQ_BY_REFERENCE) /* each has a block of its own */
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
			assert(block_mark_offset(b, i) >
					(i > 0 ? block_mark_offset(b, i - 1) : 0) ||
				block_mark_offset(b, i) == 0);
			assert(block_mark_offset(b, i) <= b->len);
			if (*block_mark(b, i) & MARK_COMMAND)
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
