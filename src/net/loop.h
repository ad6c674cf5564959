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
	/* go on with work that was cut short; one round per turn, polls without waiting */
	LOOP_RESUME,
	LOOP_FLUSH, /* write what was queued: as much as a turn may, see budget.h */
	LOOP_REAP,  /* free what was closed */
	LOOP_LOOK,  /* when all of that is done: look at it, and change nothing */
	LOOP_PHASES
};

/* Something to do in a phase of this turn; embedded in what it acts on. */
struct task {
	struct list node;
	void (*run)(struct task *task);
};

struct event_base;
struct inherited;
struct alarm_clock;

struct loop {
	struct event_base *base;
	struct alarm_clock *alarm; /* what wakes it for its timers; poll.c's own */
	struct list tasks[LOOP_PHASES];
	int64_t now_ms; /* the time of this turn; env.now_ns is the same in ns */
	bool now_is_fresh;
	unsigned ready; /* descriptors that the polls of this turn had something for */
	/* what this turn cost so far; see budget.h */
	uint32_t spent;
	bool unfinished; /* it was cut, or is crowded: the next one has to know */
	bool cut, crowded, sent_away;
	bool stopping;
	struct budget_limits limits;
	struct outq_env env;
	/*
	 * What every connection reads into. A large message stays where it was read: then the chunk
	 * is lent to its queue, and the spare one takes its place.
	 */
	struct chunk *scratch, *spare; /* spare: NULL until it is needed */
	uint64_t next_id;              /* of connections */
	uint32_t connections;          /* open sockets of peers */
	uint32_t max_connections;
	struct slots slots;          /* who gets the last of them */
	struct inherited *inherited; /* listening sockets to be taken; NULL: none. The owner's */
	struct unpinged unpinged;    /* whom not to PING */
	struct sockfile_owner socket_owner; /* of the files of Unix sockets that are bound */
	struct list waiting_listeners;      /* paused at a limit; see listener.h */
	struct histogram *held; /* where messages count that came and left in this turn */
	struct histogram lag;   /* how long turns took: so long a peer that was ready waited */
	uint64_t turns;
	/* the commands in the read at hand, and what it put into books, as budget.h counts them */
	uint32_t units;
	void (*on_turn)(void *arg); /* called at the end of every turn */
	void *on_turn_arg;
};

enum { LOOP_SCRATCH = 262144 - sizeof(struct chunk) };

/* NULL when the system refuses an epoll descriptor. */
struct loop *loop_new(void);
void loop_free(struct loop *loop);

/* Turn until loop_stop. */
void loop_run(struct loop *loop);

/* End loop_run after the current turn. */
void loop_stop(struct loop *loop);

/*
 * The limit of connections, for all sides together. After raising it call listener_retry_waiting.
 */
void loop_set_max_connections(struct loop *loop, uint32_t most);
uint32_t loop_max_connections(const struct loop *loop);

/* How many connections are open, those in their handshake included. */
uint32_t loop_connections(const struct loop *loop);

/* Listeners take these sockets instead of binding (see inherit.h). They stay the caller's. */
void loop_set_inherited(struct loop *loop, struct inherited *inherited);

/* Who owns the files of the Unix sockets that are bound from now on (copied). */
void loop_set_socket_owner(struct loop *loop, const struct sockfile_owner *owner);

/* True when this turn has no time left: loop_cut was called. What can wait, waits for the next. */
bool loop_is_cut(const struct loop *loop);

/* The loop's numbers, for whoever shows them. */
struct loop_view {
	uint64_t memory_bytes, memory_limit;
	uint32_t connections, max_connections;
	uint64_t turns;
	struct histogram lag; /* how long turns took */
};

/* Fill in the numbers of this turn. */
void loop_describe(const struct loop *loop, struct loop_view *view);

/* Read the clock for this turn. */
void loop_look_at_clock(struct loop *loop);

/* The time of this turn, ms; env.now_ns is the same in ns. */
static inline int64_t
loop_now(struct loop *loop)
{
	if (!loop->now_is_fresh)
		loop_look_at_clock(loop);
	return loop->now_ms;
}

/*
 * Call back nothing more in this turn: what is ready and was not called back yet is first in line
 * in the next one, which does not wait. Safe from anywhere.
 */
void loop_cut(struct loop *loop);

/* Something was done that costs `units`, as budget.h counts them. */
static inline void
loop_spend(struct loop *loop, uint32_t units)
{
	loop->spent += units;
	if (__builtin_expect(loop->spent > loop->limits.turn, 0))
		loop_cut(loop);
}

void task_init(struct task *task, void (*run)(struct task *task));

/* Put the task into a phase's list, unless it is in one already. */
void loop_defer(struct loop *loop, enum loop_phase phase, struct task *task);

/* Take it out of whichever list it is in. */
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
 * Change what is watched for; the same again costs nothing. False when the
 * system refuses: then nothing is watched for.
 */
bool watch_set(struct watch *watch, unsigned events);

/* Stop and free; does not close the descriptor. NULL is fine. */
void watch_free(struct watch *watch);

/* --- timers and signals --------------------------------------------------- */

/*
 * A one-shot timer, embedded in what it acts on, not running yet. Nothing but
 * timer_stop has to be done before its memory goes.
 */
void timer_init(struct timer *timer, struct loop *loop, void (*run)(struct timer *timer));

/* (Re)start it to go off in `delay` ms, 1 at least. Cannot fail. */
void timer_set(struct timer *timer, int64_t delay);

/* Harmless when it does not run. */
void timer_stop(struct timer *timer);

struct signal_watch;

/* Call `cb` from the loop, not from the signal's context. NULL when that fails. */
struct signal_watch *
signal_watch_new(struct loop *loop, int number, void (*cb)(void *arg, int number), void *arg);

/* Stop and free; the signal stays blocked from then on. NULL is fine. */
void signal_watch_free(struct signal_watch *watch);

#endif
