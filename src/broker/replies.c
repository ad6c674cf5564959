/* SPDX-License-Identifier: MIT */
/*
 * Replies: which client a reply goes to, and where the reply waits while the client has no room.
 */
#include "broker/backlog.h"
#include "broker/queue_drain.h"
#include "broker/outstanding.h"
#include "broker/replies.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct peer *__attribute__((noinline)) replies_find_by_rope(
	struct proxy *proxy, const struct message *m, size_t *skip, enum drop_reason *reason)
{
	uint8_t buf[FRONT_MAX];
	struct front f;

	f.p = message_front(m, buf, sizeof(buf), &f.len);
	return replies_find_by_front(proxy, m, &f, skip, reason);
}

struct peer *
replies_holder(struct proxy *proxy, const struct message *m)
{
	uint8_t buf[FRONT_MAX];
	struct front f;
	const uint8_t *id;
	size_t id_len;

	f.p = message_front(m, buf, sizeof(buf), &f.len);
	if (replies_read_id(&f, m, &id, &id_len) == 0)
		return NULL;
	return router_find(&proxy->router, id, id_len);
}

void
replies_unask(struct proxy *proxy, const struct message *m)
{
	struct peer *holder = replies_holder(proxy, m);

	if (holder != NULL)
		outstanding_answer(holder);
}

void
replies_expect(struct proxy *proxy, const struct message *reply)
{
	struct peer *holder = replies_holder(proxy, reply);

	if (holder != NULL)
		holder->outstanding++;
}

/* Make the backlog's replies wait for room in this client's queue. */
static void
wait_for_room(struct proxy *proxy, struct peer *client, struct backlog *s)
{
	proxy->blocked += !list_linked(&s->node);
	list_move(&client->blocked, &s->node);
}

bool
replies_hold(struct proxy *proxy, struct peer *worker, struct peer *client, struct message *m)
{
	struct counters *c = &proxy->counters[PROXY_FRONTEND];
	struct backlog *s = backlog_of(worker);
	uint64_t before = s != NULL ? s->queue.bytes : 0;

	if (s == NULL || !outq_push(&s->queue, env_of(proxy), NULL, 0, m, 0)) {
		backlog_drop_for_memory(c, s);
		return false;
	}
	backlog_count(c, s->queue.bytes - before);
	if (client != NULL)
		wait_for_room(proxy, client, s);
	conn_pause(worker->conn, true);
	return true;
}

/* --- a client's overflow -------------------------------------------------- */

static bool
fits_overflow(const struct proxy *proxy, const struct peer *client, uint64_t size)
{
	return client->overflow == NULL ||
		client->overflow->bytes + size <=
		(uint64_t)proxy->opts[PROXY_FRONTEND].side.send_hwm_bytes;
}

static void
end_overflow(struct proxy *proxy, struct peer *client)
{
	outq_fini(client->overflow, env_of(proxy));
	free(client->overflow);
	client->overflow = NULL;
}

/*
 * The client does not take its replies: until it does, its requests are neither read nor passed on.
 */
static void
park(struct proxy *proxy, struct peer *client)
{
	if (client->backlog != NULL && list_linked(&client->backlog->node))
		list_move(&proxy->parked, &client->backlog->node);
	conn_pause(client->conn, true);
}

void
replies_unpark(struct proxy *proxy, struct peer *client)
{
	const struct backlog *s = client->backlog;

	client->waits = false;
	if (s != NULL && list_linked(&s->node)) {
		list_move(&proxy->waiting, &client->backlog->node);
		backlog_serve_soon(proxy);
	}
	if (s == NULL ||
		s->queue.bytes <= (uint64_t)proxy->opts[PROXY_FRONTEND].side.receive_hwm_bytes / 2)
		conn_pause(client->conn, false);
}

void
replies_end_wait(struct proxy *proxy, struct peer *client)
{
	client->waits = false;
	if (client->overflow != NULL)
		return;
	client->aside = client->draining;
	replies_unpark(proxy, client);
}

/* False: no memory, and the message is consumed. */
static bool
begin_overflow(struct proxy *proxy, struct peer *client, struct message *m)
{
	if (client->overflow != NULL)
		return true;
	client->overflow = mem_try_new(sizeof(*client->overflow));
	if (client->overflow != NULL)
		outq_init(client->overflow);
	else if (m->rope != NULL)
		outq_drop(m->rope, env_of(proxy));
	return client->overflow != NULL;
}

