/* SPDX-License-Identifier: MIT */
/*
 * Subscriptions against a model that is as simple as can be: a table of who has which topic.
 */
#include <stdio.h>
#include <string.h>

#include "broker/audience.h"
#include "unit.h"

/* A small generator, so that a failing seed can be played again. */
static uint32_t
draw(uint64_t *state, uint32_t below)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33) % below;
}

/* --- members -------------------------------------------------------------- */

START_TEST(test_members_are_a_set)
{
	enum { COUNT = 5000 };
	uint64_t seed = (uint64_t)_i;
	struct members m;
	static bool in[COUNT];

	members_init(&m);
	memset(in, 0, sizeof(in));
	for (int i = 0; i < unit_repeat(60000, 20); i++) {
		/* phases in which it grows, and in which it shrinks */
		uint32_t n = draw(&seed, i / 3000 % 2 == 0 ? COUNT : COUNT / 50);
		struct member *found = members_find(&m, n);

		ck_assert_int_eq(found != NULL, in[n]);
		if (found == NULL) {
			ck_assert(members_add(&m, n, n * 3));
		} else {
			ck_assert_uint_eq(found->at, n * 3);
			members_remove(&m, found);
		}
		in[n] = !in[n];
	}
	for (uint32_t n = 0; n < COUNT; n++) {
		struct member *found = members_find(&m, n);

		ck_assert_int_eq(found != NULL, in[n]);
		if (found != NULL)
			members_remove(&m, found);
	}
	ck_assert_uint_eq(m.count, 0);
	ck_assert_uint_eq(members_bytes(&m), 0);
	members_fini(&m);
}
END_TEST

START_TEST(test_one_member_needs_no_memory)
{
	struct members m;

	members_init(&m);
	ck_assert(members_add(&m, 7, 1));
	ck_assert_uint_eq(members_bytes(&m), 0);
	ck_assert(members_add(&m, 8, 2));
	ck_assert_uint_gt(members_bytes(&m), 0);
	members_remove(&m, members_find(&m, 7));
	ck_assert_uint_eq(members_bytes(&m), 0);
	ck_assert_uint_eq(members_find(&m, 8)->at, 2);
	members_fini(&m);
}
END_TEST

/* --- a model -------------------------------------------------------------- */

enum { SUBSCRIBERS = 12, TOPICS = 60, TOPIC_MAX = 90 };

struct world {
	struct subscriptions s;
	struct audiences a;
	struct subscriber subscriber[SUBSCRIBERS];
	bool present[SUBSCRIBERS], has[SUBSCRIBERS][TOPICS];
	uint8_t topic[TOPICS][TOPIC_MAX];
	size_t len[TOPICS];
	uint64_t seed;
};

static void
world_init(struct world *w, uint64_t seed)
{
	static const uint8_t alphabet[] = {0, 1, 'a', 255};

	memset(w, 0, sizeof(*w));
	w->seed = seed;
	ck_assert(subscriptions_init(&w->s));
	audiences_init(&w->a, &w->s, 700);
	for (int t = 0; t < TOPICS; t++) {
		/* most of them continue another one: they share prefixes, and split labels */
		int base = t > 0 ? (int)draw(&w->seed, (uint32_t)t) : 0;
		size_t more = draw(&w->seed, 20) == 0 ? draw(&w->seed, 40) : draw(&w->seed, 4);

		w->len[t] = t > 0 ? draw(&w->seed, (uint32_t)w->len[base] + 1) : 0;
		memcpy(w->topic[t], w->topic[base], w->len[t]);
		for (; more > 0 && w->len[t] < TOPIC_MAX; more--)
			w->topic[t][w->len[t]++] = alphabet[draw(&w->seed, 4)];
	}
}

/* How many subscribers have the topic, leaving ones included. */
static uint32_t
holders(const struct world *w, int topic)
{
	uint32_t count = 0;

	for (int i = 0; i < SUBSCRIBERS; i++)
		count += w->has[i][topic];
	return count;
}

/* Which of the topics these bytes are; the first one where two are equal. -1: none. */
static int
topic_of(const struct world *w, const uint8_t *name, size_t len)
{
	for (int t = 0; t < TOPICS; t++) {
		if (w->len[t] == len && memcmp(w->topic[t], name, len) == 0)
			return t;
	}
	return -1;
}

static int
draw_topic(struct world *w)
{
	int t = (int)draw(&w->seed, TOPICS);

	return topic_of(w, w->topic[t], w->len[t]);
}

