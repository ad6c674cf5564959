/* SPDX-License-Identifier: MIT */
/*
 * Frame headers, and the queue of frames: headers survive decoding and encoding,
 * and two queues do what lists of byte strings do, also when memory runs out.
 */
#include <stdbool.h>

#include "../tests/recount.h"
#include "fuzz.h"
#include "net/outq.h"
#include "no_memory.h"
#include "zmtp/frame.h"

enum {
	UNITS_MAX = 512,
	BYTES_MAX = 400000, /* of one input, to keep it fast */
	PREFIX_MAX = 300,   /* as outq.h says */
	PIECES_MAX = 32
};

/* --- headers -------------------------------------------------------------- */

static void
check_header(const uint8_t *p, size_t len)
{
	struct frame_header h = {0}, again;
	uint8_t out[WIRE_LONG_HEADER];
	int size = 0, whole = frame_decode(&h, p, len);
	uint64_t length = 0;
	size_t n;

	/* byte by byte: nothing is told before the last byte of the header is there */
	for (n = 0; n <= len && size == 0; n++) {
		uint8_t *front = exact_copy(p, n);
		size = frame_decode(&h, front, n);
		free(front);
	}
	assert(size == whole);
	if (len == 0 || whole == 0) {
		assert(len < WIRE_LONG_HEADER);
		return;
	}
	for (size_t i = 1; i < (p[0] & WIRE_FLAG_LONG ? 9 : 2); i++)
		length = length << 8 | p[i];
	assert(whole == (length >> 63 ? -1 : p[0] & WIRE_FLAG_LONG ? 9 : 2));
	if (whole < 0)
		return;
	assert(h.flags == p[0] && h.length == length && h.size == whole);
	n = frame_encode(out, h.flags, h.length);
	assert(n == (h.length > WIRE_SHORT_MAX ? 9u : 2u));
	assert(frame_decode(&again, out, n) == (int)n && again.length == h.length);
	assert(((again.flags ^ h.flags) & ~WIRE_FLAG_LONG) == 0);
	assert(((again.flags & WIRE_FLAG_LONG) != 0) == (n == 9));
}

/* --- the model ------------------------------------------------------------ */

struct unit {
	uint8_t *bytes;
	size_t len;
	bool command;
};

struct model {
	struct outq q;
	struct unit unit[UNITS_MAX];
	size_t count, sent; /* sent: bytes of the first unit that are out */
};

static struct outq_env env;
static struct model both[2];
static size_t made; /* bytes so far */
static uint8_t fill;

static void
model_add(struct model *m, uint8_t *bytes, size_t len, bool command)
{
	assert(m->count < UNITS_MAX);
	m->unit[m->count++] = (struct unit){bytes, len, command};
}

/* Takes the first n units away; the caller has their bytes freed, or keeps them. */
static void
model_forget(struct model *m, size_t n)
{
	memmove(m->unit, m->unit + n, (m->count - n) * sizeof(*m->unit));
	m->count -= n;
	m->sent = 0;
}

static void
model_free(struct model *m, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(m->unit[i].bytes);
	model_forget(m, n);
}

/* The first message's place; m->count when there is none. */
static size_t
first_message(const struct model *m)
{
	size_t i = 0;

	while (i < m->count && m->unit[i].command)
		i++;
	return i;
}

static void
check_books(const struct model *m)
{
	size_t messages = 0, bytes = 0;

	outq_check(&m->q);
	for (size_t i = 0; i < m->count; i++) {
		messages += !m->unit[i].command;
		bytes += m->unit[i].len;
	}
	assert(m->q.messages == messages && m->q.commands == m->count - messages);
	assert(m->q.bytes == bytes && m->q.unsent == bytes - m->sent);
	assert(outq_empty(&m->q) == (m->count == 0));
}

/* Sizes around every border: block classes, OUTQ_BY_REFERENCE, short and long frames. */
static size_t
some_size(struct input *in)
{
	static const uint32_t base[16] = {
		0, 0, 0, 0, 90, 150, 240, 256, 1900, 2000, 4080, 4096, 16200, 16384, 65000, 262000};
	unsigned b = input_byte(in);
	size_t n = base[b % 16] + (b & 16 ? input_byte(in) * (b & 32 ? 4u : 1u) : b >> 5);

	if (n > BYTES_MAX - made)
		n = BYTES_MAX - made;
	made += n;
	return n;
}

