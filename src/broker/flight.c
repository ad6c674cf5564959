/* SPDX-License-Identifier: MIT */
#include "broker/flight.h"

#include <assert.h>
#include <inttypes.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/log.h"
#include "broker/proxy_impl.h"

enum {
	/*
	 * Deliveries in a row that a request is not to blame for are no reason to drop it, but
	 * there is an end to that: so many times redeliver_limit.
	 */
	BLAMELESS = 10,
	/* A worker that lets so many pass unanswered costs too much memory: its late replies
	 * have to be known. */
	LAPSED_MAX = 1 << 18,
	LOOKS = 16, /* at deliveries, which cost as much as a message */
	TRIAL_MS =
		60000 /* between two trials of a suspect at most, if answer_timeout is not more */
};

static struct counters *
backend(struct proxy *proxy)
{
	return &proxy->counters[PROXY_BACKEND];
}

static const struct side_opts *
options(const struct proxy *proxy)
{
	return &proxy->opts[PROXY_BACKEND];
}

static void
set_outstanding(struct proxy *proxy, struct request *r, bool outstanding)
{
	if (outstanding && !r->outstanding)
		count_outstanding(proxy);
	else if (!outstanding && r->outstanding)
		backend(proxy)->outstanding--;
	r->outstanding = outstanding;
}

static void
log_worker(const struct peer *worker, const char *event, enum log_level level)
{
	const struct conn *conn = worker->conn;

	log_event(level, event,
		"proxy=%s side=%s peer=%" PRIu64 " address=%s outstanding=%" PRIu64
		" lapsed=%" PRIu32,
		conn->side->proxy_name, conn->side->name, conn->id, conn->address,
		worker->outstanding, worker->holder->lapsed_count);
}

/* --- giving --------------------------------------------------------------- */

/* The one request that a suspect may have is there: no more until it answers. */
static void
end_trial(struct proxy *proxy, struct peer *worker)
{
	worker->trial = false;
	balance_remove(&proxy->balance, worker);
	log_worker(worker, "worker_trial", LOG_LEVEL_INFO);
}

/* Its messages with lower numbers were sent. */
static uint64_t
sent_to(const struct peer *worker)
{
	return worker->conn->messages_out + worker->holder->gone;
}

static uint64_t
next_number(const struct peer *worker)
{
	return conn_next_number(worker->conn) + worker->holder->gone;
}

