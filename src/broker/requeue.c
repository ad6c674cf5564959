/* SPDX-License-Identifier: MIT */
/*
 * A worker may hold millions of requests. They are taken back, or forgotten, in slices: the first
 * at once, the others in the RESUME phase of the next turns. There can be several reasons at once:
 *
 *   closed      all requests come back; conn.c calls once a turn
 *   rerouting   the worker stalled, or cannot be written to: the requests in its queue come back
 *   late        answer_timeout passed: the requests sent, and those cut out of the queue, come back
 *   forgetting  no replies are expected any longer
 *
 * Except when forgetting, newer requests wait until all these are in `requeued`
 * (deliveries->returns), so that none overtakes, and the worker gets no more meanwhile
 * (peer->returning), so that the numbers of cut messages are never used for sent ones.
 */
#include <assert.h>

#include "base/clock.h"
#include "base/log.h"
#include "broker/backlog.h"
#include "broker/outstanding.h"
#include "broker/redeliver_impl.h"
#include "broker/replies.h"

enum {
	/* A worker with more expired requests costs too much memory: its late replies must be
	 * recognised. */
	EXPIRED_MAX = 1 << 18,
	LOOKS = 16 /* at deliveries, which together cost as much as a message */
};

/* Newer requests wait from now on, and the worker gets none, even if it is on trial. */
static void
begin_return(struct proxy *proxy, struct peer *worker)
{
	if (worker->returning)
		return;
	worker->returning = true;
	balance_remove(&proxy->balance, worker);
	proxy->deliveries.returns++;
}

/* All requests that come back are in `requeued`. */
static void
end_return(struct proxy *proxy, struct peer *worker)
{
	if (!worker->returning)
		return;
	worker->returning = false;
	proxy->deliveries.returns--;
	end_tracking(proxy);
	backlog_serve_soon(proxy); /* the queue may be empty: nothing else would wake us */
}

/* The first request may be the cause; later ones only if the worker does not work in order. */
static void
requeue_sent(struct proxy *proxy, struct delivery *d)
{
	struct ledger *h = d->ledger;

	redeliver_requeue(proxy, d, true, h->parallel || !h->first_blamed);
	h->first_blamed = true;
}

static bool
is_cut(const struct delivery *d)
{
	return d->number >= d->ledger->cut_from;
}

/* A cut message counts as queued, but is in no queue. */
static void
requeue_cut(struct proxy *proxy, struct delivery *d)
{
	struct ledger *h = d->ledger;

	backlog_uncount(backend(proxy), d->request->size);
	h->cut--;
	proxy->deliveries.never_sent--;
	h->worker->conn->rerouted++;
	redeliver_requeue(proxy, d, false, false);
	unassign(proxy, d);
}

/* --- rerouting ------------------------------------------------------------ */

static void
end_rerouting(struct ledger *h)
{
	h->rerouting = false;
	h->next = NULL;
}

static bool
front_expects_reply(const struct peer *worker)
{
	struct message m = outq_as_message(&worker->conn->out);

	return outstanding_expects(worker, &m);
}

/* Return the client that sent the first message of the worker's queue, or NULL. */
static struct peer *
client_of_front(struct proxy *proxy, const struct peer *worker)
{
	struct message m = outq_as_message(&worker->conn->out);

	return replies_holder(proxy, &m);
}

/* Move `next` back from the end to the first delivery in the queue. False: not finished. */
static bool
find_queued(struct proxy *proxy, struct ledger *h, uint32_t end)
{
	uint64_t sent = sent_to(h->worker);

	for (unsigned i = 0;; i++, h->next = h->next->prev) {
		if (h->next->prev == &h->pending ||
			list_entry(h->next->prev, struct delivery, node)->number < sent)
			return true;
		if (i % LOOKS == 0 && !has_time(proxy, end))
			return false;
	}
}

/* The delivery of the queue's first message; NULL: it expired, or was never recorded. */
static struct delivery *
delivery_of_front(const struct ledger *h)
{
	struct delivery *d;

	if (h->next == &h->pending)
		return NULL;
	d = list_entry(h->next, struct delivery, node);
	return d->number == sent_to(h->worker) ? d : NULL;
}

