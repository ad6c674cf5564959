/* SPDX-License-Identifier: MIT */
/*
 * How peers are drained in mode queue.
 *
 * A worker gets no new requests, and is closed when it holds none any more. A client is half-closed
 * in the same write as its last reply; until then, earlier replies are held back in its overflow.
 * The reason: a client that has its reply sends its next request at once, and that request must not
 * go into a connection that is about to end, where nobody can answer it. So a client that seems to
 * be idle has a moment to ask, too, and is half-closed with the reply, or when it did not ask.
 *
 * Another Bulkhead sends the requests of many clients, at any time, so its connection cannot end
 * between two requests. It understands DRAINING: after that it gives requests to other brokers, or
 * keeps them until we are back, and sends BYE after its last request. So none of its requests is on
 * the wire when we half-close, and its replies need not be held back. Requests that it sends before
 * BYE may have been in its queue when DRAINING came, so they are served for longer than a moment;
 * but a Bulkhead that takes everything that we have for it, and has nothing waiting here, has had
 * the time to say BYE.
 */
#include "broker/queue_drain.h"

#include <inttypes.h>

#include "base/log.h"
#include "broker/backlog.h"
#include "broker/redeliver.h"
#include "broker/replies.h"

static bool
is_client(const struct conn *conn)
{
	const struct peer *peer = conn->peer;

	return conn->side == &peer->proxy->side[PROXY_FRONTEND];
}

/*
 * Is a request with a worker, or on its way to one, or a reply on its way to a client's queue?
 * Called for each of thousands of clients.
 */
static bool
is_busy(const struct proxy *proxy)
{
	const struct counters *c = &proxy->counters[PROXY_BACKEND];

	return c->outstanding > 0 || c->queued > 0 || proxy->blocked > 0;
}

/* A client that has been connected for a while and never asked need not be waited for. */
static bool
never_asks(const struct conn *conn, int64_t now)
{
	return conn->messages_in == 0 && now >= conn->opened + DRAIN_GRACE_MS;
}

/* --- beginning ------------------------------------------------------------ */

void
queue_drain_mark(struct conn *conn, enum close_reason reason, const char *detail)
{
	struct peer *peer = conn->peer;
	int64_t now = loop_now(peer->proxy->loop);

	if (peer->draining)
		return;
	peer->draining = true;
	peer_set_service(peer);
	if (!is_client(conn)) {
		balance_remove(&peer->proxy->balance, peer);
		return;
	}
	peer->aside = true;
	conn->reason = reason; /* for conn_leave, unless another reason comes first */
	conn->detail = detail;
	peer->told = !proxy_is_stopping(peer->proxy) && conn_say_draining(conn);
	peer->hasty = peer->told;
	peer->told_since = (uint32_t)now;
	peer->accept_until = now + (peer->told ? DRAIN_BYE_MS : DRAIN_GRACE_MS);
	peer->replied = !peer->told && never_asks(conn, now);
	replies_unpark(peer->proxy, peer);
	conn_pause(conn, false); /* its PINGs are answered, its end is noticed */
}

/*
 * A worker, another Bulkhead, drains: it gets no more requests, and ends the connection when it is
 * done.
 */
void
queue_drain_on_draining(struct conn *conn)
{
	struct peer *worker = conn->peer;

	conn_say_bye(conn);
	if (worker->draining)
		return;
	worker->draining = true;
	peer_set_service(worker);
	balance_remove(&worker->proxy->balance, worker);
	log_event(LOG_LEVEL_INFO, "peer_draining", "proxy=%s side=%s peer=%" PRIu64 " address=%s",
		conn->side->proxy_name, conn->side->name, conn->id, conn->address);
}

/* A client that was told to ask no more has sent its last request. */
void
queue_drain_on_bye(struct conn *conn)
{
	struct peer *client = conn->peer;

	if (!client->told || client->replied)
		return;
	client->replied = true;
	replies_move_on(client->proxy, client);
}

void
queue_drain_begin(struct conn *conn, enum close_reason reason, const char *detail)
{
	struct peer *peer = conn->peer;

	if (peer->draining)
		return;
	if (is_client(conn) && !is_busy(peer->proxy))
		peer->outstanding = 0;
	queue_drain_mark(conn, reason, detail);
	if (is_client(conn))
		replies_move_on(peer->proxy, peer);
}

