/* SPDX-License-Identifier: MIT */
#include "stream.h"

#include <string.h>

#include "zmtp/frame.h"

/* Takes the header's next byte. */
static void
read_header(struct frame_reader *r, uint8_t byte)
{
	struct frame_header header;

	r->header[r->header_len++] = byte;
	if (frame_decode(&header, r->header, r->header_len) <= 0)
		return;
	r->inside = true;
	r->left = r->length = header.length;
	r->kept_len = 0;
}

/* Takes bytes up to the frame's end; returns how many. It is at its end when `left` is 0 then. */
static size_t
read_frame(struct frame_reader *r, const uint8_t *data, size_t len)
{
	size_t at = 0, body, keep;

	while (!r->inside && at < len && r->header_len < WIRE_LONG_HEADER)
		read_header(r, data[at++]);
	body = len - at < r->left ? len - at : (size_t)r->left;
	keep = sizeof(r->kept) - r->kept_len < body ? sizeof(r->kept) - r->kept_len : body;
	memcpy(r->kept + r->kept_len, data + at, keep);
	r->kept_len += keep;
	r->left -= body;
	return at + body;
}

static bool
is_whole(const struct frame_reader *r)
{
	return r->inside && r->left == 0;
}

static void
next_frame(struct frame_reader *r)
{
	r->inside = false;
	r->header_len = 0;
}

/* A frame of a message is whole. */
static bool
on_frame(struct stream *s, uint8_t flags, const uint8_t *body, uint64_t len, image_handler *handler,
	void *arg)
{
	if (!s->in_message) {
		s->has_ident = len == sizeof(s->ident);
		if (s->has_ident)
			memcpy(&s->ident, body, sizeof(s->ident));
	}
	s->in_message = flags & WIRE_FLAG_MORE;
	return s->in_message || handler(arg, s->has_ident ? &s->ident : NULL);
}

bool
stream_read(struct stream *s, const uint8_t *data, size_t len, size_t *used, image_handler *handler,
	void *arg)
{
	struct frame_reader *frame = &s->frame;
	size_t at = 0;

	while (at < len) {
		if (!frame_reader_is_inside(frame)) {
			uint8_t flags = data[at];

			if (flags & WIRE_FLAG_COMMAND && !s->in_message)
				break;
			if (flags & ~(WIRE_FLAG_MORE | WIRE_FLAG_LONG))
				return false;
			/* short and whole, as most are */
			if (!(flags & WIRE_FLAG_LONG) && len - at >= WIRE_SHORT_HEADER &&
				len - at - WIRE_SHORT_HEADER >= data[at + 1]) {
				uint8_t body = data[at + 1];

				at += WIRE_SHORT_HEADER;
				if (!on_frame(s, flags, data + at, body, handler, arg))
					return false;
				at += body;
				continue;
			}
		}
		at += read_frame(frame, data + at, len - at);
		if (frame->header_len == WIRE_LONG_HEADER && !frame->inside)
			return false; /* a length of 2^63 or more */
		if (!is_whole(frame))
			continue;
		next_frame(frame);
		if (!on_frame(s, frame->header[0], frame->kept, frame->length, handler, arg))
			return false;
	}
	*used = at;
	return true;
}

bool
command_read(struct frame_reader *r, const uint8_t *data, size_t len, size_t *used)
{
	*used += read_frame(r, data, len);
	if (!is_whole(r))
		return false;
	next_frame(r);
	return true;
}
