/* SPDX-License-Identifier: MIT */
/*
 * Small modules: id map, backoff, rate limit, log quoting and levels, counters, histogram.
 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/chunk.h"
#include "base/counters.h"
#include "base/histogram.h"
#include "base/idmap.h"
#include "base/idtext.h"
#include "base/log.h"
#include "base/ratelimit.h"
#include "base/recent.h"
#include "base/text.h"
#include "base/words.h"
#include "net/backoff.h"
#include "unit.h"

START_TEST(idmap_against_an_array)
{
	enum { N = 2000 };
	static char ids[N][16];
	static bool in[N];
	struct idmap map;
	size_t count = 0;

	ck_assert_int_ge(sodium_init(), 0);
	idmap_init(&map);
	for (int i = 0; i < N; i++)
		snprintf(ids[i], sizeof(ids[i]), "%d", i);
	for (int step = 0; step < 20000; step++) {
		uint32_t i = randombytes_uniform(N);
		const uint8_t *id = (const uint8_t *)ids[i];
		ck_assert(idmap_get(&map, id, strlen(ids[i])) == (in[i] ? &in[i] : NULL));
		if (in[i])
			idmap_remove(&map, id, strlen(ids[i]));
		else
			idmap_put(&map, id, strlen(ids[i]), &in[i]);
		in[i] = !in[i];
		count += in[i] ? 1 : (size_t)-1;
		ck_assert_uint_eq(map.count, count);
	}
	for (int i = 0; i < N; i++)
		ck_assert(idmap_get(&map, (const uint8_t *)ids[i], strlen(ids[i])) ==
			(in[i] ? &in[i] : NULL));
	idmap_fini(&map);
}
END_TEST

START_TEST(backoff_doubles_up_to_the_maximum)
{
	static const int64_t want[] = {100, 200, 400, 800, 1000, 1000};
	struct backoff b = {0};

	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
			ck_assert_int_eq(backoff_next(&b, 100, 1000, 0, 12345), want[i]);
		backoff_reset(&b);
	}
}
END_TEST

START_TEST(backoff_jitter_stays_in_bounds)
{
	struct backoff b = {0};

	ck_assert_int_eq(backoff_next(&b, 1000, 1000, 25, 0), 750);
	ck_assert_int_eq(backoff_next(&b, 1000, 1000, 25, UINT32_MAX), 1250);
	ck_assert_int_eq(backoff_next(&b, 1, 1, 100, 0), 1);
}
END_TEST

START_TEST(ratelimit_counts_what_it_holds_back)
{
	struct ratelimit r;

	ratelimit_init(&r, 10);
	for (int i = 0; i < 25; i++)
		ck_assert(ratelimit_pass(&r, 5000) == (i < 10));
	ck_assert_uint_eq(ratelimit_collect(&r, 5999), 0);
	ck_assert_uint_eq(ratelimit_collect(&r, 6000), 15);
	ck_assert_uint_eq(ratelimit_collect(&r, 6000), 0);
	ck_assert(ratelimit_pass(&r, 6000));
}
END_TEST

START_TEST(quoting)
{
	char out[64], small[16];

	ck_assert_str_eq(log_quote(out, sizeof(out), "plain-text_1.2", 14), "plain-text_1.2");
	ck_assert_str_eq(log_quote(out, sizeof(out), "", 0), "\"\"");
	ck_assert_str_eq(log_quote(out, sizeof(out), "a b=c", 5), "\"a b=c\"");
	ck_assert_str_eq(
		log_quote(out, sizeof(out), "a\"\\\n\x1b\xff", 6), "\"a\\\"\\\\\\x0a\\x1b\\xff\"");
	ck_assert_uint_lt(
		strlen(log_quote(small, sizeof(small), "\1\2\3\4\5\6\7", 7)), sizeof(small));
	ck_assert_ptr_nonnull(strstr(small, "..."));
}
END_TEST

START_TEST(counters_print_every_reason_that_occurred)
{
	struct counters c = {.received = 7, .sent = 4};
	char text[1536];

	for (int i = 0; i < DROP_REASON_COUNT; i++)
		c.dropped[i] = 1;
	c.closed_by[CLOSE_IO_ERROR] = 2;
	counters_text(&c, text, sizeof(text));
	ck_assert_uint_eq(counters_dropped(&c), DROP_REASON_COUNT);
	ck_assert_ptr_nonnull(strstr(text, "received=7 sent=4 queued=0"));
	for (int i = 0; i < DROP_REASON_COUNT; i++)
		ck_assert_ptr_nonnull(strstr(text, drop_reason_name(i)));
	ck_assert_ptr_nonnull(strstr(text, "closed_io_error=2"));
	ck_assert_ptr_null(strstr(text, "closed_admin"));
	ck_assert_uint_lt(strlen(counters_text(&c, text, 20)), 20);
}
END_TEST

START_TEST(histogram_buckets_hold_what_their_bounds_say)
{
	struct histogram h = {0}, *held = NULL, other = {0};

	for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
		ck_assert_uint_eq(histogram_bucket(histogram_bound(i)), i);
		ck_assert_uint_eq(histogram_bucket(histogram_bound(i) + 1), i + 1);
	}
	ck_assert_uint_eq(histogram_bucket(0), 0);
	ck_assert_uint_eq(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);

	histogram_add(&h, 15000, 3);
	ck_assert_uint_eq(h.bucket[1], 3);
	ck_assert_uint_eq(h.sum_ns, 45000);
	histogram_hold(&held, &h, 2);
	histogram_hold(&held, &other, 1);
	histogram_hold(&held, &h, 2);
	ck_assert_uint_eq(histogram_count(&h), 3);
	histogram_add_held(&held, 0, 100);
	ck_assert_ptr_null(held);
	ck_assert_uint_eq(h.bucket[0], 4);
	ck_assert_uint_eq(h.sum_ns, 45400);
	ck_assert_uint_eq(histogram_count(&h), 7);
	ck_assert_uint_eq(histogram_count(&other), 1);
	histogram_add_held(&held, 0, 100);
	ck_assert_uint_eq(histogram_count(&h), 7);
}
END_TEST

START_TEST(log_levels_have_names)
{
	enum log_level level;

	for (int i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++) {
		ck_assert(log_level_parse(log_level_name((enum log_level)i), &level));
		ck_assert_int_eq((int)level, i);
	}
	ck_assert(!log_level_parse("", &level));
	ck_assert(!log_level_parse("errors", &level));
}
END_TEST

START_TEST(recent_keeps_what_is_noteworthy)
{
	static struct recent_event events[RECENT_EVENTS];
	char text[RECENT_TEXT_MAX * 2], peer[16];
	size_t count;

	memset(text, 'x', sizeof(text));
	ck_assert_uint_eq(recent_last(), 0);
	ck_assert_uint_eq(recent_copy(events), 0);
	recent_add(LOG_LEVEL_NOTICE, false, "reloaded", "changes=1", 9);
	recent_add(LOG_LEVEL_ERROR, false, "an_event_whose_name_is_longer_than_any_should_be", text,
		sizeof(text));
	for (int i = 0; i < 10 * RECENT_RING; i++)
		recent_add(LOG_LEVEL_INFO, false, "peer_ready", peer,
			(size_t)snprintf(peer, sizeof(peer), "peer=%d", i));

	count = recent_copy(events);
	ck_assert_uint_eq(count, 2 + RECENT_RING);
	ck_assert_uint_eq(recent_last(), 2 + 10 * RECENT_RING);
	ck_assert_uint_eq(events[0].number, 1);
	ck_assert_str_eq(events[0].event, "reloaded");
	ck_assert_str_eq(events[0].text, "changes=1");
	ck_assert_int_eq((int)events[1].level, LOG_LEVEL_ERROR);
	ck_assert_uint_eq(strlen(events[1].event), RECENT_NAME_MAX - 1);
	ck_assert_uint_eq(strlen(events[1].text), RECENT_TEXT_MAX - 1);
	for (size_t i = 2; i < count; i++)
		ck_assert_uint_eq(events[i].number, recent_last() - (count - 1 - i));
	ck_assert_str_eq(events[count - 1].text, "peer=479");

	recent_add(LOG_LEVEL_WARNING, false, "worker_suspect", "", 0);
	count = recent_copy(events);
	ck_assert_str_eq(events[count - 1].event, "worker_suspect");
	ck_assert_uint_eq(events[2].level, LOG_LEVEL_INFO);
}
END_TEST

/* It grows as it is written; emptied, it needs no memory for as much again. */
START_TEST(text_grows)
{
	struct text t = {0};
	char *bytes, *taken;

	ck_assert_ptr_null(text_take(&t));
	for (int i = 0; i < 1000; i++)
		text_add(&t, "%d\n", i);
	ck_assert_uint_eq(t.len, 10 * 2 + 90 * 3 + 900 * 4);
	ck_assert_uint_eq(strlen(t.bytes), t.len);
	ck_assert_str_eq(t.bytes + t.len - 8, "998\n999\n");
	bytes = t.bytes;
	text_clear(&t);
	for (int i = 0; i < 1000; i++)
		text_add(&t, "%d\n", i);
	ck_assert_ptr_eq(t.bytes, bytes);
	taken = text_take(&t);
	ck_assert_ptr_eq(taken, bytes);
	ck_assert_uint_eq(t.len + t.cap, 0);
	free(taken);
	/* nothing of an incomplete text is returned */
	text_add(&t, "a part");
	t.no_memory = true;
	text_add(&t, "lost");
	ck_assert_str_eq(t.bytes, "a part");
	ck_assert_ptr_null(text_take(&t));
}
END_TEST

