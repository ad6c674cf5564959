#include "broker/balance.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

void
balance_init(struct balance *b)
{
	*b = (struct balance){.max_outstanding = UINT64_MAX};
	list_init(&b->ready);
	list_init(&b->levels);
	list_init(&b->spare);
}

void
balance_fini(struct balance *b)
{
	struct list *node;

	assert(list_empty(&b->ready) && list_empty(&b->levels));
	while ((node = list_pop(&b->spare)) != NULL)
		free(list_entry(node, struct level, node));
}

/* Does the worker take a message of `size` bytes now? */
static bool
takes(const struct balance *b, const struct peer *worker, size_t size)
{
	return worker->conn->state == CONN_READY && worker->outstanding < b->max_outstanding &&
		!worker->suspect && conn_has_room(worker->conn, size);
}

/* --- levels ---------------------------------------------------------------- */

bool
balance_join(struct balance *b)
{
	struct level *level = mem_try_new(sizeof(*level));

	if (level == NULL)
		return false;
	list_init(&level->workers);
	list_push(&b->spare, &level->node);
	return true;
}

void
balance_quit(struct balance *b)
{
	struct list *spare = list_pop(&b->spare);

	assert(spare != NULL);
	free(list_entry(spare, struct level, node));
}

static struct level *
level_of(const struct list *node)
{
	return list_entry(node, struct level, node);
}

/* The level of `count`, made when there is none; looked for from the node `from` on. */
static struct level *
level_near(struct balance *b, struct list *from, uint64_t count)
{
	struct list *spare;
	struct level *level;

	while (from != &b->levels && level_of(from)->count > count)
		from = from->prev;
	while (from->next != &b->levels && level_of(from->next)->count <= count)
		from = from->next;
	if (from != &b->levels && level_of(from)->count == count)
		return level_of(from);
	spare = list_pop(&b->spare);
	assert(spare != NULL); /* there are as many as workers */
	level = level_of(spare);
	level->count = count;
	list_push(from->next, &level->node); /* behind `from` */
	return level;
}

static void
enter_level(struct balance *b, struct peer *worker, struct list *from)
{
	worker->level = level_near(b, from, worker->outstanding);
	list_push(&worker->level->workers, &worker->ready);
}

/* Returns the node of a level nearby. */
static struct list *
leave_level(struct balance *b, struct peer *worker)
{
	struct level *level = worker->level;
	struct list *near = &level->node;

	list_remove(&worker->ready);
	worker->level = NULL;
	if (list_empty(&level->workers)) {
		near = near->prev;
		list_move(&b->spare, &level->node);
	}
	return near;
}

/* One request more or less: the level is next door. */
void
balance_move(struct balance *b, struct peer *worker)
{
	enter_level(b, worker, leave_level(b, worker));
}

static struct peer *
least_next(struct balance *b, size_t size)
{
	while (!list_empty(&b->levels)) {
		struct level *level = level_of(b->levels.next);
		struct peer *worker = list_entry(level->workers.next, struct peer, ready);

		if (takes(b, worker, size)) {
			list_move(&level->workers, &worker->ready);
			return worker;
		}
		leave_level(b, worker);
	}
	return NULL;
}

/* --- both ------------------------------------------------------------------ */

void
balance_add(struct balance *b, struct peer *worker)
{
	if (worker->retiring || list_linked(&worker->ready))
		return;
	/* most that come back hold about as many as the fullest */
	if (b->least)
		enter_level(b, worker, b->levels.prev);
	else
		list_push(&b->ready, &worker->ready);
}

void
balance_remove(struct balance *b, struct peer *worker)
{
	if (worker->level != NULL)
		leave_level(b, worker);
	else
		list_remove(&worker->ready);
}

struct peer *
balance_next(struct balance *b, size_t size)
{
	struct list *node;

	while ((node = list_pop(&b->ready)) != NULL) {
		struct peer *worker = list_entry(node, struct peer, ready);
		if (worker->conn->state == CONN_READY && conn_has_room(worker->conn, size)) {
			list_push(&b->ready, &worker->ready);
			return worker;
		}
	}
	return NULL;
}

struct peer *
balance_next_tracked(struct balance *b, size_t size)
{
	struct list *node;

	if (b->least)
		return least_next(b, size);
	while ((node = list_pop(&b->ready)) != NULL) {
		struct peer *worker = list_entry(node, struct peer, ready);
		if (takes(b, worker, size)) {
			list_push(&b->ready, &worker->ready);
			return worker;
		}
	}
	return NULL;
}
