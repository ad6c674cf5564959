/* SPDX-License-Identifier: MIT */
/*
 * peers.h - the peers: clients and workers of every type that is allowed, honest or not.
 *
 *   peers.c      their life, in every mode: they connect, shake hands, read, end
 *   misbehave.c  what those do that are not honest
 *
 * What they send, and what they may receive, is the mode's: queue_mode.h.
 */
#ifndef BULKHEAD_TESTS_SIM_PEERS_H
#define BULKHEAD_TESTS_SIM_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_message;
struct sock;

/* How a peer behaves, and how it ends. */
enum temper {
	HONEST,
	SLOW,  /* reads late and little, but reads */
	STOPS, /* stops reading for a while, more than once */
	DIES,  /* closes, resets, half-closes or vanishes at some time */
	CUTS,  /* stops inside a message: silent, closed or reset */
	LIES,  /* breaks the protocol at some time */
	MUTE,  /* worker: takes requests and never answers; client: never reads */
	TEMPERS
};

struct peer_sim {
	struct peer_sim *next;
	int number;
	int side;
	bool dialled; /* by the daemon */
	bool late;    /* connected when all faults had ended */
	/* closed in peace, for a send_timeout in which a small link takes no large message */
	bool outlasted;
	const char *type;
	enum temper temper;
	struct sock *sock; /* NULL: over */
	uint8_t id[256];   /* identity that it claims */
	size_t id_len;
	uint8_t seen_id[256]; /* client: the id frame before its requests */
	size_t seen_id_len;
	unsigned minor;
	bool eager;                 /* sends before the daemon's READY */
	bool ready;                 /* got that READY */
	bool pongs;                 /* answers PINGs */
	bool hates_pings;           /* ends its connection on the first, as chumak does */
	bool hated;                 /* ... and did */
	bool delimiter, request_id; /* frames before the body of a DEALER's request */
	int greeted;                /* stages of its own greeting */
	int64_t wake;
	int64_t stops_until;
	int64_t ends_at; /* DIES, CUTS, LIES, MUTE */
	unsigned window; /* requests in flight */
	unsigned pauses; /* permille: between two requests */
	unsigned in_flight;
	unsigned wants;    /* requests still to be sent */
	unsigned probes;   /* unanswered ones, sent one after the other ... */
	int64_t probed_at; /* ... and when the last was sent */
	int64_t probe_due; /* when the next is sent; CLOCK_NEVER: one is pending */
	uint32_t asked,
		replies;      /* client: requests that were accepted, replies that were delivered */
	bool kills;           /* client: some of its requests kill a worker */
	bool forgets, forgot; /* worker: does not answer some, did not answer one */
	bool babbles;         /* worker: sent replies that answer no request */
	bool muddled;         /* worker: its replies cannot be assigned to requests any more */
	int64_t frozen_until; /* it does nothing at all */
	bool broker;          /* another Bulkhead: it knows DRAINING and BYE */
	int64_t told_at;      /* a client: the daemon wrote DRAINING; 0: it did not ... */
	size_t bye_end;       /* ... and the end of its BYE in its stream; 0: none */
	int64_t leaves_at;    /* a worker: it sends DRAINING then ... */
	size_t leave_end;     /* ... whose end in its stream this is; 0: not sent */
	bool dismissed;       /* ... and the daemon wrote BYE */
	bool finished_writing; /* shut its half, or stopped inside a message */
	uint32_t next_number;
	int last_reply; /* for duplicates */
	struct todo {
		int64_t due;
		int request;
		uint8_t id[256];
		size_t id_len;
	} * todo; /* replies to be sent */
	unsigned todo_count, todo_cap;
	struct {
		int from;
		int64_t last;
	} * order; /* last number by sender */
	unsigned order_count;
};

extern struct peer_sim *peers;

/* --- peers.c -------------------------------------------------------------- */

/* A peer that connects now, or NULL when it cannot. */
struct peer_sim *peer_connect(int side, enum temper temper);

/* The peer at the end of a connection that the daemon dialled. */
void peer_accept(struct sock *s);

/* Let it do what is due. */
void peer_step(struct peer_sim *p);

/* Data arrived for it. */
void peer_wake(struct peer_sim *p);

/* Let peer_step be called at this time, or earlier. */
void peer_wake_at(struct peer_sim *p, int64_t when);

/* Faults are over: the peer becomes honest, or leaves. */
void peer_heal(struct peer_sim *p, bool leaves);

/* Does it have a connection that it has not closed? */
bool peer_is_live(const struct peer_sim *p);

/* Its kind, number, type and temper, for the trace. Returns `out`. */
const char *peer_describe(const struct peer_sim *p, char *out, size_t size);

/* Greeting and READY into `out`, which has 1,024 bytes. Returns how many they are. */
size_t peer_make_handshake(const struct peer_sim *p, uint8_t *out);

/* A message in the daemon's stream is complete: is it one that belongs here? */
void peer_check_delivery(struct sock *s, const uint8_t *frames, size_t len, size_t end);

/* The messages of one sender reach a peer in their order, unless this one `may_differ`. */
void peer_check_order(struct peer_sim *to, const struct sim_message *m, bool may_differ);

/* How many peers of a side are alive? */
unsigned peers_live(int side);

/* Free them all, after a run. */
void peers_free(void);

/* --- misbehave.c ---------------------------------------------------------- */

/* Break the protocol, before the handshake or after it. */
void peer_lie(struct peer_sim *p);

/* End the connection: close it, reset it, shut its half, or vanish. */
void peer_leave(struct peer_sim *p);

/* Its `ends_at` has come: act according to its temper. */
void peer_reach_end(struct peer_sim *p);

#endif
