/* SPDX-License-Identifier: MIT */
/*
 * A connection is closed, or a peer is sent something that may end one: each time because of what
 * the peer did.
 */
#include <string.h>

#include "check.h"
#include "net/conn.h"
#include "net/unpinged.h"
#include "peers.h"
#include "sim.h"

enum { LARGEST_TAKES_MS = 1000 }; /* over a small link: a send_timeout below ends it */

/*
 * Was a worker closed by memory_limit needlessly: between two messages, without expired requests,
 * and without another worker to take its queue?
 */
static bool
is_closed_for_nothing(const struct conn *conn)
{
	/* its expired requests are not known any more: there are none without answer_timeout */
	if (conn->side != &world_proxy()->side[PROXY_BACKEND] || conn->detail == NULL ||
		strcmp(conn->detail, "memory_limit") != 0 || session_midway(&conn->session) ||
		world_proxy()->opts[PROXY_BACKEND].queue.answer_timeout > 0 || conn->rerouted == 0)
		return false;
	list_each(node, tmp, &conn->side->conns) {
		const struct conn *other = list_entry(node, struct conn, node);
		if (other != conn && other->state == CONN_READY)
			return false;
	}
	return true;
}

/* Was a client closed because its queue was full? */
static bool
is_closed_for_room(const struct conn *conn)
{
	return conn->reason == CLOSE_OVER_LIMIT && conn->detail != NULL &&
		strncmp(conn->detail, "when_full", 9) == 0;
}

/* A connection is closed only for something that its peer did. */
static bool
is_deserved(const struct sock *s, const struct conn *conn)
{
	const struct peer_sim *peer = s->peer;

	switch (conn->reason) {
	case CLOSE_PROTOCOL_ERROR:
	case CLOSE_MECHANISM_MISMATCH:
	case CLOSE_INCOMPATIBLE_SOCKET_TYPE:
	case CLOSE_BAD_ROUTING_ID:
		return peer != NULL && peer->temper == LIES;
	case CLOSE_MESSAGE_TOO_BIG:
	case CLOSE_TOO_MANY_PARTS: /* a reply over a limit costs that reply, not its worker */
		return peer != NULL && peer->temper == LIES &&
			(s->side == PROXY_FRONTEND || s->fuzzy);
	case CLOSE_PEER_CLOSED:
		return s->in.fin_arrived || s->reset || (peer != NULL && peer->temper == LIES);
	case CLOSE_IO_ERROR:
		return s->reset || s->peer_closed || world.net_faults > 0;
	case CLOSE_NO_MEMORY:
		return world.memory_faults || world.net_faults > 0;
	case CLOSE_OVER_LIMIT:
		if (!conn->was_ready) /* for a newcomer: see slots.h */
			return conn->connector == NULL &&
				(world.config.broker.max_connections > 0 || world.net_faults > 0) &&
				world.now >= conn->opened + SLOTS_GRACE_MS;
		if (is_closed_for_room(conn))
			return world_proxy()->opts[PROXY_FRONTEND].queue.when_full ==
				WHEN_FULL_CLOSE &&
				conn->dropped > 0;
		if (hogs_is_upload(s) && strcmp(conn->detail, "memory_limit") == 0)
			return false;
		return world.config.broker.memory_limit < 1 << 30 && !is_closed_for_nothing(conn);
	case CLOSE_SHUTDOWN:
		return world.stopping;
	case CLOSE_SEND_TIMEOUT:
		return conn->side->opts->send_timeout > 0 && s->out.written > 0;
	case CLOSE_RECEIVE_TIMEOUT:
		return session_midway(&conn->session);
	case CLOSE_HANDSHAKE_TIMEOUT:
		return !conn->was_ready;
	case CLOSE_CONNECT_FAILED:
	case CLOSE_CONNECT_TIMEOUT:
		return s->connecting;
	case CLOSE_DUPLICATE_ROUTING_ID:
		if (s->rival ||
			(peer != NULL &&
				peer->temper == LIES)) /* all of them use one of these ids */
			return true;
		return peer != NULL && peer->id_len > 0 && memcmp(peer->id, "shared", 6) == 0;
	case CLOSE_HEARTBEAT_TIMEOUT: /* its host has vanished, or the network stands still */
		return conn->was_ready && s->owed_since != CLOCK_NEVER &&
			world.now - s->owed_since > 600 &&
			world.now - s->acked_at >= conn->side->opts->heartbeat_timeout - 10 &&
			(s->vanished || !net_window_closed(s));
	default:
		return false;
	}
}

static uint64_t closed_for_room; /* clients */

