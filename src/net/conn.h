/* SPDX-License-Identifier: MIT */
/*
 * One connection to a peer, from accept or connect until the reaper frees it.
 *
 *   CONNECTING --> HANDSHAKE --> READY <--> STALLED
 *        |             |           |           |
 *        |             +--------> LINGER <-----+
 *        +-------------+-----------+-----------+--> CLOSED --> (reaped)
 *
 * conn.c is its life, conn_in.c the reading, conn_out.c the writing and the
 * guard, conn_leave.c how it ends when nothing is wrong; conn_wait.c, below these,
 * has its interest and its deadlines. A connection is closed only by conn_close or
 * conn_finish, and freed only by the reaper at the end of the turn.
 *
 * Beside enum conn_state there are a few more states. Each is set by one file:
 *
 *   conn.c        was_ready, service
 *   conn_wait.c   paused, hung_up      is it read?
 *   conn_out.c    output, was_full     is it written?
 *   conn_leave.c  ending               does it go on?
 *   heartbeat.c   unpinged, window_closed
 */
#ifndef BULKHEAD_NET_CONN_H
#define BULKHEAD_NET_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/list.h"
#include "base/poison.h"
#include "base/reasons.h"
#include "net/loop.h"
#include "net/outq.h"
#include "net/side.h"
#include "zmtp/session.h"

/* Why a connection is not read: bits. */
enum conn_pause {
	CONN_PAUSED = 1, /* by the broker, see conn_pause */
	CONN_HELD = 2,   /* with its side, see side_pause */
	CONN_LARGE = 4   /* it has a large message under way, see side_hold */
};

/* Can it be written? */
enum conn_output {
	CONN_WRITES,
	CONN_BLOCKED,    /* the kernel took less than was offered */
	CONN_BROKEN,     /* never again: a write failed, or writing was cancelled */
	CONN_BROKEN_TOLD /* ... and on_broken was called */
};

/* What becomes of it when nothing is wrong. */
enum conn_ending {
	CONN_STAYS,
	CONN_LEAVES, /* our half is shut when the queue is written; see conn_leave */
	CONN_YIELDS  /* neither read nor written: is the peer about to end it? See conn_yield */
};

/* As metrics, logs and bulkheadctl spell it; static text. */
const char *conn_state_name(enum conn_state state);

struct connector;

/* What a connection tells the connector that dialled it. */
struct connector_ops {
	void (*on_ready)(struct connector *connector); /* its handshake is over */
	/* it has ended, and is being freed; `was_ready`: after its handshake */
	void (*on_closed)(struct connector *connector, bool was_ready, enum close_reason reason);
};

/* The part of a connector that its connections know: connector.c has the whole. */
struct connector {
	const struct connector_ops *ops;
};

/*
 * What every message touches comes first, what the end of a connection needs
 * comes last. Ten thousand idle ones are ten thousand of these: see
 * tests/unit/test_footprint.c.
 */
struct conn {
	struct side *side;
	void *peer; /* the broker's, set in on_ready */
	struct watch *watch;
	int fd;
	enum conn_state state : 8;
	enum close_reason reason : 8;
	enum conn_output output : 8;
	enum conn_ending ending : 8;
	uint8_t paused;  /* bits of enum conn_pause; 0: it is read */
	bool hung_up;    /* the peer ended its side: read to the end, paused or not */
	bool was_ready;  /* since the handshake was over, to the end */
	bool was_full;   /* the broker was told that there is no room: on_drained is due */
	uint32_t window; /* bytes of its next read; see budget.h */
	struct poison_guard guard;

	struct session session;
	struct outq out;
	struct task task; /* flush; once it is closed, reap */
	uint64_t messages_in, messages_out, bytes_in, bytes_out;
	int64_t last_in;    /* the last byte; this and all times in ms */
	int64_t part_since; /* first byte of the unit under way; CLOCK_NEVER: none */
	int64_t first_ping; /* sent since the last byte came; CLOCK_NEVER: none */
	int64_t send_due;
	struct outq part; /* the message that is being read */

	struct timer timer; /* expires no later than the first deadline */
	struct list node;   /* in side->conns */
	/* deadlines; CLOCK_NEVER: off */
	int64_t connect_due;
	int64_t handshake_due;
	int64_t linger_due;
	int64_t host_due; /* when the kernel is asked about its host */

	int64_t last_ping;     /* or when the kernel last reported its host as alive */
	int64_t blocked_since; /* while CONN_BLOCKED: the last time the kernel took something */
	int64_t paused_since;
	int64_t opened;
	uint64_t id;
	struct connector *connector; /* the connector that dialled it; NULL: accepted */
	const char *detail;          /* after the reason; NULL: none */
	/* bytes_out when our greeting and READY are out; set when it is ready */
	uint64_t hello_end;
	union {
		struct list shaking; /* while it is in a bucket of slots */
		struct {
			uint64_t rerouted,
				dropped; /* of its queue when it closed; set by on_closed */
		};
	};
	uint32_t origin;   /* listener->origin of the listener that accepted it; 0: dialled */
	uint8_t pings;     /* ever sent to it, 255 for more */
	uint8_t bucket;    /* index of its bucket plus 1; 0: none. See slots.h */
	uint8_t round;     /* the round of side->line in which it was last read; see budget.h */
	uint8_t dear : 4;  /* > 0: its last reads cost much */
	bool unpinged : 1; /* its kind ends the connection on a PING */
	/* when the kernel was last asked, the peer's receive window was closed */
	bool window_closed : 1;
	uint8_t service : 2; /* enum conn_service */
	char address[];
};

/*
 * A connection on the accepted socket `fd`, which it owns from now on, and the peer's address.
 * NULL: no memory; the socket was closed, and is counted.
 */
