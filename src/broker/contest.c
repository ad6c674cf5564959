/* SPDX-License-Identifier: MIT */
/*
 * A client comes with a routing id that another client has: the newcomer takes the id over, unless
 * both are alive and take it from each other.
 */
#include "broker/contest.h"

#include <stdio.h>
#include <string.h>

#include "base/idtext.h"
#include "base/log.h"
#include "broker/proxy_impl.h"
#include "broker/replies.h"

enum {
	CONTEST_HEARD_MS = 1000, /* the holder was heard within this time: both are alive */
	CONTEST_MS = 10000, /* claims within this time count; the holder keeps the id as long */
	CONTESTS = 2        /* after this many, the next claim is refused */
};

/* Was the client heard a moment ago, and has its connection not ended since? */
/* Did the client send something a moment ago, and has it not ended since? */
static bool
seems_alive(const struct proxy *proxy, const struct peer *client)
{
	return loop_now(proxy->loop) - client->conn->last_in < CONTEST_HEARD_MS &&
		!conn_has_ended(client->conn);
}

/* The id goes from `old` to `client`: replies not sent yet follow it, in order. */
void
contest_take_over(struct proxy *proxy, struct peer *old, struct peer *client)
{
	struct outq moved;

	router_remove(&proxy->router, old);
	old->conn->rerouted = conn_splice_from(client->conn, old->conn);
	outq_init(&moved);
	while (conn_take(old->conn, &moved) > 0)
		;
	while (conn_send_from(client->conn, &moved) > 0)
		old->conn->rerouted++;
	proxy->counters[PROXY_FRONTEND].rerouted += old->conn->rerouted;
	loop_spend(proxy->loop, 2 * BUDGET_MESSAGE * (uint32_t)old->conn->rerouted);
	/* no memory for the rest */
	proxy->counters[PROXY_FRONTEND].dropped[DROP_QUEUE_FULL] += moved.messages;
	outq_fini(&moved, env_of(proxy));
	client->outstanding += old->outstanding;
	old->outstanding = 0;
	client->contests = old->contests;
	memcpy(client->contested, old->contested, sizeof(client->contested));
	replies_inherit_overflow(proxy, client, old);
	replies_unpark(proxy, old);
	old->aside = true;
	old->claimed = seems_alive(proxy, old);
	conn_yield(old->conn, CLOSE_DUPLICATE_ROUTING_ID, "taken over by a newcomer");
}

static void
log_contest(struct proxy *proxy, const struct conn *holder, const struct conn *newcomer)
{
	const struct peer *peer = holder->peer;
	char id[IDTEXT_MAX], quoted[2 * IDTEXT_MAX];

	if (!ratelimit_pass(&proxy->contests, loop_now(proxy->loop)))
		return;
	idtext(id, peer_id(peer), peer_id_len(peer));
	log_event(LOG_LEVEL_WARNING, "routing_id_contested",
		"proxy=%s side=frontend routing_id=%s holder=%s newcomer=%s", proxy->name,
		log_quote(quoted, sizeof(quoted), id, strlen(id)), holder->address,
		newcomer != NULL ? newcomer->address : "-");
}

void
contest_note(struct proxy *proxy, const struct peer *client)
{
	char id[IDTEXT_MAX];

	idtext(id, peer_id(client), peer_id_len(client));
	snprintf(proxy->contested_id, sizeof(proxy->contested_id), "%.*s", PROXY_CONTESTED_MAX - 1,
		id);
	proxy->contested_at = loop_now(proxy->loop);
}

/*
 * Two living clients with one id would take it from each other indefinitely. A client that closes
 * and comes back does not, however often; but its new connection may be ready before the end of the
 * old one arrives. So a claim counts if the loser's connection did not end on its own: see
 * conn_yield.
 */
void
contest_count(struct proxy *proxy, const struct peer *loser)
{
	struct peer *holder = router_find(&proxy->router, peer_id(loser), peer_id_len(loser));
	int64_t now = loop_now(proxy->loop);

	if (loser->conn->hung_up || now < loser->conn->linger_due)
		return;
	contest_note(proxy, loser);
	if (holder == NULL) /* the newcomer took the id and left */
		log_contest(proxy, loser->conn, NULL);
	if (holder == NULL || holder->keeps)
		return;
	if (holder->contests == 0 ||
		(uint32_t)now - holder->contested[holder->contests - 1] > CONTEST_MS)
		log_contest(proxy, loser->conn, holder->conn);
	if (holder->contests == CONTESTS)
		holder->contested[0] = holder->contested[--holder->contests];
	holder->contested[holder->contests++] = (uint32_t)now;
}

/* Does the holder keep its id? It does for a while, if the id was claimed too often. */
bool
contest_decide(struct proxy *proxy, struct peer *holder)
{
	int64_t now = loop_now(proxy->loop);

	if (conn_has_ended(holder->conn))
		return false;
	if (holder->keeps && (uint32_t)now - holder->contested[0] < CONTEST_MS)
		return true;
	holder->keeps = false;
	if (holder->contests < CONTESTS || (uint32_t)now - holder->contested[0] > CONTEST_MS ||
		!seems_alive(proxy, holder))
		return false;
	holder->contests = 0;
	holder->keeps = true;
	holder->contested[0] = (uint32_t)now;
	return true;
}