/* A frame of that body, after `prefix` bytes. */
static uint8_t *
some_frame(uint8_t flags, size_t prefix, size_t body, size_t *len)
{
	uint8_t *p = malloc(prefix + WIRE_LONG_HEADER + body);

	memset(p, ++fill, prefix);
	*len = frame_encode(p + prefix, flags, body);
	memset(p + prefix + *len, ++fill, body);
	for (size_t i = prefix + *len; i < prefix + *len + body; i += 61)
		p[i] = (uint8_t)(i >> 3);
	*len += body;
	return p;
}

/* Check the result of a push: the model follows, or memory ran out and nothing happened. */
static void
pushed(struct model *m, bool ok, uint8_t *bytes, size_t len, bool command)
{
	assert(ok || failed);
	if (ok)
		model_add(m, bytes, len, command);
	else
		free(bytes);
}

/* --- what is done to the queues ------------------------------------------- */

/* p[len] in a chunk, to be queued by reference; NULL when it is to be copied. */
static struct chunk *
some_chunk(struct input *in, const uint8_t *p, size_t len)
{
	struct chunk *chunk = input_last(in) & 1 ? chunk_new(&env.pool, len) : NULL;

	if (chunk != NULL && chunk->size < len) {
		chunk_unref(&env.pool, chunk);
		return NULL;
	}
	if (chunk != NULL)
		memcpy(chunk->data, p, len);
	return chunk;
}

static void
push_flat(struct model *m, struct input *in)
{
	size_t prefix = input_byte(in) & 1 ? input_upto(in, PREFIX_MAX) : 0, len, skip, body;
	uint8_t *p, *copy;
	struct message message;
	struct chunk *chunk;
	bool ok;

	body = some_size(in);
	p = some_frame(0, prefix, body, &len);
	skip = input_byte(in) & 1 ? input_upto(in, (len < 600 ? len : 600) - 1) : 0;
	copy = exact_copy(p + prefix, len);
	chunk = some_chunk(in, copy, len);
	message = (struct message){chunk != NULL ? chunk->data : copy, len, len, NULL, chunk};
	ok = outq_push(&m->q, &env, p, prefix, &message, skip);
	free(copy);
	if (chunk != NULL)
		chunk_unref(&env.pool, chunk);
	memmove(p + prefix, p + prefix + skip, len - skip);
	pushed(m, ok, p, prefix + len - skip, false);
}

static bool
append_some(struct outq *rope, struct input *in, const uint8_t *p, size_t len)
{
	struct chunk *chunk = some_chunk(in, p, len);
	bool ok = outq_append(rope, &env, chunk != NULL ? chunk->data : p, len, chunk);

	if (chunk != NULL)
		chunk_unref(&env.pool, chunk);
	return ok;
}

/*
 * Builds a message in pieces, some of them read into their place, up to p[*len] or
 * to where a block is just full. False: memory ran out.
 */
static bool
build_rope(struct outq *rope, struct input *in, const uint8_t *p, size_t *len)
{
	size_t done = 0;

	for (int i = 0; done < *len; i++) {
		size_t left = *len - done;
		size_t n = i == PIECES_MAX ? left
					   : 1 + input_upto(in, left < 65536 ? left - 1 : 65535);

		if (input_byte(in) & 1) {
			uint8_t *place;
			size_t room = outq_reserve(rope, &env, n, &place);
			if (room == 0)
				return false;
			assert(room <= n);
			if (room < n && input_byte(in) & 1)
				*len = done + room;
			n = input_byte(in) & 1 ? room : input_upto(in, room < 65536 ? room : 65535);
			left = *len - done;
			if (n > 0) { /* otherwise the read found nothing */
				memcpy(place, p + done, n);
				outq_commit(rope, n);
			} else if (i < PIECES_MAX) {
				continue;
			} else if (!outq_append(rope, &env, p + done, n = left, NULL)) {
				return false;
			}
		} else if (!append_some(rope, in, p + done, n)) {
			return false;
		}
		done += n;
		outq_check(rope);
		assert(rope->bytes == done && rope->unsent == done);
	}
	return true;
}