/* Before the message is queued, so that it is not sent when there is no memory for the books. */
static struct delivery *
give(struct proxy *proxy, struct peer *worker, struct request *r)
{
	struct holder *h = worker->holder;
	int64_t timeout = options(proxy)->answer_timeout;
	struct delivery *d =
		inflight_give(&proxy->inflight, h, r, next_number(worker), loop_now(proxy->loop));

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

static inline void
end_tracking(struct proxy *proxy)
{
	const struct inflight *f = &proxy->inflight;

	if (!proxy->track && f->count == 0 && list_empty(&f->again) && f->returns == 0)
		proxy->tracking = false;
}

/* The worker holds it no more. The request is freed when this was all that it was known by. */
static void
ungive(struct proxy *proxy, struct delivery *d)
{
	struct peer *worker = d->holder->worker;

	if (!d->lapsed)
		balance_settled(&proxy->balance, worker);
	inflight_forget(&proxy->inflight, d);
	end_tracking(proxy);
}

static void
take_again(struct proxy *proxy, struct delivery *d)
{
	set_outstanding(proxy, d->request, false);
	ungive(proxy, d);
}

/* Enters a new request, if there is one; without memory it is freed. */
static struct delivery *
give_first(struct proxy *proxy, struct peer *worker, struct request *r)
{
	struct delivery *d = r != NULL ? give(proxy, worker, r) : NULL;

	if (r != NULL && d == NULL)
		request_release(&proxy->inflight, r);
	return d;
}

bool
flight_send(struct proxy *proxy, struct peer *worker, const struct peer *client, struct message *m)
{
	struct delivery *d = give_first(proxy, worker,
		request_new(&proxy->inflight, client->envelope, client->envelope_len, m,
			options(proxy)->redeliver));

	if (d == NULL)
		return false;
	if (d->request->kept != NULL
			? conn_share(worker->conn, d->request->kept) > 0
			: conn_send(worker->conn, client->envelope, client->envelope_len, m, 0))
		return true;
	take_again(proxy, d);
	return false;
}

bool
flight_send_from(struct proxy *proxy, struct peer *worker, struct outq *from)
{
	struct delivery *d = give_first(
		proxy, worker, request_of(&proxy->inflight, from, options(proxy)->redeliver));

	if (d == NULL)
		return false;
	if (conn_send_from(worker->conn, from) > 0)
		return true;
	take_again(proxy, d);
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

/* Nobody will answer it: its client need not be waited for, if it is to leave. */
static void
tell_client(struct proxy *proxy, const struct request *r)
{
	size_t len;
	const uint8_t *id = request_client(r, &len);
	struct peer *client = router_find(&proxy->router, id, len);

	if (client != NULL)
		proxy_lose_reply(proxy, client);
}

/* Drops the request for good. `sent`: it counted as sent already, so it was received once more. */
static void
drop(struct proxy *proxy, struct request *r, bool sent, enum drop_reason reason)
{
	struct counters *c = backend(proxy);

	if (sent)
		c->redelivered++;
	c->dropped[reason]++;
	proxy->drain_given_up += proxy->draining;
	set_outstanding(proxy, r, false);
	tell_client(proxy, r);
	request_drop_bytes(&proxy->inflight, r);
}

/*
 * Its worker closed, or is late. `sent`: it had all of it; `blame`: it may have been
 * the cause.
 */
static void
take_back(struct proxy *proxy, struct delivery *d, bool sent, bool blame)
{
	struct counters *c = backend(proxy);
	struct request *r = d->request;
	uint32_t limit = (uint32_t)options(proxy)->redeliver_limit;

	if (!sent && !blame)
		r->deliveries--; /* nobody had it */
	if (r->answered) {
		c->dropped[DROP_LATE_REPLY] += !sent; /* a copy that nobody needs any more */
		return;
	}
	if (!request_is_kept(r)) { /* SPEC section 1.7 */
		proxy->drain_given_up += proxy->draining;
		set_outstanding(proxy, r, false);
		tell_client(proxy, r);
		return;
	}
	r->blamed += blame;
	if (client_is_gone(proxy, r)) {
		drop(proxy, r, sent, DROP_PEER_GONE);
	} else if (r->blamed >= limit || r->deliveries >= limit * BLAMELESS) {
		drop(proxy, r, sent, DROP_UNDELIVERABLE);
	} else {
		inflight_wait(&proxy->inflight, r, !sent);
		if (sent)
			return;
		count_waiting(c, r->size);
		c->rerouted++;
		set_outstanding(proxy, r, false);
	}
}

/* It need not be given to anybody any more. */
static void
drop_waiting(struct proxy *proxy, struct request *r, enum drop_reason reason)
{
	bool queued = r->queued;

	if (queued)
		uncount_waiting(backend(proxy), r->size);
	inflight_unwait(&proxy->inflight, r);
	drop(proxy, r, !queued, reason);
	request_release(&proxy->inflight, r);
}

/* A reply came from a worker that it was taken back from: nobody else has to have it. */
static void
call_off(struct proxy *proxy, struct request *r)
{
	struct counters *c = backend(proxy);

	if (r->queued) { /* by a third worker, which never had all of it */
		uncount_waiting(c, r->size);
		c->dropped[DROP_LATE_REPLY]++;
	}
	inflight_unwait(&proxy->inflight, r);
}

static bool
is_answered_by(const struct peer *worker, const struct request *r)
{
	struct message m = {r->bytes, r->size, r->size, NULL, NULL};

	if (!r->whole)
		m = outq_as_message(r->kept);
	return expects_reply(worker, &m);
}

/* It leaves `again`, as it is on its way once more. */
static void
count_served(struct proxy *proxy, struct request *r, uint64_t *bytes)
{
	if (r->queued)
		uncount_waiting(backend(proxy), r->size);
	else
		backend(proxy)->redelivered++;
	inflight_unwait(&proxy->inflight, r);
	*bytes += r->size;
}

/* No reply is expected of anybody any more: it is done with once it is sent. */
static enum flight_served
send_uncounted(struct proxy *proxy, struct peer *worker, struct request *r, uint64_t *bytes)
{
	if (!send_again(worker, r))
		return FLIGHT_NO_MEMORY;
	count_served(proxy, r, bytes);
	worker->uncounted = true;
	balance_skip(worker);
	proxy->drain_given_up += proxy->draining && r->outstanding;
	set_outstanding(proxy, r, false);
	tell_client(proxy, r);
	request_drop_bytes(&proxy->inflight, r);
	request_release(&proxy->inflight, r);
	return FLIGHT_SERVED;
}

enum flight_served
flight_serve(struct proxy *proxy, uint64_t *bytes)
{
	struct request *r = list_entry(proxy->inflight.again.next, struct request, node);
	bool queued = r->queued;
	struct peer *worker;
	struct delivery *d;

	if (client_is_gone(proxy, r)) {
		drop_waiting(proxy, r, DROP_PEER_GONE);
		return FLIGHT_SERVED;
	}
	worker = balance_next(&proxy->balance, (size_t)r->size);
	if (worker == NULL)
		return FLIGHT_WAITS;
	if (worker->answers == PEER_ANSWERS_NONE)
		return send_uncounted(proxy, worker, r, bytes);
	if (!is_answered_by(worker, r)) {
		/*
		 * A REP would throw it away. Others had it before, and may answer: if it came back
		 * from the REP's queue, nobody would know any more that it is the same.
		 */
		drop_waiting(proxy, r, DROP_MALFORMED);
		return FLIGHT_SERVED;
	}
	d = give(proxy, worker, r);
	if (d == NULL)
		return FLIGHT_NO_MEMORY;
	if (!send_again(worker, r)) {
		set_outstanding(proxy, r, !queued);
		ungive(proxy, d);
		r->deliveries--;
		return FLIGHT_NO_MEMORY;
	}
	count_served(proxy, r, bytes);
	return FLIGHT_SERVED;
}

/* --- workers -------------------------------------------------------------- */

static void
set_suspect(struct proxy *proxy, struct peer *worker, bool suspect)
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
		worker->holder->pause = 0;
		timer_stop(&worker->holder->trial);
	}
}

