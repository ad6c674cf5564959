/* SPDX-License-Identifier: MIT */
/*
 * The queue against a model that is too simple to be wrong: a list of strings.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "../recount.h"
#include "net/outq.h"
#include "unit.h"

enum { UNITS = 4096 };

static struct outq_env env;
static struct outq q;
static struct {
	uint8_t *bytes;
	size_t len;
	bool command;
} model[UNITS];
static size_t head, tail; /* units in the model */
static size_t sent;       /* bytes of the head that were written */
static uint32_t seed;

static uint32_t
rnd(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

/* The account equals the cost of the queues' chunks. */
static void
check_account(const struct outq *a, const struct outq *b)
{
	struct recount r = {0};

	recount_queue(&r, a);
	if (b != NULL)
		recount_queue(&r, b);
	ck_assert_uint_eq(env.memory.used, recount_end(&r));
}

static void
model_add(const uint8_t *bytes, size_t len, bool command)
{
	ck_assert_uint_lt(tail, UNITS);
	model[tail].bytes = malloc(len);
	memcpy(model[tail].bytes, bytes, len);
	model[tail].len = len;
	model[tail++].command = command;
}

static void
model_clear(void)
{
	while (head < tail)
		free(model[head++].bytes);
	head = tail = sent = 0;
}

static uint8_t *
some_bytes(size_t len)
{
	uint8_t *p = malloc(len + 1);

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)rnd(256);
	return p;
}

static size_t
some_len(void)
{
	static const size_t most[] = {3, 100, 300, 5000, 70000};

	return 1 + rnd((uint32_t)most[rnd(5)]);
}

/* p[len] in a chunk, as a read leaves it. */
static struct chunk *
in_chunk(const uint8_t *p, size_t len)
{
	struct chunk *chunk = chunk_new(&env.pool, len);

	memcpy(chunk->data, p, len);
	return chunk;
}

static void
push_small(void)
{
	size_t len = some_len(), prefix = rnd(2) ? rnd(260) : 0,
	       skip = rnd(2) ? rnd((uint32_t)len) : 0;
	uint8_t *p = some_bytes(prefix + len);
	struct chunk *chunk = rnd(3) == 0 ? in_chunk(p + prefix, len) : NULL;
	struct message m = {chunk != NULL ? chunk->data : p + prefix, len, len, NULL, chunk};

	ck_assert(outq_push(&q, &env, p, prefix, &m, skip));
	if (chunk != NULL)
		chunk_unref(&env.pool, chunk);
	memmove(p + prefix, p + prefix + skip, len - skip);
	model_add(p, prefix + len - skip, false);
	free(p);
}

/* Builds a message from pieces, some of them read directly into place. */
static void
build_rope(struct outq *rope, const uint8_t *p, size_t len)
{
	size_t done = 0;

	outq_init(rope);
	while (done < len) {
		size_t n = 1 + rnd((uint32_t)(len - done));
		if (rnd(3) == 0) {
			struct chunk *chunk = in_chunk(p + done, n);

			ck_assert(outq_append(rope, &env, chunk->data, n, chunk));
			chunk_unref(&env.pool, chunk);
		} else if (rnd(2)) {
			ck_assert(outq_append(rope, &env, p + done, n, NULL));
		} else {
			uint8_t *place;
			size_t room = outq_reserve(rope, &env, n, &place);
			ck_assert_uint_gt(room, 0);
			n = 1 + rnd((uint32_t)room);
			memcpy(place, p + done, n);
			outq_commit(rope, n);
		}
		done += n;
	}
	outq_end_message(rope);
	outq_check(rope);
}

