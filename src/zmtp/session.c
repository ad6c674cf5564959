/* SPDX-License-Identifier: MIT */
#include "zmtp/session.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "zmtp/command.h"
#include "zmtp/foreign.h"
#include "zmtp/frame.h"
#include "zmtp/metadata.h"

void
session_init(struct session *s, const struct session_config *config)
{
	*s = (struct session){.config = config};
	greeting_init(&s->greeting);
}

void
session_fini(struct session *s)
{
	free(s->command);
	free(s->out);
	free(s->detail_text);
	session_drop_identity(s);
	s->command = s->out = NULL;
	s->detail_text = NULL;
}

void
session_drop_identity(struct session *s)
{
	free(s->peer_identity);
	s->peer_identity = NULL;
	s->peer_identity_len = 0;
}

void
session_fail(struct session *s, enum close_reason reason, const char *detail)
{
	if (s->phase == SESSION_CLOSED)
		return;
	s->phase = SESSION_CLOSED;
	s->bad_reason = reason;
	s->bad_detail = detail;
}

static void
put(struct session *s, const void *data, size_t len)
{
	if (s->out_len + len > s->out_size) {
		uint8_t *out = mem_try_resize(s->out, s->out_len + len);
		if (out == NULL) {
			session_fail(s, CLOSE_NO_MEMORY, NULL);
			return;
		}
		s->out = out;
		s->out_size = (uint32_t)(s->out_len + len);
	}
	memcpy(s->out + s->out_len, data, len);
	s->out_len += (uint32_t)len;
}

/* RFC 23: READY carries Socket-Type, and Identity from REQ, DEALER and ROUTER. */
void
session_put_ready(struct session *s)
{
	const struct session_config *c = s->config;
	const char *type = socktype_name(c->type);
	uint8_t body[512], header[WIRE_LONG_HEADER];
	size_t len = 6, header_len;

	memcpy(body, "\5READY", 6);
	len += metadata_put(body + len, "Socket-Type", type, strlen(type));
	if (c->type == SOCKTYPE_REQ || c->type == SOCKTYPE_DEALER || c->type == SOCKTYPE_ROUTER)
		len += metadata_put(body + len, "Identity", c->identity, c->identity_len);
	if (c->hears_draining)
		len += metadata_put(body + len, WIRE_HEARS_DRAINING, "1", 1);
	header_len = frame_encode(header, WIRE_FLAG_COMMAND, len);
	put(s, header, header_len);
	put(s, body, len);
}

static enum mechanism_result
refuse(struct session *s, enum close_reason reason, const char *detail)
{
	session_fail(s, reason, detail);
	return MECHANISM_BAD;
}

/* Makes the detail be followed by up to `max` bytes of text[len], if there is memory. */
static const char *
compose(struct session *s, const char *detail, const uint8_t *text, size_t len, size_t max)
{
	int n = (int)(len < max ? len : max);
	size_t size = strlen(detail) + (size_t)n + 2;

	if (s->detail_text != NULL || (s->detail_text = mem_try(size)) == NULL)
		return detail;
	snprintf(s->detail_text, size, "%s %.*s", detail, n, n > 0 ? (const char *)text : "");
	return s->detail_text;
}

static enum mechanism_result
refuse_for(struct session *s, enum close_reason reason, const char *detail, const uint8_t *text,
	size_t len, size_t max)
{
	return refuse(s, reason, compose(s, detail, text, len, max));
}

/* Names both halves of the misconfiguration: the type that came, and those that are accepted. */
static enum mechanism_result
refuse_type(struct session *s, const uint8_t *type, size_t len)
{
	char text[192], accepts[128];
	int n = (int)(len < 16 ? len : 16);

	snprintf(text, sizeof(text), "%.*s; this side takes %s", n, (const char *)type,
		socktype_list(s->config->accepts, accepts, sizeof(accepts)));
	return refuse_for(s, CLOSE_INCOMPATIBLE_SOCKET_TYPE, "peer is a", (const uint8_t *)text,
		strlen(text), sizeof(text));
}

