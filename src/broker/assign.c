/* SPDX-License-Identifier: MIT */
/*
 * Requests are given to workers and recorded (deliveries.h). A request that its worker did not
 * answer is requeued for another worker, or discarded.
 */
#include <inttypes.h>

#include "base/log.h"
#include "broker/backlog.h"
#include "broker/outstanding.h"
#include "broker/redeliver_impl.h"
#include "broker/replies.h"

enum {
	/*
	 * A request is not dropped for failed deliveries that it did not cause, until it has had
	 * this many times redeliver_limit deliveries.
	 */
	BLAMELESS = 10
};

bool
has_time(struct proxy *proxy, uint32_t end)
{
	if (proxy->loop->spent > end)
		return false;
	loop_spend(proxy->loop, BUDGET_MESSAGE);
	return true;
}

void
redeliver_log(const struct peer *worker, const char *event, enum log_level level)
{
	const struct conn *conn = worker->conn;

	log_event(level, event,
		"proxy=%s side=%s peer=%" PRIu64 " address=%s outstanding=%" PRIu64
		" expired=%" PRIu32,
		conn->side->proxy_name, conn->side->name, conn->id, conn->address,
		worker->outstanding, worker->ledger->expired_count);
}

/* The suspect has the one request of its trial: it gets no more until it answers. */
static void
end_trial(struct proxy *proxy, struct peer *worker)
{
	worker->trial = false;
	balance_remove(&proxy->balance, worker);
	redeliver_log(worker, "worker_trial", LOG_LEVEL_INFO);
}

/* Called before the message is queued: without memory for the delivery it is not sent. */
static struct delivery *
assign(struct proxy *proxy, struct peer *worker, struct request *r)
{
	struct ledger *h = worker->ledger;
	int64_t timeout = options(proxy)->answer_timeout;
	struct delivery *d = deliveries_assign(
		&proxy->deliveries, h, r, next_number(worker), loop_now(proxy->loop));

	if (d == NULL)
		return NULL;
	if (!request_is_kept(r))
		h->unkept_to = d->number + 1;
	balance_given(&proxy->balance, worker);
	set_outstanding(proxy, r, true);
	if (worker->trial)
		end_trial(proxy, worker);
	if (timeout > 0 && h->timer.due == CLOCK_NEVER)
		timer_set(&h->timer, timeout);
	return d;
}

/* Assigns a new request, or NULL; without memory the request is freed. */
static struct delivery *
assign_first(struct proxy *proxy, struct peer *worker, struct request *r)
{
	struct delivery *d = r != NULL ? assign(proxy, worker, r) : NULL;

	if (r != NULL && d == NULL)
		request_release(&proxy->deliveries, r);
	return d;
}

bool
redeliver_send(
	struct proxy *proxy, struct peer *worker, const struct peer *client, struct message *m)
{
	struct delivery *d = assign_first(proxy, worker,
		request_new(&proxy->deliveries, client->envelope, client->envelope_len, m,
			options(proxy)->redeliver));

	if (d == NULL)
		return false;
	if (d->request->kept != NULL
			? conn_share(worker->conn, d->request->kept) > 0
			: conn_send(worker->conn, client->envelope, client->envelope_len, m, 0))
		return true;
	undo_assign(proxy, d);
	return false;
}

bool
redeliver_send_from(struct proxy *proxy, struct peer *worker, struct outq *from)
{
	struct delivery *d = assign_first(
		proxy, worker, request_of(&proxy->deliveries, from, options(proxy)->redeliver));

	if (d == NULL)
		return false;
	if (conn_send_from(worker->conn, from) > 0)
		return true;
	undo_assign(proxy, d);
	return false;
}

static bool
send_again(struct peer *worker, struct request *r)
{
	struct message m = {r->bytes, r->size, r->size, NULL, NULL};

	return r->whole ? conn_send(worker->conn, NULL, 0, &m, 0)
			: conn_share(worker->conn, r->kept) > 0;
}

/* --- requests that their worker did not answer ---------------------------- */

static bool
client_is_gone(const struct proxy *proxy, const struct request *r)
{
	size_t len;
	const uint8_t *id = request_client(r, &len);

	return router_find(&proxy->router, id, len) == NULL;
}

void
redeliver_tell_client(struct proxy *proxy, const struct request *r)
{
	size_t len;
	const uint8_t *id = request_client(r, &len);
	struct peer *client = router_find(&proxy->router, id, len);

	if (client != NULL)
		replies_lose(proxy, client);
}

/* Drops the request. `sent`: it was counted as sent already, so it was received once more. */
static void
discard(struct proxy *proxy, struct request *r, bool sent, enum drop_reason reason)
{
	struct counters *c = backend(proxy);

	if (sent)
		c->redelivered++;
	c->dropped[reason]++;
	proxy->drain_given_up += proxy_is_draining(proxy);
	set_outstanding(proxy, r, false);
	redeliver_tell_client(proxy, r);
	request_drop_bytes(&proxy->deliveries, r);
}

