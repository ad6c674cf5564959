/* SPDX-License-Identifier: MIT */
/*
 * Security mechanisms: one const struct each. The session hands the mechanism
 * the greeting's end and every handshake command; the mechanism answers
 * through the session's output buffer and says when the handshake is over.
 */
#ifndef BULKHEAD_ZMTP_MECHANISM_H
#define BULKHEAD_ZMTP_MECHANISM_H

#include <stddef.h>
#include <stdint.h>

#include "base/reasons.h"

struct session;

enum mechanism_result {
	MECHANISM_MORE,  /* the handshake goes on */
	MECHANISM_READY, /* the peer is accepted; traffic begins */
	MECHANISM_BAD    /* close; session_fail was called */
};

struct mechanism {
	const char *name; /* as in the greeting, up to 20 bytes */

	/* The peer's greeting is complete: queue our first command, if there is one. */
	void (*on_greeting)(struct session *s);

	/* A handshake command with body p[len] came. */
	enum mechanism_result (*on_command)(struct session *s, const uint8_t *p, size_t len);
};

/* RFC 23, "The NULL Security Mechanism". */
extern const struct mechanism mechanism_null;

#endif
