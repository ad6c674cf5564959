/* SPDX-License-Identifier: MIT */
/*
 * The books of requests in flight against a list: requests and replies with envelopes of any form,
 * honest and hostile, given, given up on, forgotten and answered in any order, with memory that
 * runs out. A reply must find the oldest delivery with its envelope, and nothing may be left.
 */
#include <sodium.h>

#include "base/mem.h"
#include "broker/deliveries.h"
#include "broker/envelope.h"
#include "fuzz.h"
#include "net/loop.h"
#include "no_memory.h"
#include "zmtp/wire.h"

enum { LEDGERS = 3, MOST = 600, MESSAGE_MAX = 1800, REST_MAX = 32 };

static struct loop *loop;
static struct counters counters;
static struct deliveries books;
static struct ledger *ledgers[LEDGERS];

/* The oldest first. */
static struct entry {
	struct delivery *d;
	unsigned ledger;
	struct request *r;
} list[MOST];
static size_t count;
static uint64_t number;

/* The envelope that each request must have; a slot is free when `r` is NULL. */
static struct known {
	struct request *r;
	uint8_t key[ENVELOPE_MAX];
	size_t len;
	bool delimited;
} known[MOST];

/* --- messages ------------------------------------------------------------- */

static const uint8_t ids[4][5] = {"\1\2me", "\1\1x", "\1\2me", "\1\2mf"};

struct bytes {
	uint8_t p[MESSAGE_MAX];
	size_t len;
};

static void
put_frame(struct bytes *b, struct input *in, size_t most)
{
	unsigned how = input_byte(in), seed = how >> 5;
	size_t len = how & 4 ? input_byte(in) : how & 8 ? 4 : 0;
	bool long_form = how & 2;

	if (len > most)
		len = most;
	if (b->len + WIRE_LONG_HEADER + len + REST_MAX > MESSAGE_MAX)
		return;
	/* flags that mean nothing, and a form that may be longer than it needs */
	b->p[b->len++] = (uint8_t)((how & 16 ? 0xf0 : 0) | WIRE_FLAG_MORE |
		(long_form ? WIRE_FLAG_LONG : 0));
	memset(b->p + b->len, 0, 8);
	b->len += long_form ? 8 : 1;
	b->p[b->len - 1] = (uint8_t)len;
	memset(b->p + b->len, (int)('a' + seed), len);
	b->len += len;
}

/* The bytes after the routing id: frames, or anything at all. */
static void
put_rest(struct bytes *b, struct input *in)
{
	unsigned how = input_byte(in);

	for (unsigned i = 0; i < how % 8; i++)
		put_frame(b, in, how & 128 ? 255 : 6);
	if (how & 8)
		put_frame(b, in, 0);
	for (unsigned i = 0; how & 16 && i < 20; i++)
		b->p[b->len++] = input_byte(in);
	b->p[b->len++] = 0;
	b->p[b->len++] = 0;
}

/* One frame at *p, if it may be a part of an envelope. */
static bool
next_frame(const uint8_t **p, const uint8_t *end, const uint8_t **body, size_t *len, bool *more)
{
	size_t header = *p < end && **p & WIRE_FLAG_LONG ? WIRE_LONG_HEADER : WIRE_SHORT_HEADER;

	if ((size_t)(end - *p) < header)
		return false;
	for (size_t i = 1; i + 1 < header; i++)
		if ((*p)[i] != 0)
			return false;
	*more = **p & WIRE_FLAG_MORE;
	*len = (*p)[header - 1];
	*body = *p + header;
	*p = *body + (*len <= (size_t)(end - *body) ? *len : 0);
	return *len <= (size_t)(end - *body);
}

/* Without any cleverness: false when it does not begin with a routing id. */
static bool
envelope_of(const uint8_t *p, size_t size, struct known *k)
{
	const uint8_t *end = p + size, *body;
	uint8_t key[ENVELOPE_MAX];
	size_t len, at = 0;
	bool more = true;

	k->len = 0;
	k->delimited = false;
	while (more && next_frame(&p, end, &body, &len, &more) && at + 2 + len <= sizeof(key)) {
		if (at == 0 && !more)
			return false;
		key[at] = WIRE_FLAG_MORE;
		key[at + 1] = (uint8_t)len;
		memcpy(key + at + 2, body, len);
		at += 2 + len;
		k->delimited = k->len > 0 && len == 0 && more;
		if (k->len == 0 || k->delimited) {
			memcpy(k->key, key, at);
			k->len = at;
		}
		if (k->delimited)
			break;
	}
	return k->len > 0;
}

/* The same bytes in one piece, or in two. */
static struct message
as_message(const uint8_t *p, size_t len, size_t split, struct outq *rope)
{
	unsigned later = fail_after;

	outq_init(rope);
	if (split == 0 || split >= len)
		return (struct message){p, len, len, NULL, NULL};
	fail_after = 0;
	assert(outq_append(rope, &loop->env, p, split, NULL));
	assert(outq_append(rope, &loop->env, p + split, len - split, NULL));
	outq_end_message(rope);
	fail_after = later;
	return outq_as_message(rope);
}

/* --- what the input does -------------------------------------------------- */

static struct known *
find_known(const struct request *r)
{
	struct known *k = known;

	while (k->r != r)
		k++;
	return k;
}

static void
give(struct request *r, unsigned ledger)
{
	struct delivery *d =
		count < MOST ? deliveries_assign(&books, ledgers[ledger], r, number, 0) : NULL;

	if (d != NULL) {
		list[count++] = (struct entry){d, ledger, r};
		number++;
	} else if (r->refs == 0) {
		find_known(r)->r = NULL;
		request_release(&books, r);
	}
}

