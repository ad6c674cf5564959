/* SPDX-License-Identifier: MIT */
#include "broker/audience.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

static_assert(sizeof(struct audience_entry) == 64, "an entry is a cache line");

void
audiences_init(
	struct audiences *audiences, const struct subscriptions *subscriptions, uint64_t bytes_max)
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
	a->misses = 0;
	a->generation = a->subscriptions->generation;
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
		if (subscriber->leaving || subscriber->stamp == a->stamp)
			continue;
		subscriber->stamp = a->stamp;
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
	uint32_t node = TOPICS_ROOT, count = 0, next;
	size_t at = 0;

	a->stamp++;
	do {
		const struct topic *topic = topics_at(topics, node);

		if (topic->members.count > 0)
			count = gather(a, &topic->members, count);
		next = topics_step(topics, node, frame, len, &at);
		if (next == TOPICS_NONE)
			break;
		node = next;
	} while (true);
	next = topics_at(topics, node)->branch_count > 0 && at < len
		? topics_branch(topics, topics_at(topics, node), frame[at])
		: TOPICS_NONE;
	if (topics_at(topics, node)->branch_count == 0)
		*decided = at;
	else if (next == TOPICS_NONE)
		*decided = at + 1;
	else
		*decided = at + topics_at(topics, next)->label_len;
	return count;
}

static uint64_t
mix(uint64_t h, uint64_t word)
{
	h = (h ^ word) * 0x9e3779b97f4a7c15u;
	return h ^ h >> 29;
}

/* The audience of the `count` subscribers in a->found. NULL: no memory. */
static struct audience *
intern(struct audiences *a, uint32_t count)
{
	size_t size = count * sizeof(struct subscriber *);
	struct audience *audience, **bucket;
	uint64_t hash = count;

	for (uint32_t i = 0; i < count; i++)
		hash = mix(hash, a->found[i]->number);
	bucket = &a->buckets[hash % AUDIENCE_BUCKETS];
	for (audience = *bucket; audience != NULL; audience = audience->next) {
		if (audience->hash == hash && audience->count == count &&
			memcmp(audience->members, a->found, size) == 0)
			return audience;
	}
	audience = mem_try(audience_bytes(count));
	if (audience == NULL)
		return NULL;
	*audience = (struct audience){.next = *bucket, .refs = 1, .count = count, .hash = hash};
	memcpy(audience->members, a->found, size);
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

	if (a->misses * 2 < a->entry_count || a->entry_count == AUDIENCE_ENTRIES_MAX)
		return;
	if (count > AUDIENCE_ENTRIES_MAX)
		count = AUDIENCE_ENTRIES_MAX;
	entries = aligned_alloc(sizeof(*entries), count * sizeof(*entries));
	if (entries == NULL)
		return;
	memset(entries, 0, count * sizeof(*entries));
	free(a->entries);
	a->entries = entries;
	a->entry_count = count;
	a->misses = 0;
}

static struct audience_entry *
entry_of(const struct audiences *a, const uint8_t *frame, size_t len)
{
	return &a->entries[hash_of(frame, len) & (a->entry_count - 1)];
}

/*
 * Bytes of the frame that are compared: all of a short one, or one more than the longest topic has,
 * as far as there is room.
 */
static size_t
key_len(const struct audiences *a, size_t len)
{
	if (len > a->subscriptions->longest)
		len = a->subscriptions->longest;
	return len < AUDIENCE_KEY ? len : AUDIENCE_KEY;
}

static enum audience_result
find_in_tree(struct audiences *a, const uint8_t *frame, size_t len, struct audience **out)
{
	size_t key = key_len(a, len), decided;
	struct audience_entry *entry;
	uint32_t count;

	if (!reserve(a))
		return AUDIENCE_NO_MEMORY;
	count = search(a, frame, len, &decided);
	if (a->bytes > a->bytes_max)
		begin_epoch(a);
	*out = NULL;
	if (count > 0) {
		*out = intern(a, count);
		if (*out == NULL)
			return AUDIENCE_NO_MEMORY;
	}
	a->misses++;
	grow(a);
	if (a->entry_count > 0 &&
		(key == len || key == a->subscriptions->longest || decided <= key)) {
		entry = entry_of(a, frame, key);
		*entry = (struct audience_entry){.audience = *out,
			.epoch = a->epoch,
			.len = (uint8_t)key,
			.longer = len > key};
		memcpy(entry->key, frame, key);
	}
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