/* False: no memory. */
static bool
reroute_front(struct proxy *proxy, struct ledger *h)
{
	struct peer *worker = h->worker;
	struct conn *conn = worker->conn;
	struct delivery *d = delivery_of_front(h);
	/* a message that could not be written to its end may be one that the path does not carry */
	bool cut = h->first && poison_is_poisoned(&conn->guard), counts;
	struct peer *client;

	h->first = false;
	if (d != NULL && (d->request->answered || request_is_kept(d->request))) {
		conn_drop(conn);
		conn->rerouted++;
		h->gone++;
		redeliver_requeue(proxy, d, false, cut);
		unassign(proxy, d);
		return true;
	}
	counts = d != NULL || front_expects_reply(worker);
	client = counts ? NULL : client_of_front(proxy, worker);
	if (!backlog_reroute_one(proxy, worker))
		return false;
	if (client != NULL) /* the next worker may answer */
		client->outstanding++;
	h->gone++;
	if (d != NULL) {
		undo_assign(proxy, d);
	} else if (counts && h->counted > 0) {
		h->counted--;
		outstanding_settle(proxy, worker);
	}
	return true;
}

/* True: finished, or no memory to go on. */
static bool
reroute_slice(struct proxy *proxy, struct ledger *h, uint32_t end)
{
	if (!find_queued(proxy, h, end))
		return false;
	while (h->worker->conn->out.messages > 0) {
		if (!has_time(proxy, end))
			return false;
		if (!reroute_front(proxy, h))
			break;
	}
	end_rerouting(h);
	return true;
}

/* --- late ----------------------------------------------------------------- */

/* Deliveries of a worker whose messages are in its queue, or were cut out of it. */
struct tracked {
	uint64_t count, bytes;
};

static struct tracked
find_tracked(const struct ledger *h, uint64_t from)
{
	struct tracked tracked = {0};

	for (const struct list *node = h->pending.prev; node != &h->pending; node = node->prev) {
		const struct delivery *d = list_entry(node, struct delivery, node);

		if (d->number < from)
			break;
		tracked.count++;
		tracked.bytes += d->request->size;
	}
	return tracked;
}

/* Is there a delivery for each message of the worker's queue? */
static bool
all_are_tracked(const struct peer *worker)
{
	return worker->ledger->counted == 0 && !worker->uncounted;
}

/*
 * Can every queued message be dropped, since its request is kept, or was answered by another
 * worker? Messages without a delivery are those that a REP would discard, or were queued before
 * tracking was enabled.
 */
static bool
may_cut(const struct peer *worker)
{
	const struct ledger *h = worker->ledger;
	uint64_t sent = sent_to(worker);

	if (h->unkept_to > sent)
		return false;
	if (all_are_tracked(worker) ||
		(worker->answers == PEER_ANSWERS_DELIMITED && h->counted == 0))
		return true;
	return find_tracked(h, sent).count == worker->conn->out.messages;
}

/* Empties the queue, except for a partly written message, which send_timeout cancels. */
static void
cut_queue(struct proxy *proxy, struct peer *worker)
{
	struct counters *c = backend(proxy);
	struct ledger *h = worker->ledger;
	uint64_t bytes = c->queued_bytes, cut = may_cut(worker) ? conn_cut(worker->conn) : 0;
	struct tracked tracked = {cut, bytes - c->queued_bytes};

	if (cut == 0)
		return;
	h->cut_from = next_number(worker);
	if (!all_are_tracked(worker))
		tracked = find_tracked(h, h->cut_from);
	h->cut = tracked.count;
	proxy->deliveries.never_sent += tracked.count;
	c->queued += tracked.count;
	c->queued_bytes += tracked.bytes;
	c->dropped[DROP_MALFORMED] += cut - tracked.count;
	worker->conn->dropped += cut - tracked.count;
}

/*
 * Stop waiting for the delivery, and requeue its request. A worker that processes in order can be
 * stuck only on its oldest request.
 */
static void
expire(struct proxy *proxy, struct delivery *d)
{
	struct peer *worker = d->ledger->worker;

	if (!d->request->answered && !request_is_kept(d->request))
		return; /* it cannot be sent to another worker */
	requeue_sent(proxy, d);
	deliveries_expire(&proxy->deliveries, d);
	balance_settled(&proxy->balance, worker);
}

/* The worker takes messages again: the rest of its queue stays there. */
static void
stop_rerouting(struct proxy *proxy, struct peer *worker)
{
	struct ledger *h = worker->ledger;

	if (h->late) { /* rerouting has not begun */
		h->rerouting = false;
		return;
	}
	end_rerouting(h);
	end_return(proxy, worker);
	if (!h->forgetting)
		list_remove(&h->node);
}

/* A suspect whose requests were all taken back unsent has nothing to answer. */
void
redeliver_on_room(struct proxy *proxy, struct peer *worker)
{
	const struct ledger *h = worker->ledger;

	if (h->rerouting && worker->conn->state == CONN_READY && !conn_is_broken(worker->conn))
		stop_rerouting(proxy, worker);
	if (worker->suspect && list_empty(&h->pending) && list_empty(&h->expired))
		suspect_reinstate(proxy, worker);
	else
		suspect_try(proxy, worker);
}

