/* SPDX-License-Identifier: MIT */
#include "broker/members.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

void
members_init(struct members *members)
{
	*members = (struct members){0};
}

void
members_fini(struct members *members)
{
	if (members->cap > 0)
		free(members->many);
	members_init(members);
}

static bool
is_table(const struct members *m)
{
	return m->cap > MEMBERS_LINEAR;
}

/* Numbers of subscribers are ours, so that no key is needed. */
static uint32_t
home_of(const struct members *m, uint32_t subscriber)
{
	return (uint32_t)((uint64_t)subscriber * 0x9e3779b97f4a7c15u >> 32) & (m->cap - 1);
}

/* The place in a table that holds the number, or the empty place where it belongs. */
static struct member *
probe(const struct members *m, uint32_t subscriber)
{
	uint32_t i = home_of(m, subscriber);

	while (m->many[i].subscriber != subscriber && m->many[i].subscriber != MEMBERS_NOBODY)
		i = (i + 1) & (m->cap - 1);
	return &m->many[i];
}

struct member *
members_find(struct members *members, uint32_t subscriber)
{
	struct member *all = members->cap == 0 ? &members->one : members->many;

	if (is_table(members)) {
		struct member *found = probe(members, subscriber);

		return found->subscriber == subscriber ? found : NULL;
	}
	for (uint32_t i = 0; i < members->count; i++) {
		if (all[i].subscriber == subscriber)
			return &all[i];
	}
	return NULL;
}

static void
insert(struct members *m, struct member member)
{
	if (is_table(m))
		*probe(m, member.subscriber) = member;
	else
		(m->cap == 0 ? &m->one : m->many)[m->count] = member;
	m->count++;
}

/* Give the set `cap` places. False: no memory, and nothing changed. */
static bool
resize(struct members *m, uint32_t cap)
{
	struct members old = *m, new = {.cap = cap};

	new.many = mem_try(cap * sizeof(*new.many));
	if (new.many == NULL)
		return false;
	for (uint32_t i = 0; i < cap; i++)
		new.many[i] = (struct member){.subscriber = MEMBERS_NOBODY};
	for (uint32_t i = 0; i < members_places(&old); i++) {
		const struct member *member = members_place(&old, i);

		if (member->subscriber != MEMBERS_NOBODY)
			insert(&new, *member);
	}
	members_fini(m);
	*m = new;
	return true;
}

bool
members_add(struct members *members, uint32_t subscriber, uint32_t at)
{
	uint32_t cap = members->cap, full = is_table(members) ? cap / 4 * 3 : cap > 0 ? cap : 1;

	assert(subscriber != MEMBERS_NOBODY);
	if (members->count >= full && !resize(members, cap > 0 ? cap * 2 : 2))
		return false;
	insert(members, (struct member){subscriber, at});
	return true;
}

/* Close the gap in a table: what was moved on because of it moves back. */
static void
remove_from_table(struct members *m, uint32_t gap)
{
	uint32_t mask = m->cap - 1, i = gap;

	for (;;) {
		i = (i + 1) & mask;
		if (m->many[i].subscriber == MEMBERS_NOBODY)
			break;
		if (((i - home_of(m, m->many[i].subscriber)) & mask) >= ((i - gap) & mask)) {
			m->many[gap] = m->many[i];
			gap = i;
		}
	}
	m->many[gap].subscriber = MEMBERS_NOBODY;
}

/* Back to no memory of its own. */
static void
collapse(struct members *m)
{
	struct member last = {.subscriber = MEMBERS_NOBODY};
	uint32_t count = m->count;

	for (uint32_t i = 0; count > 0 && last.subscriber == MEMBERS_NOBODY; i++)
		last = *members_place(m, i);
	members_fini(m);
	m->one = last;
	m->count = count;
}

void
members_remove(struct members *members, struct member *member)
{
	if (is_table(members)) {
		remove_from_table(members, (uint32_t)(member - members->many));
		members->count--;
	} else {
		struct member *all = members->cap == 0 ? &members->one : members->many;

		*member = all[--members->count];
	}
	if (members->cap > 0 && members->count <= 1)
		collapse(members);
	else if (is_table(members) && members->count < members->cap / 8)
		resize(members, members->cap / 4); /* without memory it stays as large as it is */
}
