/* SPDX-License-Identifier: MIT */
/*
 * The ZMTP engine on exchanges: the input says what a peer sends, then what is
 * broken in it, then (from its end backwards) in what pieces it arrives. Whole
 * and in pieces it must give the same events; what was not broken must come out
 * as it went in; what was only cut must come out as far as it goes.
 */
#include <stdbool.h>
#include <stdio.h>

#include "fuzz.h"
#include "zmtp/command.h"
#include "zmtp/frame.h"
#include "zmtp/metadata.h"
#include "zmtp/session.h"

enum {
	WIRE_ENOUGH = 1 << 15, /* nothing new is begun after this */
	WIRE_MAX = 1 << 18,    /* which leaves room for the largest message and command */
	FRAMES_MAX = 256,
	PROPERTIES_MAX = 8,
	MUTATIONS_MAX = 8
};

/* --- bytes ---------------------------------------------------------------- */

struct bytes {
	uint8_t *p;
	size_t len, size;
};

/* Room for `len` more, which the caller fills. */
static uint8_t *
grow(struct bytes *b, size_t len)
{
	b->len += len;
	if (b->len > b->size) {
		b->size = b->len * 2;
		b->p = realloc(b->p, b->size);
		assert(b->p != NULL);
	}
	return b->p + b->len - len;
}

static void
append(struct bytes *b, const void *p, size_t len)
{
	if (len > 0)
		memcpy(grow(b, len), p, len);
}

static void
append_byte(struct bytes *b, uint8_t byte)
{
	*grow(b, 1) = byte;
}

/* --- events as text, so that two runs can be compared --------------------- */

/*
 * The events of a session: S and one byte for each byte to be sent, R and who the
 * peer is, M, a length and the wire image of a message. A prefix of the bytes
 * that went in gives a prefix of this.
 */
static void
log_send(struct bytes *log, const uint8_t *p, size_t len)
{
	uint8_t *to = grow(log, 2 * len);

	for (size_t i = 0; i < len; i++) {
		*to++ = 'S';
		*to++ = p[i];
	}
}

static void
log_ready(struct bytes *log, enum socktype type, unsigned minor, const uint8_t *id, size_t len)
{
	append_byte(log, 'R');
	append_byte(log, (uint8_t)type);
	append_byte(log, (uint8_t)minor);
	append_byte(log, (uint8_t)len);
	append(log, id, len);
}

static void
log_message(struct bytes *log, const uint8_t *p, size_t len)
{
	uint32_t size = (uint32_t)len;

	append_byte(log, 'M');
	append(log, &size, sizeof(size));
	append(log, p, len);
}

/* --- what the peer sends -------------------------------------------------- */

struct exchange {
	struct session_config config;
	struct bytes wire, log;   /* what goes in, and what must come of it */
	size_t whole;             /* wire.len before anything was broken */
	struct bytes message;     /* the message under way, as it will come out */
	bool midway[WIRE_MAX];    /* after so many bytes something is there only in part */
	size_t frame[FRAMES_MAX]; /* where frames begin, for mutations of their lengths */
	size_t frames;            /* of them */
	bool bad;                 /* it ends with an offence ... */
	enum close_reason reason; /* ... of this kind */
	uint32_t ping_ttl;
};

static struct exchange x;

static void
some_bytes(struct bytes *b, struct input *in, size_t len)
{
	uint8_t seed = input_byte(in), *to = len > 0 ? grow(b, len) : NULL;

	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)(seed + i * (seed | 1u));
}

/*
 * A frame's header: the flags as given, the length short where `want_long` does
 * not ask for more than it needs. Returns where it begins.
 */
static size_t
put_header(uint8_t flags, uint64_t length, bool want_long)
{
	uint8_t header[WIRE_LONG_HEADER];
	size_t at = x.wire.len, n = 2;

	header[0] = (uint8_t)(flags & ~WIRE_FLAG_LONG);
	header[1] = (uint8_t)length;
	if (want_long || length > WIRE_SHORT_MAX) {
		header[0] |= WIRE_FLAG_LONG;
		for (int i = 8; i > 0; i--, length >>= 8)
			header[i] = (uint8_t)length;
		n = WIRE_LONG_HEADER;
	}
	append(&x.wire, header, n);
	if (x.frames < FRAMES_MAX)
		x.frame[x.frames++] = at;
	return at;
}

