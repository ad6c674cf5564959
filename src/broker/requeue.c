/* SPDX-License-Identifier: MIT */
/*
 * A worker may hold millions of requests. When they are to be taken back, or forgotten, that is
 * done in slices: one at once, the others in the RESUME phase of the next turns. It can be for
 * several reasons at a time:
 *
 *   closed      all of it comes back; conn.c calls once a turn
 *   rerouting   it stalled, or cannot be written to: what is in its queue comes back
 *   late        answer_timeout passed: what it had comes back, and what was cut out of its queue
 *   forgetting  no replies are expected any more
 *
 * Except for the last, newer requests wait until all of it is in `again` (inflight->returns), so
 * that none overtakes, and the worker gets no more meanwhile (peer->returning), so that the numbers
 * of what is cut remain those that nobody was sent.
 */
#include <assert.h>

#include "base/clock.h"
#include "base/log.h"
#include "broker/redeliver_impl.h"

enum {
	/* A worker that lets so many pass unanswered costs too much memory: its late replies have
	 * to be known. */
	LAPSED_MAX = 1 << 18,
	LOOKS = 16 /* at deliveries, which cost as much as a message */
};

/* Newer requests wait from now on, and it gets none: it may have been on trial for one. */
static void
begin_return(struct proxy *proxy, struct peer *worker)
{
	if (worker->returning)
		return;
	worker->returning = true;
	balance_remove(&proxy->balance, worker);
	proxy->inflight.returns++;
}

/* All that comes back is in `again`. */
static void
end_return(struct proxy *proxy, struct peer *worker)
{
	if (!worker->returning)
		return;
	worker->returning = false;
	proxy->inflight.returns--;
	end_tracking(proxy);
	proxy_serve_soon(proxy); /* its queue may be empty: nobody else would wake us */
}

/* The first one may be the cause; those after it only where it is known not to work in order. */
static void
take_back_sent(struct proxy *proxy, struct delivery *d)
{
	struct holder *h = d->holder;

	redeliver_requeue(proxy, d, true, h->parallel || !h->blamed);
	h->blamed = true;
}

static bool
is_cut(const struct delivery *d)
{
	return d->number >= d->holder->cut_from;
}

/* It counts as queued, and is in no queue. */
static void
take_back_cut(struct proxy *proxy, struct delivery *d)
{
	struct holder *h = d->holder;

	uncount_waiting(backend(proxy), d->request->size);
	h->cut--;
	proxy->inflight.never_sent--;
	h->worker->conn->rerouted++;
	redeliver_requeue(proxy, d, false, false);
	ungive(proxy, d);
}

/* --- its queue goes to others --------------------------------------------- */

static void
end_rerouting(struct holder *h)
{
	h->rerouting = false;
	h->next = NULL;
}

static bool
front_expects_reply(const struct peer *worker)
{
	struct message m = outq_as_message(&worker->conn->out);

	return expects_reply(worker, &m);
}

/* From the end of what it holds back to what is first in its queue. False: not yet. */
static bool
find_queued(struct proxy *proxy, struct holder *h, uint32_t end)
{
	uint64_t sent = sent_to(h->worker);

	for (unsigned i = 0;; i++, h->next = h->next->prev) {
		if (h->next->prev == &h->held ||
			list_entry(h->next->prev, struct delivery, node)->number < sent)
			return true;
		if (i % LOOKS == 0 && !has_time(proxy, end))
			return false;
	}
}

/* The first message of its queue; NULL: it lapsed, or was given before there were books. */
static struct delivery *
delivery_of_front(const struct holder *h)
{
	struct delivery *d;

	if (h->next == &h->held)
		return NULL;
	d = list_entry(h->next, struct delivery, node);
	return d->number == sent_to(h->worker) ? d : NULL;
}