enum mechanism_result
session_take_metadata(struct session *s, const uint8_t *p, size_t len)
{
	struct metadata m;
	const char *wrong = metadata_parse(&m, p, len);
	uint8_t error[256];

	if (wrong != NULL)
		return refuse(s, CLOSE_PROTOCOL_ERROR, wrong);
	if (m.socket_type == NULL && !s->config->untyped_is_dealer)
		return refuse(s, CLOSE_PROTOCOL_ERROR, "READY without Socket-Type");
	if (m.socket_type == NULL) {
		s->peer_type = SOCKTYPE_DEALER;
	} else if (!socktype_parse(&s->peer_type, (const char *)m.socket_type, m.socket_type_len) ||
		!(s->config->accepts & (1u << s->peer_type))) {
		put(s, error, command_put_error(error, "Incompatible socket type"));
		return refuse_type(s, m.socket_type, m.socket_type_len);
	}
	if (m.identity_len > WIRE_ROUTING_ID_MAX)
		return refuse(s, CLOSE_BAD_ROUTING_ID, "Identity longer than 255 bytes");
	/* the form of the ids that a ROUTER makes up: it could be another peer's id */
	if (m.identity_len == WIRE_MADE_UP_ID && m.identity[0] == 0 &&
		s->config->type == SOCKTYPE_ROUTER)
		return refuse(s, CLOSE_BAD_ROUTING_ID,
			"Identity has the form of an id that Bulkhead makes up");
	s->peer_hears_draining = m.hears_draining;
	if (m.identity_len > 0) {
		s->peer_identity = mem_try(m.identity_len);
		if (s->peer_identity == NULL)
			return refuse(s, CLOSE_NO_MEMORY, NULL);
		memcpy(s->peer_identity, m.identity, m.identity_len);
		s->peer_identity_len = (uint8_t)m.identity_len;
	}
	return MECHANISM_READY;
}

enum mechanism_result
session_take_error(struct session *s, const uint8_t *p, size_t len)
{
	size_t there = len > 0 ? len - 1 : 0; /* only the front of a long command was kept */
	size_t n = there > 0 && p[0] < there ? p[0] : there;

	return refuse_for(s, CLOSE_PEER_CLOSED, "peer sent ERROR:", p + 1, n, 64);
}

/* libzmq closes when it has read our READY, sometimes before it sends its own. */
const char *
session_end_detail(struct session *s)
{
	static const char *const hint =
		"closed on our READY, usually for its socket type; this side takes";
	char accepts[128];

	if (session_midway(s))
		return "inside a message";
	if (s->phase != SESSION_HANDSHAKE)
		return NULL;
	socktype_list(s->config->accepts, accepts, sizeof(accepts));
	return compose(s, hint, (const uint8_t *)accepts, strlen(accepts), sizeof(accepts));
}

/* --- greeting ------------------------------------------------------------- */

/* Queue as much of our greeting as the peer's bytes so far allow. */
static void
send_greeting(struct session *s)
{
	size_t may = greeting_may_send(&s->greeting);
	uint8_t ours[WIRE_GREETING_SIZE];

	if (s->greeting.sent >= may)
		return;
	greeting_encode(ours, s->config->mechanism->name, s->config->as_server);
	put(s, ours + s->greeting.sent, may - s->greeting.sent);
	s->greeting.sent = (uint8_t)may;
}

/*
 * What another protocol looks like by its first bytes, or `otherwise`. They are in the buffer,
 * except the first one when `before` is 1; later, a greeting is recognised by more than its
 * beginning.
 */
static const char *
name_stranger(const struct session *s, unsigned before, const uint8_t *buf, size_t len,
	const char *otherwise)
{
	uint8_t front[32] = {s->greeting.first};
	const char *detail;

	if (before > 1)
		return otherwise;
	if (len > sizeof(front) - before)
		len = sizeof(front) - before;
	memcpy(front + before, buf, len);
	detail = foreign_detail(front, before + len);
	return detail != NULL ? detail : otherwise;
}

static void
read_greeting(struct session *s, const uint8_t *buf, size_t len, struct session_event *ev)
{
	unsigned before = s->greeting.pos;
	enum greeting_result r =
		greeting_read(&s->greeting, buf, len, s->config->mechanism->name, &ev->used);

	/*
	 * no matter how the bytes were split: what the bytes before the wrong one allowed is sent
	 */
	if (r != GREETING_MORE && r != GREETING_DONE)
		s->greeting.pos--;
	send_greeting(s);
	if (s->phase == SESSION_CLOSED) /* no memory */
		return;
	switch (r) {
	case GREETING_MORE:
		break;
	case GREETING_DONE:
		s->phase = SESSION_HANDSHAKE;
		s->config->mechanism->on_greeting(s);
		break;
	case GREETING_NOT_ZMTP:
		session_fail(s, CLOSE_PROTOCOL_ERROR,
			name_stranger(s, before, buf, len, "not a ZMTP greeting"));
		break;
	case GREETING_VERSION_1:
		session_fail(s, CLOSE_PROTOCOL_ERROR,
			name_stranger(
				s, before, buf, len, "peer speaks ZMTP 1.0, not supported yet"));
		break;
	case GREETING_VERSION_2:
		session_fail(s, CLOSE_PROTOCOL_ERROR, "peer speaks ZMTP 2.0, not supported yet");
		break;
	case GREETING_BAD_MECHANISM:
		session_fail(s, CLOSE_MECHANISM_MISMATCH, "peer uses another security mechanism");
		break;
	}
}