static void
subscribe(struct world *w, int i, int topic)
{
	bool had = w->has[i][topic];
	uint32_t number = TOPICS_NONE, before = holders(w, topic);
	enum subscriptions_result r = subscriptions_add(
		&w->s, &w->subscriber[i], w->topic[topic], w->len[topic], &number);

	ck_assert_int_eq(r,
		had                   ? SUBSCRIPTIONS_UNCHANGED
			: before == 0 ? SUBSCRIPTIONS_UNION
				      : SUBSCRIPTIONS_CHANGED);
	w->has[i][topic] = true;
	if (!had)
		ck_assert_uint_eq(
			number, topics_find(&w->s.topics, w->topic[topic], w->len[topic]));
}

static void
cancel(struct world *w, int i, int topic)
{
	bool had = w->has[i][topic];
	uint32_t number;
	enum subscriptions_result r = subscriptions_cancel(
		&w->s, &w->subscriber[i], w->topic[topic], w->len[topic], &number);

	w->has[i][topic] = false;
	ck_assert_int_eq(r,
		!had                             ? SUBSCRIPTIONS_UNCHANGED
			: holders(w, topic) == 0 ? SUBSCRIPTIONS_UNION
						 : SUBSCRIPTIONS_CHANGED);
}

/* `most` topics of one that leaves. */
static void
leave(struct world *w, int i, uint32_t most)
{
	struct subscriber *subscriber = &w->subscriber[i];
	uint8_t name[TOPIC_MAX];
	uint32_t number;

	if (!subscriber->leaving)
		subscriptions_begin_leave(&w->s, subscriber);
	for (; most > 0; most--) {
		size_t len = sizeof(name);
		enum subscriptions_result r =
			subscriptions_leave(&w->s, subscriber, &number, name, &len);
		int topic;

		if (r == SUBSCRIPTIONS_UNCHANGED) {
			w->present[i] = false;
			for (int t = 0; t < TOPICS; t++)
				ck_assert(!w->has[i][t]);
			return;
		}
		topic = topic_of(w, name, len);
		ck_assert_int_ge(topic, 0);
		ck_assert(w->has[i][topic]);
		w->has[i][topic] = false;
		ck_assert_int_eq(r == SUBSCRIPTIONS_UNION, holders(w, topic) == 0);
	}
}

static bool
gets(const struct world *w, int i, const uint8_t *frame, size_t len)
{
	if (!w->present[i] || w->subscriber[i].leaving)
		return false;
	for (int t = 0; t < TOPICS; t++) {
		if (w->has[i][t] && w->len[t] <= len && memcmp(w->topic[t], frame, w->len[t]) == 0)
			return true;
	}
	return false;
}

static void
look_up(struct world *w)
{
	uint8_t frame[TOPIC_MAX + 8];
	int topic = (int)draw(&w->seed, TOPICS);
	size_t len = draw(&w->seed, (uint32_t)w->len[topic] + 1);
	struct audience *audience = NULL;
	enum audience_result r;
	uint32_t expected = 0;

	memcpy(frame, w->topic[topic], len);
	for (uint32_t more = draw(&w->seed, 8); more > 0; more--)
		frame[len++] = (uint8_t)draw(&w->seed, 3);
	for (int i = 0; i < SUBSCRIBERS; i++)
		expected += gets(w, i, frame, len);
	r = audiences_find(&w->a, frame, len, &audience);
	ck_assert_int_eq(r, expected > 0 ? AUDIENCE_FOUND : AUDIENCE_NOBODY);
	if (expected == 0)
		return;
	ck_assert_uint_eq(audience->count, expected);
	for (uint32_t i = 0; i < audience->count; i++) {
		ck_assert(gets(w, (int)(audience->members[i] - w->subscriber), frame, len));
		for (uint32_t k = 0; k < i; k++)
			ck_assert_ptr_ne(audience->members[i], audience->members[k]);
	}
}

static void
check_union(const struct world *w)
{
	uint8_t name[TOPIC_MAX];
	uint32_t count = 0;

	for (uint32_t n = topics_next(&w->s.topics, 0); n != TOPICS_NONE;
		n = topics_next(&w->s.topics, n + 1), count++) {
		size_t len = topics_len(&w->s.topics, n);

		topics_name(&w->s.topics, n, name, len);
		ck_assert_uint_eq(holders(w, topic_of(w, name, len)),
			topics_at(&w->s.topics, n)->members.count);
	}
	ck_assert_uint_eq(count, w->s.topic_count);
}

static void
step(struct world *w, uint32_t churn)
{
	int i = (int)draw(&w->seed, SUBSCRIBERS), topic = draw_topic(w);

	if (draw(&w->seed, 100) >= churn) {
		look_up(w);
	} else if (!w->present[i]) {
		ck_assert(subscriptions_enter(&w->s, &w->subscriber[i]));
		w->present[i] = true;
	} else if (w->subscriber[i].leaving || draw(&w->seed, 20) == 0) {
		leave(w, i, draw(&w->seed, 6));
	} else if (draw(&w->seed, 3) > 0) {
		subscribe(w, i, topic);
	} else {
		cancel(w, i, topic);
	}
}

