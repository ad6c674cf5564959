/* SPDX-License-Identifier: MIT */
#include "broker/redeliver.h"

#include "base/clock.h"
#include "broker/backlog.h"
#include "broker/outstanding.h"
#include "broker/redeliver_impl.h"
#include "broker/replies.h"

static void
answered_by(struct proxy *proxy, struct delivery *d)
{
	if (!d->expired)
		deliveries_replied(&proxy->deliveries, loop_now(proxy->loop) - d->given);
	if (!d->expired && d != ledger_oldest(d->ledger))
		d->ledger->parallel = true;
}

bool
redeliver_settle(struct proxy *proxy, struct peer *worker, const struct message *m, bool known)
{
	struct delivery *d = deliveries_match(&proxy->deliveries, worker->ledger, m);
	bool late = false;

	proxy->loop->units += BUDGET_TRACK;
	if (d != NULL && d->number >= sent_to(worker))
		d = NULL; /* not sent yet: this is one more reply to an answered request */
	if (d != NULL) {
		struct request *r = d->request;

		late = r->answered;
		if (!late && d->expired && !request_is_kept(r))
			replies_expect(proxy, m); /* its client was told that no reply will come */
		answered_by(proxy, d);
		if (!late) {
			r->answered = true;
			proxy->drain_answered += proxy_is_draining(proxy) && r->outstanding;
			set_outstanding(proxy, r, false);
			if (r->waiting)
				redeliver_cancel(proxy, r);
			request_drop_bytes(&proxy->deliveries, r);
		}
		unassign(proxy, d);
	} else if (worker->ledger->counted > 0) {
		worker->ledger->counted--;
		outstanding_settle(proxy, worker);
		proxy->drain_answered += proxy_is_draining(proxy);
	} else if (known && options(proxy)->redeliver) {
		return true;
	} else {
		replies_expect(proxy, m);
		return false;
	}
	suspect_reinstate(proxy, worker);
	if (late && worker->ledger->forgetting) { /* the request counts as forgotten already */
		replies_expect(proxy, m);
		return false;
	}
	return late;
}

bool
redeliver_open_untracked(struct proxy *proxy, struct peer *worker)
{
	if (worker->ledger == NULL)
		worker->ledger = ledger_new(worker, proxy->loop, requeue_on_due, suspect_on_trial);
	if (worker->ledger != NULL)
		worker->ledger->counted = worker->outstanding;
	return worker->ledger != NULL;
}

bool
redeliver_open(struct proxy *proxy, struct peer *worker)
{
	return !proxy->tracking || worker->ledger != NULL ||
		redeliver_open_untracked(proxy, worker);
}

uint64_t
redeliver_expired_bytes(const struct peer *worker, int64_t now_ms, int64_t grace)
{
	const struct proxy *proxy = worker->proxy;
	const struct ledger *h = worker->ledger;
	uint64_t waiting = proxy->deliveries.requeued_count; /* these are not freed */
	const struct delivery *oldest;

	if (h == NULL || h->expired_count <= waiting)
		return 0;
	oldest = list_entry(h->expired.next, struct delivery, node);
	if (now_ms - oldest->given < options(proxy)->answer_timeout + grace)
		return 0;
	return (h->expired_count - waiting) * sizeof(struct request);
}

/* --- options -------------------------------------------------------------- */

static void
configure_worker(struct proxy *proxy, struct peer *worker, bool begins)
{
	struct ledger *h;
	int64_t timeout = options(proxy)->answer_timeout;

	if (!redeliver_open(proxy, worker)) {
		conn_close(worker->conn, CLOSE_NO_MEMORY, NULL);
		return;
	}
	h = worker->ledger;
	if (h == NULL)
		return;
	if (begins)
		h->counted = worker->outstanding;
	timer_stop(&h->timer);
	if (timeout == 0)
		suspect_set(proxy, worker, false);
	else if (ledger_oldest(h) != NULL)
		timer_set(&h->timer, timeout);
}

void
redeliver_configure(struct proxy *proxy)
{
	const struct queue_opts *o = options(proxy);
	bool least = o->balance == BALANCE_LEAST_OUTSTANDING, before = proxy->tracking;
	bool some = proxy->deliveries.count > 0 || !list_empty(&proxy->deliveries.requeued) ||
		(before && proxy->deliveries.returns > 0);

	proxy->tracking = o->redeliver || o->max_outstanding > 0 || o->answer_timeout > 0
		? PROXY_TRACKS
		: some ? PROXY_UNTRACKS
		       : PROXY_UNTRACKED;
	list_each(node, tmp, &proxy->side[PROXY_BACKEND].conns) {
		struct peer *worker = list_entry(node, struct conn, node)->peer;
		if (worker == NULL)
			continue;
		balance_remove(&proxy->balance, worker);
		configure_worker(proxy, worker, !before && proxy->tracking);
	}
	proxy->balance.least = least;
	proxy->balance.max_outstanding =
		o->max_outstanding > 0 ? (uint64_t)o->max_outstanding : UINT64_MAX;
	list_each(node, tmp, &proxy->side[PROXY_BACKEND].conns) {
		struct conn *conn = list_entry(node, struct conn, node);
		if (conn->peer != NULL && conn->state == CONN_READY)
			balance_add(&proxy->balance, conn->peer);
	}
	backlog_serve_soon(proxy);
}
