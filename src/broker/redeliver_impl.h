/* SPDX-License-Identifier: MIT */
/*
 * Shared by assign.c, suspect.c, requeue.c and redeliver.c, in this order: no file calls one that
 * comes after it.
 */
#ifndef BULKHEAD_BROKER_REDELIVER_IMPL_H
#define BULKHEAD_BROKER_REDELIVER_IMPL_H

#include "base/log.h"
#include "broker/outstanding.h"
#include "broker/proxy_impl.h"
#include "broker/redeliver.h"

static inline struct counters *
backend(struct proxy *proxy)
{
	return &proxy->counters[PROXY_BACKEND];
}

static inline const struct queue_opts *
options(const struct proxy *proxy)
{
	return &proxy->opts[PROXY_BACKEND].queue;
}

static inline void
set_outstanding(struct proxy *proxy, struct request *r, bool outstanding)
{
	if (outstanding && !r->outstanding)
		outstanding_add(proxy);
	else if (!outstanding && r->outstanding)
		backend(proxy)->outstanding--;
	r->outstanding = outstanding;
}

/* All messages to the worker with numbers below this were sent. */
static inline uint64_t
sent_to(const struct peer *worker)
{
	return worker->conn->messages_out + worker->ledger->gone;
}

/* The number of the next message to the worker. */
static inline uint64_t
next_number(const struct peer *worker)
{
	return conn_next_number(worker->conn) + worker->ledger->gone;
}

/* Tracking ends when no option asks for it any longer and nothing is recorded. */
static inline void
end_tracking(struct proxy *proxy)
{
	const struct deliveries *f = &proxy->deliveries;

	if (proxy->tracking == PROXY_UNTRACKS && f->count == 0 && list_empty(&f->requeued) &&
		f->returns == 0)
		proxy->tracking = PROXY_UNTRACKED;
}

/* The worker no longer holds the request, which is freed with its last delivery. */
static inline void
unassign(struct proxy *proxy, struct delivery *d)
{
	struct peer *worker = d->ledger->worker;

	if (!d->expired)
		balance_settled(&proxy->balance, worker);
	deliveries_remove(&proxy->deliveries, d);
	end_tracking(proxy);
}

/* The request was not sent after all. */
static inline void
undo_assign(struct proxy *proxy, struct delivery *d)
{
	set_outstanding(proxy, d->request, false);
	unassign(proxy, d);
}

/* Return the end, for has_time, of a slice that begins now. */
static inline uint32_t
end_of_slice(const struct proxy *proxy)
{
	return proxy->loop->spent + proxy->loop->limits.side;
}

/* --- assign.c ------------------------------------------------------------- */

/* Is there time for one more message in the slice up to `end`? If so, its cost is counted. */
bool has_time(struct proxy *proxy, uint32_t end);

/* Log an event about a worker, with its outstanding and expired requests. */
void redeliver_log(const struct peer *worker, const char *event, enum log_level level);

/* No reply to the request will come: a client that drains need not be kept for it. */
void redeliver_tell_client(struct proxy *proxy, const struct request *request);

/*
 * The worker closed, or is late: the request waits for another worker, or is discarded. `sent`: the
 * worker had all of it; `blame`: the request may have been the cause. The delivery stays.
 */
void redeliver_requeue(struct proxy *proxy, struct delivery *delivery, bool sent, bool blame);

/* A worker from which the request was taken back replied: take it out of `requeued`. */
void redeliver_cancel(struct proxy *proxy, struct request *request);

/* --- suspect.c ------------------------------------------------------------ */

/* Mark a worker that let answer_timeout pass as suspect, or end that. */
void suspect_set(struct proxy *proxy, struct peer *worker, bool suspect);

/* Let the worker have requests again, if max_outstanding was all that prevented it. */
void suspect_back_in_service(struct proxy *proxy, struct peer *worker);

/* The worker answered a request: it is no longer suspect. */
void suspect_reinstate(struct proxy *proxy, struct peer *worker);

/* Let a suspect that takes bytes have one request, if a trial is due; otherwise do nothing. */
void suspect_try(struct proxy *proxy, struct peer *worker);

/* Plan the next trial of a suspect. */
void suspect_plan_trial(struct proxy *proxy, struct peer *worker);

/* Callback of ledger->trial: a trial is due. */
void suspect_on_trial(struct timer *timer);

/* --- requeue.c ------------------------------------------------------------ */

/* Callback of ledger->timer: answer_timeout may have passed. */
void requeue_on_due(struct timer *timer);

#endif
