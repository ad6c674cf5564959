/* SPDX-License-Identifier: MIT */
#include "daemon/running.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "broker/drain.h"

enum { DRAIN_POLL_MS = 20, REMOVED_PER_TURN = 16 };

static void timer_cb(struct timer *timer);

void
running_init(struct running *r, struct loop *loop, struct broker *broker, struct systemd *systemd)
{
	*r = (struct running){.loop = loop, .broker = broker, .systemd = systemd};
	list_init(&r->proxies);
	list_init(&r->draining_endpoints);
	list_init(&r->draining_proxies);
	timer_init(&r->timer, loop, timer_cb);
}

static void
endpoint_free(struct running_endpoint *e)
{
	list_remove(&e->node);
	listener_free(e->listener);
	connector_free(e->connector);
	free(e);
}

static void
endpoints_free(struct list *endpoints)
{
	while (!list_empty(endpoints))
		endpoint_free(list_entry(endpoints->next, struct running_endpoint, node));
}

static void
shell_free(struct running_proxy *p)
{
	list_remove(&p->node);
	endpoints_free(&p->endpoints);
	free(p);
}

void
running_fini(struct running *r)
{
	timer_stop(&r->timer);
	endpoints_free(&r->draining_endpoints);
	while (!list_empty(&r->proxies))
		shell_free(list_entry(r->proxies.next, struct running_proxy, node));
	while (!list_empty(&r->draining_proxies))
		shell_free(list_entry(r->draining_proxies.next, struct running_proxy, node));
}

/* --- proxies -------------------------------------------------------------- */

struct running_proxy *
running_proxy_new(struct running *r, const struct config_proxy *config)
{
	struct running_proxy *p = mem_try_new(sizeof(*p));

	if (p == NULL)
		return NULL;
	p->proxy = proxy_new(r->loop, config->name, &config->side[PROXY_FRONTEND].opts,
		&config->side[PROXY_BACKEND].opts);
	if (p->proxy == NULL) {
		free(p);
		return NULL;
	}
	list_init(&p->node);
	list_init(&p->endpoints);
	return p;
}

void
running_proxy_discard(struct running_proxy *p)
{
	struct proxy *proxy = p->proxy;

	shell_free(p);
	proxy_free(proxy);
}

void
running_proxy_start(struct running *r, struct running_proxy *p)
{
	broker_add(r->broker, p->proxy);
	list_push(&r->proxies, &p->node);
	p->started = true;
}

static struct running_proxy *
find_in(const struct list *head, const char *name)
{
	list_each_const(n, head) {
		struct running_proxy *p = list_entry(n, struct running_proxy, node);
		if (strcmp(proxy_name(p->proxy), name) == 0)
			return p;
	}
	return NULL;
}

struct running_proxy *
running_find(const struct running *r, const char *name)
{
	return find_in(&r->proxies, name);
}

bool
running_is_draining(const struct running *r, const char *name)
{
	return find_in(&r->draining_proxies, name) != NULL;
}

/* --- endpoints ------------------------------------------------------------ */

/* NULL: no memory. */
static struct running_endpoint *
endpoint_new(struct running_proxy *p, int side, bool binds, const struct endpoint *spec)
{
	struct running_endpoint *e = mem_try_new(sizeof(*e));

	if (e == NULL)
		return NULL;
	e->owner = p;
	e->side = side;
	e->binds = binds;
	e->spec = *spec;
	list_push(&p->endpoints, &e->node);
	return e;
}

static bool
open_listeners(
	struct running *r, struct running_endpoint *e, struct side *side, char *error, size_t size)
{
	e->listener = listener_new(side, &e->spec, error, size);
	if (e->listener == NULL)
		return false;
	e->origin = ++r->last_origin;
	for (struct listener *l = e->listener; l != NULL; l = listener_next(l))
		listener_move(l, side, e->origin);
	return true;
}

struct running_endpoint *
running_endpoint_open(struct running *r, struct running_proxy *p, int which, bool binds,
	const struct endpoint *spec, char *error, size_t size)
{
	struct side *side = proxy_side(p->proxy, which);
	struct running_endpoint *e = endpoint_new(p, which, binds, spec);
	bool ok = e != NULL;

	snprintf(error, size, "%s", strerror(ENOMEM));
	if (ok && binds)
		ok = open_listeners(r, e, side, error, size);
	else if (ok)
		ok = (e->connector = connector_new(side, spec)) != NULL;
	if (ok)
		return e;
	if (e != NULL)
		endpoint_free(e);
	return NULL;
}

struct running_endpoint *
running_endpoint_await(
	struct running *r, struct running_proxy *p, int side, const struct endpoint *spec)
{
	struct running_endpoint *e = endpoint_new(p, side, true, spec);

