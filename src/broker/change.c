/*
 * What changes of a proxy while it runs: its options, and peers that take leave.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "broker/flight.h"
#include "broker/proxy_impl.h"

enum { LEAVING_POLL_MS = 20 };

static void
set_side_opts(struct proxy *proxy, int which, const struct side_opts *opts)
{
	struct side_opts old = proxy->opts[which];
	struct side *side = &proxy->side[which];

	proxy->opts[which] = *opts;
	side->session.identity_len = opts->routing_id_len;
	side->session.max_message_size = (uint64_t)opts->max_message_size;
	side->session.max_message_parts = (uint32_t)opts->max_message_parts;
	side_opts_changed(side, &old);
}

/* Clients that may be further ahead than before: they would not be read before half is gone. */
static void
read_further(struct proxy *proxy)
{
	uint64_t most = (uint64_t)proxy->opts[PROXY_FRONTEND].receive_hwm_bytes;

	list_each(node, tmp, &proxy->waiting)
	{
		const struct source *s = list_entry(node, struct source, node);

		if (s->peer != NULL && !s->peer->retiring && s->queue.bytes < most)
			conn_pause(s->peer->conn, false);
	}
}

void
proxy_set_opts(struct proxy *proxy, const struct side_opts *frontend,
	const struct side_opts *backend)
{
	set_side_opts(proxy, PROXY_FRONTEND, frontend);
	set_side_opts(proxy, PROXY_BACKEND, backend);
	read_further(proxy);
	flight_configure(proxy);
}

void
proxy_retire(struct conn *conn)
{
	struct peer *peer = conn->peer;

	peer->retiring = true;
	if (conn->side == &peer->proxy->side[PROXY_FRONTEND])
		conn_pause(conn, true);
	else
		balance_remove(&peer->proxy->balance, peer);
}

bool
proxy_is_idle(const struct conn *conn)
{
	const struct peer *peer = conn->peer;

	if (conn->out.messages > 0 || peer->source != NULL || peer->outstanding > 0)
		return false;
	return conn->side == &peer->proxy->side[PROXY_BACKEND] ||
		(list_empty(&peer->blocked) && conn->messages_in <= conn->messages_out);
}

/* --- peers that an operator drains --------------------------------------- */

struct leaving {
	struct list node;
	struct peer *peer;
	int64_t due;
};

void
proxy_forget_leaving(struct proxy *proxy, const struct peer *peer)
{
	if (!peer->retiring)
		return;
	list_each(node, tmp, &proxy->leaving)
	{
		struct leaving *l = list_entry(node, struct leaving, node);
		if (l->peer == peer) {
			list_remove(&l->node);
			free(l);
		}
	}
}

void
proxy_leaving_timer_cb(struct timer *timer)
{
	struct proxy *proxy = list_entry(timer, struct proxy, leaving_timer);
	int64_t now = loop_now(proxy->loop);

	list_each(node, tmp, &proxy->leaving)
	{
		const struct leaving *l = list_entry(node, struct leaving, node);
		if (proxy_is_idle(l->peer->conn))
			conn_finish(l->peer->conn, CLOSE_ADMIN, "drained");
		else if (now >= l->due)
			conn_finish(l->peer->conn, CLOSE_ADMIN, "drained, unfinished");
	}
	if (!list_empty(&proxy->leaving))
		timer_set(&proxy->leaving_timer, LEAVING_POLL_MS);
}

const char *
proxy_drain_peer(struct proxy *proxy, struct conn *conn, int64_t timeout)
{
	struct peer *peer = conn->peer;
	struct leaving *l;

	if (!conn_is_open(conn) || peer == NULL)
		return "it is not ready";
	if (peer->retiring)
		return "it takes leave already";
	l = mem_try_new(sizeof(*l));
	if (l == NULL)
		return "no memory";
	l->peer = peer;
	l->due = loop_now(proxy->loop) + timeout;
	list_push(&proxy->leaving, &l->node);
	proxy_retire(conn);
	timer_set(&proxy->leaving_timer, LEAVING_POLL_MS);
	return NULL;
}
