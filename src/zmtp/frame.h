/* SPDX-License-Identifier: MIT */
/*
 * Frame headers (RFC 23, "Framing"): flags, then a length of one byte or, with
 * LONG, of eight in network order.
 */
#ifndef BULKHEAD_ZMTP_FRAME_H
#define BULKHEAD_ZMTP_FRAME_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "zmtp/wire.h"

struct frame_header {
	uint8_t flags;   /* as on the wire */
	uint8_t size;    /* bytes of the header itself: 2 or 9 */
	uint64_t length; /* of the body */
};

/*
 * Decode the header at p[len]. Returns its size, 0 when more bytes are needed,
 * or -1 for a length of 2^63 and above, which the RFC forbids.
 */
static inline int
frame_decode(struct frame_header *out, const uint8_t *p, size_t len)
{
	if (len < WIRE_SHORT_HEADER)
		return 0;
	out->flags = p[0];
	if (!(p[0] & WIRE_FLAG_LONG)) {
		out->size = WIRE_SHORT_HEADER;
		out->length = p[1];
		return WIRE_SHORT_HEADER;
	}
	if (len < WIRE_LONG_HEADER)
		return 0;
	out->size = WIRE_LONG_HEADER;
	memcpy(&out->length, p + 1, sizeof(out->length));
	out->length = be64toh(out->length);
	return out->length >> 63 ? -1 : WIRE_LONG_HEADER;
}

/*
 * Encode a header with these flags (LONG is set as the length needs) into
 * out[9]. Returns its size.
 */
size_t frame_encode(uint8_t *out, uint8_t flags, uint64_t length);

#endif
