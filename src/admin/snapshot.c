/* SPDX-License-Identifier: MIT */
#include "admin/snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/peer.h"
#include "net/conn.h"

enum {
	LOOKS_MAX = 4096, /* at connections of a side, for those that are ill */
	CONTESTED_SHOWN_MS = 60000
};

/* --- peers ---------------------------------------------------------------- */

/* Keeps a copy of the bytes. Returns where it is; nothing is kept without memory. */
static uint32_t
keep_text(struct snapshot *s, const void *text, size_t len)
{
	uint32_t at = (uint32_t)s->texts_len;

	if (s->texts_size - s->texts_len < len) {
		size_t size = s->texts_size * 2 + len + 4096;
		char *more = mem_try_resize(s->texts, size);

		if (more == NULL)
			return UINT32_MAX;
		s->texts = more;
		s->texts_size = size;
	}
	memcpy(s->texts + at, text, len);
	s->texts_len += len;
	return at;
}

static enum snapshot_poison
poison_of(const struct conn *conn)
{
	if (poison_is_poisoned(&conn->guard))
		return SNAPSHOT_POISONED;
	return poison_midway(&conn->guard) ? SNAPSHOT_ARMED : SNAPSHOT_CLEAN;
}

/* What the broker knows of it, once it is ready. */
static void
look_at_broker_side(struct snapshot *s, struct snapshot_peer *p, const struct peer *peer)
{
	p->outstanding = peer->outstanding;
	p->leaving = peer->retiring;
	p->suspect = peer->suspect;
	p->silent = peer->silent && (uint32_t)p->messages_in == peer->heard;
	if (peer->source != NULL) {
		p->waiting = peer->source->queue.messages;
		p->waiting_bytes = peer->source->queue.bytes;
	}
	if (!peer->routed)
		return;
	p->routing_id_len = (uint16_t)peer_id_len(peer);
	p->routing_id = keep_text(s, peer_id(peer), p->routing_id_len);
	if (p->routing_id == UINT32_MAX)
		p->routing_id_len = 0;
}

static void
look_at_peer(struct snapshot *s, uint32_t proxy, int side, const struct conn *conn)
{
	struct snapshot_peer *p = &s->peers[s->peer_count++];
	int64_t now = loop_now(conn->side->loop);

	*p = (struct snapshot_peer){
		.id = conn->id,
		.proxy = proxy,
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
		.age_ms = now - conn->opened,
		.idle_ms = now - conn->last_in,
		.blocked_ms = conn->blocked ? now - conn->blocked_since : 0,
	};
	if (conn->was_ready) {
		p->socktype = (uint8_t)conn->session.peer_type;
		p->zmtp_minor = (uint8_t)session_peer_minor(&conn->session);
	}
	p->address_len = (uint16_t)strlen(conn->address);
	p->address = keep_text(s, conn->address, p->address_len);
	if (p->address == UINT32_MAX)
		p->address_len = 0;
	if (conn->peer != NULL)
		look_at_broker_side(s, p, conn->peer);
}

static bool
look_at_peers(struct snapshot *s, struct broker *broker)
{
	size_t count = 0;

	for (size_t i = 0; i < broker->count * PROXY_SIDES; i++)
		count += broker->proxies[i / PROXY_SIDES]->side[i % PROXY_SIDES].connections;
	s->with_peers = true;
	s->peers = mem_try(count * sizeof(*s->peers) + 1);
	if (s->peers == NULL)
		return false;
	for (size_t i = 0; i < broker->count * PROXY_SIDES; i++) {
		struct side *side = &broker->proxies[i / PROXY_SIDES]->side[i % PROXY_SIDES];

		list_each(node, tmp, &side->conns)
			look_at_peer(s, (uint32_t)(i / PROXY_SIDES), (int)(i % PROXY_SIDES),
				list_entry(node, struct conn, node));
	}
	return true;
}

/* --- who is ill ----------------------------------------------------------- */

/* As an enum snapshot_ill; SNAPSHOT_ILLS: nothing is wrong with it. */
static int
illness_of(const struct conn *conn)
{
	const struct peer *peer = conn->peer;

	if (conn->state == CONN_STALLED)
		return SNAPSHOT_STALLED;
	if (conn->state != CONN_READY || peer == NULL || peer->retiring)
		return SNAPSHOT_ILLS;
	if (peer->suspect)
		return SNAPSHOT_SUSPECT;
	return peer->silent && peer->heard == (uint32_t)conn->messages_in ? SNAPSHOT_SILENT
									  : SNAPSHOT_ILLS;
}

/* A look that is taken often: where nobody is ill it costs nothing, and never more than some. */
static void
name_ill(struct snapshot_side *to, const struct side *side)
{
	size_t count[SNAPSHOT_ILLS + 1] = {0}, looks = 0;

	if (to->suspects + to->in_state[CONN_STALLED] + to->counters.silent == 0)
		return;
	list_each(node, tmp, &side->conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		int ill = illness_of(conn);

		if (looks++ == LOOKS_MAX)
			break;
		if (ill != SNAPSHOT_ILLS && count[ill] < SNAPSHOT_NAMED)
			to->named[ill][count[ill]++] = conn->id;
	}
}

/* --- all of it ------------------------------------------------------------ */