/* The frame from `at` to the end of the wire is complete now. */
static void
end_frame(size_t at, bool inside)
{
	assert(x.wire.len < WIRE_MAX);
	memset(x.midway + at + 1, true, x.wire.len - at - 1);
	x.midway[x.wire.len] = inside;
}

static void
put_greeting(struct input *in)
{
	static const uint8_t revisions[] = {3, 3, 3, 3, 4, 2, 255, 3};
	uint8_t g[WIRE_GREETING_SIZE] = {0xff};
	unsigned choice = input_byte(in);

	if (choice & 64)
		for (int i = 1; i < 9; i++)
			g[i] = input_byte(in);
	g[9] = choice & 64 ? 0x7f : 0x01;
	g[10] = revisions[choice % 8];
	g[11] = choice & 16 ? input_byte(in) : choice >> 3 & 1;
	memcpy(g + 12, "NULL", 4);
	g[32] = choice >> 5 & 1;
	if (choice & 128)
		for (int i = 33; i < WIRE_GREETING_SIZE; i += 5)
			g[i] = input_byte(in);
	append(&x.wire, g, sizeof(g));
}

static void
put_property(struct bytes *b, struct input *in, const char *name, const void *value, size_t len)
{
	uint8_t buf[600];
	size_t n = metadata_put(buf, name, value, len);
	unsigned casing = input_byte(in);

	for (size_t i = 1; i <= strlen(name); i++)
		if (casing >> i % 8 & 1 && buf[i] != '-')
			buf[i] ^= 0x20;
	append(b, buf, n);
}

/* READY with what it needs and more, in any order; of a repeated property the last holds. */
static void
put_ready(struct input *in)
{
	struct bytes body = {0}, id = {0};
	const struct session_config *c = &x.config;
	enum socktype type = c->type == SOCKTYPE_ROUTER ? SOCKTYPE_DEALER : SOCKTYPE_ROUTER;
	unsigned count = input_byte(in) % PROPERTIES_MAX, how;
	bool typed = false;
	size_t at;

	append(&body, "\5READY", 6);
	for (unsigned i = 0; i <= count || !typed; i++) {
		how = i > count ? 0 : input_byte(in);
		switch (how % 4) {
		case 0:
			if (how & 4)
				type = c->type == SOCKTYPE_ROUTER ? SOCKTYPE_REQ : SOCKTYPE_REP;
			typed = true;
			put_property(&body, in, "Socket-Type", socktype_name(type),
				strlen(socktype_name(type)));
			break;
		case 1:
			id.len = 0;
			some_bytes(&id, in, input_byte(in));
			if (id.len > 0 && id.p[0] == 0)
				id.p[0] = 1;
			put_property(&body, in, "Identity", id.p, id.len);
			break;
		case 2:
			put_property(&body, in, "X-Trace", "on", how >> 7 ? 2 : 0);
			break;
		default:
			put_property(
				&body, in, "Resource", body.p, body.len < 300 ? body.len : 300);
		}
	}
	how = input_byte(in);
	at = put_header(WIRE_FLAG_COMMAND | (how & 0xf9), body.len, how & WIRE_FLAG_LONG);
	append(&x.wire, body.p, body.len);
	end_frame(at, false);
	log_ready(&x.log, type, x.wire.p[10] == 3 ? x.wire.p[11] : 1, id.p, id.len);
	free(body.p);
	free(id.p);
}

/* A greeting that is wrong from some byte on: what the bytes before it allowed is sent. */
static void
put_bad_greeting(struct input *in)
{
	uint8_t g[WIRE_GREETING_SIZE], ours[WIRE_GREETING_SIZE];
	unsigned choice = input_byte(in), wrong;

	greeting_encode(g, "NULL", false);
	greeting_encode(ours, "NULL", false);
	x.bad = true;
	x.reason = CLOSE_PROTOCOL_ERROR;
	switch (choice % 4) {
	case 0: /* no signature: an identity of ZMTP 1.0, or something else altogether */
		g[0] = choice & 4 ? (uint8_t)(1 + choice / 8u) : 0;
		g[1] = input_byte(in);
		wrong = g[0] == 0 ? 0 : 1;
		break;
	case 1: /* the same, a length of 8 bytes */
		g[9] = (uint8_t)(choice & 0xfe);
		wrong = 9;
		break;
	case 2: /* ZMTP 1.0 or 2.0 */
		g[10] = choice >> 2 & 1;
		wrong = 10;
		break;
	default:
		wrong = 12 + choice / 4u % 20u;
		g[wrong] ^= (uint8_t)(1u << input_byte(in) % 8u);
		x.reason = CLOSE_MECHANISM_MISMATCH;
	}
	log_send(&x.log, ours, wrong < 10 ? 10 : wrong < 11 ? 11 : 64);
	append(&x.wire, g, choice & 128 ? wrong + 1 : sizeof(g));
}