/* --- commands ------------------------------------------------------------- */

/* RFC 37: a PING has a TTL of two bytes and a context of up to 16, which PONG echoes. */
static void
on_ping(struct session *s, const struct command *c)
{
	uint8_t pong[COMMAND_PING_MAX];

	if (c->len < 2) {
		session_fail(s, CLOSE_PROTOCOL_ERROR, "PING without its TTL");
		return;
	}
	s->ping_ttl = ((uint32_t)c->data[0] << 8 | c->data[1]) * 100;
	put(s, pong, command_put_pong(pong, c->data + 2, c->len - 2));
}

static void
on_traffic_command(struct session *s, const uint8_t *p, size_t len)
{
	struct command c = command_parse(p, len);

	switch (c.kind) {
	case COMMAND_PING:
		on_ping(s, &c);
		break;
	case COMMAND_READY:
		session_fail(s, CLOSE_PROTOCOL_ERROR, "a second READY");
		break;
	case COMMAND_ERROR:
		session_take_error(s, c.data, c.len);
		break;
	case COMMAND_DRAINING:
		s->said = SESSION_DRAINING;
		break;
	case COMMAND_BYE:
		s->said = SESSION_BYE;
		break;
	case COMMAND_UNKNOWN:
	case COMMAND_MALFORMED: /* libzmq ignores it as well; nothing can be confused */
	case COMMAND_PONG:
	case COMMAND_SUBSCRIBE:
	case COMMAND_CANCEL:
		break;
	}
}

static void
on_command(struct session *s, const uint8_t *p, size_t len)
{
	if (s->phase == SESSION_TRAFFIC) {
		on_traffic_command(s, p, len);
		return;
	}
	if (s->config->mechanism->on_command(s, p, len) == MECHANISM_READY) {
		s->phase = SESSION_TRAFFIC;
		s->ready_pending = true;
	}
}

/* The size of the command's buffer when `len` bytes have come: it grows with them. */
static size_t
command_room(const struct session *s, size_t len)
{
	size_t room = WIRE_COMMAND_KEEP;

	while (room < len)
		room *= 2;
	return room < s->command_keep ? room : s->command_keep;
}

/* Keeps as much of buf[n] as belongs to the kept front of the command. False: no memory. */
static bool
keep_command(struct session *s, const uint8_t *buf, size_t n)
{
	size_t left = s->command_keep - s->command_len, len;

	if (n > left)
		n = left;
	len = s->command_len + n;
	if (s->command == NULL || command_room(s, s->command_len) < len) {
		uint8_t *command = mem_try_resize(s->command, command_room(s, len) + (len == 0));

		if (command == NULL)
			return false;
		s->command = command;
	}
	if (n > 0)
		memcpy(s->command + s->command_len, buf, n);
	s->command_len = (uint32_t)len;
	return true;
}

/* Takes bytes of the command under way; true when the command was complete and was handled. */
static bool
read_command(struct session *s, const uint8_t *buf, size_t len, size_t *used)
{
	size_t n = s->body_left < len ? (size_t)s->body_left : len;

	*used += n;
	s->body_left -= n;
	if (s->body_left == 0 && s->command_len == 0) {
		/* whole in the buffer: no copy */
		on_command(s, buf, n < s->command_keep ? n : s->command_keep);
	} else {
		if (!keep_command(s, buf, n)) {
			session_fail(s, CLOSE_NO_MEMORY, NULL);
			return false;
		}
		if (s->body_left > 0)
			return false;
		on_command(s, s->command, s->command_len);
	}
	free(s->command);
	s->command = NULL;
	s->command_len = 0;
	s->in_command = false;
	return true;
}

/* --- frames --------------------------------------------------------------- */