static void
push_rope(void)
{
	size_t len = some_len() + 8, prefix = rnd(2) ? rnd(260) : 0;
	size_t skip = rnd(2) ? rnd((uint32_t)(len < 300 ? len : 300)) : 0, got;
	uint8_t *p = some_bytes(prefix + len), front[300];
	const uint8_t *f;
	struct outq rope;
	struct message m;

	build_rope(&rope, p + prefix, len);
	m = outq_as_message(&rope);
	ck_assert_uint_eq(m.size, len);
	f = message_front(&m, front, sizeof(front), &got);
	ck_assert_uint_ge(got, len < sizeof(front) ? len : sizeof(front));
	ck_assert_mem_eq(f, p + prefix, got);
	ck_assert(outq_push(&q, &env, p, prefix, &m, skip));
	ck_assert(outq_empty(&rope));
	memmove(p + prefix, p + prefix + skip, len - skip);
	model_add(p, prefix + len - skip, false);
	free(p);
}

static void
push_command(void)
{
	size_t len = 1 + rnd(60);
	uint8_t *p = some_bytes(len);

	ck_assert(outq_push_command(&q, &env, p, len));
	model_add(p, len, true);
	free(p);
}

/* Compares the bytes to be written with the model, then consumes a part of them. */
static void
write_some(void)
{
	struct iovec iov[16];
	struct outq_progress done;
	size_t total, unit = head, at = sent, n, left = 0;
	uint32_t messages = 0, commands = 0;
	int count = outq_iov(&q, iov, 16, &total);

	for (int i = 0; i < count; i++) {
		const uint8_t *p = iov[i].iov_base;
		for (size_t j = 0, step; j < iov[i].iov_len; j += step) {
			ck_assert_uint_lt(unit, tail);
			step = model[unit].len - at;
			if (step > iov[i].iov_len - j)
				step = iov[i].iov_len - j;
			ck_assert_mem_eq(p + j, model[unit].bytes + at, step);
			at += step;
			if (at == model[unit].len) {
				unit++;
				at = 0;
			}
		}
	}
	if (total == 0)
		return;
	n = rnd(3) == 0 ? total : rnd((uint32_t)total + 1);
	done = outq_consume(&q, &env, n);
	while (n > 0) {
		size_t rest = model[head].len - sent;
		if (n < rest) {
			sent += n;
			break;
		}
		n -= rest;
		sent = 0;
		messages += !model[head].command;
		commands += model[head].command;
		free(model[head++].bytes);
	}
	if (sent > 0)
		left = model[head].len - sent;
	ck_assert_uint_eq(done.messages, messages);
	ck_assert_uint_eq(done.commands, commands);
	ck_assert_uint_eq(done.left, left);
}

/* A cut message moves whole; the bytes that the other queue gets are compared there. */
static void
move_all(void)
{
	struct outq to;
	struct iovec iov[512];
	size_t total;
	int count;

	outq_init(&to);
	while (outq_move(&to, &q, &env) > 0)
		outq_check(&to);
	ck_assert_uint_eq(q.messages, 0);
	while (head < tail) {
		size_t at = 0;
		if (!model[head].command) {
			const uint8_t *p;
			size_t len, size = model[head].len;
			ck_assert_uint_eq(outq_peek(&to, &p, &len), size);
			ck_assert_mem_eq(p, model[head].bytes, len);
			while (at < size) {
				count = outq_iov(&to, iov, 1, &total);
				ck_assert_int_eq(count, 1);
				len = iov[0].iov_len < size - at ? iov[0].iov_len : size - at;
				ck_assert_mem_eq(iov[0].iov_base, model[head].bytes + at, len);
				outq_consume(&to, &env, len);
				at += len;
			}
		}
		free(model[head++].bytes);
	}
	ck_assert(outq_empty(&to));
	outq_fini(&to, &env);
	outq_fini(&q, &env); /* commands after the last message */
	model_clear();
}

/* Messages of which the kernel has no byte are dropped. */
static void
cut_all(void)
{
	struct outq_progress cut = outq_cut(&q, &env);
	size_t keep = head + (sent > 0);

	for (; tail > keep; free(model[tail].bytes)) {
		tail--;
		cut.messages -= !model[tail].command;
		cut.commands -= model[tail].command;
	}
	ck_assert_uint_eq(cut.messages, 0);
	ck_assert_uint_eq(cut.commands, 0);
}

