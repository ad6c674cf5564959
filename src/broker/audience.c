/* SPDX-License-Identifier: MIT */
#include "broker/audience.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

static_assert(sizeof(struct audience_entry) == MEM_LINE, "an entry is a cache line");

void
audiences_init(struct audiences *audiences, struct subscriptions *subscriptions, uint64_t bytes_max)
{
	*audiences = (struct audiences){
		.subscriptions = subscriptions,
		.generation = subscriptions->generation,
		.epoch = 1,
		.bytes_max = bytes_max,
	};
}

static size_t
audience_bytes(uint32_t count)
{
	return sizeof(struct audience) + count * sizeof(struct subscriber *);
}

void
audience_hold(struct audience *audience)
{
	audience->refs++;
}

void
audience_release(struct audience *audience)
{
	if (--audience->refs == 0)
		free(audience);
}

/* Forget what was found. The entries of the cache stay where they are, of an epoch that is over. */
static void
begin_epoch(struct audiences *a)
{
	for (uint32_t i = 0; a->bytes > 0 && i < AUDIENCE_BUCKETS; i++) {
		while (a->buckets[i] != NULL) {
			struct audience *audience = a->buckets[i];

			a->buckets[i] = audience->next;
			a->bytes -= audience_bytes(audience->count);
			audience_release(audience);
		}
	}
	a->epoch++;
	a->stored = 0;
	a->generation = a->subscriptions->generation;
}

uint64_t
audiences_bytes(const struct audiences *audiences)
{
	return audiences->bytes + (uint64_t)audiences->entry_count * sizeof(struct audience_entry) +
		(uint64_t)audiences->found_cap * sizeof(struct subscriber *);
}

void
audiences_fini(struct audiences *audiences)
{
	begin_epoch(audiences);
	free(audiences->entries);
	free(audiences->found);
	*audiences = (struct audiences){0};
}

/* --- the search ----------------------------------------------------------- */

/* Room for all subscribers that there are. False: no memory. */
static bool
reserve(struct audiences *a)
{
	uint32_t cap = a->subscriptions->cap;
	struct subscriber **found;

	if (a->found_cap >= cap)
		return true;
	found = mem_try_resize(a->found, cap * sizeof(struct subscriber *));
	if (found == NULL)
		return false;
	a->found = found;
	a->found_cap = cap;
	return true;
}

/* Add the subscribers of a topic that were not found yet. Returns the new count. */
static uint32_t
gather(struct audiences *a, const struct members *members, uint32_t count)
{
	for (uint32_t i = 0; i < members_places(members); i++) {
		uint32_t number = members_place(members, i)->subscriber;
		struct subscriber *subscriber;

		if (number == MEMBERS_NOBODY)
			continue;
		subscriber = a->subscriptions->subscribers[number];
		if (subscriber->leaving || subscriber->stamp == a->subscriptions->searches)
			continue;
		subscriber->stamp = a->subscriptions->searches;
		a->found[count++] = subscriber;
	}
	return count;
}

/*
 * Walk down the tree. Returns how many subscribers were found; *decided: how many bytes of the
 * frame there had to be to know that.
 */
static uint32_t
search(struct audiences *a, const uint8_t *frame, size_t len, size_t *decided)
{
	const struct topics *topics = &a->subscriptions->topics;
	const struct topic *topic;
	uint32_t node = TOPICS_ROOT, count = 0, next;
	size_t at = 0;

	a->subscriptions->searches++;
	for (;;) {
		topic = topics_at(topics, node);
		if (topic->members.count > 0)
			count = gather(a, &topic->members, count);
		if (count == a->subscriptions->present) { /* no further topic adds anybody */
			*decided = at;
			return count;
		}
		next = topics_step(topics, node, frame, len, &at);
		if (next == TOPICS_NONE)
			break;
		node = next;
	}
	next = at < len ? topics_branch(topics, topic, frame[at]) : TOPICS_NONE;
	if (next != TOPICS_NONE)
		*decided = at + topics_at(topics, next)->label_len;
	else
		*decided = topic->branch_count > 0 ? at + 1 : at;
	return count;
}

static uint64_t
mix(uint64_t h, uint64_t word)
{
	h = (h ^ word) * 0x9e3779b97f4a7c15u;
	return h ^ h >> 29;
}

/* Is the audience the `count` subscribers that this search found, in any order? */
static bool
is_found(const struct audiences *a, const struct audience *audience, uint32_t count)
{
	if (audience->count != count)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		if (audience->members[i]->stamp != a->subscriptions->searches)
			return false;
	}
	return true;
}

