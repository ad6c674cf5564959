/* SPDX-License-Identifier: MIT */
#include "broker/describe.h"

#include <string.h>

#include "broker/pattern.h"
#include "broker/peer.h"

enum { EXAMINED_MAX = 4096 }; /* connections of a side that are searched for faults */

/* --- peers ---------------------------------------------------------------- */

static enum peer_poison
poison_of(const struct conn *conn)
{
	if (poison_is_poisoned(&conn->guard))
		return PEER_POISONED;
	return poison_midway(&conn->guard) ? PEER_ARMED : PEER_CLEAN;
}

static void
describe_peer(const struct conn *conn, int side, struct peer_view *v, struct peer_text *text)
{
	int64_t now_ms = loop_now(conn->side->loop);

	*v = (struct peer_view){
		.id = conn->id,
		.side = (uint8_t)side,
		.state = (uint8_t)conn->state,
		.was_ready = conn->was_ready,
		.dialled = conn->connector != NULL,
		.reading = !conn->paused && !conn->side->read_paused,
		.poison = (uint8_t)poison_of(conn),
		.queued = conn->out.messages,
		.queued_bytes = conn->out.bytes,
		.part_bytes = conn->part.bytes,
		.messages_in = conn->messages_in,
		.messages_out = conn->messages_out,
		.bytes_in = conn->bytes_in,
		.bytes_out = conn->bytes_out,
		.age_ms = now_ms - conn->opened,
		.idle_ms = now_ms - conn->last_in,
		.blocked_ms = conn_is_blocked(conn) ? now_ms - conn->blocked_since : 0,
	};
	if (conn->was_ready) {
		v->socktype = (uint8_t)conn->session.peer_type;
		v->zmtp_minor = (uint8_t)session_peer_minor(&conn->session);
	}
	*text = (struct peer_text){.address = conn->address};
	if (conn->peer != NULL)
		((const struct peer *)conn->peer)->proxy->pattern->describe_peer(conn, v, text);
}

void
proxy_describe_peers(const struct proxy *proxy, int side,
	void (*see)(void *arg, const struct peer_view *view, const struct peer_text *text),
	void *arg)
{
	list_each(node, tmp, &proxy->side[side].conns) {
		struct peer_view view;
		struct peer_text text;

		describe_peer(list_entry(node, struct conn, node), side, &view, &text);
		see(arg, &view, &text);
	}
}

/* --- proxies -------------------------------------------------------------- */

/* PEER_FAULTS: nothing is wrong with the peer. */
static enum peer_fault
fault_of(const struct conn *conn)
{
	const struct peer *peer = conn->peer;

	if (conn->state == CONN_STALLED)
		return PEER_STALLED;
	if (conn->state != CONN_READY || peer == NULL || peer->draining)
		return PEER_FAULTS;
	return peer->proxy->pattern->fault(conn);
}

/* Runs often: it costs nothing while no peer has a fault, and is bounded otherwise. */
static void
name_faulty_peers(const struct side *side, struct side_view *v)
{
	size_t count[PEER_FAULTS] = {0}, examined = 0;

	if (v->suspects + v->in_state[CONN_STALLED] + v->counters.silent == 0)
		return;
	list_each(node, tmp, &side->conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		enum peer_fault fault = fault_of(conn);

		if (examined++ == EXAMINED_MAX)
			break;
		if (fault != PEER_FAULTS && count[fault] < SIDE_NAMED_PEERS)
			v->named[fault][count[fault]++] = conn->id;
	}
}

static void
describe_side(const struct proxy *proxy, int which, struct side_view *v)
{
	const struct side *side = &proxy->side[which];

	v->counters = proxy->counters[which];
	v->forward = side->forward;
	memcpy(v->in_state, side->in_state, sizeof(v->in_state));
	v->in_state[CONN_READY] = side->ready[CONN_SERVES];
	v->suspects = side->ready[CONN_SUSPECT];
	v->draining = side->ready[CONN_DRAINING];
	memset(v->named, 0, sizeof(v->named));
	name_faulty_peers(side, v);
}

void
proxy_describe(const struct proxy *proxy, struct proxy_view *v)
{
	memcpy(v->name, proxy->name, sizeof(v->name));
	v->paused = proxy->paused;
	v->draining = proxy_is_draining(proxy);
	v->answers = (struct histogram){0};
	v->contested_id[0] = '\0';
	proxy->pattern->describe(proxy, v);
	for (int i = 0; i < PROXY_SIDES; i++)
		describe_side(proxy, i, &v->side[i]);
}

/* --- proxy.h: what its owner may ask -------------------------------------- */

const char *
proxy_name(const struct proxy *proxy)
{
	return proxy->name;
}

struct side *
proxy_side(struct proxy *proxy, int which)
{
	return &proxy->side[which];
}

uint32_t
proxy_connections(const struct proxy *proxy, int side)
{
	return proxy->side[side].connections;
}

struct proxy_totals
proxy_totals(const struct proxy *proxy)
{
	struct proxy_totals t = {
		.unserved_requests = proxy->unserved_requests,
		.unserved_clients = proxy->unserved_clients,
	};

	for (int i = 0; i < PROXY_SIDES; i++) {
		t.sent += proxy->counters[i].sent;
		t.peers[i] = proxy->counters[i].peers;
		t.connections[i] = proxy->side[i].connections;
	}
	return t;
}

struct drain_result
proxy_drain_result(const struct proxy *proxy)
{
	/* given up: also requests with a worker, on the way to one, or on the way back */
	return (struct drain_result){
		proxy->drain_answered, proxy->drain_given_up + proxy->pattern->unfinished(proxy)};
}
