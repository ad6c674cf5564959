/* SPDX-License-Identifier: MIT */
#include "image.h"

#include <stdlib.h>
#include <string.h>

#include "zmtp/frame.h"

bool
image_init(struct image *image, size_t size, unsigned parts, bool envelope)
{
	const size_t ident = sizeof(struct ident);
	size_t header = size <= WIRE_SHORT_MAX ? WIRE_SHORT_HEADER : WIRE_LONG_HEADER;
	size_t front = envelope ? WIRE_SHORT_HEADER + ident + WIRE_SHORT_HEADER : 0;
	uint8_t *out;

	image->len = front + (header + size) * parts;
	image->ident_at = envelope ? WIRE_SHORT_HEADER : header;
	image->has_ident = envelope || size >= ident;
	image->bytes = out = calloc(1, image->len);
	if (out == NULL)
		return false;
	if (envelope) {
		out += frame_encode(out, WIRE_FLAG_MORE, ident) + ident;
		out += frame_encode(out, WIRE_FLAG_MORE, 0);
	}
	for (unsigned part = 0; part < parts; part++) {
		out += frame_encode(out, part + 1 < parts ? WIRE_FLAG_MORE : 0, size);
		for (size_t i = 0; i < size; i++)
			out[i] = (uint8_t)(i * 31 + i / 251 + part);
		out += size;
	}
	return true;
}

void
image_fini(struct image *image)
{
	free(image->bytes);
}

/* Bytes of the routing id's frame, from its first two bytes; 0 when they do not look like one. */
static size_t
prefix_of(const uint8_t *frame)
{
	return frame[0] == WIRE_FLAG_MORE ? (size_t)WIRE_SHORT_HEADER + frame[1] : 0;
}

static bool
finish(const struct image *image, const uint8_t *head, image_handler *handler, void *arg)
{
	struct ident ident;

	if (!image->has_ident)
		return handler(arg, NULL);
	memcpy(&ident, head + image->ident_at, sizeof(ident));
	return handler(arg, &ident);
}

/* The message as a whole: what most of them are while messages are small. */
static bool
read_whole(const struct image *image, const uint8_t *data, image_handler *handler, void *arg)
{
	size_t head = image_head_len(image);

	return memcmp(data, image->bytes, image->ident_at) == 0 &&
		memcmp(data + head, image->bytes + head, image->len - head) == 0 &&
		finish(image, data, handler, arg);
}

/* The next bytes of a message that comes in pieces. Adds those taken to *used. */
static bool
read_piece(struct image_reader *r, const struct image *image, const uint8_t *data, size_t len,
	size_t *used, image_handler *handler, void *arg)
{
	size_t head = image_head_len(image), at, take;

	if (r->routed && r->prefix == 0) {
		r->head[r->at++] = *data;
		*used += 1;
		if (r->at == 2) {
			r->prefix = prefix_of(r->head);
			return r->prefix != 0;
		}
		return true;
	}
	if (r->at < r->prefix) {
		take = r->prefix - r->at < len ? r->prefix - r->at : len;
	} else if ((at = r->at - r->prefix) < head) {
		take = head - at < len ? head - at : len;
		memcpy(r->head + at, data, take);
		if (at + take == head && memcmp(r->head, image->bytes, image->ident_at) != 0)
			return false;
	} else {
		take = image->len - at < len ? image->len - at : len;
		if (memcmp(data, image->bytes + at, take) != 0)
			return false;
	}
	r->at += take;
	*used += take;
	if (r->at < r->prefix + image->len)
		return true;
	r->at = r->prefix = 0;
	return finish(image, r->head, handler, arg);
}

bool
image_read(struct image_reader *r, const struct image *image, const uint8_t *data, size_t len,
	size_t *used, image_handler *handler, void *arg)
{
	size_t at = 0;

	while (at < len) {
		size_t left = len - at, prefix = 0;

		if (r->at == 0 && data[at] & WIRE_FLAG_COMMAND)
			break;
		if (r->at == 0 && left >= WIRE_SHORT_HEADER) {
			if (r->routed && (prefix = prefix_of(data + at)) == 0)
				return false;
			if (left >= prefix + image->len) {
				if (!read_whole(image, data + at + prefix, handler, arg))
					return false;
				at += prefix + image->len;
				continue;
			}
		}
		if (!read_piece(r, image, data + at, left, &at, handler, arg))
			return false;
	}
	*used = at;
	return true;
}
