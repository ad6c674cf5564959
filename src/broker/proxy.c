/* SPDX-License-Identifier: MIT */
#include "broker/proxy.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/idtext.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/redeliver.h"
#include "broker/proxy_impl.h"
#include "zmtp/frame.h"
#include "zmtp/socktype.h"

enum {
	SERVE_BYTES = 4 << 20, /* moved from waiting to workers in one go, each counting with ... */
	SERVE_EACH = BUDGET_MESSAGE << BUDGET_BYTES, /* ... so much more */
	NO_MEMORY_MS = 100,                          /* until the next attempt */
	/* a routing id that two clients have */
	CONTEST_HEARD_MS = 1000, /* its holder was heard within this time: both live */
	CONTEST_MS = 10000, /* claims within this time count, and the holder keeps it for as long */
	CONTESTS = 2,       /* after so many the next claim is refused */
};

/* --- waiting requests ----------------------------------------------------- */

/* Its requests are not passed on, so that there are no more replies to them. */
static bool
is_parked(const struct peer *client)
{
	return (client->backlog != NULL || client->waits) && !client->retiring;
}

static void
hold_request(struct proxy *proxy, struct peer *client, struct message *m)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	struct source *s = peer_source(client);
	uint64_t before = s != NULL ? s->queue.bytes : 0;

	if (s == NULL ||
		!outq_push(
			&s->queue, env_of(proxy), client->envelope, client->envelope_len, m, 0)) {
		drop_for_memory(c, s);
		forgo_reply(proxy, client);
		return;
	}
	count_waiting(c, s->queue.bytes - before);
	if (!list_linked(&s->node))
		list_push(is_parked(client) ? &proxy->parked : &proxy->waiting, &s->node);
	if (s->queue.bytes >= (uint64_t)proxy->opts[PROXY_FRONTEND].receive_hwm_bytes)
		conn_pause(client->conn, true);
}

/* Some of what the client sent has gone on: read from it again when half is gone. */
static void
relieve(struct proxy *proxy, struct source *s, int sender_side)
{
	if (s->peer == NULL || !(s->peer->conn->paused & CONN_PAUSED) || is_parked(s->peer))
		return;
	if (s->queue.bytes <= (uint64_t)proxy->opts[sender_side].receive_hwm_bytes / 2)
		conn_pause(s->peer->conn, false);
}

static void
give_to(struct proxy *proxy, struct peer *worker)
{
	balance_given(&proxy->balance, worker);
	count_outstanding(proxy);
}

/* No memory: nobody else would wake us while all workers have room. */
static void
serve_later(struct proxy *proxy)
{
	proxy->retrying = true;
	timer_set(&proxy->retry_timer, NO_MEMORY_MS);
}

static bool
move_request(struct proxy *proxy, struct peer *worker, struct source *s)
{
	struct message m = outq_as_message(&s->queue);
	bool counts = expects_reply(worker, &m);
	struct peer *client = NULL;

	if (proxy->tracking && counts)
		return redeliver_send_from(proxy, worker, &s->queue);
	if (!counts) /* its client may have left, or come back over another connection */
		client = s->peer != NULL && s->peer->routed ? s->peer : proxy_holder(proxy, &m);
	if (conn_send_from(worker->conn, &s->queue) == 0)
		return false;
	if (counts) {
		give_to(proxy, worker);
		return true;
	}
	if (client != NULL)
		answer_one(client);
	worker->uncounted = true;
	balance_skip(worker);
	return true;
}

/* Its last message went on; commands may be left. */
static void
end_source(struct proxy *proxy, struct source *s)
{
	outq_fini(&s->queue, env_of(proxy));
	source_free(s);
}

/* Memory is short, and it has enough requests under way: see ration.h. */
static void
begin_wait(struct proxy *proxy, struct peer *client)
{
	client->waits = client->aside = true;
	if (client->source != NULL && list_linked(&client->source->node))
		list_move(&proxy->parked, &client->source->node);
}

static void
use_ration(struct peer *client)
{
	if (client != NULL && client->spare > 0)
		client->spare--;
}

/* Moves the first request of `s` to a worker. False when none can take it. */
static bool
serve_one(struct proxy *proxy, struct source *s, uint64_t *moved)
{
	const uint8_t *p;
	size_t len;
	uint64_t size = outq_peek(&s->queue, &p, &len);
	struct peer *worker = balance_next(&proxy->balance, (size_t)size);

	if (worker == NULL)
		return false;
	if (!move_request(proxy, worker, s)) {
		serve_later(proxy);
		return false;
	}
	uncount_waiting(&proxy->counters[PROXY_BACKEND], size);
	*moved += size + SERVE_EACH;
	return true;
}

/*
 * Those that a worker had already go first. False when one of them has to wait, or is still to
 * come.
 */
static bool
serve_again(struct proxy *proxy, uint64_t *moved)
{
	enum redeliver_served served = REDELIVER_SERVED;

	while (served == REDELIVER_SERVED && !list_empty(&proxy->deliveries.requeued) &&
		*moved < SERVE_BYTES) {
		served = redeliver_serve(proxy, moved);
		*moved += SERVE_EACH;
	}
	if (served == REDELIVER_NO_MEMORY)
		serve_later(proxy);
	return served == REDELIVER_SERVED && proxy->deliveries.returns == 0;
}

