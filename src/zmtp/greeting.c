/* SPDX-License-Identifier: MIT */
#include "zmtp/greeting.h"

#include <string.h>

enum { POS_REVISION = 10, POS_MINOR = 11, POS_MECHANISM = 12, POS_AS_SERVER = 32 };

void
greeting_init(struct greeting *g)
{
	*g = (struct greeting){0};
}

/* Takes the byte at g->pos. Bytes 1 to 8 are padding, in which libzmq puts a length. */
static enum greeting_result
take(struct greeting *g, uint8_t byte, const char *mechanism)
{
	unsigned pos = g->pos++;

	if (pos == 0) {
		/*
		 * A 1.0 peer opens with the frame of its identity: a length of at least 1, flags 0.
		 */
		g->first = byte;
		return byte == 0 ? GREETING_NOT_ZMTP : GREETING_MORE;
	}
	if (g->first != 0xff) {
		if (pos == 1)
			return byte <= 1 ? GREETING_VERSION_1 : GREETING_NOT_ZMTP;
		return GREETING_NOT_ZMTP;
	}
	if (pos == WIRE_SIGNATURE_SIZE - 1 && !(byte & 1))
		return GREETING_VERSION_1;
	if (pos == POS_REVISION) {
		g->revision_2 = byte != 3;
		if (byte == 0)
			return GREETING_VERSION_1;
		if (byte == 1)
			return GREETING_VERSION_2;
	}
	if (pos == POS_MINOR)
		g->minor = g->revision_2 ? 1 : byte;
	if (pos >= POS_MECHANISM && pos < POS_AS_SERVER) {
		unsigned i = pos - POS_MECHANISM;
		uint8_t want = i < strlen(mechanism) ? (uint8_t)mechanism[i] : 0;
		if (byte != want)
			return GREETING_BAD_MECHANISM;
	}
	return g->pos == WIRE_GREETING_SIZE ? GREETING_DONE : GREETING_MORE;
}

enum greeting_result
greeting_read(struct greeting *g, const uint8_t *p, size_t len, const char *mechanism, size_t *used)
{
	enum greeting_result result = GREETING_MORE;

	for (*used = 0; *used < len && result == GREETING_MORE; ++*used)
		result = take(g, p[*used], mechanism);
	return result;
}

size_t
greeting_may_send(const struct greeting *g)
{
	if (g->pos <= WIRE_SIGNATURE_SIZE - 1)
		return WIRE_SIGNATURE_SIZE;
	return g->pos <= POS_REVISION ? WIRE_SIGNATURE_SIZE + 1 : WIRE_GREETING_SIZE;
}

void
greeting_encode(uint8_t out[WIRE_GREETING_SIZE], const char *mechanism, bool as_server)
{
	memset(out, 0, WIRE_GREETING_SIZE);
	out[0] = 0xff;
	out[WIRE_SIGNATURE_SIZE - 1] = 0x7f;
	out[POS_REVISION] = 3;
	out[POS_MINOR] = 1;
	memcpy(out + POS_MECHANISM, mechanism, strnlen(mechanism, WIRE_MECHANISM_SIZE));
	out[POS_AS_SERVER] = as_server ? 1 : 0;
}