/* False: no memory. */
static bool
reroute_front(struct proxy *proxy, struct holder *h)
{
	struct peer *worker = h->worker;
	struct conn *conn = worker->conn;
	struct delivery *d = delivery_of_front(h);
	/* the one that could not be written to its end may be what its path does not carry */
	bool cut = h->first && poison_is_poisoned(&conn->guard), counts;

	h->first = false;
	if (d != NULL && (d->request->answered || request_is_kept(d->request))) {
		conn_drop(conn);
		conn->rerouted++;
		h->gone++;
		redeliver_requeue(proxy, d, false, cut);
		ungive(proxy, d);
		return true;
	}
	counts = d != NULL || front_expects_reply(worker);
	if (!proxy_reroute_one(proxy, worker))
		return false;
	h->gone++;
	if (d != NULL) {
		take_again(proxy, d);
	} else if (counts && h->untracked > 0) {
		h->untracked--;
		settle_one(proxy, worker);
	}
	return true;
}

/* True: that is all, or there is no memory for more. */
static bool
reroute_slice(struct proxy *proxy, struct holder *h, uint32_t end)
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
struct booked {
	uint64_t count, bytes;
};

static struct booked
look_for_booked(const struct holder *h, uint64_t from)
{
	struct booked booked = {0};

	for (const struct list *node = h->held.prev; node != &h->held; node = node->prev) {
		const struct delivery *d = list_entry(node, struct delivery, node);

		if (d->number < from)
			break;
		booked.count++;
		booked.bytes += d->request->size;
	}
	return booked;
}

/* Is there a delivery for each message of its queue? */
static bool
all_are_booked(const struct peer *worker)
{
	return worker->holder->untracked == 0 && !worker->uncounted;
}

/*
 * Can all that is queued be dropped, since it is kept, or was answered by another worker? Where
 * there are others among it, these are what a REP would throw away, or from before there were
 * books.
 */
static bool
may_cut(const struct peer *worker)
{
	const struct holder *h = worker->holder;
	uint64_t sent = sent_to(worker);

	if (h->unkept_to > sent)
		return false;
	if (all_are_booked(worker) ||
		(worker->answers == PEER_ANSWERS_DELIMITED && h->untracked == 0))
		return true;
	return look_for_booked(h, sent).count == worker->conn->out.messages;
}

/* But for a message that is partly out, which is send_timeout's to cancel. */
static void
cut_queue(struct proxy *proxy, struct peer *worker)
{
	struct counters *c = backend(proxy);
	struct holder *h = worker->holder;
	uint64_t bytes = c->queued_bytes, cut = may_cut(worker) ? conn_cut(worker->conn) : 0;
	struct booked booked = {cut, bytes - c->queued_bytes};

	if (cut == 0)
		return;
	h->cut_from = next_number(worker);
	if (!all_are_booked(worker))
		booked = look_for_booked(h, h->cut_from);
	h->cut = booked.count;
	proxy->inflight.never_sent += booked.count;
	c->queued += booked.count;
	c->queued_bytes += booked.bytes;
	c->dropped[DROP_MALFORMED] += cut - booked.count;
	worker->conn->dropped += cut - booked.count;
}

/*
 * Nobody waits any longer for that. Of what it had, one that works in order can only hang in the
 * oldest.
 */
static void
give_up(struct proxy *proxy, struct delivery *d)
{
	struct peer *worker = d->holder->worker;

	if (!d->request->answered && !request_is_kept(d->request))
		return; /* nobody else can have it */
	take_back_sent(proxy, d);
	inflight_lapse(&proxy->inflight, d);
	balance_settled(&proxy->balance, worker);
}

/* It takes messages again: what is left in its queue stays there. */
static void
stop_rerouting(struct proxy *proxy, struct peer *worker)
{
	struct holder *h = worker->holder;

	if (h->late) { /* it has not begun */
		h->rerouting = false;
		return;
	}
	end_rerouting(h);
	end_return(proxy, worker);
	if (!h->forgetting)
		list_remove(&h->node);
}

/* A suspect of which all was taken back before it left has nothing to answer. */
void
flight_has_room(struct proxy *proxy, struct peer *worker)
{
	const struct holder *h = worker->holder;

	if (h->rerouting && worker->conn->state == CONN_READY && !worker->conn->write_broken)
		stop_rerouting(proxy, worker);
	if (worker->suspect && list_empty(&h->held) && list_empty(&h->lapsed))
		suspect_reinstate(proxy, worker);
	else
		suspect_try(proxy, worker);
}