/*
 * What waits goes to the workers: what was rerouted first, then one of each client in turn. True:
 * there may be more of it.
 */
static bool
serve_some(struct proxy *proxy, uint64_t *moved)
{
	while (*moved < SERVE_BYTES) {
		struct source *s = proxy->rerouted;

		if (s == NULL) {
			if (list_empty(&proxy->waiting))
				return false;
			s = list_entry(proxy->waiting.next, struct source, node);
			if (proxy->ration.on && s->peer != NULL && ration_is_used_up(s->peer)) {
				begin_wait(proxy, s->peer);
				*moved += SERVE_EACH;
				continue;
			}
		}
		if (!serve_one(proxy, s, moved))
			return false;
		if (s == proxy->rerouted) {
			if (s->queue.messages == 0) {
				proxy->rerouted = NULL;
				end_source(proxy, s);
			}
			continue;
		}
		use_ration(s->peer);
		relieve(proxy, s, PROXY_FRONTEND);
		if (outq_empty(&s->queue))
			source_free(s);
		else
			list_move(&proxy->waiting, &s->node);
	}
	return true;
}

/* Of whoever leaves while that is done only a part is found: once more. */
static void
drop_gone(struct proxy *proxy)
{
	if (proxy->deliveries.sweep == NULL)
		proxy->clients_left = false;
	if (!redeliver_discard_gone(proxy) || proxy->clients_left)
		proxy_serve_soon(proxy);
}

static void
proxy_serve(struct proxy *proxy)
{
	uint64_t moved = 0;

	if (proxy->clients_left || proxy->deliveries.sweep != NULL)
		drop_gone(proxy);
	if (serve_again(proxy, &moved) && serve_some(proxy, &moved))
		proxy_serve_soon(proxy);
	loop_spend(proxy->loop, (uint32_t)(moved >> BUDGET_BYTES));
}

void
proxy_serve_soon(struct proxy *proxy)
{
	loop_defer(proxy->loop, LOOP_RESUME, &proxy->serve_task);
}

static void
serve_task_cb(struct task *task)
{
	proxy_serve(list_entry(&task->node, struct proxy, serve_task.node));
}

static void
retry_cb(struct timer *timer)
{
	struct proxy *proxy = list_entry(timer, struct proxy, retry_timer);

	proxy->retrying = false;
	proxy_serve(proxy);
}

/* Drops the requests that wait in `s`. */
static void
drop_source(struct proxy *proxy, struct source *s, enum drop_reason reason)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	uint64_t bytes = s->queue.bytes;
	struct outq_progress all = outq_clear(&s->queue, env_of(proxy));

	c->queued -= all.messages;
	c->queued_bytes -= bytes - all.command_bytes;
	c->dropped[reason] += all.messages;
	source_free(s);
}

/* --- frontend: requests come, replies leave ------------------------------- */

/* No memory for it. */
static void __attribute__((noinline)) drop_request(struct proxy *proxy, struct peer *client)
{
	proxy->counters[PROXY_BACKEND].dropped[DROP_QUEUE_FULL]++;
	forgo_reply(proxy, client);
}

/* The worker will not answer it, so nobody is waited for. */
static void __attribute__((noinline))
send_uncounted(struct proxy *proxy, struct peer *worker, struct peer *client, struct message *m)
{
	if (!conn_send(worker->conn, client->envelope, client->envelope_len, m, 0))
		proxy->counters[PROXY_BACKEND].dropped[DROP_QUEUE_FULL]++;
	forgo_reply(proxy, client);
	worker->uncounted = true;
	balance_skip(worker);
}

/* The same with books: see redeliver.h. */
static void __attribute__((noinline))
on_tracked_request(struct proxy *proxy, struct peer *client, struct message *m)
{
	struct peer *worker;

	proxy->loop->units += BUDGET_BOOKS;
	if (client->source != NULL || proxy->rerouted != NULL ||
		!list_empty(&proxy->deliveries.requeued) || proxy->deliveries.returns > 0 ||
		(worker = balance_next(&proxy->balance, m->size + client->envelope_len)) == NULL)
		hold_request(proxy, client, m);
	else if (!expects_reply(worker, m))
		send_uncounted(proxy, worker, client, m);
	else if (!redeliver_send(proxy, worker, client, m))
		drop_request(proxy, client);
}

/* It is gone, and this is what it left behind: its id's holder gets the reply. */
static void
ask_for(struct proxy *proxy, const struct peer *client)
{
	struct peer *holder = router_find(&proxy->router, peer_id(client), peer_id_len(client));

	if (holder != NULL)
		holder->outstanding++;
}

/* A client that does not take its replies, or that leaves. False: the request is done with. */
static bool __attribute__((noinline))
is_taken(struct proxy *proxy, struct peer *client, struct message *m)
{
	if (client->retiring)
		return proxy_serves_leaving(proxy, client);
	if (client->conn->yields)
		ask_for(proxy, client);
	if (!is_parked(client))
		return true;
	client->outstanding++;
	hold_request(proxy, client, m);
	return false;
}

