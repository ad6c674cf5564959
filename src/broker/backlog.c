/* SPDX-License-Identifier: MIT */
/*
 * Requests that wait for a worker: one queue for each client, and one for requests that were
 * rerouted from closed or stalled workers.
 */
#include "base/mem.h"
#include "broker/proxy_impl.h"

void
backlog_hold(struct proxy *proxy, struct peer *client, struct message *m)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	struct source *s = peer_source(client);
	uint64_t before = s != NULL ? s->queue.bytes : 0;

	if (s == NULL ||
		!outq_push(
			&s->queue, env_of(proxy), client->envelope, client->envelope_len, m, 0)) {
		drop_for_memory(c, s);
		forgo_reply(proxy, client);
		return;
	}
	count_waiting(c, s->queue.bytes - before);
	if (!list_linked(&s->node))
		list_push(backlog_is_parked(client) ? &proxy->parked : &proxy->waiting, &s->node);
	if (s->queue.bytes >= (uint64_t)proxy->opts[PROXY_FRONTEND].receive_hwm_bytes)
		conn_pause(client->conn, true);
}

void
backlog_relieve(struct proxy *proxy, struct source *s, int sender_side)
{
	if (s->peer == NULL || !(s->peer->conn->paused & CONN_PAUSED) || backlog_is_parked(s->peer))
		return;
	if (s->queue.bytes <= (uint64_t)proxy->opts[sender_side].receive_hwm_bytes / 2)
		conn_pause(s->peer->conn, false);
}

void
backlog_begin_wait(struct proxy *proxy, struct peer *client)
{
	client->waits = client->aside = true;
	if (client->source != NULL && list_linked(&client->source->node))
		list_move(&proxy->parked, &client->source->node);
}

void
backlog_drop(struct proxy *proxy, struct source *s, enum drop_reason reason)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	uint64_t bytes = s->queue.bytes;
	struct outq_progress all = outq_clear(&s->queue, env_of(proxy));

	c->queued -= all.messages;
	c->queued_bytes -= bytes - all.command_bytes;
	c->dropped[reason] += all.messages;
	source_free(s);
}

/* --- rerouted ------------------------------------------------------------- */

bool
backlog_make_rerouted(struct proxy *proxy)
{
	if (proxy->rerouted != NULL)
		return true;
	proxy->rerouted = mem_try_new(sizeof(*proxy->rerouted));
	if (proxy->rerouted == NULL)
		return false;
	proxy->rerouted->proxy = proxy;
	list_init(&proxy->rerouted->node);
	outq_init(&proxy->rerouted->queue);
	return true;
}

void
backlog_end_empty_rerouted(struct proxy *proxy)
{
	if (proxy->rerouted->queue.messages > 0)
		return;
	backlog_end(proxy, proxy->rerouted);
	proxy->rerouted = NULL;
}

bool
backlog_reroute_one(struct proxy *proxy, struct peer *worker)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	uint64_t size;

	if (!backlog_make_rerouted(proxy))
		return false;
	size = conn_take(worker->conn, &proxy->rerouted->queue);
	if (size == 0) {
		backlog_end_empty_rerouted(proxy);
		return false;
	}
	count_waiting(c, size);
	c->rerouted++;
	worker->conn->rerouted++;
	return true;
}
