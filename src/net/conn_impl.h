/* SPDX-License-Identifier: MIT */
/*
 * What the conn files, side.c and heartbeat.c share with each other and with nobody else, lowest
 * first: conn_wait.c; heartbeat.c, conn_in.c and conn_out.c; conn_leave.c; side.c and conn.c. A
 * call upward is a question (heartbeat_due), or marks and lets the loop act (conn_close, conn_stay,
 * conn_finish for a refused peer); conn_became_ready is the one step that goes up.
 */
#ifndef BULKHEAD_NET_CONN_IMPL_H
#define BULKHEAD_NET_CONN_IMPL_H

#include "net/conn.h"

enum {
	/* commands queued for a peer that does not read; further PINGs and PONGs are left out */
	CONN_COMMANDS_MAX = 64,
	CONN_LEAVE_UNITS = 400000, /* units (budget.h) to read at most before our end, 10 ms */
	CONN_LINGER_MS = 1000,     /* to read what a peer sent before one of us left */
	CONN_YIELD_MS = 500        /* for the old connection of a peer that is back to end */
};

/* The only place where the state changes; asserts the legal edges. */
void conn_enter(struct conn *conn, enum conn_state state);

/* The earlier of two deadlines. */
static inline void
at_most(int64_t *due, int64_t candidate)
{
	if (candidate < *due)
		*due = candidate;
}

/* --- conn_wait.c ---------------------------------------------------------- */

/* Does it want to read now? */
bool conn_wants_input(const struct conn *conn);

/* Compute what to watch the descriptor for, and set it. */
void conn_update_interest(struct conn *conn);

/* Something is due at `due`: make the timer expire by then. */
void conn_due(struct conn *conn, int64_t due);

/* When the message under way is late; CLOCK_NEVER: there is none, or it has no timeout. */
int64_t conn_receive_due(const struct conn *conn);

/* Set the timer to the next deadline, or earlier. */
void conn_arm_timer(struct conn *conn);

/*
 * Something changed that conn_wants_input depends on; `wanted` is what it said before. A peer's
 * timeouts do not run while it is not read.
 */
void conn_reading_changed(struct conn *conn, bool wanted);

/* Its side is paused: do not read it any more, if it is ready; or read it again. */
void conn_hold(struct conn *conn);
void conn_release(struct conn *conn);

/* Hold back the rest of its large message, or no longer, as its side says. */
void conn_update_held(struct conn *conn);

/* The peer ended its side: read it to the end, paused or not. */
void conn_set_hung_up(struct conn *conn);

/* --- heartbeat.c, conn_in.c, conn_out.c, conn_leave.c, side.c ------------- */

/* The handshake is over: enter READY, tell connector and broker. */
void conn_became_ready(struct conn *conn);

/* heartbeat.c: the next deadline; do what is due, which may close the connection. */
int64_t heartbeat_due(const struct conn *conn);
void heartbeat_check(struct conn *conn, int64_t now_ms);

/*
 * heartbeat.c: the connection is ready, or its options changed: the kernel watches the peer's host.
 */
void heartbeat_start(struct conn *conn);

/* heartbeat.c: a ready connection ended: remember the peer if our PING was the reason. */
void heartbeat_on_end(struct conn *conn);

/* conn_in.c: the descriptor is readable. */
void conn_read(struct conn *conn);

/* conn_in.c: process the session's events that need no new bytes. */
void conn_pump(struct conn *conn);

/* conn_out.c: write as much of the queue as the kernel takes. */
void conn_write(struct conn *conn);

/* conn_out.c: nothing is written any more; the message under way is cancelled. */
void conn_cancel_writing(struct conn *conn);

/* conn_out.c: the descriptor is writable. */
void conn_writable(struct conn *conn);

/* conn_out.c: queue a command; write at the end of the turn. */
void conn_send_command(struct conn *conn, const uint8_t *data, size_t len);

/* conn_out.c: tell the broker, once, that nothing can be written any more. */
void conn_tell_broken(struct conn *conn);

/* conn_out.c: the peer ended its side; what is left of its input is read in any case. */
void conn_hung_up(struct conn *conn);

/* conn_out.c: tell the broker if the queue, which was full, is down to half. */
void conn_tell_drained(struct conn *conn);

/* conn_out.c: the send timeout seems to have passed; may close it. */
void conn_check_send(struct conn *conn, int64_t now_ms);

/* conn_out.c: the message under way will not be finished; a poisoned stream is counted, once. */
void conn_cancel_guard(struct conn *conn);

/* conn_leave.c: read what had come when it was about to leave. */
void conn_read_before_leaving(struct conn *conn);

/* conn_leave.c: ends some of the connections in side->leaving. */
void side_farewell_cb(struct timer *timer);

/* side.c: the connection is about to be freed. */
void side_forget(struct side *side, struct conn *conn);

#endif