static void
on_request(struct conn *conn, struct message *m)
{
	struct peer *client = conn->peer, *worker;
	struct proxy *proxy = client->proxy;

	proxy->counters[PROXY_BACKEND].received++;
	if (__builtin_expect(client->aside, 0) && !is_taken(proxy, client, m))
		return;
	client->outstanding++;
	if (__builtin_expect(proxy->tracking, 0)) {
		on_tracked_request(proxy, client, m);
		return;
	}
	/* order: not past what this client, or a closed worker, already has waiting */
	if (client->source != NULL || proxy->rerouted != NULL ||
		(worker = balance_next(&proxy->balance, m->size + client->envelope_len)) == NULL) {
		hold_request(proxy, client, m);
		return;
	}
	if (__builtin_expect(worker->answers != PEER_ANSWERS_ALL, 0) && !expects_reply(worker, m)) {
		send_uncounted(proxy, worker, client, m);
		return;
	}
	if (!conn_send(worker->conn, client->envelope, client->envelope_len, m, 0)) {
		drop_request(proxy, client);
		return;
	}
	give_to(proxy, worker);
}

/* While memory is short: see ration.h. */
static void
on_rationed_request(struct conn *conn, struct message *m)
{
	struct peer *client = conn->peer;

	if (!client->waits && ration_is_used_up(client))
		begin_wait(client->proxy, client);
	else if (!client->waits)
		use_ration(client);
	on_request(conn, m);
	if (client->waits && client->source == NULL) /* there was no memory for it */
		proxy_end_wait(client->proxy, client);
}

/* Was it heard a moment ago, and has not ended since? */
static bool
seems_to_live(const struct proxy *proxy, const struct peer *client)
{
	return loop_now(proxy->loop) - client->conn->last_in < CONTEST_HEARD_MS &&
		!conn_has_ended(client->conn);
}

/* The id changes hands: replies that did not leave yet follow it, in order. */
static void
take_over(struct proxy *proxy, struct peer *old, struct peer *client)
{
	struct outq moved;

	router_remove(&proxy->router, old);
	old->conn->rerouted = conn_splice_from(client->conn, old->conn);
	outq_init(&moved);
	while (conn_take(old->conn, &moved) > 0)
		;
	while (conn_send_from(client->conn, &moved) > 0)
		old->conn->rerouted++;
	proxy->counters[PROXY_FRONTEND].rerouted += old->conn->rerouted;
	loop_spend(proxy->loop, 2 * BUDGET_MESSAGE * (uint32_t)old->conn->rerouted);
	/* no memory for the rest */
	proxy->counters[PROXY_FRONTEND].dropped[DROP_QUEUE_FULL] += moved.messages;
	outq_fini(&moved, env_of(proxy));
	client->outstanding += old->outstanding;
	old->outstanding = 0;
	client->contests = old->contests;
	memcpy(client->contested, old->contested, sizeof(client->contested));
	proxy_inherit_backlog(proxy, client, old);
	proxy_unpark(proxy, old);
	old->aside = true;
	old->claimed = seems_to_live(proxy, old);
	conn_yield(old->conn, CLOSE_DUPLICATE_ROUTING_ID, "taken over by a newcomer");
}

static void
log_contest(struct proxy *proxy, const struct conn *holder, const struct conn *newcomer)
{
	const struct peer *peer = holder->peer;
	char id[IDTEXT_MAX], quoted[2 * IDTEXT_MAX];

	if (!ratelimit_pass(&proxy->contests, loop_now(proxy->loop)))
		return;
	idtext(id, peer_id(peer), peer_id_len(peer));
	log_event(LOG_LEVEL_WARNING, "routing_id_contested",
		"proxy=%s side=frontend routing_id=%s holder=%s newcomer=%s", proxy->name,
		log_quote(quoted, sizeof(quoted), id, strlen(id)), holder->address,
		newcomer != NULL ? newcomer->address : "-");
}

static void
note_contest(struct proxy *proxy, const struct peer *client)
{
	char id[IDTEXT_MAX];

	idtext(id, peer_id(client), peer_id_len(client));
	snprintf(proxy->contested_id, sizeof(proxy->contested_id), "%.*s", PROXY_CONTESTED_MAX - 1,
		id);
	proxy->contested_at = loop_now(proxy->loop);
}

/*
 * Two that live and have one id would take it from each other for ever. One that closes and comes
 * back does not, however often; but its new connection may be ready before the end of the old one
 * is here. So a claim counts when the loser's connection did not end on its own: see conn_yield.
 */