static void
look_at_proxy(struct snapshot_proxy *to, const struct proxy *proxy, int64_t now)
{
	memcpy(to->name, proxy->name, sizeof(to->name));
	to->paused = proxy->paused;
	to->draining = proxy->draining;
	to->answers = proxy->inflight.answers;
	if (now - proxy->contested_at < CONTESTED_SHOWN_MS)
		memcpy(to->contested_id, proxy->contested_id, sizeof(to->contested_id));
	for (int i = 0; i < PROXY_SIDES; i++) {
		struct snapshot_side *side = &to->side[i];

		side->counters = proxy->counters[i];
		side->forward = proxy->side[i].forward;
		memcpy(side->in_state, proxy->side[i].in_state, sizeof(side->in_state));
		side->in_state[CONN_READY] = proxy->side[i].ready[CONN_SERVES];
		side->suspects = proxy->side[i].ready[CONN_SUSPECT];
		side->leaving = proxy->side[i].ready[CONN_DRAINING];
		name_ill(side, &proxy->side[i]);
	}
}

bool
snapshot_take(struct snapshot *s, struct broker *broker, bool peers)
{
	struct loop *loop = broker->loop;

	s->taken_ms = loop_now(loop);
	s->memory_bytes = loop->env.memory.used;
	s->memory_limit = loop->env.memory.limit;
	s->connections = loop->connections;
	s->max_connections = loop->max_connections;
	s->turns = loop->turns;
	s->lag = loop->lag;
	s->proxies = mem_try_new(broker->count * sizeof(*s->proxies) + 1);
	if (s->proxies == NULL)
		return false;
	s->proxy_count = broker->count;
	for (size_t i = 0; i < broker->count; i++)
		look_at_proxy(&s->proxies[i], broker->proxies[i], s->taken_ms);
	return !peers || look_at_peers(s, broker);
}

static struct snapshot_endpoint *
add_endpoint(struct snapshot *s, const struct side *side, const char *text, const char *state)
{
	struct snapshot_endpoint *list =
		mem_try_resize(s->endpoints, (s->endpoint_count + 1) * sizeof(*list));
	struct snapshot_endpoint *e;

	if (list == NULL)
		return NULL;
	s->endpoints = list;
	e = &list[s->endpoint_count++];
	*e = (struct snapshot_endpoint){.side = strcmp(side->name, side_name(PROXY_FRONTEND)) == 0
			? PROXY_FRONTEND
			: PROXY_BACKEND};
	snprintf(e->state, sizeof(e->state), "%s", state);
	snprintf(e->proxy, sizeof(e->proxy), "%s", side->proxy_name);
	snprintf(e->text, sizeof(e->text), "%s", text);
	return e;
}

bool
snapshot_add_listener(struct snapshot *s, const struct listener *l)
{
	struct snapshot_endpoint *e =
		add_endpoint(s, l->side, l->text, l->paused ? "paused" : "listening");

	if (e == NULL)
		return false;
	e->bound = true;
	e->works = !l->paused;
	return true;
}

bool
snapshot_add_connector(struct snapshot *s, const struct connector *c)
{
	static const char *const states[] = {"connected", "connecting", "waiting"};
	int64_t wait_ms;
	enum connector_state state = connector_state(c, &wait_ms);
	struct snapshot_endpoint *e =
		add_endpoint(s, connector_side(c), connector_endpoint(c), states[state]);

	if (e == NULL)
		return false;
	e->wait_ms = wait_ms;
	e->works = state == CONNECTOR_CONNECTED;
	return true;
}

/* --- to the other process ------------------------------------------------- */

/*
 * The struct, then its arrays. Both processes run the same program: what is in memory is the
 * format. The pointers mean nothing over there; the lengths do.
 */
int
snapshot_share(const struct snapshot *s)
{
	const struct iovec pieces[] = {{(void *)(uintptr_t)s, sizeof(*s)},
		{s->proxies, s->proxy_count * sizeof(*s->proxies)},
		{s->endpoints, s->endpoint_count * sizeof(*s->endpoints)},
		{s->peers, s->peer_count * sizeof(*s->peers)}, {s->texts, s->texts_len}};

	return blob_new(pieces, sizeof(pieces) / sizeof(pieces[0]));
}

/* Where the next `count` elements lie; NULL when they are not there. */
static void *
next_array(const struct blob *blob, size_t *at, size_t count, size_t size)
{
	size_t from = *at;

	if (count > (blob->len - from) / size)
		return NULL;
	*at += count * size;
	return (void *)(uintptr_t)(blob->bytes + from);
}

struct snapshot *
snapshot_map(int fd)
{
	struct snapshot *s = mem_try_new(sizeof(*s));
	size_t at = sizeof(*s);
	struct blob blob;

	if (s == NULL || !blob_map(&blob, fd)) {
		free(s);
		return NULL;
	}
	if (blob.len >= sizeof(*s)) {
		memcpy(s, blob.bytes, sizeof(*s));
		s->proxies = next_array(&blob, &at, s->proxy_count, sizeof(*s->proxies));
		s->endpoints = next_array(&blob, &at, s->endpoint_count, sizeof(*s->endpoints));
		s->peers = next_array(&blob, &at, s->peer_count, sizeof(*s->peers));
		s->texts = next_array(&blob, &at, s->texts_len, 1);
	}
	s->blob = blob;
	if (s->proxies != NULL && s->endpoints != NULL && s->peers != NULL && s->texts != NULL)
		return s;
	snapshot_free(s);
	return NULL;
}

void
snapshot_free(struct snapshot *s)
{
	if (s == NULL)
		return;
	if (s->blob.bytes != NULL) {
		blob_unmap(&s->blob);
	} else {
		free(s->proxies);
		free(s->endpoints);
		free(s->peers);
		free(s->texts);
	}
	free(s);
}

const char *
snapshot_poison_name(int poison)
{
	static const char *const names[] = {"clean", "armed", "poisoned"};

	return names[poison];
}
