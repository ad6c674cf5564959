/* SPDX-License-Identifier: MIT */
/*
 * The hash of tables whose keys a peer chooses: SipHash with a secret key, so that nobody can
 * choose keys that collide.
 */
#ifndef BULKHEAD_BASE_HASH_H
#define BULKHEAD_BASE_HASH_H

#include <sodium.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct hash_key {
	uint8_t bytes[crypto_shorthash_KEYBYTES];
};

/* A random key; sodium_init() was called before. */
static inline void
hash_key_init(struct hash_key *key)
{
	randombytes_buf(key->bytes, sizeof(key->bytes));
}

/* The hash of bytes[len]. Inline: one is computed for many messages. */
static inline uint32_t
hash_keyed(const struct hash_key *key, const void *bytes, size_t len)
{
	uint8_t out[crypto_shorthash_BYTES];
	uint32_t hash;

	crypto_shorthash(out, bytes, len, key->bytes);
	memcpy(&hash, out, sizeof(hash));
	return hash;
}

#endif
