/* SPDX-License-Identifier: MIT */
/*
 * The stop of the service: drain, then close the backends, then the frontends.
 */
#include <inttypes.h>

#include "base/log.h"
#include "daemon/service_impl.h"

enum {
	DRAIN_POLL_MS = 20,
	STOP_MS = 10000 /* that a stop may take at most, besides draining */
};

static void
log_drained(struct service *s)
{
	const struct drain_result r = broker_drain_result(s->broker);

	log_event(LOG_LEVEL_NOTICE, "drained", "answered=%" PRIu64 " given_up=%" PRIu64, r.answered,
		r.given_up);
}

/* One step; once a second, log what the drain waits for. */
static void
drain_proxies(struct service *s)
{
	int64_t now_ms = loop_now(s->loop);
	bool logs = now_ms >= s->drain_log_due && now_ms < s->drain_due;

	if (logs)
		s->drain_log_due = now_ms + RUNNING_DRAIN_LOG_MS;
	broker_drain_step(s->broker);
	if (logs)
		broker_log_drain(s->broker, s->drain_due - now_ms);
}

static void
drain_step(struct service *s)
{
	switch (s->state) {
	case RUNNING:
		break;
	case DRAINING:
		drain_proxies(s);
		if (!broker_is_drained(s->broker) && loop_now(s->loop) < s->drain_due)
			break;
		log_drained(s);
		s->state = CLOSING_BACKENDS;
		broker_close_side(s->broker, PROXY_BACKEND, true);
		break;
	case CLOSING_BACKENDS:
		if (broker_totals(s->broker).connections[PROXY_BACKEND] > 0)
			break;
		s->state = CLOSING_FRONTENDS;
		broker_close_side(s->broker, PROXY_FRONTEND, true);
		break;
	case CLOSING_FRONTENDS:
	case STOPPING_NOW:
		if (loop_connections(s->loop) == 0)
			loop_stop(s->loop);
		break;
	}
}

static void
drain_timer_cb(struct timer *timer)
{
	struct service *s = list_entry(timer, struct service, drain_timer);

	drain_step(s);
	timer_set(&s->drain_timer, DRAIN_POLL_MS);
}

void
service_begin_drain(struct service *s)
{
	service_break_off_reload(s);
	log_event(LOG_LEVEL_NOTICE, "draining", "connections=%" PRIu32 " drain_timeout_ms=%" PRId64,
		loop_connections(s->loop), s->config->broker.drain_timeout);
	s->state = DRAINING;
	s->drain_due = loop_now(s->loop) + s->config->broker.drain_timeout;
	s->drain_log_due = loop_now(s->loop) + RUNNING_DRAIN_LOG_MS;
	systemd_stopping(&s->systemd, s->config->broker.drain_timeout + STOP_MS);
	running_stop(&s->running);
	broker_drain(s->broker);
	timer_set(&s->drain_timer, 1);
}

void
service_stop_now(struct service *s)
{
	if (s->state == DRAINING)
		log_drained(s);
	s->state = STOPPING_NOW;
	broker_close_side(s->broker, PROXY_BACKEND, false);
	broker_close_side(s->broker, PROXY_FRONTEND, false);
	timer_set(&s->drain_timer, 1);
}

void
service_init_stop(struct service *s)
{
	timer_init(&s->drain_timer, s->loop, drain_timer_cb);
}
