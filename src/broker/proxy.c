/* SPDX-License-Identifier: MIT */
#include "broker/proxy.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/drain.h"
#include "broker/pattern.h"
#include "broker/proxy_impl.h"
#include "broker/redeliver.h"
#include "zmtp/socktype.h"

static void
init_side(struct proxy *proxy, int which)
{
	const struct pattern_side *p = &proxy->pattern->side[which];
	const struct side_opts *o = &proxy->opts[which].side;
	struct side *s = &proxy->side[which];

	*s = (struct side){
		.loop = proxy->loop,
		.proxy_name = proxy->name,
		.name = side_name(which),
		.opts = o,
		.counters = &proxy->counters[which],
		.ops = p->ops,
		.flush_at_end = p->flush_at_end,
		.session =
			{
				.mechanism = &mechanism_null,
				.type = p->type,
				.accepts = p->accepts,
				.untyped_is_dealer = true,
				.identity = (const uint8_t *)o->routing_id,
				.identity_len = o->routing_id_len,
				.max_message_size = (uint64_t)o->max_message_size,
				.max_message_parts = (uint32_t)o->max_message_parts,
				.enveloped = p->enveloped,
				.hears_draining = p->hears_draining,
			},
	};
	side_init(s);
}

struct proxy *
proxy_new(struct loop *loop, const char *name, const struct proxy_opts *frontend,
	const struct proxy_opts *backend)
{
	struct proxy *proxy = mem_try_new(sizeof(*proxy));

	if (proxy == NULL)
		return NULL;
	proxy->loop = loop;
	proxy->pattern = &pattern_queue;
	proxy->closing_reason = CLOSE_SHUTDOWN;
	snprintf(proxy->name, sizeof(proxy->name), "%s", name);
	proxy->opts[PROXY_FRONTEND] = *frontend;
	proxy->opts[PROXY_BACKEND] = *backend;
	list_init(&proxy->drains);
	timer_init(&proxy->drain_timer, loop, drain_timer_cb);
	proxy->pattern->init(proxy);
	for (int i = 0; i < PROXY_SIDES; i++)
		init_side(proxy, i);
	proxy->pattern->configure(proxy);
	return proxy;
}

void
proxy_free(struct proxy *proxy)
{
	assert(proxy->side[PROXY_FRONTEND].connections == 0);
	assert(proxy->side[PROXY_BACKEND].connections == 0);
	side_fini(&proxy->side[PROXY_FRONTEND]);
	side_fini(&proxy->side[PROXY_BACKEND]);
	while (!proxy_drop_waiting(proxy))
		;
	timer_stop(&proxy->drain_timer);
	proxy->pattern->fini(proxy);
	free(proxy);
}

void
proxy_drain(struct proxy *proxy)
{
	if (proxy->life == PROXY_SERVES)
		proxy->life = PROXY_DRAINS;
	if (proxy->paused) /* what the pause left unread is to be served, too */
		side_pause(&proxy->side[PROXY_FRONTEND], false);
	proxy->pattern->drain(proxy);
}

void
proxy_drain_step(struct proxy *proxy)
{
	proxy->pattern->drain_step(proxy);
}

bool
proxy_is_drained(const struct proxy *proxy)
{
	return proxy->pattern->is_drained(proxy);
}

void
proxy_log_drain(const struct proxy *proxy, int64_t left)
{
	proxy->pattern->log_drain(proxy, left);
}

void
proxy_drain_removed(struct proxy *proxy)
{
	proxy->closing_reason = CLOSE_RELOAD;
	proxy_drain(proxy);
}

void
proxy_pause(struct proxy *proxy, bool paused)
{
	proxy->paused = paused;
	if (!proxy_is_draining(proxy))
		side_pause(&proxy->side[PROXY_FRONTEND], paused);
}

/* --- options -------------------------------------------------------------- */

static void
set_side_opts(struct proxy *proxy, int which, const struct proxy_opts *opts)
{
	struct side_opts old = proxy->opts[which].side;
	struct side *side = &proxy->side[which];

	proxy->opts[which] = *opts;
	side->session.identity_len = opts->side.routing_id_len;
	side->session.max_message_size = (uint64_t)opts->side.max_message_size;
	side->session.max_message_parts = (uint32_t)opts->side.max_message_parts;
	side_opts_changed(side, &old);
}

