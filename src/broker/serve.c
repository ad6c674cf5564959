/* SPDX-License-Identifier: MIT */
/*
 * Waiting requests go to the workers: first those that a worker had already, then those that were
 * rerouted, then one of each client in turn.
 */
#include "broker/serve.h"

#include "broker/backlog.h"
#include "broker/outstanding.h"
#include "broker/proxy_impl.h"
#include "broker/redeliver.h"
#include "broker/replies.h"

enum {
	SERVE_BYTES = 4 << 20, /* moved to workers in one go, where each request counts ... */
	SERVE_EACH = BUDGET_MESSAGE << BUDGET_BYTES, /* ... this much more */
	NO_MEMORY_MS = 100                           /* until the next attempt */
};

/* No memory: nothing else would wake us while all workers have room. */
static void
serve_later(struct proxy *proxy)
{
	timer_set(&proxy->retry_timer, NO_MEMORY_MS);
}

static bool
move_request(struct proxy *proxy, struct peer *worker, struct backlog *s)
{
	struct message m = outq_as_message(&s->queue);
	bool counts = outstanding_expects(worker, &m);
	struct peer *client = NULL;

	if (proxy->tracking && counts)
		return redeliver_send_from(proxy, worker, &s->queue);
	if (!counts) /* its client may have left, or come back over another connection */
		client = s->peer != NULL && s->peer->routed ? s->peer : replies_holder(proxy, &m);
	if (conn_send_from(worker->conn, &s->queue) == 0)
		return false;
	if (counts) {
		outstanding_give(proxy, worker);
		return true;
	}
	if (client != NULL)
		outstanding_answer(client);
	worker->uncounted = true;
	balance_skip(worker);
	return true;
}

/* Moves the first request of `s` to a worker. False when none can take it. */
static bool
serve_one(struct proxy *proxy, struct backlog *s, uint64_t *moved)
{
	const uint8_t *p;
	size_t len;
	uint64_t size = outq_peek(&s->queue, &p, &len);
	struct peer *worker = balance_next(&proxy->balance, (size_t)size);

	if (worker == NULL)
		return false;
	if (!move_request(proxy, worker, s)) {
		serve_later(proxy);
		return false;
	}
	backlog_uncount(&proxy->counters[PROXY_BACKEND], size);
	*moved += size + SERVE_EACH;
	return true;
}

/*
 * Requests that a worker had already go first. False: one of them has to wait, or is still to
 * come.
 */
static bool
serve_again(struct proxy *proxy, uint64_t *moved)
{
	enum redeliver_served served = REDELIVER_SERVED;

	while (served == REDELIVER_SERVED && !list_empty(&proxy->deliveries.requeued) &&
		*moved < SERVE_BYTES) {
		served = redeliver_serve(proxy, moved);
		*moved += SERVE_EACH;
	}
	if (served == REDELIVER_NO_MEMORY)
		serve_later(proxy);
	return served == REDELIVER_SERVED && proxy->deliveries.returns == 0;
}

/*
 * Rerouted requests go to the workers first, then one of each client in turn. True: there may be
 * more.
 */
static bool
serve_some(struct proxy *proxy, uint64_t *moved)
{
	while (*moved < SERVE_BYTES) {
		struct backlog *s = proxy->rerouted;

		if (s == NULL) {
			if (list_empty(&proxy->waiting))
				return false;
			s = list_entry(proxy->waiting.next, struct backlog, node);
			if (proxy->ration.on && s->peer != NULL && ration_is_used_up(s->peer)) {
				backlog_begin_wait(proxy, s->peer);
				*moved += SERVE_EACH;
				continue;
			}
		}
		if (!serve_one(proxy, s, moved))
			return false;
		if (s == proxy->rerouted) {
			if (s->queue.messages == 0) {
				proxy->rerouted = NULL;
				backlog_end(proxy, s);
			}
			continue;
		}
		serve_use_ration(s->peer);
		backlog_relieve(proxy, s, PROXY_FRONTEND);
		if (outq_empty(&s->queue))
			backlog_free(s);
		else
			list_move(&proxy->waiting, &s->node);
	}
	return true;
}

void
serve_drop_departed(struct proxy *proxy)
{
	proxy->client_departed = true;
	backlog_serve_soon(proxy);
}

/* A sweep may miss requests of a client that leaves during it: then sweep again. */
static void
drop_gone(struct proxy *proxy)
{
	if (proxy->deliveries.sweep == NULL)
		proxy->client_departed = false;
	if (!redeliver_discard_gone(proxy) || proxy->client_departed)
		backlog_serve_soon(proxy);
}

void
serve_waiting(struct proxy *proxy)
{
	uint64_t moved = 0;

	if (proxy->client_departed || proxy->deliveries.sweep != NULL)
		drop_gone(proxy);
	if (serve_again(proxy, &moved) && serve_some(proxy, &moved))
		backlog_serve_soon(proxy);
	loop_spend(proxy->loop, (uint32_t)(moved >> BUDGET_BYTES));
}

void
serve_on_task(struct task *task)
{
	serve_waiting(list_entry(&task->node, struct proxy, serve_task.node));
}

void
serve_on_retry(struct timer *timer)
{
	serve_waiting(list_entry(timer, struct proxy, retry_timer));
}
