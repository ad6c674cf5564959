/* SPDX-License-Identifier: MIT */
/*
 * settle.h - turns a loop until it has nothing more to do for now. Data that the test wrote to
 * local sockets has arrived when write returns: a turn that finds no descriptor ready is the last.
 */
#ifndef BULKHEAD_TESTS_SETTLE_H
#define BULKHEAD_TESTS_SETTLE_H

#include "net/loop.h"

struct settle {
	struct timer timer; /* wakes a loop that has nothing to do */
	struct task task;
};

static inline void
settle_timer_cb(struct timer *timer)
{
	struct settle *s = list_entry(timer, struct settle, timer);

	loop_defer(timer->loop, LOOP_OBSERVE, &s->task);
}

static inline void
settle_task_cb(struct task *task)
{
	struct settle *s = list_entry(&task->node, struct settle, task.node);

	if (s->timer.loop->ready == 0)
		loop_stop(s->timer.loop);
	else
		timer_set(&s->timer, 1);
}

/* Prepare to settle `loop`. Before the loop goes: timer_stop(&s->timer). */
static inline void
settle_init(struct settle *s, struct loop *loop)
{
	timer_init(&s->timer, loop, settle_timer_cb);
	task_init(&s->task, settle_task_cb);
}

/* Turn until there is nothing more to do. */
static inline void
settle_loop(struct settle *s)
{
	s->timer.loop->stopping = false;
	timer_set(&s->timer, 1);
	loop_run(s->timer.loop);
}

#endif
