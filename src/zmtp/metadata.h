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
	bool hears_draining; /* WIRE_HEARS_DRAINING was given */
};

/*
 * Parse p[len] whole. Names are compared without regard to case; unknown ones
 * are passed over; of a repeated one the last holds. Returns NULL, or a static
 * text saying what is wrong.
 */
const char *metadata_parse(struct metadata *out, const uint8_t *p, size_t len);

/*
 * Append the property name -> value[len] at `out`; the caller has 5 +
 * strlen(name) + len bytes of room. Returns the bytes written.
 */
size_t metadata_put(uint8_t *out, const char *name, const void *value, size_t len);

#endif
