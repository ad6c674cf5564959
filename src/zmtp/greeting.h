/* SPDX-License-Identifier: MIT */
/*
 * The greeting (RFC 23, "Greeting"; RFC 37 for minor 1), sent and read in stages: signature, major
 * version, the rest. The next stage is sent only when the peer's bytes allow it, so that older
 * protocols, which greet differently from byte 10 on, are recognised before they get bytes that
 * they would misread.
 */
#ifndef BULKHEAD_ZMTP_GREETING_H
#define BULKHEAD_ZMTP_GREETING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "zmtp/wire.h"

/* What the bytes read so far say about the peer. */
enum greeting_result {
	GREETING_MORE,         /* correct so far */
	GREETING_DONE,         /* all 64 bytes were read */
	GREETING_NOT_ZMTP,     /* neither this nor an older ZMTP */
	GREETING_VERSION_1,    /* ZMTP 1.0: unversioned, or revision 0 */
	GREETING_VERSION_2,    /* ZMTP 2.0: revision 1 */
	GREETING_BAD_MECHANISM /* differs from ours over its 20 bytes */
};

/* Decoder: needs no buffer, so that an unknown peer costs nothing. */
struct greeting {
	uint8_t pos;     /* bytes read so far, up to 64 */
	uint8_t sent;    /* bytes of our greeting released so far */
	uint8_t first;   /* the peer's byte 0 */
	uint8_t minor;   /* the peer's minor version, known from pos 12 on */
	bool revision_2; /* major 2 or above 3, which libzmq treats as 3.1 */
};

void greeting_init(struct greeting *g);

/*
 * Read p[len], and compare the mechanism with the NUL padded name of 20 bytes. *used: how many
 * bytes were taken, never more than the greeting has.
 */
enum greeting_result greeting_read(
	struct greeting *g, const uint8_t *p, size_t len, const char *mechanism, size_t *used);

/* How many bytes of our greeting may be sent by now, as in libzmq: 10, 11 or 64. */
size_t greeting_may_send(const struct greeting *g);

/* Write our 64 bytes, as ZMTP 3.1, with this mechanism name and as-server flag. */
void greeting_encode(uint8_t out[WIRE_GREETING_SIZE], const char *mechanism, bool as_server);

#endif
