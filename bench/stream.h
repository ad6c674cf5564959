/* SPDX-License-Identifier: MIT */
/*
 * stream.h - readers of a stream of frames whose content is not known: of whole messages, and of
 * the commands between them.
 */
#ifndef BENCH_STREAM_H
#define BENCH_STREAM_H

#include "image.h"

#include "zmtp/wire.h"

/* Where a reader is in a frame. One that is all zero stands before the first. */
struct frame_reader {
	uint8_t header[WIRE_LONG_HEADER];
	uint8_t header_len; /* bytes of it so far; 0 between two frames */
	bool inside;        /* the header was whole: `left` bytes of the body are to come */
	uint64_t left;
	/* the body's front */
	uint8_t kept[256];
	size_t kept_len;
	uint64_t length; /* of the whole body */
};

/* Reads messages. `frame.kept` has the front of the first frame of each. */
struct stream {
	struct frame_reader frame;
	bool in_message; /* a frame with MORE was the last one */
	bool has_ident;  /* the message's first frame was an ident */
	struct ident ident;
};

/*
 * Reads the next `len` bytes, in pieces of any size. Sets *used to `len`, or to where a command
 * stands between two messages. The handler is called for each message, with the ident that is its
 * first frame. Returns false for what is no frame of a message, or when the handler says so.
 */
bool stream_read(struct stream *stream, const uint8_t *data, size_t len, size_t *used,
	image_handler *handler, void *arg);

/*
 * Reads a command, in pieces of any size; the first byte of the first piece begins it. Adds what
 * was read to *used. Returns true when it is whole: reader->kept has the front of its body.
 */
bool command_read(struct frame_reader *reader, const uint8_t *data, size_t len, size_t *used);

/* Is it in the middle of one? */
static inline bool
frame_reader_is_inside(const struct frame_reader *reader)
{
	return reader->header_len > 0;
}

#endif
