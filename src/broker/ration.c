/* SPDX-License-Identifier: MIT */
#include "broker/backlog.h"
#include "broker/ration.h"

#include "broker/proxy_impl.h"

/* how many replies a client has to take for each further request */
enum { TAKEN_FOR_ONE = 8 };

bool
ration_takes_too_little(const struct peer *client)
{
	return conn_is_blocked(client->conn) &&
		outq_cost(&client->conn->out) > client->proxy->ration.too_much;
}

/* The client's requests, without those that wait here. */
static uint64_t
under_way(const struct peer *client)
{
	uint64_t waiting = client->backlog != NULL ? client->backlog->queue.messages : 0;

	return client->outstanding > waiting ? client->outstanding - waiting : 0;
}

bool
ration_is_used_up(const struct peer *client)
{
	const struct ration *ration = &client->proxy->ration;

	if (client->draining || !client->routed)
		return false;
	if (ration_takes_too_little(client))
		return true;
	return ration->few && client->spare == 0 &&
		under_way(client) > client->conn->messages_out / TAKEN_FOR_ONE;
}
