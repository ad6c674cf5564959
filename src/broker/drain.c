/* SPDX-License-Identifier: MIT */
#include "broker/drain.h"

#include <stdlib.h>

#include "base/mem.h"
#include "broker/pattern.h"

enum {
	DRAIN_POLL_MS = 20,
	KICK_MS = 1000 /* how long a kicked peer may go on */
};

static const struct pattern *
pattern_of(const struct conn *conn)
{
	return proxy_of(conn)->pattern;
}

/* What the mode says of the side of a ready peer. */
static const struct pattern_side *
side_of(const struct conn *conn)
{
	const struct proxy *proxy = proxy_of(conn);

	return &proxy->pattern->side[conn->side == &proxy->side[PROXY_BACKEND]];
}

/* --- peers that an operator drains ---------------------------------------- */

/* What an operator asked for. */
struct order {
	struct list node;
	struct peer *peer;
	const char *detail, *late_detail;
	int64_t due;
};

void
drain_forget(struct proxy *proxy, const struct peer *peer)
{
	if (!peer->draining)
		return;
	list_each(node, tmp, &proxy->drains) {
		struct order *o = list_entry(node, struct order, node);
		if (o->peer == peer) {
			list_remove(&o->node);
			free(o);
		}
	}
}

void
drain_timer_cb(struct timer *timer)
{
	struct proxy *proxy = list_entry(timer, struct proxy, drain_timer);
	int64_t now = loop_now(proxy->loop);

	list_each(node, tmp, &proxy->drains) {
		const struct order *o = list_entry(node, struct order, node);
		bool late = now >= o->due;

		pattern_of(o->peer->conn)
			->drain_peer_step(o->peer->conn, late, CLOSE_ADMIN,
				late ? o->late_detail : o->detail);
	}
	if (!list_empty(&proxy->drains))
		timer_set(&proxy->drain_timer, DRAIN_POLL_MS);
}

/* False: no memory. */
static bool
begin_order(struct conn *conn, int64_t timeout, const char *detail, const char *late_detail)
{
	struct proxy *proxy = proxy_of(conn);
	struct order *o = mem_try_new(sizeof(*o));

	if (o == NULL)
		return false;
	*o = (struct order){.peer = conn->peer,
		.detail = detail,
		.late_detail = late_detail,
		.due = loop_now(proxy->loop) + timeout};
	list_push(&proxy->drains, &o->node);
	pattern_of(conn)->drain_peer(conn, CLOSE_ADMIN, detail);
	timer_set(&proxy->drain_timer, DRAIN_POLL_MS);
	return true;
}

const char *
drain_peer(struct conn *conn, int64_t timeout)
{
	const struct peer *peer = conn->peer;

	if (!conn_is_open(conn) || peer == NULL)
		return "peer is not ready; use kick to close it";
	if (peer->draining)
		return "peer is already draining";
	return begin_order(conn, timeout, "drained", "drained, unfinished") ? NULL : "no memory";
}

const char *
drain_kick(struct conn *conn)
{
	const struct peer *peer = conn->peer;

	if (conn->state == CONN_LINGER)
		return "peer is already being closed";
	if (!conn_is_open(conn) || peer == NULL)
		conn_finish(conn, CLOSE_ADMIN, "kicked");
	else if (!side_of(conn)->kick_waits || peer->draining ||
		!begin_order(conn, KICK_MS, "kicked", "kicked"))
		pattern_of(conn)->drain_peer_step(conn, true, CLOSE_ADMIN, "kicked");
	return NULL;
}

/* --- endpoints and proxies that a reload removes -------------------------- */

static bool
came_by(const struct conn *conn, const struct drain_endpoint *e)
{
	return e->connector != NULL ? conn->connector == e->connector
				    : conn->connector == NULL && conn->origin == e->origin;
}

void
drain_endpoint(struct proxy *proxy, const struct drain_endpoint *e)
{
	list_each(node, tmp, &proxy->side[e->side].conns) {
		struct conn *conn = list_entry(node, struct conn, node);

		if (!came_by(conn, e))
			continue;
		if (conn_is_open(conn) && conn->peer != NULL)
			pattern_of(conn)->drain_peer(conn, CLOSE_RELOAD, NULL);
		else if (conn->state == CONN_CONNECTING || conn->state == CONN_HANDSHAKE)
			conn_finish(conn, CLOSE_RELOAD, NULL); /* not ready: nothing to finish */
	}
}

bool
drain_endpoint_step(struct proxy *proxy, const struct drain_endpoint *e, bool late)
{
	uint32_t left = 0;

	list_each(node, tmp, &proxy->side[e->side].conns) {
		struct conn *conn = list_entry(node, struct conn, node);

		if (!came_by(conn, e))
			continue;
		left++;
		if (conn_is_open(conn) && conn->peer != NULL)
			pattern_of(conn)->drain_peer_step(conn, late, CLOSE_RELOAD, NULL);
		if (late && proxy->loop->cut)
			return false;
	}
	return left == 0;
}