void
queue_drain_clients(struct proxy *proxy)
{
	enum close_reason reason = proxy->closing_reason;
	bool busy = is_busy(proxy);

	list_each(node, tmp, &proxy->side[PROXY_FRONTEND].conns) {
		struct conn *conn = list_entry(node, struct conn, node);
		struct peer *client = conn->peer;

		if (client == NULL || !conn_is_open(conn) || client->draining)
			continue;
		if (!busy) /* what the client asked was lost with a worker, or wanted no reply */
			client->outstanding = 0;
		queue_drain_mark(conn, reason, NULL);
		replies_move_on(proxy, client);
	}
}

void
queue_drain_note_unserved(struct proxy *proxy, struct peer *client)
{
	proxy->unserved_requests++;
	proxy->unserved_clients += !client->unserved;
	client->unserved = true;
}

/*
 * The client's end is due, and it has no way to know: all that it asked is answered, and it asks
 * again.
 */
static bool
is_just_late(const struct peer *client, int64_t now)
{
	return !client->told && client->outstanding == 0 && outq_empty(&client->conn->out) &&
		now < client->accept_until + DRAIN_GRACE_MS;
}

/* The client was told to ask no more, and what it asks may have been in its queue then. */
static bool
awaits_bye(const struct peer *client, int64_t now)
{
	return client->told && !client->replied &&
		(uint32_t)now - client->told_since < DRAIN_TOLD_MS;
}

bool
queue_drain_serves(struct proxy *proxy, struct peer *client)
{
	struct conn *conn = client->conn;
	int64_t now = loop_now(proxy->loop);
	bool bye = awaits_bye(client, now);

	if (!proxy_is_stopping(proxy) && conn_is_open(conn) &&
		(now < client->accept_until || peer_is_asking(client) ||
			is_just_late(client, now) || bye)) {
		if (bye) /* the next request, or BYE, has as long */
			client->accept_until = now + DRAIN_BYE_MS;
		conn_stay(conn);
		return true;
	}
	proxy->counters[PROXY_BACKEND].dropped[DROP_SHUTDOWN]++;
	conn->dropped++;
	if (proxy_is_draining(proxy))
		queue_drain_note_unserved(proxy, client);
	return false;
}

/* --- going on ------------------------------------------------------------- */

static void
step(struct conn *conn, bool busy)
{
	struct peer *client = conn->peer;
	int64_t now = loop_now(client->proxy->loop);

	if (!busy)
		client->outstanding = 0;
	if (client->told && conn->out.unsent > 0) /* the client may not know yet */
		client->accept_until = now + DRAIN_BYE_MS;
	if (conn->out.unsent > 0 || client->backlog != NULL)
		client->told_since = (uint32_t)now;
	replies_move_on(client->proxy, client);
}

void
queue_drain_step(struct proxy *proxy)
{
	bool busy = is_busy(proxy);

	list_each(node, tmp, &proxy->side[PROXY_FRONTEND].conns) {
		struct conn *conn = list_entry(node, struct conn, node);
		if (conn_is_open(conn) && conn->peer != NULL)
			step(conn, busy);
	}
}

static bool
is_idle(const struct conn *worker)
{
	const struct peer *peer = worker->peer;

	return worker->out.messages == 0 && peer->backlog == NULL && peer->outstanding == 0;
}

/* Close a connection politely now, with all replies that there are for it. */
static void
finish(struct conn *conn, enum close_reason reason, const char *detail)
{
	if (conn->peer != NULL && is_client(conn)) {
		queue_drain_mark(conn, reason, detail);
		replies_flush_overflow(proxy_of(conn), conn->peer);
	}
	conn_finish(conn, reason, detail);
}

void
queue_drain_continue(struct conn *conn, bool late, enum close_reason reason, const char *detail)
{
	if (!conn_is_open(conn) || conn->peer == NULL)
		return;
	if (late)
		finish(conn, reason, detail);
	else if (is_client(conn))
		step(conn, is_busy(proxy_of(conn)));
	else if (is_idle(conn))
		conn_finish(conn, reason, detail);
}

/* --- what is left --------------------------------------------------------- */

