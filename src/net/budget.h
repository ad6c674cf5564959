/* SPDX-License-Identifier: MIT */
/*
 * What one turn of the loop may cost. The cost of a read depends on its contents: 64 KiB are one
 * message, or 32,000 empty commands. Small reads, and larger ones with few messages, are always
 * allowed. The cost of reads, and of connections that come and go, is added up in units of about a
 * hundred instructions each:
 *
 *   - past loop->limits.turn no more callbacks are run: the poll is cut, and the next turn goes on
 *     where it stopped;
 *   - past loop->limits.side, peers of that side that have more than a small read wait for the next
 *     turn, and each of them is read once before any is read twice. The other peers of the side,
 *     and all other sides, are not affected;
 *   - a peer whose read passed loop->limits.read gets a smaller buffer for its next read.
 */
#ifndef BULKHEAD_NET_BUDGET_H
#define BULKHEAD_NET_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn;
struct loop;

enum {
	BUDGET_SMALL = 128, /* a read of up to this many bytes is not measured; it costs ... */
	BUDGET_READ = 20, /* ... so many units, and one for each byte: they may be empty messages */
	/* a read of up to this many bytes is cheap, too, if its contents cost ... */
	BUDGET_MEDIUM = 512,
	BUDGET_PLAIN = 64,  /* ... no more than this many units */
	BUDGET_COMMAND = 1, /* units of a received command ... */
	BUDGET_ANSWER = 5,  /* ... and of one that needs an answer */
	BUDGET_BYTES = 7,   /* 1 << so many bytes copied to or from the kernel are one unit ... */
	/* ... and 1 << so many parsed bytes, since they may be frames without a body */
	BUDGET_PARSED = 4,
	BUDGET_MESSAGE = 3, /* units of a message that is received and passed on */
	BUDGET_TRACK = 8,   /* ... and of recording it: mostly cache misses */
	BUDGET_WRITE = 40,  /* units of a write, without its bytes */
	BUDGET_TIMER = 20,  /* units of a timer that expired */
	BUDGET_PAUSE = 80,  /* units: reading from a connection is paused or resumed */
	BUDGET_CHANGE = 20, /* units: a connection gets changed options */
	BUDGET_READY = 200, /* units: a peer becomes ready; its log line is most of it */
	BUDGET_BORN = 200,  /* units: a connection is accepted or dialled */
	BUDGET_END = 150,   /* units: our half of one is shut, and the rest of it watched */
	BUDGET_DEAD = 400   /* units: a connection is closed and freed */
};

struct budget_limits {
	uint32_t turn, side; /* units */
	uint32_t read;       /* units that are too many for one read */
	uint32_t events;     /* descriptors that a turn calls back */
	uint32_t write;      /* most bytes written to one peer at once */
	uint32_t window;     /* size of a read of a new peer, and of a peer whose reads cost much */
};

/* On one core of 2 GHz: a turn of 2 ms, a side's part of 0.5 ms, a read of 0.8 ms. */
#define BUDGET_LIMITS \
	((struct budget_limits){.turn = 80000, \
		.side = 20000, \
		.read = 32768, \
		.events = 2048, \
		.write = 4 << 20, \
		.window = 16384})

/* The peers of a side whose reads cost much: each is read once before any is read twice. */
struct budget_line {
	uint64_t turn;  /* the last turn of the loop in which one of them was readable */
	uint32_t spent; /* in that turn */
	uint8_t round;
	bool left_out; /* in that turn, a peer that was not yet read in this round had to wait */
	bool waiting;  /* the same in the turn before */
};

/* A turn begins after one that was cut or crowded. */
void budget_begin_turn(struct loop *loop);

/*
 * A read of `conn` that was not cheap cost `units`; `full`: it filled its buffer. Charge the turn
 * and the side, and choose the size of the next read.
 */
void budget_charge(struct conn *conn, uint32_t units, bool full);

/*
 * Decide whether the readable `conn` is read in this turn, and count it as served or left out.
 * Called only while loop->crowded is set. False: it stays readable, and its turn comes again.
 */
bool budget_admit(struct conn *conn);

#endif
