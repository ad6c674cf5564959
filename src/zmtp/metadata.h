/* SPDX-License-Identifier: MIT */
/*
 * Metadata of READY and INITIATE (RFC 23, "Connection Metadata"): a list of
 * {name length 1, name, value length 4, value}.
 */
#ifndef BULKHEAD_ZMTP_METADATA_H
#define BULKHEAD_ZMTP_METADATA_H

#include <stdbool.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The properties that matter here; pointers into the parsed bytes. */
struct metadata {
	const uint8_t *socket_type; /* NULL: not given */
	size_t socket_type_len;
	const uint8_t *identity; /* NULL: not given */
	size_t identity_len;
	bool hears_draining; /* the peer sent WIRE_HEARS_DRAINING */
};

/*
 * Parse all of p[len]. Names are compared without regard to case; unknown names are ignored; of a
 * repeated name the last value counts. Returns NULL, or a static text that says what is wrong.
 */
const char *metadata_parse(struct metadata *out, const uint8_t *p, size_t len);

/*
 * Append the property name -> value[len] at `out`, which has 5 + strlen(name) + len bytes. Returns
 * the bytes written.
 */
size_t metadata_put(uint8_t *out, const char *name, const void *value, size_t len);

#endif
