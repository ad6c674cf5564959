/* SPDX-License-Identifier: MIT */
/*
 * Workers of queue mode: they connect, have room, stall and disconnect; changed options are applied
 * to them.
 */
#include "broker/workers.h"

#include "base/clock.h"
#include "broker/backlog.h"
#include "broker/drain.h"
#include "broker/redeliver.h"
#include "broker/serve.h"
#include "broker/silence.h"
#include "zmtp/socktype.h"

static void
set_answers(struct peer *worker)
{
	const struct queue_opts *o = &worker->proxy->opts[PROXY_BACKEND].queue;

	if (!o->replies)
		worker->answers = PEER_ANSWERS_NONE;
	else if (worker->conn->session.peer_type == SOCKTYPE_REP)
		worker->answers = PEER_ANSWERS_DELIMITED;
	else
		worker->answers = PEER_ANSWERS_ALL;
}

static void
forget_replies_of(struct proxy *proxy, struct peer *worker)
{
	uint64_t tracked = worker->ledger != NULL && proxy->tracking
		? worker->outstanding - worker->ledger->counted
		: 0;

	worker->uncounted |= worker->outstanding > 0;
	balance_remove(&proxy->balance, worker); /* redeliver_configure adds the worker again */
	proxy->counters[PROXY_BACKEND].outstanding -= worker->outstanding - tracked;
	worker->outstanding = tracked;
	if (worker->ledger != NULL)
		redeliver_forget_replies(proxy, worker);
}

/* Without replies there is nothing to wait for, and no worker holds a request. */
static void
forget_replies(struct proxy *proxy)
{
	struct queue_opts *o = &proxy->opts[PROXY_BACKEND].queue;

	o->redeliver = false;
	o->answer_timeout = o->max_outstanding = 0;
	o->balance = BALANCE_ROUND_ROBIN;
	list_each(node, tmp, &proxy->side[PROXY_BACKEND].conns) {
		struct peer *worker = list_entry(node, struct conn, node)->peer;

		if (worker != NULL)
			forget_replies_of(proxy, worker);
	}
}

void
workers_configure(struct proxy *proxy)
{
	if (!proxy->opts[PROXY_BACKEND].queue.replies)
		forget_replies(proxy);
	list_each(node, tmp, &proxy->side[PROXY_BACKEND].conns) {
		struct peer *worker = list_entry(node, struct conn, node)->peer;

		if (worker != NULL)
			set_answers(worker);
	}
	if (proxy->counters[PROXY_BACKEND].outstanding > 0 &&
		proxy->silence_timer.due == CLOCK_NEVER)
		silence_watch(proxy);
	redeliver_configure(proxy);
}

/* False: no memory. */
static bool
join(struct proxy *proxy, struct peer *worker)
{
	if (!balance_join(&proxy->balance, worker))
		return false;
	if (redeliver_open(proxy, worker))
		return true;
	balance_quit(&proxy->balance);
	return false;
}

void
workers_on_ready(struct conn *conn)
{
	struct proxy *proxy = list_entry(conn->side, struct proxy, side[PROXY_BACKEND]);
	struct peer *worker = peer_new(proxy, conn, 0);

	conn->peer = worker;
	if (worker != NULL && !join(proxy, worker)) {
		peer_free(worker);
		conn->peer = worker = NULL;
	}
	if (worker == NULL) {
		conn_close(conn, CLOSE_NO_MEMORY, NULL);
		return;
	}
	set_answers(worker);
	worker->heard = (uint32_t)conn->messages_in;
	worker->quiet_since = (uint32_t)loop_now(proxy->loop);
	balance_add(&proxy->balance, worker);
	backlog_serve_soon(proxy);
}

void
workers_on_room(struct conn *conn)
{
	struct proxy *proxy = proxy_of(conn);

	if (proxy->tracking || ((struct peer *)conn->peer)->returning)
		redeliver_on_room(proxy, conn->peer);
	balance_add(&proxy->balance, conn->peer);
	serve_waiting(proxy);
}

/*
 * Reroute all that is queued for the worker, if no request has to be looked at. False: that failed.
 */
static bool
reroute_at_once(struct proxy *proxy, struct peer *worker)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	uint32_t moved, settled;

	if ((worker->answers == PEER_ANSWERS_DELIMITED && worker->uncounted) ||
		!backlog_make_rerouted(proxy))
		return false;
	moved = conn_splice(worker->conn, &proxy->rerouted->queue);
	if (moved == 0) {
		backlog_end_empty_rerouted(proxy);
		return false;
	}
	c->rerouted += moved;
	worker->conn->rerouted += moved;
	if (worker->answers == PEER_ANSWERS_NONE)
		return true;
	settled = moved < worker->outstanding ? moved : worker->outstanding;
	worker->outstanding -= settled;
	c->outstanding -= settled;
	return true;
}

/* Requests are tracked, or a slice was done already. */
static bool
goes_in_slices(const struct proxy *proxy, const struct peer *worker)
{
	return worker->ledger != NULL && (proxy->tracking || worker->returning);
}

/*
 * Requeue everything queued for the worker, including a partly written message. False: that takes
 * slices.
 */
static bool
reroute_now(struct proxy *proxy, struct peer *worker)
{
	balance_remove(&proxy->balance, worker);
	if (goes_in_slices(proxy, worker))
		return false;
	return worker->conn->out.messages == 0 || reroute_at_once(proxy, worker) ||
		!redeliver_open_untracked(proxy, worker);
}

void
workers_on_stalled(struct conn *conn)
{
	struct proxy *proxy = proxy_of(conn);
	bool queued = conn->out.messages > 0;

	if (!reroute_now(proxy, conn->peer) && queued)
		redeliver_reroute(proxy, conn->peer);
	if (queued)
		serve_waiting(proxy);
}

/* Give the worker's requests to other workers. False: that was a slice of them. */
static bool
take_all(struct proxy *proxy, struct peer *worker)
{
	bool queued = worker->conn->out.messages > 0;

	if (!reroute_now(proxy, worker) && !redeliver_requeue_all(proxy, worker))
		return false;
	if (queued)
		serve_waiting(proxy);
	return true;
}

bool
workers_on_closed(struct conn *conn)
{
	struct peer *worker = conn->peer;
	struct proxy *proxy = worker->proxy;

	if (proxy_is_stopping(proxy))
		proxy_drop_queue(proxy, PROXY_BACKEND, conn, DROP_SHUTDOWN);
	else if (!take_all(proxy, worker))
		return false;
	balance_remove(&proxy->balance, worker);
	proxy_drop_queue(proxy, PROXY_BACKEND, conn, DROP_QUEUE_FULL); /* no memory to move it */
	if (worker->ledger != NULL && !redeliver_forget(proxy, worker))
		return false;
	if (worker->ledger != NULL)
		redeliver_end(proxy, worker);
	proxy->counters[PROXY_BACKEND].outstanding -= worker->outstanding;
	if (proxy_is_draining(proxy))
		proxy->drain_given_up += worker->outstanding;
	drain_forget(proxy, worker);
	balance_quit(&proxy->balance);
	proxy->counters[PROXY_BACKEND].silent -= worker->silent;
	backlog_orphan(worker);
	peer_free(worker);
	conn->peer = NULL;
	return true;
}

bool
workers_are_awaited(const struct side *side)
{
	return side->counters->queued > 0 && side->ready[CONN_SERVES] == 0;
}
