/* SPDX-License-Identifier: MIT */
/*
 * A complete message on its way through the broker, as its wire image: from the read buffer,
 * or from the queue in which its parts were collected, to the queue of its receiver.
 */
#ifndef BULKHEAD_NET_MESSAGE_H
#define BULKHEAD_NET_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/chunk.h"

struct outq;
struct outq_block;

/* Contiguous in a read buffer or, when it came in pieces, alone in a queue of its own. */
struct message {
	const uint8_t *p;    /* the first `len` bytes; the whole message unless rope is set */
	size_t len;          /* contiguous bytes at p */
	size_t size;         /* of the whole wire image */
	struct outq *rope;   /* NULL, or the queue that holds just this message */
	struct chunk *chunk; /* NULL, or the chunk that p lies in: it may be queued by reference */
};

/*
 * The first bytes of a message in one piece: a pointer into the message when they are contiguous
 * there, otherwise to buf, into which up to `want` bytes are copied. *len: how many bytes there
 * are, at least min(want, message->size).
 */
const uint8_t *message_front(const struct message *message, uint8_t *buf, size_t want, size_t *len);

/* Where message_piece goes on; all zero before the first piece. */
struct message_at {
	const struct outq_block *block, *end;
	uint32_t offset, stop;
	bool begun;
};

/*
 * The contiguous pieces of a message, one after the other. Returns the next piece, which has *len
 * bytes, or NULL after the last one.
 */
const uint8_t *message_piece(const struct message *message, struct message_at *at, size_t *len);

#endif
