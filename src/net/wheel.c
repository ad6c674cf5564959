/* SPDX-License-Identifier: MIT */
#include "net/wheel.h"

#include <assert.h>

#include "base/clock.h"

static const int64_t farthest = INT64_C(1) << WHEEL_FARTHEST_BITS;

static unsigned
digit(int64_t time, unsigned level)
{
	return (unsigned)(time >> (level * WHEEL_BITS)) & (WHEEL_SLOTS - 1);
}

void
wheel_init(struct wheel *w, int64_t now_ms)
{
	w->now_ms = now_ms;
	for (unsigned l = 0; l < WHEEL_LEVELS; l++) {
		w->busy[l] = 0;
		for (unsigned s = 0; s < WHEEL_SLOTS; s++)
			list_init(&w->slots[l][s]);
	}
}

/* Into the slot that its time asks for; it lies ahead. */
static void
place(struct wheel *w, struct timer *t)
{
	unsigned highest = 63u - (unsigned)__builtin_clzll((uint64_t)(t->due ^ w->now_ms));
	unsigned level = highest / WHEEL_BITS;
	unsigned slot = digit(t->due, level);

	assert(t->due > w->now_ms && level < WHEEL_LEVELS);
	list_push(&w->slots[level][slot], &t->node);
	w->busy[level] |= UINT64_C(1) << slot;
}

void
wheel_add(struct wheel *w, struct timer *t, int64_t due)
{
	if (due <= w->now_ms)
		due = w->now_ms + 1;
	if (due - w->now_ms > farthest)
		due = w->now_ms + farthest;
	t->due = due;
	place(w, t);
}

void
wheel_remove(struct wheel *w, struct timer *t)
{
	struct list *next = t->node.next;
	uintptr_t i = ((uintptr_t)next - (uintptr_t)&w->slots[0][0]) / sizeof(struct list);

	if (!list_linked(&t->node))
		return;
	list_remove(&t->node);
	t->due = CLOCK_NEVER;
	/* was it alone with the head of a slot? It may have been among the expired as well */
	if (list_empty(next) && i < (uintptr_t)WHEEL_LEVELS * WHEEL_SLOTS)
		w->busy[i / WHEEL_SLOTS] &= ~(UINT64_C(1) << i % WHEEL_SLOTS);
}

/*
 * Where the first busy slot begins. All that is on a level comes before all
 * that is on the next, and no busy slot lies before `now_ms`.
 */
int64_t
wheel_next(const struct wheel *w)
{
	for (unsigned l = 0; l < WHEEL_LEVELS; l++) {
		if (w->busy[l] != 0) {
			unsigned shift = l * WHEEL_BITS;
			int64_t upper = w->now_ms >> (shift + WHEEL_BITS) << (shift + WHEEL_BITS);
			return upper | (int64_t)__builtin_ctzll(w->busy[l]) << shift;
		}
	}
	return CLOCK_NEVER;
}

/* `now_ms` reached the beginning of this slot: due timers expire, the others move down. */
static void
empty_slot(struct wheel *w, unsigned level, unsigned slot, struct list *expired)
{
	struct list *node;

	w->busy[level] &= ~(UINT64_C(1) << slot);
	while ((node = list_pop(&w->slots[level][slot])) != NULL) {
		struct timer *t = list_entry(node, struct timer, node);
		if (t->due <= w->now_ms)
			list_push(expired, node);
		else
			place(w, t);
	}
}

void
wheel_advance(struct wheel *w, int64_t now_ms, struct list *expired)
{
	int64_t next;

	while ((next = wheel_next(w)) <= now_ms) {
		w->now_ms = next;
		for (unsigned l = WHEEL_LEVELS; l-- > 0;)
			if (w->busy[l] & UINT64_C(1) << digit(next, l))
				empty_slot(w, l, digit(next, l), expired);
	}
	if (now_ms > w->now_ms)
		w->now_ms = now_ms;
}
