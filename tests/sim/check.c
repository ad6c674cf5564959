/* SPDX-License-Identifier: MIT */
/*
 * The invariants after every turn of the loop, seen from inside and from
 * outside: the two views are counted apart and compared.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "broker/balance.h"
#include "broker/deliveries.h"
#include "net/conn.h"
#include "net/unpinged.h"
#include "sim.h"
#include "../recount.h"

enum {
	PAUSE_MS = 200,         /* longer than between two looks at the memory limit */
	GIVING_MS = 500,        /* a closed connection has given its memory back by then */
	LOOK_MS = 20,           /* between two looks at memory that is short, as in memory.c */
	LARGEST_TAKES_MS = 1000 /* over a small link: a send_timeout below ends it */
};

enum { COMMANDS_MAX = 64 + 2 }; /* that wait for one peer: PINGs and PONGs, and what shakes hands */

enum { LATE_MS = 5 }; /* a turn may take that long on the virtual clock */

/* Counts of connections that are gone. */
static struct totals {
	uint64_t in, out;           /* messages, as the daemon counted them */
	uint64_t seen_in, seen_out; /* ... and as they were seen to pass */
	uint64_t bytes_in, bytes_out;
	bool fuzzy;
} gone[PROXY_SIDES];

/* When somebody was not read last: a time that passed meanwhile, in a freeze, is seen after it. */
static int64_t unread_at;
static uint64_t closed_for_room; /* clients */

/* The workers that were in the balance after the turn before, and what they had been given then. */
static struct turn {
	struct was {
		uint64_t id, number;
	} workers[64];
	size_t count;
	uint64_t answers, moved, lift; /* then */
} before;

struct conn *
check_conn(int fd)
{
	struct proxy *p = world_proxy();

	for (int i = 0; p != NULL && i < PROXY_SIDES; i++) {
		list_each(node, tmp, &p->side[i].conns) {
			struct conn *conn = list_entry(node, struct conn, node);
			if (conn->fd == fd)
				return conn;
		}
	}
	return NULL;
}

static void
add_totals(struct totals *t, const struct sock *s, const struct conn *conn)
{
	t->in += conn->messages_in;
	t->out += conn->messages_out;
	t->seen_in += s->accepted;
	t->seen_out += s->messages_out;
	t->bytes_in += conn->bytes_in;
	t->bytes_out += conn->bytes_out;
	t->fuzzy |= s->fuzzy;
}

/*
 * A worker that memory_limit closed, though it was in the middle of no message, left nothing lapse,
 * and there was nobody to take its queue.
 */
static bool
is_closed_for_nothing(const struct conn *conn)
{
	/* what it let lapse is not known any more: none without answer_timeout */
	if (conn->side != &world_proxy()->side[PROXY_BACKEND] || conn->detail == NULL ||
		strcmp(conn->detail, "memory_limit") != 0 || session_midway(&conn->session) ||
		conn->side->opts->answer_timeout > 0 || conn->rerouted == 0)
		return false;
	list_each(node, tmp, &conn->side->conns) {
		const struct conn *other = list_entry(node, struct conn, node);
		if (other != conn && other->state == CONN_READY)
			return false;
	}
	return true;
}

/* A client, since its queue was full. */
static bool
is_closed_for_room(const struct conn *conn)
{
	return conn->reason == CLOSE_OVER_LIMIT && conn->detail != NULL &&
		strncmp(conn->detail, "when_full", 9) == 0;
}

/* Nobody is closed for what it did not do. */
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
			return conn->side->opts->when_full == WHEN_FULL_CLOSE && conn->dropped > 0;
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
				peer->temper == LIES)) /* one of their ids is always the same */
			return true;
		return peer != NULL && peer->id_len > 0 && memcmp(peer->id, "shared", 6) == 0;
	case CLOSE_HEARTBEAT_TIMEOUT: /* its host is gone, or the network stands still */
		return conn->was_ready && s->owed_since != CLOCK_NEVER &&
			world.now - s->owed_since > 600 &&
			world.now - s->acked_at >= conn->side->opts->heartbeat_timeout - 10 &&
			(s->vanished || !net_window_closed(s));
	default:
		return false;
	}
}

/* Kinds of peers that a PING drove away, and the daemon could know why: host and type. */
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
		violation("descriptor %d is told to leave, and does not know how", s->fd);
	if (s->peer->told_at != 0)
		violation("client %d is told to leave twice", s->peer->number);
	s->peer->told_at = world.now;
}

void
check_bye(struct sock *s)
{
	if (s->side != PROXY_BACKEND || s->peer == NULL || s->peer->leave_end == 0 ||
		s->in.read < s->peer->leave_end || s->peer->dismissed)
		violation("descriptor %d gets a BYE that it did not ask for", s->fd);
	s->peer->dismissed = true;
}

/* It came, got a PING and went. */
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
static bool
took_what_it_read(const struct conn *conn, const struct sock *s)
{
	if (s->fuzzy || conn->messages_in == s->accepted)
		return true;
	return conn->messages_in < s->accepted && conn->state == CONN_CLOSED &&
		(conn->reason == CLOSE_NO_MEMORY || conn->reason == CLOSE_DUPLICATE_ROUTING_ID);
}