static void
count_contest(struct proxy *proxy, const struct peer *loser)
{
	struct peer *holder = router_find(&proxy->router, peer_id(loser), peer_id_len(loser));
	int64_t now = loop_now(proxy->loop);

	if (loser->conn->hung_up || now < loser->conn->linger_due)
		return;
	note_contest(proxy, loser);
	if (holder == NULL) /* it came, took the id, and went */
		log_contest(proxy, loser->conn, NULL);
	if (holder == NULL || holder->keeps)
		return;
	if (holder->contests == 0 ||
		(uint32_t)now - holder->contested[holder->contests - 1] > CONTEST_MS)
		log_contest(proxy, loser->conn, holder->conn);
	if (holder->contests == CONTESTS)
		holder->contested[0] = holder->contested[--holder->contests];
	holder->contested[holder->contests++] = (uint32_t)now;
}

/* Does the holder keep its id? It does for a while, when it was claimed too often. */
static bool
keeps_id(struct proxy *proxy, struct peer *holder)
{
	int64_t now = loop_now(proxy->loop);

	if (conn_has_ended(holder->conn))
		return false;
	if (holder->keeps && (uint32_t)now - holder->contested[0] < CONTEST_MS)
		return true;
	holder->keeps = false;
	if (holder->contests < CONTESTS || (uint32_t)now - holder->contested[0] > CONTEST_MS ||
		!seems_to_live(proxy, holder))
		return false;
	holder->contests = 0;
	holder->keeps = true;
	holder->contested[0] = (uint32_t)now;
	return true;
}

static void
on_client_ready(struct conn *conn)
{
	struct proxy *proxy = list_entry(conn->side, struct proxy, side[PROXY_FRONTEND]);
	const uint8_t *id = conn->session.peer_identity;
	size_t len = conn->session.peer_identity_len;
	struct peer *old = len > 0 ? router_find(&proxy->router, id, len) : NULL;
	struct peer *client;

	if (old != NULL && proxy->opts[PROXY_FRONTEND].duplicate_routing_id == DUPLICATE_REJECT &&
		!conn_has_ended(old->conn)) {
		conn_close(conn, CLOSE_DUPLICATE_ROUTING_ID, "the id is in use");
		return;
	}
	if (old != NULL && keeps_id(proxy, old)) {
		note_contest(proxy, old);
		conn_close(conn, CLOSE_DUPLICATE_ROUTING_ID,
			"the id is contested, and its holder keeps it");
		return;
	}
	client = peer_new(proxy, conn, len);
	conn->peer = client;
	if (client != NULL && old != NULL)
		take_over(proxy, old, client);
	if (client == NULL || !router_add(&proxy->router, client, id, len))
		conn_close(conn, CLOSE_NO_MEMORY, NULL);
	/* it may ask in the same breath: the drain's next step sends it away */
	else if (proxy->draining)
		proxy_mark_retiring(conn, proxy->removed ? CLOSE_RELOAD : CLOSE_SHUTDOWN, NULL);
	if (client != NULL && old != NULL)
		proxy_serve_blocked(proxy, &old->blocked);
}

static void
on_client_drained(struct conn *conn)
{
	proxy_move_on(proxy_of(conn), conn->peer);
}

/*
 * With redeliver it is replies that count: requests whose client is gone are not even sent. One
 * that is back already, with the same routing id, is not gone.
 */
static void
drop_waiting_of(struct proxy *proxy, struct peer *client)
{
	if (!proxy->opts[PROXY_BACKEND].redeliver || proxy->stopping || client->source == NULL)
		return;
	if (router_find(&proxy->router, peer_id(client), peer_id_len(client)) != NULL)
		return;
	if (proxy->draining)
		proxy->drain_given_up += client->source->queue.messages;
	drop_source(proxy, client->source, DROP_PEER_GONE);
}

/* A drain must not wait for workers on behalf of clients that are gone, and will not be let in. */
static void
look_for_gone(struct proxy *proxy)
{
	proxy->clients_left = true;
	proxy_serve_soon(proxy);
}

/* Drops what is queued for a peer of that side. */
static void
drop_queue(struct proxy *proxy, int side, struct conn *conn, enum drop_reason reason)
{
	uint32_t dropped = conn_drop_all(conn);

	proxy->counters[side].dropped[reason] += dropped;
	conn->dropped += dropped;
}

static bool
on_client_closed(struct conn *conn)
{
	struct peer *client = conn->peer;
	struct proxy *proxy = client->proxy;
	enum drop_reason reason = proxy->stopping ? DROP_SHUTDOWN : DROP_PEER_GONE;

	router_remove(&proxy->router, client);
	if (client->claimed)
		count_contest(proxy, client);
	drop_waiting_of(proxy, client);
	proxy_forget_leaving(proxy, client);
	drop_queue(proxy, PROXY_FRONTEND, conn, reason);
	proxy_drop_backlog(proxy, client, reason);
	proxy_unpark(proxy, client);
	if (proxy->draining && !proxy->stopping)
		look_for_gone(proxy);
	/* replies that waited for its room have nowhere to go now */
	proxy_serve_blocked(proxy, &client->blocked);
	peer_free(client);
	conn->peer = NULL;
	return true;
}

/* Nothing reaches it any more: replies that wait for its room hold up their workers in vain. */
static void
on_client_stalled(struct conn *conn)
{
	if (conn->write_broken)
		proxy_serve_blocked(proxy_of(conn), &((struct peer *)conn->peer)->blocked);
}

