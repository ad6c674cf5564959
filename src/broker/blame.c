/* SPDX-License-Identifier: MIT */
#include "broker/blame.h"

#include <stdlib.h>

#include "base/mem.h"
#include "broker/broker_impl.h"
#include "broker/redeliver.h"
#include "net/conn.h"

enum {
	SLOW_SECONDS = 128, /* a peer that needs longer for all that it holds stands still */
	PENDING = 2048      /* bytes in our kernel, see much_pending() */
};

uint64_t
blame_queue_cost(const struct conn *conn)
{
	const struct peer *peer = conn->peer;
	uint64_t cost = outq_cost(&conn->out);

	return peer != NULL && peer->aside && peer->overflow != NULL
		? cost + outq_cost(peer->overflow)
		: cost;
}

/* --- how far they have come ----------------------------------------------- */

/* The mark of this connection, or NULL; *at advances with the walk. */
static const struct blame_mark *
find_mark(const struct blame *b, size_t *at, size_t side, uint64_t id)
{
	const struct blame_mark *k = b->marks;

	while (*at < b->count && (k[*at].side < side || (k[*at].side == side && k[*at].id < id)))
		++*at;
	return *at < b->count && k[*at].side == side && k[*at].id == id ? &k[*at] : NULL;
}

/*
 * So many bytes in our kernel are more than a trickle brought since we read last, or fill a small
 * buffer.
 */
static size_t
much_pending(const struct conn *conn)
{
	int64_t buffer = conn->side->opts->receive_buffer;

	return buffer > 0 && buffer / 4 < PENDING ? (size_t)buffer / 4 + 1 : PENDING;
}

bool
blame_sends_nothing(const struct conn *conn)
{
	size_t pending = conn_pending(conn);

	return pending == 0 ||
		(pending < much_pending(conn) && pending < session_body_left(&conn->session));
}

static bool
takes_its_time(const struct conn *conn)
{
	return conn_is_blocked(conn) || conn->state == CONN_STALLED;
}

static void
begin_mark(struct blame_mark *k, const struct conn *conn, int64_t now)
{
	k->in_since = now - conn_silent_for(conn);
	k->out_since = conn_is_blocked(conn) ? conn->blocked_since : now;
}

static void
renew_mark(
	struct blame_mark *k, const struct conn *conn, uint64_t part, uint64_t queue, int64_t now)
{
	if (part == 0 || conn->bytes_in - k->bytes_in > part / SLOW_SECONDS ||
		(now - k->in_since >= BLAME_MS && !blame_sends_nothing(conn))) {
		k->bytes_in = conn->bytes_in;
		k->in_since = now;
	}
	if (queue == 0 || !takes_its_time(conn) ||
		conn->bytes_out - k->bytes_out > queue / SLOW_SECONDS) {
		k->bytes_out = conn->bytes_out;
		k->out_since = now;
	}
}

/*
 * Room for the marks of all connections. Without memory no new peer is marked, so none is blamed.
 */
static bool
grow(struct blame *b, size_t connections)
{
	struct blame_mark *marks, *spare;

	if (b->room >= connections && b->room > 0)
		return true;
	marks = mem_try_resize(b->marks, (connections * 2 + 1) * sizeof(*marks));
	if (marks == NULL)
		return false;
	b->marks = marks;
	spare = mem_try_resize(b->spare, (connections * 2 + 1) * sizeof(*spare));
	if (spare == NULL)
		return false;
	b->spare = spare;
	b->room = connections * 2;
	return true;
}