static void
push_rope(struct model *m, struct input *in)
{
	size_t prefix = input_byte(in) & 1 ? input_upto(in, PREFIX_MAX) : 0, len, skip, got, want,
	       body;
	uint8_t *p, front[300];
	const uint8_t *f;
	struct outq rope;
	struct message message;
	bool ok, partial = false;

	body = some_size(in);
	p = some_frame(0, prefix, body, &len);
	outq_init(&rope);
	if (!build_rope(&rope, in, p + prefix, &len) || (partial = input_byte(in) == 1)) {
		assert(partial || failed);
		outq_check(&rope);
		outq_fini(&rope, &env); /* the peer went away inside of a message */
		free(p);
		return;
	}
	outq_end_message(&rope);
	outq_check(&rope);
	message = outq_as_message(&rope);
	assert(message.size == len && message.len > 0 && message.len <= len);
	want = input_upto(in, sizeof(front));
	skip = input_byte(in) & 1 ? input_upto(in, (len < 600 ? len : 600) - 1) : 0;
	f = message_front(&message, front, want, &got);
	assert(got >= (want < len ? want : len) && got <= len);
	assert(memcmp(f, p + prefix, got) == 0);
	ok = outq_push(&m->q, &env, p, prefix, &message, skip);
	assert(outq_empty(&rope));
	outq_fini(&rope, &env);
	memmove(p + prefix, p + prefix + skip, len - skip);
	pushed(m, ok, p, prefix + len - skip, false);
}

static void
push_command(struct model *m, struct input *in)
{
	size_t len;
	uint8_t *p = some_frame(WIRE_FLAG_COMMAND, 0, input_byte(in), &len);

	pushed(m, outq_push_command(&m->q, &env, p, len), p, len, true);
}

/* A queued message goes on to the other queue as a message. */
static void
push_queued(struct model *to, struct model *from)
{
	size_t i = first_message(from);
	struct message message;
	bool ok;

	if (i == from->count || to == from)
		return;
	message = outq_as_message(&from->q);
	ok = outq_push(&to->q, &env, NULL, 0, &message, 0);
	pushed(to, ok, from->unit[i].bytes, from->unit[i].len, false);
	for (size_t j = 0; j < i; j++)
		free(from->unit[j].bytes);
	model_forget(from, i + 1);
}

static void
move(struct model *to, struct model *from)
{
	size_t i = first_message(from);
	uint64_t size;

	if (to == from)
		return;
	size = outq_move(&to->q, &from->q, &env);
	if (size == 0) {
		assert(i == from->count || failed);
		return;
	}
	assert(i < from->count && size == from->unit[i].len);
	model_add(to, from->unit[i].bytes, from->unit[i].len, false);
	for (size_t j = 0; j < i; j++)
		free(from->unit[j].bytes);
	model_forget(from, i + 1);
}

static void
drop(struct model *m)
{
	size_t i = first_message(m);

	assert(outq_drop(&m->q, &env) == (i < m->count));
	if (i < m->count)
		model_free(m, i + 1);
}

/* All of `from` to the tail of `to`; or, when it would be too much for the model, nowhere. */
static void
splice_or_clear(struct model *to, struct model *from, struct input *in)
{
	struct outq_progress all = {.messages = from->q.messages}, want = {0};

	if (input_byte(in) % 4 == 0 || to->count + from->count > UNITS_MAX) {
		all = outq_clear(&from->q, &env);
		for (size_t i = 0; i < from->count; i++) {
			want.commands += from->unit[i].command;
			want.command_bytes += from->unit[i].command ? from->unit[i].len : 0;
		}
		assert(all.commands == want.commands && all.command_bytes == want.command_bytes);
		assert(all.messages == from->count - want.commands);
		model_free(from, from->count);
	} else {
		outq_splice(&to->q, &from->q);
		for (size_t i = 0; i < from->count; i++)
			to->unit[to->count++] = from->unit[i];
		model_forget(from, from->count);
	}
	assert(outq_empty(&from->q));
}

/* Without memory some are left, the last ones. */
static void
drop_commands(struct model *m)
{
	size_t kept = 0, drop = 0;
	uint32_t before = m->q.commands;
	bool all = outq_drop_commands(&m->q, &env);

	assert(all || failed);
	assert(all == (m->q.commands == 0));
	drop = before - m->q.commands;
	for (size_t i = 0; i < m->count; i++) {
		if (m->unit[i].command && drop > 0) {
			free(m->unit[i].bytes);
			drop--;
		} else {
			m->unit[kept++] = m->unit[i];
		}
	}
	m->count = kept;
	m->sent = 0;
}

