/* SPDX-License-Identifier: MIT */
/*
 * The event loop. libevent lives in poll.c and resolver.c and nowhere else.
 *
 * One turn: poll once and run the handlers of what is ready and due; then run
 * the tasks of each phase. What handlers mark (a peer with something to send, a
 * connection that is to be closed) happens there, so that nobody frees or calls
 * up from inside a call.
 */
#ifndef BULKHEAD_NET_LOOP_H
#define BULKHEAD_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/histogram.h"
#include "base/list.h"
#include "net/budget.h"
#include "net/outq.h"
#include "net/unpinged.h"
#include "net/slots.h"
#include "net/sockfile.h"
#include "net/wheel.h"

enum loop_phase {
	/* interrupted work; one round per turn, and polls do not wait */
	LOOP_RESUME,
	LOOP_FLUSH,   /* write the queues: as much as a turn may, see budget.h */
	LOOP_REAP,    /* free closed connections */
	LOOP_OBSERVE, /* when all that is done: observe, and change nothing */
	LOOP_PHASES
};

/* Something to do in a phase of this turn; embedded in the struct that it acts on. */
struct task {
	struct list node;
	void (*run)(struct task *task);
};

struct event_base;
struct inherited;
struct alarm_clock;

struct loop {
	struct event_base *base;
	struct alarm_clock *alarm; /* wakes the loop for its timers; private to poll.c */
	struct list tasks[LOOP_PHASES];
	int64_t now_ms; /* the time of this turn; env.now_ns is the same in ns */
	bool now_is_fresh;
	unsigned ready; /* descriptors that were ready in the polls of this turn */
	/* units that this turn has cost so far; see budget.h */
	uint32_t spent;
	bool unfinished; /* it was cut, or is crowded: the next turn must know */
	bool cut, crowded, sent_away;
	bool stopping;
	struct budget_limits limits;
	struct outq_env env;
	/*
	 * Every connection reads into this chunk. A large message stays where it was read: then the
	 * chunk is lent to the message's queue, and the spare one takes its place.
	 */
	struct chunk *scratch, *spare; /* spare: NULL until it is needed */
	uint64_t next_id;              /* of connections */
	uint32_t connections;          /* open sockets of peers */
	uint32_t max_connections;
	struct slots slots;                 /* who gets the last places */
	struct inherited *inherited;        /* inherited sockets, the service's; NULL: none */
	struct unpinged unpinged;           /* peers that must not get a PING */
	struct sockfile_owner socket_owner; /* of the socket files that are created */
	struct list waiting;                /* tasks that a free place is for: loop_await_place */
	struct histogram *held;             /* of messages that came and left in this turn */
	struct histogram lag; /* how long turns took, that is, how long a ready peer waited */
	uint64_t turns;
	/*
	 * units of the commands in the present read, and of the requests recorded for it; see
	 * budget.h
	 */
	uint32_t units;
	void (*on_turn)(void *arg); /* called at the end of every turn */
	void *on_turn_arg;
};

enum { LOOP_SCRATCH = 262144 - sizeof(struct chunk) };

/* A new loop; NULL when the system refuses an epoll descriptor. */
struct loop *loop_new(void);
void loop_free(struct loop *loop);

/* Turn until loop_stop. */
void loop_run(struct loop *loop);

/* End loop_run after the current turn. */
void loop_stop(struct loop *loop);

/* The limit of connections, for all sides together. Raising it runs what waits for a place. */
void loop_set_max_connections(struct loop *loop, uint32_t most);
uint32_t loop_max_connections(const struct loop *loop);

/* How many connections are open, those in their handshake included. */
uint32_t loop_connections(const struct loop *loop);

/* Listeners take these sockets instead of binding (see inherit.h). They stay the caller's. */
void loop_set_inherited(struct loop *loop, struct inherited *inherited);

/* Who owns the files of the Unix sockets that are bound from now on (copied). */
void loop_set_socket_owner(struct loop *loop, const struct sockfile_owner *owner);

/*
 * True when this turn has no time left, since loop_cut was called: work that can wait is left to
 * the next one.
 */
bool loop_is_cut(const struct loop *loop);

/* The memory of the chunks that the loop keeps for reuse, the spare one included, in bytes. */
uint64_t loop_free_buffer_bytes(const struct loop *loop);

/* The loop's numbers, to be shown. */
struct loop_view {
	uint64_t memory_bytes, memory_limit;
	uint64_t free_buffer_bytes; /* of chunks that are kept for reuse */
	uint32_t connections, max_connections;
	uint64_t turns;
	struct histogram lag; /* how long turns took */
};

/* Fill in the numbers of this turn. */
void loop_describe(const struct loop *loop, struct loop_view *view);

/* Read the clock for this turn. */
void loop_read_clock(struct loop *loop);

/* The time of this turn, ms; env.now_ns is the same in ns. */
static inline int64_t
loop_now(struct loop *loop)
{
	if (!loop->now_is_fresh)
		loop_read_clock(loop);
	return loop->now_ms;
}

/*
 * Run no more callbacks in this turn: descriptors that are ready and were not called back come
 * first in the next turn, which does not wait. Safe from anywhere.
 */
void loop_cut(struct loop *loop);

/* Charge the turn `units`, as budget.h counts them. */
static inline void
loop_spend(struct loop *loop, uint32_t units)
{
	loop->spent += units;
	if (__builtin_expect(loop->spent > loop->limits.turn, 0))
		loop_cut(loop);
}

void task_init(struct task *task, void (*run)(struct task *task));

/*
 * Run the task whenever a connection is freed or a limit is raised, until task_cancel, and outside
 * the phases. It may be in no other list.
 */
void loop_await_place(struct loop *loop, struct task *task);

/* Run the tasks that await a place. */
void loop_retry_waiting(struct loop *loop);

/* Run the task in this phase, unless it is in the list of a phase already. */
void loop_defer(struct loop *loop, enum loop_phase phase, struct task *task);

/* Take the task out of its list, if it is in one. */
void task_cancel(struct task *task);

/* --- descriptors ---------------------------------------------------------- */

enum {
	WATCH_IN = 1,  /* readable, or the peer ended its side */
	WATCH_OUT = 2, /* writable, or a connection attempt ended */
	WATCH_HUP = 4  /* the peer ended its side, though there may be input left to read */
};

struct watch;

/* Watch `fd` for nothing yet. The callback gets the events that came. NULL: no memory. */
struct watch *
watch_new(struct loop *loop, int fd, void (*cb)(void *arg, unsigned events), void *arg);

/*
 * Change the events that are watched; no change costs nothing. False when the system refuses: then
 * nothing is watched.
 */
bool watch_set(struct watch *watch, unsigned events);

/* Stop and free; does not close the descriptor. NULL is fine. */
void watch_free(struct watch *watch);

/* --- timers and signals --------------------------------------------------- */

/*
 * A one-shot timer, embedded in the struct that it acts on, not running yet. Only timer_stop is
 * needed before its memory is freed.
 */
void timer_init(struct timer *timer, struct loop *loop, void (*run)(struct timer *timer));

/* (Re)start the timer to expire in `delay` ms, 1 at least. Cannot fail. */
void timer_set(struct timer *timer, int64_t delay);

/* Does nothing when the timer is not running. */
void timer_stop(struct timer *timer);

struct signal_watch;

/* Call `cb` from the loop, not in the signal's context. NULL: it failed. */
struct signal_watch *
signal_watch_new(struct loop *loop, int number, void (*cb)(void *arg, int number), void *arg);

/* Stop and free; the signal stays blocked from then on. NULL is fine. */
void signal_watch_free(struct signal_watch *watch);

#endif
