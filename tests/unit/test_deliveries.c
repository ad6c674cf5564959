/* SPDX-License-Identifier: MIT */
/*
 * The ledgers of requests in flight: which request a reply answers, in any order and with any form
 * of envelope; and that they use no memory in the end, also when an allocation fails half-way.
 */
#include <sodium.h>
#include <string.h>

#include "../recount.h"
#include "base/mem.h"
#include "broker/deliveries.h"
#include "broker/envelope.h"
#include "unit.h"

static struct loop *loop;
static struct counters counters;
static struct deliveries books;

/* --- memory that runs out (the linker wraps base/mem.c's) ----------------- */

static int fail_after; /* that many allocations, then one fails; 0: none does */
static bool ran_out;

static bool
fails(void)
{
	if (fail_after == 0 || --fail_after > 0)
		return false;
	ran_out = true;
	return true;
}

void *__real_mem_try(size_t size);
void *__wrap_mem_try(size_t size);
void *__real_mem_try_new(size_t size);
void *__wrap_mem_try_new(size_t size);

void *
__wrap_mem_try(size_t size)
{
	return fails() ? NULL : __real_mem_try(size);
}

void *
__wrap_mem_try_new(size_t size)
{
	return fails() ? NULL : __real_mem_try_new(size);
}

/* --- what the tests speak in ---------------------------------------------- */

static void
on_due(struct timer *timer)
{
	(void)timer;
}

static void
setup(void)
{
	ck_assert_int_ge(sodium_init(), 0);
	loop = loop_new();
	ck_assert_ptr_nonnull(loop);
	counters = (struct counters){0};
	deliveries_init(&books, &loop->env, &counters);
}

static void
teardown(void)
{
	deliveries_fini(&books);
	ck_assert_uint_eq(loop->env.memory.used, 0);
	ck_assert_uint_eq(counters.kept_bytes, 0);
	loop_free(loop);
}

static struct ledger *
new_ledger(void)
{
	struct ledger *h = ledger_new(NULL, loop, on_due, on_due);

	ck_assert_ptr_nonnull(h);
	return h;
}

static struct message
contiguous(const void *bytes, size_t len)
{
	return (struct message){bytes, len, len, NULL, NULL};
}

/* bytes[len] in a queue, in two blocks, the second of which begins at `split`. */
static struct message
rope_of(struct outq *q, const void *bytes, size_t len, size_t split)
{
	struct chunk *chunk = chunk_new(&loop->env.pool, len);

	ck_assert_ptr_nonnull(chunk);
	memcpy(chunk->data, bytes, len);
	outq_init(q);
	if (split > 0)
		ck_assert(outq_append(q, &loop->env, bytes, split, NULL));
	if (split < len)
		ck_assert(outq_append(q, &loop->env, chunk->data + split, len - split, chunk));
	chunk_unref(&loop->env.pool, chunk);
	outq_end_message(q);
	return outq_as_message(q);
}

#define ID "\1\2me"

static struct request *
ask(const void *bytes, size_t len, bool keep)
{
	struct message m = contiguous(bytes, len);
	struct request *r = request_new(&books, (const uint8_t *)ID, 4, &m, keep);

	ck_assert_ptr_nonnull(r);
	return r;
}

#define ASK(bytes, keep) ask(bytes, sizeof(bytes) - 1, keep)

static struct delivery *
give(struct ledger *h, struct request *r)
{
	static uint64_t number;
	struct delivery *d = deliveries_assign(&books, h, r, number++, 0);

	ck_assert_ptr_nonnull(d);
	return d;
}

static struct delivery *
match(struct ledger *h, const void *bytes, size_t len)
{
	struct message m = contiguous(bytes, len);
	struct delivery *d = deliveries_match(&books, h, &m);

	/* the same wherever it is cut into two */
	for (size_t split = 0; split <= len && split < 700; split++) {
		struct outq rope;

		m = rope_of(&rope, bytes, len, split);
		ck_assert(deliveries_match(&books, h, &m) == d);
		outq_fini(&rope, &loop->env);
	}
	return d;
}

#define MATCH(h, bytes) match(h, bytes, sizeof(bytes) - 1)

static uint64_t
pending(const struct ledger *h)
{
	uint64_t n = 0;

	for (const struct list *l = h->pending.next; l != &h->pending; l = l->next)
		n++;
	return n;
}