/* It has room again, if only one of its requests was in the way. */
static void
back_in_service(struct proxy *proxy, struct peer *worker)
{
	if (list_linked(&worker->ready) || !conn_is_open(worker->conn))
		return;
	balance_add(&proxy->balance, worker);
	proxy_serve_soon(proxy);
}

/* --- trials --------------------------------------------------------------- */

/* Its oldest request will not be answered any more: its place is free for another one. */
static void
give_up_oldest(struct proxy *proxy, struct peer *worker)
{
	struct delivery *oldest = holder_oldest(worker->holder);

	if (oldest == NULL || oldest->number >= sent_to(worker))
		return; /* it waits in the queue: it takes no bytes */
	/* its reply is still worth waiting for, or it is taken back when it is late */
	if (proxy->draining || request_is_kept(oldest->request))
		return;
	set_outstanding(proxy, oldest->request, false);
	tell_client(proxy, oldest->request);
	inflight_lapse(&proxy->inflight, oldest);
	balance_settled(&proxy->balance, worker);
}

/* A suspect that takes bytes may have one request, when it is time for a trial. */
static void
let_try(struct proxy *proxy, struct peer *worker)
{
	if (!worker->trial || worker->conn->state != CONN_READY)
		return;
	if (worker->outstanding >= proxy->balance.max_outstanding)
		give_up_oldest(proxy, worker);
	balance_add(&proxy->balance, worker);
	proxy_serve_soon(proxy);
}

static void
on_trial(struct timer *timer)
{
	struct holder *h = list_entry(timer, struct holder, trial);

	h->worker->trial = true;
	let_try(h->worker->proxy, h->worker);
}

