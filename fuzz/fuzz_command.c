/* SPDX-License-Identifier: MIT */
/*
 * Commands and metadata: what parses lies inside of the bytes and, built again
 * from what was parsed, parses to the same; a second parser agrees on metadata.
 */
#include <strings.h>

#include "fuzz.h"
#include "zmtp/command.h"
#include "zmtp/frame.h"
#include "zmtp/metadata.h"

/* The body after a frame's header, whose length must be right. */
static struct command
unframe(const uint8_t *frame, size_t len)
{
	struct frame_header h;
	int size = frame_decode(&h, frame, len);

	assert(size > 0 && h.length == len - (size_t)size);
	assert((h.flags & ~WIRE_FLAG_LONG) == WIRE_FLAG_COMMAND);
	return command_parse(frame + size, (size_t)h.length);
}

static void
check_ping(const struct command *c)
{
	unsigned ttl = (unsigned)c->data[0] << 8 | c->data[1];
	uint8_t out[COMMAND_PING_MAX];
	struct command again = unframe(out, command_put_ping(out, ttl));

	assert(again.kind == COMMAND_PING && again.len == 2);
	assert(memcmp(again.data, c->data, 2) == 0);
}

static void
check_pong(const struct command *c)
{
	uint8_t out[COMMAND_PING_MAX];
	size_t want = c->len < WIRE_PING_CONTEXT_MAX ? c->len : WIRE_PING_CONTEXT_MAX;
	struct command again = unframe(out, command_put_pong(out, c->data, c->len));

	assert(again.kind == COMMAND_PONG && again.len == want);
	assert(memcmp(again.data, c->data, want) == 0);
}

static void
check_error(const struct command *c)
{
	char *reason = malloc(c->len + 1);
	uint8_t out[256];
	struct command again;
	size_t want;

	memcpy(reason, c->data, c->len);
	reason[c->len] = '\0';
	want = strnlen(reason, 200);
	again = unframe(out, command_put_error(out, reason));
	assert(again.kind == COMMAND_ERROR && again.len == 1 + want && again.data[0] == want);
	assert(memcmp(again.data + 1, reason, want) == 0);
	free(reason);
}

static bool
property_is(const uint8_t *name, size_t len, const char *want)
{
	return len == strlen(want) && strncasecmp((const char *)name, want, len) == 0;
}

/* Rebuild p[len] in out, property by property. True when all of it was in order. */
static bool
rebuild(uint8_t *out, size_t *out_len, struct metadata *last, const uint8_t *p, size_t len)
{
	size_t at = 0, to = 0;

	*last = (struct metadata){0};
	while (at < len) {
		size_t name_at = at + 1, name_len = p[at], value_at = name_at + name_len + 4;
		uint64_t value_len = 0;
		char name[256];

		if (name_len == 0 || value_at > len)
			return false;
		for (size_t i = value_at - 4; i < value_at; i++)
			value_len = value_len * 256 + p[i];
		if (value_at + value_len > len)
			return false;
		memcpy(name, p + name_at, name_len);
		name[name_len] = '\0';
		if (strlen(name) == name_len) {
			to += metadata_put(out + to, name, p + value_at, (size_t)value_len);
		} else { /* metadata_put takes no name with a zero in it */
			memcpy(out + to, p + at, value_at + (size_t)value_len - at);
			to += value_at + (size_t)value_len - at;
		}
		at = value_at + (size_t)value_len;
		if (property_is(p + name_at, name_len, "socket-type")) {
			last->socket_type = p + value_at;
			last->socket_type_len = (size_t)value_len;
		} else if (property_is(p + name_at, name_len, "IDENTITY")) {
			last->identity = p + value_at;
			last->identity_len = (size_t)value_len;
		}
	}
	*out_len = to;
	return true;
}

static void
check_metadata(const uint8_t *p, size_t len)
{
	uint8_t *out = malloc(len + 1);
	struct metadata m, want, again;
	const char *wrong = metadata_parse(&m, p, len);
	size_t out_len = 0;
	bool good = rebuild(out, &out_len, &want, p, len);

	assert(good == (wrong == NULL));
	if (good) {
		assert(m.socket_type == want.socket_type && m.identity == want.identity);
		assert(m.socket_type_len == want.socket_type_len);
		assert(m.identity_len == want.identity_len);
		assert(out_len == len && (len == 0 || memcmp(out, p, len) == 0));
		assert(metadata_parse(&again, out, out_len) == NULL);
		assert((m.socket_type == NULL) == (again.socket_type == NULL));
		assert(m.socket_type_len == again.socket_type_len);
		assert(m.identity_len == again.identity_len);
	}
	free(out);
}

static void
check_command(const uint8_t *p, size_t len)
{
	struct command c = command_parse(p, len), front;
	size_t keep = len < WIRE_COMMAND_KEEP ? len : WIRE_COMMAND_KEEP;
	uint8_t *copy = exact_copy(p, keep);

	/* of a longer command the session keeps the front only: enough to tell what it is */
	front = command_parse(copy, keep);
	if (len > 0 && p[0] + 1u <= keep)
		assert(front.kind == c.kind && front.len + (len - keep) == c.len);
	free(copy);
	if (len == 0) {
		assert(c.kind == COMMAND_UNKNOWN && c.len == 0);
		return;
	}
	if (p[0] >= len) {
		assert(c.kind == COMMAND_MALFORMED);
		return;
	}
	assert(c.kind != COMMAND_MALFORMED);
	assert(c.data == p + 1 + p[0] && c.data + c.len == p + len);
	if (c.kind == COMMAND_PING && c.len >= 2)
		check_ping(&c);
	else if (c.kind == COMMAND_PONG)
		check_pong(&c);
	else if (c.kind == COMMAND_ERROR)
		check_error(&c);
	check_metadata(c.data, c.len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint8_t *copy = exact_copy(data, len);

	check_command(copy, len);
	check_metadata(copy, len);
	free(copy);
	return 0;
}
