/* SPDX-License-Identifier: MIT */
/*
 * Suspects, workers that did not answer within answer_timeout: they get no requests, except one
 * from time to time to show that they answer again.
 */
#include "base/clock.h"
#include "base/log.h"
#include "broker/backlog.h"
#include "broker/redeliver_impl.h"

enum {
	/* longest pause between two trials of a suspect, unless answer_timeout is longer */
	TRIAL_MS = 60000
};

void
suspect_set(struct proxy *proxy, struct peer *worker, bool suspect)
{
	if (worker->suspect == suspect)
		return;
	worker->suspect = suspect;
	peer_set_service(worker);
	if (suspect) {
		backend(proxy)->suspects++;
		balance_remove(&proxy->balance, worker);
	} else {
		backend(proxy)->suspects--;
		worker->trial = false;
		worker->ledger->pause = 0;
		timer_stop(&worker->ledger->trial);
	}
}

void
suspect_back_in_service(struct proxy *proxy, struct peer *worker)
{
	if (list_linked(&worker->ready) || !conn_is_open(worker->conn))
		return;
	balance_add(&proxy->balance, worker);
	backlog_serve_soon(proxy);
}

void
suspect_reinstate(struct proxy *proxy, struct peer *worker)
{
	if (worker->suspect) {
		suspect_set(proxy, worker, false);
		redeliver_log(worker, "worker_returned", LOG_LEVEL_NOTICE);
	}
	suspect_back_in_service(proxy, worker);
}

/* --- trials --------------------------------------------------------------- */

/* Give up the worker's oldest request, which makes room for another one. */
static void
expire_oldest(struct proxy *proxy, struct peer *worker)
{
	struct delivery *oldest = ledger_oldest(worker->ledger);

	if (oldest == NULL || oldest->number >= sent_to(worker))
		return; /* it is still in the queue: the worker takes no bytes */
	/* the reply is still worth waiting for, or the request is taken back when it is late */
	if (proxy_is_draining(proxy) || request_is_kept(oldest->request))
		return;
	set_outstanding(proxy, oldest->request, false);
	redeliver_tell_client(proxy, oldest->request);
	deliveries_expire(&proxy->deliveries, oldest);
	balance_settled(&proxy->balance, worker);
}

void
suspect_try(struct proxy *proxy, struct peer *worker)
{
	if (!worker->trial || worker->conn->state != CONN_READY)
		return;
	if (worker->outstanding >= proxy->balance.max_outstanding)
		expire_oldest(proxy, worker);
	balance_add(&proxy->balance, worker);
	backlog_serve_soon(proxy);
}

void
suspect_on_trial(struct timer *timer)
{
	struct ledger *h = list_entry(timer, struct ledger, trial);

	h->worker->trial = true;
	suspect_try(h->worker->proxy, h->worker);
}

/* Each pause is longer, because each trial of a worker that hangs costs a request. */
void
suspect_plan_trial(struct proxy *proxy, struct peer *worker)
{
	struct ledger *h = worker->ledger;
	int64_t timeout = options(proxy)->answer_timeout,
		most = timeout > TRIAL_MS ? timeout : TRIAL_MS;

	suspect_try(proxy, worker); /* the request that was given up may have been in the way */
	if (worker->trial || h->trial.due != CLOCK_NEVER)
		return;
	h->pause = h->pause == 0 ? timeout : h->pause * 2;
	if (h->pause > most)
		h->pause = most;
	timer_set(&h->trial, h->pause);
}