/* Later each time, for one that hangs costs a request with each. */
static void
plan_trial(struct proxy *proxy, struct peer *worker)
{
	struct holder *h = worker->holder;
	int64_t timeout = options(proxy)->answer_timeout,
		most = timeout > TRIAL_MS ? timeout : TRIAL_MS;

	let_try(proxy, worker); /* what it was given up on may have been in the way */
	if (worker->trial || h->trial.due != CLOCK_NEVER)
		return;
	h->pause = h->pause == 0 ? timeout : h->pause * 2;
	if (h->pause > most)
		h->pause = most;
	timer_set(&h->trial, h->pause);
}

/* --- taken back in slices ------------------------------------------------- */

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
 * But for the last, newer requests wait until all of it is in `again` (inflight->returns), so that
 * none overtakes, and the worker gets no more meanwhile (peer->returning), so that the numbers of
 * what is cut remain those that nobody was sent.
 */

static uint32_t
end_of_slice(const struct proxy *proxy)
{
	return proxy->loop->spent + proxy->loop->limits.side;
}

static bool
has_time(struct proxy *proxy, uint32_t end)
{
	if (proxy->loop->spent > end)
		return false;
	loop_spend(proxy->loop, BUDGET_MESSAGE);
	return true;
}

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

	take_back(proxy, d, true, h->parallel || !h->blamed);
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
	take_back(proxy, d, false, false);
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
		take_back(proxy, d, false, cut);
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
		back_in_service(proxy, worker); /* it answered meanwhile */
	else if (!worker->conn->was_full && conn_is_open(worker->conn))
		flight_has_room(proxy, worker); /* nobody would tell */
	if (worker->suspect)
		plan_trial(proxy, worker);
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
	tell_client(proxy, r);
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

static void
on_due(struct timer *timer)
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
			plan_trial(proxy, worker);
		return;
	}
	if (now < oldest->given + timeout) {
		timer_set(timer, oldest->given + timeout - now);
		return;
	}
	if (!worker->suspect)
		log_worker(worker, "worker_suspect", LOG_LEVEL_WARNING);
	set_suspect(proxy, worker, true);
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

/* --- replies -------------------------------------------------------------- */

static void
answered_by(struct proxy *proxy, struct delivery *d)
{
	if (!d->lapsed)
		inflight_answered(&proxy->inflight, loop_now(proxy->loop) - d->given);
	if (!d->lapsed && d != holder_oldest(d->holder))
		d->holder->parallel = true;
}

/* It answered something: it is trusted again. */
static void
trust(struct proxy *proxy, struct peer *worker)
{
	if (worker->suspect) {
		set_suspect(proxy, worker, false);
		log_worker(worker, "worker_returned", LOG_LEVEL_NOTICE);
	}
	back_in_service(proxy, worker);
}

/* A suspect of which all was taken back before it left has nothing to answer. */
void
flight_has_room(struct proxy *proxy, struct peer *worker)
{
	const struct holder *h = worker->holder;

	if (h->rerouting && worker->conn->state == CONN_READY && !worker->conn->write_broken)
		stop_rerouting(proxy, worker);
	if (worker->suspect && list_empty(&h->held) && list_empty(&h->lapsed))
		trust(proxy, worker);
	else
		let_try(proxy, worker);
}

bool
flight_settle(struct proxy *proxy, struct peer *worker, const struct message *m, bool known)
{
	struct delivery *d = inflight_match(&proxy->inflight, worker->holder, m);
	bool late = false;

	proxy->loop->units += BUDGET_BOOKS;
	if (d != NULL && d->number >= sent_to(worker))
		d = NULL; /* it did not get that yet: whatever this answers was answered before */
	if (d != NULL) {
		struct request *r = d->request;

		late = r->answered;
		if (!late && d->lapsed && !request_is_kept(r))
			proxy_expect(proxy, m); /* its client was told that nobody will answer it */
		answered_by(proxy, d);
		if (!late) {
			r->answered = true;
			proxy->drain_answered += proxy->draining && r->outstanding;
			set_outstanding(proxy, r, false);
			if (r->waiting)
				call_off(proxy, r);
			request_drop_bytes(&proxy->inflight, r);
		}
		ungive(proxy, d);
	} else if (worker->holder->untracked > 0) {
		worker->holder->untracked--;
		settle_one(proxy, worker);
		proxy->drain_answered += proxy->draining;
	} else if (known && options(proxy)->redeliver) {
		return true;
	} else {
		proxy_expect(proxy, m);
		return false;
	}
	trust(proxy, worker);
	if (late && worker->holder->forgetting) { /* as if it were forgotten already */
		proxy_expect(proxy, m);
		return false;
	}
	return late;
}