/* A command whose body is `name` and `data`, between two frames. */
static void
put_command(struct input *in, const char *name, const uint8_t *data, size_t len, bool inside)
{
	unsigned how = input_byte(in);
	size_t name_len = strlen(name);
	size_t at = put_header(
		WIRE_FLAG_COMMAND | (how & 0xf9), 1 + name_len + len, how & WIRE_FLAG_LONG);

	append_byte(&x.wire, (uint8_t)name_len);
	append(&x.wire, name, name_len);
	append(&x.wire, data, len);
	end_frame(at, inside);
}

static void
some_command(struct input *in, bool inside)
{
	static const char *const names[] = {"PING", "PONG", "SUBSCRIBE", "CANCEL", "SESAME", ""};
	unsigned kind = input_byte(in) % 8;
	struct bytes data = {0};
	uint8_t pong[COMMAND_PING_MAX];
	size_t most = x.config.max_message_size, at;

	if (most < WIRE_COMMAND_KEEP)
		most = WIRE_COMMAND_KEEP;
	if (kind == 6) {
		at = put_header(WIRE_FLAG_COMMAND, 0, input_byte(in) & 1);
		end_frame(at, inside);
		return;
	}
	if (kind == 7) { /* a name longer than its frame: passed over */
		some_bytes(&data, in, input_byte(in) % 64u);
		at = put_header(WIRE_FLAG_COMMAND, 1 + data.len, false);
		append_byte(&x.wire, 255);
		append(&x.wire, data.p, data.len);
		end_frame(at, inside);
		free(data.p);
		return;
	}
	if (kind == 0) {
		unsigned ttl = input_u16(in);

		append_byte(&data, (uint8_t)(ttl >> 8));
		append_byte(&data, (uint8_t)ttl);
		some_bytes(&data, in, input_byte(in) % 40u);
		x.ping_ttl = ttl * 100;
		log_send(&x.log, pong, command_put_pong(pong, data.p + 2, data.len - 2));
	} else {
		some_bytes(&data, in, input_upto(in, most - 10));
	}
	put_command(in, names[kind], data.p, data.len, inside);
	free(data.p);
}

static void
put_message(struct input *in)
{
	size_t parts = 1 + input_byte(in) % x.config.max_message_parts;
	size_t left = (size_t)x.config.max_message_size, at;

	x.message.len = 0;
	for (size_t i = 0; i < parts; i++) {
		bool more = i + 1 < parts;
		unsigned how = input_byte(in);
		size_t len = how & 1 ? input_upto(in, left)
				     : input_byte(in) % (left < 16 ? left + 1 : 16);
		size_t from;

		at = put_header((uint8_t)((how & 0xf8) | more), len, how & WIRE_FLAG_LONG);
		some_bytes(&x.wire, in, len);
		end_frame(at, more);
		from = x.message.len;
		append(&x.message, x.wire.p + at, x.wire.len - at);
		x.message.p[from] &= WIRE_FLAG_MORE | WIRE_FLAG_LONG;
		left -= len;
		while (more && how & 4 && x.wire.len < WIRE_ENOUGH) {
			some_command(in, true);
			how = input_byte(in);
		}
	}
	log_message(&x.log, x.message.p, x.message.len);
}

