/* SPDX-License-Identifier: MIT */
/*
 * Is the peer still there? PINGs, which its library answers, and what our kernel knows of its host:
 * a peer whose application is busy does not read, and so answers no PING, but its kernel
 * acknowledges.
 */
#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"
#include "net/conn_impl.h"
#include "net/sys.h"
#include "net/unpinged.h"
#include "zmtp/command.h"
#include "zmtp/socktype.h"

enum {
	/*
	 * Probes of a closed receive window are up to two minutes apart: a host that answered
	 * none for twice as long is gone. The kernel itself thinks the same of data that it
	 * sends again.
	 */
	CLOSED_WINDOW_MS = 240000,
	SAME_TIME_MS = 10,     /* the kernel's clock ticks: its times may be that much too old */
	PING_REFUSED_MS = 2000 /* an end so soon after the first PING is due to it */
};

static int64_t
later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static bool
is_pinged(const struct conn *conn)
{
	return conn->side->opts->heartbeat_interval > 0 && session_peer_minor(&conn->session) > 0 &&
		!conn->unpinged;
}

/*
 * RFC 37, "Heartbeating": we send a PING after our interval; the peer's TTL limits its own silence.
 */
static int64_t
ping_due(const struct conn *conn)
{
	const struct side_opts *o = conn->side->opts;
	int64_t due = CLOCK_NEVER;

	if (!conn_wants_input(conn) || !conn_is_open(conn))
		return CLOCK_NEVER;
	if (conn->session.ping_ttl > 0)
		due = conn->last_in + conn->session.ping_ttl;
	if (!is_pinged(conn))
		return due;
	if (conn->first_ping == CLOCK_NEVER) {
		at_most(&due, later(conn->last_in, conn->last_ping) + o->heartbeat_interval);
	} else {
		at_most(&due, conn->first_ping + o->heartbeat_timeout);
		at_most(&due, conn->last_ping + o->heartbeat_interval);
	}
	return due;
}

int64_t
heartbeat_due(const struct conn *conn)
{
	int64_t due = ping_due(conn);

	if (conn_is_open(conn))
		at_most(&due, conn->host_due);
	return due;
}

/* --- the peer's host ------------------------------------------------------ */

/*
 * How long bytes of ours may stay unacknowledged; 0: as long as the system allows. Without
 * heartbeats, as long as keepalive allows an idle connection to be silent.
 */
static int64_t
patience(const struct side_opts *o)
{
	if (o->heartbeat_interval > 0)
		return o->heartbeat_interval + o->heartbeat_timeout;
	if (o->tcp_keepalive)
		return o->tcp_keepalive_idle + o->tcp_keepalive_interval * o->tcp_keepalive_count;
	return 0;
}

/* How often the kernel is asked, so that it learns in time that a peer is only busy. */
static int64_t
host_interval(const struct side_opts *o)
{
	return o->heartbeat_interval > 0 ? o->heartbeat_interval : o->tcp_keepalive_idle;
}

void
heartbeat_start(struct conn *conn)
{
	const struct side_opts *o = conn->side->opts;
	bool asked = patience(o) > 0 || conn->host_due != CLOCK_NEVER;

	conn->host_due = CLOCK_NEVER;
	conn->window_closed = false;
	if (asked && sys_set_patience(conn->fd, patience(o)) && patience(o) > 0)
		conn->host_due = loop_now(conn->side->loop) + host_interval(o);
}

/*
 * TCP_USER_TIMEOUT finds a host that is gone. It would also end the connection of a peer that does
 * not read and whose receive window is closed, though the peer's kernel answers every probe; so it
 * is off while that is so.
 */
static void
note_window(struct conn *conn, bool closed)
{
	if (closed == conn->window_closed)
		return;
	conn->window_closed = closed;
	sys_set_patience(conn->fd, closed ? 0 : patience(conn->side->opts));
}

