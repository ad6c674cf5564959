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
	assert(peer->overflow == NULL);
	assert(peer->backlog == NULL);
	free(peer);
}

void
peer_set_service(const struct peer *peer)
{
	conn_set_service(peer->conn,
		peer->draining          ? CONN_DRAINING
			: peer->suspect ? CONN_SUSPECT
					: CONN_SERVES);
}