static void
on_nothing(struct conn *conn)
{
	(void)conn;
}

/* --- backend: replies come, requests leave -------------------------------- */

static void
set_answers(struct peer *worker)
{
	const struct side_opts *o = &worker->proxy->opts[PROXY_BACKEND];

	if (!o->replies)
		worker->answers = PEER_ANSWERS_NONE;
	else if (worker->conn->session.peer_type == SOCKTYPE_REP)
		worker->answers = PEER_ANSWERS_DELIMITED;
	else
		worker->answers = PEER_ANSWERS_ALL;
}

static void
forget_replies_of(struct proxy *proxy, struct peer *worker)
{
	uint64_t booked = worker->ledger != NULL && proxy->tracking
		? worker->outstanding - worker->ledger->counted
		: 0;

	worker->uncounted |= worker->outstanding > 0;
	balance_remove(&proxy->balance, worker); /* redeliver_configure puts it back */
	proxy->counters[PROXY_BACKEND].outstanding -= worker->outstanding - booked;
	worker->outstanding = booked;
	if (worker->ledger != NULL)
		redeliver_forget_replies(proxy, worker);
}

/* Without replies there is nothing to wait for, and no worker holds a request. */
static void
forget_replies(struct proxy *proxy)
{
	struct side_opts *o = &proxy->opts[PROXY_BACKEND];

	o->redeliver = false;
	o->answer_timeout = o->max_outstanding = 0;
	o->balance = BALANCE_ROUND_ROBIN;
	list_each(node, tmp, &proxy->side[PROXY_BACKEND].conns) {
		struct peer *worker = list_entry(node, struct conn, node)->peer;

		if (worker != NULL)
			forget_replies_of(proxy, worker);
	}
}

/* The options of the backend changed, or are new. */
void
proxy_configure(struct proxy *proxy)
{
	if (!proxy->opts[PROXY_BACKEND].replies)
		forget_replies(proxy);
	list_each(node, tmp, &proxy->side[PROXY_BACKEND].conns) {
		struct peer *worker = list_entry(node, struct conn, node)->peer;

		if (worker != NULL)
			set_answers(worker);
	}
	if (proxy->counters[PROXY_BACKEND].outstanding > 0 &&
		proxy->silence_timer.due == CLOCK_NEVER)
		proxy_watch_silence(proxy);
	redeliver_configure(proxy);
}

/* False: no memory. */
static bool
join(struct proxy *proxy, struct peer *worker)
{
	if (!balance_join(&proxy->balance, worker))
		return false;
	if (redeliver_open(proxy, worker))
		return true;
	balance_quit(&proxy->balance);
	return false;
}

static void
on_worker_ready(struct conn *conn)
{
	struct proxy *proxy = list_entry(conn->side, struct proxy, side[PROXY_BACKEND]);
	struct peer *worker = peer_new(proxy, conn, 0);

	conn->peer = worker;
	if (worker != NULL && !join(proxy, worker)) {
		peer_free(worker);
		conn->peer = worker = NULL;
	}
	if (worker == NULL) {
		conn_close(conn, CLOSE_NO_MEMORY, NULL);
		return;
	}
	set_answers(worker);
	worker->heard = (uint32_t)conn->messages_in;
	worker->quiet_since = (uint32_t)loop_now(proxy->loop);
	balance_add(&proxy->balance, worker);
	proxy_serve_soon(proxy);
}

static void
on_worker_has_room(struct conn *conn)
{
	struct proxy *proxy = proxy_of(conn);

	if (proxy->tracking || ((struct peer *)conn->peer)->returning)
		redeliver_has_room(proxy, conn->peer);
	balance_add(&proxy->balance, conn->peer);
	proxy_serve(proxy);
}

/* False: no memory. */
static bool
make_rerouted(struct proxy *proxy)
{
	if (proxy->rerouted != NULL)
		return true;
	proxy->rerouted = mem_try_new(sizeof(*proxy->rerouted));
	if (proxy->rerouted == NULL)
		return false;
	proxy->rerouted->proxy = proxy;
	list_init(&proxy->rerouted->node);
	outq_init(&proxy->rerouted->queue);
	return true;
}

/* Nothing went there: an empty one would stop what waits behind it. */
static void
end_empty_rerouted(struct proxy *proxy)
{
	if (proxy->rerouted->queue.messages > 0)
		return;
	end_source(proxy, proxy->rerouted);
	proxy->rerouted = NULL;
}

bool
proxy_reroute_one(struct proxy *proxy, struct peer *worker)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	uint64_t size;

	if (!make_rerouted(proxy))
		return false;
	size = conn_take(worker->conn, &proxy->rerouted->queue);
	if (size == 0) {
		end_empty_rerouted(proxy);
		return false;
	}
	count_waiting(c, size);
	c->rerouted++;
	worker->conn->rerouted++;
	return true;
}

