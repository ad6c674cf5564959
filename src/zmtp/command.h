/* SPDX-License-Identifier: MIT */
/*
 * Commands (RFC 23 "Commands", RFC 37 "Heartbeating"): a frame whose body is a
 * length byte, a name and data.
 */
#ifndef BULKHEAD_ZMTP_COMMAND_H
#define BULKHEAD_ZMTP_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "zmtp/wire.h"

enum command_kind {
	COMMAND_UNKNOWN, /* well formed and ignored; also an empty body */
	COMMAND_MALFORMED,
	COMMAND_READY,
	COMMAND_ERROR,
	COMMAND_PING,
	COMMAND_PONG,
	COMMAND_SUBSCRIBE,
	COMMAND_CANCEL,
	COMMAND_DRAINING, /* Bulkhead's own: see wire.h */
	COMMAND_BYE
};

struct command {
	enum command_kind kind;
	const uint8_t *data; /* after the name */
	size_t len;
};

/*
 * Split the body p[len] of a command frame into name and data. `p` may be the
 * front of a longer body.
 */
struct command command_parse(const uint8_t *p, size_t len);

/* Longest PING or PONG frame that the encoders below write. */
enum { COMMAND_PING_MAX = 2 + 5 + 2 + WIRE_PING_CONTEXT_MAX };

/* Write a PING frame with this TTL (tenths of a second) and no context. Returns its size. */
size_t command_put_ping(uint8_t *out, unsigned ttl);

/* Write a PONG frame that echoes context[len], cut to 16 bytes. Returns its size. */
size_t command_put_pong(uint8_t *out, const uint8_t *context, size_t len);

/* Write a DRAINING or BYE frame into out[COMMAND_DRAINING_MAX]. Returns its size. */
enum { COMMAND_DRAINING_MAX = 2 + 9 };
size_t command_put_draining(uint8_t *out);
size_t command_put_bye(uint8_t *out);

/* Write an ERROR frame with a reason of up to 200 bytes into out[256]. Returns its size. */
size_t command_put_error(uint8_t *out, const char *reason);

#endif
