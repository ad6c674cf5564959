/* SPDX-License-Identifier: MIT */
/*
 * What assign.c, suspect.c, requeue.c and redeliver.c share, in this order: none calls one that
 * comes after it.
 */
#ifndef BULKHEAD_BROKER_REDELIVER_IMPL_H
#define BULKHEAD_BROKER_REDELIVER_IMPL_H

#include "base/log.h"
#include "broker/proxy_impl.h"
#include "broker/redeliver.h"

static inline struct counters *
backend(struct proxy *proxy)
{
	return &proxy->counters[PROXY_BACKEND];
}

static inline const struct side_opts *
options(const struct proxy *proxy)
{
	return &proxy->opts[PROXY_BACKEND];
}

static inline void
set_outstanding(struct proxy *proxy, struct request *r, bool outstanding)
{
	if (outstanding && !r->outstanding)
		count_outstanding(proxy);
	else if (!outstanding && r->outstanding)
		backend(proxy)->outstanding--;
	r->outstanding = outstanding;
}

/* The worker's messages with lower numbers were sent. */
static inline uint64_t
sent_to(const struct peer *worker)
{
	return worker->conn->messages_out + worker->ledger->gone;
}

static inline uint64_t
next_number(const struct peer *worker)
{
	return conn_next_number(worker->conn) + worker->ledger->gone;
}

/* The books are closed when they are not asked for any more and nothing is in them. */
static inline void
end_tracking(struct proxy *proxy)
{
	const struct deliveries *f = &proxy->deliveries;

	if (!proxy->track && f->count == 0 && list_empty(&f->requeued) && f->returns == 0)
		proxy->tracking = false;
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

/* It was not sent after all. */
static inline void
undo_assign(struct proxy *proxy, struct delivery *d)
{
	set_outstanding(proxy, d->request, false);
	unassign(proxy, d);
}

/* The end of a slice that begins now, as has_time takes it. */
static inline uint32_t
end_of_slice(const struct proxy *proxy)
{
	return proxy->loop->spent + proxy->loop->limits.side;
}

/* --- assign.c ------------------------------------------------------------- */

/* Is there time for one more message in the slice? If so, its cost is counted. */
bool has_time(struct proxy *proxy, uint32_t end);

/* A line in the log about a worker, with what it holds. */
void redeliver_log(const struct peer *worker, const char *event, enum log_level level);

/* Nobody will answer the request: its client need not be waited for, if it is to leave. */
void redeliver_tell_client(struct proxy *proxy, const struct request *request);

/*
 * The worker closed, or is late: the request waits for another one, or is discarded. `sent`: the
 * worker had all of it; `blame`: the request may have been the cause. The delivery stays.
 */
void redeliver_requeue(struct proxy *proxy, struct delivery *delivery, bool sent, bool blame);

/* A reply came from a worker that the request was taken back from: it waits for nobody any more. */
void redeliver_cancel(struct proxy *proxy, struct request *request);

/* --- suspect.c ------------------------------------------------------------ */

/* The worker let answer_timeout pass; or that is over. */
void suspect_set(struct proxy *proxy, struct peer *worker, bool suspect);

/* The worker may have room again, if only one of its requests was in the way. */
void suspect_back_in_service(struct proxy *proxy, struct peer *worker);

/* The worker answered something: it is trusted again. */
void suspect_reinstate(struct proxy *proxy, struct peer *worker);

/* A suspect that takes bytes gets one request, if it is time for a trial; otherwise nothing. */
void suspect_try(struct proxy *proxy, struct peer *worker);

/* Plan the next trial of a suspect. */
void suspect_plan_trial(struct proxy *proxy, struct peer *worker);

/* The timer of a trial. */
void suspect_on_trial(struct timer *timer);

/* --- requeue.c ------------------------------------------------------------ */

/* The timer of answer_timeout. */
void requeue_on_due(struct timer *timer);

#endif