static void
drop_one(void)
{
	ck_assert(outq_drop(&q, &env) || q.messages == 0);
	if (head == tail)
		return;
	for (size_t i = head; i < tail; i++) {
		if (!model[i].command) {
			while (head <= i)
				free(model[head++].bytes);
			sent = 0;
			return;
		}
	}
}

START_TEST(random_against_model)
{
	seed = (uint32_t)_i + 1;
	chunk_pool_init(&env.pool);
	outq_init(&q);
	head = tail = sent = 0;
	for (int i = unit_repeat(1500, 5); i > 0; i--) {
		switch (rnd(12)) {
		case 0:
		case 1:
		case 2:
		case 3:
			push_small();
			break;
		case 4:
		case 5:
			push_rope();
			break;
		case 6:
			push_command();
			break;
		case 7:
		case 8:
		case 9:
		case 10:
			write_some();
			break;
		default:
			if (rnd(20) == 0)
				move_all();
			else if (rnd(20) == 0)
				cut_all();
			else if (sent == 0 || rnd(2))
				drop_one();
		}
		outq_check(&q);
	}
	outq_fini(&q, &env);
	model_clear();
	ck_assert_uint_eq(env.memory.used, 0);
	chunk_pool_fini(&env.pool);
}
END_TEST

START_TEST(a_cut_message_moves_whole)
{
	uint8_t body[9000], prefix[7] = "prefix";
	struct message m = {body, sizeof(body), sizeof(body), NULL, NULL};
	struct outq to;
	const uint8_t *p;
	size_t len;

	memset(body, 'x', sizeof(body));
	chunk_pool_init(&env.pool);
	outq_init(&q);
	outq_init(&to);
	ck_assert(outq_push(&q, &env, prefix, 7, &m, 0));
	ck_assert_uint_eq(outq_consume(&q, &env, 4000).left, 5007);
	ck_assert_uint_eq(outq_move(&to, &q, &env), 9007);
	ck_assert_uint_eq(outq_peek(&to, &p, &len), 9007);
	ck_assert_mem_eq(p, "prefix", 7);
	ck_assert(outq_empty(&q));
	outq_fini(&to, &env);
	ck_assert_uint_eq(env.memory.used, 0);
	chunk_pool_fini(&env.pool);
}
END_TEST

/* The queue's first messages are these; takes them out. */
static void
expect_messages(struct outq *from, const uint8_t *bytes, const size_t *sizes, int count)
{
	for (int i = 0; i < count; i++) {
		static uint8_t got[40000];
		struct message m = outq_as_message(from);
		const uint8_t *p;
		size_t len;

		ck_assert_uint_eq(m.size, sizes[i]);
		p = message_front(&m, got, sizeof(got), &len);
		ck_assert_uint_eq(len, sizes[i]);
		ck_assert_mem_eq(p, bytes, len);
		bytes += sizes[i];
		ck_assert(outq_drop(from, &env));
	}
}

enum { CUT_UNITS = 6, CUT_BYTES = 40 + 300 + 20 + 6000 + 1 + 500 };

/* The queue of the tests at every point, and the bytes that come out of it. */
static const size_t unit_sizes[CUT_UNITS] = {40, 300, 20, 6000, 1, 500};
static uint8_t units[CUT_BYTES], taken[CUT_BYTES + 20];

/* Messages small and large, one of them from a rope, with a command among them. */
static void
push_units(int command)
{
	size_t at = 0;

	seed = 7;
	for (int i = 0; i < CUT_UNITS; i++) {
		struct message m = {units + at, unit_sizes[i], unit_sizes[i], NULL, NULL};
		struct outq rope;
		uint8_t *p = some_bytes(unit_sizes[i]);

		memcpy(units + at, p, unit_sizes[i]);
		free(p);
		if (i == command) {
			ck_assert(outq_push_command(&q, &env, units + at, unit_sizes[i]));
		} else if (i == 3) {
			build_rope(&rope, units + at, unit_sizes[i]);
			m = outq_as_message(&rope);
			ck_assert(outq_push(&q, &env, NULL, 0, &m, 0));
		} else {
			ck_assert(outq_push(&q, &env, NULL, 0, &m, 0));
		}
		at += unit_sizes[i];
	}
	ck_assert_uint_eq(at, CUT_BYTES);
}

