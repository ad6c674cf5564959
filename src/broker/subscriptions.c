/* SPDX-License-Identifier: MIT */
#include "broker/subscriptions.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

bool
subscriptions_init(struct subscriptions *s)
{
	*s = (struct subscriptions){0};
	return topics_init(&s->topics);
}

void
subscriptions_fini(struct subscriptions *s)
{
	assert(s->count == 0);
	topics_fini(&s->topics);
	free(s->subscribers);
	*s = (struct subscriptions){0};
}

/* --- subscribers ---------------------------------------------------------- */

/* False: no memory. */
static bool
add_numbers(struct subscriptions *s)
{
	uint32_t cap = s->cap > 0 ? s->cap * 2 : 16;
	struct subscriber **all = mem_try_resize(s->subscribers, cap * sizeof(struct subscriber *));

	if (all == NULL)
		return false;
	for (uint32_t i = s->cap; i < cap; i++)
		all[i] = NULL;
	s->subscribers = all;
	s->cap = cap;
	return true;
}

bool
subscriptions_enter(struct subscriptions *s, struct subscriber *subscriber)
{
	while (s->first_free < s->cap && s->subscribers[s->first_free] != NULL)
		s->first_free++;
	if (s->first_free == s->cap && !add_numbers(s))
		return false;
	*subscriber = (struct subscriber){.number = s->first_free};
	s->subscribers[s->first_free++] = subscriber;
	s->present++;
	return true;
}

static void
free_number(struct subscriptions *s, struct subscriber *subscriber)
{
	s->subscribers[subscriber->number] = NULL;
	if (subscriber->number < s->first_free)
		s->first_free = subscriber->number;
	s->lists -= subscriber->cap * sizeof(subscriber->topics[0]);
	free(subscriber->topics);
	subscriber->topics = NULL;
	subscriber->cap = 0;
}

/* --- topics --------------------------------------------------------------- */

/* Room for one more topic in the subscriber's list. False: no memory. */
static bool
reserve(struct subscriptions *s, struct subscriber *subscriber)
{
	uint32_t cap = subscriber->cap, more = cap < 8 ? 4 : cap / 2;
	uint32_t *topics;

	if (subscriber->count < cap)
		return true;
	topics = mem_try_resize(subscriber->topics, (cap + more) * sizeof(*topics));
	if (topics == NULL)
		return false;
	s->lists += more * sizeof(*topics);
	subscriber->topics = topics;
	subscriber->cap = cap + more;
	return true;
}

enum subscriptions_result
subscriptions_add(struct subscriptions *s, struct subscriber *subscriber, const uint8_t *topic,
	size_t len, uint32_t *number)
{
	uint32_t node = topics_find(&s->topics, topic, len);
	bool first;

	assert(!subscriber->leaving);
	if (node != TOPICS_NONE &&
		members_find(&topics_at(&s->topics, node)->members, subscriber->number) != NULL)
		return SUBSCRIPTIONS_UNCHANGED;
	if (!reserve(s, subscriber))
		return SUBSCRIPTIONS_NO_MEMORY;
	if (node == TOPICS_NONE)
		node = topics_add(&s->topics, topic, len);
	if (node == TOPICS_NONE)
		return SUBSCRIPTIONS_NO_MEMORY;
	first = topics_at(&s->topics, node)->members.count == 0;
	if (!topics_add_member(&s->topics, node, subscriber->number, subscriber->count)) {
		topics_trim(&s->topics, node);
		return SUBSCRIPTIONS_NO_MEMORY;
	}
	subscriber->topics[subscriber->count++] = node;
	subscriber->topic_bytes += len;
	s->count++;
	s->topic_count += first;
	s->generation++;
	if (len > s->longest)
		s->longest = len;
	*number = node;
	return first ? SUBSCRIPTIONS_UNION : SUBSCRIPTIONS_CHANGED;
}

/* Take the topic at this place of the subscriber's list away; the last one takes its place. */
static void
unlist(struct subscriptions *s, struct subscriber *subscriber, uint32_t at)
{
	uint32_t last = subscriber->topics[--subscriber->count];
	struct member *moved;

	if (at == subscriber->count)
		return;
	moved = members_find(&topics_at(&s->topics, last)->members, subscriber->number);
	moved->at = at;
	subscriber->topics[at] = last;
}

