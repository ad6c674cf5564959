/* SPDX-License-Identifier: MIT */
/*
 * Queue mode: which worker gets the next request.
 */
#include "broker/balance.h"
#include "check.h"
#include "net/conn.h"
#include "queue_mode.h"
#include "sim.h"

/* The workers in the balance after the previous turn, and how many requests they had by then. */
static struct turn {
	struct was {
		uint64_t id, number;
	} workers[64];
	size_t count;
	uint64_t answers, moved, lift; /* then */
} before;

static uint64_t
load_of(const struct conn *conn)
{
	const struct peer *worker = conn->peer;

	return worker->outstanding + worker->lift;
}

static bool
is_in_balance(const struct conn *conn)
{
	return conn->peer != NULL && ((const struct peer *)conn->peer)->level != NULL;
}

/* Workers with the least come first, and a worker with nothing is one of them. */
void
queue_check_levels(const struct proxy *p)
{
	const struct list *levels = &p->balance.levels.node;
	uint64_t least = list_empty(levels) ? 0 : level_of(levels->next)->load, last = 0;

	for (const struct list *n = levels->next; n != levels; n = n->next) {
		if (n != levels->next && level_of(n)->load <= last)
			violation("levels of workers are not in order");
		if (list_empty(&level_of(n)->workers))
			violation("a level without a worker");
		last = level_of(n)->load;
	}
	list_each(node, tmp, &p->side[PROXY_BACKEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *worker = conn->peer;

		if (!is_in_balance(conn))
			continue;
		if (worker->level->load != load_of(conn))
			violation(
				"worker %llu counts for %llu requests and is at the level of %llu",
				check_id(conn), (unsigned long long)load_of(conn),
				(unsigned long long)worker->level->load);
		if (worker->lift > least)
			violation(
				"worker %llu holds %llu requests, and another with %llu is before "
				"it",
				check_id(conn), (unsigned long long)worker->outstanding,
				(unsigned long long)least);
	}
}

/*
 * In a turn without replies loads only rise: a worker that was given a request had the least.
 */
void
queue_check_choices(const struct proxy *p)
{
	const struct counters *c = &p->counters[PROXY_BACKEND];
	uint64_t answers = p->counters[PROXY_FRONTEND].received,
		 moved = c->rerouted + c->redelivered;
	struct turn now = {.answers = answers, .moved = moved, .lift = p->balance.lift};
	uint64_t least = UINT64_MAX, most = 0;

	list_each(node, tmp, &p->side[PROXY_BACKEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		size_t i = 0;

		if (!is_in_balance(conn) ||
			now.count == sizeof(now.workers) / sizeof(now.workers[0]))
			continue;
		now.workers[now.count++] = (struct was){conn->id, conn_next_number(conn)};
		while (i < before.count && before.workers[i].id != conn->id)
			i++;
		if (i == before.count)
			continue;
		if (load_of(conn) < least)
			least = load_of(conn);
		if (conn_next_number(conn) > before.workers[i].number && load_of(conn) > most)
			most = load_of(conn);
	}
	if (answers == before.answers && moved == before.moved && p->balance.lift >= before.lift &&
		most > 0 && most - 1 > least)
		violation("a worker that counted for %llu requests was given one more, and one for "
			  "%llu "
			  "was not",
			(unsigned long long)most - 1, (unsigned long long)least);
	before = now;
}

void
queue_balance_reset(void)
{
	before = (struct turn){0};
}