/*
 * The queue, of which so much is out, in two steps. Returns the first unit that is not all out;
 * *begin: where that begins.
 */
static int
write_units(int command, size_t written, size_t *begin)
{
	int unit = 0;

	outq_init(&q);
	push_units(command);
	outq_consume(&q, &env, written / 2);
	outq_consume(&q, &env, written - written / 2);
	*begin = 0;
	while (unit < CUT_UNITS && *begin + unit_sizes[unit] <= written)
		*begin += unit_sizes[unit++];
	return unit;
}

/* Consumes everything that is to be written. Returns its bytes. */
static size_t
write_all(struct outq *from, uint8_t *out)
{
	struct iovec iov[16];
	size_t n = 0, total;
	int count;

	while ((count = outq_iov(from, iov, 16, &total)) > 0) {
		for (int i = 0; i < count; n += iov[i++].iov_len)
			memcpy(out + n, iov[i].iov_base, iov[i].iov_len);
		outq_consume(from, &env, total);
	}
	return n;
}

/* Under memcheck every seventh point is enough: the rounds of a test begin at different ones. */
static size_t
point_step(void)
{
	return unit_repeat(7, 7) == 7 ? 1 : 7;
}

/*
 * Whatever the kernel took before: what stays is the unit that is partly out, and what is queued
 * next comes right after it.
 */
START_TEST(cut_at_every_point)
{
	size_t step = point_step();

	chunk_pool_init(&env.pool);
	for (size_t written = (size_t)(_i + 1) % step; written <= CUT_BYTES; written += step) {
		struct message next = {(const uint8_t *)"\0\4next", 6, 6, NULL, NULL};
		static struct outq_commands copied;
		struct outq_progress cut;
		uint32_t messages = 0, commands = 0;
		size_t end, n, first, place = 0;
		int unit = write_units(_i, written, &end);

		if (end < written) /* what is partly out stays */
			end += unit_sizes[unit++];
		for (int i = unit; i < CUT_UNITS; i++) {
			commands += i == _i;
			messages += i != _i;
		}
		first = q.bytes - q.unsent;
		outq_copy_commands(&q, &copied);
		ck_assert_uint_eq(copied.count, commands > 0 && unit_sizes[_i] <= OUTQ_COMMAND_MAX);
		for (int i = 0; i < _i; i++)
			place += unit_sizes[i];
		if (copied.count > 0) {
			ck_assert_uint_eq(copied.sizes[0], unit_sizes[_i]);
			ck_assert_mem_eq(copied.bytes[0], units + place, unit_sizes[_i]);
		}
		cut = outq_cut(&q, &env);
		outq_check(&q);
		ck_assert_uint_eq(cut.messages, messages);
		ck_assert_uint_eq(cut.commands, commands);
		ck_assert_uint_eq(cut.command_bytes, commands > 0 ? unit_sizes[_i] : 0);
		ck_assert_uint_eq(q.unsent, end - written);
		ck_assert_uint_eq(q.bytes, first + end - written);
		check_account(&q, NULL);
		cut = outq_cut(&q, &env); /* nothing more */
		ck_assert_uint_eq(cut.messages + cut.commands, 0);

		ck_assert(outq_push(&q, &env, NULL, 0, &next, 0));
		outq_check(&q);
		n = write_all(&q, taken);
		ck_assert_uint_eq(n, end - written + 6);
		ck_assert_mem_eq(taken, units + written, end - written);
		ck_assert_mem_eq(taken + n - 6, "\0\4next", 6);
		ck_assert(outq_empty(&q));
		outq_fini(&q, &env);
		ck_assert_uint_eq(env.memory.used, 0);
	}
	chunk_pool_fini(&env.pool);
}
END_TEST

