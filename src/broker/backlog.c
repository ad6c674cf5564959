/* SPDX-License-Identifier: MIT */
#include "broker/backlog.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "broker/outstanding.h"

struct backlog *
backlog_of(struct peer *peer)
{
	struct backlog *backlog = peer->backlog;

	if (backlog != NULL)
		return backlog;
	backlog = mem_try_new(sizeof(*backlog));
	if (backlog == NULL)
		return NULL;
	backlog->proxy = peer->proxy;
	backlog->peer = peer;
	list_init(&backlog->node);
	outq_init(&backlog->queue);
	peer->backlog = backlog;
	return backlog;
}

void
backlog_free(struct backlog *backlog)
{
	assert(outq_empty(&backlog->queue));
	list_remove(&backlog->node);
	if (backlog->peer != NULL)
		backlog->peer->backlog = NULL;
	free(backlog);
}

void
backlog_orphan(struct peer *peer)
{
	struct backlog *backlog = peer->backlog;

	if (backlog == NULL)
		return;
	backlog->peer = NULL;
	peer->backlog = NULL;
	if (outq_empty(&backlog->queue))
		backlog_free(backlog);
}

void
backlog_hold(struct proxy *proxy, struct peer *client, struct message *m)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	struct backlog *s = backlog_of(client);
	uint64_t before = s != NULL ? s->queue.bytes : 0;

	if (s == NULL ||
		!outq_push(
			&s->queue, env_of(proxy), client->envelope, client->envelope_len, m, 0)) {
		backlog_drop_for_memory(c, s);
		outstanding_forgo(proxy, client);
		return;
	}
	backlog_count(c, s->queue.bytes - before);
	if (!list_linked(&s->node))
		list_push(backlog_is_parked(client) ? &proxy->parked : &proxy->waiting, &s->node);
	if (s->queue.bytes >= (uint64_t)proxy->opts[PROXY_FRONTEND].side.receive_hwm_bytes)
		conn_pause(client->conn, true);
}

void
backlog_relieve(struct proxy *proxy, struct backlog *s, int sender_side)
{
	if (s->peer == NULL || !(s->peer->conn->paused & CONN_PAUSED) || backlog_is_parked(s->peer))
		return;
	if (s->queue.bytes <= (uint64_t)proxy->opts[sender_side].side.receive_hwm_bytes / 2)
		conn_pause(s->peer->conn, false);
}

void
backlog_begin_wait(struct proxy *proxy, struct peer *client)
{
	client->waits = client->aside = true;
	if (client->backlog != NULL && list_linked(&client->backlog->node))
		list_move(&proxy->parked, &client->backlog->node);
}

void
backlog_drop(struct proxy *proxy, struct backlog *s, enum drop_reason reason)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	uint64_t bytes = s->queue.bytes;
	struct outq_progress all = outq_clear(&s->queue, env_of(proxy));

	c->queued -= all.messages;
	c->queued_bytes -= bytes - all.command_bytes;
	c->dropped[reason] += all.messages;
	backlog_free(s);
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
	backlog_count(c, size);
	c->rerouted++;
	worker->conn->rerouted++;
	return true;
}
