/* SPDX-License-Identifier: MIT */
/*
 * What a connection waits for: the events of its descriptor, the next of its deadlines, and
 * whether it is read. Nothing here reads, writes or calls the broker.
 */
#include "base/clock.h"
#include "net/conn_impl.h"
#include "net/sys.h"

bool
conn_wants_input(const struct conn *conn)
{
	if (conn->hung_up)
		return true;
	if (conn->state == CONN_LINGER)
		return !conn_is_yielding(conn);
	return conn->paused == 0 || (!(conn->paused & CONN_PAUSED) && conn->side->reading == conn);
}

void
conn_update_interest(struct conn *conn)
{
	unsigned want = 0;

	switch (conn->state) {
	case CONN_CONNECTING:
		want = WATCH_OUT;
		break;
	case CONN_HANDSHAKE:
	case CONN_READY:
	case CONN_STALLED:
	case CONN_LINGER:
		if (conn_wants_input(conn))
			want |= WATCH_IN;
		if (!conn->hung_up)
			want |= WATCH_HUP;
		if (conn_is_blocked(conn))
			want |= WATCH_OUT;
		break;
	case CONN_CLOSED:
	case CONN_STATES:
		break;
	}
	if (!watch_set(conn->watch, want))
		conn_close(conn, CLOSE_NO_MEMORY, "cannot watch the descriptor");
}

/* --- deadlines ------------------------------------------------------------ */

void
conn_due(struct conn *conn, int64_t due)
{
	/* a closed connection is freed at the end of the turn; callers need not check for it */
	if (due >= conn->timer.due || conn->state == CONN_CLOSED)
		return;
	timer_set(&conn->timer, due - loop_now(conn->side->loop));
}

int64_t
conn_receive_due(const struct conn *conn)
{
	const struct side_opts *o = conn->side->opts;
	int64_t due = CLOCK_NEVER;

	if (!conn_is_open(conn) || conn->part_since == CLOCK_NEVER || !conn_wants_input(conn))
		return CLOCK_NEVER;
	if (o->receive_timeout > 0)
		due = conn->last_in + o->receive_timeout;
	if (o->receive_deadline > 0)
		at_most(&due, conn->part_since + o->receive_deadline);
	return due;
}

/* Sets the timer to the next deadline. */
void
conn_arm_timer(struct conn *conn)
{
	int64_t due = CLOCK_NEVER;

	at_most(&due, conn->connect_due);
	at_most(&due, conn->handshake_due);
	at_most(&due, conn->send_due);
	at_most(&due, conn->linger_due);
	at_most(&due, conn_receive_due(conn));
	at_most(&due, heartbeat_due(conn));
	conn_due(conn, due);
}

/* --- reading -------------------------------------------------------------- */

/* A peer's timeouts must not run while we are not reading from it. */
void
conn_reading_changed(struct conn *conn, bool wanted)
{
	int64_t now = loop_now(conn->side->loop);
	bool wants = conn_wants_input(conn);

	if (wanted == wants || conn->state == CONN_CLOSED)
		return;
	if (!wants) {
		conn->paused_since = now;
	} else {
		conn->last_in = now;
		conn->first_ping = CLOCK_NEVER;
		if (conn->part_since != CLOCK_NEVER)
			conn->part_since += now - conn->paused_since;
		conn_arm_timer(conn);
	}
	conn_update_interest(conn);
}

void
conn_pause(struct conn *conn, bool paused)
{
	bool wanted = conn_wants_input(conn);

	conn->paused = (uint8_t)((conn->paused & ~CONN_PAUSED) | (paused ? CONN_PAUSED : 0));
	conn_reading_changed(conn, wanted);
}

void
conn_set_hung_up(struct conn *conn)
{
	bool wanted = conn_wants_input(conn);

	if (conn_is_yielding(conn) && !conn->hung_up)
		conn->linger_due = loop_now(conn->side->loop) + CONN_LINGER_MS;
	conn->hung_up = true;
	conn_reading_changed(conn, wanted);
}

void
conn_hold(struct conn *conn)
{
	bool wanted = conn_wants_input(conn);

	if (!conn->was_ready || (conn->paused & CONN_HELD))
		return;
	conn->paused |= CONN_HELD;
	conn_reading_changed(conn, wanted);
	loop_spend(conn->side->loop, BUDGET_PAUSE);
}

void
conn_release(struct conn *conn)
{
	bool wanted = conn_wants_input(conn);

	if (!(conn->paused & CONN_HELD))
		return;
	conn->paused &= (uint8_t)~CONN_HELD;
	conn_reading_changed(conn, wanted);
	loop_spend(conn->side->loop, BUDGET_PAUSE);
}

void
conn_update_held(struct conn *conn)
{
	const struct side *side = conn->side;
	bool wanted = conn_wants_input(conn);

	if (side->holds && conn_is_open(conn) && outq_cost(&conn->part) > side->hold_above)
		conn->paused |= CONN_LARGE;
	else
		conn->paused &= (uint8_t)~CONN_LARGE;
	conn_reading_changed(conn, wanted);
}

int64_t
conn_silent_for(const struct conn *conn)
{
	return (conn_wants_input(conn) ? loop_now(conn->side->loop) : conn->paused_since) -
		conn->last_in;
}
