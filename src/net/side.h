/* SPDX-License-Identifier: MIT */
/*
 * What all connections of one side of a proxy share, and the one door upward:
 * the ops that net/ calls and broker/ implements.
 */
#ifndef BULKHEAD_NET_SIDE_H
#define BULKHEAD_NET_SIDE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/counters.h"
#include "base/list.h"
#include "base/ratelimit.h"
#include "net/budget.h"
#include "net/loop.h"
#include "net/opts.h"
#include "net/outq.h"
#include "zmtp/session.h"

struct conn;
struct side;

/*
 * Called from the loop's own steps only, never from inside a call that the
 * broker made. Any conn function may be called from them.
 */
struct conn_ops {
	/* The handshake is over. Set conn->peer, or refuse by conn_close. */
	void (*on_ready)(struct conn *conn);

	/* A whole message came. Consumes the message. */
	void (*on_message)(struct conn *conn, struct message *message);

	/*
	 * A message over a limit came to its end; `front` are its first bytes, up to CONN_FRONT of
	 * them, and `option` is the limit's name. Only where session_config.enveloped is set.
	 */
	void (*on_discarded)(struct conn *conn, struct message *front, const char *option);

	/*
	 * The peer sent DRAINING: it is about to leave, and wants no more messages; or BYE, its
	 * answer to ours: nothing more comes from it. NULL: that is ignored.
	 */
	void (*on_draining)(struct conn *conn);
	void (*on_bye)(struct conn *conn);

	/* The queue of a connection that had no room has room again. */
	void (*on_drained)(struct conn *conn);

	/*
	 * The send timeout passed: no message may be queued for it until on_resumed; its queue may
	 * be moved away. NULL: that is ignored.
	 */
	void (*on_stalled)(struct conn *conn);
	void (*on_resumed)(struct conn *conn);

	/*
	 * Nothing can be written to it any more, though it is still read; its queue may be moved
	 * away. NULL: that is ignored.
	 */
	void (*on_broken)(struct conn *conn);

	/*
	 * A connection that was ready is closed. Its queue is still there, to be moved or dropped
	 * and counted; afterwards the connection is freed. False: only a slice of a long queue was
	 * handled; on_closed is called again in the next turn.
	 */
	bool (*on_closed)(struct conn *conn);

	/*
	 * Do messages wait for the first peer of this side? Then connectors do not back off far.
	 * NULL: no.
	 */
	bool (*is_awaited)(const struct side *side);
};

enum { CONN_FRONT = 2048 }; /* bytes that are kept of a discarded message */

enum {
	SIDE_FAREWELL_MS = 1,
	/* one more connection is half-closed at a time for each so many that are ready */
	SIDE_FAREWELLS = 256
};

/* The states of a connection; conn.h draws the edges between them. */
enum conn_state {
	CONN_CONNECTING, /* connect(2) is in progress */
	CONN_HANDSHAKE,
	CONN_READY,
	CONN_STALLED, /* its kernel takes nothing, and no message is partly out */
	CONN_LINGER,  /* our half is shut; read to the end, for at most a second */
	CONN_CLOSED,
	CONN_STATES
};

/* Does the broker give a connection anything to do? See conn_set_service. */
enum conn_service {
	CONN_SERVES,
	CONN_SUSPECT,  /* nothing new for it until it answers */
	CONN_DRAINING, /* nothing new for it any more */
	CONN_SERVICES
};

/* A walk over the connections of a side, in slices: some in each turn. */
struct side_walk {
	struct task task;
	struct side *side;
	struct list *next; /* the node of the connection that is next; that of `conns`: none is */
	void (*visit)(struct conn *conn);
};

struct side {
	struct loop *loop;
	const char *proxy_name;
	const char *name; /* frontend, backend */
	const struct side_opts *opts;
	struct session_config session;
	struct counters *counters;
	const struct conn_ops *ops; /* another one serves from the next read on */
	struct list conns;          /* struct conn */
	struct histogram forward;   /* from a message's last byte in to its last byte out */
	uint32_t connections;       /* how many of them are open */
	struct side_slots slots;
	struct budget_line line;
	uint32_t in_state[CONN_STATES]; /* how many are in each enum conn_state */
	uint32_t ready[CONN_SERVICES];  /* ... and those in CONN_READY by enum conn_service */
	/*
	 * What to do with the queue of a peer that ended its side. true: write it, since the peer
	 * may have shut only its half (clients). false: keep it, since a dead socket would lose it,
	 * and other peers can take it (workers).
	 */
	bool flush_at_end;
	/* the one that is read despite read_paused and holds; NULL: none */
	struct conn *reading;
	int64_t reading_since; /* since when it has been read ... */
	uint64_t reading_from; /* ... and the bytes that had come from it by then */
	bool reading_ended;    /* that has ended since, and no other connection took its place */
	uint64_t hold_above;
	bool holds;       /* by the memory limit: messages over hold_above are not read on */
	bool read_paused; /* by the memory limit or an operator: no connection is read */
	struct side_walk pausing;  /* pauses or resumes each; see side_pause */
	struct side_walk changing; /* gives each its changed options; see side_opts_changed */
	struct list leaving;   /* tasks of connections that are half-closed soon; see conn_leave */
	struct timer farewell; /* half-closes some of them at a time */
	struct ratelimit failures; /* limits the log lines of peers that never became ready */
};

/*
 * A side that lends its loop and options to listeners, and has no connections: they are never
 * started, since somebody else accepts from their sockets.
 */
static inline struct side
side_for_listeners(struct loop *loop, const struct side_opts *opts)
{
	return (struct side){.loop = loop, .opts = opts};
}

/* For a new side: nothing is paused, and there is no connection. */
void side_init(struct side *side);

/* Before its memory is freed; no connection is left. */
void side_fini(struct side *side);

/*
 * Stop or resume reading a whole side, that is, all connections that are ready. Nothing is read
 * from now on. Resuming takes as many turns as the number of connections needs, in the order in
 * which they came; each counts as not read until its turn.
 */
void side_pause(struct side *side, bool paused);

/*
 * Do not read on, now or later, where the front of a message costs more than `above` already; the
 * other connections are read. side_release ends that.
 */
void side_hold(struct side *side, uint64_t above);
void side_release(struct side *side);

/*
 * Read `conn` alone while the side is paused, or though it is held; NULL: no connection. Ends with
 * the message under way, the pause, or the connection.
 */
void side_let_read(struct side *side, struct conn *conn);

/*
 * side->opts were changed; `old` are the options before. Timers that run against peers take the new
 * times, and peers that wait for room are asked again, some in each turn.
 */
void side_opts_changed(struct side *side, const struct side_opts *old);

/* Log the number of failed handshakes whose lines were suppressed, if there are any. */
void side_log_suppressed(struct side *side);

#endif
