/* SPDX-License-Identifier: MIT */
/*
 * Queue mode: which request may reach which worker, and which reply which client.
 */
#include <string.h>

#include "broker/deliveries.h"
#include "broker/peer.h"
#include "broker/proxy.h"
#include "net/conn.h"
#include "peers.h"
#include "queue_mode.h"
#include "sim.h"

enum { BYE_MS = 1000 }; /* a client that got DRAINING and sends no BYE is closed then */

/* A generated id is learnt from the first request that carries it, and is no other client's. */
static void
learn_id(struct peer_sim *client, const uint8_t *id, size_t len)
{
	if (client->seen_id_len == 0) {
		memcpy(client->seen_id, id, len);
		client->seen_id_len = len;
		if (client->id_len == 0 && (len != 5 || id[0] != 0))
			violation("peer %d got a routing id of %zu bytes", client->number, len);
		if (client->id_len == 0)
			for (struct peer_sim *p = peers; p != NULL; p = p->next)
				if (p != client && same_id(p->seen_id, p->seen_id_len, id, len) &&
					peer_is_live(p))
					violation("peers %d and %d have one routing id", p->number,
						client->number);
	}
	if (!same_id(client->seen_id, client->seen_id_len, id, len) ||
		(client->id_len > 0 && !same_id(client->id, client->id_len, id, len)))
		violation("a request of peer %d carries another routing id", client->number);
}

/* How often one request may be delivered, and how many requests one worker may hold. */
static void
check_deliveries(const struct peer_sim *w, int index)
{
	const struct proxy_opts *o = &world.proxy_config.side[PROXY_BACKEND].opts;
	const struct sim_message *m = &messages[index];
	const struct sock *s = w->sock;

	if (m->delivered > 1 && !o->queue.redeliver)
		violation("request %d is delivered a second time, to worker %d", index, w->number);
	/* if a worker holds one request at a time, that one is always to blame */
	if (m->delivered >
		(unsigned)o->queue.redeliver_limit * (o->queue.max_outstanding == 1 ? 1 : 10))
		violation("request %d is delivered %u times", index, m->delivered);
	if (o->queue.max_outstanding > 0 && o->queue.answer_timeout == 0 &&
		strcmp(w->type, "REP") != 0 &&
		s->messages_out + 1 > s->accepted + (uint64_t)o->queue.max_outstanding)
		violation("worker %d holds more than max_outstanding requests", w->number);
}

void
queue_check_request(struct peer_sim *w, const uint8_t *p, size_t len, int index)
{
	struct sim_message *m = &messages[index];
	size_t id_frame = 2 + (size_t)p[1];
	struct proxy *proxy = world_proxy();

	if (m->kind != REQUEST)
		violation("worker %d gets a reply", w->number);
	if (w->dismissed)
		violation("worker %d drains, has its BYE, and gets request %d", w->number, index);
	if ((p[0] & 3) != 1)
		violation("worker %d gets a request without a routing id before it", w->number);
	learn_id(m->from, p + 2, p[1]);
	if (len - id_frame != m->len || memcmp(p + id_frame, m->bytes, m->len) != 0)
		violation("worker %d gets request %d with other bytes than were sent", w->number,
			index);
	if (!m->accepted)
		violation("worker %d gets request %d before its last byte was read", w->number,
			index);
	if (message_is_answerable(m))
		w->sock->answerable_out++;
	else if (strcmp(w->type, "REP") == 0)
		m->thrown = true;
	check_deliveries(w, index);
	peer_check_order(w, m,
		m->delivered > 1 ||
			proxy->counters[PROXY_BACKEND].rerouted +
					proxy->counters[PROXY_BACKEND].redelivered >
				m->moved_before);
}

static bool
shares_id(const struct peer_sim *p)
{
	return p->id_len > 0 && memcmp(p->id, "shared", 6) == 0;
}