/* A handshake that must end the session. */
static void
put_bad_handshake(struct input *in)
{
	static const struct {
		enum close_reason reason;
		const char *name, *data;
		uint8_t len; /* of data */
	} bad[] = {
		{CLOSE_INCOMPATIBLE_SOCKET_TYPE, "READY", "\13Socket-Type\0\0\0\3SUB", 19},
		{CLOSE_INCOMPATIBLE_SOCKET_TYPE, "READY", "\13Socket-Type\0\0\0\0", 16},
		{CLOSE_INCOMPATIBLE_SOCKET_TYPE, "READY", "\13Socket-Type\0\0\0\6dealer", 22},
		{CLOSE_PROTOCOL_ERROR, "READY", "\10Identity\0\0\0\1x", 14},
		{CLOSE_PROTOCOL_ERROR, "READY", "\13Socket-Type\0\0\0\4REQ", 19},
		{CLOSE_PROTOCOL_ERROR, "READY", "\13Socket-Type\377\377\377\377REQ", 19},
		{CLOSE_PROTOCOL_ERROR, "READY", "\0\0\0\0\0", 5},
		{CLOSE_PEER_CLOSED, "ERROR", "\7go away", 8},
		{CLOSE_PEER_CLOSED, "ERROR", "\377go away", 8},
		{CLOSE_PEER_CLOSED, "ERROR", "", 0},
		{CLOSE_PROTOCOL_ERROR, "PING", "\0\0", 2},
		{CLOSE_PROTOCOL_ERROR, "HELLO", "", 0},
	};
	unsigned choice = input_byte(in), how = choice % 16;
	uint8_t error[256];
	struct bytes body = {0};

	x.bad = true;
	x.reason = CLOSE_PROTOCOL_ERROR;
	if (how < 12) {
		x.reason = bad[how].reason;
		if (x.reason == CLOSE_INCOMPATIBLE_SOCKET_TYPE)
			log_send(&x.log, error,
				command_put_error(error, "Incompatible socket type"));
		put_command(in, bad[how].name, (const uint8_t *)bad[how].data, bad[how].len, false);
	} else if (how == 12) { /* a message before READY */
		put_header(choice >> 7, choice & 64 ? 0 : input_byte(in), choice & 32);
	} else if (how == 13) {
		put_header(WIRE_FLAG_COMMAND, WIRE_HANDSHAKE_MAX + 1 + input_byte(in), true);
		x.reason = CLOSE_MESSAGE_TOO_BIG;
	} else { /* a routing id like those that are made up, or of 256 bytes and more */
		append(&body, "\13Socket-Type\0\0\0\0", 16);
		append(&body, x.config.type == SOCKTYPE_ROUTER ? "REQ" : "REP", 3);
		body.p[15] = 3;
		append(&body, "\10Identity\0\0\0\0", 13);
		if (how == 14 && x.config.type == SOCKTYPE_ROUTER) {
			append(&body, "\0\0\0\0\1", 5);
			body.p[body.len - 6] = 5;
		} else {
			body.p[body.len - 2] = 1;
			some_bytes(&body, in, 256);
		}
		x.reason = CLOSE_BAD_ROUTING_ID;
		put_command(in, "READY", body.p, body.len, false);
		free(body.p);
	}
	some_bytes(&x.wire, in, input_byte(in)); /* which nobody reads */
}

/* Something that must end the session, and nothing that came before it. */
static void
put_offence(struct input *in)
{
	uint64_t size = x.config.max_message_size;
	uint8_t data[2] = {1, 'x'};
	struct bytes text = {0};
	size_t n;

	x.bad = true;
	x.reason = CLOSE_PROTOCOL_ERROR;
	switch (input_byte(in) % 9) {
	case 0:
		put_header(0, size + 1 + input_u16(in), true);
		x.reason = CLOSE_MESSAGE_TOO_BIG;
		break;
	case 1:
		put_header(input_byte(in) & 0xf9, UINT64_MAX - input_u16(in), true);
		break;
	case 2:
		put_header(WIRE_FLAG_COMMAND, WIRE_HANDSHAKE_MAX + size + 1, true);
		x.reason = CLOSE_MESSAGE_TOO_BIG;
		break;
	case 3:
		for (uint32_t i = 0; i <= x.config.max_message_parts; i++)
			put_header(WIRE_FLAG_MORE, 0, input_byte(in) & 1);
		x.reason = CLOSE_TOO_MANY_PARTS;
		break;
	case 4:
		put_command(in, "PING", data, input_byte(in) & 1, false);
		break;
	case 5:
		put_command(in, "READY", data, sizeof(data), false);
		break;
	case 6:
		put_command(in, "ERROR", data, sizeof(data), false);
		x.reason = CLOSE_PEER_CLOSED;
		break;
	case 7: /* a reason up to its limit, longer than what is kept of it */
		n = input_byte(in);
		append_byte(&text, (uint8_t)n);
		some_bytes(&text, in, n < (size_t)size - 6 ? n : (size_t)size - 7);
		put_command(in, "ERROR", text.p, text.len, false);
		x.reason = CLOSE_PEER_CLOSED;
		free(text.p);
		break;
	default: /* two frames that fit, but not together */
		n = input_upto(in, (size_t)size);
		put_header(WIRE_FLAG_MORE, n, input_byte(in) & 1);
		some_bytes(&x.wire, in, n);
		put_header(0, size - n + 1, input_byte(in) & 1);
		x.reason = CLOSE_MESSAGE_TOO_BIG;
	}
	some_bytes(&x.wire, in, input_byte(in)); /* which nobody reads */
}