/* What is left is complete messages, however much of them had been written. */
START_TEST(drop_commands_at_every_point)
{
	size_t step = point_step();

	chunk_pool_init(&env.pool);
	for (size_t written = (size_t)(_i + 1) % step; written <= CUT_BYTES; written += step) {
		size_t begin, at = 0, want = 0;
		int unit = write_units(_i, written, &begin);

		ck_assert(outq_drop_commands(&q, &env));
		outq_check(&q);
		check_account(&q, NULL);
		ck_assert_uint_eq(q.commands, 0);
		ck_assert_uint_eq(q.messages, (unsigned)(CUT_UNITS - unit - (_i >= unit)));
		ck_assert_uint_eq(write_all(&q, taken),
			CUT_BYTES - begin - (_i >= unit ? unit_sizes[_i] : 0));
		for (int i = 0; i < CUT_UNITS; at += unit_sizes[i++]) {
			if (i < unit || i == _i)
				continue;
			ck_assert_mem_eq(taken + want, units + at, unit_sizes[i]);
			want += unit_sizes[i];
		}
		ck_assert(outq_empty(&q));
		outq_fini(&q, &env);
		ck_assert_uint_eq(env.memory.used, 0);
	}
	chunk_pool_fini(&env.pool);
}
END_TEST

enum { LONG_QUEUE = 20000, SEEN_CHUNKS = 200 };

/* The chunks of a queue, or how many of them it still has. */
struct seen {
	struct chunk *chunks[SEEN_CHUNKS];
	size_t count, again;
};

static void
see_chunk(void *arg, struct chunk *chunk)
{
	struct seen *seen = arg;

	ck_assert_uint_lt(seen->count, SEEN_CHUNKS);
	chunk->refs++; /* it is not reused meanwhile */
	seen->chunks[seen->count++] = chunk;
}

static void
see_again(void *arg, struct chunk *chunk)
{
	struct seen *seen = arg;

	for (size_t i = 0; i < seen->count; i++)
		seen->again += seen->chunks[i] == chunk;
}

/*
 * A long queue of small messages with two commands side by side at its beginning, and others in the
 * middle and at the end: no message is moved or copied, and what comes later does not get in
 * between.
 */
START_TEST(commands_leave_a_long_queue)
{
	struct message m = {NULL, 7, 7, NULL, NULL};
	struct seen seen = {0};
	static uint8_t out[7 * (LONG_QUEUE + 2)];
	char text[8];

	chunk_pool_init(&env.pool);
	outq_init(&q);
	for (int i = 0; i <= LONG_QUEUE; i++) {
		if (i == 1 || i == LONG_QUEUE / 2 || i == LONG_QUEUE) {
			ck_assert(outq_push_command(&q, &env, (const uint8_t *)"\4\5PINGx", 7));
			ck_assert(outq_push_command(&q, &env, (const uint8_t *)"\4\4PING", 6));
		}
		snprintf(text, sizeof(text), "%7d", i);
		m.p = (const uint8_t *)text;
		if (i < LONG_QUEUE)
			ck_assert(outq_push(&q, &env, NULL, 0, &m, 0));
	}
	outq_consume(&q, &env, 8); /* the second one is partly out */
	outq_each_chunk(&q, see_chunk, &seen);
	ck_assert_uint_gt(seen.count, 8);
	ck_assert(outq_drop_commands(&q, &env));
	outq_check(&q);
	check_account(&q, NULL);
	outq_each_chunk(&q, see_again, &seen);
	ck_assert_uint_ge(seen.again, seen.count);
	for (size_t i = 0; i < seen.count; i++)
		chunk_unref(&env.pool, seen.chunks[i]);
	ck_assert_uint_eq(q.messages, LONG_QUEUE - 1);
	m.p = (const uint8_t *)"   last";
	ck_assert(outq_push(&q, &env, NULL, 0, &m, 0));
	ck_assert_uint_eq(write_all(&q, out), 7 * LONG_QUEUE);
	for (int i = 1; i < LONG_QUEUE; i++) {
		snprintf(text, sizeof(text), "%7d", i);
		ck_assert_mem_eq(out + 7 * (i - 1), text, 7);
	}
	ck_assert_mem_eq(out + 7 * (LONG_QUEUE - 1), "   last", 7);
	outq_fini(&q, &env);
	ck_assert_uint_eq(env.memory.used, 0);
	chunk_pool_fini(&env.pool);
}
END_TEST

