/* SPDX-License-Identifier: MIT */
/*
 * Queue mode: a ROUTER for clients, a DEALER for workers. Requests go to the workers, replies back
 * to the clients.
 */
#include "broker/queue.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "broker/backlog.h"
#include "broker/contest.h"
#include "broker/drain.h"
#include "broker/outstanding.h"
#include "broker/pattern.h"
#include "broker/proxy_impl.h"
#include "broker/queue_describe.h"
#include "broker/queue_drain.h"
#include "broker/redeliver.h"
#include "broker/replies.h"
#include "broker/serve.h"
#include "broker/silence.h"
#include "broker/workers.h"
#include "zmtp/socktype.h"

#define CLIENT_OPS(message) \
	{ \
		.on_ready = on_client_ready, .on_message = (message), \
		.on_bye = queue_drain_on_bye, .on_drained = on_client_drained, \
		.on_broken = on_client_broken, .on_closed = on_client_closed \
	}
#define WORKER_OPS(message) \
	{ \
		.on_ready = workers_on_ready, .on_message = (message), \
		.on_discarded = on_discarded, .on_draining = queue_drain_on_draining, \
		.on_drained = workers_on_room, .on_stalled = workers_on_stalled, \
		.on_broken = workers_on_stalled, .on_resumed = workers_on_room, \
		.on_closed = workers_on_closed, .is_awaited = workers_are_awaited \
	}

/* Set the tables of both sides, from the next read on, when tracking or rations begin or end. */
static void choose_ops(struct proxy *proxy);

/* --- frontend: requests --------------------------------------------------- */

/* There is no memory for the request. */
static void __attribute__((noinline)) drop_request(struct proxy *proxy, struct peer *client)
{
	proxy->counters[PROXY_BACKEND].dropped[DROP_QUEUE_FULL]++;
	outstanding_forgo(proxy, client);
}

/* The worker will not answer the request, so no reply is waited for. */
static void __attribute__((noinline))
send_uncounted(struct proxy *proxy, struct peer *worker, struct peer *client, struct message *m)
{
	if (!conn_send(worker->conn, client->envelope, client->envelope_len, m, 0))
		proxy->counters[PROXY_BACKEND].dropped[DROP_QUEUE_FULL]++;
	outstanding_forgo(proxy, client);
	worker->uncounted = true;
	balance_skip(worker);
}

/* The client is gone and left this request: the holder of its routing id gets the reply. */
static void
ask_for(struct proxy *proxy, const struct peer *client)
{
	struct peer *holder = router_find(&proxy->router, peer_id(client), peer_id_len(client));

	if (holder != NULL)
		holder->outstanding++;
}

/* The client does not take its replies, or is draining. False: the request was held or dropped. */
static bool __attribute__((noinline))
is_taken(struct proxy *proxy, struct peer *client, struct message *m)
{
	if (client->draining)
		return queue_drain_serves(proxy, client);
	if (conn_is_yielding(client->conn))
		ask_for(proxy, client);
	if (!backlog_is_parked(client))
		return true;
	client->outstanding++;
	backlog_hold(proxy, client, m);
	return false;
}

/* Count a request. False: it was held or dropped already. */
static inline bool
accept_request(struct proxy *proxy, struct peer *client, struct message *m)
{
	proxy->counters[PROXY_BACKEND].received++;
	if (__builtin_expect(client->aside, 0) && !is_taken(proxy, client, m))
		return false;
	client->outstanding++;
	return true;
}

static void
on_request(struct conn *conn, struct message *m)
{
	struct peer *client = conn->peer, *worker;
	struct proxy *proxy = client->proxy;

	if (!accept_request(proxy, client, m))
		return;
	/* order: a request must not pass those of this client, or of a closed worker, that wait */
	if (client->backlog != NULL || proxy->rerouted != NULL ||
		(worker = balance_next(&proxy->balance, m->size + client->envelope_len)) == NULL) {
		backlog_hold(proxy, client, m);
		return;
	}
	if (__builtin_expect(worker->answers != PEER_ANSWERS_ALL, 0) &&
		!outstanding_expects(worker, m)) {
		send_uncounted(proxy, worker, client, m);
		return;
	}
	if (!conn_send(worker->conn, client->envelope, client->envelope_len, m, 0)) {
		drop_request(proxy, client);
		return;
	}
	outstanding_give(proxy, worker);
}