static void
configure(unsigned choice)
{
	static const uint64_t sizes[] = {1000, 300, 70000, 64, 20, 255, 256, 5000};
	static const uint8_t identity[] = "bulkhead";
	bool router = !(choice & 1);

	x.config = (struct session_config){
		.mechanism = &mechanism_null,
		.type = router ? SOCKTYPE_ROUTER : SOCKTYPE_DEALER,
		.accepts = router ? 1u << SOCKTYPE_REQ | 1u << SOCKTYPE_DEALER
				  : 1u << SOCKTYPE_REP | 1u << SOCKTYPE_ROUTER,
		.identity = identity,
		.identity_len = choice & 2 ? 8 : 0,
		.max_message_size = sizes[choice >> 2 & 7],
		.max_message_parts = choice & 32 ? 40 : 1 + (choice >> 6),
	};
}

/* Our own greeting and READY, built without the session. */
static void
log_ours(void)
{
	const char *type = socktype_name(x.config.type);
	uint8_t greeting[WIRE_GREETING_SIZE], ready[100], header[WIRE_LONG_HEADER];
	size_t n;

	greeting_encode(greeting, "NULL", false);
	log_send(&x.log, greeting, sizeof(greeting));
	memcpy(ready, "\5READY", 6);
	n = 6 + metadata_put(ready + 6, "Socket-Type", type, strlen(type));
	n += metadata_put(ready + n, "Identity", x.config.identity, x.config.identity_len);
	log_send(&x.log, header, frame_encode(header, WIRE_FLAG_COMMAND, n));
	log_send(&x.log, ready, n);
}

static void
generate(struct input *in)
{
	unsigned next;

	configure(input_byte(in));
	memset(x.midway, false, x.whole + 1); /* what the last input left */
	x.wire.len = x.log.len = x.message.len = x.frames = 0;
	x.bad = false;
	x.ping_ttl = 0;
	next = input_byte(in);
	if (next >= 0xe0)
		put_bad_greeting(in);
	else
		put_greeting(in);
	if (!x.bad)
		log_ours();
	if (next >= 0xc0 && !x.bad)
		put_bad_handshake(in);
	else if (!x.bad)
		put_ready(in);
	while (!x.bad && x.wire.len < WIRE_ENOUGH && (next = input_byte(in)) != 0) {
		if (next == 255)
			put_offence(in);
		else if (next & 1)
			put_message(in);
		else
			some_command(in, false);
	}
	x.whole = x.wire.len;
}

/* --- what is broken in it ------------------------------------------------- */

enum damage { NONE, CUT, BROKEN };

static size_t
some_place(struct input *in, size_t len)
{
	return len == 0 ? 0 : (size_t)input_u16(in) * 3 % len;
}

