/* SPDX-License-Identifier: MIT */
#include "broker/peer.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/mem.h"

struct peer *
peer_new(struct proxy *proxy, struct conn *conn, size_t id_len)
{
	size_t room = id_len > PEER_MADE_UP_ID ? id_len : PEER_MADE_UP_ID;
	struct peer *peer = mem_try_new(offsetof(struct peer, envelope) + 2 + room);

	if (peer == NULL)
		return NULL;
	peer->conn = conn;
	peer->proxy = proxy;
	list_init(&peer->ready);
	return peer;
}

void
peer_free(struct peer *peer)
{
	assert(!list_linked(&peer->ready)); /* and so: nothing is in `blocked` */
	assert(peer->backlog == NULL);
	if (peer->source != NULL && outq_empty(&peer->source->queue))
		source_free(peer->source);
	else if (peer->source != NULL)
		peer->source->peer = NULL;
	free(peer);
}

void
peer_set_service(const struct peer *peer)
{
	conn_set_service(peer->conn,
		peer->retiring          ? CONN_DRAINING
			: peer->suspect ? CONN_SUSPECT
					: CONN_SERVES);
}

struct source *
peer_source(struct peer *peer)
{
	if (peer->source == NULL) {
		peer->source = mem_try_new(sizeof(*peer->source));
		if (peer->source == NULL)
			return NULL;
		peer->source->proxy = peer->proxy;
		peer->source->peer = peer;
		list_init(&peer->source->node);
		outq_init(&peer->source->queue);
	}
	return peer->source;
}

void
source_free(struct source *source)
{
	assert(outq_empty(&source->queue));
	list_remove(&source->node);
	if (source->peer != NULL)
		source->peer->source = NULL;
	free(source);
}
