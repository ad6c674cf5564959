/* SPDX-License-Identifier: MIT */
#include "broker/balance.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

void
balance_init(struct balance *b)
{
	*b = (struct balance){.max_outstanding = UINT64_MAX};
	list_init(&b->ready);
	list_init(&b->levels.node);
	b->levels.load = UINT64_MAX;
	list_init(&b->spare);
}

void
balance_fini(struct balance *b)
{
	struct list *node;

	assert(list_empty(&b->ready) && list_empty(&b->levels.node));
	while ((node = list_pop(&b->spare)) != NULL)
		free(list_entry(node, struct level, node));
}

/* --- levels --------------------------------------------------------------- */

/* The least that a worker with room counts for; without such a worker, `floor`. */
static uint64_t
least_load(const struct balance *b)
{
	return list_empty(&b->levels.node) ? b->floor : level_of(b->levels.node.next)->load;
}

bool
balance_join(struct balance *b, struct peer *worker)
{
	struct level *level = mem_try_new(sizeof(*level));

	if (level == NULL)
		return false;
	list_init(&level->workers);
	list_push(&b->spare, &level->node);
	worker->lift = least_load(b);
	if (worker->lift > b->lift)
		b->lift = worker->lift;
	return true;
}

void
balance_quit(struct balance *b)
{
	struct list *spare = list_pop(&b->spare);

	assert(spare != NULL);
	free(list_entry(spare, struct level, node));
}

/* A new level for `load`, after the node `before`. */
static struct level *
new_level(struct balance *b, struct list *before, uint64_t load)
{
	struct list *spare = list_pop(&b->spare);
	struct level *level;

	assert(spare != NULL); /* there are as many as workers */
	level = level_of(spare);
	level->load = load;
	list_push(before->next, &level->node);
	return level;
}

/* The level of `load`, made if there is none; the search begins at the node `from`. */
static struct level *
level_near(struct balance *b, struct list *from, uint64_t load)
{
	while (from != &b->levels.node && level_of(from)->load > load)
		from = from->prev;
	while (from->next != &b->levels.node && level_of(from->next)->load <= load)
		from = from->next;
	if (from != &b->levels.node && level_of(from)->load == load)
		return level_of(from);
	return new_level(b, from, load);
}

static void
enter_level(struct peer *worker, struct level *level)
{
	worker->level = level;
	list_push(&level->workers, &worker->ready);
}

static void
leave_level(struct balance *b, struct peer *worker)
{
	struct level *level = worker->level;

	list_remove(&worker->ready);
	worker->level = NULL;
	if (!list_empty(&level->workers))
		return;
	list_move(&b->spare, &level->node);
	if (list_empty(&b->levels.node))
		b->floor = level->load;
}

static void
change_level(struct balance *b, struct peer *worker, struct level *level)
{
	leave_level(b, worker);
	enter_level(worker, level);
}

/* A worker counts for `load` only: from now on no worker's lift may be more. */
static void
lower_lifts(struct balance *b, uint64_t load)
{
	b->lift = load;
	list_each(node, next, &b->levels.node) {
		list_each(w, tmp, &level_of(node)->workers) {
			struct peer *worker = list_entry(w, struct peer, ready);

			if (worker->lift <= load)
				continue;
			worker->lift = load;
			leave_level(b, worker);
			enter_level(worker,
				level_near(b, &b->levels.node, worker->outstanding + worker->lift));
		}
	}
}

/* To the neighbouring level, this one if no other worker is in it, or a new one. */
static void
step(struct balance *b, struct peer *worker, struct list *neighbour, struct list *before,
	uint64_t load)
{
	struct level *level = worker->level;

	if (level_of(neighbour)->load == load)
		change_level(b, worker, level_of(neighbour));
	else if (level_is_for_one(level))
		level->load = load;
	else
		change_level(b, worker, new_level(b, before, load));
}

void
balance_rise(struct balance *b, struct peer *worker)
{
	struct list *node = &worker->level->node;

	step(b, worker, node->next, node, worker->level->load + 1);
}

void
balance_fall(struct balance *b, struct peer *worker)
{
	struct list *previous = worker->level->node.prev;

	step(b, worker, previous, previous, worker->level->load - 1);
	if (worker->level->load < b->lift)
		lower_lifts(b, worker->level->load);
}

static struct peer *
search_levels(struct balance *b, size_t size)
{
	while (!list_empty(&b->levels.node)) {
		struct list *first = level_of(b->levels.node.next)->workers.next;
		struct peer *worker = list_entry(first, struct peer, ready);

		if (balance_make_room(b, worker, size))
			return worker;
		leave_level(b, worker);
	}
	return NULL;
}

/* --- both ----------------------------------------------------------------- */

/*
 * A worker that comes back starts no lower than the others: it gets one more turn, not all turns.
 */
static void
add_to_level(struct balance *b, struct peer *worker)
{
	uint64_t least = list_empty(&b->levels.node) ? 0 : least_load(b), load;

	if (worker->lift > b->lift)
		worker->lift = b->lift;
	load = worker->outstanding + worker->lift;
	if (load < least) {
		worker->lift += least - load;
		load = least;
	}
	if (worker->lift > b->lift)
		b->lift = worker->lift;
	/* most workers that come back count for the least, or about as much as the fullest */
	enter_level(
		worker, level_near(b, load == least ? &b->levels.node : b->levels.node.prev, load));
	if (load < b->lift)
		lower_lifts(b, load);
}

void
balance_add(struct balance *b, struct peer *worker)
{
	if (worker->draining || worker->returning || (worker->suspect && !worker->trial) ||
		list_linked(&worker->ready))
		return;
	if (b->least)
		add_to_level(b, worker);
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

void
balance_skip(struct peer *worker)
{
	if (worker->level != NULL)
		list_move(&worker->level->workers, &worker->ready);
}

struct peer *
balance_search(struct balance *b, size_t size)
{
	struct list *node;

	if (b->least)
		return search_levels(b, size);
	while ((node = list_pop(&b->ready)) != NULL) {
		struct peer *worker = list_entry(node, struct peer, ready);
		if (balance_make_room(b, worker, size)) {
			list_push(&b->ready, &worker->ready);
			return worker;
		}
	}
	return NULL;
}
