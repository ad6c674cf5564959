/* SPDX-License-Identifier: MIT */
/*
 * Deterministic simulation: the real daemon, from service_run() down to
 * conn_in.c and conn_out.c, on a simulated network and a virtual clock.
 *
 *   sim.c    one run: configuration, course of events, end; main and reports
 *   net.c    sockets and the network, in place of net/sys.c
 *   poller.c poller, resolver and clock, in place of the real ones
 *   wire.c   messages and an independent decoder of what the daemon sends
 *   peers.h  the peers: honest, slow, dying, lying
 *   check.h  what must hold after every turn, in every mode
 *   queue_mode.h  what clients and workers exchange, and what must hold of that
 *
 * One seed is one run. Everything random comes from rnd(), everything that
 * waits has a virtual time, and nothing depends on addresses, so the same seed
 * takes the same course every time.
 */
#ifndef BULKHEAD_TESTS_SIM_H
#define BULKHEAD_TESTS_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/broker_impl.h"
#include "daemon/config.h"
#include "net/loop.h"

/* --- chance (sim.c) ------------------------------------------------------- */

/* A number from 0 to n - 1; n > 0. */
uint64_t rnd(uint64_t n);

/* A number from a to b, both included. */
int64_t between(int64_t a, int64_t b);

/* True `permille` times in a thousand. */
bool chance(unsigned permille);

/* --- faults, counted (sim.c) ---------------------------------------------- */

#define FAULTS(X) \
	X(SHORT_READ, "short reads") \
	X(SHORT_WRITE, "short writes") \
	X(KERNEL_FULL, "kernels that took nothing for a while") \
	X(NO_ROOM, "writes that found no room") \
	X(READ_ERROR, "failing reads") \
	X(WRITE_ERROR, "failing writes") \
	X(RESET, "resets by peers") \
	X(CLOSE, "closes by peers") \
	X(CUT, "messages cut by their sender") \
	X(HALF_CLOSE, "half-closes") \
	X(VANISH, "peers that vanished without a word") \
	X(STOP_READING, "peers that stopped reading") \
	X(GIVEN_UP, "connections that a kernel gave up") \
	X(HATED, "peers that a PING drove away") \
	X(LIE, "protocol violations") \
	X(TAKEOVER, "routing ids claimed again") \
	X(BAD_REPLY, "malformed or misaddressed replies") \
	X(LINK_STALL, "links that stood still") \
	X(REFUSED, "refused connects") \
	X(BLACKHOLE, "connects without an answer") \
	X(NO_NAME, "failed lookups") \
	X(NO_DESCRIPTOR, "accepts or sockets without descriptors") \
	X(NO_MEMORY, "failed allocations") \
	X(FREEZE, "pauses of the daemon itself") \
	X(FROZEN, "workers that froze and thawed") \
	X(FORGOTTEN, "requests that a worker forgot") \
	X(KILLER, "workers that died of a request") \
	X(TWICE, "requests that a worker answered twice") \
	X(STRANGER, "strangers that came and said nothing") \
	X(RIVAL, "clients that came with an id that is taken") \
	X(HOG, "clients that asked nothing and cost much") \
	X(THROWN, "requests without a delimiter, which a REP threw away") \
	X(LEAVES, "workers that said that they leave") \
	X(HALVES, "requests that came in two pieces around a stop") \
	X(STOP_SIGNAL, "stop signals in mid-traffic")

#define FAULT_ENUM(name, text) FAULT_##name,
enum fault { FAULTS(FAULT_ENUM) FAULT_KINDS };
#undef FAULT_ENUM

void count_fault(enum fault fault);

/* --- one run (sim.c) ------------------------------------------------------ */

