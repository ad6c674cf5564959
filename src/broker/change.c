/* SPDX-License-Identifier: MIT */
/*
 * What changes of a proxy while it runs: its options.
 */
#include "broker/redeliver.h"
#include "broker/proxy_impl.h"

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

	list_each(node, tmp, &proxy->waiting) {
		const struct source *s = list_entry(node, struct source, node);

		if (s->peer != NULL && s->queue.bytes < most)
			conn_pause(s->peer->conn, false);
	}
}

void
proxy_set_opts(
	struct proxy *proxy, const struct side_opts *frontend, const struct side_opts *backend)
{
	set_side_opts(proxy, PROXY_FRONTEND, frontend);
	set_side_opts(proxy, PROXY_BACKEND, backend);
	read_further(proxy);
	proxy_configure(proxy);
}