void
proxy_set_opts(
	struct proxy *proxy, const struct proxy_opts *frontend, const struct proxy_opts *backend)
{
	set_side_opts(proxy, PROXY_FRONTEND, frontend);
	set_side_opts(proxy, PROXY_BACKEND, backend);
	proxy->pattern->configure(proxy);
}

/* --- the end -------------------------------------------------------------- */

static void
close_politely(struct proxy *proxy, int which, struct conn *conn)
{
	proxy->pattern->close(proxy, which, conn);
	conn_finish(conn, proxy->closing_reason, NULL);
}

void
proxy_close_side(struct proxy *proxy, int which, bool politely)
{
	proxy->life = PROXY_STOPS;
	list_each(node, tmp, &proxy->side[which].conns) {
		struct conn *conn = list_entry(node, struct conn, node);

		if (politely || which == PROXY_FRONTEND)
			close_politely(proxy, which, conn);
		if (!politely)
			conn_close(conn, proxy->closing_reason, NULL);
	}
}

bool
proxy_close_some(struct proxy *proxy, int which)
{
	proxy->life = PROXY_STOPS;
	list_each(node, tmp, &proxy->side[which].conns) {
		struct conn *conn = list_entry(node, struct conn, node);

		if (conn->state == CONN_LINGER || conn->state == CONN_CLOSED)
			continue;
		close_politely(proxy, which, conn);
		if (proxy->loop->cut)
			return true;
	}
	return false;
}

bool
proxy_drop_waiting(struct proxy *proxy)
{
	proxy->life = PROXY_STOPS;
	return proxy->pattern->drop_waiting(proxy);
}

/* --- check ---------------------------------------------------------------- */

static enum conn_service
service_of(const struct conn *conn)
{
	const struct peer *peer = conn->peer;

	if (peer != NULL && peer->draining)
		return CONN_DRAINING;
	return peer != NULL && peer->suspect ? CONN_SUSPECT : CONN_SERVES;
}

/* The connections of one side: their states, and the messages in their queues. */
static const char *
check_side(const struct side *side, uint64_t *messages)
{
	uint32_t in_state[CONN_STATES] = {0}, ready[CONN_SERVICES] = {0};

	list_each_const(n, &side->conns) {
		const struct conn *conn = list_entry(n, struct conn, node);

		in_state[conn->state]++;
		ready[service_of(conn)] += conn->state == CONN_READY;
		outq_check(&conn->out);
		outq_check(&conn->part);
		*messages += conn->out.messages;
	}
	if (memcmp(in_state, side->in_state, sizeof(in_state)) != 0)
		return "per-state connection counts do not match the connections";
	if (memcmp(ready, side->ready, sizeof(ready)) != 0)
		return "per-service counts of ready connections do not match the connections";
	return NULL;
}

/* The conservation law of one side, in whose queues `messages` messages were found. */
static const char *
check_counters(const struct counters *c, bool front, uint64_t messages)
{
	if (c->queued != messages)
		return front ? "frontend: queued does not match the queues"
			     : "backend: queued does not match the queues";
	if (c->received + c->redelivered != c->sent + counters_dropped(c) + c->queued)
		return front ? "frontend: messages are not conserved"
			     : "backend: messages are not conserved";
	if ((c->queued == 0) != (c->queued_bytes == 0))
		return "queued_bytes does not follow queued";
	return NULL;
}

const char *
proxy_check(const struct proxy *proxy)
{
	uint64_t messages[PROXY_SIDES] = {0};
	const char *wrong = NULL;

	for (int i = 0; i < PROXY_SIDES && wrong == NULL; i++)
		wrong = check_side(&proxy->side[i], &messages[i]);
	if (wrong == NULL)
		wrong = proxy->pattern->check(proxy, messages);
	for (int i = 0; i < PROXY_SIDES && wrong == NULL; i++)
		wrong = check_counters(&proxy->counters[i], i == PROXY_FRONTEND, messages[i]);
	return wrong;
}
