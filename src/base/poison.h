/* SPDX-License-Identifier: MIT */
/*
 * The poison guard.
 *
 * A write that is cancelled halfway leaves a stream that silently corrupts
 * whatever is written next: the receiver takes the next bytes for the rest of
 * the first message. So a stream is marked before the first byte of a message
 * and cleared only after the last. If anything cuts in between, the mark stays
 * and the stream can only be dropped.
 *
 *     CLEAN --first byte of a unit is about to go out--> ARMED
 *     ARMED --last byte of its last frame went out-----> CLEAN
 *     ARMED --write cancelled-------------------------> POISONED
 *
 * POISONED is final: nothing resets it, every further send is refused. A unit
 * is whatever must reach the receiver whole: a multipart message with all its
 * frames, a greeting, a command.
 *
 * The module knows neither sockets nor protocols. These two files stand alone;
 * use them in any program that writes framed messages to a stream:
 *
 *     struct poison_guard g;
 *     poison_init(&g);
 *     ...
 *     if (poison_arm(&g) != 0)
 *             return drop_the_stream();
 *     n = write(fd, p, len);
 *     poison_wrote(&g, n > 0 ? n : 0, len - (n > 0 ? n : 0));
 *     ...
 *     on timeout: if (poison_cancel(&g)) drop_the_stream();
 */
#ifndef BULKHEAD_BASE_POISON_H
#define BULKHEAD_BASE_POISON_H

#include <stdbool.h>
#include <stddef.h>

enum poison_state { POISON_CLEAN, POISON_ARMED, POISON_POISONED };

/* What poison_arm returns for a poisoned stream: EPIPE in spirit. */
#define POISON_REFUSED (-1)

struct poison_guard {
	enum poison_state state; /* read it through the functions below */
	bool midway;             /* some bytes of the current unit are out */
};

/* A new stream is clean. The only way to a clean guard is a new stream. */
void poison_init(struct poison_guard *g);

/*
 * Mark the stream: call before every attempt to write, with the first or any
 * later bytes of a unit. Returns 0, or POISON_REFUSED when the stream is
 * poisoned: then nothing may be written.
 */
int poison_arm(struct poison_guard *g);

/*
 * Report the result of the attempt: `written` bytes were taken, and `left` bytes of the unit that
 * was cut are still to be written (0: the last byte taken was the last of its unit, or no unit is
 * under way). One attempt may have covered many units. Disarms only at the very end of a unit, or
 * when nothing was taken and no unit was under way. Call only after poison_arm.
 */
void poison_wrote(struct poison_guard *g, size_t written, size_t left);

/*
 * The rest of the unit under way will not be written: timeout, shutdown,
 * error, peer gone. Returns true if the stream is poisoned now, false if no
 * byte of a unit was out, so that the stream is still clean.
 */
bool poison_cancel(struct poison_guard *g);

/* True when only a part of a unit is out so far. */
bool poison_midway(const struct poison_guard *g);

/* True when the stream is poisoned. */
bool poison_is_poisoned(const struct poison_guard *g);

#endif
