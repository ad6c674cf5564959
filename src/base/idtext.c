/* SPDX-License-Identifier: MIT */
#include "base/idtext.h"

#include <stdbool.h>
#include <string.h>

static bool
shows_as_it_is(const unsigned char *id, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (id[i] <= ' ' || id[i] >= 0x7f)
			return false;
	if (len >= 2 && id[0] == '0' && id[1] == 'x')
		return false;
	return len > 1 || id[0] != '-';
}

const char *
idtext(char out[IDTEXT_MAX], const void *id, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *p = id;
	size_t n = 0;

	if (len > IDTEXT_BYTES)
		len = IDTEXT_BYTES;
	if (len == 0) {
		out[n++] = '-';
	} else if (shows_as_it_is(p, len)) {
		memcpy(out, p, len);
		n = len;
	} else {
		out[n++] = '0';
		out[n++] = 'x';
		for (size_t i = 0; i < len; i++) {
			out[n++] = hex[p[i] >> 4];
			out[n++] = hex[p[i] & 15];
		}
	}
	out[n] = '\0';
	return out;
}