static void
peek(struct model *m, struct input *in)
{
	size_t i = first_message(m), len = 0, want = input_upto(in, PREFIX_MAX);
	const struct unit *u = &m->unit[i];
	uint8_t front[PREFIX_MAX];
	const uint8_t *p = NULL;
	struct message message;
	uint64_t size = outq_peek(&m->q, &p, &len);

	if (i == m->count) {
		assert(size == 0);
		return;
	}
	assert(size == u->len && len > 0 && len <= size && memcmp(p, u->bytes, len) == 0);
	message = outq_as_message(&m->q);
	p = message_front(&message, front, want, &len);
	assert(len >= (want < size ? want : size) && len <= size);
	assert(memcmp(p, u->bytes, len) == 0);
}

/* Compares what would be written with the model, then takes part of it. */
static void
write_some(struct model *m, struct input *in, bool all)
{
	struct iovec iov[64];
	struct outq_progress done, want = {0};
	int max = all ? 64 : (int)(1 + input_byte(in) % 64u), count;
	size_t total, unit = 0, at = m->sent, sum = 0, n;

	count = outq_iov(&m->q, iov, max, &total);
	assert(count <= max && (count > 0) == (m->q.unsent > 0));
	for (int i = 0; i < count; i++) {
		const uint8_t *p = iov[i].iov_base;
		sum += iov[i].iov_len;
		for (size_t j = 0, step; j < iov[i].iov_len; j += step) {
			assert(unit < m->count);
			step = m->unit[unit].len - at;
			if (step > iov[i].iov_len - j)
				step = iov[i].iov_len - j;
			assert(memcmp(p + j, m->unit[unit].bytes + at, step) == 0);
			at += step;
			if (at == m->unit[unit].len) {
				unit++;
				at = 0;
			}
		}
	}
	assert(sum == total && total <= m->q.unsent);
	assert(count == max || total == m->q.unsent);
	n = all || input_byte(in) & 1 ? total : input_upto(in, total < 65536 ? total : 65535);
	done = outq_consume(&m->q, &env, n);
	while (m->count > 0 && n >= m->unit[0].len - m->sent) {
		n -= m->unit[0].len - m->sent;
		if (m->unit[0].command) {
			want.commands++;
			want.command_bytes += m->unit[0].len;
		} else {
			want.messages++;
		}
		model_free(m, 1);
	}
	m->sent += n;
	want.left = m->sent > 0 ? m->unit[0].len - m->sent : 0;
	assert(done.messages == want.messages && done.commands == want.commands);
	assert(done.command_bytes == want.command_bytes && done.left == want.left);
}

static void
step(struct input *in)
{
	unsigned op = input_byte(in);
	struct model *m = &both[op >> 7], *other = &both[!(op >> 7)];

	switch (op % 16) {
	case 0:
	case 1:
	case 2:
		push_flat(m, in);
		break;
	case 3:
	case 4:
		push_rope(m, in);
		break;
	case 5:
	case 6:
		push_command(m, in);
		break;
	case 7:
	case 8:
	case 9:
		write_some(m, in, false);
		break;
	case 10:
		drop(m);
		break;
	case 11:
		peek(m, in);
		break;
	case 12:
		move(m, other);
		break;
	case 13:
		splice_or_clear(m, other, in);
		break;
	case 14:
		if (op & 64)
			drop_commands(m);
		else
			push_queued(m, other);
		break;
	default:
		fail_after = 1 + input_byte(in) % 8u;
		return;
	}
	fail_after = 0; /* what the input asked for holds for one step */
	failed = false;
}

static void
check_account(void)
{
	struct recount r = {0};

	recount_queue(&r, &both[0].q);
	recount_queue(&r, &both[1].q);
	assert(env.memory.used == recount_end(&r));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, data + len};

	check_header(data, len < WIRE_LONG_HEADER ? len : WIRE_LONG_HEADER);
	chunk_pool_init(&env.pool);
	made = fill = 0;
	fail_after = 0;
	for (int i = 0; i < 2; i++)
		outq_init(&both[i].q);
	for (int i = 0; i < UNITS_MAX && input_left(&in) > 0; i++) {
		step(&in);
		check_books(&both[0]);
		check_books(&both[1]);
		check_account();
	}
	fail_after = 0;
	/* one is written to its end, the other dropped as it stands */
	while (both[0].q.unsent > 0)
		write_some(&both[0], &in, true);
	check_books(&both[0]);
	assert(both[0].count == 0 && both[0].sent == 0);
	outq_fini(&both[0].q, &env);
	outq_fini(&both[1].q, &env);
	model_free(&both[1], both[1].count);
	assert(env.memory.used == 0);
	chunk_pool_fini(&env.pool);
	return 0;
}