/*
 * A message or command that is partly written goes whole to the other queue, after what is there.
 */
START_TEST(splice_at_every_point)
{
	size_t step = point_step();

	chunk_pool_init(&env.pool);
	for (size_t written = (size_t)(_i + 1) % step; written <= CUT_BYTES; written += step) {
		struct message first = {(const uint8_t *)"\0\5first", 7, 7, NULL, NULL};
		size_t begin, n, more, there = written % 4;
		int unit = write_units(_i, written, &begin);
		struct outq to;

		outq_init(&to);
		/* an empty one, one of which nothing is out, a part, or all */
		if (there > 0) {
			ck_assert(outq_push(&to, &env, NULL, 0, &first, 0));
			outq_consume(&to, &env, there == 1 ? 0 : there == 2 ? 3 : 7);
		}
		outq_splice(&to, &q);
		outq_check(&to);
		outq_check(&q);
		ck_assert(outq_empty(&q));
		ck_assert_uint_eq(to.messages,
			(there == 1 || there == 2) + (CUT_UNITS - unit) - (_i >= unit));
		ck_assert_uint_eq(to.commands, _i >= unit);
		check_account(&to, NULL);
		n = write_all(&to, taken);
		more = there == 1 ? 7 : there == 2 ? 4 : 0; /* of the first one */
		ck_assert_uint_eq(n, more + CUT_BYTES - begin);
		ck_assert_mem_eq(taken + more, units + begin, CUT_BYTES - begin);
		ck_assert(outq_empty(&to));
		outq_fini(&to, &env);
		ck_assert_uint_eq(env.memory.used, 0);
	}
	chunk_pool_fini(&env.pool);
}
END_TEST

/* A large message that comes in small pieces costs about its size. */
START_TEST(reserved_room_is_used)
{
	static const size_t pieces[] = {100, 1460, 5000, 16384, 70000, 200000};
	const size_t total = 4 << 20;
	uint8_t *place;

	chunk_pool_init(&env.pool);
	outq_init(&q);
	for (size_t at = 0, n; at < total; at += n) {
		size_t most = outq_reserve(&q, &env, total - at, &place);

		ck_assert_uint_gt(most, 0);
		n = most < pieces[_i] ? most : pieces[_i];
		memset(place, 'x', n);
		outq_commit(&q, n);
	}
	ck_assert_uint_eq(q.bytes, total);
	ck_assert_uint_lt(env.memory.used, total + total / 3 + 262144 * 2);
	outq_fini(&q, &env);
	ck_assert_uint_eq(env.memory.used, 0);
	chunk_pool_fini(&env.pool);
}
END_TEST

START_TEST(clear_says_what_it_was)
{
	struct outq_progress all;

	chunk_pool_init(&env.pool);
	outq_init(&q);
	push_units(_i);
	outq_consume(&q, &env, 45); /* the second is partly out */
	all = outq_clear(&q, &env);
	ck_assert_uint_eq(all.messages, CUT_UNITS - 1 - (_i >= 1));
	ck_assert_uint_eq(all.commands, _i >= 1);
	ck_assert_uint_eq(all.command_bytes, _i >= 1 ? unit_sizes[_i] : 0);
	ck_assert(outq_empty(&q));
	ck_assert_uint_eq(env.memory.used, 0);
	chunk_pool_fini(&env.pool);
}
END_TEST