static void
check(const struct ledger *h)
{
	deliveries_check(&books, h, pending(h));
}

/* --- matching ------------------------------------------------------------- */

static uint64_t
cost_of(const struct outq *q)
{
	struct recount r = {0};

	recount_queue(&r, q);
	return recount_end(&r);
}

START_TEST(equal_envelopes_are_matched_in_order)
{
	struct ledger *h = new_ledger(), *other = new_ledger();
	struct delivery *d[5];

	for (int i = 0; i < 5; i++)
		d[i] = give(h, ASK("\1\0\0\1x", false));
	give(other, d[4]->request);
	/* the first two are expired: a late reply still answers them */
	deliveries_expire(&books, d[0]);
	deliveries_expire(&books, d[1]);
	ck_assert_uint_eq(h->expired_count, 2);
	for (int i = 0; i < 5; i++) {
		check(h);
		check(other);
		ck_assert(MATCH(h, ID "\1\0\0\3you") == d[i]);
		if (i == 2) /* one from the middle is removed first */
			deliveries_remove(&books, d[3]);
		deliveries_remove(&books, d[i]);
		if (i == 2)
			d[3] = give(other, ASK("\1\0\0\1y", false));
		if (i == 2) {
			ck_assert(MATCH(h, ID "\1\0\0\3you") == d[4]);
			deliveries_remove(&books, d[4]);
			break;
		}
	}
	ck_assert_ptr_null(MATCH(h, ID "\1\0\0\3you"));
	ck_assert_uint_eq(h->expired_count, 0);
	/* the other worker's request waits for its own reply */
	ck_assert_ptr_nonnull(MATCH(other, ID "\1\0\0\3you"));
	deliveries_remove(&books, MATCH(other, ID "\1\0\0\3you"));
	ck_assert(MATCH(other, ID "\1\0\0\3you") == d[3]);
	deliveries_remove(&books, d[3]);
	ledger_free(h);
	ledger_free(other);
}
END_TEST

START_TEST(request_ids_are_matched_exactly)
{
	struct ledger *h = new_ledger();
	struct delivery *a = give(h, ASK("\1\4aaaa\1\0\0\1x", false));
	struct delivery *b = give(h, ASK("\1\4bbbb\1\0\0\1x", false));
	struct delivery *c = give(h, ASK("\1\0\0\1x", false));

	ck_assert(MATCH(h, ID "\1\4bbbb\1\0\0\0") == b);
	ck_assert(MATCH(h, ID "\1\0\0\0") == c);
	ck_assert(MATCH(h, ID "\1\4aaaa\1\0\0\0") == a);
	ck_assert_ptr_null(MATCH(h, ID "\1\4aaab\1\0\0\0"));
	ck_assert_ptr_null(MATCH(h, "\1\2mE\1\4aaaa\1\0\0\0"));
	ck_assert_ptr_null(MATCH(h, ID "\0\4aaaa"));     /* no delimiter */
	ck_assert_ptr_null(MATCH(h, ID "\1\4aaaa\0\0")); /* an empty last frame is no delimiter */
	ck_assert_ptr_null(MATCH(h, "\0\2me"));
	ck_assert_ptr_null(MATCH(h, "\1\0\1\0\0\0"));
	check(h);
	deliveries_remove(&books, b);
	deliveries_remove(&books, a);
	deliveries_remove(&books, c);
	ledger_free(h);
}
END_TEST

/* An envelope is the same with long headers and with meaningless flags. */
START_TEST(other_wire_forms)
{
	static const char long_form[] = "\3\0\0\0\0\0\0\0\2me"
					"\3\0\0\0\0\0\0\0\4aaaa"
					"\3\0\0\0\0\0\0\0\0"
					"\0\1x";
	struct ledger *h = new_ledger();
	struct delivery *d;

	for (int keep = 0; keep < 2; keep++) {
		struct message m = contiguous(long_form + 11, sizeof(long_form) - 12);
		struct request *r = request_new(&books, (const uint8_t *)ID, 4, &m, keep);

		ck_assert_ptr_nonnull(r);
		d = give(h, r);
		ck_assert(r->delimited);
		ck_assert(MATCH(h, ID "\1\4aaaa\1\0\0\1x") == d);
		ck_assert(MATCH(h, "\3\0\0\0\0\0\0\0\2me\1\4aaaa\1\0\0\1x") == d);
		ck_assert(MATCH(h, "\1\2me\11\4aaaa\201\0\0\1x") == d);
		ck_assert(match(h, long_form, sizeof(long_form) - 1) == d);
		ck_assert(
			!keep || memcmp(r->bytes + 4, long_form + 11, sizeof(long_form) - 12) == 0);
		check(h);
		deliveries_remove(&books, d);
	}
	d = give(h, ASK("\1\4aaaa\1\0\0\1x", false));
	ck_assert(match(h, long_form, sizeof(long_form) - 1) == d);
	deliveries_remove(&books, d);
	ledger_free(h);
}
END_TEST

