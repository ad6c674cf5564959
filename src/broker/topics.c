/* SPDX-License-Identifier: MIT */
#include "broker/topics.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

static_assert(sizeof(struct topic) <= MEM_LINE, "a node is at most a cache line");

enum { SEGMENT = 1 << TOPICS_SEGMENT_BITS };

/* --- nodes ---------------------------------------------------------------- */

/* A new segment, at the first place that has none. False: no memory. */
static bool
add_segment(struct topics *t)
{
	struct topics_segment *s, **segments;
	uint32_t i = 0;

	while (i < t->count && t->segments[i] != NULL)
		i++;
	if (i == TOPICS_NONE / SEGMENT)
		return false;
	if (i == t->count) {
		uint32_t count = t->count > 0 ? t->count * 2 : 1;

		segments = mem_try_resize(t->segments, count * sizeof(struct topics_segment *));
		if (segments == NULL)
			return false;
		for (uint32_t k = t->count; k < count; k++)
			segments[k] = NULL;
		t->bytes += (count - t->count) * sizeof(struct topics_segment *);
		t->segments = segments;
		t->count = count;
	}
	s = mem_try_lines(sizeof(*s));
	if (s == NULL)
		return false;
	s->used = 0;
	s->free = 0;
	for (uint32_t k = 0; k < SEGMENT; k++) {
		s->nodes[k].parent = TOPICS_NONE;
		s->nodes[k].branch_count = 0;
		members_init(&s->nodes[k].members);
		s->nodes[k].only = k + 1 < SEGMENT ? k + 1 : TOPICS_NONE;
	}
	t->segments[i] = s;
	t->bytes += sizeof(*s);
	if (i < t->first_free)
		t->first_free = i;
	return true;
}

/* TOPICS_NONE: no memory. */
static uint32_t
take_node(struct topics *t)
{
	struct topics_segment *s;
	uint32_t i;

	while (t->first_free < t->count &&
		(t->segments[t->first_free] == NULL ||
			t->segments[t->first_free]->free == TOPICS_NONE))
		t->first_free++;
	if (t->first_free == t->count && !add_segment(t))
		return TOPICS_NONE;
	s = t->segments[t->first_free];
	i = s->free;
	s->free = s->nodes[i].only;
	s->used++;
	return t->first_free << TOPICS_SEGMENT_BITS | i;
}

static void
put_node(struct topics *t, uint32_t number)
{
	uint32_t i = number >> TOPICS_SEGMENT_BITS;
	struct topics_segment *s = t->segments[i];
	struct topic *node = topics_at(t, number);

	node->parent = TOPICS_NONE;
	node->branch_count = 0;
	node->only = s->free;
	s->free = number & (SEGMENT - 1);
	if (i < t->first_free)
		t->first_free = i;
	if (--s->used > 0)
		return;
	free(s);
	t->segments[i] = NULL;
	t->bytes -= sizeof(*s);
}

/* Bytes that a label takes outside its node. */
static size_t
label_bytes(size_t len)
{
	return len > TOPICS_LABEL_HERE ? len : 0;
}

/* False: no memory, and nothing changed. `bytes` may lie in the node's own label. */
static bool
set_label(struct topics *t, struct topic *node, const uint8_t *bytes, size_t len)
{
	uint8_t *old = node->label_len > TOPICS_LABEL_HERE ? node->label.elsewhere : NULL;
	uint8_t *new = NULL;

	if (label_bytes(len) > 0) {
		new = mem_try(len);
		if (new == NULL)
			return false;
		memcpy(new, bytes, len);
		node->label.elsewhere = new;
	} else {
		memmove(node->label.here, bytes, len);
	}
	t->bytes += label_bytes(len);
	t->bytes -= label_bytes(node->label_len);
	node->label_len = (uint32_t)len;
	free(old);
	return true;
}