void
check_closing(struct sock *s)
{
	const struct conn *conn = check_conn(s->fd);
	uint64_t in = s->accepted;

	if (conn == NULL)
		return; /* a listener's, or a socket that never became a connection */
	if (conn->state != CONN_CLOSED)
		violation("peer %llu is freed without being closed", (unsigned long long)conn->id);
	if (!is_deserved(s, conn))
		violation("peer %llu is closed for %s, and did nothing of the kind",
			(unsigned long long)conn->id, close_reason_name(conn->reason));
	if ((conn->was_ready || conn->messages_in > 0) && !took_what_it_read(conn, s))
		violation("peer %llu closed (%s) with %llu messages accepted, but %llu were read",
			(unsigned long long)conn->id, close_reason_name(conn->reason),
			(unsigned long long)conn->messages_in, (unsigned long long)in);
	closed_for_room += is_closed_for_room(conn);
	if (s->peer != NULL && conn->reason == CLOSE_SEND_TIMEOUT && world.healing &&
		world.probe_at == CLOCK_NEVER)
		s->peer->outlasted = conn->side->opts->send_timeout < LARGEST_TAKES_MS;
	note_hater(s, conn);
	rivals_closing(s, conn);
	add_totals(&gone[s->side], s, conn);
}

void
check_reset(void)
{
	for (int i = 0; i < PROXY_SIDES; i++)
		gone[i] = (struct totals){0};
	closed_for_room = 0;
	hater_count = 0;
	unread_at = 0;
	before = (struct turn){0};
}

void
check_print(void)
{
	static const char *const states[CONN_STATES] = {
		"connecting", "handshake", "ready", "stalled", "linger", "closed"};
	struct proxy *p = world_proxy();

	for (int i = 0; p != NULL && i < PROXY_SIDES; i++) {
		printf("%s: received=%llu sent=%llu queued=%llu rerouted=%llu%s%s\n",
			p->side[i].name, (unsigned long long)p->counters[i].received,
			(unsigned long long)p->counters[i].sent,
			(unsigned long long)p->counters[i].queued,
			(unsigned long long)p->counters[i].rerouted,
			p->side[i].read_paused ? ", not read" : "",
			i == PROXY_BACKEND && p->rerouted != NULL ? ", some wait to be rerouted"
								  : "");
		list_each(node, tmp, &p->side[i].conns) {
			const struct conn *c = list_entry(node, struct conn, node);
			const struct peer *peer = c->peer;
			const struct source *s = peer != NULL ? peer->source : NULL;
			printf("  peer %llu %s: queue %u messages %llu bytes, unsent %llu, "
			       "part %llu, "
			       "waiting %u%s%s%s%s%s%s\n",
				(unsigned long long)c->id, states[c->state], c->out.messages,
				(unsigned long long)c->out.bytes, (unsigned long long)c->out.unsent,
				(unsigned long long)c->part.bytes,
				s != NULL ? s->queue.messages : 0,
				conn_is_blocked(c) ? ", blocked" : "", c->was_full ? ", full" : "",
				c->paused ? ", paused" : "", c->hung_up ? ", hung up" : "",
				conn_is_broken(c) ? ", write broken" : "",
				poison_midway(&c->guard) ? ", midway" : "");
		}
	}
}

/* --- one connection ------------------------------------------------------- */

static unsigned long long
id_of(const struct conn *conn)
{
	return (unsigned long long)conn->id;
}

static void
check_due(const struct conn *conn, int64_t due, const char *what)
{
	if (due == CLOCK_NEVER)
		return;
	if (due < net_timers_ran_at() - LATE_MS)
		violation("peer %llu: %s is overdue by %lld ms", id_of(conn), what,
			(long long)(net_timers_ran_at() - due));
	if (net_timer_due(&conn->timer) > (due > world.now ? due : world.now) + LATE_MS)
		violation("peer %llu: no timer is set for %s", id_of(conn), what);
}

/* A peer that stays silent gets PINGs; one whose host is gone is found. */
static void
check_heartbeat(const struct conn *conn, const struct sock *s)
{
	const struct side_opts *o = conn->side->opts;
	int64_t since = conn->last_in > conn->last_ping ? conn->last_in : conn->last_ping;
	int64_t lost = conn->last_in > s->vanished_at ? conn->last_in : s->vanished_at;

	if (s->out.full_until > lost) /* no PING could leave */
		lost = s->out.full_until;
	check_due(conn,
		conn->first_ping == CLOCK_NEVER ? since + o->heartbeat_interval
						: conn->first_ping + o->heartbeat_timeout,
		"heartbeat");
	if (s->vanished && !net_window_closed(s) && !world.freezes &&
		world.now - lost > 2 * (o->heartbeat_interval + o->heartbeat_timeout) + 1000)
		violation("peer %llu: its host is gone, and nobody noticed", id_of(conn));
}

/* ... by the kernel alone when it gets no PING, as soon as something is on its way to it. */
static void
check_half_open(const struct conn *conn, const struct sock *s)
{
	const struct side_opts *o = conn->side->opts;

	if (s->vanished && !s->reset && o->heartbeat_interval > 0 && s->owed_since != CLOCK_NEVER &&
		!net_window_closed(s) && !world.freezes &&
		world.now - s->owed_since >
			2 * o->heartbeat_interval + o->heartbeat_timeout + LATE_MS)
		violation("peer %llu: it has acknowledged nothing for %lld ms", id_of(conn),
			(long long)(world.now - s->owed_since));
}