static void
push_overflow(struct proxy *proxy, struct peer *client, struct message *m, size_t skip)
{
	struct counters *c = &proxy->counters[PROXY_FRONTEND];
	uint64_t before = client->overflow != NULL ? client->overflow->bytes : 0;

	if (!begin_overflow(proxy, client, m) ||
		!outq_push(client->overflow, env_of(proxy), NULL, 0, m, skip)) {
		c->dropped[DROP_QUEUE_FULL]++;
		if (client->overflow != NULL && before == 0)
			end_overflow(proxy, client);
		return;
	}
	backlog_count(c, client->overflow->bytes - before);
	client->aside = true;
	if (!client->draining)
		park(proxy, client);
}

/* Moves as many replies as the client's queue has room for. */
static void
serve_overflow(struct proxy *proxy, struct peer *client)
{
	const uint8_t *p;
	size_t len;
	uint64_t size;

	if (client->overflow == NULL)
		return;
	while ((size = outq_peek(client->overflow, &p, &len)) > 0 &&
		conn_make_room(client->conn, (size_t)size)) {
		if (conn_send_from(client->conn, client->overflow) == 0) {
			outq_drop(client->overflow, env_of(proxy));
			proxy->counters[PROXY_FRONTEND].dropped[DROP_QUEUE_FULL]++;
		}
		backlog_uncount(&proxy->counters[PROXY_FRONTEND], size);
	}
	if (outq_empty(client->overflow))
		end_overflow(proxy, client);
}

void
replies_flush_overflow(struct proxy *proxy, struct peer *client)
{
	uint64_t size;

	if (client->overflow == NULL)
		return;
	while (conn_is_open(client->conn) &&
		(size = conn_send_from(client->conn, client->overflow)) > 0)
		backlog_uncount(&proxy->counters[PROXY_FRONTEND], size);
	replies_drop_overflow(
		proxy, client, proxy_is_stopping(proxy) ? DROP_SHUTDOWN : DROP_PEER_GONE);
}

void
replies_drop_overflow(struct proxy *proxy, struct peer *client, enum drop_reason reason)
{
	struct counters *c = &proxy->counters[PROXY_FRONTEND];

	if (client->overflow == NULL)
		return;
	c->queued -= client->overflow->messages;
	c->queued_bytes -= client->overflow->bytes;
	c->dropped[reason] += client->overflow->messages;
	client->conn->dropped += client->overflow->messages;
	end_overflow(proxy, client);
}

/* The client is draining and still waits for replies: see queue_drain.c. */
static bool
holds_back(const struct peer *client)
{
	return client->draining && !client->hasty && client->outstanding > 0;
}

/*
 * Half-close the client after what goes into its queue now, if that is the last. This must be
 * decided before, because much of a queue is written at once.
 */
static void
leave_with_that(struct proxy *proxy, struct peer *client, uint64_t unanswered)
{
	if (!client->draining || client->outstanding > unanswered || !list_empty(&client->blocked))
		return;
	if (peer_is_asking(client))
		return;
	if ((unanswered > 0 && !client->told) || !peer_may_ask(client, loop_now(proxy->loop)))
		conn_leave(
			client->conn, client->conn->reason, client->conn->detail, unanswered > 0);
}

/*
 * NOLINTBEGIN(misc-no-recursion): a client's last reply makes room, which lets another worker's
 * replies go on, and so forth. Each level has the held replies of one worker in hand, and takes
 * them off every list, so there are no more levels than such workers.
 */
void
replies_move_on(struct proxy *proxy, struct peer *client)
{
	replies_serve_blocked(proxy, &client->blocked);
	leave_with_that(proxy, client, 0);
	if (!holds_back(client))
		serve_overflow(proxy, client);
	if (client->overflow != NULL) {
		conn_stay(client->conn);
		return;
	}
	client->aside = client->draining;
	if (!client->draining)
		replies_unpark(proxy, client);
	replies_serve_blocked(proxy, &client->blocked);
}

void
replies_inherit_overflow(struct proxy *proxy, struct peer *client, struct peer *old)
{
	if (old->overflow == NULL)
		return;
	client->overflow = old->overflow;
	client->aside = true;
	old->overflow = NULL;
	park(proxy, client);
	replies_move_on(proxy, client);
}