/* on_request with tracking: see redeliver.h. */
static void
on_tracked_request(struct conn *conn, struct message *m)
{
	struct peer *client = conn->peer, *worker;
	struct proxy *proxy = client->proxy;

	if (!proxy->tracking) { /* it has ended: the others of this read come here, too */
		choose_ops(proxy);
		on_request(conn, m);
		return;
	}
	if (!accept_request(proxy, client, m))
		return;
	proxy->loop->units += BUDGET_TRACK;
	if (client->backlog != NULL || proxy->rerouted != NULL ||
		!list_empty(&proxy->deliveries.requeued) || proxy->deliveries.returns > 0 ||
		(worker = balance_next(&proxy->balance, m->size + client->envelope_len)) == NULL)
		backlog_hold(proxy, client, m);
	else if (!outstanding_expects(worker, m))
		send_uncounted(proxy, worker, client, m);
	else if (!redeliver_send(proxy, worker, client, m))
		drop_request(proxy, client);
}

/* on_request while memory is short: see ration.h. */
static void
on_rationed_request(struct conn *conn, struct message *m)
{
	struct peer *client = conn->peer;

	if (!client->waits && ration_is_used_up(client))
		backlog_begin_wait(client->proxy, client);
	else if (!client->waits)
		serve_use_ration(client);
	if (client->proxy->tracking)
		on_tracked_request(conn, m);
	else
		on_request(conn, m);
	if (client->waits && client->backlog == NULL) /* there was no memory for the request */
		replies_end_wait(client->proxy, client);
}

static void
on_client_ready(struct conn *conn)
{
	struct proxy *proxy = list_entry(conn->side, struct proxy, side[PROXY_FRONTEND]);
	const uint8_t *id = conn->session.peer_identity;
	size_t len = conn->session.peer_identity_len;
	struct peer *old = len > 0 ? router_find(&proxy->router, id, len) : NULL;
	struct peer *client;

	if (old != NULL &&
		proxy->opts[PROXY_FRONTEND].queue.duplicate_routing_id == DUPLICATE_REJECT &&
		!conn_has_ended(old->conn)) {
		conn_close(conn, CLOSE_DUPLICATE_ROUTING_ID, "the id is in use");
		return;
	}
	if (old != NULL && contest_decide(proxy, old)) {
		contest_note(proxy, old);
		conn_close(conn, CLOSE_DUPLICATE_ROUTING_ID,
			"the id is contested, and its holder keeps it");
		return;
	}
	client = peer_new(proxy, conn, len);
	conn->peer = client;
	if (client != NULL && old != NULL)
		contest_take_over(proxy, old, client);
	if (client == NULL || !router_add(&proxy->router, client, id, len))
		conn_close(conn, CLOSE_NO_MEMORY, NULL);
	/* the client may ask at once: the drain's next step sends it away */
	else if (proxy_is_draining(proxy))
		queue_drain_mark(conn, proxy->closing_reason, NULL);
	if (client != NULL && old != NULL)
		replies_serve_blocked(proxy, &old->blocked);
}

static void
on_client_drained(struct conn *conn)
{
	replies_move_on(proxy_of(conn), conn->peer);
}

/*
 * With redeliver only replies matter, so requests whose client is gone are not even sent. A client
 * that is back already, with the same routing id, is not gone.
 */
static void
drop_backlog_of(struct proxy *proxy, struct peer *client)
{
	if (!proxy->opts[PROXY_BACKEND].queue.redeliver || proxy_is_stopping(proxy) ||
		client->backlog == NULL)
		return;
	if (router_find(&proxy->router, peer_id(client), peer_id_len(client)) != NULL)
		return;
	if (proxy_is_draining(proxy))
		proxy->drain_given_up += client->backlog->queue.messages;
	backlog_drop(proxy, client->backlog, DROP_PEER_GONE);
}

static bool
on_client_closed(struct conn *conn)
{
	struct peer *client = conn->peer;
	struct proxy *proxy = client->proxy;
	enum drop_reason reason = proxy_is_stopping(proxy) ? DROP_SHUTDOWN : DROP_PEER_GONE;

	router_remove(&proxy->router, client);
	if (client->claimed)
		contest_count(proxy, client);
	drop_backlog_of(proxy, client);
	drain_forget(proxy, client);
	proxy_drop_queue(proxy, PROXY_FRONTEND, conn, reason);
	replies_drop_overflow(proxy, client, reason);
	replies_unpark(proxy, client);
	if (proxy_is_draining(proxy) && !proxy_is_stopping(proxy))
		serve_drop_departed(proxy);
	/* replies that waited for room in its queue have nowhere to go now */
	replies_serve_blocked(proxy, &client->blocked);
	backlog_orphan(client);
	peer_free(client);
	conn->peer = NULL;
	return true;
}