START_TEST(words_that_were_meant)
{
	static const struct {
		const char *typed, *word;
		unsigned distance;
	} cases[] = {{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"status", "status", 0},
		{"STATUS", "status", 0}, {"stauts", "status", 1}, {"tsatus", "status", 1},
		{"stats", "status", 1}, {"statuss", "status", 1}, {"stotus", "status", 1},
		{"sattus", "status", 1}, {"ab", "ba", 1}, {"abc", "cab", 2},
		{"memory_limt", "memory_limit", 1}, {"kitten", "sitting", 3}};
	char longest[64] = "";

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ck_assert_msg(word_distance(cases[i].typed, cases[i].word) == cases[i].distance,
			"%s, %s", cases[i].typed, cases[i].word);
	memset(longest, 'a', 40);
	ck_assert_uint_eq(word_distance(longest, longest), 0);
	longest[40] = 'a';
	ck_assert_uint_eq(word_distance(longest, "a"), 40);
	ck_assert_uint_eq(word_distance("a", longest), 40);
}
END_TEST

START_TEST(routing_ids_are_text_where_they_can_be)
{
	static const struct {
		const char *id;
		size_t len;
		const char *shown;
	} cases[] = {{"client-1", 8, "client-1"}, {"a", 1, "a"}, {"\0\1\2", 3, "0x000102"},
		{"a b", 3, "0x612062"}, {"a\n", 2, "0x610a"}, {"\xc3\xa4", 2, "0xc3a4"},
		{"a\x7f", 2, "0x617f"}, {"==\"\\", 4, "==\"\\"},
		/* texts that could be taken for another id, or for none */
		{"0x61", 4, "0x30783631"}, {"0x", 2, "0x3078"}, {"0X61", 4, "0X61"}, {"0", 1, "0"},
		{"-", 1, "0x2d"}, {"--", 2, "--"}, {"", 0, "-"}};
	char out[IDTEXT_MAX], longest[IDTEXT_BYTES + 10];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ck_assert_str_eq(idtext(out, cases[i].id, cases[i].len), cases[i].shown);
	memset(longest, 1, sizeof(longest));
	ck_assert_uint_eq(strlen(idtext(out, longest, IDTEXT_BYTES)), IDTEXT_MAX - 1);
	ck_assert_uint_eq(strlen(idtext(out, longest, sizeof(longest))), IDTEXT_MAX - 1);
	memset(longest, 'x', sizeof(longest));
	ck_assert_uint_eq(strlen(idtext(out, longest, sizeof(longest))), IDTEXT_BYTES);
}
END_TEST