/*
 * The first reply that does not fit into the overflow of a draining client ends the holding back.
 */
static bool
has_overflow(struct proxy *proxy, struct peer *client, uint64_t size)
{
	bool last = client->outstanding <= 1;

	if (client->overflow == NULL)
		return client->draining && !client->hasty && !last;
	if (!client->draining || fits_overflow(proxy, client, size))
		return true;
	client->hasty = true;
	serve_overflow(proxy, client);
	return client->overflow != NULL;
}

/* Drop a reply that does not fit; with when_full = close, the client is closed, too. */
static void
drop_for_room(struct proxy *proxy, struct peer *client)
{
	proxy->counters[PROXY_FRONTEND].dropped[DROP_QUEUE_FULL]++;
	if (proxy->opts[PROXY_FRONTEND].queue.when_full == WHEN_FULL_CLOSE &&
		!proxy_is_stopping(proxy))
		conn_close(
			client->conn, CLOSE_OVER_LIMIT, "when_full = close, and its queue is full");
}

bool
replies_place_aside(
	struct proxy *proxy, struct peer *client, struct message *m, size_t skip, bool wait)
{
	uint64_t size = m->size - skip;
	bool after = has_overflow(proxy, client, size);
	bool pause = proxy->opts[PROXY_FRONTEND].queue.when_full == WHEN_FULL_PAUSE;

	if (!after && conn_make_room(client->conn, (size_t)size)) {
		leave_with_that(proxy, client, 1);
		if (!conn_send(client->conn, NULL, 0, m, skip))
			proxy->counters[PROXY_FRONTEND].dropped[DROP_QUEUE_FULL]++;
	} else if ((after || pause || client->draining) && fits_overflow(proxy, client, size)) {
		push_overflow(proxy, client, m, skip);
	} else if (wait || (pause && !proxy_is_stopping(proxy))) {
		return false;
	} else {
		drop_for_room(proxy, client);
	}
	outstanding_answer(client);
	client->replied |= client->draining && !client->told;
	if (client->waits && !ration_is_used_up(client))
		replies_end_wait(proxy, client);
	if (client->draining && client->outstanding == 0 && conn_is_open(client->conn))
		replies_move_on(proxy, client);
	return true;
}

/* --- replies that wait at their worker ------------------------------------ */

/*
 * Passes the held replies of one worker on, in order, until a reply has to wait again. Frees the
 * backlog when no reply is left.
 */
static void
serve_held(struct proxy *proxy, struct backlog *s)
{
	struct counters *c = &proxy->counters[PROXY_FRONTEND];
	enum drop_reason reason;
	size_t skip;

	while (!outq_empty(&s->queue)) {
		struct message m = outq_as_message(&s->queue);
		uint64_t size = m.size;
		struct peer *client = replies_find_client(proxy, &m, &skip, &reason);

		if (client == NULL) {
			replies_unask(proxy, &m);
			outq_drop(&s->queue, env_of(proxy));
			c->dropped[proxy_is_stopping(proxy) ? DROP_SHUTDOWN : reason]++;
		} else if (!replies_place(proxy, client, &m, skip, true)) {
			wait_for_room(proxy, client, s);
			return;
		}
		backlog_uncount(c, size);
	}
	if (s->peer != NULL)
		conn_pause(s->peer->conn, false);
	backlog_free(s);
}

/* Tries each backlog once: one that has to wait again is back in a list: a walk might not end. */
void
replies_serve_blocked(struct proxy *proxy, struct list *blocked)
{
	struct list round, *node;

	list_init(&round);
	while ((node = list_pop(blocked)) != NULL) {
		proxy->blocked--;
		list_push(&round, node);
	}
	while ((node = list_pop(&round)) != NULL)
		serve_held(proxy, list_entry(node, struct backlog, node));
}

/* NOLINTEND(misc-no-recursion) */

void
replies_lose(struct proxy *proxy, struct peer *client)
{
	outstanding_answer(client);
	if (!client->draining || client->outstanding > 0)
		return;
	if (client->hasty && client->replied && !client->told) {
		/* the last reply came without our half-close: the client may ask again */
		client->replied = false;
		client->accept_until = loop_now(proxy->loop) + DRAIN_GRACE_MS;
	}
	replies_move_on(proxy, client);
}