/* Kinds of peers that disconnected at a PING, so that the daemon could know why: host and type. */
static struct {
	unsigned host;
	const char *type;
} haters[UNPINGED_MAX];
static unsigned hater_count;

static bool
is_known_hater(const struct sock *s)
{
	for (unsigned i = 0; i < hater_count; i++)
		if (haters[i].host == s->host && strcmp(haters[i].type, s->peer->type) == 0)
			return true;
	return false;
}

void
check_ping(struct sock *s)
{
	s->pings++;
	s->pinged_at = world.now;
	if (s->peer != NULL && s->pings == 1 && is_known_hater(s))
		violation("peer %d is PINGed, as one that ended its connection on that",
			s->peer->number);
}

void
check_draining(struct sock *s)
{
	if (s->side != PROXY_FRONTEND || s->peer == NULL || !s->peer->broker)
		violation("descriptor %d gets DRAINING, which it does not understand", s->fd);
	if (s->peer->told_at != 0)
		violation("client %d gets DRAINING twice", s->peer->number);
	s->peer->told_at = world.now;
}

void
check_bye(struct sock *s)
{
	if (s->side != PROXY_BACKEND || s->peer == NULL || s->peer->leave_end == 0 ||
		s->in.read < s->peer->leave_end || s->peer->dismissed)
		violation("descriptor %d gets a BYE without having sent DRAINING", s->fd);
	s->peer->dismissed = true;
}

/* Remember a peer that connected, got a PING and disconnected. */
static void
note_hater(const struct sock *s, const struct conn *conn)
{
	const struct peer_sim *p = s->peer;

	if (p == NULL || !p->hated || s->pings != 1 || conn->last_in >= s->pinged_at ||
		conn->first_ping == CLOCK_NEVER || /* something came before the PING left */
		conn->pings != 1 || conn->out.commands > 0 || world.now - conn->first_ping > 1500 ||
		is_known_hater(s) ||
		(conn->reason != CLOSE_PEER_CLOSED && conn->reason != CLOSE_IO_ERROR))
		return;
	haters[hater_count].host = s->host;
	haters[hater_count++].type = p->type;
}

/* Every message counts that was read to its end, except the one that cost the connection. */
bool
check_is_counted(const struct conn *conn, const struct sock *s)
{
	if (s->fuzzy || conn->messages_in == s->accepted)
		return true;
	return conn->messages_in < s->accepted && conn->state == CONN_CLOSED &&
		(conn->reason == CLOSE_NO_MEMORY || conn->reason == CLOSE_DUPLICATE_ROUTING_ID);
}

void
check_closing(struct sock *s)
{
	const struct conn *conn = world_conn(s->fd);
	uint64_t in = s->accepted;

	if (conn == NULL)
		return; /* a listener's, or a socket that never became a connection */
	if (conn->state != CONN_CLOSED)
		violation("peer %llu is freed without being closed", (unsigned long long)conn->id);
	if (!is_deserved(s, conn))
		violation("peer %llu is closed for %s, and did nothing of the kind",
			(unsigned long long)conn->id, close_reason_name(conn->reason));
	if ((conn->was_ready || conn->messages_in > 0) && !check_is_counted(conn, s))
		violation("peer %llu closed (%s) with %llu messages accepted, but %llu were read",
			(unsigned long long)conn->id, close_reason_name(conn->reason),
			(unsigned long long)conn->messages_in, (unsigned long long)in);
	closed_for_room += is_closed_for_room(conn);
	if (s->peer != NULL && conn->reason == CLOSE_SEND_TIMEOUT && world.healing &&
		world.probe_at == CLOCK_NEVER)
		s->peer->outlasted = conn->side->opts->send_timeout < LARGEST_TAKES_MS;
	note_hater(s, conn);
	rivals_closing(s, conn);
	check_count_gone(s, conn);
}

/* With `close`, each client that loses a reply is closed for it. */
void
check_room(const struct proxy *p)
{
	const struct side *side = &p->side[PROXY_FRONTEND];
	uint64_t closed = closed_for_room;

	if (p->opts[PROXY_FRONTEND].queue.when_full != WHEN_FULL_CLOSE || world.memory_faults ||
		world.stopping)
		return;
	for (const struct list *n = side->conns.next; n != &side->conns; n = n->next)
		closed += is_closed_for_room(list_entry(n, struct conn, node));
	if (p->counters[PROXY_FRONTEND].dropped[DROP_QUEUE_FULL] != closed)
		violation("%llu replies found no room, and %llu clients were closed for that",
			(unsigned long long)p->counters[PROXY_FRONTEND].dropped[DROP_QUEUE_FULL],
			(unsigned long long)closed);
}

void
check_closing_reset(void)
{
	closed_for_room = 0;
	hater_count = 0;
}
