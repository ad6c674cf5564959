#include "image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ZMTP 3.1, 2.1: flags, and a length of one byte or of eight in network order */
static size_t
put_header(uint8_t *out, size_t size, bool more)
{
	if (size <= 255) {
		out[0] = more ? 1 : 0;
		out[1] = (uint8_t)size;
		return 2;
	}
	out[0] = (uint8_t)(2 | (more ? 1 : 0));
	for (int i = 0; i < 8; i++)
		out[1 + i] = (uint8_t)((uint64_t)size >> (56 - 8 * i));
	return 9;
}

void
image_init(struct image *image, size_t size, unsigned parts)
{
	size_t header = size <= 255 ? 2 : 9;
	uint8_t *out;

	image->len = (header + size) * parts;
	image->ident_at = header;
	image->has_ident = size >= sizeof(struct ident);
	image->bytes = out = malloc(image->len);
	if (out == NULL) {
		perror("load: malloc");
		exit(1);
	}
	for (unsigned part = 0; part < parts; part++) {
		out += put_header(out, size, part + 1 < parts);
		for (size_t i = 0; i < size; i++)
			out[i] = (uint8_t)(i * 31 + i / 251 + part);
		out += size;
	}
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
	return frame[0] == 1 ? 2u + frame[1] : 0;
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
	image_handler *handler, void *arg)
{
	size_t used = 0;

	while (used < len) {
		size_t left = len - used, prefix = 0;

		if (r->at == 0 && left >= 2) {
			if (r->routed && (prefix = prefix_of(data + used)) == 0)
				return false;
			if (left >= prefix + image->len) {
				if (!read_whole(image, data + used + prefix, handler, arg))
					return false;
				used += prefix + image->len;
				continue;
			}
		}
		if (!read_piece(r, image, data + used, left, &used, handler, arg))
			return false;
	}
	return true;
}