/* With redeliver: one reply for each request. Without a request id, they are indistinguishable. */
static void
check_answer(struct peer_sim *c, const struct sim_message *m)
{
	struct sim_message *q;

	if (m->answers < 0 || !world.proxy_config.side[PROXY_BACKEND].opts.queue.redeliver)
		return;
	q = &messages[m->answers];
	q->replies++;
	c->replies++;
	if (shares_id(c))
		return; /* a reply may count as one to its predecessor */
	if (q->replies > 1 && q->from->request_id)
		violation("client %d gets a second reply to request %d", c->number, m->answers);
	if (c->replies > c->asked)
		violation("client %d gets more replies than it sent requests", c->number);
}

uint64_t
queue_lost(void)
{
	const struct counters *c = world_proxy()->counters;

	return counters_dropped(&c[PROXY_FRONTEND]) + counters_dropped(&c[PROXY_BACKEND]) -
		c[PROXY_BACKEND].dropped[DROP_SHUTDOWN];
}

/*
 * Without redeliver a suspect's oldest request is given up for a trial: its reply passes if it
 * comes, and is not waited for.
 */
static uint64_t
given_up(const struct proxy *proxy, const struct peer_sim *c)
{
	uint64_t count = 0;

	if (proxy->opts[PROXY_BACKEND].queue.redeliver)
		return 0;
	list_each(node, tmp, &proxy->side[PROXY_BACKEND].conns) {
		const struct peer *worker = list_entry(node, struct conn, node)->peer;
		const struct list *expired =
			worker != NULL && worker->ledger != NULL ? &worker->ledger->expired : NULL;

		for (const struct list *n = expired; n != NULL && n->next != expired; n = n->next) {
			const struct request *r =
				list_entry(n->next, struct delivery, node)->request;
			size_t len;
			const uint8_t *id = request_client(r, &len);

			count += !r->answered && !r->outstanding &&
				same_id(id, len, c->seen_id, c->seen_id_len);
		}
	}
	return count;
}

/*
 * A client that drains without a fault is closed after the last of its replies: every request that
 * had reached our kernel by then has one, except those that were dropped and counted because they
 * came too late.
 */
void
queue_check_farewell(const struct sock *s)
{
	const struct proxy *proxy = world_proxy();
	const struct conn *conn = world_conn(s->fd);
	uint64_t asked = 0, answered = given_up(proxy, s->peer), late = conn->dropped;
	size_t until = s->in.arrived;

	if (s->peer->told_at != 0 && proxy_is_draining(proxy) && !proxy_is_stopping(proxy)) {
		if (s->in.read < s->peer->bye_end || s->peer->bye_end == 0) {
			if (world.now - s->peer->told_at < BYE_MS - 100)
				violation("client %d is closed before its BYE", s->peer->number);
		} else {
			late = 0; /* nothing of it is, wherever it may be */
			until = SIZE_MAX;
		}
	}
	if (!proxy->opts[PROXY_BACKEND].queue.replies)
		return; /* no reply is expected */
	if (!world.farewell || !proxy_is_draining(proxy) || proxy_is_stopping(proxy) || s->reset ||
		s->in.fin || queue_lost() != world.farewell_drops)
		return;
	if (conn->part_since < ((const struct peer *)conn->peer)->accept_until)
		violation("client %d is closed in the middle of a request", s->peer->number);
	for (size_t i = 0; i < s->received.count && s->received.at[i].end <= until; i++) {
		int index = s->received.at[i].message;
		if (index < world.farewell_from || messages[index].kind != REQUEST)
			continue;
		asked++;
		/* where requests look alike, a second reply to one may pass for that to another */
		answered += messages[index].answered_times;
		/*
		 * a request that a REP discards is not waited for, nor is one that is on its way to
		 * a REP
		 */
		answered += messages[index].answered_times == 0 &&
			(messages[index].thrown ||
				(messages[index].delivered == 0 &&
					!message_is_answerable(&messages[index])));
	}
	if (asked > answered + late)
		violation("client %d is closed, and %llu of its requests have no reply",
			s->peer->number, (unsigned long long)(asked - answered - late));
}