static void
ask(struct input *in)
{
	unsigned how = input_byte(in);
	const uint8_t *id = ids[how & 3];
	size_t id_len = 2u + id[1], split = how & 4 ? input_byte(in) : 0;
	struct bytes b = {{0}, 0}, whole = {{0}, 0};
	struct known k = {0}, *slot = known;
	struct message m;
	struct outq rope, queue;
	uint8_t *copy;

	put_rest(&b, in);
	if (id_len + b.len > MESSAGE_MAX)
		return;
	memcpy(whole.p, id, id_len);
	memcpy(whole.p + id_len, b.p, b.len);
	whole.len = id_len + b.len;
	assert(envelope_of(whole.p, whole.len, &k));
	copy = exact_copy(b.p, b.len);
	m = as_message(copy, b.len, split, &rope);
	outq_init(&queue);
	if (!(how & 8))
		k.r = request_new(&books, id, id_len, &m, how & 16);
	else if (outq_push(&queue, &loop->env, id, id_len, &m, 0))
		k.r = request_of(&books, &queue, how & 16);
	outq_fini(&rope, &loop->env);
	outq_fini(&queue, &loop->env);
	free(copy);
	if (k.r == NULL)
		return;
	assert(k.r->size == whole.len && k.r->delimited == k.delimited);
	assert(k.r->key_len == k.len && memcmp(k.r->key, k.key, k.len) == 0);
	assert(!k.r->whole || memcmp(k.r->bytes, whole.p, whole.len) == 0);
	while (slot < known + MOST && slot->r != NULL)
		slot++;
	if (slot == known + MOST) {
		request_release(&books, k.r);
		return;
	}
	*slot = k;
	give(k.r, how / 32 % LEDGERS);
}

static void
forget(size_t i)
{
	struct request *r = list[i].r;
	bool last = r->refs == 1;

	if (last)
		find_known(r)->r = NULL;
	deliveries_remove(&books, list[i].d);
	for (count--; i < count; i++)
		list[i] = list[i + 1];
}

/* The first in the list that has this key; `plain`: only one without a delimiter. */
static size_t
oldest_with(unsigned ledger, const uint8_t *key, size_t len, bool plain)
{
	size_t i = 0;

	for (; i < count; i++) {
		const struct known *k = find_known(list[i].r);
		if (list[i].ledger == ledger && k->len == len && memcmp(k->key, key, len) == 0 &&
			!(plain && k->delimited))
			break;
	}
	return i;
}

static void
answer(struct input *in)
{
	unsigned how = input_byte(in), ledger = how >> 2 & 3;
	struct bytes b = {{0}, 0};
	struct known k = {0};
	struct message m;
	struct outq rope;
	uint8_t *copy;
	size_t i = count;

	ledger %= LEDGERS;
	if (how & 16)
		put_frame(&b, in, 255); /* some id, in some form */
	else if (!(how & 32))
		b.len = 2u + ids[how & 3][1], memcpy(b.p, ids[how & 3], b.len);
	put_rest(&b, in);
	copy = exact_copy(b.p, b.len);
	m = as_message(copy, b.len, how & 64 ? input_byte(in) : 0, &rope);
	if (envelope_of(b.p, b.len, &k)) {
		i = oldest_with(ledger, k.key, k.len, false);
		if (i == count && k.delimited)
			i = oldest_with(ledger, k.key, 2u + k.key[1], true);
	}
	assert(deliveries_match(&books, ledgers[ledger], &m) == (i < count ? list[i].d : NULL));
	outq_fini(&rope, &loop->env);
	free(copy);
	if (i < count && how & 128)
		forget(i);
}

static void
change(struct input *in, unsigned what)
{
	size_t i = count > 0 ? input_u16(in) % count : 0;

	if (count == 0)
		return;
	switch (what) {
	case 0:
		give(list[i].r, input_byte(in) % LEDGERS);
		break;
	case 1:
		if (!list[i].d->expired)
			deliveries_expire(&books, list[i].d);
		break;
	case 2:
		request_drop_bytes(&books, list[i].r);
		break;
	default:
		forget(i);
	}
}

static void
check(void)
{
	for (unsigned h = 0; h < LEDGERS; h++) {
		uint64_t held = 0;
		uint32_t expired = 0;

		for (size_t i = 0; i < count; i++) {
			held += list[i].ledger == h && !list[i].d->expired;
			expired += list[i].ledger == h && list[i].d->expired;
		}
		deliveries_check(&books, ledgers[h], held);
		assert(ledgers[h]->expired_count == expired);
	}
	assert(books.count == count && counters.kept_bytes <= loop->env.memory.used);
}

static void
on_due(struct timer *timer)
{
	(void)timer;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, data + len};

	if (loop == NULL) {
		assert(sodium_init() >= 0);
		loop = loop_new();
		assert(loop != NULL);
	}
	fail_after = 0;
	counters = (struct counters){0};
	deliveries_init(&books, &loop->env, &counters);
	for (unsigned h = 0; h < LEDGERS; h++)
		ledgers[h] = ledger_new(NULL, loop, on_due, on_due);
	while (input_left(&in) > 0) {
		unsigned op = input_byte(&in) % 16;

		if (op < 5)
			ask(&in);
		else if (op < 10)
			answer(&in);
		else if (op < 15)
			change(&in, op - 10);
		else
			fail_after = 1u + input_byte(&in) % 8u;
		check();
	}
	fail_after = 0;
	while (count > 0)
		forget(count - 1);
	check();
	for (unsigned h = 0; h < LEDGERS; h++)
		ledger_free(ledgers[h]);
	deliveries_fini(&books);
	assert(loop->env.memory.used == 0);
	return 0;
}