/* All that is queued for it, where no request has to be looked at. False: it is not so. */
static bool
reroute_at_once(struct proxy *proxy, struct peer *worker)
{
	struct counters *c = &proxy->counters[PROXY_BACKEND];
	uint32_t moved, settled;

	if ((worker->answers == PEER_ANSWERS_DELIMITED && worker->uncounted) ||
		!make_rerouted(proxy))
		return false;
	moved = conn_splice(worker->conn, &proxy->rerouted->queue);
	if (moved == 0) {
		end_empty_rerouted(proxy);
		return false;
	}
	c->rerouted += moved;
	worker->conn->rerouted += moved;
	if (worker->answers == PEER_ANSWERS_NONE)
		return true;
	settled = moved < worker->outstanding ? moved : worker->outstanding;
	worker->outstanding -= settled;
	c->outstanding -= settled;
	return true;
}

/* There are books, or a slice was done already. */
static bool
goes_in_slices(const struct proxy *proxy, const struct peer *worker)
{
	return worker->ledger != NULL && (proxy->tracking || worker->returning);
}

/*
 * Everything queued for it, the one that was cut included, waits for another worker. False: that
 * takes slices.
 */
static bool
reroute_now(struct proxy *proxy, struct peer *worker)
{
	balance_remove(&proxy->balance, worker);
	if (goes_in_slices(proxy, worker))
		return false;
	return worker->conn->out.messages == 0 || reroute_at_once(proxy, worker) ||
		!redeliver_open_without_books(proxy, worker);
}

static void
on_worker_stalled(struct conn *conn)
{
	struct proxy *proxy = proxy_of(conn);
	bool queued = conn->out.messages > 0;

	if (!reroute_now(proxy, conn->peer) && queued)
		redeliver_reroute(proxy, conn->peer);
	if (queued)
		proxy_serve(proxy);
}

/* What it has goes to others. False: that was a slice of it. */
static bool
take_all(struct proxy *proxy, struct peer *worker)
{
	bool queued = worker->conn->out.messages > 0;

	if (!reroute_now(proxy, worker) && !redeliver_requeue_all(proxy, worker))
		return false;
	if (queued)
		proxy_serve(proxy);
	return true;
}

static bool
on_worker_closed(struct conn *conn)
{
	struct peer *worker = conn->peer;
	struct proxy *proxy = worker->proxy;

	if (proxy->stopping)
		drop_queue(proxy, PROXY_BACKEND, conn, DROP_SHUTDOWN);
	else if (!take_all(proxy, worker))
		return false;
	balance_remove(&proxy->balance, worker);
	drop_queue(proxy, PROXY_BACKEND, conn, DROP_QUEUE_FULL); /* no memory to move it */
	if (worker->ledger != NULL && !redeliver_forget(proxy, worker))
		return false;
	if (worker->ledger != NULL)
		redeliver_end(proxy, worker);
	proxy->counters[PROXY_BACKEND].outstanding -= worker->outstanding;
	if (proxy->draining)
		proxy->drain_given_up += worker->outstanding;
	proxy_forget_leaving(proxy, worker);
	balance_quit(&proxy->balance);
	proxy->counters[PROXY_BACKEND].silent -= worker->silent;
	peer_free(worker);
	conn->peer = NULL;
	return true;
}

/* --- life ----------------------------------------------------------------- */

/* Requests wait, and no worker is ready; a suspect, and one that drains, is not. */
static bool
worker_is_awaited(const struct side *side)
{
	return side->counters->queued > 0 && side->ready[CONN_SERVES] == 0;
}

static const struct conn_ops client_ops = {
	.on_ready = on_client_ready,
	.on_message = on_request,
	.on_bye = proxy_on_bye,
	.on_drained = on_client_drained,
	.on_stalled = on_client_stalled,
	.on_resumed = on_nothing,
	.on_closed = on_client_closed,
};

static const struct conn_ops rationed_client_ops = {
	.on_ready = on_client_ready,
	.on_message = on_rationed_request,
	.on_bye = proxy_on_bye,
	.on_drained = on_client_drained,
	.on_stalled = on_client_stalled,
	.on_resumed = on_nothing,
	.on_closed = on_client_closed,
};

void
proxy_set_rationed(struct proxy *proxy, bool rationed)
{
	proxy->ration.on = rationed;
	proxy->side[PROXY_FRONTEND].ops = rationed ? &rationed_client_ops : &client_ops;
}

static const struct conn_ops worker_ops = {
	.on_ready = on_worker_ready,
	.on_message = proxy_on_reply,
	.on_discarded = proxy_on_discarded,
	.on_draining = proxy_on_draining,
	.on_drained = on_worker_has_room,
	.on_stalled = on_worker_stalled,
	.on_resumed = on_worker_has_room,
	.on_closed = on_worker_closed,
	.is_awaited = worker_is_awaited,
};

