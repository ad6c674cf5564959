/* SPDX-License-Identifier: MIT */
/*
 * check.h - what must hold in every mode, after every turn and whenever a connection is closed.
 *
 *   check.c          the step, and the conservation of messages and bytes
 *   check_conn.c     each connection: timers, queue, bytes, what it waits for
 *   check_closing.c  why a connection was closed
 *   check_memory.c   memory_limit
 *
 * What a mode expects of its messages is declared in queue_mode.h.
 */
#ifndef BULKHEAD_TESTS_SIM_CHECK_H
#define BULKHEAD_TESTS_SIM_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "net/conn.h"

struct proxy;
struct sock;

enum { LATE_MS = 5 }; /* a turn may take that long on the virtual clock */

/* --- check.c -------------------------------------------------------------- */

/* After every turn; `idle`: the daemon is about to wait. */
void check_step(bool idle);

/* A connection is freed: its messages and bytes count as those of its side from now on. */
void check_count_gone(const struct sock *s, const struct conn *conn);

/* Describe the proxy, for the report of a violation. */
void check_print(void);

/* Forget everything, before the next run. */
void check_reset(void);

/* The number of a connection, for violation(). */
static inline unsigned long long
check_id(const struct conn *conn)
{
	return (unsigned long long)conn->id;
}

/* --- check_conn.c --------------------------------------------------------- */

/* After every turn: the daemon's byte and message counts are those that were seen to pass. */
void check_streams(const struct conn *conn, const struct sock *s);

/* After every turn, unless it is closed: each deadline has a timer, and none is overdue. */
void check_timers(const struct conn *conn);

/* After every turn, unless it is closed: its queue and its incoming message are within limits. */
void check_queue(const struct conn *conn);

/* Before the daemon waits: it will be called back for whatever is left to do. */
void check_idle(const struct conn *conn, const struct sock *s);

/* Before the next run. */
void check_conn_reset(void);

/* --- check_closing.c ------------------------------------------------------ */

/* The daemon closes a socket: the last look at its connection. */
void check_closing(struct sock *s);

/* Was every message counted that was read to its end, except one that cost the connection? */
bool check_is_counted(const struct conn *conn, const struct sock *s);

/* The daemon PINGs a peer. */
void check_ping(struct sock *s);

/* The daemon sends DRAINING to a client, or BYE to a worker. */
void check_draining(struct sock *s);
void check_bye(struct sock *s);

/* After every turn: with when_full = close, each peer that lost a message was closed for it. */
void check_room(const struct proxy *p);

/* Before the next run. */
void check_closing_reset(void);

/* --- check_memory.c ------------------------------------------------------- */

/* After every turn: what is done at memory_limit, and that it ends below the limit. */
void check_memory(const struct proxy *p);

#endif