void
queue_check_reply(struct peer_sim *c, const uint8_t *p, size_t len, int index)
{
	struct sim_message *m = &messages[index];
	const uint8_t *id = c->id_len > 0 ? c->id : c->seen_id;
	size_t id_len = c->id_len > 0 ? c->id_len : c->seen_id_len;
	bool known = id_len > 0;

	if (m->kind != REPLY)
		violation("client %d gets a request", c->number);
	if (m->too_big)
		violation("client %d gets reply %d, which is over a limit", c->number, index);
	if (m->envelope == 0 || m->len - m->envelope != len ||
		memcmp(p, m->bytes + m->envelope, len) != 0)
		violation("client %d gets reply %d with other bytes than were sent", c->number,
			index);
	if (known && !same_id(id, id_len, m->bytes + 2, m->bytes[1]))
		violation(
			"client %d gets reply %d, which is addressed to another", c->number, index);
	if (!known && m->answers >= 0)
		violation("client %d gets reply %d, though it sent no request", c->number, index);
	if (!m->accepted)
		violation(
			"client %d gets reply %d before its last byte was read", c->number, index);
	if (m->delivered > 1)
		violation("reply %d is delivered a second time, to client %d", index, c->number);
	peer_check_order(c, m, false);
	if (m->answers >= 0)
		messages[m->answers].answered_times++;
	check_answer(c, m);
}

/* Is there a drop that was counted and may have been this request, or the reply to it? */
static bool
may_be_dropped(const struct sim_message *m)
{
	const struct counters *c = world_proxy()->counters, *backend = &c[PROXY_BACKEND];
	uint64_t limit =
		(uint64_t)world.proxy_config.side[PROXY_BACKEND].opts.queue.redeliver_limit;

	return backend->dropped[DROP_QUEUE_FULL] > 0 ||
		(backend->dropped[DROP_UNDELIVERABLE] > 0 &&
			m->delivered + backend->poisoned >= limit) ||
		(c[PROXY_FRONTEND].dropped[DROP_QUEUE_FULL] +
					c[PROXY_FRONTEND].dropped[DROP_TOO_BIG] >
				0 &&
			m->replied) ||
		m->thrown || (backend->dropped[DROP_MALFORMED] > 0 && !message_is_answerable(m));
}

static void
check_client(const struct peer_sim *c)
{
	const struct counters *front = &world_proxy()->counters[PROXY_FRONTEND];
	uint64_t dropped = 0;

	/* if replies cannot be matched to requests, any dropped one may be this client's */
	if (world.muddled && !c->request_id)
		dropped = front->dropped[DROP_QUEUE_FULL] + front->dropped[DROP_TOO_BIG];
	for (int i = 0; i < message_count; i++) {
		const struct sim_message *m = &messages[i];

		if (m->kind != REQUEST || m->from != c || !m->accepted)
			continue;
		if (may_be_dropped(m))
			dropped++;
		else if (c->request_id && m->replies == 0)
			violation("request %d of client %d, which stayed, has no reply", i,
				c->number);
	}
	if (c->asked > c->replies + dropped)
		violation(
			"client %d stayed, sent %u requests and got %u replies; %llu may have been "
			"dropped",
			c->number, c->asked, c->replies, (unsigned long long)dropped);
}

void
queue_check_answers(void)
{
	const struct proxy_opts *o = &world.proxy_config.side[PROXY_BACKEND].opts;
	const struct counters *c = world_proxy()->counters;
	uint64_t deserved = 0;

	if (!o->queue.redeliver)
		return;
	for (const struct peer_sim *p = peers; p != NULL; p = p->next)
		if (p->side == PROXY_FRONTEND && peer_is_live(p) && !p->sock->daemon_closed &&
			!shares_id(p))
			check_client(p);
	for (int i = 0; i < message_count; i++)
		deserved += messages[i].delivered >= o->queue.redeliver_limit;
	if (c[PROXY_BACKEND].dropped[DROP_UNDELIVERABLE] > deserved + c[PROXY_BACKEND].poisoned)
		violation("%llu requests were dropped as undeliverable, and %llu of them were "
			  "delivered "
			  "often enough",
			(unsigned long long)c[PROXY_BACKEND].dropped[DROP_UNDELIVERABLE],
			(unsigned long long)deserved);
}
