/* SPDX-License-Identifier: MIT */
#include "zmtp/metadata.h"

#include <string.h>
#include <strings.h>

#include "zmtp/wire.h"

static bool
name_is(const uint8_t *p, size_t len, const char *name)
{
	return strlen(name) == len && strncasecmp((const char *)p, name, len) == 0;
}

const char *
metadata_parse(struct metadata *out, const uint8_t *p, size_t len)
{
	*out = (struct metadata){0};
	while (len > 0) {
		size_t name_len = p[0], value_len;
		const uint8_t *name = p + 1, *value;

		if (name_len == 0)
			return "metadata name is empty";
		if (len < 1 + name_len + 4)
			return "metadata is cut off";
		value = name + name_len + 4;
		value_len = (size_t)value[-4] << 24 | (size_t)value[-3] << 16 |
			(size_t)value[-2] << 8 | value[-1];
		if (len - (1 + name_len + 4) < value_len)
			return "metadata is cut off";
		if (name_is(name, name_len, "Socket-Type")) {
			out->socket_type = value;
			out->socket_type_len = value_len;
		} else if (name_is(name, name_len, "Identity")) {
			out->identity = value;
			out->identity_len = value_len;
		} else if (name_is(name, name_len, WIRE_HEARS_DRAINING)) {
			out->hears_draining = true;
		}
		len -= 1 + name_len + 4 + value_len;
		p = value + value_len;
	}
	return NULL;
}

size_t
metadata_put(uint8_t *out, const char *name, const void *value, size_t len)
{
	size_t name_len = strlen(name);
	uint8_t *p = out;

	*p++ = (uint8_t)name_len;
	memcpy(p, name, name_len);
	p += name_len;
	for (int shift = 24; shift >= 0; shift -= 8)
		*p++ = (uint8_t)(len >> shift);
	if (len > 0)
		memcpy(p, value, len);
	return (size_t)(p - out) + len;
}
