/* SPDX-License-Identifier: MIT */
/*
 * What conn.c, conn_in.c and conn_out.c share with each other and with nobody
 * else.
 */
#ifndef BULKHEAD_NET_CONN_IMPL_H
#define BULKHEAD_NET_CONN_IMPL_H

#include "net/conn.h"

enum {
	/* queued for a peer that does not read; PINGs, PONGs past that are left out */
	CONN_COMMANDS_MAX = 64,
	CONN_LEAVE_UNITS = 400000, /* as budget.h counts: read at most before our end, 10 ms */
	CONN_LINGER_MS = 1000,     /* to read to the end what a peer sent before one of us left */
	CONN_YIELD_MS = 500        /* for the end of a peer that seems to be back already */
};

/* The only place where the state changes; asserts the legal edges. */
void conn_enter(struct conn *conn, enum conn_state state);

/* Compute what to watch the descriptor for, and set it. */
void conn_update_interest(struct conn *conn);

/* Hold the front of its message back, or no longer, as its side wants it. */
void conn_update_held(struct conn *conn);

/* Something is due at `due`: see to it that the timer goes off by then. */
void conn_due(struct conn *conn, int64_t due);

/* The handshake is over: enter READY, tell connector and broker. */
void conn_became_ready(struct conn *conn);

/* heartbeat.c: when it has something to do next; does what is due, and may close. */
int64_t heartbeat_due(const struct conn *conn);
void heartbeat_check(struct conn *conn, int64_t now);

/*
 * heartbeat.c: the connection is ready, or its options changed: the kernel watches the peer's host.
 */
void heartbeat_start(struct conn *conn);

/* heartbeat.c: it was ready, and ended: was that its answer to our PING? */
void heartbeat_on_end(struct conn *conn);

/* conn_in.c: does it want to read now? */
bool conn_wants_input(const struct conn *conn);

/* Its side is paused: it is not read any more, when it is ready. */
void conn_hold(struct conn *conn);

/* conn_in.c: the descriptor is readable. */
void conn_read(struct conn *conn);

/* conn_in.c: pull events out of the session without new bytes. */
void conn_pump(struct conn *conn);

/* conn_out.c: write what is queued as far as the kernel takes it. */
void conn_write(struct conn *conn);

/* conn_out.c: nothing is written any more; the message under way is cancelled. */
void conn_cancel_writing(struct conn *conn);

/* conn_out.c: the descriptor is writable. */
void conn_writable(struct conn *conn);

/* conn_out.c: queue a command; write at the end of the turn. */
void conn_send_command(struct conn *conn, const uint8_t *data, size_t len);

/* The peer ended its side: read it to the end, paused or not. */
void conn_set_hung_up(struct conn *conn);

/* conn_out.c: tell the broker, once, that nothing can be written any more. */
void conn_tell_broken(struct conn *conn);

/* conn_out.c: the peer ended its side; what is left of its input is read in any case. */
void conn_hung_up(struct conn *conn);

/* conn_out.c: is its queue, which was full, down to half? */
bool conn_has_drained(const struct conn *conn);

/* conn_out.c: the send timeout passed. */
void conn_send_timed_out(struct conn *conn);

#endif
