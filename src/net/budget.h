/* SPDX-License-Identifier: MIT */
/*
 * What one turn of the loop may cost. A read is cheap or dear by what is in it: 64 KiB are one
 * message, or 32,000 empty commands. Small ones, and larger ones with few messages in them, are
 * taken as they come. What reads, and connections that come and go, cost is added up in units, of
 * about a hundred instructions each:
 *
 *   - past loop->limits.turn nothing more is called back: the poll is cut, and the next turn goes
 *     on
 *     where it stopped, with those who are next in line;
 *   - past loop->limits.side, peers of that side that have more than a small read have to wait for
 *     the
 *     next turn, and there everyone of them has a read before anyone has a second one. The other
 *     peers of the side, and all other sides, notice nothing;
 *   - a peer whose read passed loop->limits.read gets a smaller buffer for its next one.
 */
#ifndef BULKHEAD_NET_BUDGET_H
#define BULKHEAD_NET_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn;
struct loop;

enum {
	BUDGET_SMALL = 128, /* bytes of a read that is not looked at: it costs, in units, ... */
	BUDGET_READ = 20,   /* ... so much, and a unit for each byte: they may be empty messages */
	/* bytes of a read that is cheap as well, if what is in it costs no more units ... */
	BUDGET_MEDIUM = 512,
	BUDGET_PLAIN = 64,  /* ... than so many */
	BUDGET_COMMAND = 1, /* units: taking one in ... */
	BUDGET_ANSWER = 5,  /* ... that wants an answer */
	BUDGET_BYTES = 7,   /* 1 << so many bytes, copied to or from the kernel, are one unit ... */
	/* ... and so many that are looked at, since they may be frames without a body */
	BUDGET_PARSED = 4,
	BUDGET_MESSAGE = 3, /* units: taking a message in and passing it on */
	BUDGET_BOOKS = 8,  /* ... and keeping books of it, which is caches more than instructions */
	BUDGET_WRITE = 40, /* units: a write, but for its bytes */
	BUDGET_TIMER = 20, /* units: one that went off */
	BUDGET_PAUSE = 80, /* units: a connection is not read any more, or again */
	BUDGET_CHANGE = 20, /* units: a connection is given other options */
	BUDGET_READY = 200, /* units: a peer becomes ready; its log line is most of it */
	BUDGET_BORN = 200,  /* units: a connection is accepted or dialled */
	BUDGET_END = 150,   /* units: our half of one is shut, and the rest of it watched */
	BUDGET_DEAD = 400   /* units: one is closed and freed */
};

struct budget_limits {
	uint32_t turn, side; /* units */
	uint32_t read;       /* too much for one read */
	uint32_t events;     /* that a turn calls back */
	uint32_t write;      /* bytes to one peer, whose kernel takes them as fast as we write */
	uint32_t window;     /* bytes of a read: of a new peer, and of one whose reads are dear */
};

/* On one core of 2 GHz: a turn of 2 ms, a side's part of 0.5 ms, a read of 0.8 ms. */
#define BUDGET_LIMITS \
	((struct budget_limits){.turn = 80000, \
		.side = 20000, \
		.read = 32768, \
		.events = 2048, \
		.write = 4 << 20, \
		.window = 16384})

/* Those of a side whose reads are dear: each of them once before any of them twice. */
struct budget_line {
	uint64_t turn;  /* of the loop: the last in which one of them came */
	uint32_t spent; /* in that turn */
	uint8_t round;
	bool left_out; /* in that turn, one that has had nothing in this round was sent away */
	bool waiting;  /* in the turn before */
};

/* A turn begins, and the one before was cut, or crowded. */
void budget_begin_anew(struct loop *loop);

/*
 * A read of `conn` that was not cheap cost `units`, and filled its buffer or not: charge turn and
 * side, and measure its next buffer.
 */
void budget_charge(struct conn *conn, uint32_t units, bool full);

/*
 * May `conn`, which is readable, be read in this turn? Asked only while loop->crowded is set. On no
 * it stays readable, and is asked for again.
 */
bool budget_allows(struct conn *conn);

#endif
