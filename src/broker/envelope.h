/* SPDX-License-Identifier: MIT */
/*
 * The envelope of a request (RFC 28): frames up to and including the delimiter, an empty frame with
 * more behind it.
 */
#ifndef BULKHEAD_BROKER_ENVELOPE_H
#define BULKHEAD_BROKER_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/hash.h"
#include "net/outq.h"
#include "zmtp/wire.h"

enum {
	ENVELOPE_MAX = 512, /* bytes of a key */
	/* an envelope takes on the wire at most: 170 frames of a byte, with long headers */
	ENVELOPE_WIRE = 2048
};

/*
 * An envelope as messages are compared by it: frames with one byte of flags and one of length each,
 * of at most 255 bytes, and 512 together. Without a delimiter it is the routing id's frame alone.
 */
struct envelope {
	/* len bytes: of the message itself where that has this form, else in `own` */
	const uint8_t *key;
	size_t len;
	size_t id_len; /* of them, the routing id's frame */
	bool delimited;
	bool cut; /* more bytes of the message could tell more */
	uint8_t own[ENVELOPE_MAX];
};

/* The form that frames nearly always come in. False: not in all of the envelope. */
static inline bool
envelope_read_plain(struct envelope *e, const uint8_t *p, size_t len)
{
	size_t at = 0, next;

	e->key = p;
	while (at + 2 <= len) {
		if (at > 0 && !(p[at] & WIRE_FLAG_MORE)) { /* the last one */
			e->len = e->id_len;
			e->delimited = false;
			return true;
		}
		next = at + 2 + p[at + 1];
		if (p[at] != WIRE_FLAG_MORE || next > len || next > ENVELOPE_MAX)
			return false;
		if (at == 0) {
			e->id_len = next;
		} else if (next == at + 2) {
			e->len = next;
			e->delimited = true;
			return true;
		}
		at = next;
	}
	return false;
}

/* envelope_read for all other forms. */
bool envelope_read_any(struct envelope *e, const uint8_t *p, size_t len);

/*
 * Read the envelope from the first `len` bytes of a message; `e` refers to them from then on.
 * False: the message does not begin with a routing id.
 */
static inline bool
envelope_read(struct envelope *e, const uint8_t *p, size_t len)
{
	e->cut = false;
	return envelope_read_plain(e, p, len) || envelope_read_any(e, p, len);
}

/* Is this a routing id that Bulkhead made up, with at most a delimiter behind it? */
static inline bool
envelope_is_made_up(const uint8_t *key, size_t len)
{
	return len >= 2 + WIRE_MADE_UP_ID && len <= 4 + WIRE_MADE_UP_ID &&
		key[1] == WIRE_MADE_UP_ID && key[2] == 0;
}

/*
 * The hash of a key, or of the routing id's frame at its beginning: keyed where a peer
 * chose the id, quick where Bulkhead did.
 */
static inline uint32_t
envelope_hash(const struct hash_key *hash_key, const uint8_t *key, size_t len)
{
	uint32_t h;

	if (!envelope_is_made_up(key, len))
		return hash_keyed(hash_key, key, len);
	memcpy(&h, key + 3, sizeof(h));
	return (h + (uint32_t)len) * UINT32_C(2246822519);
}

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
