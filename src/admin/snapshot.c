/* SPDX-License-Identifier: MIT */
#include "admin/snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* --- taking one ----------------------------------------------------------- */

/* Adds a copy of the bytes. Returns its offset in the texts; UINT32_MAX: no memory. */
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

struct taking {
	struct snapshot *snapshot;
	uint32_t proxy; /* index of the one whose peers are added */
};

static void
add_peer(void *arg, const struct peer_view *view, const struct peer_text *text)
{
	const struct taking *taking = arg;
	struct snapshot *s = taking->snapshot;
	struct snapshot_peer *p = &s->peers[s->peer_count++];

	*p = (struct snapshot_peer){.view = *view, .proxy = taking->proxy};
	p->address_len = (uint16_t)strlen(text->address);
	p->address = keep_text(s, text->address, p->address_len);
	if (p->address == UINT32_MAX)
		p->address_len = 0;
	if (text->routing_id == NULL)
		return;
	p->routing_id_len = (uint16_t)text->routing_id_len;
	p->routing_id = keep_text(s, text->routing_id, text->routing_id_len);
	if (p->routing_id == UINT32_MAX)
		p->routing_id_len = 0;
}

static bool
add_peers(struct snapshot *s, const struct broker *broker)
{
	const struct proxy_totals totals = broker_totals(broker);
	size_t count = totals.connections[PROXY_FRONTEND] + totals.connections[PROXY_BACKEND];

	s->with_peers = true;
	s->peers = mem_try(count * sizeof(*s->peers) + 1);
	if (s->peers == NULL)
		return false;
	for (size_t i = 0; i < s->proxy_count; i++) {
		struct taking taking = {s, (uint32_t)i};

		for (int side = 0; side < PROXY_SIDES; side++)
			proxy_describe_peers(broker_proxy(broker, i), side, add_peer, &taking);
	}
	return true;
}

bool
snapshot_take(struct snapshot *s, const struct broker *broker, bool peers)
{
	size_t count = broker_proxy_count(broker);

	s->taken_ms = loop_now(broker_loop(broker));
	loop_describe(broker_loop(broker), &s->loop);
	s->proxies = mem_try_new(count * sizeof(*s->proxies) + 1);
	if (s->proxies == NULL)
		return false;
	s->proxy_count = count;
	for (size_t i = 0; i < count; i++)
		proxy_describe(broker_proxy(broker, i), &s->proxies[i]);
	return !peers || add_peers(s, broker);
}

static struct snapshot_endpoint *
add_endpoint(struct snapshot *s, const char *proxy, int side, const char *text, const char *state)
{
	struct snapshot_endpoint *list =
		mem_try_resize(s->endpoints, (s->endpoint_count + 1) * sizeof(*list));
	struct snapshot_endpoint *e;

	if (list == NULL)
		return NULL;
	s->endpoints = list;
	e = &list[s->endpoint_count++];
	*e = (struct snapshot_endpoint){.side = (uint8_t)side};
	snprintf(e->state, sizeof(e->state), "%s", state);
	snprintf(e->proxy, sizeof(e->proxy), "%s", proxy);
	snprintf(e->text, sizeof(e->text), "%s", text);
	return e;
}

bool
snapshot_add_listener(struct snapshot *s, const char *proxy, int side, const struct listener *l)
{
	bool paused = listener_is_paused(l);
	struct snapshot_endpoint *e =
		add_endpoint(s, proxy, side, listener_text(l), paused ? "paused" : "listening");

	if (e == NULL)
		return false;
	e->bound = true;
	e->works = !paused;
	return true;
}

bool
snapshot_add_connector(struct snapshot *s, const char *proxy, int side, const struct connector *c)
{
	static const char *const states[] = {"connected", "connecting", "waiting"};
	int64_t wait_ms;
	enum connector_state state = connector_state(c, &wait_ms);
	struct snapshot_endpoint *e =
		add_endpoint(s, proxy, side, connector_endpoint(c), states[state]);

	if (e == NULL)
		return false;
	e->wait_ms = wait_ms;
	e->works = state == CONNECTOR_CONNECTED;
	return true;
}

/* --- to the other process ------------------------------------------------- */

/*
 * The struct, then its arrays. Both processes run the same program, so the format is that in
 * memory. The receiver ignores the pointers, and uses the lengths.
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

/* The next `count` elements; NULL if the blob is too short. */
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
snapshot_poison_name(enum peer_poison poison)
{
	static const char *const names[] = {"clean", "armed", "poisoned"};

	return names[poison];
}