void
redeliver_requeue(struct proxy *proxy, struct delivery *d, bool sent, bool blame)
{
	struct counters *c = backend(proxy);
	struct request *r = d->request;
	uint32_t limit = (uint32_t)options(proxy)->redeliver_limit;

	if (!sent && !blame)
		r->deliveries--; /* no worker had it */
	if (r->answered) {
		c->dropped[DROP_LATE_REPLY] += !sent; /* a copy that is no longer needed */
		return;
	}
	if (!request_is_kept(r)) { /* its bytes were not kept: it cannot be sent again */
		proxy->drain_given_up += proxy_is_draining(proxy);
		set_outstanding(proxy, r, false);
		redeliver_tell_client(proxy, r);
		return;
	}
	r->culprit_count += blame;
	if (client_is_gone(proxy, r)) {
		discard(proxy, r, sent, DROP_PEER_GONE);
	} else if (r->culprit_count >= limit || r->deliveries >= limit * BLAMELESS) {
		discard(proxy, r, sent, DROP_UNDELIVERABLE);
	} else {
		request_requeue(&proxy->deliveries, r, !sent);
		if (sent)
			return;
		backlog_count(c, r->size);
		c->rerouted++;
		set_outstanding(proxy, r, false);
	}
}

/* Drops a request that waits in `requeued`. */
static void
discard_requeued(struct proxy *proxy, struct request *r, enum drop_reason reason)
{
	bool queued = r->queued;

	if (queued)
		backlog_uncount(backend(proxy), r->size);
	request_unqueue(&proxy->deliveries, r);
	discard(proxy, r, !queued, reason);
	request_release(&proxy->deliveries, r);
}

void
redeliver_cancel(struct proxy *proxy, struct request *r)
{
	struct counters *c = backend(proxy);

	if (r->queued) { /* since a third worker never had all of it */
		backlog_uncount(c, r->size);
		c->dropped[DROP_LATE_REPLY]++;
	}
	request_unqueue(&proxy->deliveries, r);
}

static bool
is_answered_by(const struct peer *worker, const struct request *r)
{
	struct message m = {r->bytes, r->size, r->size, NULL, NULL};

	if (!r->whole)
		m = outq_as_message(r->kept);
	return outstanding_expects(worker, &m);
}

/* The request was sent again: it leaves `requeued`. */
static void
count_served(struct proxy *proxy, struct request *r, uint64_t *bytes)
{
	if (r->queued)
		backlog_uncount(backend(proxy), r->size);
	else
		backend(proxy)->redelivered++;
	request_unqueue(&proxy->deliveries, r);
	*bytes += r->size;
}

/* No worker replies any longer (replies = no): the request is finished once it is sent. */
static enum redeliver_served
send_uncounted(struct proxy *proxy, struct peer *worker, struct request *r, uint64_t *bytes)
{
	if (!send_again(worker, r))
		return REDELIVER_NO_MEMORY;
	count_served(proxy, r, bytes);
	worker->uncounted = true;
	balance_skip(worker);
	proxy->drain_given_up += proxy_is_draining(proxy) && r->outstanding;
	set_outstanding(proxy, r, false);
	redeliver_tell_client(proxy, r);
	request_drop_bytes(&proxy->deliveries, r);
	request_release(&proxy->deliveries, r);
	return REDELIVER_SERVED;
}

enum redeliver_served
redeliver_serve(struct proxy *proxy, uint64_t *bytes)
{
	struct request *r = list_entry(proxy->deliveries.requeued.next, struct request, node);
	bool queued = r->queued;
	struct peer *worker;
	struct delivery *d;

	if (client_is_gone(proxy, r)) {
		discard_requeued(proxy, r, DROP_PEER_GONE);
		return REDELIVER_SERVED;
	}
	worker = balance_next(&proxy->balance, (size_t)r->size);
	if (worker == NULL)
		return REDELIVER_WAITS;
	if (worker->answers == PEER_ANSWERS_NONE)
		return send_uncounted(proxy, worker, r, bytes);
	if (!is_answered_by(worker, r)) {
		/*
		 * A REP would discard it. Other workers had it before and may answer: if it came
		 * back from the REP's queue, it would not be known as the same request.
		 */
		discard_requeued(proxy, r, DROP_MALFORMED);
		return REDELIVER_SERVED;
	}
	d = assign(proxy, worker, r);
	if (d == NULL)
		return REDELIVER_NO_MEMORY;
	if (!send_again(worker, r)) {
		set_outstanding(proxy, r, !queued);
		unassign(proxy, d);
		r->deliveries--;
		return REDELIVER_NO_MEMORY;
	}
	count_served(proxy, r, bytes);
	return REDELIVER_SERVED;
}

bool
redeliver_discard_gone(struct proxy *proxy)
{
	struct deliveries *f = &proxy->deliveries;
	uint32_t end = end_of_slice(proxy);

	if (f->sweep == NULL)
		f->sweep = f->requeued.next;
	while (f->sweep != &f->requeued) {
		struct request *r = list_entry(f->sweep, struct request, node);

		if (!has_time(proxy, end))
			return false;
		f->sweep = r->node.next;
		if (client_is_gone(proxy, r))
			discard_requeued(proxy, r, DROP_PEER_GONE);
	}
	f->sweep = NULL;
	return true;
}

bool
redeliver_discard_all(struct proxy *proxy)
{
	uint32_t end = end_of_slice(proxy);

	while (!list_empty(&proxy->deliveries.requeued)) {
		struct request *r =
			list_entry(proxy->deliveries.requeued.next, struct request, node);

		if (!has_time(proxy, end))
			return false;
		if (r->queued) {
			backlog_uncount(backend(proxy), r->size);
			backend(proxy)->dropped[DROP_SHUTDOWN]++;
		}
		set_outstanding(proxy, r, false);
		request_unqueue(&proxy->deliveries, r);
		request_release(&proxy->deliveries, r);
	}
	return true;
}

uint64_t
redeliver_never_sent(const struct proxy *proxy)
{
	return proxy->deliveries.never_sent;
}