static void
init_side(struct proxy *proxy, int which, enum socktype type, unsigned accepts,
	const struct conn_ops *ops)
{
	const struct side_opts *o = &proxy->opts[which];
	struct side *s = &proxy->side[which];

	*s = (struct side){
		.loop = proxy->loop,
		.proxy_name = proxy->name,
		.name = side_name(which),
		.opts = o,
		.counters = &proxy->counters[which],
		.ops = ops,
		.flush_at_end = which == PROXY_FRONTEND,
		.session =
			{
				.mechanism = &mechanism_null,
				.type = type,
				.accepts = accepts,
				.untyped_is_dealer = true,
				.identity = (const uint8_t *)o->routing_id,
				.identity_len = o->routing_id_len,
				.max_message_size = (uint64_t)o->max_message_size,
				.max_message_parts = (uint32_t)o->max_message_parts,
				.enveloped = which == PROXY_BACKEND,
				.hears_draining = which == PROXY_BACKEND,
			},
	};
	side_init(s);
}

struct proxy *
proxy_new(struct loop *loop, const char *name, const struct side_opts *frontend,
	const struct side_opts *backend)
{
	struct proxy *proxy = mem_try_new(sizeof(*proxy));

	if (proxy == NULL)
		return NULL;
	proxy->loop = loop;
	snprintf(proxy->name, sizeof(proxy->name), "%s", name);
	proxy->opts[PROXY_FRONTEND] = *frontend;
	proxy->opts[PROXY_BACKEND] = *backend;
	router_init(&proxy->router);
	balance_init(&proxy->balance);
	deliveries_init(&proxy->deliveries, env_of(proxy), &proxy->counters[PROXY_BACKEND]);
	list_init(&proxy->waiting);
	list_init(&proxy->parked);
	task_init(&proxy->serve_task, serve_task_cb);
	task_init(&proxy->return_task, redeliver_task_cb);
	timer_init(&proxy->retry_timer, loop, retry_cb);
	ratelimit_init(&proxy->too_big, 1);
	ratelimit_init(&proxy->silences, 10);
	ratelimit_init(&proxy->contests, 10);
	timer_init(&proxy->silence_timer, loop, proxy_silence_timer_cb);
	list_init(&proxy->leaving);
	timer_init(&proxy->leaving_timer, loop, proxy_leaving_timer_cb);
	init_side(proxy, PROXY_FRONTEND, SOCKTYPE_ROUTER,
		1u << SOCKTYPE_REQ | 1u << SOCKTYPE_DEALER | 1u << SOCKTYPE_ROUTER, &client_ops);
	init_side(proxy, PROXY_BACKEND, SOCKTYPE_DEALER,
		1u << SOCKTYPE_REP | 1u << SOCKTYPE_DEALER | 1u << SOCKTYPE_ROUTER, &worker_ops);
	proxy_configure(proxy);
	return proxy;
}

void
proxy_free(struct proxy *proxy)
{
	assert(proxy->side[PROXY_FRONTEND].connections == 0);
	assert(proxy->side[PROXY_BACKEND].connections == 0);
	side_fini(&proxy->side[PROXY_FRONTEND]);
	side_fini(&proxy->side[PROXY_BACKEND]);
	while (!proxy_drop_waiting(proxy))
		;
	task_cancel(&proxy->serve_task);
	task_cancel(&proxy->return_task);
	timer_stop(&proxy->retry_timer);
	timer_stop(&proxy->silence_timer);
	deliveries_fini(&proxy->deliveries);
	balance_fini(&proxy->balance);
	timer_stop(&proxy->leaving_timer);
	router_fini(&proxy->router);
	free(proxy);
}

void
proxy_drain(struct proxy *proxy)
{
	proxy->draining = true;
	look_for_gone(proxy);
	if (proxy->paused) /* what it left unread is to be served, too */
		side_pause(&proxy->side[PROXY_FRONTEND], false);
	proxy_retire_clients(proxy);
}

void
proxy_pause(struct proxy *proxy, bool paused)
{
	proxy->paused = paused;
	if (!proxy->draining)
		side_pause(&proxy->side[PROXY_FRONTEND], paused);
}

static enum close_reason
closing_reason(const struct proxy *proxy)
{
	return proxy->removed ? CLOSE_RELOAD : CLOSE_SHUTDOWN;
}

static void
close_politely(struct proxy *proxy, int which, struct conn *conn)
{
	if (which == PROXY_FRONTEND && conn->peer != NULL) {
		if (conn->part_since != CLOCK_NEVER && proxy->draining)
			proxy_note_unserved(proxy, conn->peer);
		proxy_mark_retiring(conn, closing_reason(proxy), NULL);
		proxy_flush_backlog(proxy, conn->peer);
	}
	conn_finish(conn, closing_reason(proxy), NULL);
}

void
proxy_close_side(struct proxy *proxy, int which, bool politely)
{
	proxy->stopping = true;
	list_each(node, tmp, &proxy->side[which].conns) {
		struct conn *conn = list_entry(node, struct conn, node);

		if (politely || which == PROXY_FRONTEND)
			close_politely(proxy, which, conn);
		if (!politely)
			conn_close(conn, closing_reason(proxy), NULL);
	}
}

bool
proxy_close_some(struct proxy *proxy, int which)
{
	proxy->stopping = true;
	list_each(node, tmp, &proxy->side[which].conns) {
		struct conn *conn = list_entry(node, struct conn, node);

		if (conn->state == CONN_LINGER || conn->state == CONN_CLOSED)
			continue;
		close_politely(proxy, which, conn);
		if (proxy->loop->cut)
			return true;
	}
	return false;
}