/*
 * Nothing reaches the client any more: replies that wait for it hold up their workers needlessly.
 */
static void
on_client_broken(struct conn *conn)
{
	replies_serve_blocked(proxy_of(conn), &((struct peer *)conn->peer)->blocked);
}

/* --- backend: replies ----------------------------------------------------- */

/* Settle the request that the reply answers. False: no such request is still open. */
static inline bool
settle(struct proxy *proxy, struct peer *worker, const struct message *m, bool known, bool tracked)
{
	if (tracked)
		return !redeliver_settle(proxy, worker, m, known);
	if (outstanding_settle(proxy, worker))
		proxy->drain_answered += proxy_is_draining(proxy);
	return true;
}

/*
 * Count a reply, find its client (NULL, with the reason to drop the reply), and settle its request.
 * False: the reply came too late, and is dropped.
 */
static inline bool
admit(struct peer *worker, const struct message *m, struct peer **client, size_t *skip,
	enum drop_reason *reason, bool tracked)
{
	struct proxy *proxy = worker->proxy;
	struct counters *c = &proxy->counters[PROXY_FRONTEND];

	c->received++;
	*client = replies_find_client(proxy, m, skip, reason);
	if (settle(proxy, worker, m, *client != NULL, tracked))
		return true;
	c->dropped[DROP_LATE_REPLY]++;
	return false;
}

/* The reply waits at its worker, after the replies that wait there already, or is dropped. */
static void __attribute__((noinline))
hold_or_drop(struct proxy *proxy, struct peer *worker, struct peer *client, struct message *m)
{
	struct peer *first = worker->backlog == NULL ? client : NULL; /* that all replies await */

	if (!replies_hold(proxy, worker, first, m) && client != NULL)
		outstanding_answer(client);
}

/* No client can take the reply. */
static void __attribute__((noinline))
drop_reply(struct proxy *proxy, const struct message *m, enum drop_reason reason)
{
	proxy->counters[PROXY_FRONTEND].dropped[reason]++;
	replies_unask(proxy, m);
}

static inline void
pass_reply(struct peer *worker, struct message *m, bool tracked)
{
	struct proxy *proxy = worker->proxy;
	struct peer *client;
	enum drop_reason reason;
	size_t skip;

	if (!admit(worker, m, &client, &skip, &reason, tracked))
		return;
	if (worker->backlog == NULL && client == NULL)
		drop_reply(proxy, m, reason);
	else if (worker->backlog != NULL || /* order: not past replies that wait */
		!replies_place(proxy, client, m, skip, false))
		hold_or_drop(proxy, worker, client, m);
}

static void
on_reply(struct conn *conn, struct message *m)
{
	pass_reply(conn->peer, m, false);
}

/* on_reply with tracking. */
static void
on_tracked_reply(struct conn *conn, struct message *m)
{
	struct proxy *proxy = proxy_of(conn);

	if (!proxy->tracking)
		choose_ops(proxy);
	pass_reply(conn->peer, m, proxy->tracking);
}

static void
log_too_big(struct conn *conn, const char *option)
{
	struct proxy *proxy = proxy_of(conn);

	if (!ratelimit_pass(&proxy->too_big, loop_now(proxy->loop)))
		return;
	log_event(LOG_LEVEL_WARNING, "reply_too_big",
		"proxy=%s side=%s peer=%" PRIu64 " address=%s option=%s dropped=%" PRIu64,
		proxy->name, conn->side->name, conn->id, conn->address, option,
		proxy->counters[PROXY_FRONTEND].dropped[DROP_TOO_BIG]);
}

/*
 * A discarded reply settles its request all the same: a client must not take a worker from other
 * clients by what it asks.
 */
static void
on_discarded(struct conn *conn, struct message *front, const char *option)
{
	struct peer *worker = conn->peer, *client;
	struct proxy *proxy = worker->proxy;
	enum drop_reason reason;
	size_t skip;

	if (!admit(worker, front, &client, &skip, &reason, proxy->tracking))
		return;
	proxy->counters[PROXY_FRONTEND].dropped[DROP_TOO_BIG]++;
	if (client != NULL)
		replies_lose(proxy, client);
	else
		replies_unask(proxy, front);
	log_too_big(conn, option);
}