static enum damage
mutate(struct bytes *w, struct input *in)
{
	enum damage damage = NONE;

	for (int i = 0; i < MUTATIONS_MAX && input_left(in) > 0; i++) {
		unsigned op = input_byte(in) % 8;
		size_t at = some_place(in, w->len), n = 1 + input_byte(in) % 32u;
		struct bytes rest = {0};

		if (w->len == 0 || op == 0)
			break;
		if (op == 1) {
			w->len = at;
			damage = damage == BROKEN ? BROKEN : CUT;
			continue;
		}
		damage = BROKEN;
		if (n > w->len - at)
			n = w->len - at;
		switch (op) {
		case 2:
			w->p[at] ^= (uint8_t)(1u << n % 8);
			break;
		case 3:
			w->p[at] = input_byte(in);
			break;
		case 4: /* left out */
			memmove(w->p + at, w->p + at + n, w->len - at - n);
			w->len -= n;
			break;
		case 5: /* inserted */
			append(&rest, w->p + at, w->len - at);
			w->len = at;
			some_bytes(w, in, n);
			append(w, rest.p, rest.len);
			break;
		case 6: /* twice: a few bytes, or from some frame on */
			append(&rest, w->p + at, w->len - at);
			if (x.frames > 0 && input_byte(in) & 1)
				at = x.frame[at % x.frames] < w->len ? x.frame[at % x.frames] : 0;
			if (w->len < 2 * WIRE_ENOUGH)
				append(w, rest.p, rest.len);
			break;
		default: /* a wrong length */
			at = x.frames > 0 ? x.frame[at % x.frames] : 0;
			for (size_t j = 1; j < 9 && at + j < w->len; j++)
				if (n >> j % 5 & 1)
					w->p[at + j] = input_byte(in);
		}
		free(rest.p);
	}
	return damage;
}

/* --- how it arrives ------------------------------------------------------- */

struct run {
	struct session session;
	struct bytes log, part; /* part: of the message under way */
	enum session_event_kind last;
	enum close_reason reason;
	char detail[128];
};

/* A message is whole frames, and within the limits. */
static void
check_message(const uint8_t *p, size_t len)
{
	uint64_t size = 0;
	uint32_t parts = 0;
	bool more = true;

	while (len > 0) {
		struct frame_header h;
		int n = frame_decode(&h, p, len);

		assert(n > 0 && more && h.length <= len - (size_t)n);
		assert((h.flags & ~(WIRE_FLAG_MORE | WIRE_FLAG_LONG)) == 0);
		more = h.flags & WIRE_FLAG_MORE;
		size += h.length;
		parts++;
		p += (size_t)n + (size_t)h.length;
		len -= (size_t)n + (size_t)h.length;
	}
	assert(!more && size <= x.config.max_message_size && parts <= x.config.max_message_parts);
}

static void
on_event(struct run *r, const struct session_event *ev)
{
	struct session *s = &r->session;

	switch (r->last) {
	case SESSION_SEND:
		assert(ev->len > 0);
		log_send(&r->log, ev->data, ev->len);
		break;
	case SESSION_READY:
		log_ready(&r->log, s->peer_type, session_peer_minor(s), s->peer_identity,
			s->peer_identity_len);
		if (x.config.type == SOCKTYPE_DEALER) /* as the broker does for workers */
			session_drop_identity(s);
		break;
	case SESSION_PART:
	case SESSION_MESSAGE:
		assert(ev->len > 0);
		append(&r->part, ev->data, ev->len);
		assert(r->part.len <= x.config.max_message_size + 9u * x.config.max_message_parts);
		if (r->last == SESSION_PART)
			break;
		check_message(r->part.p, r->part.len);
		log_message(&r->log, r->part.p, r->part.len);
		r->part.len = 0;
		break;
	case SESSION_BAD:
		r->reason = ev->reason;
		snprintf(r->detail, sizeof(r->detail), "%s", ev->detail != NULL ? ev->detail : "");
		break;
	case SESSION_DISCARD: /* not in this configuration */
	case SESSION_DISCARDED:
		assert(false);
		break;
	case SESSION_COMMAND:
	case SESSION_DRAINING:
	case SESSION_BYE:
	case SESSION_MORE:
		break;
	}
}

/* One read's bytes, in a block of their own size. */
static void
pull(struct run *r, const uint8_t *data, size_t n)
{
	uint8_t *copy = exact_copy(data, n), *p = copy;
	struct session_event ev;

	do {
		size_t short_way =
			session_between(&r->session) ? session_whole(&r->session, p, n) : 0;

		r->last = session_pull(&r->session, p, n, &ev);
		assert(short_way == 0 ||
			(r->last == SESSION_MESSAGE && ev.data == p && ev.len == short_way &&
				ev.used == short_way && session_between(&r->session)));
		assert(ev.used <= n);
		p += ev.used;
		n -= ev.used;
		on_event(r, &ev);
	} while (r->last != SESSION_MORE && r->last != SESSION_BAD);
	assert(n == 0 || r->last == SESSION_BAD);
	free(copy);
}