bool
proxy_drop_waiting(struct proxy *proxy)
{
	struct source *s = proxy->rerouted;

	proxy->stopping = true;
	proxy->rerouted = NULL;
	if (s != NULL)
		drop_source(proxy, s, DROP_SHUTDOWN);
	while (!list_empty(&proxy->parked))
		list_move(&proxy->waiting, proxy->parked.next);
	while (!list_empty(&proxy->waiting))
		drop_source(
			proxy, list_entry(proxy->waiting.next, struct source, node), DROP_SHUTDOWN);
	return redeliver_discard_all(proxy);
}

/* --- check ---------------------------------------------------------------- */

static void
add_source(const struct source *s, uint64_t *messages, uint64_t *bytes)
{
	outq_check(&s->queue);
	*messages += s->queue.messages;
	*bytes += s->queue.bytes;
}

/* Returns how many sources are in it. */
static uint32_t
add_list(const struct list *head, uint64_t *messages, uint64_t *bytes)
{
	uint32_t count = 0;

	for (const struct list *n = head->next; n != head; n = n->next, count++)
		add_source(list_entry(n, struct source, node), messages, bytes);
	return count;
}

/* Those that wait for another worker, and those that are about to. */
static bool
count_never_sent(const struct proxy *proxy, uint64_t *messages)
{
	const struct list *again = &proxy->deliveries.requeued,
			  *conns = &proxy->side[PROXY_BACKEND].conns;
	uint64_t count = 0;

	for (const struct list *n = again->next; n != again; n = n->next)
		count += list_entry(n, struct request, node)->queued;
	for (const struct list *n = conns->next; n != conns; n = n->next) {
		const struct peer *worker = list_entry(n, struct conn, node)->peer;
		count += worker != NULL && worker->ledger != NULL ? worker->ledger->cut : 0;
	}
	*messages += count;
	return count == redeliver_never_sent(proxy);
}

static enum conn_service
service_of(const struct conn *conn)
{
	const struct peer *peer = conn->peer;

	if (peer != NULL && peer->retiring)
		return CONN_DRAINING;
	return peer != NULL && peer->suspect ? CONN_SUSPECT : CONN_SERVES;
}

const char *
proxy_check(const struct proxy *proxy)
{
	uint64_t messages[PROXY_SIDES] = {0}, waiting_bytes = 0;
	uint32_t blocked = 0;

	for (int i = 0; i < PROXY_SIDES; i++) {
		uint32_t in_state[SIDE_STATES] = {0}, ready[CONN_SERVICES] = {0};

		for (const struct list *n = proxy->side[i].conns.next; n != &proxy->side[i].conns;
			n = n->next) {
			const struct conn *conn = list_entry(n, struct conn, node);
			const struct peer *peer = conn->peer;

			in_state[conn->state]++;
			ready[service_of(conn)] += conn->state == CONN_READY;
			outq_check(&conn->out);
			outq_check(&conn->part);
			messages[i] += conn->out.messages;
			if (i == PROXY_BACKEND && peer != NULL && peer->ledger != NULL &&
				proxy->tracking)
				deliveries_check(&proxy->deliveries, peer->ledger,
					peer->outstanding - peer->ledger->counted);
			if (i == PROXY_FRONTEND && peer != NULL) {
				blocked += add_list(
					&peer->blocked, &messages[PROXY_FRONTEND], &waiting_bytes);
				if (peer->backlog != NULL) {
					outq_check(peer->backlog);
					messages[PROXY_FRONTEND] += peer->backlog->messages;
				}
			}
		}
		if (memcmp(in_state, proxy->side[i].in_state, sizeof(in_state)) != 0)
			return "the counts of connections by state are not what they are";
		if (memcmp(ready, proxy->side[i].ready, sizeof(ready)) != 0)
			return "the counts of ready connections by service are not what they are";
	}
	if (blocked != proxy->blocked)
		return "the count of replies' sources that wait for room is not what it is";
	add_list(&proxy->waiting, &messages[PROXY_BACKEND], &waiting_bytes);
	add_list(&proxy->parked, &messages[PROXY_BACKEND], &waiting_bytes);
	if (proxy->rerouted != NULL)
		add_source(proxy->rerouted, &messages[PROXY_BACKEND], &waiting_bytes);
	if (!count_never_sent(proxy, &messages[PROXY_BACKEND]))
		return "backend: requests that no worker had are not what the books say";
	for (int i = 0; i < PROXY_SIDES; i++) {
		const struct counters *c = &proxy->counters[i];
		if (c->queued != messages[i])
			return i == PROXY_FRONTEND ? "frontend: queued is not what the queues hold"
						   : "backend: queued is not what the queues hold";
		if (c->received + c->redelivered != c->sent + counters_dropped(c) + c->queued)
			return i == PROXY_FRONTEND ? "frontend: messages are not conserved"
						   : "backend: messages are not conserved";
		if ((c->queued == 0) != (c->queued_bytes == 0))
			return "queued_bytes does not follow queued";
	}
	return NULL;
}
