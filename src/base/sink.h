/* SPDX-License-Identifier: MIT */
/*
 * Where log lines go: a descriptor whose reader may be slow, stand still or be gone. Nothing here
 * ever waits, except sink_drain. What the descriptor does not take at once is kept in a ring until
 * it is writable; what does not fit is counted. Lines stay whole: a line that could be written only
 * in part is finished first, and when that is not possible the next one begins on a line of its
 * own.
 */
#ifndef BULKHEAD_BASE_SINK_H
#define BULKHEAD_BASE_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SINK_RING = 256 * 1024 };

enum sink_kind {
	SINK_PLAIN,  /* a file or device, or a pipe or terminal by a description of our own */
	SINK_SOCKET, /* one flag for each call makes it non-blocking */
	SINK_SHARED  /* a pipe or terminal that others hold as well, who expect it to block */
};

struct sink {
	int fd;
	enum sink_kind kind;
	bool packets;  /* a socket that keeps boundaries: one line each */
	bool full;     /* no line is taken until half of the ring is free */
	bool cut;      /* the end of the last line could not be written */
	size_t at;     /* of the first byte that waits, in the ring */
	size_t len;    /* bytes that wait */
	size_t rest;   /* of them: the end of a line that is begun */
	uint64_t lost; /* lines, until the owner has told of them and sets it to 0 */
	char ring[SINK_RING];
};

/*
 * Write to `fd` from now on. A pipe or terminal is opened once more, so that O_NONBLOCK does not
 * concern those who share it; where that is refused it is asked before each write.
 */
void sink_open(struct sink *sink, int fd);

/* One line with its end, of at most 4096 bytes. False: it is lost, and counted. */
bool sink_write(struct sink *sink, const char *line, size_t len);

/* Write what waits, as far as it is taken and up to 64 KiB. False: nothing was taken. */
bool sink_flush(struct sink *sink);

/* Wait until nothing waits any more, for `ms` at most. */
void sink_drain(struct sink *sink, int ms);

#endif