bool
flight_open_without_books(struct proxy *proxy, struct peer *worker)
{
	if (worker->holder == NULL)
		worker->holder = holder_new(worker, proxy->loop, on_due, on_trial);
	if (worker->holder != NULL)
		worker->holder->untracked = worker->outstanding;
	return worker->holder != NULL;
}

bool
flight_open(struct proxy *proxy, struct peer *worker)
{
	return !proxy->tracking || worker->holder != NULL ||
		flight_open_without_books(proxy, worker);
}

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
	set_suspect(proxy, worker, false);
	holder_free(h);
	worker->holder = NULL;
}

uint64_t
flight_lapsed_bytes(const struct peer *worker, int64_t now, int64_t grace)
{
	const struct proxy *proxy = worker->proxy;
	const struct holder *h = worker->holder;
	uint64_t waiting = proxy->inflight.again_count; /* these it would not free */
	const struct delivery *oldest;

	if (h == NULL || h->lapsed_count <= waiting)
		return 0;
	oldest = list_entry(h->lapsed.next, struct delivery, node);
	if (now - oldest->given < options(proxy)->answer_timeout + grace)
		return 0;
	return (h->lapsed_count - waiting) * sizeof(struct request);
}

/* --- all of them ---------------------------------------------------------- */

static void
configure_worker(struct proxy *proxy, struct peer *worker, bool begins)
{
	struct holder *h;
	int64_t timeout = options(proxy)->answer_timeout;

	if (!flight_open(proxy, worker)) {
		conn_close(worker->conn, CLOSE_NO_MEMORY, NULL);
		return;
	}
	h = worker->holder;
	if (h == NULL)
		return;
	if (begins)
		h->untracked = worker->outstanding;
	timer_stop(&h->timer);
	if (timeout == 0)
		set_suspect(proxy, worker, false);
	else if (holder_oldest(h) != NULL)
		timer_set(&h->timer, timeout);
}

void
flight_configure(struct proxy *proxy)
{
	const struct side_opts *o = options(proxy);
	bool least = o->balance == BALANCE_LEAST_OUTSTANDING, before = proxy->tracking;

	proxy->track = o->redeliver || o->max_outstanding > 0 || o->answer_timeout > 0;
	proxy->tracking = proxy->track || proxy->inflight.count > 0 ||
		!list_empty(&proxy->inflight.again) || (before && proxy->inflight.returns > 0);
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
	proxy_serve_soon(proxy);
}

bool
flight_drop_gone(struct proxy *proxy)
{
	struct inflight *f = &proxy->inflight;
	uint32_t end = end_of_slice(proxy);

	if (f->sweep == NULL)
		f->sweep = f->again.next;
	while (f->sweep != &f->again) {
		struct request *r = list_entry(f->sweep, struct request, node);

		if (!has_time(proxy, end))
			return false;
		f->sweep = r->node.next;
		if (client_is_gone(proxy, r))
			drop_waiting(proxy, r, DROP_PEER_GONE);
	}
	f->sweep = NULL;
	return true;
}

bool
flight_drop_waiting(struct proxy *proxy)
{
	uint32_t end = end_of_slice(proxy);

	while (!list_empty(&proxy->inflight.again)) {
		struct request *r = list_entry(proxy->inflight.again.next, struct request, node);

		if (!has_time(proxy, end))
			return false;
		if (r->queued) {
			uncount_waiting(backend(proxy), r->size);
			backend(proxy)->dropped[DROP_SHUTDOWN]++;
		}
		set_outstanding(proxy, r, false);
		inflight_unwait(&proxy->inflight, r);
		request_release(&proxy->inflight, r);
	}
	return true;
}

uint64_t
flight_never_sent(const struct proxy *proxy)
{
	return proxy->inflight.never_sent;
}