struct world {
	uint64_t seed;
	int64_t now; /* virtual ms */
	uint64_t steps;
	struct config config;
	struct config_proxy proxy_config;
	struct loop *loop;  /* set by the poller */
	bool healing;       /* faults are over */
	bool stopping;      /* a stop signal was sent */
	bool second_signal; /* ... and another one */
	bool farewell;      /* in peace, and clients send requests until they see our end ... */
	int farewell_from;  /* ... beginning with this message */
	bool halves;        /* ... some of them written in two pieces, with a while between */
	uint64_t farewell_drops; /* queue_lost() by then */
	int64_t heal_at, probe_at, ask_at, stop_at, second_signal_at, give_up_at;
	bool stop_early;     /* stop while there are faults */
	bool memory_faults;  /* allocations of messages may fail */
	unsigned net_faults; /* permille, of each read or write */
	bool tiny_pieces;    /* the network delivers byte by byte at times */
	bool freezes;
	bool brokers; /* some peers are other Bulkheads: they know DRAINING and BYE */
	bool tight;   /* a turn may cost next to nothing */
	unsigned crowd[PROXY_SIDES]; /* peers of a side that connect at a time, at most */
	bool flight;                 /* requests are tracked: no liar sends random bytes then */
	uint64_t redelivered, late, undeliverable, suspects; /* so far */
	bool muddled;       /* a worker answered out of order, twice or not at all */
	bool babble;        /* a liar sent random bytes, which may be messages ... */
	uint64_t anonymous; /* ... and that many reached workers, which do not answer them */
	uint64_t too_big;   /* replies over a limit that were read to their end */
};

extern struct world world;

/* The one proxy of this run; NULL before start and after the end. */
struct proxy *world_proxy(void);

/* The connection that has this descriptor, or NULL. */
struct conn *world_conn(int fd);

/* The course of events: called whenever time may have passed. */
void world_step(void);

/* The next time at which world_step has something to do. */
int64_t world_next(void);

/* True once in `of` times, in runs where there may be no memory for peers. */
bool memory_fails(unsigned of);

