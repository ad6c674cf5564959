/* SPDX-License-Identifier: MIT */
/*
 * Queue mode, after every turn: messages wait only for something that will come.
 */
#include "../recount.h"
#include "broker/backlog.h"
#include "check.h"
#include "net/conn.h"
#include "queue_mode.h"
#include "sim.h"

static void
recount_list(struct recount *r, const struct list *head)
{
	for (const struct list *l = head->next; l != head; l = l->next)
		recount_queue(r, &list_entry(l, struct backlog, node)->queue);
}

/* Replies that wait for a client. */
static void
recount_client(struct recount *r, const struct peer *client)
{
	recount_list(r, &client->blocked);
	if (client->aside && client->overflow != NULL)
		recount_queue(r, client->overflow);
}

/* While requests wait, no worker could take the next one. */
static void
check_waiting(const struct proxy *p)
{
	const struct proxy_opts *o = &p->opts[PROXY_BACKEND];

	if ((list_empty(&p->waiting) && p->rerouted == NULL &&
		    list_empty(&p->deliveries.requeued)) ||
		p->retry_timer.due != CLOCK_NEVER)
		return;
	list_each(node, tmp, &p->side[PROXY_BACKEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *peer = conn->peer;
		if (conn->state != CONN_READY || conn_is_broken(conn) || peer == NULL ||
			peer->draining || (peer->suspect && !peer->trial) ||
			(o->queue.max_outstanding > 0 &&
				peer->outstanding >= (uint64_t)o->queue.max_outstanding))
			continue;
		if (conn->out.messages == 0 ||
			(!conn->was_full &&
				(o->side.send_hwm == 0 || conn->out.messages < o->side.send_hwm) &&
				conn->out.bytes < (uint64_t)o->side.send_hwm_bytes / 2))
			violation("requests wait, and worker %llu has room", check_id(conn));
	}
}

void
queue_recount(const struct proxy *p, struct recount *chunks)
{
	list_each(node, tmp, &p->side[PROXY_FRONTEND].conns) {
		const struct peer *client = list_entry(node, struct conn, node)->peer;

		if (client != NULL)
			recount_client(chunks, client);
	}
	recount_list(chunks, &p->waiting);
	recount_list(chunks, &p->parked);
	if (p->rerouted != NULL) {
		if (p->rerouted->queue.messages == 0)
			violation("there is a queue of what was rerouted, and nothing in it");
		recount_queue(chunks, &p->rerouted->queue);
	}
}

static bool
is_parked(const struct peer *client)
{
	return client != NULL && (client->overflow != NULL || client->waits) && !client->draining;
}

static bool
is_in(const struct list *head, const struct list *node)
{
	for (const struct list *n = head->next; n != head; n = n->next)
		if (n == node)
			return true;
	return false;
}

/* Replies beyond a client's queue: bounded, waited for, and its requests are paused. */
static void
check_backlog(const struct proxy *p, const struct conn *conn)
{
	const struct peer *client = conn->peer;

	if (client == NULL || conn->state == CONN_CLOSED)
		return;
	if (client->overflow != NULL && client->overflow->messages > 1 &&
		client->overflow->bytes > (uint64_t)p->opts[PROXY_FRONTEND].side.send_hwm_bytes)
		violation("%llu bytes of replies wait for client %llu, over send_hwm_bytes",
			(unsigned long long)client->overflow->bytes, check_id(conn));
	if (client->backlog != NULL && !is_parked(client) &&
		is_in(&p->parked, &client->backlog->node))
		violation("requests of client %llu are parked for no reason", check_id(conn));
	if (!is_parked(client))
		return;
	if (client->overflow != NULL && !(conn->paused & CONN_PAUSED))
		violation("client %llu does not read its replies, and is read", check_id(conn));
	if (client->overflow != NULL && !conn->was_full)
		violation("replies wait for client %llu, and its room is not waited for",
			check_id(conn));
	if (client->waits && (!p->ration.on || client->backlog == NULL || !client->aside))
		violation("client %llu waits for its ration, which is not checked", check_id(conn));
	if (client->backlog != NULL && !is_in(&p->parked, &client->backlog->node))
		violation("client %llu does not read its replies, and its requests are passed on",
			check_id(conn));
}

/* A paused connection waits for something that will come. */
static void
check_paused(const struct proxy *p)
{
	list_each(node, tmp, &p->side[PROXY_FRONTEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *peer = conn->peer;
		uint64_t held =
			peer != NULL && peer->backlog != NULL ? peer->backlog->queue.bytes : 0;
		uint64_t limit = (uint64_t)p->opts[PROXY_FRONTEND].side.receive_hwm_bytes;

		check_backlog(p, conn);
		if ((conn->paused & CONN_PAUSED) && held <= limit / 2 && !is_parked(peer))
			violation("client %llu is paused for no reason", check_id(conn));
		if (!(conn->paused & CONN_PAUSED) && held >= limit && !peer->draining)
			violation("client %llu is read beyond receive_hwm_bytes", check_id(conn));
		if (peer != NULL && !list_empty(&peer->blocked) && !conn->was_full)
			violation("replies wait for client %llu, whose room is not waited for",
				check_id(conn));
	}
	list_each(node, tmp, &p->side[PROXY_BACKEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *peer = conn->peer;
		bool holds = peer != NULL && peer->backlog != NULL;
		bool paused = conn->paused & CONN_PAUSED;

		if (paused != holds)
			violation("worker %llu is %spaused, and %s replies wait", check_id(conn),
				paused ? "" : "not ", holds ? "its" : "none of its");
		if (holds && !list_linked(&peer->backlog->node))
			violation("replies of worker %llu wait for no client", check_id(conn));
	}
}

/* Requests wait until a worker has room. */
static void
check_drops(const struct proxy *p)
{
	if (p->counters[PROXY_BACKEND].dropped[DROP_QUEUE_FULL] > 0 && !world.memory_faults)
		violation("a request was dropped as queue_full");
	if (p->counters[PROXY_BACKEND].dropped[DROP_SHUTDOWN] > 0 && !world.stopping)
		violation("a request was dropped as shutdown");
}

/* Each reply over a limit is dropped as too_big, and no other. */
static void
check_too_big(const struct proxy *p)
{
	uint64_t dropped = p->counters[PROXY_FRONTEND].dropped[DROP_TOO_BIG];
	bool exact = !world.memory_faults && !p->opts[PROXY_BACKEND].queue.redeliver;

	if (!world.babble && (dropped > world.too_big || (exact && dropped < world.too_big)))
		violation("%llu replies were over a limit, and %llu are dropped as too_big",
			(unsigned long long)world.too_big, (unsigned long long)dropped);
}

void
queue_check(const struct proxy *p, bool idle)
{
	check_drops(p);
	check_too_big(p);
	check_paused(p);
	queue_check_levels(p);
	queue_check_outstanding(p);
	queue_check_choices(p);
	turns_check_returns(p);
	if (idle)
		check_waiting(p);
}