/* Chunks in use are not free, and those kept for reuse have a limit. */
START_TEST(free_chunks_are_added_up)
{
	enum { MANY = 5000, SIZES = 5 };
	static const size_t sizes[SIZES] = {1, 2000, 16000, 100000, 260000};
	static struct chunk *many[MANY];
	struct chunk *chunks[SIZES];
	struct chunk_pool pool;
	uint64_t expected = 0;

	chunk_pool_init(&pool);
	ck_assert_uint_eq(chunk_pool_bytes(&pool), 0);
	for (int i = 0; i < SIZES; i++)
		chunks[i] = chunk_new(&pool, sizes[i]);
	ck_assert_uint_eq(chunk_pool_bytes(&pool), 0);
	for (int i = 0; i < SIZES; i++) {
		ck_assert_uint_ge(chunk_cost(chunks[i]), sizes[i] + sizeof(struct chunk));
		expected += chunk_cost(chunks[i]);
		chunk_unref(&pool, chunks[i]);
		ck_assert_uint_eq(chunk_pool_bytes(&pool), expected);
	}
	chunks[0] = chunk_new(&pool, sizes[2]);
	ck_assert_uint_eq(chunk_pool_bytes(&pool), expected - chunk_cost(chunks[0]));
	chunk_unref(&pool, chunks[0]);
	ck_assert_uint_eq(chunk_pool_bytes(&pool), expected);
	for (int size = 0; size < SIZES; size++) {
		for (int i = 0; i < MANY; i++)
			ck_assert_ptr_nonnull(many[i] = chunk_new(&pool, sizes[size]));
		for (int i = 0; i < MANY; i++)
			chunk_unref(&pool, many[i]);
	}
	ck_assert_uint_gt(chunk_pool_bytes(&pool), expected);
	ck_assert_uint_lt(chunk_pool_bytes(&pool), 20u << 20);
	chunk_pool_fini(&pool);
	ck_assert_uint_eq(chunk_pool_bytes(&pool), 0);
}
END_TEST

UNIT_MAIN("base", tcase_add_test(tc, free_chunks_are_added_up), tcase_add_test(tc, text_grows),
	tcase_add_test(tc, recent_keeps_what_is_noteworthy),
	tcase_add_test(tc, histogram_buckets_hold_what_their_bounds_say),
	tcase_add_test(tc, log_levels_have_names), tcase_add_test(tc, idmap_against_an_array),
	tcase_add_test(tc, backoff_doubles_up_to_the_maximum),
	tcase_add_test(tc, backoff_jitter_stays_in_bounds),
	tcase_add_test(tc, ratelimit_counts_what_it_holds_back), tcase_add_test(tc, quoting),
	tcase_add_test(tc, words_that_were_meant),
	tcase_add_test(tc, routing_ids_are_text_where_they_can_be),
	tcase_add_test(tc, counters_print_every_reason_that_occurred))
