/* SPDX-License-Identifier: MIT */
#include "net/loop.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/poll.h"

/*
 * When several peers were ready, others have become ready meanwhile: their messages leave in the
 * same, larger writes. A single peer does not pay for another poll. The memory limit is checked at
 * the end of the turn, which must not be delayed when it is reached.
 */
enum { GATHER_FROM = 2, GATHER_POLLS = 4 };

struct loop *
loop_new(void)
{
	struct loop *loop = mem_new(sizeof(*loop));

	loop->limits = BUDGET_LIMITS;
	if (!poll_open(loop)) {
		free(loop);
		return NULL;
	}
	for (int i = 0; i < LOOP_PHASES; i++)
		list_init(&loop->tasks[i]);
	list_init(&loop->waiting);
	slots_init(&loop->slots);
	chunk_pool_init(&loop->env.pool);
	loop->scratch = mem_must(chunk_new(&loop->env.pool, LOOP_SCRATCH));
	return loop;
}

void
loop_read_clock(struct loop *loop)
{
	loop->env.now_ns = clock_now_ns();
	loop->now_ms = (int64_t)(loop->env.now_ns / 1000000);
	loop->now_is_fresh = true;
}

void
loop_stop(struct loop *loop)
{
	loop->stopping = true;
}

void
loop_set_max_connections(struct loop *loop, uint32_t most)
{
	loop->max_connections = most;
	loop_retry_waiting(loop);
}

uint32_t
loop_max_connections(const struct loop *loop)
{
	return loop->max_connections;
}

uint32_t
loop_connections(const struct loop *loop)
{
	return loop->connections;
}

void
loop_set_inherited(struct loop *loop, struct inherited *inherited)
{
	loop->inherited = inherited;
}

void
loop_set_socket_owner(struct loop *loop, const struct sockfile_owner *owner)
{
	loop->socket_owner = *owner;
}

bool
loop_is_cut(const struct loop *loop)
{
	return loop->cut;
}

uint64_t
loop_free_buffer_bytes(const struct loop *loop)
{
	uint64_t spare = loop->spare != NULL ? chunk_cost(loop->spare) : 0;

	return chunk_pool_bytes(&loop->env.pool) + spare;
}

void
loop_describe(const struct loop *loop, struct loop_view *view)
{
	*view = (struct loop_view){
		.memory_bytes = loop->env.memory.used,
		.memory_limit = loop->env.memory.limit,
		.free_buffer_bytes = loop_free_buffer_bytes(loop),
		.connections = loop->connections,
		.max_connections = loop->max_connections,
		.turns = loop->turns,
		.lag = loop->lag,
	};
}

void
task_init(struct task *task, void (*run)(struct task *))
{
	list_init(&task->node);
	task->run = run;
}

void
loop_defer(struct loop *loop, enum loop_phase phase, struct task *task)
{
	if (!list_linked(&task->node))
		list_push(&loop->tasks[phase], &task->node);
}

void
loop_await_place(struct loop *loop, struct task *task)
{
	list_move(&loop->waiting, &task->node);
}

void
loop_retry_waiting(struct loop *loop)
{
	list_each(node, tmp, &loop->waiting) {
		struct task *task = list_entry(node, struct task, node);
		task->run(task);
	}
}

void
task_cancel(struct task *task)
{
	list_remove(&task->node);
}

static void
run_tasks(struct list *head)
{
	struct list *node;

	while ((node = list_pop(head)) != NULL) {
		struct task *task = list_entry(node, struct task, node);
		task->run(task);
	}
}

/* The same, until the turn has cost `end`: the remaining tasks come first in the next turn. */
static inline void
run_some(struct loop *loop, struct list *head, uint32_t end)
{
	struct list *node;

	while ((node = list_pop(head)) != NULL) {
		struct task *task = list_entry(node, struct task, node);
		task->run(task);
		if (__builtin_expect(loop->spent > end, 0))
			return;
	}
}

/* Moves all of `from`, in its order, to the front of `to`. */
static void
put_before(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	from->prev->next = to->next;
	to->next->prev = from->prev;
	from->next->prev = to;
	to->next = from->next;
	list_init(from);
}

/* A task that is deferred again while the round runs waits for the next turn. */
static void __attribute__((noinline)) run_one_round(struct loop *loop, struct list *head)
{
	struct list round;

	list_init(&round);
	put_before(&round, head);
	run_some(loop, &round, loop->spent + loop->limits.turn);
	put_before(head, &round);
}

/* Reads the clock once for the turn and for all messages that came and left in it. */
static void
measure(struct loop *loop)
{
	uint64_t took;
	unsigned bucket;

	loop->turns++;
	if (!loop->now_is_fresh) /* nothing was ready */
		return;
	took = clock_now_ns() - loop->env.now_ns;
	bucket = histogram_bucket(took);
	histogram_add_to(&loop->lag, bucket, took, 1);
	histogram_add_held(&loop->held, bucket, took);
}

static void
turn(struct loop *loop, bool wait)
{
	unsigned before = 0;
	uint32_t end;

	loop->now_is_fresh = false;
	loop->ready = 0;
	loop->spent = 0;
	if (__builtin_expect(loop->unfinished, 0))
		budget_begin_turn(loop);
	poll_once(loop, wait);
	for (int i = 0; i < GATHER_POLLS && loop->ready - before >= GATHER_FROM && !loop->crowded &&
		!loop->cut && !mem_account_over(&loop->env.memory);
		i++) {
		before = loop->ready;
		poll_again(loop);
	}
	if (!list_empty(&loop->tasks[LOOP_RESUME]))
		run_one_round(loop, &loop->tasks[LOOP_RESUME]);
	end = loop->spent + loop->limits.turn;
	/* closing a peer moves its queue to others: flush again until nothing is left */
	do {
		run_some(loop, &loop->tasks[LOOP_FLUSH], end);
		run_some(loop, &loop->tasks[LOOP_REAP], loop->spent + loop->limits.turn);
	} while (!list_empty(&loop->tasks[LOOP_FLUSH]) && loop->spent <= end);
	measure(loop);
	run_tasks(&loop->tasks[LOOP_OBSERVE]);
	if (loop->on_turn != NULL)
		loop->on_turn(loop->on_turn_arg);
}

static void
loop_turn(struct loop *loop)
{
	bool wait = true;

	for (int i = 0; i < LOOP_PHASES; i++)
		wait = wait && list_empty(&loop->tasks[i]);
	turn(loop, wait);
}

void
loop_run(struct loop *loop)
{
	while (!loop->stopping)
		loop_turn(loop);
}

void
loop_free(struct loop *loop)
{
	/* a cancelled name lookup reports in a turn of its own */
	loop->on_turn = NULL;
	turn(loop, false);
	turn(loop, false);
	poll_close(loop);
	chunk_unref(&loop->env.pool, loop->scratch);
	if (loop->spare != NULL)
		chunk_unref(&loop->env.pool, loop->spare);
	chunk_pool_fini(&loop->env.pool);
	free(loop);
}