/* Long headers take space, but do not count against the limits of an envelope. */
START_TEST(a_long_envelope_in_long_headers)
{
	uint8_t form[2][2000] = {ID, "\3\0\0\0\0\0\0\0\2me"};
	size_t len[2] = {4, 11};
	struct ledger *h = new_ledger();

	for (int i = 0; i < 60; i++) {
		memcpy(form[0] + len[0], "\1\6", 2);
		memcpy(form[1] + len[1], "\3\0\0\0\0\0\0\0\6", 9);
		memset(form[0] + len[0] + 2, 'a' + i % 20, 6);
		memset(form[1] + len[1] + 9, 'a' + i % 20, 6);
		len[0] += 8;
		len[1] += 15;
	}
	memcpy(form[0] + len[0], "\1\0\0\1x", 5);
	memcpy(form[1] + len[1], "\3\0\0\0\0\0\0\0\0\0\1x", 12);
	len[0] += 5;
	len[1] += 12;
	for (int asked = 0; asked < 2; asked++) {
		size_t skip = asked == 0 ? 4 : 11;
		struct delivery *d = give(h, ask(form[asked] + skip, len[asked] - skip, true));
		struct message m = contiguous(form[0], len[0]);

		ck_assert(d->request->delimited);
		ck_assert(deliveries_match(&books, h, &m) == d);
		m = contiguous(form[1], len[1]);
		ck_assert(deliveries_match(&books, h, &m) == d);
		deliveries_remove(&books, d);
	}
	ledger_free(h);
}
END_TEST

START_TEST(requests_without_a_delimiter)
{
	struct ledger *h = new_ledger();
	struct delivery *plain = give(h, ASK("\0\1x", false));
	struct delivery *exact = give(h, ASK("\1\3key\1\0\0\1x", false));

	ck_assert(!plain->request->delimited && exact->request->delimited);
	ck_assert(MATCH(h, ID "\0\1y") == plain);
	ck_assert(MATCH(h, ID "\1\1a\0\1y") == plain);
	ck_assert(MATCH(h, ID "\1\1a\1\0\0\1y") == plain); /* an empty frame in its body */
	ck_assert(MATCH(h, ID "\1\3key\1\0\0\1y") == exact);
	deliveries_remove(&books, plain);
	ck_assert_ptr_null(MATCH(h, ID "\0\1y"));
	ck_assert(MATCH(h, ID "\1\3key\1\0\0\1y") == exact);
	deliveries_remove(&books, exact);
	ledger_free(h);
}
END_TEST

/* Too long for an envelope: only the routing id is matched. */
START_TEST(envelopes_have_an_end)
{
	uint8_t bytes[900] = {1, 2, 'm', 'e'};
	struct ledger *h = new_ledger();
	struct delivery *d;
	struct request *r;
	size_t len = 4;

	while (len < 600) { /* frames of 98 bytes */
		bytes[len++] = 1;
		bytes[len++] = 98;
		memset(bytes + len, 'k', 98);
		len += 98;
	}
	memcpy(bytes + len, "\1\0\0\1x", 5);
	len += 5;
	r = ask(bytes + 4, len - 4, true);
	ck_assert(!r->delimited && r->key_len == 4);
	d = give(h, r);
	ck_assert(match(h, bytes, len) == d);
	deliveries_remove(&books, d);

	/* a frame that is longer than a routing id can be */
	memcpy(bytes + 4, "\3\0\0\0\0\0\0\1\0", 9);
	memset(bytes + 13, 'k', 256);
	memcpy(bytes + 269, "\1\0\0\1x", 5);
	r = ask(bytes + 4, 270, false);
	ck_assert(!r->delimited && r->key_len == 4);
	d = give(h, r);
	ck_assert(match(h, bytes, 274) == d);
	deliveries_remove(&books, d);

	/* exactly as long as it may be */
	len = 4;
	for (size_t n = 251; len < ENVELOPE_MAX - 2; n = ENVELOPE_MAX - 2 - len - 2) {
		bytes[len++] = 1;
		bytes[len++] = (uint8_t)n;
		memset(bytes + len, 'k', n);
		len += n;
	}
	memcpy(bytes + len, "\1\0\0\1x", 5);
	r = ask(bytes + 4, len + 1, false);
	ck_assert(r->delimited && r->key_len == ENVELOPE_MAX);
	d = give(h, r);
	ck_assert(match(h, bytes, len + 5) == d);
	deliveries_remove(&books, d);
	ledger_free(h);
}
END_TEST

