/* SPDX-License-Identifier: MIT */
/*
 * Routing ids for people, the same in the log, in JSON, on the page and in tables.
 */
#ifndef BULKHEAD_BASE_IDTEXT_H
#define BULKHEAD_BASE_IDTEXT_H

#include <stddef.h>

enum {
	IDTEXT_BYTES = 255, /* of the longest routing id */
	IDTEXT_MAX = 2 + 2 * IDTEXT_BYTES + 1
};

/*
 * The id itself if it is printable ASCII without blanks (client-1), otherwise 0x and its bytes in
 * lower-case hexadecimal (0x0061ff). An id that begins with 0x, and "-", are written in
 * hexadecimal, so that each text means one id; "-" means no id (len 0). An id of more than
 * IDTEXT_BYTES bytes is cut. Returns out.
 */
const char *idtext(char out[IDTEXT_MAX], const void *id, size_t len);

#endif