/* Returns how many connected clients wait for replies; *requests: for how many replies. */
static uint64_t
count_owed(const struct proxy *proxy, uint64_t *requests)
{
	uint64_t clients = 0;

	*requests = 0;
	list_each(node, tmp, &proxy->side[PROXY_FRONTEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *client = conn->peer;

		if (client == NULL || !conn_is_open(conn) || conn_is_broken(conn))
			continue;
		clients += client->outstanding > 0;
		*requests += client->outstanding;
	}
	return clients;
}

/* Clients that are in the middle of a request, or may be about to ask. */
static uint64_t
count_may_ask(const struct proxy *proxy)
{
	int64_t now = loop_now(proxy->loop);
	uint64_t clients = 0;

	list_each(node, tmp, &proxy->side[PROXY_FRONTEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *client = conn->peer;

		clients += client != NULL && conn_is_open(conn) && !conn_is_broken(conn) &&
			client->outstanding == 0 && peer_may_ask(client, now);
	}
	return clients;
}

/* How many requests wait for a worker. */
static uint64_t
count_waiting_requests(const struct proxy *proxy)
{
	const struct list *lists[] = {&proxy->waiting, &proxy->parked};
	uint64_t waiting = proxy->rerouted != NULL ? proxy->rerouted->queue.messages : 0;

	for (int i = 0; i < 2; i++)
		list_each_const(n, lists[i])
			waiting += list_entry(n, struct backlog, node)->queue.messages;
	return waiting + redeliver_never_sent(proxy);
}

/*
 * Replies that are held back until the last one, or that will be written with the client's
 * half-close.
 */
static uint64_t
count_held_back(const struct proxy *proxy)
{
	uint64_t replies = 0;

	list_each(node, tmp, &proxy->side[PROXY_FRONTEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *client = conn->peer;

		if (client == NULL || !conn_is_open(conn) || conn_is_broken(conn))
			continue;
		if (client->overflow != NULL)
			replies += client->overflow->messages;
		if (conn_is_leaving(conn) && !conn_is_blocked(conn))
			replies += conn->out.messages;
	}
	return replies;
}

/* Requests in a worker's queue are outstanding as well; requests that wait for a worker are not. */
uint64_t
queue_drain_unfinished(const struct proxy *proxy)
{
	uint64_t waiting = count_waiting_requests(proxy), open, asked;

	open = proxy->counters[PROXY_BACKEND].outstanding + waiting;
	count_owed(proxy, &asked);
	/* requests of clients that left do not count, except those that no worker had */
	if (asked < waiting)
		asked = waiting;
	return (asked < open ? asked : open) + proxy->counters[PROXY_FRONTEND].queued -
		count_held_back(proxy);
}

bool
queue_drain_is_over(const struct proxy *proxy)
{
	bool open = proxy->counters[PROXY_BACKEND].outstanding > 0;
	int64_t now = loop_now(proxy->loop);

	if (proxy->counters[PROXY_FRONTEND].queued > 0 || proxy->counters[PROXY_BACKEND].queued > 0)
		return false;
	if (proxy->client_departed ||
		proxy->deliveries.sweep !=
			NULL) /* requests of clients that left are about to be given up */
		return false;
	list_each(node, tmp, &proxy->side[PROXY_FRONTEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *client = conn->peer;

		if (conn->state == CONN_CLOSED && client != NULL)
			return false; /* what the client leaves is not counted yet */
		if (client == NULL || !conn_is_open(conn) || conn_is_broken(conn))
			continue;
		if (client->outstanding > 0 && !peer_is_asking(client) ? open
								       : peer_awaits(client, now))
			return false;
		if (client->draining) /* the client may ask until it is half-closed */
			return false;
	}
	return true;
}

/* The worker with the most outstanding requests; *workers: how many workers have some. */
static const struct conn *
busiest(const struct proxy *proxy, uint64_t *workers)
{
	const struct conn *most = NULL;

	*workers = 0;
	list_each(node, tmp, &proxy->side[PROXY_BACKEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *worker = conn->peer, *other = most != NULL ? most->peer : NULL;

		if (worker == NULL || worker->outstanding == 0)
			continue;
		++*workers;
		if (other == NULL || worker->outstanding > other->outstanding)
			most = conn;
	}
	return most;
}

void
queue_drain_log(const struct proxy *proxy, int64_t left)
{
	uint64_t requests, workers, clients = count_owed(proxy, &requests),
				    ask = count_may_ask(proxy);
	const struct conn *worker = busiest(proxy, &workers);

	if (queue_drain_is_over(proxy))
		return;
	log_event(LOG_LEVEL_NOTICE, "drain_waits",
		"proxy=%s unanswered=%" PRIu64 " clients=%" PRIu64 " may_ask=%" PRIu64
		" workers=%" PRIu64 " busiest=%s no_worker=%" PRIu64 " replies_queued=%" PRIu64
		" left_ms=%" PRId64,
		proxy->name, requests, clients, ask, workers,
		worker != NULL ? worker->address : "-", count_waiting_requests(proxy),
		proxy->counters[PROXY_FRONTEND].queued, left);
}