/*
 * Asks our kernel: has the peer's kernel acknowledged anything since then, or does it have nothing
 * to acknowledge? Notes whether the peer's receive window is closed.
 */
static bool
ask_acknowledged(struct conn *conn, int64_t since, int64_t now)
{
	struct sys_peer peer;

	if (!sys_ask_about_peer(conn->fd, &peer))
		return true; /* a Unix socket: its kernel is ours */
	note_window(conn, peer.window_closed);
	if (peer.window_closed)
		return peer.silent_ms < later(CLOSED_WINDOW_MS, patience(conn->side->opts));
	/* bytes that were sent a moment ago cannot be acknowledged yet */
	return !peer.sends_again || peer.silent_ms + SAME_TIME_MS < now - since;
}

static void
check_host(struct conn *conn, int64_t now)
{
	bool there = ask_acknowledged(conn, now - CLOSED_WINDOW_MS, now);

	conn->host_due = now + host_interval(conn->side->opts);
	if (!there && conn->window_closed)
		conn_close(conn, CLOSE_HEARTBEAT_TIMEOUT, "its host does not answer");
}

/* --- PINGs ---------------------------------------------------------------- */

static void
ping(struct conn *conn, int64_t now)
{
	uint8_t frame[COMMAND_PING_MAX];

	if (conn->pings == 0 &&
		unpinged_has(&conn->side->loop->unpinged, conn->address, conn->session.peer_type)) {
		conn->unpinged = true;
		return;
	}
	if (conn->first_ping == CLOCK_NEVER)
		conn->first_ping = now;
	conn->last_ping = now;
	if (conn->out.commands >= CONN_COMMANDS_MAX)
		return;
	if (conn->pings < UINT8_MAX)
		conn->pings++;
	conn_send_command(conn, frame, command_put_ping(frame, 0));
}

/* The peer let heartbeat_timeout pass: is it gone, or only busy? */
static void
judge(struct conn *conn, int64_t now)
{
	if (!ask_acknowledged(conn, conn->first_ping, now)) {
		conn_close(conn, CLOSE_HEARTBEAT_TIMEOUT, "its host does not answer");
		return;
	}
	/* that shows that the peer is alive: the next PING is the first one again */
	conn->first_ping = CLOCK_NEVER;
	conn->last_ping = now;
}

void
heartbeat_check(struct conn *conn, int64_t now_ms)
{
	uint32_t ttl = conn->session.ping_ttl;

	if (now_ms >= conn->host_due && conn_is_open(conn))
		check_host(conn, now_ms);
	if (conn->state == CONN_CLOSED || now_ms < ping_due(conn))
		return;
	if (ttl > 0 && now_ms >= conn->last_in + ttl)
		conn_close(conn, CLOSE_HEARTBEAT_TIMEOUT, "silent for longer than its own TTL");
	else if (conn->first_ping != CLOCK_NEVER &&
		now_ms >= conn->first_ping + conn->side->opts->heartbeat_timeout)
		judge(conn, now_ms);
	else
		ping(conn, now_ms);
}

void
heartbeat_on_end(struct conn *conn)
{
	struct side *side = conn->side;

	if (conn->pings != 1 || conn->first_ping == CLOCK_NEVER || conn->out.commands > 0 ||
		(conn->reason != CLOSE_PEER_CLOSED && conn->reason != CLOSE_IO_ERROR) ||
		loop_now(side->loop) - conn->first_ping > PING_REFUSED_MS)
		return;
	if (unpinged_add(&side->loop->unpinged, conn->address, conn->session.peer_type))
		log_event(LOG_LEVEL_NOTICE, "ping_refused",
			"proxy=%s side=%s peer=%" PRIu64 " address=%s type=%s "
			"detail=\"it ended its connection on the first PING: such peers of this "
			"host get none\"",
			side->proxy_name, side->name, conn->id, conn->address,
			socktype_name(conn->session.peer_type));
}
