/* SPDX-License-Identifier: MIT */
/*
 * Intrusive doubly linked list with a head node. A node that is in no list
 * points to itself, so removing twice is harmless.
 */
#ifndef BULKHEAD_BASE_LIST_H
#define BULKHEAD_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct list {
	struct list *prev, *next;
};

/* The struct of type `type` whose member `member` is the node `node`. */
#define list_entry(node, type, member) ((type *)((uintptr_t)(node)-offsetof(type, member)))

/* Walk; the loop body may remove `it`, but no other node. */
/* NOLINTBEGIN(bugprone-macro-parentheses): `it` and `tmp` are names that it declares */
#define list_each(it, tmp, head) \
	for (struct list *it = (head)->next, *tmp = it->next; it != (head); \
		it = tmp, tmp = it->next)

/* Walk without changing the list. */
#define list_each_const(it, head) \
	for (const struct list *it = (head)->next; it != (head); it = it->next)
/* NOLINTEND(bugprone-macro-parentheses) */

static inline void
list_init(struct list *node)
{
	node->prev = node->next = node;
}

static inline bool
list_empty(const struct list *head)
{
	return head->next == head;
}

/* True when `node` is a member of some list. */
static inline bool
list_linked(const struct list *node)
{
	return node->next != node;
}

static inline void
list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

/* Append `node`, which is in no list, at the tail. */
static inline void
list_push(struct list *head, struct list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

/* Move `node` to the tail of `head`, from the list it is in, if any. */
static inline void
list_move(struct list *head, struct list *node)
{
	list_remove(node);
	list_push(head, node);
}

/* Take out the first node. NULL: the list is empty. */
static inline struct list *
list_pop(struct list *head)
{
	struct list *node = head->next;
	if (node == head)
		return NULL;
	list_remove(node);
	return node;
}

#endif
