/* SPDX-License-Identifier: MIT */
#include "net/log_watch.h"

#include "base/clock.h"
#include "base/log.h"

enum { RETRY_MS = 100 };

static void
retry_later(struct log_watch *w)
{
	if (w->watch != NULL)
		watch_set(w->watch, 0);
	timer_set(&w->timer, RETRY_MS);
}

static void
flush(struct log_watch *w)
{
	bool some = log_flush();

	if (!log_waits() && w->watch != NULL)
		watch_set(w->watch, 0);
	else if (log_waits() && !some)
		retry_later(w);
}

static void
on_writable(void *arg, unsigned events)
{
	(void)events;
	flush(arg);
}

static void
begin_to_watch(struct log_watch *w)
{
	if (w->watch == NULL)
		w->watch = watch_new(w->loop, log_fd(), on_writable, w);
	if (w->watch == NULL || !watch_set(w->watch, WATCH_OUT))
		retry_later(w);
}

static void
task_cb(struct task *task)
{
	struct log_watch *w = list_entry(task, struct log_watch, task);

	if (log_waits() && w->timer.due == CLOCK_NEVER)
		begin_to_watch(w);
}

static void
timer_cb(struct timer *timer)
{
	struct log_watch *w = list_entry(timer, struct log_watch, timer);

	flush(w);
	if (log_waits() && timer->due == CLOCK_NEVER)
		begin_to_watch(w);
}

/* Called from within log_event, that is, from anywhere: only marks. */
static void
on_wait(void *arg)
{
	struct log_watch *w = arg;

	loop_defer(w->loop, LOOP_OBSERVE, &w->task);
}

void
log_watch_init(struct log_watch *w, struct loop *loop)
{
	*w = (struct log_watch){.loop = loop};
	task_init(&w->task, task_cb);
	timer_init(&w->timer, loop, timer_cb);
	log_on_wait(on_wait, w);
	if (log_waits())
		on_wait(w);
}

void
log_watch_fini(struct log_watch *w)
{
	if (w->loop == NULL)
		return;
	log_on_wait(NULL, NULL);
	task_cancel(&w->task);
	timer_stop(&w->timer);
	watch_free(w->watch);
}