/* --- life ----------------------------------------------------------------- */

/* Read clients below a raised receive_hwm_bytes at once: otherwise half has to be gone first. */
static void
read_further(struct proxy *proxy)
{
	uint64_t most = (uint64_t)proxy->opts[PROXY_FRONTEND].side.receive_hwm_bytes;

	list_each(node, tmp, &proxy->waiting) {
		const struct backlog *s = list_entry(node, struct backlog, node);

		if (s->peer != NULL && s->queue.bytes < most)
			conn_pause(s->peer->conn, false);
	}
}

static void
configure(struct proxy *proxy)
{
	read_further(proxy);
	workers_configure(proxy);
	choose_ops(proxy);
}

static void
init(struct proxy *proxy)
{
	router_init(&proxy->router);
	balance_init(&proxy->balance);
	deliveries_init(&proxy->deliveries, env_of(proxy), &proxy->counters[PROXY_BACKEND]);
	list_init(&proxy->waiting);
	list_init(&proxy->parked);
	task_init(&proxy->serve_task, serve_on_task);
	task_init(&proxy->return_task, redeliver_task_cb);
	timer_init(&proxy->retry_timer, proxy->loop, serve_on_retry);
	ratelimit_init(&proxy->too_big, 1);
	ratelimit_init(&proxy->silences, 10);
	ratelimit_init(&proxy->contests, 10);
	timer_init(&proxy->silence_timer, proxy->loop, silence_timer_cb);
}

static void
fini(struct proxy *proxy)
{
	task_cancel(&proxy->serve_task);
	task_cancel(&proxy->return_task);
	timer_stop(&proxy->retry_timer);
	timer_stop(&proxy->silence_timer);
	deliveries_fini(&proxy->deliveries);
	balance_fini(&proxy->balance);
	router_fini(&proxy->router);
}

static void
drain(struct proxy *proxy)
{
	serve_drop_departed(proxy);
	queue_drain_clients(proxy);
}

/* A client gets the replies that there are; a request that it did not finish counts as unserved. */
static void
before_close(struct proxy *proxy, int which, struct conn *conn)
{
	if (which != PROXY_FRONTEND || conn->peer == NULL)
		return;
	if (conn->part_since != CLOCK_NEVER && proxy_is_draining(proxy))
		queue_drain_note_unserved(proxy, conn->peer);
	queue_drain_mark(conn, proxy->closing_reason, NULL);
	replies_flush_overflow(proxy, conn->peer);
}

static bool
drop_waiting(struct proxy *proxy)
{
	struct backlog *s = proxy->rerouted;

	proxy->rerouted = NULL;
	if (s != NULL)
		backlog_drop(proxy, s, DROP_SHUTDOWN);
	while (!list_empty(&proxy->parked))
		list_move(&proxy->waiting, proxy->parked.next);
	while (!list_empty(&proxy->waiting))
		backlog_drop(proxy, list_entry(proxy->waiting.next, struct backlog, node),
			DROP_SHUTDOWN);
	return redeliver_discard_all(proxy);
}

/* --- check ---------------------------------------------------------------- */

static void
add_backlog(const struct backlog *s, uint64_t *messages, uint64_t *bytes)
{
	outq_check(&s->queue);
	*messages += s->queue.messages;
	*bytes += s->queue.bytes;
}

/* Returns how many backlogs are in the list. */
static uint32_t
add_list(const struct list *head, uint64_t *messages, uint64_t *bytes)
{
	uint32_t count = 0;

	list_each_const(n, head) {
		count++;
		add_backlog(list_entry(n, struct backlog, node), messages, bytes);
	}
	return count;
}

/*
 * Adds requests that wait for another worker, or are about to. False: their count does not match.
 */
static bool
count_never_sent(const struct proxy *proxy, uint64_t *messages)
{
	const struct list *again = &proxy->deliveries.requeued,
			  *conns = &proxy->side[PROXY_BACKEND].conns;
	uint64_t count = 0;

	list_each_const(n, again)
		count += list_entry(n, struct request, node)->queued;
	list_each_const(n, conns) {
		const struct peer *worker = list_entry(n, struct conn, node)->peer;
		count += worker != NULL && worker->ledger != NULL ? worker->ledger->cut : 0;
	}
	*messages += count;
	return count == redeliver_never_sent(proxy);
}

