/* SPDX-License-Identifier: MIT */
/*
 * The reloads of the service: one at a time, in slices, and what follows one that was applied.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "daemon/limits.h"
#include "daemon/service_impl.h"

/* Apply [broker]. A value that was set at run time stays unless the file's has changed. */
static void
apply_broker(struct service *s, const struct config_broker *before)
{
	const struct config_broker *c = &s->config->broker;

	if (c->log_level != before->log_level)
		service_set_log_level(s);
	broker_set_memory_limit(s->broker, (uint64_t)c->memory_limit);
	if (c->max_connections != before->max_connections)
		loop_set_max_connections(s->loop, limits_connections(c->max_connections));
}

bool
service_show_config(struct service *s, struct slice *slice)
{
	enum { COST = 150 };
	const struct config *c = s->config;
	struct text text = {0};
	bool more = false;

	for (; s->shown <= c->proxy_count; s->shown++) {
		more = !slice_take(slice, COST);
		if (more)
			break;
		text_clear(&text);
		if (s->shown == 0)
			config_dump_broker(c, &text);
		else
			config_dump_proxy(&c->proxy[s->shown - 1], &text);
		admin_add_config(s->admin, text.no_memory ? NULL : text.bytes, text.len);
	}
	text_fini(&text);
	if (more)
		return true;
	s->shown = 0;
	admin_set_config(s->admin, c->broker.http_hosts, c->broker.drain_timeout);
	return false;
}

static void
begin_reload(struct service *s)
{
	s->reload_number++;
	s->reload_slices = 0;
	s->reload_stage = RELOAD_BEGINS;
	systemd_reloading(&s->systemd);
	loop_defer(s->loop, LOOP_RESUME, &s->reload_task);
}

static void
end_reload(struct service *s, bool done, const char *text)
{
	s->reload_stage = RELOAD_NONE;
	systemd_reloaded(&s->systemd, !done);
	if (done)
		log_event(LOG_LEVEL_NOTICE, "reloaded", "changes=%zu need_restart=%zu slices=%u",
			s->summary.changes, s->summary.restarts, s->reload_slices);
	admin_reloaded(s->admin, s->reload_number, done, text);
	free(s->summary.report);
	s->summary.report = NULL;
	if (s->reload_again && s->state == RUNNING)
		begin_reload(s);
	s->reload_again = false;
}

/* Its own work is over: it is applied, or it has failed. */
static void
conclude_reload(struct service *s)
{
	const struct config_broker before = s->config->broker;
	struct config *next = reload_end(s->reload, &s->summary);

	s->reload = NULL;
	if (next == NULL) {
		end_reload(s, false,
			s->summary.report != NULL ? s->summary.report
						  : "no memory; nothing was changed\n");
		return;
	}
	s->replaced = s->reloaded;
	s->config = s->reloaded = next;
	last_good_reloaded(&s->last_good, next);
	apply_broker(s, &before);
	s->reload_stage = RELOAD_SHOWS;
}

/* One slice of the work; messages pass between two slices. False: the reload is over. */
static bool
run_reload(struct service *s, struct slice *slice)
{
	s->reload_slices++;
	switch (s->reload_stage) {
	case RELOAD_NONE:
		break;
	case RELOAD_BEGINS:
		s->reload = reload_new(&s->running, s->config);
		s->reload_stage = RELOAD_RUNS;
		if (s->reload != NULL)
			break;
		log_event(LOG_LEVEL_ERROR, "reload_failed", "errors=0 reason=\"no memory\"");
		end_reload(s, false, "no memory; nothing was changed\n");
		break;
	case RELOAD_RUNS:
		if (!reload_step(s->reload, slice))
			conclude_reload(s);
		break;
	case RELOAD_SHOWS:
		if (!service_show_config(s, slice))
			s->reload_stage = RELOAD_FREES;
		break;
	case RELOAD_FREES:
		if (s->replaced != NULL && config_free_step(s->replaced, slice))
			break;
		config_free(s->replaced);
		s->replaced = NULL;
		end_reload(s, true, s->summary.report);
		break;
	}
	return s->reload_stage != RELOAD_NONE;
}

static void
reload_task_cb(struct task *task)
{
	struct service *s = list_entry(&task->node, struct service, reload_task.node);
	struct slice slice = slice_begin();

	if (pace_waits(&s->pace, loop_now(s->loop)))
		timer_set(&s->reload_timer, PACE_RETRY_MS);
	else if (run_reload(s, &slice))
		loop_defer(s->loop, LOOP_RESUME, &s->reload_task);
}

static void
reload_timer_cb(struct timer *timer)
{
	struct service *s = list_entry(timer, struct service, reload_timer);

	loop_defer(s->loop, LOOP_RESUME, &s->reload_task);
}

void
service_break_off_reload(struct service *s)
{
	static const char why_not[] = "the daemon is stopping\n";
	bool again = s->reload_again;

	s->reload_again = false;
	task_cancel(&s->reload_task);
	timer_stop(&s->reload_timer);
	if (s->reload_stage >= RELOAD_SHOWS) {
		while (run_reload(s, NULL))
			;
	} else if (s->reload_stage != RELOAD_NONE) {
		if (s->reload != NULL) {
			(void)reload_end(s->reload, &s->summary);
			s->reload = NULL;
		}
		end_reload(s, false, why_not);
	}
	if (again)
		admin_reloaded(s->admin, s->reload_number + 1, false, why_not);
}

uint64_t
service_ask_for_reload(struct service *s)
{
	if (s->state != RUNNING)
		return 0;
	if (s->reload_stage == RELOAD_NONE) {
		begin_reload(s);
		return s->reload_number;
	}
	s->reload_again = true;
	return s->reload_number + 1;
}

void
service_init_reload(struct service *s)
{
	task_init(&s->reload_task, reload_task_cb);
	timer_init(&s->reload_timer, s->loop, reload_timer_cb);
}