/* A node without branches and members. TOPICS_NONE: no memory. */
static uint32_t
new_node(struct topics *t, uint32_t parent, const uint8_t *label, size_t len)
{
	uint32_t number = take_node(t);
	struct topic *node;

	if (number == TOPICS_NONE)
		return TOPICS_NONE;
	node = topics_at(t, number);
	*node = (struct topic){.parent = parent};
	if (!set_label(t, node, label, len)) {
		put_node(t, number);
		return TOPICS_NONE;
	}
	return number;
}

static void
free_node(struct topics *t, uint32_t number)
{
	struct topic *node = topics_at(t, number);

	if (node->label_len > TOPICS_LABEL_HERE)
		free(node->label.elsewhere);
	t->bytes -= (uint64_t)label_bytes(node->label_len) + members_bytes(&node->members);
	members_fini(&node->members);
	put_node(t, number);
}

/* --- branches ------------------------------------------------------------- */

static size_t
branches_bytes(uint32_t cap)
{
	return sizeof(struct topic_branches) + cap * (sizeof(uint32_t) + 1);
}

static uint8_t *
first_bytes(struct topic_branches *b)
{
	return (uint8_t *)(b->nodes + b->cap);
}

/* Make room for one more branch. False: no memory. */
static bool
reserve_branch(struct topics *t, struct topic *node)
{
	uint32_t count = node->branch_count, cap;
	struct topic_branches *b = node->branches, *new;

	if (count == 0 || (b != NULL && count < b->cap))
		return true;
	cap = b == NULL ? 4 : b->cap * 2;
	new = mem_try(branches_bytes(cap));
	if (new == NULL)
		return false;
	new->cap = cap;
	if (b == NULL) {
		new->nodes[0] = node->only;
		first_bytes(new)[0] = topic_label(topics_at(t, node->only))[0];
	} else {
		memcpy(new->nodes, b->nodes, count * sizeof(b->nodes[0]));
		memcpy(first_bytes(new), first_bytes(b), count);
		t->bytes -= branches_bytes(b->cap);
		free(b);
	}
	t->bytes += branches_bytes(cap);
	node->branches = new;
	return true;
}

/* Room was reserved. */
static void
add_branch(struct topic *node, uint32_t number, uint8_t byte)
{
	if (node->branch_count == 0) {
		node->only = number;
	} else {
		node->branches->nodes[node->branch_count] = number;
		first_bytes(node->branches)[node->branch_count] = byte;
	}
	node->branch_count++;
}

static void
replace_branch(struct topic *node, uint32_t old, uint32_t new)
{
	if (node->branch_count == 1) {
		node->only = new;
		return;
	}
	for (uint32_t i = 0; i < node->branch_count; i++) {
		if (node->branches->nodes[i] == old)
			node->branches->nodes[i] = new;
	}
}

static void
remove_branch(struct topics *t, struct topic *node, uint32_t number)
{
	struct topic_branches *b = node->branches;
	uint32_t last = --node->branch_count, i = 0;

	if (last == 0)
		return;
	while (b->nodes[i] != number)
		i++;
	b->nodes[i] = b->nodes[last];
	first_bytes(b)[i] = first_bytes(b)[last];
	if (last > 1)
		return;
	node->only = b->nodes[0];
	node->branches = NULL;
	t->bytes -= branches_bytes(b->cap);
	free(b);
}

/* --- the tree ------------------------------------------------------------- */

bool
topics_init(struct topics *topics)
{
	*topics = (struct topics){0};
	if (new_node(topics, TOPICS_NONE, (const uint8_t *)"", 0) == TOPICS_ROOT)
		return true;
	topics_fini(topics);
	return false;
}

