/* SPDX-License-Identifier: MIT */
/*
 * Peers that must not get a PING: some libraries (chumak) greet as ZMTP 3.1 and end their
 * connection on the first PING. Such a peer is remembered by its host and socket type, so that its
 * next connection lives. There are a few entries; the oldest is replaced.
 */
#ifndef BULKHEAD_NET_UNPINGED_H
#define BULKHEAD_NET_UNPINGED_H

#include <stdbool.h>
#include <stdint.h>

#include "zmtp/socktype.h"

enum { UNPINGED_MAX = 32, UNPINGED_HOST = 64 };

struct unpinged {
	struct {
		char host[UNPINGED_HOST]; /* an address without its port, cut to fit */
		enum socktype type;
	} entries[UNPINGED_MAX];
	uint32_t count, next;
};

/* Is this peer known? `address` as sys_address_text writes it; its port does not matter. */
bool unpinged_has(const struct unpinged *u, const char *address, enum socktype type);

/* Remember it. False: it is known already. */
bool unpinged_add(struct unpinged *u, const char *address, enum socktype type);

#endif