/* From now on it is known what the worker holds. */
static void
end_late(struct proxy *proxy, struct peer *worker)
{
	struct ledger *h = worker->ledger;
	int64_t timeout = options(proxy)->answer_timeout;

	h->late = false;
	h->next = NULL;
	h->cut_from = UINT64_MAX;
	if (!h->rerouting)
		end_return(proxy, worker);
	if (ledger_oldest(h) != NULL && timeout > 0)
		timer_set(&h->timer, timeout);
	else
		timer_stop(&h->timer);
	if (!worker->suspect)
		suspect_back_in_service(proxy, worker); /* the worker answered meanwhile */
	else if (!worker->conn->was_full && conn_is_open(worker->conn))
		redeliver_on_room(proxy, worker); /* nothing else would call this */
	if (worker->suspect)
		suspect_plan_trial(proxy, worker);
	if (h->expired_count > EXPIRED_MAX)
		conn_close(
			worker->conn, CLOSE_OVER_LIMIT, "too many requests that it did not answer");
	backlog_serve_soon(proxy);
}

/* True: finished. */
static bool
late_slice(struct proxy *proxy, struct ledger *h, uint32_t end)
{
	while (h->next != &h->pending) {
		struct delivery *d = list_entry(h->next, struct delivery, node);

		if (d->number >= h->had && h->cut == 0)
			break;
		if (!has_time(proxy, end))
			return false;
		h->next = d->node.next;
		if (is_cut(d))
			requeue_cut(proxy, d);
		else if (d->number < h->had)
			expire(proxy, d);
	}
	end_late(proxy, h->worker);
	return true;
}

/* --- forgotten ------------------------------------------------------------ */

/* The worker is no longer expected to reply to the request. */
static void
forgo(struct proxy *proxy, struct request *r)
{
	if (r->answered || r->waiting)
		return;
	set_outstanding(proxy, r, false);
	redeliver_tell_client(proxy, r);
}

/* True: finished. */
static bool
forget_slice(struct proxy *proxy, struct ledger *h, uint32_t end)
{
	const struct list *lists[] = {&h->pending, &h->expired};

	for (int i = 0; i < 2; i++) {
		while (!list_empty(lists[i])) {
			struct delivery *d = list_entry(lists[i]->next, struct delivery, node);

			if (d->number >= h->forget_to)
				break;
			if (!has_time(proxy, end))
				return false;
			if (is_cut(d)) {
				requeue_cut(proxy, d);
				continue;
			}
			if (!d->expired)
				forgo(proxy, d->request);
			unassign(proxy, d);
		}
	}
	h->forgetting = false;
	return true;
}

/* --- slices --------------------------------------------------------------- */

/*
 * True: finished. Each step may have been asked for while the step before it was under way.
 */
static bool
take_slice(struct proxy *proxy, struct ledger *h, uint32_t end)
{
	if (h->forgetting && !forget_slice(proxy, h, end))
		return false;
	if (h->late && !late_slice(proxy, h, end))
		return false;
	if (!h->rerouting)
		return true;
	if (h->next == NULL)
		h->next = &h->pending;
	if (!reroute_slice(proxy, h, end))
		return false;
	end_return(proxy, h->worker);
	return true;
}

/* One slice for all ledgers with work to do. */
static void
go_on(struct proxy *proxy)
{
	struct list *returning = &proxy->deliveries.returning;
	uint32_t end = end_of_slice(proxy);

	while (!list_empty(returning)) {
		struct ledger *h = list_entry(returning->next, struct ledger, node);

		if (!take_slice(proxy, h, end)) {
			loop_defer(proxy->loop, LOOP_RESUME, &proxy->return_task);
			backlog_serve_soon(proxy);
			return;
		}
		list_remove(&h->node);
	}
}

void
redeliver_task_cb(struct task *task)
{
	go_on(list_entry(&task->node, struct proxy, return_task.node));
}

static void
start(struct proxy *proxy, struct ledger *h)
{
	if (!list_linked(&h->node))
		list_push(&proxy->deliveries.returning, &h->node);
	go_on(proxy);
}

/*
 * With redeliver, the requests that the worker holds go to other workers, and so do those in its
 * queue, except for a partly written message.
 */
