/* SPDX-License-Identifier: MIT */
/*
 * Where log lines go: a descriptor whose reader may be slow, stopped or gone. Nothing here waits,
 * except sink_drain. Lines that the descriptor does not take at once are kept in a ring until it is
 * writable; lines that do not fit are counted. Lines stay whole: one that was written in part is
 * finished first, and if that is impossible, the next one begins on a line of its own.
 */
#ifndef BULKHEAD_BASE_SINK_H
#define BULKHEAD_BASE_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SINK_RING = 256 * 1024 };

enum sink_kind {
	SINK_PLAIN,  /* a file or device, or a pipe or terminal that we opened again */
	SINK_SOCKET, /* one flag for each call makes it non-blocking */
	SINK_SHARED  /* a pipe or terminal that is shared with others, who expect it to block */
};

struct sink {
	int fd;
	enum sink_kind kind;
	bool packets;  /* a socket that keeps boundaries: one line each */
	bool full;     /* no line is taken until half of the ring is free */
	bool cut;      /* the end of the last line could not be written */
	size_t at;     /* place in the ring of the first byte that waits */
	size_t len;    /* bytes that wait */
	size_t rest;   /* how many of these are the rest of a line that was begun */
	uint64_t lost; /* lost lines; the owner reports them and sets it to 0 */
	char ring[SINK_RING];
};

/*
 * Write to `fd` from now on. A pipe or terminal is opened again, so that O_NONBLOCK does not affect
 * processes that share it; if that fails, it is polled before each write.
 */
void sink_open(struct sink *sink, int fd);

/* Write one line, with its newline, of at most 4096 bytes. False: it is lost, and counted. */
bool sink_write(struct sink *sink, const char *line, size_t len);

/* Write the bytes that wait, as many as are taken, up to 64 KiB. False: none was taken. */
bool sink_flush(struct sink *sink);

/* Wait until everything is written, for `ms` at most. */
void sink_drain(struct sink *sink, int ms);

#endif
