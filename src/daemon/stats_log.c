/* SPDX-License-Identifier: MIT */
/*
 * SIGUSR1: every counter in the log, in slices, and no faster than the log is read.
 */
#include "base/log.h"
#include "daemon/service_impl.h"

struct stats_slice {
	struct slice slice;
	const struct service *service;
};

static bool
stats_may_go_on(void *arg)
{
	enum { COST = 15 }; /* two long lines */
	struct stats_slice *slice = arg;

	/* stop while the log's reader is behind, unless it hangs */
	return (log_waiting() <= PACE_BYTES || slice->service->stats_pace.hangs) &&
		slice_take(&slice->slice, COST);
}

/* At the end of a turn; the rest follows at the end of the next one. */
static void
stats_task_cb(struct task *task)
{
	struct service *s = list_entry(&task->node, struct service, stats_task.node);
	struct stats_slice slice = {slice_begin(), s};

	if (pace_waits(&s->stats_pace, loop_now(s->loop)))
		timer_set(&s->stats_timer, PACE_RETRY_MS);
	else if (broker_log_some(s->broker, stats_may_go_on, &slice) || s->stats_again)
		loop_defer(s->loop, LOOP_RESUME, &s->stats_more_task);
	if (!broker_is_logging(s->broker))
		s->stats_again = false;
}

static void
stats_more_task_cb(struct task *task)
{
	struct service *s = list_entry(&task->node, struct service, stats_more_task.node);

	loop_defer(s->loop, LOOP_OBSERVE, &s->stats_task);
}

static void
stats_timer_cb(struct timer *timer)
{
	struct service *s = list_entry(timer, struct service, stats_timer);

	loop_defer(s->loop, LOOP_OBSERVE, &s->stats_task);
}

void
service_log_stats(struct service *s)
{
	if (broker_is_logging(s->broker))
		s->stats_again = true;
	else
		loop_defer(s->loop, LOOP_OBSERVE, &s->stats_task);
}

void
service_init_stats(struct service *s)
{
	task_init(&s->stats_task, stats_task_cb);
	task_init(&s->stats_more_task, stats_more_task_cb);
	timer_init(&s->stats_timer, s->loop, stats_timer_cb);
}

void
service_fini_stats(struct service *s)
{
	timer_stop(&s->stats_timer);
	task_cancel(&s->stats_task);
	task_cancel(&s->stats_more_task);
}