static void
check_timers(const struct conn *conn)
{
	const struct side_opts *o = conn->side->opts;
	bool reads = net_watches(net_find(conn->fd), WATCH_IN);
	int64_t due;

	check_due(conn, conn->connect_due, "connect_timeout");
	check_due(conn, conn->handshake_due, "handshake_timeout");
	check_due(conn, conn->send_due, "send_timeout");
	check_due(conn, conn->linger_due, "the end of lingering");
	if (conn->state == CONN_CONNECTING && conn->connect_due == CLOCK_NEVER)
		violation("peer %llu connects without a limit", id_of(conn));
	if ((conn->state == CONN_CONNECTING || conn->state == CONN_HANDSHAKE) &&
		conn->handshake_due == CLOCK_NEVER)
		violation("peer %llu shakes hands without a limit", id_of(conn));
	if (conn->state == CONN_LINGER && conn->linger_due == CLOCK_NEVER)
		violation("peer %llu lingers without a limit", id_of(conn));
	if (conn_is_blocked(conn) && conn->out.unsent > 0 && o->send_timeout > 0 &&
		conn->state != CONN_LINGER && conn->send_due == CLOCK_NEVER)
		violation("peer %llu is blocked without a limit", id_of(conn));
	if (conn->state == CONN_STALLED && !conn_is_broken(conn) && o->send_timeout > 0 &&
		conn->send_due == CLOCK_NEVER)
		violation("peer %llu is stalled without a limit", id_of(conn));
	if (!conn_is_open(conn))
		return;
	check_half_open(conn, net_find(conn->fd));
	if (!reads) {
		unread_at = world.now;
		return;
	}
	if (session_midway(&conn->session) && o->receive_timeout > 0)
		check_due(conn, conn->last_in + o->receive_timeout, "receive_timeout");
	if (session_midway(&conn->session) && o->receive_deadline > 0) {
		if (conn->part_since == CLOCK_NEVER)
			violation("peer %llu sends a message without a deadline", id_of(conn));
		due = conn->part_since + o->receive_deadline;
		check_due(conn, due > unread_at ? due : unread_at, "receive_deadline");
	}
	if (conn->session.ping_ttl > 0)
		check_due(conn, conn->last_in + conn->session.ping_ttl, "its own TTL");
	if (o->heartbeat_interval > 0 && session_peer_minor(&conn->session) > 0 && !conn->unpinged)
		check_heartbeat(conn, net_find(conn->fd));
}

/* Only connections in their handshake make room for others at a limit. */
static void
check_slots(const struct side *side)
{
	for (int i = 0; i < SLOTS_BUCKETS && side->slots.count > 0; i++) {
		const struct list *conns = &side->slots.buckets[i].conns;

		for (const struct list *n = conns->next; n != conns; n = n->next) {
			const struct conn *conn = list_entry(n, struct conn, shaking);
			if (conn->was_ready || conn->state == CONN_CLOSED)
				violation("peer %llu is over with its handshake, and counts as one "
					  "in it",
					id_of(conn));
		}
	}
}

static void
check_queue(const struct conn *conn)
{
	const struct side_opts *o = conn->side->opts;

	if (conn->out.messages > 1 && o->send_hwm > 0 && conn->out.messages > (uint64_t)o->send_hwm)
		violation("peer %llu has %u messages queued, over send_hwm", id_of(conn),
			conn->out.messages);
	if (conn->out.messages > 1 &&
		conn->out.bytes > (uint64_t)o->send_hwm_bytes + 64 * conn->out.commands + 64)
		violation("peer %llu has %llu bytes queued, over send_hwm_bytes", id_of(conn),
			(unsigned long long)conn->out.bytes);
	if (conn->out.commands > COMMANDS_MAX)
		violation("peer %llu has %u commands queued", id_of(conn), conn->out.commands);
	if (outq_cost(&conn->part) > 8 * conn->part.bytes + 17000)
		violation("peer %llu sent %llu bytes of a message, and they cost %zu", id_of(conn),
			(unsigned long long)conn->part.bytes, outq_cost(&conn->part));
	if (conn->session.over && conn->part.bytes > CONN_FRONT)
		violation("peer %llu has %llu bytes read of a message that is discarded",
			id_of(conn), (unsigned long long)conn->part.bytes);
	if (conn->part.bytes > (uint64_t)o->max_message_size + 9u * (uint64_t)o->max_message_parts +
			(conn->side->session.enveloped ? 9 + 255 : 0))
		violation("peer %llu has %llu bytes of one message read, over max_message_size",
			id_of(conn), (unsigned long long)conn->part.bytes);
}

static void
check_streams(const struct conn *conn, const struct sock *s)
{
	if (conn->messages_out != s->messages_out)
		violation("peer %llu: %llu messages sent, %llu seen", id_of(conn),
			(unsigned long long)conn->messages_out,
			(unsigned long long)s->messages_out);
	if (conn->was_ready && !took_what_it_read(conn, s))
		violation("peer %llu: %llu messages accepted, %llu seen", id_of(conn),
			(unsigned long long)conn->messages_in, (unsigned long long)s->accepted);
	if (conn->bytes_in != s->in.read || conn->bytes_out != s->out.written)
		violation("peer %llu: byte counts differ", id_of(conn));
	if (!conn_is_broken(conn) &&
		conn->state != CONN_CLOSED && /* its queue goes to others in slices */
		poison_midway(&conn->guard) != (conn->out.bytes > conn->out.unsent))
		violation("peer %llu: the guard and the stream disagree", id_of(conn));
	if (decoder_is_midway(s->decoder) && !poison_midway(&conn->guard))
		violation("peer %llu: a message is cut and the guard is clear", id_of(conn));
}

/* It leaves when the timer of its side comes to it. */
static bool
waits_for_farewell(const struct conn *conn)
{
	return list_linked(&conn->task.node) && conn->side->farewell.due != CLOCK_NEVER;
}