/* Every limit is checked here, before a byte of the body is taken. */
static bool
begin_command(struct session *s, const struct frame_header *h)
{
	bool traffic = s->phase == SESSION_TRAFFIC;
	uint64_t limit = traffic ? s->config->max_message_size : WIRE_HANDSHAKE_MAX;

	if (limit < WIRE_COMMAND_KEEP)
		limit = WIRE_COMMAND_KEEP;
	if (h->length > limit) {
		session_fail(s, CLOSE_MESSAGE_TOO_BIG, "command over the limit");
		return false;
	}
	s->in_command = true;
	s->body_left = h->length;
	s->command_len = 0;
	s->command_keep = (uint32_t)h->length;
	if (traffic && s->command_keep > WIRE_COMMAND_KEEP)
		s->command_keep = WIRE_COMMAND_KEEP;
	return true;
}

/* Is it the frame of the routing id, which counts for no limit? */
static bool
is_envelope(const struct session *s, const struct frame_header *h)
{
	return s->config->enveloped && s->parts == 0 && (h->flags & WIRE_FLAG_MORE) &&
		h->length <= WIRE_ROUTING_ID_MAX;
}

/* The limit that the message under way exceeds with this frame. */
static enum session_limit
limit_passed(const struct session *s, const struct frame_header *h)
{
	uint64_t size = s->config->max_message_size;

	if (h->length > size || s->size > size - h->length)
		return SESSION_SIZE_LIMIT;
	return s->parts >= s->config->max_message_parts + s->config->enveloped ? SESSION_PARTS_LIMIT
									       : SESSION_NO_LIMIT;
}

/* Adds the frame to the message under way. False: the message would be over a limit. */
static bool
count_frame(struct session *s, const struct frame_header *h)
{
	bool envelope = is_envelope(s, h);

	if (s->over == SESSION_NO_LIMIT && !envelope)
		s->over = limit_passed(s, h);
	if (s->over != SESSION_NO_LIMIT && !s->config->enveloped) {
		if (s->over == SESSION_SIZE_LIMIT)
			session_fail(s, CLOSE_MESSAGE_TOO_BIG, "message over max_message_size");
		else
			session_fail(s, CLOSE_TOO_MANY_PARTS, "message over max_message_parts");
		return false;
	}
	if (s->over != SESSION_NO_LIMIT) {
		s->parts = 1; /* parts are not counted any more; 1 says that it is under way */
		return true;
	}
	s->size += envelope ? 0 : h->length;
	s->parts++;
	return true;
}

static bool
begin_body(struct session *s, const struct frame_header *h)
{
	if (s->phase != SESSION_TRAFFIC) {
		session_fail(s, CLOSE_PROTOCOL_ERROR, "message before READY");
		return false;
	}
	if (!count_frame(s, h))
		return false;
	s->frame_more = (h->flags & WIRE_FLAG_MORE) != 0;
	s->body_left = h->length;
	return true;
}

static enum session_event_kind
end_message(struct session *s)
{
	s->parts = 0;
	s->size = 0;
	return SESSION_MESSAGE;
}

static uint8_t
clean_flags(uint8_t flags)
{
	return flags & (WIRE_FLAG_MORE | WIRE_FLAG_LONG);
}

/*
 * A header that began in an earlier buffer. Its bytes are handed out as a piece of their own, from
 * s->header, because the buffer does not have them any more.
 */
static enum session_event_kind
finish_header(struct session *s, const uint8_t *buf, size_t len, struct session_event *ev)
{
	struct frame_header h;
	int n = 0;

	while (n == 0 && ev->used < len) {
		s->header[s->header_len++] = buf[ev->used++];
		n = frame_decode(&h, s->header, s->header_len);
	}
	if (n == 0)
		return SESSION_MORE;
	s->header_len = 0;
	if (n < 0) {
		session_fail(s, CLOSE_PROTOCOL_ERROR, "frame length of 2^63 or more");
		return SESSION_MORE;
	}
	if (h.flags & WIRE_FLAG_COMMAND) {
		if (begin_command(s, &h) &&
			read_command(s, buf + ev->used, len - ev->used, &ev->used))
			return SESSION_COMMAND;
		return SESSION_MORE;
	}
	if (!begin_body(s, &h))
		return SESSION_MORE;
	s->header[0] = clean_flags(s->header[0]);
	ev->data = s->header;
	ev->len = (size_t)n;
	return s->body_left == 0 && !s->frame_more ? end_message(s) : SESSION_PART;
}