START_TEST(test_everybody_gets_what_the_model_says)
{
	static struct world w;
	/* a quarter of the seeds change little, so that the cache is used */
	uint32_t churn = _i % 4 == 0 ? 3 : 60;

	world_init(&w, (uint64_t)_i);
	for (int i = 0; i < unit_repeat(3000, 10); i++) {
		step(&w, churn);
		if (i % 100 == 0) {
			subscriptions_check(&w.s);
			check_union(&w);
		}
	}
	for (int i = 0; i < SUBSCRIBERS; i++) {
		if (w.present[i])
			leave(&w, i, UINT32_MAX);
	}
	subscriptions_check(&w.s);
	ck_assert_uint_eq(w.s.count, 0);
	ck_assert_uint_eq(w.s.topic_count, 0);
	audiences_fini(&w.a);
	subscriptions_fini(&w.s);
}
END_TEST

/* --- single rules --------------------------------------------------------- */

#define ADD(s, who, topic, number) \
	subscriptions_add(s, who, (const uint8_t *)(topic), strlen(topic), number)
#define FIND(a, frame, out) audiences_find(a, (const uint8_t *)(frame), strlen(frame), out)

static struct subscriptions s;
static struct audiences a;
static struct subscriber one, two;

static void
leave_whole(struct subscriber *subscriber)
{
	static uint8_t name[1 << 17];
	uint32_t number;
	size_t len = sizeof(name);

	subscriptions_begin_leave(&s, subscriber);
	while (subscriptions_leave(&s, subscriber, &number, name, &len) != SUBSCRIPTIONS_UNCHANGED)
		len = sizeof(name);
}

/* Two subscribers without topics. */
static void
begin(void)
{
	ck_assert(subscriptions_init(&s));
	audiences_init(&a, &s, 1 << 20);
	ck_assert(subscriptions_enter(&s, &one) && subscriptions_enter(&s, &two));
}

static void
end(void)
{
	leave_whole(&one);
	leave_whole(&two);
	audiences_fini(&a);
	subscriptions_fini(&s);
}

START_TEST(test_equal_subscribers_are_one_audience)
{
	struct audience *x, *y, *z;
	uint32_t n;

	begin();
	ADD(&s, &one, "red", &n);
	ADD(&s, &two, "red", &n);
	ADD(&s, &two, "blue", &n); /* in another order */
	ADD(&s, &one, "blue", &n);
	ADD(&s, &two, "blue.sky", &n);
	ADD(&s, &one, "green", &n);
	ck_assert_int_eq(FIND(&a, "red!", &x), AUDIENCE_FOUND);
	ck_assert_int_eq(FIND(&a, "blue.sky", &y), AUDIENCE_FOUND);
	ck_assert_int_eq(FIND(&a, "green", &z), AUDIENCE_FOUND);
	ck_assert_ptr_eq(x, y);
	ck_assert_ptr_ne(x, z);
	ck_assert_uint_eq(x->count, 2);
	ck_assert_uint_eq(z->count, 1);
	ck_assert_int_eq(FIND(&a, "gree", &z), AUDIENCE_NOBODY);
	end();
}
END_TEST

/* The cache compares the first bytes of a frame: a frame that ends there is another one. */
START_TEST(test_topics_longer_than_a_key)
{
	enum { LONG = AUDIENCE_KEY + 20 };
	uint8_t frame[LONG];
	struct audience *x;
	uint32_t n;

	memset(frame, 'a', sizeof(frame));
	begin();
	subscriptions_add(&s, &one, frame, LONG, &n);
	subscriptions_add(&s, &two, frame, AUDIENCE_KEY, &n);
	for (int i = 0; i < 3; i++) {
		frame[AUDIENCE_KEY] = 'b';
		ck_assert_int_eq(audiences_find(&a, frame, LONG, &x), AUDIENCE_FOUND);
		ck_assert_uint_eq(x->count, 1);
		frame[AUDIENCE_KEY] = 'a';
		ck_assert_int_eq(audiences_find(&a, frame, LONG, &x), AUDIENCE_FOUND);
		ck_assert_uint_eq(x->count, 2);
		for (size_t len = AUDIENCE_KEY - 2; len <= LONG; len++) {
			enum audience_result r = audiences_find(&a, frame, len, &x);

			ck_assert_int_eq(r == AUDIENCE_FOUND, len >= AUDIENCE_KEY);
			if (r == AUDIENCE_FOUND)
				ck_assert_uint_eq(x->count, len < LONG ? 1 : 2);
		}
	}
	end();
}
END_TEST

