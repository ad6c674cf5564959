/* SPDX-License-Identifier: MIT */
/*
 * Each connection after every turn: its timers, its queue, the bytes that passed; and before the
 * loop waits, whether it waits for everything that it should.
 */
#include "base/clock.h"
#include "check.h"
#include "net/conn.h"
#include "peers.h"
#include "sim.h"

enum { COMMANDS_MAX = 64 + 2 }; /* queued for one peer: PINGs, PONGs, and the handshake's */

/* When a connection was last not read: deadlines that passed meanwhile are seen after that. */
static int64_t unread_at;

static void
check_due(const struct conn *conn, int64_t due, const char *what)
{
	if (due == CLOCK_NEVER)
		return;
	if (due < net_timers_ran_at() - LATE_MS)
		violation("peer %llu: %s is overdue by %lld ms", check_id(conn), what,
			(long long)(net_timers_ran_at() - due));
	if (net_timer_due(&conn->timer) > (due > world.now ? due : world.now) + LATE_MS)
		violation("peer %llu: no timer is set for %s", check_id(conn), what);
}

/* A silent peer gets PINGs; one whose host has vanished is found by them ... */
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
		violation("peer %llu: its host has vanished, and that is not noticed",
			check_id(conn));
}

/* ... or, without PINGs, by the kernel alone, as soon as something is on its way to it. */
static void
check_half_open(const struct conn *conn, const struct sock *s)
{
	const struct side_opts *o = conn->side->opts;

	if (s->vanished && !s->reset && o->heartbeat_interval > 0 && s->owed_since != CLOCK_NEVER &&
		!net_window_closed(s) && !world.freezes &&
		world.now - s->owed_since >
			2 * o->heartbeat_interval + o->heartbeat_timeout + LATE_MS)
		violation("peer %llu: it has acknowledged nothing for %lld ms", check_id(conn),
			(long long)(world.now - s->owed_since));
}

void
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
		violation("peer %llu connects without a limit", check_id(conn));
	if ((conn->state == CONN_CONNECTING || conn->state == CONN_HANDSHAKE) &&
		conn->handshake_due == CLOCK_NEVER)
		violation("peer %llu shakes hands without a limit", check_id(conn));
	if (conn->state == CONN_LINGER && conn->linger_due == CLOCK_NEVER)
		violation("peer %llu lingers without a limit", check_id(conn));
	if (conn_is_blocked(conn) && conn->out.unsent > 0 && o->send_timeout > 0 &&
		conn->state != CONN_LINGER && conn->send_due == CLOCK_NEVER)
		violation("peer %llu is blocked without a limit", check_id(conn));
	if (conn->state == CONN_STALLED && !conn_is_broken(conn) && o->send_timeout > 0 &&
		conn->send_due == CLOCK_NEVER)
		violation("peer %llu is stalled without a limit", check_id(conn));
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
			violation("peer %llu sends a message without a deadline", check_id(conn));
		due = conn->part_since + o->receive_deadline;
		check_due(conn, due > unread_at ? due : unread_at, "receive_deadline");
	}
	if (conn->session.ping_ttl > 0)
		check_due(conn, conn->last_in + conn->session.ping_ttl, "its own TTL");
	if (o->heartbeat_interval > 0 && session_peer_minor(&conn->session) > 0 && !conn->unpinged)
		check_heartbeat(conn, net_find(conn->fd));
}

void
check_queue(const struct conn *conn)
{
	const struct side_opts *o = conn->side->opts;

	if (conn->out.messages > 1 && o->send_hwm > 0 && conn->out.messages > (uint64_t)o->send_hwm)
		violation("peer %llu has %u messages queued, over send_hwm", check_id(conn),
			conn->out.messages);
	if (conn->out.messages > 1 &&
		conn->out.bytes > (uint64_t)o->send_hwm_bytes + 64 * conn->out.commands + 64)
		violation("peer %llu has %llu bytes queued, over send_hwm_bytes", check_id(conn),
			(unsigned long long)conn->out.bytes);
	if (conn->out.commands > COMMANDS_MAX)
		violation("peer %llu has %u commands queued", check_id(conn), conn->out.commands);
	if (outq_cost(&conn->part) > 8 * conn->part.bytes + 17000)
		violation("peer %llu sent %llu bytes of a message, and they cost %zu",
			check_id(conn), (unsigned long long)conn->part.bytes,
			outq_cost(&conn->part));
	if (conn->session.over && conn->part.bytes > CONN_FRONT)
		violation("peer %llu has %llu bytes read of a message that is discarded",
			check_id(conn), (unsigned long long)conn->part.bytes);
	if (conn->part.bytes > (uint64_t)o->max_message_size + 9u * (uint64_t)o->max_message_parts +
			(conn->side->session.enveloped ? 9 + 255 : 0))
		violation("peer %llu has %llu bytes of one message read, over max_message_size",
			check_id(conn), (unsigned long long)conn->part.bytes);
}

void
check_streams(const struct conn *conn, const struct sock *s)
{
	if (conn->messages_out != s->messages_out)
		violation("peer %llu: %llu messages sent, %llu seen", check_id(conn),
			(unsigned long long)conn->messages_out,
			(unsigned long long)s->messages_out);
	if (conn->was_ready && !check_is_counted(conn, s))
		violation("peer %llu: %llu messages accepted, %llu seen", check_id(conn),
			(unsigned long long)conn->messages_in, (unsigned long long)s->accepted);
	if (conn->bytes_in != s->in.read || conn->bytes_out != s->out.written)
		violation("peer %llu: byte counts differ", check_id(conn));
	if (!conn_is_broken(conn) &&
		conn->state != CONN_CLOSED && /* its queue is rerouted in slices */
		poison_midway(&conn->guard) != (conn->out.bytes > conn->out.unsent))
		violation("peer %llu: the guard and the stream disagree", check_id(conn));
	if (decoder_is_midway(s->decoder) && !poison_midway(&conn->guard))
		violation("peer %llu: a message is cut and the guard is clear", check_id(conn));
}

/* Is it one that drains and will be closed by its side's timer? */
static bool
waits_for_farewell(const struct conn *conn)
{
	return list_linked(&conn->task.node) && conn->side->farewell.due != CLOCK_NEVER;
}

/* The daemon waits: then each connection must be called back for whatever is left to do. */
void
check_idle(const struct conn *conn, const struct sock *s)
{
	if (conn->state == CONN_CONNECTING)
		return;
	if (conn->out.unsent > 0 && !conn_is_broken(conn) && !waits_for_farewell(conn) &&
		!net_watches(s, WATCH_OUT))
		violation("peer %llu has bytes to be sent, and is not watched for room",
			check_id(conn));
	if ((conn->paused & CONN_HELD) && !conn->side->read_paused)
		violation("peer %llu is paused with its side, which is not paused", check_id(conn));
	if (((!conn->paused && !conn->side->read_paused && !conn_is_yielding(conn)) ||
		    conn->hung_up) &&
		!net_watches(s, WATCH_IN))
		violation("peer %llu is not read", check_id(conn));
	if (!conn->hung_up && !net_watches(s, WATCH_HUP))
		violation("peer %llu could disconnect unnoticed", check_id(conn));
	if (s->peer != NULL && s->peer->leave_end > 0 && s->in.read >= s->peer->leave_end &&
		!s->peer->dismissed && conn_is_open(conn) && !conn_is_broken(conn) &&
		conn->out.unsent == 0)
		violation("worker %llu sent DRAINING, and has no BYE", check_id(conn));
}

void
check_conn_reset(void)
{
	unread_at = 0;
}