/* Nothing is left to be called back for: then nothing may be left to do. */
static void
check_idle(const struct conn *conn, const struct sock *s)
{
	if (conn->state == CONN_CONNECTING)
		return;
	if (conn->out.unsent > 0 && !conn_is_broken(conn) && !waits_for_farewell(conn) &&
		!net_watches(s, WATCH_OUT))
		violation("peer %llu has bytes to be sent, and nobody waits until it can",
			id_of(conn));
	if ((conn->paused & CONN_HELD) && !conn->side->read_paused)
		violation("peer %llu is held, and its side is not", id_of(conn));
	if (((!conn->paused && !conn->side->read_paused && !conn_is_yielding(conn)) ||
		    conn->hung_up) &&
		!net_watches(s, WATCH_IN))
		violation("peer %llu is not read", id_of(conn));
	if (!conn->hung_up && !net_watches(s, WATCH_HUP))
		violation("peer %llu could leave unnoticed", id_of(conn));
	if (s->peer != NULL && s->peer->leave_end > 0 && s->in.read >= s->peer->leave_end &&
		!s->peer->dismissed && conn_is_open(conn) && !conn_is_broken(conn) &&
		conn->out.unsent == 0)
		violation("worker %llu said DRAINING, and has no BYE", id_of(conn));
}

/* --- waiting messages ----------------------------------------------------- */

static void
recount_list(struct recount *r, const struct list *head)
{
	for (const struct list *l = head->next; l != head; l = l->next)
		recount_queue(r, &list_entry(l, struct source, node)->queue);
}

/* Replies that wait for a client. */
static void
recount_client(struct recount *r, const struct peer *client)
{
	recount_list(r, &client->blocked);
	if (client->aside && client->backlog != NULL)
		recount_queue(r, client->backlog);
}

