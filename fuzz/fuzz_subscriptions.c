/* SPDX-License-Identifier: MIT */
/*
 * Subscriptions and the search for an audience against a list: topics of any bytes and lengths,
 * added, cancelled and left in any order, with memory that runs out. A frame must find those that
 * have a prefix of it, and nothing may be left.
 */
#include "base/mem.h"
#include "broker/audience.h"
#include "fuzz.h"
#include "no_memory.h"

enum { SUBSCRIBERS = 5, MOST = 400, TOPIC_MAX = 120 };

static struct subscriptions s;
static struct audiences audiences;
static struct subscriber subscribers[SUBSCRIBERS];
static bool present[SUBSCRIBERS];

static struct entry {
	unsigned subscriber;
	uint8_t topic[TOPIC_MAX];
	size_t len;
} list[MOST];
static size_t count;

/* count: it is not in the list. */
static size_t
find(unsigned subscriber, const uint8_t *topic, size_t len)
{
	size_t i = 0;

	while (i < count &&
		(list[i].subscriber != subscriber || list[i].len != len ||
			memcmp(list[i].topic, topic, len) != 0))
		i++;
	return i;
}

static bool
is_had(const uint8_t *topic, size_t len)
{
	for (unsigned i = 0; i < SUBSCRIBERS; i++) {
		if (find(i, topic, len) < count)
			return true;
	}
	return false;
}

/* A repeated byte and a few others, so that topics share prefixes of any length. */
static size_t
draw_bytes(struct input *in, uint8_t *out, size_t most)
{
	size_t len = input_upto(in, most), own = input_upto(in, 4);

	memset(out, input_byte(in) % 3, len);
	for (size_t i = len > own ? len - own : 0; i < len; i++)
		out[i] = input_byte(in);
	return len;
}

static void
add(struct input *in, unsigned i)
{
	uint8_t topic[TOPIC_MAX];
	size_t len = draw_bytes(in, topic, TOPIC_MAX);
	uint8_t *copy = exact_copy(topic, len);
	bool has = find(i, topic, len) < count, had = is_had(topic, len);
	uint32_t number;
	enum subscriptions_result r;

	if (count == MOST) {
		free(copy);
		return;
	}
	failed = false;
	fail_after = input_byte(in) % 8;
	r = subscriptions_add(&s, &subscribers[i], copy, len, &number);
	fail_after = 0;
	free(copy);
	if (r == SUBSCRIPTIONS_NO_MEMORY) {
		assert(failed && !has);
		return;
	}
	assert(r ==
		(has                  ? SUBSCRIPTIONS_UNCHANGED
				: had ? SUBSCRIPTIONS_CHANGED
				      : SUBSCRIPTIONS_UNION));
	if (has)
		return;
	list[count].subscriber = i;
	list[count].len = len;
	memcpy(list[count++].topic, topic, len);
}

static void
forget(size_t at)
{
	list[at] = list[--count];
}

static void
cancel(struct input *in, unsigned i)
{
	uint8_t topic[TOPIC_MAX];
	size_t len, at = count;
	uint32_t number;
	enum subscriptions_result r;

	if (count > 0 && input_byte(in) % 4 > 0) {
		at = input_upto(in, count - 1);
		len = list[at].len;
		memcpy(topic, list[at].topic, len);
	} else {
		len = draw_bytes(in, topic, TOPIC_MAX);
	}
	at = find(i, topic, len);
	r = subscriptions_cancel(&s, &subscribers[i], topic, len, &number);
	if (at == count) {
		assert(r == SUBSCRIPTIONS_UNCHANGED);
		return;
	}
	forget(at);
	assert(r == (is_had(topic, len) ? SUBSCRIPTIONS_CHANGED : SUBSCRIPTIONS_UNION));
}

static void
leave(unsigned i, size_t most)
{
	uint8_t topic[TOPIC_MAX];
	uint32_t number;

	if (!subscribers[i].leaving)
		subscriptions_begin_leave(&s, &subscribers[i]);
	for (; most > 0; most--) {
		size_t len = sizeof(topic), at;
		enum subscriptions_result r =
			subscriptions_leave(&s, &subscribers[i], &number, topic, &len);

		if (r == SUBSCRIPTIONS_UNCHANGED) {
			present[i] = false;
			return;
		}
		at = find(i, topic, len);
		assert(at < count);
		forget(at);
		assert((r == SUBSCRIPTIONS_UNION) == !is_had(topic, len));
	}
}

static bool
gets(unsigned i, const uint8_t *frame, size_t len)
{
	for (size_t k = 0; k < count; k++) {
		if (list[k].subscriber == i && list[k].len <= len &&
			memcmp(list[k].topic, frame, list[k].len) == 0)
			return present[i] && !subscribers[i].leaving;
	}
	return false;
}

static void
search(struct input *in)
{
	uint8_t frame[TOPIC_MAX + 20];
	size_t len = draw_bytes(in, frame, sizeof(frame));
	uint8_t *copy = exact_copy(frame, len);
	struct audience *audience = NULL;
	uint32_t expected = 0;
	enum audience_result r;

	failed = false;
	fail_after = input_byte(in) % 8 == 0;
	r = audiences_find(&audiences, copy, len, &audience);
	fail_after = 0;
	free(copy);
	assert(r != AUDIENCE_NO_MEMORY || failed);
	if (r == AUDIENCE_NO_MEMORY)
		return;
	for (unsigned i = 0; i < SUBSCRIBERS; i++)
		expected += gets(i, frame, len);
	assert((r == AUDIENCE_FOUND) == (expected > 0));
	assert(r == AUDIENCE_NOBODY || audience->count == expected);
	for (uint32_t i = 0; r == AUDIENCE_FOUND && i < audience->count; i++)
		assert(gets((unsigned)(audience->members[i] - subscribers), frame, len));
}

static void
step(struct input *in)
{
	unsigned what = input_byte(in), i = (what >> 4) % SUBSCRIBERS;

	if (what % 8 == 0) {
		search(in);
	} else if (!present[i]) {
		fail_after = input_byte(in) % 4 == 0;
		failed = false;
		present[i] = subscriptions_enter(&s, &subscribers[i]);
		fail_after = 0;
		assert(present[i] || failed);
	} else if (subscribers[i].leaving || what % 8 == 1) {
		leave(i, input_byte(in) % 16);
	} else if (what % 8 < 4) {
		cancel(in, i);
	} else {
		add(in, i);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, data + len};
	unsigned steps = 0;

	fail_after = input_last(&in) % 4;
	failed = false;
	if (!subscriptions_init(&s)) {
		assert(failed);
		fail_after = 0;
		return 0;
	}
	fail_after = 0;
	audiences_init(&audiences, &s, 500);
	count = 0;
	while (input_left(&in) > 0) {
		step(&in);
		if (++steps % 16 == 0)
			subscriptions_check(&s);
	}
	subscriptions_check(&s);
	for (unsigned i = 0; i < SUBSCRIBERS; i++) {
		if (present[i])
			leave(i, SIZE_MAX);
	}
	subscriptions_check(&s);
	assert(count == 0 && s.count == 0 && s.topic_count == 0);
	audiences_fini(&audiences);
	subscriptions_fini(&s);
	return 0;
}