/* The input's bytes from its end backwards, and again when they are used up. */
struct cuts {
	const uint8_t *data;
	size_t len, at;
};

static uint8_t
cut(struct cuts *c)
{
	if (c->at == 0)
		c->at = c->len;
	return c->at > 0 ? c->data[--c->at] : 0;
}

static size_t
piece(struct cuts *c, size_t left)
{
	static const uint16_t sizes[] = {
		1, 1, 2, 3, 8, 9, 10, 11, 40, 64, 100, 256, 1000, 4000, 16384, 65535};
	unsigned how = cut(c);
	size_t n = sizes[how % 16] + (how >> 4);

	return n < left ? n : left;
}

/* Whole when `cuts` is NULL. The damaged bytes know nothing about where they are midway. */
static void
play(struct run *r, const uint8_t *data, size_t len, struct cuts *cuts, enum damage damage)
{
	struct session *s = &r->session;
	struct session_event ev;
	size_t at = 0;

	session_init(s, &x.config);
	r->log.len = r->part.len = 0;
	r->last = SESSION_MORE;
	if (cuts != NULL && cut(cuts) & 1)
		pull(r, data, 0); /* the greeting leaves before anything arrives */
	do {
		size_t n = cuts != NULL ? piece(cuts, len - at) : len;
		uint64_t body = session_body_left(s);

		if (cuts != NULL && body > 1 && r->last == SESSION_MORE && cut(cuts) & 1) {
			/* read into its place, except its last byte */
			n = n < body - 1 ? n : (size_t)body - 1;
			append(&r->part, data + at, n);
			session_took(s, n);
		} else {
			pull(r, data + at, n);
		}
		at += n;
		if (damage != BROKEN && !x.bad && r->last != SESSION_BAD)
			assert(session_midway(s) == x.midway[at]);
	} while (at < len && r->last != SESSION_BAD);
	if (r->last == SESSION_BAD) { /* final */
		uint8_t more[64] = {0};
		assert(session_pull(s, more, sizeof(more), &ev) == SESSION_BAD);
		assert(ev.used == 0 && ev.reason == r->reason && strcmp(ev.detail, r->detail) == 0);
	}
}

static void
finish(struct run *r)
{
	session_fini(&r->session);
	free(r->log.p);
	free(r->part.p);
}

/* The events of the generated bytes: of all of them, or of their beginning. */
static void
check_outcome(const struct run *r, enum damage damage)
{
	assert(r->log.len <= x.log.len && memcmp(r->log.p, x.log.p, r->log.len) == 0);
	if (damage == CUT) {
		assert(r->last == SESSION_MORE ||
			(x.bad && r->last == SESSION_BAD && r->reason == x.reason));
		return;
	}
	assert(r->log.len == x.log.len);
	assert(r->last == (x.bad ? SESSION_BAD : SESSION_MORE));
	assert(!x.bad || r->reason == x.reason);
	assert(x.bad || (!session_midway(&r->session) && r->part.len == 0));
	assert(r->session.ping_ttl == x.ping_ttl);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct run whole, pieces;
	struct input in = {data, data + len};
	enum damage damage;

	generate(&in);
	damage = mutate(&x.wire, &in);
	whole = pieces = (struct run){0};
	play(&whole, x.wire.p, x.wire.len, NULL, damage);
	play(&pieces, x.wire.p, x.wire.len, &(struct cuts){data, len, 0}, damage);

	assert(whole.last == pieces.last && whole.log.len == pieces.log.len);
	assert(memcmp(whole.log.p, pieces.log.p, whole.log.len) == 0);
	assert(whole.session.ping_ttl == pieces.session.ping_ttl);
	if (whole.last == SESSION_BAD) {
		assert(whole.reason == pieces.reason && strcmp(whole.detail, pieces.detail) == 0);
	} else {
		/* so much of a message as is there is the same as well */
		assert(session_midway(&whole.session) == session_midway(&pieces.session));
		assert(whole.part.len == pieces.part.len);
		assert(whole.part.len == 0 ||
			memcmp(whole.part.p, pieces.part.p, whole.part.len) == 0);
	}
	if (damage != BROKEN) {
		check_outcome(&whole, damage);
		check_outcome(&pieces, damage);
	}
	finish(&whole);
	finish(&pieces);
	return 0;
}
