/* SPDX-License-Identifier: MIT */
#include "broker/envelope.h"

#include <string.h>

#include "zmtp/frame.h"

/* --- the envelope as a key ------------------------------------------------ */

/* Decode a frame of the envelope at p[len]. Returns its bytes; 0: no such frame, or *cut. */
static size_t
read_frame(const uint8_t *p, size_t len, struct frame_header *h, bool *cut)
{
	int size = frame_decode(h, p, len);

	*cut = size == 0 || (size > 0 && h->length <= UINT8_MAX && (size_t)size + h->length > len);
	if (size <= 0 || h->length > UINT8_MAX || *cut)
		return 0;
	return (size_t)size + (size_t)h->length;
}

static void
set_key(struct envelope *e, const uint8_t *p, size_t raw, size_t len, bool plain)
{
	size_t at = 0;

	e->key = plain ? p : e->own;
	e->len = len;
	for (size_t i = 0; !plain && at < raw;) {
		struct frame_header h = {0};
		bool cut;
		size_t size = read_frame(p + at, raw - at, &h, &cut);

		e->own[i++] = WIRE_FLAG_MORE;
		e->own[i++] = (uint8_t)h.length;
		memcpy(e->own + i, p + at + size - h.length, (size_t)h.length);
		i += (size_t)h.length;
		at += size;
	}
}

bool
envelope_read_any(struct envelope *e, const uint8_t *p, size_t len)
{
	struct frame_header h;
	size_t at = 0, keyed = 0, size;
	bool plain = true;

	e->cut = false;
	e->delimited = false;
	while ((size = read_frame(p + at, len - at, &h, &e->cut)) > 0 &&
		keyed + 2 + h.length <= ENVELOPE_MAX) {
		bool more = h.flags & WIRE_FLAG_MORE;

		if (keyed == 0 && !more)
			return false;
		plain = plain && size == 2 + h.length && p[at] == WIRE_FLAG_MORE;
		at += size;
		keyed += 2 + (size_t)h.length;
		if (at == size) { /* the routing id alone, until the delimiter is found */
			e->id_len = keyed;
			set_key(e, p, at, keyed, plain);
		} else if (h.length == 0 && more) {
			e->delimited = true;
			set_key(e, p, at, keyed, plain);
			break;
		}
		if (!more)
			break;
	}
	return keyed > 0;
}

/* --- the delimiter -------------------------------------------------------- */

/* Reads the headers of a message's frames from pieces that may end anywhere. */
struct headers {
	uint8_t bytes[WIRE_LONG_HEADER];
	size_t have;
	uint64_t body; /* bytes of the last frame's body that are still to come */
};

/* Consumes up to *len bytes of *p. True: *h is the next complete header. */
static bool
take(struct headers *from, const uint8_t **p, size_t *len, struct frame_header *h)
{
	while (*len > 0) {
		if (from->body > 0) {
			size_t n = from->body < *len ? (size_t)from->body : *len;

			from->body -= n;
			*p += n;
			*len -= n;
			continue;
		}
		from->bytes[from->have++] = *(*p)++;
		(*len)--;
		if (frame_decode(h, from->bytes, from->have) == 0)
			continue;
		from->have = 0;
		from->body = h->length;
		return true;
	}
	return false;
}

bool
envelope_search_delimiter(const struct message *message)
{
	struct headers headers = {0};
	struct message_at at = {0};
	struct frame_header h;
	const uint8_t *p;
	size_t len;

	while ((p = message_piece(message, &at, &len)) != NULL) {
		while (take(&headers, &p, &len, &h)) {
			if (!(h.flags & WIRE_FLAG_MORE))
				return false;
			if (h.length == 0)
				return true;
		}
	}
	return false;
}