/* It is known what it holds now. */
static void
end_late(struct proxy *proxy, struct peer *worker)
{
	struct holder *h = worker->holder;
	int64_t timeout = options(proxy)->answer_timeout;

	h->late = false;
	h->next = NULL;
	h->cut_from = UINT64_MAX;
	if (!h->rerouting)
		end_return(proxy, worker);
	if (holder_oldest(h) != NULL && timeout > 0)
		timer_set(&h->timer, timeout);
	else
		timer_stop(&h->timer);
	if (!worker->suspect)
		suspect_back_in_service(proxy, worker); /* it answered meanwhile */
	else if (!worker->conn->was_full && conn_is_open(worker->conn))
		flight_has_room(proxy, worker); /* nobody would tell */
	if (worker->suspect)
		suspect_plan_trial(proxy, worker);
	if (h->lapsed_count > LAPSED_MAX)
		conn_close(
			worker->conn, CLOSE_OVER_LIMIT, "too many requests that it did not answer");
	proxy_serve_soon(proxy);
}

/* True: that is all. */
static bool
late_slice(struct proxy *proxy, struct holder *h, uint32_t end)
{
	while (h->next != &h->held) {
		struct delivery *d = list_entry(h->next, struct delivery, node);

		if (d->number >= h->had && h->cut == 0)
			break;
		if (!has_time(proxy, end))
			return false;
		h->next = d->node.next;
		if (is_cut(d))
			take_back_cut(proxy, d);
		else if (d->number < h->had)
			give_up(proxy, d);
	}
	end_late(proxy, h->worker);
	return true;
}

/* --- forgotten ------------------------------------------------------------ */

/* No reply to it is expected of the worker any more. */
static void
forgo(struct proxy *proxy, struct request *r)
{
	if (r->answered || r->waiting)
		return;
	set_outstanding(proxy, r, false);
	redeliver_tell_client(proxy, r);
}

/* True: that is all. */
static bool
forget_slice(struct proxy *proxy, struct holder *h, uint32_t end)
{
	const struct list *lists[] = {&h->held, &h->lapsed};

	for (int i = 0; i < 2; i++) {
		while (!list_empty(lists[i])) {
			struct delivery *d = list_entry(lists[i]->next, struct delivery, node);

			if (d->number >= h->forget_to)
				break;
			if (!has_time(proxy, end))
				return false;
			if (is_cut(d)) {
				take_back_cut(proxy, d);
				continue;
			}
			if (!d->lapsed)
				forgo(proxy, d->request);
			ungive(proxy, d);
		}
	}
	h->forgetting = false;
	return true;
}

/* --- all of that ---------------------------------------------------------- */

/*
 * True: there is nothing left to do. Each may find that the one before it has begun to wait for it.
 */
static bool
take_slice(struct proxy *proxy, struct holder *h, uint32_t end)
{
	if (h->forgetting && !forget_slice(proxy, h, end))
		return false;
	if (h->late && !late_slice(proxy, h, end))
		return false;
	if (!h->rerouting)
		return true;
	if (h->next == NULL)
		h->next = &h->held;
	if (!reroute_slice(proxy, h, end))
		return false;
	end_return(proxy, h->worker);
	return true;
}

/* One slice for all that have something to do. */
static void
go_on(struct proxy *proxy)
{
	struct list *returning = &proxy->inflight.returning;
	uint32_t end = end_of_slice(proxy);

	while (!list_empty(returning)) {
		struct holder *h = list_entry(returning->next, struct holder, node);

		if (!take_slice(proxy, h, end)) {
			loop_defer(proxy->loop, LOOP_RESUME, &proxy->return_task);
			proxy_serve_soon(proxy);
			return;
		}
		list_remove(&h->node);
	}
}

void
flight_task_cb(struct task *task)
{
	go_on(list_entry(&task->node, struct proxy, return_task.node));
}

static void
start(struct proxy *proxy, struct holder *h)
{
	if (!list_linked(&h->node))
		list_push(&proxy->inflight.returning, &h->node);
	go_on(proxy);
}

/*
 * With redeliver what the worker holds goes to others. What is in its queue goes as well, but for a
 * message that is partly out.
 */