void
topics_fini(struct topics *topics)
{
	for (uint32_t i = 0; i < topics->count; i++) {
		struct topics_segment *s = topics->segments[i];

		for (uint32_t k = 0; s != NULL && k < SEGMENT; k++) {
			struct topic *node = &s->nodes[k];

			if (node->parent == TOPICS_NONE && (i > 0 || k > 0))
				continue;
			if (node->label_len > TOPICS_LABEL_HERE)
				free(node->label.elsewhere);
			if (node->branch_count > 1)
				free(node->branches);
			members_fini(&node->members);
		}
		free(s);
	}
	free(topics->segments);
	*topics = (struct topics){0};
}

uint32_t
topics_find(const struct topics *topics, const uint8_t *topic, size_t len)
{
	uint32_t node = TOPICS_ROOT;
	size_t at = 0;

	while (at < len && node != TOPICS_NONE)
		node = topics_step(topics, node, topic, len, &at);
	return node;
}

/* A new branch of `parent` with all of the label. TOPICS_NONE: no memory. */
static uint32_t
add_leaf(struct topics *t, uint32_t parent, const uint8_t *label, size_t len)
{
	uint32_t leaf = new_node(t, parent, label, len);

	if (leaf == TOPICS_NONE)
		return TOPICS_NONE;
	if (!reserve_branch(t, topics_at(t, parent))) {
		free_node(t, leaf);
		return TOPICS_NONE;
	}
	add_branch(topics_at(t, parent), leaf, label[0]);
	return leaf;
}

/* A node in the middle of the label of `below`, after `len` bytes. TOPICS_NONE: no memory. */
static uint32_t
split(struct topics *t, uint32_t below, size_t len)
{
	struct topic *node = topics_at(t, below);
	uint32_t middle = new_node(t, node->parent, topic_label(node), len);

	if (middle == TOPICS_NONE)
		return TOPICS_NONE;
	if (!set_label(t, node, topic_label(node) + len, node->label_len - len)) {
		free_node(t, middle);
		return TOPICS_NONE;
	}
	replace_branch(topics_at(t, node->parent), below, middle);
	node->parent = middle;
	add_branch(topics_at(t, middle), below, topic_label(node)[0]);
	return middle;
}

static size_t
common(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
	size_t i = 0;

	while (i < a_len && i < b_len && a[i] == b[i])
		i++;
	return i;
}

uint32_t
topics_add(struct topics *topics, const uint8_t *topic, size_t len)
{
	uint32_t node = TOPICS_ROOT, next, leaf;
	size_t at = 0, shared;

	while (at < len) {
		next = topics_step(topics, node, topic, len, &at);
		if (next == TOPICS_NONE)
			break;
		node = next;
	}
	if (at == len)
		return node;
	next = topics_branch(topics, topics_at(topics, node), topic[at]);
	if (next == TOPICS_NONE)
		return add_leaf(topics, node, topic + at, len - at);
	shared = common(topic_label(topics_at(topics, next)), topics_at(topics, next)->label_len,
		topic + at, len - at);
	node = split(topics, next, shared);
	if (node == TOPICS_NONE || at + shared == len)
		return node;
	leaf = add_leaf(topics, node, topic + at + shared, len - at - shared);
	if (leaf == TOPICS_NONE)
		topics_trim(topics, node);
	return leaf;
}

bool
topics_add_member(struct topics *topics, uint32_t node, uint32_t subscriber, uint32_t at)
{
	struct members *members = &topics_at(topics, node)->members;
	uint64_t before = members_bytes(members);
	bool added = members_add(members, subscriber, at);

	topics->bytes += members_bytes(members) - before;
	return added;
}

void
topics_remove_member(struct topics *topics, uint32_t node, struct member *member)
{
	struct members *members = &topics_at(topics, node)->members;
	uint64_t before = members_bytes(members);

	members_remove(members, member);
	topics->bytes += members_bytes(members) - before;
}

/*
 * A node without members that has one branch: the branch takes its place. Without memory for the
 * longer label it stays; that costs a step of a walk.
 */
