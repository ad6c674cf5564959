#include "broker/peer.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

struct peer *
peer_new(struct proxy *proxy, struct conn *conn)
{
	struct peer *peer = mem_new(sizeof(*peer));

	peer->conn = conn;
	peer->proxy = proxy;
	list_init(&peer->blocked);
	list_init(&peer->ready);
	return peer;
}

void
peer_free(struct peer *peer)
{
	assert(list_empty(&peer->blocked));
	if (peer->source != NULL && outq_empty(&peer->source->queue))
		source_free(peer->source);
	else if (peer->source != NULL)
		peer->source->peer = NULL;
	list_remove(&peer->ready);
	free(peer->envelope);
	free(peer);
}

struct source *
peer_source(struct peer *peer)
{
	if (peer->source == NULL) {
		peer->source = mem_new(sizeof(*peer->source));
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
