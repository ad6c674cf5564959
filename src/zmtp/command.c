/* SPDX-License-Identifier: MIT */
#include "zmtp/command.h"

#include <string.h>

#include "zmtp/frame.h"

static const struct {
	const char *name;
	enum command_kind kind;
} known[] = {
	{"READY", COMMAND_READY},
	{"ERROR", COMMAND_ERROR},
	{"PING", COMMAND_PING},
	{"PONG", COMMAND_PONG},
	{"SUBSCRIBE", COMMAND_SUBSCRIBE},
	{"CANCEL", COMMAND_CANCEL},
	{"DRAINING", COMMAND_DRAINING},
	{"BYE", COMMAND_BYE},
};

struct command
command_parse(const uint8_t *p, size_t len)
{
	struct command c = {COMMAND_UNKNOWN, NULL, 0};

	if (len == 0)
		return c;
	if ((size_t)p[0] + 1 > len) {
		c.kind = COMMAND_MALFORMED;
		return c;
	}
	c.data = p + 1 + p[0];
	c.len = len - 1 - p[0];
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strlen(known[i].name) == p[0] && memcmp(known[i].name, p + 1, p[0]) == 0)
			c.kind = known[i].kind;
	return c;
}

/*
 * Writes the header and name of a short command whose data has `len` bytes; returns where the data
 * goes.
 */
static uint8_t *
begin(uint8_t *out, const char *name, size_t len)
{
	size_t name_len = strlen(name);

	out += frame_encode(out, WIRE_FLAG_COMMAND, 1 + name_len + len);
	*out++ = (uint8_t)name_len;
	memcpy(out, name, name_len);
	return out + name_len;
}

size_t
command_put_ping(uint8_t *out, unsigned ttl)
{
	uint8_t *p = begin(out, "PING", 2);

	*p++ = (uint8_t)(ttl >> 8);
	*p++ = (uint8_t)ttl;
	return (size_t)(p - out);
}

size_t
command_put_pong(uint8_t *out, const uint8_t *context, size_t len)
{
	uint8_t *p;

	if (len > WIRE_PING_CONTEXT_MAX)
		len = WIRE_PING_CONTEXT_MAX;
	p = begin(out, "PONG", len);
	if (len > 0)
		memcpy(p, context, len);
	return (size_t)(p - out) + len;
}

size_t
command_put_draining(uint8_t *out)
{
	return (size_t)(begin(out, "DRAINING", 0) - out);
}

size_t
command_put_bye(uint8_t *out)
{
	return (size_t)(begin(out, "BYE", 0) - out);
}

size_t
command_put_error(uint8_t *out, const char *reason)
{
	size_t len = strnlen(reason, 200);
	uint8_t *p = begin(out, "ERROR", 1 + len);

	*p++ = (uint8_t)len;
	memcpy(p, reason, len);
	return (size_t)(p - out) + len;
}
