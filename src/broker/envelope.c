/* SPDX-License-Identifier: MIT */
#include "broker/envelope.h"

#include "zmtp/frame.h"

/* The headers of a message's frames, one after the other, from pieces that are cut anywhere. */
struct headers {
	uint8_t bytes[WIRE_LONG_HEADER];
	size_t have;
	uint64_t body; /* bytes of the last frame's body that are still to come */
};

/* Takes up to `len` bytes from *p. True: *h is a header that is complete now. */
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
	struct outq_at at = {0};
	struct frame_header h;
	const uint8_t *p;
	size_t len;

	while ((p = outq_piece(message, &at, &len)) != NULL) {
		while (take(&headers, &p, &len, &h)) {
			if (!(h.flags & WIRE_FLAG_MORE))
				return false;
			if (h.length == 0)
				return true;
		}
	}
	return false;
}
