/* SPDX-License-Identifier: MIT */
#include "zmtp/frame.h"

size_t
frame_encode(uint8_t *out, uint8_t flags, uint64_t length)
{
	if (length <= WIRE_SHORT_MAX) {
		out[0] = flags & (uint8_t)~WIRE_FLAG_LONG;
		out[1] = (uint8_t)length;
		return WIRE_SHORT_HEADER;
	}
	out[0] = flags | WIRE_FLAG_LONG;
	for (int i = 8; i > 0; i--, length >>= 8)
		out[i] = (uint8_t)length;
	return WIRE_LONG_HEADER;
}