void
blame_measure(struct blame *b, const struct broker *broker)
{
	int64_t now = loop_now(broker->loop);
	struct blame_mark *next;
	size_t at = 0, count = 0;

	if (!grow(b, broker->loop->connections))
		return;
	next = b->spare;
	for (size_t i = 0; i < broker_side_count(broker); i++) {
		list_each(node, tmp, &broker_side_at(broker, i)->conns) {
			const struct conn *conn = list_entry(node, struct conn, node);
			uint64_t part = outq_cost(&conn->part), queue = blame_queue_cost(conn);
			const struct blame_mark *k;

			if (!conn_is_open(conn) || part + queue == 0)
				continue;
			k = find_mark(b, &at, i, conn->id);
			if (k != NULL) {
				next[count] = *k;
				renew_mark(&next[count], conn, part, queue, now);
			} else {
				next[count] = (struct blame_mark){
					i, conn->id, conn->bytes_in, conn->bytes_out, now, now};
				begin_mark(&next[count], conn, now);
			}
			count++;
		}
	}
	b->spare = b->marks;
	b->marks = next;
	b->count = count;
}

void
blame_forget(struct blame *b)
{
	free(b->marks);
	free(b->spare);
	*b = (struct blame){0};
}

/* --- who is to blame ------------------------------------------------------ */

static bool
takes_nothing(const struct conn *conn, const struct blame_mark *k, int64_t now)
{
	return conn->state == CONN_STALLED ||
		(conn_is_blocked(conn) && now - k->out_since >= BLAME_MS);
}

static bool
brings_nothing(const struct conn *conn, const struct blame_mark *k, int64_t now)
{
	return now - k->in_since >= BLAME_MS && blame_sends_nothing(conn);
}

/*
 * A worker's queue can be rerouted only by closing the worker, which wins nothing if no other
 * worker takes it.
 */
static bool
can_be_taken(const struct conn *conn, const struct conn *taker)
{
	const struct peer *from = conn->peer, *to = taker != NULL ? taker->peer : NULL;
	const struct proxy_opts *o = &from->proxy->opts[PROXY_BACKEND];

	return to != NULL && taker != conn && to->outstanding <= from->outstanding / 2 &&
		(o->queue.max_outstanding == 0 ||
			to->outstanding < (uint64_t)o->queue.max_outstanding) &&
		(taker->out.messages == 0 ||
			taker->out.bytes + conn->out.bytes <= (uint64_t)o->side.send_hwm_bytes);
}

/*
 * How much a connection holds needlessly. `own` is what its side brought in, `other` what the other
 * side did. No peer is blamed for what is within the share of a side.
 */
static uint64_t
reclaimable(const struct conn *conn, const struct blame_mark *k, const struct memory_held *own,
	const struct memory_held *other, bool backend)
{
	int64_t now = loop_now(conn->side->loop);
	uint64_t held = 0;

	if (!conn_is_open(conn) || conn->peer == NULL)
		return 0;
	if (k != NULL && other->over_share && takes_nothing(conn, k, now) &&
		(!backend || can_be_taken(conn, own->taker)))
		held += blame_queue_cost(conn);
	if (k != NULL && own->over_share && !outq_empty(&conn->part) &&
		brings_nothing(conn, k, now))
		held += outq_cost(&conn->part);
	/* the worker does not answer these: reading would pause until it closes */
	if (backend && other->over_share)
		held += redeliver_expired_bytes(conn->peer, now, BLAME_MS);
	return held;
}

struct conn *
blame_worst(const struct blame *b, const struct broker *broker, const struct memory_held *held,
	uint64_t least, uint64_t *most)
{
	struct conn *worst = NULL;
	size_t at = 0;

	*most = least;
	for (size_t i = 0; i < broker_side_count(broker); i++) {
		bool backend = broker_which_at(i) == PROXY_BACKEND;
		const struct memory_held *other = &held[broker_other_side(i)];

		list_each(node, tmp, &broker_side_at(broker, i)->conns) {
			struct conn *conn = list_entry(node, struct conn, node);
			uint64_t bytes = reclaimable(
				conn, find_mark(b, &at, i, conn->id), &held[i], other, backend);

			if (bytes > *most) {
				*most = bytes;
				worst = conn;
			}
		}
	}
	return worst;
}