START_TEST(test_a_held_audience_outlives_a_change)
{
	struct audience *x, *y;
	uint32_t n;

	begin();
	ADD(&s, &one, "a", &n);
	ck_assert_int_eq(FIND(&a, "ab", &x), AUDIENCE_FOUND);
	audience_hold(x);
	ADD(&s, &one, "b", &n);
	ck_assert_int_eq(FIND(&a, "ab", &y), AUDIENCE_FOUND);
	ck_assert_ptr_ne(x, y);
	ck_assert_ptr_eq(x->members[0], &one);
	audience_release(x);
	end();
}
END_TEST

/* Searches of one subscriptions mark its subscribers, by whichever cache. */
START_TEST(test_two_caches_of_one_subscriptions)
{
	static struct audiences other;
	struct audience *x;
	uint32_t n;

	begin();
	audiences_init(&other, &s, 1 << 20);
	ADD(&s, &one, "a", &n);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(FIND(i % 2 == 0 ? &a : &other, "ab", &x), AUDIENCE_FOUND);
	ck_assert_uint_gt(audiences_bytes(&other), 0);
	audiences_fini(&other);
	end();
}
END_TEST

/* A newcomer changes nothing that was found. */
START_TEST(test_a_newcomer_leaves_the_cache)
{
	struct subscriber newcomer;
	struct audience *x, *y;
	uint32_t n;

	begin();
	ADD(&s, &one, "a", &n);
	ck_assert_int_eq(FIND(&a, "ab", &x), AUDIENCE_FOUND);
	ck_assert(subscriptions_enter(&s, &newcomer));
	ck_assert_int_eq(FIND(&a, "ab", &y), AUDIENCE_FOUND);
	ck_assert_ptr_eq(x, y);
	leave_whole(&newcomer);
	end();
}
END_TEST

/* a, aa, aaa, ...: as deep as it is long, and the last ones go first. */
START_TEST(test_a_chain_of_prefixes)
{
	enum { DEEP = 4000 };
	static uint8_t topic[DEEP];
	struct audience *x;
	uint64_t empty;
	uint32_t n;
	int deep = unit_repeat(DEEP, 10);

	memset(topic, 'a', sizeof(topic));
	ck_assert(subscriptions_init(&s));
	empty = subscriptions_bytes(&s);
	audiences_init(&a, &s, 1 << 20);
	ck_assert(subscriptions_enter(&s, &one));
	for (int i = 1; i <= deep; i++)
		ck_assert_int_eq(
			subscriptions_add(&s, &one, topic, (size_t)i, &n), SUBSCRIPTIONS_UNION);
	ck_assert_int_eq(audiences_find(&a, topic, (size_t)deep, &x), AUDIENCE_FOUND);
	ck_assert_uint_eq(x->count, 1);
	subscriptions_check(&s);
	leave_whole(&one);
	subscriptions_check(&s);
	/* what is left is the list of segments, and the room for numbers */
	ck_assert_uint_lt(subscriptions_bytes(&s), empty + 1024);
	audiences_fini(&a);
	subscriptions_fini(&s);
}
END_TEST

START_TEST(test_what_a_subscription_costs)
{
	enum { TOPICS_OF_ONE = 20000 };
	uint32_t n;
	char topic[32];

	ck_assert(subscriptions_init(&s));
	ck_assert(subscriptions_enter(&s, &one));
	for (int i = 0; i < TOPICS_OF_ONE; i++) {
		snprintf(topic, sizeof(topic), "sensors.%06d", i);
		ADD(&s, &one, topic, &n);
	}
	ck_assert_uint_le(subscriptions_bytes(&s) / TOPICS_OF_ONE, 96);
	ck_assert_uint_eq(one.topic_bytes, TOPICS_OF_ONE * strlen("sensors.000000"));
	leave_whole(&one);
	subscriptions_fini(&s);
}
END_TEST

UNIT_MAIN("subscriptions", tcase_set_timeout(tc, 120);
	  tcase_add_loop_test(tc, test_members_are_a_set, 0, 4);
	  tcase_add_test(tc, test_one_member_needs_no_memory);
	  tcase_add_loop_test(tc, test_everybody_gets_what_the_model_says, 0, unit_repeat(100, 10));
	  tcase_add_test(tc, test_equal_subscribers_are_one_audience);
	  tcase_add_test(tc, test_topics_longer_than_a_key);
	  tcase_add_test(tc, test_a_held_audience_outlives_a_change);
	  tcase_add_test(tc, test_two_caches_of_one_subscriptions);
	  tcase_add_test(tc, test_a_newcomer_leaves_the_cache);
	  tcase_add_test(tc, test_a_chain_of_prefixes);
	  tcase_add_test(tc, test_what_a_subscription_costs);)