struct conn *
conn_accept(struct side *side, int fd, const struct sockaddr *addr, socklen_t addr_len);

/*
 * Start to connect to an address for `connector`, whose ops are called, on_closed also when the
 * attempt fails. NULL: no memory, which is counted.
 */
struct conn *conn_dial(struct side *side, struct connector *connector, const struct sockaddr *addr,
	socklen_t addr_len);

/*
 * Close now, whatever is still queued. The first reason counts. A message that is partly out leaves
 * a poisoned stream. Safe from anywhere; the reaper does the rest at the end of the turn. Callers
 * must test conn->state before they use the connection again.
 */
void conn_close(struct conn *conn, enum close_reason reason, const char *detail);

/*
 * Close a healthy connection without losing bytes that the peer has not read yet: write as much of
 * the queue as the kernel takes at once, shut our half, read to the end for up to a second.
 */
void conn_finish(struct conn *conn, enum close_reason reason, const char *detail);

/*
 * The same as soon as the whole queue is written: our end leaves in one segment with the last
 * bytes, so that the peer's library sees both at once and keeps its next messages for its next
 * connection. What has arrived by then is read first; on_message may cancel it all by conn_stay.
 * Connections leave one after the other, a millisecond apart: the threads of a program share an I/O
 * thread, and if many of them got their last replies and our ends at the same moment, it would
 * write their next requests before it noticed the ends. `more`: something is about to be queued.
 * Safe from anywhere.
 */
void conn_leave(struct conn *conn, enum close_reason reason, const char *detail, bool more);
void conn_stay(struct conn *conn);

/*
 * Tell the peer to send no more messages, because this connection is about to end; on_bye is called
 * after the last message that was on its way. False: the peer does not understand that.
 */
bool conn_say_draining(struct conn *conn);

/* Answer the peer's DRAINING: nothing is queued for it from now on. */
void conn_say_bye(struct conn *conn);

/*
 * Another connection takes its place: its queue was taken, and nothing is written any more. If its
 * peer ends it within half a second, it is read to its end; otherwise it is closed.
 */
void conn_yield(struct conn *conn, enum close_reason reason, const char *detail);

/* Set what its side counts it as while it is in CONN_READY; that has no other effect. */
void conn_set_service(struct conn *conn, enum conn_service service);

/* Has the peer ended its side, or have we begun to? */
bool conn_has_ended(const struct conn *conn);

/* True when messages may be queued for it. */
static inline bool
conn_is_open(const struct conn *conn)
{
	return conn->state == CONN_READY || conn->state == CONN_STALLED;
}

/* True while the kernel takes nothing more for it. */
static inline bool
conn_is_blocked(const struct conn *conn)
{
	return conn->output == CONN_BLOCKED;
}

/* True when nothing can be written to it any more. */
static inline bool
conn_is_broken(const struct conn *conn)
{
	return conn->output >= CONN_BROKEN;
}

/* True from conn_leave to its end, or to conn_stay. */
static inline bool
conn_is_leaving(const struct conn *conn)
{
	return conn->ending == CONN_LEAVES;
}

/* True from conn_yield to its end. */
static inline bool
conn_is_yielding(const struct conn *conn)
{
	return conn->ending == CONN_YIELDS;
}

/* How long nothing has come from it, in ms; the time stands still while we do not read it. */
int64_t conn_silent_for(const struct conn *conn);

/*
 * May a message of `size` bytes be queued for it? If its queue is full, the queue is written first.
 * False: there is still no room, and on_drained follows when there is.
 */
bool conn_make_room(struct conn *conn, size_t size);

/*
 * Queue prefix[prefix_len] and the message without its first `skip` bytes.
 * Consumes the message. False when there is no memory for it.
 */
bool conn_send(struct conn *conn, const uint8_t *prefix, size_t prefix_len, struct message *message,
	size_t skip);

/* Move the first message of `from` to this connection. Returns its size; 0: none, or no memory. */
uint64_t conn_send_from(struct conn *conn, struct outq *from);

/*
 * Queue a copy of the first message of `from`, whose large parts are shared. Returns its size; 0:
 * none, or no memory.
 */
uint64_t conn_share(struct conn *conn, const struct outq *from);

/*
 * Drop the queued messages of which no byte is out; the one that is partly out is finished. Returns
 * how many were dropped; on_drained follows when the kernel takes more. Only after its handshake
 * was written.
 */
uint32_t conn_cut(struct conn *conn);

/* How many messages were ever queued for it: the number of the next one, from 0. */
static inline uint64_t
conn_next_number(const struct conn *conn)
{
	return conn->messages_out + conn->out.messages;
}

/*
 * Move the first message that is queued for this connection, whole, into `to`. Returns its size, 0
 * when there is none. Only for a connection that is closed, about to be, or stalled.
 */
uint64_t conn_take(struct conn *conn, struct outq *to);

/* Drop the first message that is queued for it. False when there is none. */
bool conn_drop(struct conn *conn);

/* Drop its whole queue. Returns how many messages that were. Only for a closed connection. */
uint32_t conn_drop_all(struct conn *conn);

/*
 * Move its whole queue to the tail of `to`, in one step: commands too, except to a peer that does
 * not know them. For another connection of its side, or for a backlog that is counted as the
 * side's. Returns how many messages that were; 0 also if nothing was moved because its own greeting
 * is in the queue, or commands are among few messages.
 */
uint32_t conn_splice(struct conn *conn, struct outq *to);
uint32_t conn_splice_from(struct conn *conn, struct conn *from);

/* Stop or resume reading; the end of the peer's side is still noticed. */
void conn_pause(struct conn *conn, bool paused);

/* Bytes from the peer that wait in our kernel, not yet read. */
size_t conn_pending(const struct conn *conn);

#endif