/* Thousands of deliveries, some alike, in any order, against a list of them by age. */
START_TEST(table_against_a_list)
{
	enum { LEDGERS = 5, KEYS = 300, MOST = 3000 };
	static struct entry {
		struct delivery *d;
		int ledger, key;
	} model[MOST];
	struct ledger *h[LEDGERS];
	uint32_t seed = (uint32_t)_i + 1;
	int count = 0;
#define RND(n) ((seed = seed * 1664525 + 1013904223) >> 8) % (uint32_t)(n)

	for (int i = 0; i < LEDGERS; i++)
		h[i] = new_ledger();
	for (int step = 0; step < 12000 || count > 0; step++) {
		bool grows = step < 8000 && RND(5) > 0 && count < MOST;
		int key = (int)(RND(2) ? RND(KEYS) : RND(4)), at = 0;
		uint8_t bytes[] = {
			1, 2, 'm', 'e', 1, 2, (uint8_t)(key >> 8), (uint8_t)key, 1, 0, 0, 0};
		struct message m = contiguous(bytes, sizeof(bytes));
		int w = (int)RND(LEDGERS);

		if (grows) {
			model[count++] = (struct entry){
				give(h[w], ask(bytes + 4, sizeof(bytes) - 4, RND(2))), w, key};
			continue;
		}
		if (count > 0 && RND(4) == 0)
			deliveries_check(&books, h[w], pending(h[w]));
		if (count > 0 && RND(3) == 0) { /* expired, or removed for another reason */
			at = (int)RND(count);
			if (RND(2) && !model[at].d->expired) {
				deliveries_expire(&books, model[at].d);
				continue;
			}
		} else {
			while (at < count && (model[at].ledger != w || model[at].key != key))
				at++;
			ck_assert(deliveries_match(&books, h[w], &m) ==
				(at < count ? model[at].d : NULL));
			if (at == count)
				continue;
		}
		deliveries_remove(&books, model[at].d);
		for (count--; at < count; at++)
			model[at] = model[at + 1];
	}
	ck_assert_uint_ge(books.size, 512); /* the table grew, with all entries */
	for (int i = 0; i < LEDGERS; i++)
		ledger_free(h[i]);
#undef RND
}
END_TEST

/* --- what is kept --------------------------------------------------------- */

/* The message of a request that is kept, as it would be sent again. */
static void
expect_kept(const struct request *r, const uint8_t *bytes, size_t len)
{
	static uint8_t got[20000];
	struct message m;
	const uint8_t *p;
	size_t n;

	ck_assert_uint_eq(r->size, len);
	if (r->whole) {
		ck_assert_mem_eq(r->bytes, bytes, len);
		return;
	}
	ck_assert_ptr_nonnull(r->kept);
	m = outq_as_message(r->kept);
	ck_assert_uint_eq(m.size, len);
	p = message_front(&m, got, sizeof(got), &n);
	ck_assert_uint_eq(n, len);
	ck_assert_mem_eq(p, bytes, len);
}