/* A line for the trace. */
void trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Print details that are too much for the trace; with -v only. */
void detail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Something does not hold: prints seed and trace, and ends the process. */
void violation(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* --- network (net.c) and poller (poller.c) -------------------------------- */

/* One direction of a connection. All bytes are kept, so that offsets never change. */
struct pipe {
	uint8_t *bytes;
	size_t cap;
	size_t written;                 /* by the sending program */
	size_t arrived;                 /* in the receiving kernel */
	size_t read;                    /* by the receiving program */
	size_t send_room, receive_room; /* what both kernels hold */
	bool fin;                       /* the sender ended its side after `written` */
	bool fin_arrived;
	bool fin_follows;    /* ... and the last write goes in one piece with that */
	uint64_t written_in; /* the turn of the daemon that wrote last */
	int64_t next;        /* no delivery before */
	int64_t full_until;  /* the sending kernel is short of memory, and takes nothing before */
	size_t halt_at;      /* its program's bytes go no further than that ... */
	int64_t halt_until;  /* ... before this time */
};

/* A byte offset in a stream at which a unit ends. */
struct mark {
	size_t end;
	int message; /* index of a message, or one of MARK_x */
};
enum {
	MARK_READY = -1,
	MARK_PING = -2,
	MARK_PONG = -3,
	MARK_ERROR = -4,
	MARK_DRAINING = -5,
	MARK_BYE = -6
};

struct marks {
	struct mark *at;
	size_t count, cap;
};

void marks_add(struct marks *marks, size_t end, int message);

struct peer_sim;

/* From an offset on a peer sends commands of one kind, and nothing else. */
struct chat {
	size_t from;
	size_t each;    /* bytes of one; 0: it does not */
	uint64_t units; /* that one costs, as net/budget.h counts */
};

/* A connection; the daemon's end is `fd`, until it closes it. */
struct sock {
	struct sock *next;
	int fd;
	int side; /* PROXY_FRONTEND, PROXY_BACKEND */
	bool listener;
	bool connecting;
	int connect_result; /* when it is known */
	bool connect_known;
	int64_t connect_at;
	bool daemon_closed, peer_closed;
	bool reset;       /* the daemon's end was reset */
	bool reset_told;  /* ... and knows */
	bool vanished;    /* nothing arrives any more, in neither direction ... */
	int64_t found_at; /* ... until the kernel's keepalive finds out */
	int64_t vanished_at;
	/* what the daemon's kernel knows about the peer's */
	int64_t patience;    /* bytes may stay unacknowledged for that long; 0: indefinitely */
	int64_t owed_since;  /* since then nothing was acknowledged; CLOCK_NEVER: all is */
	int64_t acked_at;    /* the last acknowledgement */
	bool timed_out;      /* `reset` by the daemon's own kernel */
	unsigned host;       /* whose address it has */
	bool rival;          /* of rivals.c ... */
	int64_t claimed_at;  /* ... that lost its id then; 0: it did not ... */
	bool lived;          /* ... and was heard just before */
	bool ended;          /* its peer had ended it by the end of the last turn */
	unsigned pings;      /* in `sent` */
	int64_t pinged_at;   /* the last of them */
	struct pipe in, out; /* as the daemon sees it */
	struct watch *watch;
	struct peer_sim *peer;
	struct decoder *decoder; /* of `out` */
	struct marks sent;       /* units the daemon handed to its kernel whole */
	size_t handled;          /* of them, by the peer */
	struct marks received;   /* messages in `in` ... */
	size_t accepted;         /* ... of which the daemon has read this many */
	uint64_t messages_out;   /* whole ones in sent */
	uint64_t answerable_out; /* of them, requests that a REP answers */
	struct chat chat;
	bool fuzzy; /* the peer's bytes may contain messages that nobody counts */
	struct {
		uint64_t dear,
			dear_before; /* the turns of its last reads that cost much; 0: none */
		unsigned cheap;      /* reads since then */
		uint64_t passed_over,
			passed_over_last; /* ready, and not read: from turn to turn; 0: not */
		unsigned times;
	} turns;
	/* listener */
	struct sock *pending[64];
	unsigned pending_count;
	int64_t forbidden_until; /* one that accepts sooner spins */
};

/* All that are open at one end at least. */

extern struct sock *socks;
struct sock *net_find(int fd);

/* --- turns (turns.c) ------------------------------------------------------ */

/* The daemon is called back for a socket that is ready, and returns. */
void turns_begin_call(struct sock *s);
void turns_end_call(struct sock *s);

/* It read that many bytes, and with them the ends of that many messages. */
void turns_on_read(struct sock *s, size_t bytes, size_t accepted);

/* After a turn: requests were requeued from workers in slices. */
void turns_check_returns(const struct proxy *p);

/* Before the next run. */
void turns_forget(void);

/* The peer's kernel has no room for what the daemon sent: its program does not read. */
bool net_window_closed(const struct sock *s);

/* Connect to the daemon's listener of a side. NULL: none listens, or its backlog is full. */
struct sock *net_connect(int side);

/* Write n bytes on the peer's behalf. */
void net_peer_write(struct sock *s, const void *data, size_t n);

/* Bytes that the peer writes from now on come in two pieces: all but the first n at `when`. */
void net_peer_halt(struct sock *s, size_t n, int64_t when);

/* The peer's program takes up to n bytes. Returns how many there were. */
size_t net_peer_read(struct sock *s, size_t n);

/* The peer ends its sending side; closes; resets; vanishes. */
void net_peer_shutdown(struct sock *s);
void net_peer_close(struct sock *s);
void net_peer_reset(struct sock *s);
void net_peer_vanish(struct sock *s);

/* Make the daemon's signal handler run. */
void net_raise(int number);

/* Is the watch of this socket waiting for these events? */
bool net_watches(const struct sock *s, unsigned events);

/* When the timer will go off; CLOCK_NEVER: it does not run. */
int64_t net_timer_due(const struct timer *timer);

/* The daemon has freed everything. */
void net_check_empty(void);

/* ... and what poller.c has; net_check_empty calls it. */
void poll_check_empty(void);

/* Counts all progress: while it does not change, the daemon must not poll again and again. */
extern uint64_t net_progress;

/* Do what is due: a piece for each pipe, connects, the peers' actions. True: there was any. */
bool net_run(void);

/* When net_run has something to do next. */
int64_t net_next(void);

/* The events of `wanted` that the daemon's kernel would report of this socket now. */
unsigned net_readiness(const struct sock *s, unsigned wanted);

/* Free the sockets that neither program has any more. */
void net_sweep(void);

/* The poller's idea of when all due timers had been called. */
int64_t net_timers_ran_at(void);

/* When accept() last failed for a reason that was neither the broker's nor the peer's. */
int64_t net_forbidden_at(void);

/* --- messages (wire.c) ---------------------------------------------------- */

enum message_kind { REQUEST, REPLY };

struct sim_message {
	enum message_kind kind;
	struct peer_sim *from;
	uint32_t number; /* counted up by its sender */
	uint8_t *bytes;  /* canonical frames */
	size_t len;
	size_t body; /* bytes of all frames together, without headers */
	unsigned parts;
	size_t envelope; /* reply: canonical bytes of the id frame in front */
	int answers;     /* reply: index of the request; -1 */
	bool accepted;   /* its last byte was read by the daemon */
	bool probe;
	unsigned delivered; /* times that its last byte was handed to a kernel */
	unsigned handled;   /* times that a peer's program got it */
	/* request: how many had been rerouted or redelivered when it was accepted */
	uint64_t moved_before;
	bool kills;              /* request: a worker that gets it dies */
	bool thrown;             /* request: a REP discarded it */
	bool answered;           /* request: the daemon read a reply that is known to answer it */
	bool replied;            /* ... or some reply to it */
	unsigned replies;        /* request: replies to it that were delivered */
	unsigned answered_times; /* the same, whatever the options are */
	bool too_big;            /* reply: over a limit of the backend */
};

extern struct sim_message *messages;
extern int message_count;

/* Make a client's request, or a worker's reply to a message, in the form in which it got that. */
int message_request(struct peer_sim *client, bool probe);
int message_reply(struct peer_sim *worker, int request, const uint8_t *id, size_t id_len);

/* A reply that no honest worker would send. */
int message_bad_reply(struct peer_sim *worker, unsigned kind);

/* The message that begins with these frames; -1: it is not ours. */
int message_identify(const uint8_t *p, size_t len);

/* Does a REP accept it: has it an empty frame, and more after that? */
bool message_is_answerable(const struct sim_message *m);

/*
 * Write it: in any valid encoding, commands between its frames; only the first `cut` bytes, if > 0.
 */
void message_write(struct sock *s, int index, size_t cut);

struct decoder;

/* Decodes the daemon's stream; an error in it is a violation. */
struct decoder *decoder_new(void);
void decoder_free(struct decoder *d);
void decoder_run(struct sock *s);
bool decoder_is_midway(const struct decoder *d);

void messages_free(void);

/* --- strangers (strangers.c) ---------------------------------------------- */

/* Are there any in this run? Draws what they do, and a limit of connections. */
void strangers_choose(void);

bool strangers_are_there(void);

/* Let them do what is due; the next time at which that is so. */
void strangers_step(void);
int64_t strangers_next(void);

/* Before the daemon waits: no peer waits for a stranger's place, and shares are kept. */
void strangers_check(const struct proxy *proxy);

/* --- rivals (rivals.c) ---------------------------------------------------- */

/* Are there any in this run? Draws what they do. */
void rivals_choose(void);

/* Let them do what is due; the next time at which that is so. */
void rivals_step(void);
int64_t rivals_next(void);

/* After every turn, and when a connection ends: the right one has the id that they share. */
void rivals_check(const struct proxy *proxy);
void rivals_closing(const struct sock *s, const struct conn *conn);

/* --- hogs (hogs.c) -------------------------------------------------------- */

/* Are there any in this run? Draws what they do, and a memory_limit that they can reach. */
void hogs_choose(void);
bool hogs_are_there(void);

/* Let them do what is due; the next time at which that is so. */
void hogs_step(void);
int64_t hogs_next(void);

/*
 * After every turn: in peace, honest clients get their replies nevertheless, and memory does not
 * stay over its limit.
 */
void hogs_check(void);

/* Is it an honest upload of a large message, in peace? It must not be closed for that. */
bool hogs_is_upload(const struct sock *s);

#endif