/* The audience of the `count` subscribers in a->found. NULL: no memory. */
static struct audience *
intern(struct audiences *a, uint32_t count)
{
	struct audience *audience, **bucket;
	uint64_t hash = 0;

	for (uint32_t i = 0; i < count; i++)
		hash += mix(0, (uint64_t)a->found[i]->number + 1);
	bucket = &a->buckets[hash % AUDIENCE_BUCKETS];
	for (audience = *bucket; audience != NULL; audience = audience->next) {
		if (audience->hash == hash && is_found(a, audience, count))
			return audience;
	}
	audience = mem_try(audience_bytes(count));
	if (audience == NULL)
		return NULL;
	*audience = (struct audience){.next = *bucket, .refs = 1, .count = count, .hash = hash};
	memcpy(audience->members, a->found, count * sizeof(struct subscriber *));
	*bucket = audience;
	a->bytes += audience_bytes(count);
	return audience;
}

/* --- the cache ------------------------------------------------------------ */

static uint64_t
read_word(const uint8_t *p, size_t len)
{
	uint64_t word = 0;

	memcpy(&word, p, len);
	return word;
}

/* A publisher that makes keys collide makes its own messages slower, and finds the same. */
static uint64_t
hash_of(const uint8_t *key, size_t len)
{
	uint64_t h = len;

	for (; len >= sizeof(h); key += sizeof(h), len -= sizeof(h))
		h = mix(h, read_word(key, sizeof(h)));
	if (len > 0)
		h = mix(h, read_word(key, len));
	return h ^ h >> 32;
}

/*
 * More entries when most of them are in use; without memory there are as many as before. What is in
 * them is found again.
 */
static void
grow(struct audiences *a)
{
	uint32_t count = a->entry_count > 0 ? a->entry_count * 4 : AUDIENCE_ENTRIES_MIN;
	struct audience_entry *entries;

	if (a->stored * 2 < a->entry_count || a->entry_count == AUDIENCE_ENTRIES_MAX)
		return;
	if (count > AUDIENCE_ENTRIES_MAX)
		count = AUDIENCE_ENTRIES_MAX;
	entries = mem_try_lines(count * sizeof(*entries));
	if (entries == NULL)
		return;
	memset(entries, 0, count * sizeof(*entries));
	free(a->entries);
	a->entries = entries;
	a->entry_count = count;
	a->stored = 0;
}

static struct audience_entry *
entry_of(const struct audiences *a, const uint8_t *frame, size_t len)
{
	return &a->entries[hash_of(frame, len) & (a->entry_count - 1)];
}

/*
 * Bytes of the frame that are compared: all of a short one, or as many as the longest topic has, as
 * far as there is room.
 */
static size_t
key_len(const struct audiences *a, size_t len)
{
	if (len > a->subscriptions->longest)
		len = a->subscriptions->longest;
	return len < AUDIENCE_KEY ? len : AUDIENCE_KEY;
}

/* Another frame with these first bytes finds the same. */
static void
store(struct audiences *a, const uint8_t *key, size_t len, bool longer, struct audience *found)
{
	struct audience_entry *entry;

	grow(a);
	if (a->entry_count == 0)
		return;
	a->stored++;
	entry = entry_of(a, key, len);
	*entry = (struct audience_entry){
		.audience = found, .epoch = a->epoch, .len = (uint8_t)len, .longer = longer};
	memcpy(entry->key, key, len);
}

static enum audience_result
find_in_tree(struct audiences *a, const uint8_t *frame, size_t len, struct audience **out)
{
	size_t key = key_len(a, len), decided;
	uint32_t count;

	if (!reserve(a))
		return AUDIENCE_NO_MEMORY;
	count = search(a, frame, len, &decided);
	if (a->bytes > a->bytes_max)
		begin_epoch(a);
	if (count > 0) {
		*out = intern(a, count);
		if (*out == NULL)
			return AUDIENCE_NO_MEMORY;
	}
	if (key == len || key == a->subscriptions->longest || decided <= key)
		store(a, frame, key, len > key, *out);
	return *out != NULL ? AUDIENCE_FOUND : AUDIENCE_NOBODY;
}

/* Can no topic match, because all begin with another byte? */
static bool
begins_elsewhere(const struct topics *topics, const uint8_t *frame, size_t len)
{
	const struct topic *root = topics_at(topics, TOPICS_ROOT);

	return root->members.count == 0 &&
		(len == 0 || topics_branch(topics, root, frame[0]) == TOPICS_NONE);
}

enum audience_result
audiences_find(struct audiences *audiences, const uint8_t *frame, size_t len, struct audience **out)
{
	const struct subscriptions *s = audiences->subscriptions;
	const struct audience_entry *entry;
	size_t key;

	*out = NULL;
	if (begins_elsewhere(&s->topics, frame, len))
		return AUDIENCE_NOBODY;
	if (audiences->generation != s->generation)
		begin_epoch(audiences);
	if (audiences->entry_count == 0)
		return find_in_tree(audiences, frame, len, out);
	key = key_len(audiences, len);
	entry = entry_of(audiences, frame, key);
	if (entry->epoch != audiences->epoch || entry->len != key || entry->longer != (len > key) ||
		memcmp(entry->key, frame, key) != 0)
		return find_in_tree(audiences, frame, len, out);
	*out = entry->audience;
	return *out != NULL ? AUDIENCE_FOUND : AUDIENCE_NOBODY;
}