START_TEST(messages_are_kept_as_they_came)
{
	static const size_t sizes[] = {1, 200, 255, 505, 506, 507, 508, 509, 600, 5000, 15000};
	static uint8_t bytes[16000];
	struct outq rope, queue;
	struct message m;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) * 3; i++) {
		size_t size = sizes[i / 3], len = 4 + 2 + size;
		struct request *r;
		struct ledger *h = new_ledger();

		memcpy(bytes, ID, 4);
		bytes[4] = 1, bytes[5] = 0; /* a delimiter, and the rest as it comes */
		memset(bytes + 6, (int)('a' + i), size);
		outq_init(&queue);
		if (i % 3 == 0) {
			m = contiguous(bytes + 4, len - 4);
			r = request_new(&books, bytes, 4, &m, true);
		} else if (i % 3 == 1) {
			m = rope_of(&rope, bytes + 4, len - 4, (len - 4) / 2);
			r = request_new(&books, bytes, 4, &m, true);
			ck_assert(r == NULL || r->whole || outq_empty(&rope));
			outq_fini(&rope, &loop->env);
		} else {
			m = contiguous(bytes + 4, len - 4);
			ck_assert(outq_push(&queue, &loop->env, bytes, 4, &m, 0));
			r = request_of(&books, &queue, true);
			ck_assert_uint_eq(queue.messages, 1); /* which stays */
		}
		ck_assert_ptr_nonnull(r);
		ck_assert(request_is_kept(r));
		outq_fini(&queue, &loop->env);
		expect_kept(r, bytes, len);
		ck_assert_uint_eq(loop->env.memory.used,
			counters.kept_bytes +
				(r->kept != NULL ? cost_of(r->kept) - r->kept->bytes : 0));
		ck_assert_uint_ge(counters.kept_bytes, len);
		/* it outlives deliveries while it waits, and is freed with the last reference */
		request_requeue(&books, r, false);
		deliveries_remove(&books, give(h, r));
		expect_kept(r, bytes, len);
		give(h, r);
		request_unqueue(&books, r);
		give(h, r);
		give(h, r);
		ck_assert_uint_eq(r->deliveries, 4);
		request_drop_bytes(&books, r);
		ck_assert(!request_is_kept(r));
		request_drop_bytes(&books, r);
		check(h);
		while (!list_empty(&h->pending))
			deliveries_remove(&books, ledger_oldest(h));
		ck_assert_uint_eq(loop->env.memory.used, 0);
		ck_assert_uint_eq(counters.kept_bytes, 0);
		ledger_free(h);
	}
}
END_TEST

START_TEST(requests_that_wait_are_freed_at_the_end)
{
	struct request *first = ASK("\1\0\0\1a", true);
	size_t len;

	request_requeue(&books, first, false);
	request_requeue(&books, ASK("\1\0\0\1b", true), false);
	ck_assert_uint_eq(books.requeued_count, 2);
	ck_assert_mem_eq(request_client(first, &len), "me", 2);
	ck_assert_uint_eq(len, 2);
}
END_TEST

/* A few places with each delivery, and entries of both tables are found meanwhile. */
START_TEST(a_table_grows_by_places)
{
	struct ledger *h = new_ledger();
	char bytes[] = "\1\1?\1\0\0\1a";
	unsigned turns = 0;

	for (int i = 0; i < 64; i++) {
		bytes[2] = (char)i;
		give(h, ASK(bytes, false));
	}
	ck_assert_uint_eq(books.size, 64);
	ck_assert_ptr_null(books.old);
	for (int i = 64; i < 128 && (turns == 0 || books.old != NULL); i++, turns++) {
		bytes[2] = (char)i;
		give(h, ASK(bytes, false));
		check(h);
	}
	ck_assert_uint_eq(books.size, 128);
	ck_assert_uint_eq(turns, 1 + 64 / 2);
	ck_assert_ptr_null(books.old);
	while (!list_empty(&h->pending))
		deliveries_remove(&books, ledger_oldest(h));
	ledger_free(h);
}
END_TEST

/* --- without memory ------------------------------------------------------- */

/* The whole sequence; false if an allocation failed, and then nothing may be left. */
static bool
one_life(const uint8_t *bytes, size_t len, int how)
{
	struct ledger *h = ledger_new(NULL, loop, on_due, on_due);
	struct message m = contiguous(bytes + 4, len - 4);
	struct request *r = NULL;
	struct outq queue;
	bool done = false;

	outq_init(&queue);
	if (h == NULL)
		return false;
	if (how == 0)
		r = request_new(&books, bytes, 4, &m, true);
	else if (outq_push(&queue, &loop->env, bytes, 4, &m, 0))
		r = request_of(&books, &queue, true);
	if (r != NULL && deliveries_assign(&books, h, r, 0, 0) == NULL) {
		ck_assert_uint_eq(r->refs, 0);
		request_release(&books, r);
		r = NULL;
	}
	if (r != NULL) /* the second needs memory of its own */
		done = deliveries_assign(&books, h, r, 1, 0) != NULL;
	check(h);
	ck_assert_uint_eq(pending(h), r == NULL ? 0 : 1 + done);
	while (!list_empty(&h->pending))
		deliveries_remove(&books, ledger_oldest(h));
	outq_fini(&queue, &loop->env);
	ledger_free(h);
	return done;
}

