/* SPDX-License-Identifier: MIT */
/*
 * No request lost with its worker: who is given a request again, which worker is
 * not to be trusted with more, which replies pass. The books are deliveries.h's.
 *
 * All of it is for proxies that track (proxy->tracking): redeliver, max_outstanding or
 * answer_timeout is set. The others count requests and replies and look no further, but where a
 * queue has to be looked through: that is done in slices here, too.
 *
 *   given --reply--> answered
 *   given --worker closed, or late by answer_timeout--> `requeued` --> given to another
 *   given --the same, redeliver_limit times, or its client gone--> dropped
 */
#ifndef BULKHEAD_BROKER_REDELIVER_H
#define BULKHEAD_BROKER_REDELIVER_H

#include "broker/proxy.h"

/* The options of the backend changed, or are new: take them into account for all workers. */
void redeliver_configure(struct proxy *proxy);

/* A worker is ready. False: no memory. */
bool redeliver_open(struct proxy *proxy, struct peer *worker);

/*
 * Its requests are only counted, and its queue is to be looked through for those that count:
 * redeliver_reroute and redeliver_requeue_all may be called for it from now on. False: no memory.
 */
bool redeliver_open_without_books(struct proxy *proxy, struct peer *worker);

/*
 * It is closed: take back what it had and did not answer, and then what is still in its queue, the
 * one that was cut included; forget the rest; redeliver_end is the last. The first two are done in
 * slices. False: that was one, and there is more.
 */
bool redeliver_requeue_all(struct proxy *proxy, struct peer *worker);
bool redeliver_forget(struct proxy *proxy, struct peer *worker);
void redeliver_end(struct proxy *proxy, struct peer *worker);

/* No replies are expected any more: forget what the worker was given; what is much, in slices. */
void redeliver_forget_replies(struct proxy *proxy, struct peer *worker);

/*
 * It stalled, or cannot be written to: take back what is queued for it, the one that was cut
 * included. What is much goes in slices, until it has room again.
 */
void redeliver_reroute(struct proxy *proxy, struct peer *worker);

/* The next slice: of proxy->return_task. */
void redeliver_task_cb(struct task *task);

/*
 * Give a worker that has room the message of `client`, or the first one of `from`. False: no
 * memory; the message was not given.
 */
bool redeliver_send(struct proxy *proxy, struct peer *worker, const struct peer *client,
	struct message *message);
bool redeliver_send_from(struct proxy *proxy, struct peer *worker, struct outq *from);

/* What became of the first request that waits in `requeued`. */
enum redeliver_served {
	REDELIVER_SERVED, /* given to a worker, or dropped: look at the next */
	REDELIVER_WAITS,  /* no worker has room */
	REDELIVER_NO_MEMORY
};
enum redeliver_served redeliver_serve(struct proxy *proxy, uint64_t *bytes);

/* The worker has room again, or was resumed. */
void redeliver_has_room(struct proxy *proxy, struct peer *worker);

/*
 * A reply came from the worker; `known`: its client is there. True when it must not pass: the
 * request was answered before, or, with redeliver, never asked for.
 */
bool redeliver_settle(
	struct proxy *proxy, struct peer *worker, const struct message *message, bool known);

/*
 * About how many bytes the worker's books hold for nothing but late replies that should have come
 * by `now` - `grace` (ms). Closing it frees them.
 */
uint64_t redeliver_expired_bytes(const struct peer *worker, int64_t now, int64_t grace);

/*
 * Drop what waits in `requeued` and whose client is gone, without waiting for a worker to have
 * room. False: that was a slice of it.
 */
bool redeliver_discard_gone(struct proxy *proxy);

/* The end: drop what waits in `requeued` as `shutdown`. False: that was a slice of it. */
bool redeliver_discard_all(struct proxy *proxy);

/*
 * Requests in `requeued`, or about to be, that no worker ever had; the others count as outstanding.
 */
uint64_t redeliver_never_sent(const struct proxy *proxy);

#endif
