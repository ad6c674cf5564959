/* SPDX-License-Identifier: MIT */
/*
 * No request is lost with its worker: which worker is given a request again, which worker is not
 * trusted with more, which replies pass. deliveries.h keeps the records.
 *
 * All of this is for proxies that track (proxy->tracking): redeliver, max_outstanding or
 * answer_timeout is set. Other proxies only count requests and replies, except when a queue has to
 * be searched: that is done in slices here, too.
 *
 *   given --reply--> answered
 *   given --worker closed, or late by answer_timeout--> `requeued` --> given to another worker
 *   given --the same, redeliver_limit times, or its client gone--> dropped
 */
#ifndef BULKHEAD_BROKER_REDELIVER_H
#define BULKHEAD_BROKER_REDELIVER_H

#include "broker/proxy.h"

/* Apply the backend's options, new or changed, to all workers. */
void redeliver_configure(struct proxy *proxy);

/* Call when a worker is ready: it gets a ledger if the proxy tracks. False: no memory. */
bool redeliver_open(struct proxy *proxy, struct peer *worker);

/*
 * Give a ledger to a worker whose requests are only counted, because its queue is to be searched
 * for these: redeliver_reroute and redeliver_requeue_all may be called from now on. False: no
 * memory.
 */
bool redeliver_open_untracked(struct proxy *proxy, struct peer *worker);

/*
 * The worker is closed: take back the requests that it had and did not answer, then those in its
 * queue, including a partly written message; then forget the rest; then end. The first two work in
 * slices. False: a slice is done, and there is more.
 */
bool redeliver_requeue_all(struct proxy *proxy, struct peer *worker);
bool redeliver_forget(struct proxy *proxy, struct peer *worker);
void redeliver_end(struct proxy *proxy, struct peer *worker);

/* No replies are expected any longer: forget the worker's deliveries, if many, in slices. */
void redeliver_forget_replies(struct proxy *proxy, struct peer *worker);

/*
 * The worker stalled, or cannot be written to: take back the requests in its queue, including a
 * partly written message; if many, in slices, until the worker has room again.
 */
void redeliver_reroute(struct proxy *proxy, struct peer *worker);

/* Callback of proxy->return_task: does the next slice. */
void redeliver_task_cb(struct task *task);

/*
 * Give a worker that has room the message of `client`, or the first message of `from`. False: no
 * memory; the message was not given.
 */
bool redeliver_send(struct proxy *proxy, struct peer *worker, const struct peer *client,
	struct message *message);
bool redeliver_send_from(struct proxy *proxy, struct peer *worker, struct outq *from);

/* The result of redeliver_serve. */
enum redeliver_served {
	REDELIVER_SERVED, /* given to a worker, or dropped: go on with the next request */
	REDELIVER_WAITS,  /* no worker has room */
	REDELIVER_NO_MEMORY
};
/* Give the first request in `requeued`, which must not be empty; adds the bytes sent to *bytes. */
enum redeliver_served redeliver_serve(struct proxy *proxy, uint64_t *bytes);

/* Call when the worker has room again, or was resumed. */
void redeliver_on_room(struct proxy *proxy, struct peer *worker);

/*
 * Record a reply from the worker; `known`: its client is connected. True: the reply must not pass,
 * as its request was answered before, or, with redeliver, there is no such request.
 */
bool redeliver_settle(
	struct proxy *proxy, struct peer *worker, const struct message *message, bool known);

/*
 * Return about how many bytes the worker's ledger holds only for late replies that were due by
 * `now_ms` - `grace` (ms). Closing the worker frees them.
 */
uint64_t redeliver_expired_bytes(const struct peer *worker, int64_t now_ms, int64_t grace);

/*
 * Drop requests in `requeued` whose client is gone, without waiting for a worker to have room.
 * False: a slice is done, and there is more.
 */
bool redeliver_discard_gone(struct proxy *proxy);

/* At the end, drop all requests in `requeued` as `shutdown`. False: there is more to do. */
bool redeliver_discard_all(struct proxy *proxy);

/*
 * Return the number of requests in `requeued`, or about to be, that no worker ever had all of; the
 * others count as outstanding.
 */
uint64_t redeliver_never_sent(const struct proxy *proxy);

#endif