START_TEST(no_memory_at_any_point)
{
	static const size_t sizes[] = {3, 300, 700, 9000};
	static uint8_t bytes[10000] = ID "\1";
	int points = 0;

	for (int i = 0; i < 8; i++) {
		for (int n = 1;; n++) {
			bool done;

			memset(bytes + 6, 'x', sizes[i / 2]);
			/* as for the first request ever: no table, no blocks to be used again */
			free(books.table);
			books.table = NULL;
			books.size = 0;
			chunk_pool_fini(&loop->env.pool);
			ran_out = false;
			fail_after = n;
			done = one_life(bytes, 6 + sizes[i / 2], i % 2);
			fail_after = 0;
			ck_assert_uint_eq(loop->env.memory.used, 0);
			ck_assert_uint_eq(counters.kept_bytes, 0);
			ck_assert(done || ran_out);
			if (!ran_out)
				break;
			points += !done; /* some allocations may fail without effect */
		}
	}
	ck_assert_int_ge(points, 8 * 4);
}
END_TEST

/* A table that cannot grow still works. */
START_TEST(no_memory_for_a_larger_table)
{
	struct ledger *h = new_ledger();
	size_t size;

	give(h, ASK("\1\0\0\1x", false));
	size = books.size;
	while (books.count < size)
		give(h, ASK("\1\0\0\1x", false));
	for (int i = 0; i < 10; i++) {
		struct request *r = ASK("\1\0\0\1x", false);
		fail_after = 1;
		give(h, r);
		fail_after = 0;
	}
	ck_assert_uint_eq(books.size, size);
	check(h);
	give(h, ASK("\1\0\0\1x", false));
	ck_assert_uint_eq(books.size, 2 * size);
	check(h);
	while (!list_empty(&h->pending)) {
		ck_assert(deliveries_match(&books, h,
				  &(struct message){(const uint8_t *)ID "\1\0\0\1x", 9, 9, NULL,
					  NULL}) == ledger_oldest(h));
		deliveries_remove(&books, ledger_oldest(h));
	}
	ledger_free(h);
}
END_TEST

START_TEST(answer_times)
{
	static const int64_t ms[] = {0, 1, 2, 300, 262145};
	uint64_t sum = 0;

	for (size_t i = 0; i < sizeof(ms) / sizeof(ms[0]); i++) {
		unsigned bucket = histogram_bucket((uint64_t)ms[i] * 1000000);
		uint64_t before = books.answers.bucket[bucket];
		deliveries_replied(&books, ms[i]);
		ck_assert_uint_eq(books.answers.bucket[bucket], before + 1);
		sum += (uint64_t)ms[i] * 1000000;
	}
	ck_assert_uint_eq(histogram_count(&books.answers), 5);
	ck_assert_uint_eq(books.answers.sum_ns, sum);
}
END_TEST

UNIT_MAIN("deliveries", tcase_add_checked_fixture(tc, setup, teardown),
	tcase_add_test(tc, equal_envelopes_are_matched_in_order),
	tcase_add_test(tc, request_ids_are_matched_exactly), tcase_add_test(tc, other_wire_forms),
	tcase_add_test(tc, a_long_envelope_in_long_headers),
	tcase_add_test(tc, requests_without_a_delimiter), tcase_add_test(tc, envelopes_have_an_end),
	tcase_add_loop_test(tc, table_against_a_list, 0, 8),
	tcase_add_test(tc, a_table_grows_by_places),
	tcase_add_test(tc, messages_are_kept_as_they_came),
	tcase_add_test(tc, requests_that_wait_are_freed_at_the_end),
	tcase_add_test(tc, no_memory_at_any_point),
	tcase_add_test(tc, no_memory_for_a_larger_table), tcase_add_test(tc, answer_times))