static void
merge(struct topics *t, uint32_t number)
{
	struct topic *node = topics_at(t, number), *below = topics_at(t, node->only);
	size_t len = (size_t)node->label_len + below->label_len;
	uint8_t *label = mem_try(len);
	uint32_t only = node->only;

	if (label == NULL)
		return;
	memcpy(label, topic_label(node), node->label_len);
	memcpy(label + node->label_len, topic_label(below), below->label_len);
	if (set_label(t, below, label, len)) {
		below->parent = node->parent;
		replace_branch(topics_at(t, node->parent), number, only);
		free_node(t, number);
	}
	free(label);
}

static bool
is_needless(const struct topic *node)
{
	return node->parent != TOPICS_NONE && node->members.count == 0 && node->branch_count <= 1;
}

void
topics_trim(struct topics *topics, uint32_t node)
{
	/* more than one node goes if merge had no memory for it before */
	while (is_needless(topics_at(topics, node)) && topics_at(topics, node)->branch_count == 0) {
		uint32_t parent = topics_at(topics, node)->parent;

		remove_branch(topics, topics_at(topics, parent), node);
		free_node(topics, node);
		node = parent;
	}
	if (is_needless(topics_at(topics, node)))
		merge(topics, node);
}

size_t
topics_len(const struct topics *topics, uint32_t node)
{
	size_t len = 0;

	for (; node != TOPICS_NONE; node = topics_at(topics, node)->parent)
		len += topics_at(topics, node)->label_len;
	return len;
}

void
topics_name(const struct topics *topics, uint32_t node, uint8_t *out, size_t len)
{
	for (; node != TOPICS_NONE; node = topics_at(topics, node)->parent) {
		const struct topic *topic = topics_at(topics, node);

		len -= topic->label_len;
		memcpy(out + len, topic_label(topic), topic->label_len);
	}
	assert(len == 0);
}

uint32_t
topics_next(const struct topics *topics, uint32_t number)
{
	for (; number >> TOPICS_SEGMENT_BITS < topics->count; number++) {
		if (topics->segments[number >> TOPICS_SEGMENT_BITS] == NULL)
			number |= SEGMENT - 1;
		else if (topics_at(topics, number)->members.count > 0)
			return number;
	}
	return TOPICS_NONE;
}

/* --- check ---------------------------------------------------------------- */

/* Returns the bytes that the node has allocated. */
static uint64_t
check_node(const struct topics *t, uint32_t number)
{
	const struct topic *node = topics_at(t, number);
	uint32_t count = node->branch_count;

	assert(number == TOPICS_ROOT ||
		(node->label_len > 0 && (node->members.count > 0 || count > 0)));
	assert(number == TOPICS_ROOT ||
		topics_branch(t, topics_at(t, node->parent), topic_label(node)[0]) == number);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t below = count == 1 ? node->only : node->branches->nodes[i];

		assert(topics_at(t, below)->parent == number);
		assert(topics_branch(t, node, topic_label(topics_at(t, below))[0]) == below);
	}
	return (uint64_t)label_bytes(node->label_len) + members_bytes(&node->members) +
		(count > 1 ? branches_bytes(node->branches->cap) : 0);
}

void
topics_check(const struct topics *topics)
{
	uint64_t bytes = topics->count * sizeof(struct topics_segment *);

	for (uint32_t i = 0; i < topics->count; i++) {
		const struct topics_segment *s = topics->segments[i];
		uint32_t used = 0;

		if (s == NULL)
			continue;
		bytes += sizeof(*s);
		for (uint32_t k = 0; k < SEGMENT; k++) {
			if (s->nodes[k].parent == TOPICS_NONE && (i > 0 || k > 0))
				continue;
			used++;
			bytes += check_node(topics, i << TOPICS_SEGMENT_BITS | k);
		}
		assert(used == s->used);
		assert(used == SEGMENT || i >= topics->first_free);
	}
	assert(bytes == topics->bytes);
}