/* The first message appears twice then, also when it is partly out, and each is freed alone. */
START_TEST(share_at_every_point)
{
	size_t step = point_step();

	chunk_pool_init(&env.pool);
	for (size_t written = 0; written < CUT_BYTES; written += step) {
		size_t begin;
		int unit = write_units(-1, written, &begin);
		struct outq to;

		outq_init(&to);
		ck_assert_uint_eq(outq_share(&to, &q, &env), unit_sizes[unit]);
		ck_assert_uint_eq(outq_share(&to, &q, &env), unit_sizes[unit]);
		outq_check(&q);
		outq_check(&to);
		check_account(&q, &to);
		ck_assert_uint_eq(q.unsent, CUT_BYTES - written);
		if (written % 2) { /* either may go first */
			outq_cut(&q, &env);
			outq_fini(&q, &env);
		}
		expect_messages(&to, units + begin, &unit_sizes[unit], 1);
		expect_messages(&to, units + begin, &unit_sizes[unit], 1);
		ck_assert(outq_empty(&to));
		if (q.messages > 0)
			expect_messages(&q, units + begin, &unit_sizes[unit], CUT_UNITS - unit);
		ck_assert(outq_empty(&q));
		outq_fini(&to, &env);
		outq_fini(&q, &env);
		ck_assert_uint_eq(env.memory.used, 0);
	}
	outq_init(&q);
	ck_assert_uint_eq(outq_share(&q, &(struct outq){0}, &env), 0);
	ck_assert(outq_empty(&q));
	chunk_pool_fini(&env.pool);
}
END_TEST

/* A write reports when its oldest message came, also if that was moved meanwhile. */
START_TEST(messages_keep_their_age)
{
	uint8_t body[100] = {0};
	struct message m = {body, sizeof(body), sizeof(body), NULL, NULL};
	struct outq other;

	chunk_pool_init(&env.pool);
	outq_init(&q);
	outq_init(&other);
	env.now_ns = 5;
	ck_assert(outq_push(&q, &env, NULL, 0, &m, 0));
	env.now_ns = 6;
	ck_assert(outq_push(&q, &env, NULL, 0, &m, 0));
	ck_assert_uint_eq(outq_consume(&q, &env, 200).since, 5);
	ck_assert(outq_push(&q, &env, NULL, 0, &m, 0));
	env.now_ns = 7;
	ck_assert_uint_eq(outq_move(&other, &q, &env), 100);
	env.now_ns = 8;
	ck_assert_uint_eq(outq_consume(&other, &env, 50).since, 6);
	ck_assert_uint_eq(outq_consume(&other, &env, 50).since, 6);
	ck_assert(outq_push(&other, &env, NULL, 0, &m, 0));
	ck_assert_uint_eq(outq_consume(&other, &env, 100).since, 8);
	outq_fini(&q, &env);
	outq_fini(&other, &env);
	env.now_ns = 0;
	chunk_pool_fini(&env.pool);
}
END_TEST

UNIT_MAIN("outq", tcase_add_loop_test(tc, random_against_model, 0, 40),
	tcase_add_test(tc, a_cut_message_moves_whole),
	tcase_add_loop_test(tc, cut_at_every_point, -1, CUT_UNITS),
	tcase_add_loop_test(tc, splice_at_every_point, -1, CUT_UNITS),
	tcase_add_loop_test(tc, drop_commands_at_every_point, -1, CUT_UNITS),
	tcase_add_test(tc, commands_leave_a_long_queue),
	tcase_add_loop_test(tc, clear_says_what_it_was, -1, CUT_UNITS),
	tcase_add_loop_test(tc, reserved_room_is_used, 0, 6),
	tcase_add_test(tc, share_at_every_point), tcase_add_test(tc, messages_keep_their_age))
