/* SPDX-License-Identifier: MIT */
#include "net/connector.h"

#include <inttypes.h>
#include <sodium.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/backoff.h"
#include "net/conn.h"
#include "net/resolver.h"

struct dialler {
	struct connector connector; /* as its connections know it */
	struct side *side;
	struct endpoint endpoint;
	struct backoff backoff;
	struct timer timer; /* until the next attempt, or the next check whether it is awaited */
	int64_t due;        /* the next attempt */
	struct resolver *resolver;  /* a lookup under way */
	struct resolved *addresses; /* of the last lookup */
	int count, next;
	bool stopped;
	bool was_ready_once;
	bool connected;
};

static struct dialler *
dialler_of(const struct connector *connector)
{
	return list_entry(connector, struct dialler, connector);
}

/* While messages wait and no peer is there to take them, attempts are at most this far apart. */
enum { AWAITED_MS = 500 };

static bool
is_awaited(const struct dialler *c)
{
	return c->side->ops->is_awaited != NULL && c->side->ops->is_awaited(c->side);
}

static int64_t
most_when_awaited(const struct dialler *c)
{
	int64_t min = c->side->opts->reconnect_min;

	return min > AWAITED_MS ? min : AWAITED_MS;
}

static void
wait_until_due(struct dialler *c)
{
	int64_t left = c->due - loop_now(c->side->loop), most = most_when_awaited(c);

	timer_set(&c->timer, left < most ? left : most);
}

static void
wait_and_retry(struct dialler *c, const char *reason)
{
	const struct side_opts *o = c->side->opts;
	int64_t delay;

	if (c->stopped)
		return;
	delay = backoff_next(&c->backoff, o->reconnect_min, o->reconnect_max, o->reconnect_jitter,
		randombytes_random());
	if (is_awaited(c) && delay > most_when_awaited(c))
		delay = most_when_awaited(c);
	log_event(LOG_LEVEL_INFO, "reconnecting",
		"proxy=%s side=%s endpoint=%s delay_ms=%" PRId64 " reason=%s", c->side->proxy_name,
		c->side->name, c->endpoint.text, delay, reason);
	c->due = loop_now(c->side->loop) + delay;
	wait_until_due(c);
}

static void
dial_next(struct dialler *c)
{
	const struct resolved *a = &c->addresses[c->next++];

	if (conn_dial(c->side, &c->connector, (const struct sockaddr *)&a->addr, a->len) == NULL)
		wait_and_retry(c, "no_memory");
}

/* Grows the list to `count` addresses. False: no memory, and the next attempt is scheduled. */
static bool
grow(struct dialler *c, int count)
{
	free(c->addresses);
	c->addresses = mem_try_new((size_t)count * sizeof(*c->addresses));
	c->count = c->addresses != NULL ? count : 0;
	c->next = 0;
	if (c->addresses == NULL)
		wait_and_retry(c, "no_memory");
	return c->addresses != NULL;
}

static void
on_resolved(void *arg, const struct resolved *list, int count, const char *error)
{
	struct dialler *c = arg;

	c->resolver = NULL;
	if (c->stopped)
		return;
	if (count == 0) {
		c->side->counters->connect_attempts++;
		c->side->counters->handshakes_failed++;
		c->side->counters->closed++;
		c->side->counters->closed_by[CLOSE_CONNECT_FAILED]++;
		log_event(LOG_LEVEL_INFO, "resolve_failed",
			"proxy=%s side=%s endpoint=%s error=\"%s\"", c->side->proxy_name,
			c->side->name, c->endpoint.text, error);
		wait_and_retry(c, "resolve_failed");
		return;
	}
	if (!grow(c, count))
		return;
	memcpy(c->addresses, list, (size_t)count * sizeof(*list));
	dial_next(c);
}

static void
dial_unix(struct dialler *c)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	size_t len = strlen(c->endpoint.host);
	bool abstract = c->endpoint.kind == ENDPOINT_ABSTRACT;

	if (len > sizeof(un.sun_path) - 1)
		len = sizeof(un.sun_path) - 1;
	memcpy(un.sun_path + (abstract ? 1 : 0), c->endpoint.host, len);
	if (!grow(c, 1))
		return;
	memcpy(&c->addresses->addr, &un, sizeof(un));
	c->addresses->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	dial_next(c);
}

static void
start_cb(struct timer *timer)
{
	struct dialler *c = list_entry(timer, struct dialler, timer);

	if (c->stopped)
		return;
	if (loop_now(c->side->loop) < c->due && !is_awaited(c)) {
		wait_until_due(c);
		return;
	}
	if (c->endpoint.kind == ENDPOINT_TCP) {
		c->resolver = resolver_start(
			c->side->loop, c->endpoint.host, c->endpoint.port, on_resolved, c);
		if (c->resolver == NULL)
			wait_and_retry(c, "no_memory");
		return;
	}
	dial_unix(c);
}

static void
on_ready(struct connector *connector)
{
	struct dialler *c = dialler_of(connector);

	backoff_reset(&c->backoff);
	c->next = c->count; /* when this one ends, names are resolved again */
	if (c->was_ready_once)
		c->side->counters->reconnects++;
	c->was_ready_once = true;
	c->connected = true;
}

static void
on_closed(struct connector *connector, bool was_ready, enum close_reason reason)
{
	struct dialler *c = dialler_of(connector);

	c->connected = false;
	if (c->stopped)
		return;
	if (!was_ready && c->next < c->count)
		dial_next(c);
	else
		wait_and_retry(c, close_reason_name(reason));
}

static const struct connector_ops ops = {.on_ready = on_ready, .on_closed = on_closed};

struct connector *
connector_new(struct side *side, const struct endpoint *endpoint)
{
	struct dialler *c = mem_try_new(sizeof(*c));

	if (c == NULL)
		return NULL;
	*c = (struct dialler){.connector.ops = &ops, .side = side, .endpoint = *endpoint};
	timer_init(&c->timer, side->loop, start_cb);
	return &c->connector;
}

void
connector_start(struct connector *connector)
{
	start_cb(&dialler_of(connector)->timer);
}

void
connector_stop(struct connector *connector)
{
	struct dialler *c = dialler_of(connector);

	c->stopped = true;
	timer_stop(&c->timer);
	if (c->resolver != NULL)
		resolver_cancel(c->resolver);
	c->resolver = NULL;
}

void
connector_free(struct connector *connector)
{
	struct dialler *c;

	if (connector == NULL)
		return;
	connector_stop(connector);
	c = dialler_of(connector);
	free(c->addresses);
	free(c);
}

enum connector_state
connector_state(const struct connector *connector, int64_t *wait_ms)
{
	const struct dialler *c = dialler_of(connector);

	*wait_ms = 0;
	if (c->connected)
		return CONNECTOR_CONNECTED;
	if (c->timer.due == CLOCK_NEVER)
		return CONNECTOR_CONNECTING;
	*wait_ms = c->due - loop_now(c->side->loop);
	if (*wait_ms < 0)
		*wait_ms = 0;
	return CONNECTOR_WAITING;
}

const char *
connector_endpoint(const struct connector *connector)
{
	return dialler_of(connector)->endpoint.text;
}