static void
expire_worker(struct proxy *proxy, struct peer *worker)
{
	struct ledger *h = worker->ledger;

	begin_return(proxy, worker);
	balance_remove(&proxy->balance, worker); /* it may be on trial */
	cut_queue(proxy, worker);
	h->late = true;
	h->first_blamed = false;
	h->had = sent_to(worker);
	h->next = h->pending.next;
	timer_set(&h->timer, options(proxy)->answer_timeout);
	start(proxy, h);
}

void
requeue_on_due(struct timer *timer)
{
	struct ledger *h = list_entry(timer, struct ledger, timer);
	struct peer *worker = h->worker;
	struct proxy *proxy = worker->proxy;
	const struct delivery *oldest = ledger_oldest(h);
	int64_t timeout = options(proxy)->answer_timeout, now = loop_now(proxy->loop);

	if (timeout == 0 || !conn_is_open(worker->conn))
		return;
	if (list_linked(&h->node)) { /* not before it is known what the worker holds */
		timer_set(timer, 1);
		return;
	}
	if (oldest == NULL) {
		if (worker->suspect) /* the request of its trial was taken back */
			suspect_plan_trial(proxy, worker);
		return;
	}
	if (now < oldest->given + timeout) {
		timer_set(timer, oldest->given + timeout - now);
		return;
	}
	if (!worker->suspect)
		redeliver_log(worker, "worker_suspect", LOG_LEVEL_WARNING);
	suspect_set(proxy, worker, true);
	expire_worker(proxy, worker);
}

void
redeliver_reroute(struct proxy *proxy, struct peer *worker)
{
	struct ledger *h = worker->ledger;

	begin_return(proxy, worker);
	h->first |= !h->rerouting;
	h->rerouting = true;
	start(proxy, h);
}

/* --- closed --------------------------------------------------------------- */

/* Sent requests come back first, from the oldest on, then the queue. True: finished. */
static bool
requeue_slice(struct proxy *proxy, struct ledger *h, uint32_t end)
{
	struct peer *worker = h->worker;
	struct delivery *d;

	while ((d = ledger_oldest(h)) != NULL && d->number < sent_to(worker)) {
		if (!has_time(proxy, end))
			return false;
		requeue_sent(proxy, d);
		unassign(proxy, d);
	}
	balance_remove(&proxy->balance, worker);
	h->next = h->pending.next;
	if (!reroute_slice(proxy, h, end))
		return false;
	while ((d = ledger_oldest(h)) != NULL && is_cut(d)) {
		if (!has_time(proxy, end))
			return false;
		requeue_cut(proxy, d);
	}
	return true;
}

bool
redeliver_requeue_all(struct proxy *proxy, struct peer *worker)
{
	struct ledger *h = worker->ledger;
	uint32_t end = end_of_slice(proxy);
	bool done;

	if (!h->closed) {
		timer_stop(&h->timer);
		timer_stop(&h->trial);
		list_remove(&h->node);
		begin_return(proxy, worker);
		h->first_blamed = h->first_blamed && h->late;
		h->first |= !h->rerouting;
		h->late = h->rerouting = false;
		h->closed = true;
	}
	done = (!h->forgetting || forget_slice(proxy, h, end)) && requeue_slice(proxy, h, end);
	if (done)
		end_return(proxy, worker);
	else
		backlog_serve_soon(proxy);
	return done;
}

bool
redeliver_forget(struct proxy *proxy, struct peer *worker)
{
	struct ledger *h = worker->ledger;

	list_remove(&h->node);
	h->forget_to = UINT64_MAX;
	return forget_slice(proxy, h, end_of_slice(proxy));
}

void
redeliver_forget_replies(struct proxy *proxy, struct peer *worker)
{
	struct ledger *h = worker->ledger;

	h->counted = 0;
	if (list_empty(&h->pending) && list_empty(&h->expired))
		return;
	h->forget_to = next_number(worker);
	if (!list_empty(&h->pending) &&
		list_entry(h->pending.prev, struct delivery, node)->number >= h->forget_to)
		h->forget_to = list_entry(h->pending.prev, struct delivery, node)->number + 1;
	h->forgetting = true;
	start(proxy, h);
}

void
redeliver_end(struct proxy *proxy, struct peer *worker)
{
	struct ledger *h = worker->ledger;

	end_return(proxy, worker);
	if (!proxy->tracking)
		h->counted = worker->outstanding;
	balance_remove(&proxy->balance, worker);
	backend(proxy)->outstanding -= h->counted;
	proxy->drain_given_up += proxy_is_draining(proxy) ? h->counted : 0;
	worker->outstanding -= h->counted;
	suspect_set(proxy, worker, false);
	ledger_free(h);
	worker->ledger = NULL;
}