/*
 * Takes whole frames, and the front of the last one. This is the hot loop: for a message that is
 * whole in the buffer it runs once per frame and returns one piece that spans them all.
 */
static enum session_event_kind
read_frames(struct session *s, uint8_t *buf, size_t len, struct session_event *ev)
{
	uint8_t *p = buf, *end = buf + len;
	struct frame_header h;

	ev->data = buf;
	for (;;) {
		size_t n = s->body_left < (uint64_t)(end - p) ? (size_t)s->body_left
							      : (size_t)(end - p);
		int size;

		p += n;
		s->body_left -= n;
		if (s->body_left > 0)
			break;
		if (s->parts > 0 && !s->frame_more) {
			ev->len = ev->used = (size_t)(p - buf);
			return end_message(s);
		}
		size = frame_decode(&h, p, (size_t)(end - p));
		if (size == 0) {
			s->header_len = (uint8_t)(end - p);
			memcpy(s->header, p, s->header_len);
			ev->len = (size_t)(p - buf);
			ev->used = len;
			return ev->len > 0 ? SESSION_PART : SESSION_MORE;
		}
		if (size < 0 || (h.flags & WIRE_FLAG_COMMAND)) {
			if (p > buf) /* the bytes before it are handed out first */
				break;
			ev->used = (size_t)(size > 0 ? size : 0);
			if (size < 0)
				session_fail(
					s, CLOSE_PROTOCOL_ERROR, "frame length of 2^63 or more");
			else if (begin_command(s, &h) &&
				read_command(s, p + size, (size_t)(end - p - size), &ev->used))
				return SESSION_COMMAND;
			return SESSION_MORE;
		}
		if (!begin_body(s, &h))
			return SESSION_MORE;
		p[0] = clean_flags(p[0]);
		p += size;
	}
	ev->len = ev->used = (size_t)(p - buf);
	return ev->len > 0 ? SESSION_PART : SESSION_MORE;
}

static enum session_event_kind
read_some(struct session *s, uint8_t *buf, size_t len, struct session_event *ev)
{
	if (s->phase == SESSION_GREETING) {
		read_greeting(s, buf, len, ev);
		return SESSION_COMMAND;
	}
	if (s->in_command)
		return read_command(s, buf, len, &ev->used) ? SESSION_COMMAND : SESSION_MORE;
	if (s->header_len > 0)
		return finish_header(s, buf, len, ev);
	return read_frames(s, buf, len, ev);
}

/* Takes bytes of a message that is over a limit. */
static enum session_event_kind
discard(struct session *s, enum session_event_kind kind, struct session_event *ev)
{
	if (kind == SESSION_PART)
		return SESSION_DISCARD;
	if (kind != SESSION_MESSAGE)
		return kind;
	ev->detail = s->over == SESSION_SIZE_LIMIT ? "max_message_size" : "max_message_parts";
	s->over = SESSION_NO_LIMIT;
	return SESSION_DISCARDED;
}

enum session_event_kind
session_pull(struct session *s, uint8_t *buf, size_t len, struct session_event *ev)
{
	enum session_event_kind kind = SESSION_MORE;

	ev->used = 0;
	if (s->out_len > 0) /* bytes that the last pull handed out are not valid any more */
		s->out_len = 0;
	if (s->ready_pending) {
		s->ready_pending = false;
		free(s->out); /* an idle peer must cost little */
		s->out = NULL;
		s->out_size = 0;
		return SESSION_READY;
	}
	if (s->phase == SESSION_GREETING && s->greeting.sent == 0)
		send_greeting(s);
	else if (s->phase != SESSION_CLOSED && len > 0)
		kind = read_some(s, buf, len, ev);
	if (s->over != SESSION_NO_LIMIT)
		kind = discard(s, kind, ev);
	if (s->out_len > 0) {
		ev->data = s->out;
		ev->len = s->out_len;
		return SESSION_SEND;
	}
	if (s->phase == SESSION_CLOSED) {
		ev->reason = s->bad_reason;
		ev->detail = s->bad_detail;
		return SESSION_BAD;
	}
	if (kind == SESSION_COMMAND && s->said != SESSION_MORE) {
		kind = s->said;
		s->said = SESSION_MORE;
	}
	/* a header or a greeting stage ended; there is more to read */
	if (kind == SESSION_MORE && ev->used < len)
		return SESSION_COMMAND;
	return kind;
}
