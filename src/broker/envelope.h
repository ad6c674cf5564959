/* SPDX-License-Identifier: MIT */
/*
 * The envelope of a request (RFC 28): frames up to and including the delimiter, an empty frame with
 * more behind it.
 */
#ifndef BULKHEAD_BROKER_ENVELOPE_H
#define BULKHEAD_BROKER_ENVELOPE_H

#include <stdbool.h>

#include "net/outq.h"
#include "zmtp/wire.h"

/* envelope_has_delimiter, for every form that a message may have. */
bool envelope_search_delimiter(const struct message *message);

/*
 * Has the message, with or without a routing id in front, a delimiter and a body behind it? A REP
 * throws any other message away without a word, and answers none of them.
 */
static inline bool
envelope_has_delimiter(const struct message *message)
{
	if (message->len >= 2 && message->p[0] == WIRE_FLAG_MORE && message->p[1] == 0)
		return true; /* what a REQ sends */
	return envelope_search_delimiter(message);
}

#endif