/*
 * Adds what waits with a peer, and checks what its ledger says. Returns how many backlogs of
 * replies wait for the peer.
 */
static uint32_t
check_peer(const struct proxy *proxy, const struct peer *peer, int side, uint64_t *messages)
{
	uint64_t bytes = 0;

	if (side == PROXY_BACKEND) {
		if (peer->ledger != NULL && proxy->tracking)
			deliveries_check(&proxy->deliveries, peer->ledger,
				peer->outstanding - peer->ledger->counted);
		return 0;
	}
	if (peer->overflow != NULL) {
		outq_check(peer->overflow);
		*messages += peer->overflow->messages;
	}
	return add_list(&peer->blocked, messages, &bytes);
}

static const char *
check(const struct proxy *proxy, uint64_t messages[PROXY_SIDES])
{
	uint32_t blocked = 0;
	uint64_t bytes = 0;

	for (int i = 0; i < PROXY_SIDES; i++) {
		const struct list *conns = &proxy->side[i].conns;

		list_each_const(n, conns) {
			const struct conn *conn = list_entry(n, struct conn, node);

			if (conn->peer != NULL)
				blocked += check_peer(proxy, conn->peer, i, &messages[i]);
		}
	}
	if (blocked != proxy->blocked)
		return "the count of backlogs whose replies wait for room does not match them";
	add_list(&proxy->waiting, &messages[PROXY_BACKEND], &bytes);
	add_list(&proxy->parked, &messages[PROXY_BACKEND], &bytes);
	if (proxy->rerouted != NULL)
		add_backlog(proxy->rerouted, &messages[PROXY_BACKEND], &bytes);
	if (!count_never_sent(proxy, &messages[PROXY_BACKEND]))
		return "backend: requests that no worker had do not match the ledgers";
	return NULL;
}

/* --- the mode ------------------------------------------------------------- */

/* Tables of functions: without tracking, with it, and, for clients, while there are rations. */
enum { PLAIN, TRACKED, RATIONED, TABLES };

static const struct conn_ops client_ops[TABLES] = {
	[PLAIN] = CLIENT_OPS(on_request),
	[TRACKED] = CLIENT_OPS(on_tracked_request),
	[RATIONED] = CLIENT_OPS(on_rationed_request),
};

static const struct conn_ops worker_ops[] = {
	[PLAIN] = WORKER_OPS(on_reply),
	[TRACKED] = WORKER_OPS(on_tracked_reply),
};

static void
choose_ops(struct proxy *proxy)
{
	int which = proxy->tracking ? TRACKED : PLAIN;

	proxy->side[PROXY_FRONTEND].ops = &client_ops[proxy->ration.on ? RATIONED : which];
	proxy->side[PROXY_BACKEND].ops = &worker_ops[which];
}

void
queue_set_rationed(struct proxy *proxy, bool rationed)
{
	proxy->ration.on = rationed;
	choose_ops(proxy);
}

const struct pattern pattern_queue = {
	.name = "queue",
	.side =
		{
			[PROXY_FRONTEND] =
				{
					.type = SOCKTYPE_ROUTER,
					.accepts = 1u << SOCKTYPE_REQ | 1u << SOCKTYPE_DEALER |
						1u << SOCKTYPE_ROUTER,
					.ops = &client_ops[PLAIN],
					.flush_at_end = true,
					.kick_waits = true,
				},
			[PROXY_BACKEND] =
				{
					.type = SOCKTYPE_DEALER,
					.accepts = 1u << SOCKTYPE_REP | 1u << SOCKTYPE_DEALER |
						1u << SOCKTYPE_ROUTER,
					.ops = &worker_ops[PLAIN],
					.enveloped = true,
					.hears_draining = true,
				},
		},
	.init = init,
	.fini = fini,
	.configure = configure,
	.drain = drain,
	.drain_step = queue_drain_step,
	.is_drained = queue_drain_is_over,
	.unfinished = queue_drain_unfinished,
	.log_drain = queue_drain_log,
	.drain_peer = queue_drain_begin,
	.drain_peer_step = queue_drain_continue,
	.close = before_close,
	.drop_waiting = drop_waiting,
	.describe = queue_describe,
	.describe_peer = queue_describe_peer,
	.fault = queue_fault,
	.check = check,
};