static enum subscriptions_result
end(struct subscriptions *s, struct subscriber *subscriber, uint32_t node, struct member *member,
	size_t len)
{
	bool last;

	unlist(s, subscriber, member->at);
	topics_remove_member(&s->topics, node, member);
	last = topics_at(&s->topics, node)->members.count == 0;
	if (last)
		topics_trim(&s->topics, node);
	subscriber->topic_bytes -= len;
	s->count--;
	s->topic_count -= last;
	s->generation++;
	if (s->count == 0)
		s->longest = 0;
	return last ? SUBSCRIPTIONS_UNION : SUBSCRIPTIONS_CHANGED;
}

enum subscriptions_result
subscriptions_cancel(struct subscriptions *s, struct subscriber *subscriber, const uint8_t *topic,
	size_t len, uint32_t *number)
{
	uint32_t node = topics_find(&s->topics, topic, len);
	struct member *member = NULL;

	if (node != TOPICS_NONE)
		member = members_find(&topics_at(&s->topics, node)->members, subscriber->number);
	if (member == NULL)
		return SUBSCRIPTIONS_UNCHANGED;
	*number = node;
	return end(s, subscriber, node, member, len);
}

void
subscriptions_begin_leave(struct subscriptions *s, struct subscriber *subscriber)
{
	assert(!subscriber->leaving);
	subscriber->leaving = true;
	s->present--;
	s->generation++;
}

enum subscriptions_result
subscriptions_leave(struct subscriptions *s, struct subscriber *subscriber, uint32_t *number,
	uint8_t *name, size_t *len)
{
	struct member *member;
	uint32_t node;

	assert(subscriber->leaving);
	if (subscriber->count == 0) {
		free_number(s, subscriber);
		return SUBSCRIPTIONS_UNCHANGED;
	}
	node = subscriber->topics[subscriber->count - 1];
	assert(topics_len(&s->topics, node) <= *len);
	*len = topics_len(&s->topics, node);
	topics_name(&s->topics, node, name, *len);
	*number = node;
	member = members_find(&topics_at(&s->topics, node)->members, subscriber->number);
	return end(s, subscriber, node, member, *len);
}

uint64_t
subscriptions_bytes(const struct subscriptions *s)
{
	return s->topics.bytes + s->lists + s->cap * sizeof(struct subscriber *);
}

/* --- check ---------------------------------------------------------------- */

/* Each topic in a subscriber's list has it as a member that points back. */
static void
check_subscriber(const struct subscriptions *s, const struct subscriber *subscriber)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < subscriber->count; i++) {
		struct topic *topic = topics_at(&s->topics, subscriber->topics[i]);
		const struct member *member = members_find(&topic->members, subscriber->number);

		assert(member != NULL && member->at == i);
		bytes += topics_len(&s->topics, subscriber->topics[i]);
	}
	assert(bytes == subscriber->topic_bytes);
}

void
subscriptions_check(const struct subscriptions *s)
{
	uint64_t listed = 0, count = 0, topics = 0, lists = 0;

	topics_check(&s->topics);
	for (uint32_t i = 0; i < s->cap; i++) {
		const struct subscriber *subscriber = s->subscribers[i];

		if (subscriber == NULL) {
			assert(i >= s->first_free);
			continue;
		}
		assert(subscriber->number == i);
		check_subscriber(s, subscriber);
		listed += subscriber->count;
		lists += subscriber->cap * sizeof(subscriber->topics[0]);
	}
	for (uint32_t n = topics_next(&s->topics, 0); n != TOPICS_NONE;
		n = topics_next(&s->topics, n + 1)) {
		count += topics_at(&s->topics, n)->members.count;
		assert(topics_len(&s->topics, n) <= s->longest);
		topics++;
	}
	assert(listed == s->count && count == s->count);
	assert(topics == s->topic_count);
	assert(lists == s->lists);
}