/* A worker that could take the next request, while requests wait. */
static void
check_waiting(const struct proxy *p)
{
	const struct side_opts *o = &p->opts[PROXY_BACKEND];

	if ((list_empty(&p->waiting) && p->rerouted == NULL &&
		    list_empty(&p->deliveries.requeued)) ||
		p->retrying)
		return;
	list_each(node, tmp, &p->side[PROXY_BACKEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *peer = conn->peer;
		if (conn->state != CONN_READY || conn_is_broken(conn) || peer == NULL ||
			peer->retiring || (peer->suspect && !peer->trial) ||
			(o->max_outstanding > 0 &&
				peer->outstanding >= (uint64_t)o->max_outstanding))
			continue;
		if (conn->out.messages == 0 ||
			(!conn->was_full &&
				(o->send_hwm == 0 || conn->out.messages < o->send_hwm) &&
				conn->out.bytes < (uint64_t)o->send_hwm_bytes / 2))
			violation("requests wait, and worker %llu has room", id_of(conn));
	}
}

/* --- who has the next request --------------------------------------------- */

static uint64_t
load_of(const struct conn *conn)
{
	const struct peer *worker = conn->peer;

	return worker->outstanding + worker->lift;
}

static bool
is_in_balance(const struct conn *conn)
{
	return conn->peer != NULL && ((const struct peer *)conn->peer)->level != NULL;
}

/* Workers with the least come first, and a worker with nothing is one of them. */
static void
check_levels(const struct proxy *p)
{
	const struct list *levels = &p->balance.levels.node;
	uint64_t least = list_empty(levels) ? 0 : level_of(levels->next)->load, last = 0;

	for (const struct list *n = levels->next; n != levels; n = n->next) {
		if (n != levels->next && level_of(n)->load <= last)
			violation("levels of workers are not in order");
		if (list_empty(&level_of(n)->workers))
			violation("a level without a worker");
		last = level_of(n)->load;
	}
	list_each(node, tmp, &p->side[PROXY_BACKEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *worker = conn->peer;

		if (!is_in_balance(conn))
			continue;
		if (worker->level->load != load_of(conn))
			violation(
				"worker %llu counts for %llu requests and is at the level of %llu",
				id_of(conn), (unsigned long long)load_of(conn),
				(unsigned long long)worker->level->load);
		if (worker->lift > least)
			violation(
				"worker %llu holds %llu requests, and another with %llu is before "
				"it",
				id_of(conn), (unsigned long long)worker->outstanding,
				(unsigned long long)least);
	}
}

/*
 * In a turn without answers loads only rise: who was given a request was among the least before it.
 */
static void
check_choices(const struct proxy *p)
{
	const struct counters *c = &p->counters[PROXY_BACKEND];
	uint64_t answers = p->counters[PROXY_FRONTEND].received,
		 moved = c->rerouted + c->redelivered;
	struct turn now = {.answers = answers, .moved = moved, .lift = p->balance.lift};
	uint64_t least = UINT64_MAX, most = 0;

	list_each(node, tmp, &p->side[PROXY_BACKEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		size_t i = 0;

		if (!is_in_balance(conn) ||
			now.count == sizeof(now.workers) / sizeof(now.workers[0]))
			continue;
		now.workers[now.count++] = (struct was){conn->id, conn_next_number(conn)};
		while (i < before.count && before.workers[i].id != conn->id)
			i++;
		if (i == before.count)
			continue;
		if (load_of(conn) < least)
			least = load_of(conn);
		if (conn_next_number(conn) > before.workers[i].number && load_of(conn) > most)
			most = load_of(conn);
	}
	if (answers == before.answers && moved == before.moved && p->balance.lift >= before.lift &&
		most > 0 && most - 1 > least)
		violation("a worker that counted for %llu requests was given one more, and one for "
			  "%llu "
			  "was not",
			(unsigned long long)most - 1, (unsigned long long)least);
	before = now;
}

static bool
is_parked(const struct peer *client)
{
	return client != NULL && (client->backlog != NULL || client->waits) && !client->retiring;
}

static bool
is_in(const struct list *head, const struct list *node)
{
	for (const struct list *n = head->next; n != head; n = n->next)
		if (n == node)
			return true;
	return false;
}

/* Replies after those in a client's queue: bounded, waited for, and its requests stand still. */
static void
check_backlog(const struct proxy *p, const struct conn *conn)
{
	const struct peer *client = conn->peer;

	if (client == NULL || conn->state == CONN_CLOSED)
		return;
	if (client->backlog != NULL && client->backlog->messages > 1 &&
		client->backlog->bytes > (uint64_t)p->opts[PROXY_FRONTEND].send_hwm_bytes)
		violation("%llu bytes of replies wait for client %llu, over send_hwm_bytes",
			(unsigned long long)client->backlog->bytes, id_of(conn));
	if (client->source != NULL && !is_parked(client) &&
		is_in(&p->parked, &client->source->node))
		violation("requests of client %llu stand still for nothing", id_of(conn));
	if (!is_parked(client))
		return;
	if (client->backlog != NULL && !(conn->paused & CONN_PAUSED))
		violation("client %llu does not take its replies, and is read", id_of(conn));
	if (client->backlog != NULL && !conn->was_full)
		violation("replies wait for client %llu, and nobody waits for room", id_of(conn));
	if (client->waits && (!p->ration.on || client->source == NULL || !client->aside))
		violation("client %llu waits for its ration, and nobody looks", id_of(conn));
	if (client->source != NULL && !is_in(&p->parked, &client->source->node))
		violation("client %llu does not take its replies, and its requests are passed on",
			id_of(conn));
}

/* A paused connection waits for something that will come. */
static void
check_paused(const struct proxy *p)
{
	list_each(node, tmp, &p->side[PROXY_FRONTEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *peer = conn->peer;
		uint64_t held =
			peer != NULL && peer->source != NULL ? peer->source->queue.bytes : 0;
		uint64_t limit = (uint64_t)p->opts[PROXY_FRONTEND].receive_hwm_bytes;

		check_backlog(p, conn);
		if ((conn->paused & CONN_PAUSED) && held <= limit / 2 && !is_parked(peer))
			violation("client %llu is paused for nothing", id_of(conn));
		if (!(conn->paused & CONN_PAUSED) && held >= limit && !peer->retiring)
			violation("client %llu is read beyond receive_hwm_bytes", id_of(conn));
		if (peer != NULL && !list_empty(&peer->blocked) && !conn->was_full)
			violation("replies wait for client %llu, which nobody waits for",
				id_of(conn));
	}
	list_each(node, tmp, &p->side[PROXY_BACKEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *peer = conn->peer;
		bool holds = peer != NULL && peer->source != NULL;
		bool paused = conn->paused & CONN_PAUSED;

		if (paused != holds)
			violation("worker %llu is %spaused, and %s replies wait", id_of(conn),
				paused ? "" : "not ", holds ? "its" : "none of its");
		if (holds && !list_linked(&peer->source->node))
			violation("replies of worker %llu wait for nobody", id_of(conn));
	}
}

/* --- requests in flight --------------------------------------------------- */

/* All requests that the daemon knows, each once. */
struct known {
	const struct request **at;
	size_t count, cap;
	uint64_t deliveries; /* beyond the first of each */
};

static void
add_known(struct known *k, const struct request *r)
{
	if (k->count == k->cap) {
		k->cap = k->cap * 2 + 64;
		k->at = mem_resize(k->at, k->cap * sizeof(struct request *));
	}
	k->at[k->count++] = r;
}

static void
add_deliveries(struct known *k, const struct list *head)
{
	for (const struct list *n = head->next; n != head; n = n->next) {
		const struct delivery *d = list_entry(n, struct delivery, node);
		add_known(k, d->request);
		k->deliveries += d != &d->request->first;
	}
}

static int
by_address(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t) * (struct request *const *)a,
		  y = (uintptr_t) * (struct request *const *)b;

	return (x > y) - (x < y);
}

/* Requests that count as the worker's, and are in its queue no more. */
static uint64_t
cut_of(const struct peer *worker)
{
	return worker->ledger != NULL ? worker->ledger->cut : 0;
}

/* Requests that a REP never answers do not count, and with replies = no, none does. */
static void
check_outstanding(const struct proxy *p)
{
	uint64_t sum = 0, silent = 0;

	list_each(node, tmp, &p->side[PROXY_BACKEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *worker = conn->peer;
		const struct sock *s = conn->fd >= 0 ? net_find(conn->fd) : NULL;

		sum += worker != NULL ? worker->outstanding : 0;
		silent += worker != NULL && worker->silent;
		if (worker == NULL || s == NULL || s->peer == NULL || s->peer->temper != HONEST ||
			s->peer->muddled || s->peer->babbles || strcmp(s->peer->type, "REP") != 0 ||
			world.babble)
			continue;
		if (worker->outstanding + s->accepted >
			s->answerable_out + conn->out.messages + cut_of(worker))
			violation("worker %llu, a REP, is waited for with %llu requests, and can "
				  "answer %llu",
				id_of(conn), (unsigned long long)worker->outstanding,
				(unsigned long long)(s->answerable_out + conn->out.messages -
					s->accepted));
	}
	if (silent != p->counters[PROXY_BACKEND].silent)
		violation("%llu workers are silent, the gauge says %llu",
			(unsigned long long)silent,
			(unsigned long long)p->counters[PROXY_BACKEND].silent);
	if (p->counters[PROXY_BACKEND].outstanding > 0 && p->opts[PROXY_BACKEND].silent_after > 0 &&
		p->silence_timer.due == CLOCK_NEVER)
		violation("requests are outstanding, and nobody looks whether workers are silent");
	if (!p->opts[PROXY_BACKEND].replies &&
		(sum > 0 || p->counters[PROXY_BACKEND].outstanding > 0))
		violation("%llu requests are outstanding, though no replies are expected",
			(unsigned long long)sum);
}

/* Does `from` send its requests with this id in front? */
static bool
has_id(const struct peer_sim *from, const struct peer *client)
{
	size_t len = peer_id_len(client);

	return from->seen_id_len == len && memcmp(from->seen_id, peer_id(client), len) == 0;
}

/*
 * In peace a client waits for no more than it, or somebody whose id it has, asked for and nobody
 * answered; and where the books say that nobody holds anything, for nothing.
 */
void
check_asking(void)
{
	const struct proxy *p = world_proxy();

	list_each(node, tmp, &p->side[PROXY_FRONTEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *client = conn->peer;
		uint64_t open = 0;

		if (client == NULL || !client->routed || world.memory_faults || world.babble)
			continue;
		for (int i = 0; !world.flight && i < message_count; i++) {
			const struct sim_message *m = &messages[i];
			open += m->kind == REQUEST && m->accepted && !m->thrown &&
				m->answered_times == 0 && has_id(m->from, client);
		}
		if (client->outstanding > open)
			violation("client %llu waits for %llu replies, and %llu may come",
				id_of(conn), (unsigned long long)client->outstanding,
				(unsigned long long)open);
	}
}

static void
check_worker(const struct proxy *p, const struct conn *conn)
{
	const struct side_opts *o = &p->opts[PROXY_BACKEND];
	const struct peer *worker = conn->peer;

	if (o->max_outstanding > 0 && worker->outstanding > (uint64_t)o->max_outstanding)
		violation("worker %llu holds %llu requests, over max_outstanding", id_of(conn),
			(unsigned long long)worker->outstanding);
	if (o->answer_timeout == 0 || !conn_is_open(conn))
		return;
	if (ledger_oldest(worker->ledger) != NULL && worker->ledger->timer.due == CLOCK_NEVER)
		violation("worker %llu holds requests without a limit", id_of(conn));
	if (worker->suspect && !worker->trial && worker->ledger->trial.due == CLOCK_NEVER &&
		worker->ledger->timer.due == CLOCK_NEVER)
		violation("worker %llu is suspect, and nothing will ever change that", id_of(conn));
	if (worker->suspect && worker->ledger->trial.due != CLOCK_NEVER &&
		worker->ledger->trial.due > world.now + 60000 + LATE_MS)
		violation("worker %llu waits more than a minute for a trial", id_of(conn));
	if (worker->suspect && conn->state == CONN_READY && !conn_is_blocked(conn) &&
		!conn_is_broken(conn) && ledger_oldest(worker->ledger) == NULL &&
		list_empty(&worker->ledger->expired) &&
		!list_linked(
			&conn->task.node)) /* its flush, which tells, is due in the next turn */
		violation("worker %llu is suspect, and has nothing to answer", id_of(conn));
}

static struct known
know_all(const struct proxy *p)
{
	struct known k = {0};
	size_t n = 0;

	list_each(node, tmp, &p->side[PROXY_BACKEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *peer = conn->peer;

		if (peer == NULL || peer->ledger == NULL)
			continue;
		check_worker(p, conn);
		add_deliveries(&k, &peer->ledger->pending);
		add_deliveries(&k, &peer->ledger->expired);
	}
	for (const struct list *l = p->deliveries.requeued.next; l != &p->deliveries.requeued;
		l = l->next)
		add_known(&k, list_entry(l, struct request, node));
	if (k.count > 0)
		qsort(k.at, k.count, sizeof(struct request *), by_address);
	for (size_t i = 0; i < k.count; i++)
		if (n == 0 || k.at[n - 1] != k.at[i])
			k.at[n++] = k.at[i];
	k.count = n;
	return k;
}

/* A request that waits for another worker: is it still to be answered? */
static void
check_again(const struct request *r)
{
	struct message m = {r->bytes, r->size, r->size, NULL, NULL};
	uint8_t buf[600];
	size_t len;
	const uint8_t *front;
	int index;

	if (r->answered)
		violation("a request that was answered waits to be delivered again");
	if (!request_is_kept(r))
		violation("a request waits to be delivered again, and its bytes are gone");
	if (!r->whole)
		m = outq_as_message(r->kept);
	front = message_front(&m, buf, sizeof(buf), &len);
	index = message_identify(front, len);
	if (index < 0 || index >= message_count)
		violation("a message that nobody sent waits to be delivered again");
	if (messages[index].answered && !world.memory_faults)
		violation("request %d waits to be delivered again, and its reply was read", index);
}

/* Requeueing in slices continues, and newer requests wait until it is done. */
static void
check_returns(const struct proxy *p)
{
	const struct deliveries *f = &p->deliveries;
	uint32_t returns = 0;

	list_each(node, tmp, &p->side[PROXY_BACKEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *worker = conn->peer;

		if (worker == NULL || !worker->returning)
			continue;
		returns++;
		if (conn->state != CONN_CLOSED && !list_linked(&worker->ledger->node))
			violation("worker %llu waits for nothing to be taken back", id_of(conn));
		if (conn->state != CONN_CLOSED && list_linked(&worker->ready))
			violation("worker %llu is given requests, and they are taken back",
				id_of(conn));
	}
	if (returns != f->returns)
		violation("requests of %u workers are on their way back, the books say %u",
			(unsigned)returns, (unsigned)f->returns);
	if (!list_empty(&f->returning) && !list_linked(&p->return_task.node))
		violation("requests are to be taken back, and nobody goes on with it");
	if (f->sweep != NULL && !list_linked(&p->serve_task.node))
		violation(
			"requests of clients that left are looked for, and nobody goes on with it");
	if (f->returns > 0 && !p->tracking && p->rerouted == NULL)
		violation("requests are taken back, and newer ones do not wait");
}

/* Returns the bytes of everything about requests in flight, except the chunks. */
static uint64_t
check_flight(const struct proxy *p, struct recount *chunks)
{
	const struct counters *c = &p->counters[PROXY_BACKEND];
	struct known k = know_all(p);
	uint64_t bytes = k.deliveries * sizeof(struct delivery), outstanding = 0, kept = 0;

	check_returns(p);
	for (size_t i = 0; i < k.count; i++) {
		const struct request *r = k.at[i];
		bytes += sizeof(*r) + r->room;
		if (r->kept != NULL) {
			kept += r->kept->bytes;
			recount_queue(chunks, r->kept);
		}
		outstanding += r->outstanding;
		if (r->outstanding && r->answered)
			violation("an answered request is outstanding");
		if (r->waiting)
			check_again(r);
	}
	free(k.at);
	if (bytes + kept != c->kept_bytes)
		violation("requests in flight take %llu bytes, kept_bytes says %llu",
			(unsigned long long)(bytes + kept), (unsigned long long)c->kept_bytes);
	if (world.flight && outstanding != c->outstanding)
		violation("%llu requests are outstanding, the gauge says %llu",
			(unsigned long long)outstanding, (unsigned long long)c->outstanding);
	world.redelivered = c->redelivered;
	world.undeliverable = c->dropped[DROP_UNDELIVERABLE];
	world.late = p->counters[PROXY_FRONTEND].dropped[DROP_LATE_REPLY];
	return bytes;
}

/* Each reply over a limit is dropped as that, and nothing else is. */
static void
check_too_big(const struct proxy *p)
{
	uint64_t dropped = p->counters[PROXY_FRONTEND].dropped[DROP_TOO_BIG];
	bool exact = !world.memory_faults && !p->opts[PROXY_BACKEND].redeliver;

	if (!world.babble && (dropped > world.too_big || (exact && dropped < world.too_big)))
		violation("%llu replies were over a limit, and %llu are dropped as too_big",
			(unsigned long long)world.too_big, (unsigned long long)dropped);
}

static void
check_totals(const struct proxy *p, const struct totals *t)
{
	for (int i = 0; i < PROXY_SIDES; i++) {
		const struct counters *here = &p->counters[i], *there = &p->counters[!i];

		if (here->sent != t[i].out || t[i].out != t[i].seen_out)
			violation("%s: sent=%llu, connections %llu, seen %llu", p->side[i].name,
				(unsigned long long)here->sent, (unsigned long long)t[i].out,
				(unsigned long long)t[i].seen_out);
		if (there->received != t[i].in)
			violation("%s: received=%llu, connections %llu", p->side[!i].name,
				(unsigned long long)there->received, (unsigned long long)t[i].in);
		if (here->bytes_sent != t[i].bytes_out || here->bytes_received != t[i].bytes_in)
			violation("%s: bytes do not add up", p->side[i].name);
		if (here->accepted + here->connect_attempts < here->closed)
			violation("%s: more closed than there ever were", p->side[i].name);
	}
	if (p->counters[PROXY_BACKEND].dropped[DROP_QUEUE_FULL] > 0 && !world.memory_faults)
		violation("a request was dropped as queue_full");
	if (p->counters[PROXY_BACKEND].dropped[DROP_SHUTDOWN] > 0 && !world.stopping)
		violation("a request was dropped as shutdown");
}

/* Below the limit nobody waits for memory that does not get free by itself. */
static void
check_pause(const struct proxy *p, bool paused)
{
	static uint64_t used;
	static int64_t since;
	const struct mem_account *m = &p->loop->env.memory;

	if (world.steps <= 2 || !paused || m->used != used || p->draining || p->paused ||
		mem_account_over(m)) {
		used = m->used;
		since = world.now;
	}
	if (net_timers_ran_at() - since > PAUSE_MS && !world.freezes)
		violation("reading is paused for %lld ms, below memory_limit, and nothing moves",
			(long long)(net_timers_ran_at() - since));
}

/*
 * What is held back on a side: large messages under way, and nothing else. Returns their bytes,
 * with those of peers that leave. Chunks may be larger by half of that. *giving: one that is closed
 * gives back what it has, in slices: what more there is to do shows when it has.
 */
static uint64_t
check_held(const struct side *side, bool *giving)
{
	uint64_t held = 0;

	for (const struct list *n = side->conns.next; n != &side->conns; n = n->next) {
		const struct conn *conn = list_entry(n, struct conn, node);
		bool large = side->holds && conn_is_open(conn) &&
			outq_cost(&conn->part) > side->hold_above;

		if (((conn->paused & CONN_LARGE) != 0) != large && conn->state < CONN_LINGER)
			violation("peer %llu is %sheld back, with %llu bytes under way",
				id_of(conn), conn->paused & CONN_LARGE ? "" : "not ",
				(unsigned long long)outq_cost(&conn->part));
		held += large || conn->state >= CONN_LINGER ? outq_cost(&conn->part) : 0;
		*giving |= conn->state == CONN_CLOSED;
	}
	return held;
}

static uint64_t
closed_so_far(const struct proxy *p)
{
	uint64_t closed = 0;

	for (int i = 0; i < PROXY_SIDES; i++)
		for (int reason = 0; reason < CLOSE_REASON_COUNT; reason++)
			closed += p->counters[i].closed_by[reason];
	return closed;
}

/*
 * Over the limit somebody looks after it; far over, nobody feeds the fullest queues any more,
 * except those that hold next to nothing beside what is held back. Small replies pass for longer,
 * while what is asked for is rationed.
 */
static void
check_memory(const struct proxy *p)
{
	const struct broker *b = p->loop->on_turn_arg;
	const struct mem_account *m = &p->loop->env.memory;
	bool paused = p->side[PROXY_FRONTEND].read_paused || p->side[PROXY_BACKEND].read_paused;
	bool holds = p->side[PROXY_FRONTEND].holds || p->side[PROXY_BACKEND].holds;
	bool rationed = p->ration.few && m->used <= m->limit + m->limit / 4, giving = false;
	static uint64_t closed;
	static int64_t not_giving; /* when nobody that was closed had anything left */
	/* ... when one was gone; what that has won is seen in the next look */
	static int64_t closed_at;
	uint64_t held = check_held(&p->side[PROXY_FRONTEND], &giving) +
		check_held(&p->side[PROXY_BACKEND], &giving);

	if (!giving || world.steps <= 2 || not_giving > world.now)
		not_giving = world.now;
	if (closed != closed_so_far(p) || world.steps <= 2)
		closed_at = world.now;
	closed = closed_so_far(p);
	giving = (giving && net_timers_ran_at() - not_giving <= GIVING_MS) ||
		net_timers_ran_at() - closed_at <= LOOK_MS;
	if (world.steps == 1)
		return; /* before the first turn's end */
	if (mem_account_over(m) && !b->memory.watched)
		violation("%llu bytes are queued, over memory_limit, and nothing is done",
			(unsigned long long)m->used);
	if (mem_account_far_over(m) && m->used > held + held / 2 + m->limit / 8 && !paused &&
		!rationed && !giving)
		violation("%llu bytes are queued, far over memory_limit, and reading goes on",
			(unsigned long long)m->used);
	if (b->memory.watched && net_timer_due(&b->memory.timer) == CLOCK_NEVER)
		violation("memory_limit was reached, and nobody looks again");
	if ((holds || p->ration.on || (paused && !p->draining)) && !b->memory.watched)
		violation("reading is paused for no reason");
	check_pause(p, paused || holds);
}

/* With `close`, whoever loses a reply is closed for it. */
static void
check_room(const struct proxy *p)
{
	const struct side *side = &p->side[PROXY_FRONTEND];
	uint64_t closed = closed_for_room;

	if (side->opts->when_full != WHEN_FULL_CLOSE || world.memory_faults || world.stopping)
		return;
	for (const struct list *n = side->conns.next; n != &side->conns; n = n->next)
		closed += is_closed_for_room(list_entry(n, struct conn, node));
	if (p->counters[PROXY_FRONTEND].dropped[DROP_QUEUE_FULL] != closed)
		violation("%llu replies found no room, and %llu clients were closed for that",
			(unsigned long long)p->counters[PROXY_FRONTEND].dropped[DROP_QUEUE_FULL],
			(unsigned long long)closed);
}

void
check_step(bool idle)
{
	struct proxy *p = world_proxy();
	struct totals totals[PROXY_SIDES] = {gone[0], gone[1]};
	struct recount chunks = {0};
	uint64_t memory, ready;
	const char *wrong;

	if (p == NULL)
		return;
	wrong = proxy_check(p);
	if (wrong != NULL)
		violation("%s", wrong);
	if (idle)
		strangers_check(p);
	rivals_check(p);
	hogs_check();
	check_room(p);
	for (int i = 0; i < PROXY_SIDES; i++) {
		check_slots(&p->side[i]);
		ready = 0;
		list_each(node, tmp, &p->side[i].conns) {
			const struct conn *conn = list_entry(node, struct conn, node);
			const struct peer *peer = conn->peer;
			struct sock *s;

			if (conn->state == CONN_CLOSED && (idle || !list_linked(&conn->task.node)))
				violation("peer %llu is closed and still there", id_of(conn));
			/* a connect without a descriptor, before the first turn */
			if (conn->fd < 0)
				continue;
			s = net_find(conn->fd);
			check_streams(conn, s);
			if (conn->state != CONN_CLOSED) {
				check_timers(conn);
				check_queue(conn);
			}
			if (idle)
				check_idle(conn, s);
			add_totals(&totals[i], s, conn);
			ready += conn->was_ready;
			recount_queue(&chunks, &conn->out);
			recount_queue(&chunks, &conn->part);
			if (peer != NULL && i == PROXY_FRONTEND)
				recount_client(&chunks, peer);
		}
		if (ready != p->counters[i].peers)
			violation("%s: peers=%llu, and there are %llu", p->side[i].name,
				(unsigned long long)p->counters[i].peers,
				(unsigned long long)ready);
	}
	recount_list(&chunks, &p->waiting);
	recount_list(&chunks, &p->parked);
	if (p->rerouted != NULL) {
		if (p->rerouted->queue.messages == 0)
			violation("there is a queue of what was rerouted, and nothing in it");
		recount_queue(&chunks, &p->rerouted->queue);
	}
	memory = check_flight(p, &chunks);
	memory += recount_end(&chunks);
	if (memory != p->loop->env.memory.used)
		violation("queues hold %llu bytes, the account says %llu",
			(unsigned long long)memory, (unsigned long long)p->loop->env.memory.used);
	check_totals(p, totals);
	check_too_big(p);
	check_memory(p);
	check_paused(p);
	check_levels(p);
	check_outstanding(p);
	check_choices(p);
	turns_check_returns(p);
	if (idle)
		check_waiting(p);
}
