/* SPDX-License-Identifier: MIT */
#include "broker/queue_describe.h"

#include <string.h>

#include "broker/backlog.h"

enum { CONTESTED_SHOWN_MS = 60000 };

/* True for a worker from which nothing came since silent_after passed. */
static bool
is_silent(const struct conn *conn, const struct peer *peer)
{
	return peer->silent && (uint32_t)conn->messages_in == peer->heard;
}

void
queue_describe_peer(const struct conn *conn, struct peer_view *v, struct peer_text *text)
{
	const struct peer *peer = conn->peer;

	v->outstanding = peer->outstanding;
	v->draining = peer->draining;
	v->suspect = peer->suspect;
	v->silent = is_silent(conn, peer);
	if (peer->backlog != NULL) {
		v->waiting = peer->backlog->queue.messages;
		v->waiting_bytes = peer->backlog->queue.bytes;
	}
	if (peer->routed) {
		text->routing_id = peer_id(peer);
		text->routing_id_len = peer_id_len(peer);
	}
}

enum peer_fault
queue_fault(const struct conn *conn)
{
	const struct peer *peer = conn->peer;

	if (peer->suspect)
		return PEER_SUSPECT;
	return is_silent(conn, peer) ? PEER_SILENT : PEER_FAULTS;
}

void
queue_describe(const struct proxy *proxy, struct proxy_view *v)
{
	v->answers = proxy->deliveries.answers;
	if (loop_now(proxy->loop) - proxy->contested_at < CONTESTED_SHOWN_MS)
		memcpy(v->contested_id, proxy->contested_id, sizeof(v->contested_id));
}
