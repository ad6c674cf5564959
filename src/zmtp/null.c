/* SPDX-License-Identifier: MIT */
/* The NULL mechanism: both sides send READY at once, and nothing else. */
#include <string.h>

#include "zmtp/command.h"
#include "zmtp/mechanism.h"
#include "zmtp/session.h"

static void
null_on_greeting(struct session *s)
{
	session_put_ready(s);
}

static enum mechanism_result
null_on_command(struct session *s, const uint8_t *p, size_t len)
{
	struct command c = command_parse(p, len);

	if (c.kind == COMMAND_READY)
		return session_take_metadata(s, c.data, c.len);
	if (c.kind == COMMAND_ERROR)
		return session_take_error(s, c.data, c.len);
	session_fail(s, CLOSE_PROTOCOL_ERROR,
		c.kind == COMMAND_MALFORMED ? "malformed command in the handshake"
					    : "unexpected command in the handshake");
	return MECHANISM_BAD;
}

const struct mechanism mechanism_null = {"NULL", null_on_greeting, null_on_command};