	if (e != NULL)
		e->origin = ++r->last_origin;
	return e;
}

void
running_endpoint_take(struct running_endpoint *e, struct running_endpoint *from)
{
	e->listener = from->listener;
	from->listener = NULL;
	for (struct listener *l = e->listener; l != NULL; l = listener_next(l))
		listener_move(l, proxy_side(e->owner->proxy, e->side), e->origin);
}

void
running_endpoint_start(struct running *r, struct running_endpoint *e)
{
	e->started = true;
	if (e->connector != NULL) {
		connector_start(e->connector);
		return;
	}
	for (struct listener *l = e->listener; l != NULL; l = listener_next(l)) {
		log_event(LOG_LEVEL_NOTICE, "listening", "proxy=%s side=%s endpoint=%s%s%s",
			proxy_name(e->owner->proxy), side_name(e->side), listener_text(l),
			e->spec.kind == ENDPOINT_FD ? " socket=" : "",
			e->spec.kind == ENDPOINT_FD ? e->spec.text : "");
		/*
		 * each start chooses another free port, and systemd has its own sockets anyway
		 */
		if (!e->spec.any_port && e->spec.kind != ENDPOINT_FD)
			systemd_keep(r->systemd, l, e->spec.text);
		listener_start(l);
	}
}

void
running_endpoint_discard(struct running_endpoint *e)
{
	endpoint_free(e);
}

void
running_endpoint_retune(struct running_endpoint *e)
{
	for (struct listener *l = e->listener; l != NULL; l = listener_next(l))
		listener_retune(l);
}

static bool
describe_endpoint(const struct running_endpoint *e, struct snapshot *snapshot)
{
	const char *proxy = proxy_name(e->owner->proxy);
	bool ok = true;

	for (const struct listener *l = e->listener; ok && l != NULL; l = listener_next(l))
		ok = snapshot_add_listener(snapshot, proxy, e->side, l);
	if (e->connector != NULL)
		ok = snapshot_add_connector(snapshot, proxy, e->side, e->connector);
	return ok;
}

bool
running_describe(const struct running *r, struct snapshot *snapshot)
{
	list_each(outer, tmp, &r->proxies) {
		const struct running_proxy *p = list_entry(outer, struct running_proxy, node);

		list_each(inner, tmp2, &p->endpoints) {
			const struct running_endpoint *e =
				list_entry(inner, struct running_endpoint, node);

			/* one that is not started yet is prepared by a reload */
			if (e->started && !describe_endpoint(e, snapshot))
				return false;
		}
	}
	return true;
}

/* --- draining ------------------------------------------------------------- */

static void
endpoint_stop(struct running_endpoint *e)
{
	listener_free(e->listener);
	e->listener = NULL;
	if (e->connector != NULL)
		connector_stop(e->connector);
}

/* For good, and not only for a restart. */
static void
endpoint_remove(struct running *r, struct running_endpoint *e)
{
	for (struct listener *l = e->listener; l != NULL; l = listener_next(l))
		systemd_unkeep(r->systemd, l, e->spec.text);
	endpoint_stop(e);
}

void
running_endpoint_close(struct running *r, struct running_endpoint *e)
{
	endpoint_remove(r, e);
}

static struct drain_endpoint
as_proxy_endpoint(const struct running_endpoint *e)
{
	return (struct drain_endpoint){e->side, e->origin, e->connector};
}

void
running_endpoint_drain(struct running *r, struct running_endpoint *e, int64_t drain_timeout)
{
	const struct drain_endpoint endpoint = as_proxy_endpoint(e);

	endpoint_remove(r, e);
	e->due = loop_now(r->loop) + drain_timeout;
	drain_endpoint(e->owner->proxy, &endpoint);
	list_move(&r->draining_endpoints, &e->node);
	timer_set(&r->timer, 1);
}

/* True when all its connections are gone. */
static bool
close_drained(struct running *r, struct running_endpoint *e)
{
	const struct drain_endpoint endpoint = as_proxy_endpoint(e);

	return drain_endpoint_step(e->owner->proxy, &endpoint, loop_now(r->loop) >= e->due);
}

static void
log_endpoint_removed(const struct running_endpoint *e)
{
	log_event(LOG_LEVEL_NOTICE, "endpoint_removed", "proxy=%s side=%s endpoint=%s",
		proxy_name(e->owner->proxy), side_name(e->side), e->spec.text);
}

