/* SPDX-License-Identifier: MIT */
/*
 * The envelope of a request (RFC 28): all frames up to and including the delimiter, an empty frame
 * with MORE.
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
	/* bytes of an envelope on the wire: at most 170 frames of a byte, with long headers */
	ENVELOPE_WIRE = 2048
};

/*
 * An envelope in the form in which messages are compared: each frame has a byte of flags, a byte
 * of length and at most 255 bytes; all frames together have at most 512. Without a delimiter the
 * key is the routing id's frame alone.
 */
struct envelope {
	/* len bytes: in the message itself if that has this form, otherwise in `own` */
	const uint8_t *key;
	size_t len;
	size_t id_len; /* bytes of the routing id's frame, with which `key` begins */
	bool delimited;
	bool cut; /* the bytes end within a frame: with more of them the key may change */
	uint8_t own[ENVELOPE_MAX];
};

/* envelope_read for the usual form. False: a frame of the envelope has another form. */
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

/* envelope_read for every form, with the same result. */
bool envelope_read_any(struct envelope *e, const uint8_t *p, size_t len);

/*
 * Read the envelope from the first `len` bytes of a message; `e` may point into these bytes.
 * False: the message does not begin with a routing id.
 */
static inline bool
envelope_read(struct envelope *e, const uint8_t *p, size_t len)
{
	e->cut = false;
	return envelope_read_plain(e, p, len) || envelope_read_any(e, p, len);
}

/* Is the key a routing id that Bulkhead made up, followed by at most a delimiter? */
static inline bool
envelope_is_made_up(const uint8_t *key, size_t len)
{
	return len >= 2 + WIRE_MADE_UP_ID && len <= 4 + WIRE_MADE_UP_ID &&
		key[1] == WIRE_MADE_UP_ID && key[2] == 0;
}

/*
 * Return the hash of a key, or of the routing id's frame at its beginning: keyed if a peer chose
 * the id, a quick one if Bulkhead did.
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

/* envelope_has_delimiter for every form of a message, with the same result. */
bool envelope_search_delimiter(const struct message *message);

/*
 * Has the message, with or without a leading routing id, a delimiter followed by a body? A REP
 * silently discards any other message and never answers it.
 */
static inline bool
envelope_has_delimiter(const struct message *message)
{
	if (message->len >= 2 && message->p[0] == WIRE_FLAG_MORE && message->p[1] == 0)
		return true; /* what a REQ sends */
	return envelope_search_delimiter(message);
}

#endif