static void
give_up_on(struct proxy *proxy, struct peer *worker)
{
	struct holder *h = worker->holder;

	begin_return(proxy, worker);
	balance_remove(&proxy->balance, worker); /* it may be on trial */
	cut_queue(proxy, worker);
	h->late = true;
	h->blamed = false;
	h->had = sent_to(worker);
	h->next = h->held.next;
	timer_set(&h->timer, options(proxy)->answer_timeout);
	start(proxy, h);
}

void
requeue_on_due(struct timer *timer)
{
	struct holder *h = list_entry(timer, struct holder, timer);
	struct peer *worker = h->worker;
	struct proxy *proxy = worker->proxy;
	const struct delivery *oldest = holder_oldest(h);
	int64_t timeout = options(proxy)->answer_timeout, now = loop_now(proxy->loop);

	if (timeout == 0 || !conn_is_open(worker->conn))
		return;
	if (list_linked(&h->node)) { /* not before it is known what it holds */
		timer_set(timer, 1);
		return;
	}
	if (oldest == NULL) {
		if (worker->suspect) /* what it had on trial was taken back */
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
	give_up_on(proxy, worker);
}

void
flight_reroute(struct proxy *proxy, struct peer *worker)
{
	struct holder *h = worker->holder;

	begin_return(proxy, worker);
	h->first |= !h->rerouting;
	h->rerouting = true;
	start(proxy, h);
}

/* --- closed --------------------------------------------------------------- */

/* What it had, oldest first: that comes before what it did not have yet. True: that is all. */
static bool
take_back_slice(struct proxy *proxy, struct holder *h, uint32_t end)
{
	struct peer *worker = h->worker;
	struct delivery *d;

	while ((d = holder_oldest(h)) != NULL && d->number < sent_to(worker)) {
		if (!has_time(proxy, end))
			return false;
		take_back_sent(proxy, d);
		ungive(proxy, d);
	}
	balance_remove(&proxy->balance, worker);
	h->next = h->held.next;
	if (!reroute_slice(proxy, h, end))
		return false;
	while ((d = holder_oldest(h)) != NULL && is_cut(d)) {
		if (!has_time(proxy, end))
			return false;
		take_back_cut(proxy, d);
	}
	return true;
}

bool
flight_take_back(struct proxy *proxy, struct peer *worker)
{
	struct holder *h = worker->holder;
	uint32_t end = end_of_slice(proxy);
	bool done;

	if (!h->closed) {
		timer_stop(&h->timer);
		timer_stop(&h->trial);
		list_remove(&h->node);
		begin_return(proxy, worker);
		h->blamed = h->blamed && h->late;
		h->first |= !h->rerouting;
		h->late = h->rerouting = false;
		h->closed = true;
	}
	done = (!h->forgetting || forget_slice(proxy, h, end)) && take_back_slice(proxy, h, end);
	if (done)
		end_return(proxy, worker);
	else
		proxy_serve_soon(proxy);
	return done;
}

bool
flight_forget(struct proxy *proxy, struct peer *worker)
{
	struct holder *h = worker->holder;

	list_remove(&h->node);
	h->forget_to = UINT64_MAX;
	return forget_slice(proxy, h, end_of_slice(proxy));
}

void
flight_forget_replies(struct proxy *proxy, struct peer *worker)
{
	struct holder *h = worker->holder;

	h->untracked = 0;
	if (list_empty(&h->held) && list_empty(&h->lapsed))
		return;
	h->forget_to = next_number(worker);
	if (!list_empty(&h->held) &&
		list_entry(h->held.prev, struct delivery, node)->number >= h->forget_to)
		h->forget_to = list_entry(h->held.prev, struct delivery, node)->number + 1;
	h->forgetting = true;
	start(proxy, h);
}

void
flight_end(struct proxy *proxy, struct peer *worker)
{
	struct holder *h = worker->holder;

	end_return(proxy, worker);
	if (!proxy->tracking)
		h->untracked = worker->outstanding;
	balance_remove(&proxy->balance, worker);
	backend(proxy)->outstanding -= h->untracked;
	proxy->drain_given_up += proxy->draining ? h->untracked : 0;
	worker->outstanding -= h->untracked;
	suspect_set(proxy, worker, false);
	holder_free(h);
	worker->holder = NULL;
}