void
running_proxy_drain(struct running *r, struct running_proxy *p, int64_t drain_timeout)
{
	p->due = loop_now(r->loop) + drain_timeout;
	p->log_due = loop_now(r->loop) + RUNNING_DRAIN_LOG_MS;
	list_each(node, tmp, &p->endpoints)
		endpoint_remove(r, list_entry(node, struct running_endpoint, node));
	/* endpoints that an earlier reload removed end with their proxy */
	list_each(node, tmp, &r->draining_endpoints) {
		struct running_endpoint *e = list_entry(node, struct running_endpoint, node);
		if (e->owner == p)
			list_move(&p->endpoints, &e->node);
	}
	proxy_drain_removed(p->proxy);
	list_move(&r->draining_proxies, &p->node);
	timer_set(&r->timer, 1);
}

static void
log_proxy_drained(const struct proxy *p)
{
	const struct drain_result r = proxy_drain_result(p);

	log_event(LOG_LEVEL_NOTICE, "proxy_drained",
		"proxy=%s answered=%" PRIu64 " given_up=%" PRIu64, proxy_name(p), r.answered,
		r.given_up);
}

static void
log_wait(const struct running *r, struct running_proxy *p)
{
	int64_t now_ms = loop_now(r->loop);

	if (now_ms >= p->due || now_ms < p->log_due)
		return;
	p->log_due = now_ms + RUNNING_DRAIN_LOG_MS;
	proxy_log_drain(p->proxy, p->due - now_ms);
}

/* Drops the requests that wait for a worker. */
static bool
drop_rest(struct running *r, struct running_proxy *p)
{
	if (proxy_drop_waiting(p->proxy))
		return true;
	r->more = true;
	return false;
}

/* Clients stay until the workers have gone: a last reply may arrive with a worker's end. */
static bool
drain_proxy_step(struct running *r, struct running_proxy *p)
{
	struct proxy *proxy = p->proxy;

	if (!p->backend_closing) {
		proxy_drain_step(proxy);
		log_wait(r, p);
		if (!proxy_is_drained(proxy) && loop_now(r->loop) < p->due)
			return false;
		log_proxy_drained(proxy);
		p->backend_closing = true;
	}
	if (proxy_close_some(proxy, PROXY_BACKEND) || proxy_connections(proxy, PROXY_BACKEND) > 0 ||
		proxy_close_some(proxy, PROXY_FRONTEND))
		return false;
	return proxy_connections(proxy, PROXY_FRONTEND) == 0 && drop_rest(r, p);
}

static void
remove_proxy(struct running *r, struct running_proxy *p)
{
	struct proxy *proxy = p->proxy;

	shell_free(p);
	broker_remove(r->broker, proxy);
}

/*
 * Removes those that are finished: a limited number per turn, because each writes lines to the log,
 * and no more than the turn has time for.
 */
static void
step_endpoints(struct running *r, unsigned *removed)
{
	list_each(node, tmp, &r->draining_endpoints) {
		struct running_endpoint *e = list_entry(node, struct running_endpoint, node);

		if (close_drained(r, e)) {
			log_endpoint_removed(e);
			endpoint_free(e);
			++*removed;
		}
		if (*removed == REMOVED_PER_TURN || loop_is_cut(r->loop)) {
			r->more = true;
			return;
		}
	}
}

static void
step_proxies(struct running *r, unsigned *removed)
{
	list_each(node, tmp, &r->draining_proxies) {
		struct running_proxy *p = list_entry(node, struct running_proxy, node);

		if (drain_proxy_step(r, p)) {
			remove_proxy(r, p);
			++*removed;
		}
		if (*removed == REMOVED_PER_TURN || loop_is_cut(r->loop)) {
			r->more = true;
			return;
		}
	}
}

static void
timer_cb(struct timer *timer)
{
	struct running *r = list_entry(timer, struct running, timer);
	unsigned removed = 0;

	if (pace_waits(&r->pace, loop_now(r->loop))) {
		timer_set(&r->timer, DRAIN_POLL_MS);
		return;
	}
	r->more = false;
	step_endpoints(r, &removed);
	if (!r->more)
		step_proxies(r, &removed);
	if (!list_empty(&r->draining_endpoints) || !list_empty(&r->draining_proxies))
		timer_set(&r->timer, r->more ? 1 : DRAIN_POLL_MS);
}

static void
stop_all(struct list *proxies)
{
	list_each(node, tmp, proxies) {
		struct running_proxy *p = list_entry(node, struct running_proxy, node);
		list_each(inner, tmp2, &p->endpoints)
			endpoint_stop(list_entry(inner, struct running_endpoint, node));
	}
}

void
running_stop(struct running *r)
{
	timer_stop(&r->timer);
	stop_all(&r->proxies);
	stop_all(&r->draining_proxies);
}
