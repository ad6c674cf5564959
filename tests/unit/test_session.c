/* SPDX-License-Identifier: MIT */
/*
 * The engine: every vector gives the same events whole, byte by byte, and at
 * every split point.
 */
#include <stdio.h>
#include <string.h>

#include "unit.h"
#include "zmtp/session.h"

static const struct session_config config = {
	.mechanism = &mechanism_null,
	.type = SOCKTYPE_ROUTER,
	.accepts = 1u << SOCKTYPE_REQ | 1u << SOCKTYPE_DEALER | 1u << SOCKTYPE_ROUTER,
	.max_message_size = 70000,
	.max_message_parts = 4,
};

/* The side of the workers: what begins with a routing id, and is discarded where it is too large.
 */
static const struct session_config enveloped = {
	.mechanism = &mechanism_null,
	.type = SOCKTYPE_DEALER,
	.accepts = 1u << SOCKTYPE_REP | 1u << SOCKTYPE_DEALER,
	.max_message_size = 70000,
	.max_message_parts = 4,
	.enveloped = true,
	.hears_draining = true,
};

static const struct session_config *playing = &config;

static char story[1 << 20];
static size_t story_len;

static void
tell(const char *what, const uint8_t *p, size_t len)
{
	static const char hex[] = "0123456789abcdef";

	story_len += (size_t)sprintf(story + story_len, "%s", what);
	for (size_t i = 0; i < len; i++) {
		story[story_len++] = hex[p[i] >> 4];
		story[story_len++] = hex[p[i] & 15];
	}
	story_len += (size_t)sprintf(story + story_len, "\n");
	ck_assert_uint_lt(story_len, sizeof(story) - 400000);
}

/* The message under way and what is to be sent are gathered: how they are cut is not the story. */
static uint8_t part[100000], out[4096];
static size_t part_len, out_len;

static enum session_event_kind
feed(struct session *s, const uint8_t *p, size_t len)
{
	uint8_t *copy = malloc(len + 1), *at = copy;
	enum session_event_kind kind;
	struct session_event ev;

	memcpy(copy, p, len);
	do {
		/* what the short way takes, session_pull takes alike */
		size_t whole = session_between(s) ? session_whole(s, at, len) : 0;

		kind = session_pull(s, at, len, &ev);
		ck_assert_uint_le(ev.used, len);
		if (whole > 0) {
			ck_assert_int_eq(kind, SESSION_MESSAGE);
			ck_assert_ptr_eq(ev.data, at);
			ck_assert_uint_eq(ev.len, whole);
			ck_assert_uint_eq(ev.used, whole);
			ck_assert(session_between(s));
		}
		if (kind == SESSION_PART || kind == SESSION_MESSAGE) {
			memcpy(part + part_len, ev.data, ev.len);
			part_len += ev.len;
		}
		if (kind == SESSION_MESSAGE) {
			tell("message ", part, part_len);
			part_len = 0;
		}
		if (kind == SESSION_DISCARD || kind == SESSION_DISCARDED)
			part_len = 0;
		if (kind == SESSION_DISCARDED) {
			tell("discarded ", NULL, 0);
			tell(ev.detail, NULL, 0);
		}
		if (kind == SESSION_SEND) {
			memcpy(out + out_len, ev.data, ev.len);
			out_len += ev.len;
		}
		if (kind == SESSION_READY)
			tell("ready ", s->peer_identity, s->peer_identity_len);
		if (kind == SESSION_DRAINING)
			tell("draining", NULL, 0);
		if (kind == SESSION_BYE)
			tell("bye", NULL, 0);
		if (kind == SESSION_BAD)
			tell(close_reason_name(ev.reason), NULL, 0);
		at += ev.used;
		len -= ev.used;
	} while (kind != SESSION_MORE && kind != SESSION_BAD);
	free(copy);
	return kind;
}

/* Plays p[len] cut at `cut`, or byte by byte when cut is past the end. Returns the story. */
static char *
play(const uint8_t *p, size_t len, size_t cut)
{
	struct session s;
	enum session_event_kind kind;

	session_init(&s, playing);
	story_len = part_len = out_len = 0;
	kind = feed(&s, p, 0);
	if (cut > len) {
		for (size_t i = 0; i < len && kind != SESSION_BAD; i++)
			kind = feed(&s, p + i, 1);
	} else {
		kind = feed(&s, p, cut);
		if (kind != SESSION_BAD)
			kind = feed(&s, p + cut, len - cut);
	}
	if (kind != SESSION_BAD && session_midway(&s))
		tell("midway ", part, part_len);
	tell("sent ", out, out_len);
	session_fini(&s);
	return strdup(story);
}

static const char *
tale(const void *bytes, size_t len)
{
	static char *whole;
	char *other;
	size_t step = len > 2000 ? len / (size_t)unit_repeat(500, 10) : 1;

	free(whole);
	whole = play(bytes, len, len);
	for (size_t cut = 0; cut <= len; cut += step) {
		other = play(bytes, len, cut);
		ck_assert_str_eq(other, whole);
		free(other);
	}
	other = play(bytes, len, len + 1);
	ck_assert_str_eq(other, whole);
	free(other);
	return whole;
}

/* --- bytes ---------------------------------------------------------------- */

static uint8_t wire[200000];
static size_t wire_len;

static void
add(const void *p, size_t len)
{
	memcpy(wire + wire_len, p, len);
	wire_len += len;
}

static void
add_greeting(uint8_t major, uint8_t minor, const char *mechanism)
{
	uint8_t g[64] = {0xff, 1, 2, 3, 4, 5, 6, 7, 8, 0x7f, major, minor};

	memcpy(g + 12, mechanism, strlen(mechanism));
	g[32] = 1; /* as-server: ignored */
	add(g, 64);
}

static void
add_frame(uint8_t flags, const void *p, size_t len)
{
	uint8_t h[9] = {flags, (uint8_t)len};

	if (len <= 255 && !(flags & 2)) {
		add(h, 2);
	} else {
		h[0] |= 2;
		h[1] = 0;
		for (int i = 0; i < 8; i++)
			h[8 - i] = (uint8_t)((uint64_t)len >> (8 * i));
		add(h, 9);
	}
	add(p, len);
}

#define READY(type) "\5READY\13Socket-Type\0\0\0" type
static const char dealer[] = READY("\6DEALER");

static void
start(void)
{
	wire_len = 0;
	add_greeting(3, 1, "NULL");
	add_frame(4, dealer, sizeof(dealer) - 1);
}

#define BEGINS(text, with) ck_assert_msg(strncmp(text, with, strlen(with)) == 0, "%s", text)
#define HAS(text, what) ck_assert_msg(strstr(text, what) != NULL, "no %s in %s", what, text)

START_TEST(handshake)
{
	const char *t;

	start();
	t = tale(wire, wire_len);
	BEGINS(t, "ready \n");
	/* our greeting, then READY as ROUTER with an empty Identity */
	HAS(t, "sent ff00000000000000007f03014e554c4c");
	HAS(t,
		"0552454144590b536f636b65742d5479706500000006524f55544552"
		"084964656e7469747900000000");
}
END_TEST

/* A command of up to 255 bytes uses the short size, a longer one the long size (RFC 23). */
START_TEST(ready_takes_the_shortest_size)
{
	static uint8_t id[255];
	struct session_config own = config;
	struct {
		size_t id_len;
		const char *header;
	} const cases[] = {
		{0, "04290552454144590b"},
		{214, "04ff0552454144590b"},
		{215, "0600000000000001000552454144590b"},
		{255, "0600000000000001280552454144590b"},
	};

	memset(id, 'i', sizeof(id));
	playing = &own;
	own.identity = id;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		own.identity_len = cases[i].id_len;
		start();
		HAS(tale(wire, wire_len), cases[i].header);
	}
	playing = &config;
}
END_TEST

START_TEST(identity_in_any_case)
{
	static const char ready[] =
		"\5READY\13SOCKET-TYPE\0\0\0\3REQ\10identity\0\0\0\2me\3X-a\0\0\0\1b";

	wire_len = 0;
	add_greeting(3, 0, "NULL");
	add_frame(4, ready, sizeof(ready) - 1);
	BEGINS(tale(wire, wire_len), "ready 6d65\n");
}
END_TEST

/* DRAINING and BYE are events in order with the messages, and only exact ones. */
START_TEST(draining_and_bye)
{
	static const char ready[] =
		"\5READY\13Socket-Type\0\0\0\3REP\23x-bulkhead-DRAINING\0\0\0\0011";
	struct session s;

	playing = &enveloped;
	start();
	add_frame(0, "a", 1);
	add_frame(4, "\10DRAINING", 9);
	add_frame(1, "b", 1);
	add_frame(4, "\3BYE", 4);
	add_frame(0, "c", 1);
	add_frame(4, "\10DRAININGS", 10); /* data is ignored */
	add_frame(4, "\10draining", 9);
	add_frame(4, "\11DRAININGS", 10);
	add_frame(4, "\5LEAVE", 6); /* of DISH: RFC 37 */
	add_frame(6, "\3BYE", 4);
	BEGINS(tale(wire, wire_len),
		"ready \nmessage 000161\ndraining\nbye\nmessage 010162000163\ndraining\nbye\nsent "
		"");
	/* we say that we hear it; they did not */
	HAS(story,
		"13582d42756c6b686561642d447261696e696e67"
		"00000001"
		"31");
	session_init(&s, playing);
	story_len = part_len = out_len = 0;
	feed(&s, wire, wire_len);
	ck_assert(!s.peer_hears_draining);
	session_fini(&s);
	wire_len = 0;
	add_greeting(3, 1, "NULL");
	add_frame(4, ready, sizeof(ready) - 1);
	session_init(&s, playing);
	feed(&s, wire, wire_len);
	ck_assert(s.peer_hears_draining);
	session_fini(&s);
	playing = &config;
	tale(wire, wire_len);
	ck_assert(strstr(story, "582d42756c6b686561642d447261696e696e67") == NULL);
}
END_TEST

START_TEST(lengths_at_every_edge)
{
	static const size_t sizes[] = {0, 1, 254, 255, 256, 257, 65535, 65536, 70000};
	static uint8_t body[70001];
	char want[64];

	start();
	add_frame(0, body, sizes[_i]);
	add_frame(1, "", 0);
	add_frame(1, "a", 1);
	add_frame(0, "", 0);
	tale(wire, wire_len);
	BEGINS(story, "ready \nmessage ");
	snprintf(want, sizeof(want), "message %s%02x", sizes[_i] > 255 ? "02" : "00",
		sizes[_i] > 255 ? 0 : (unsigned)sizes[_i]);
	HAS(story, want);
	HAS(story, "message 01000101610000\n");
}
END_TEST

START_TEST(long_form_of_a_short_frame)
{
	start();
	add_frame(2, "hi", 2);
	HAS(tale(wire, wire_len), "message 0200000000000000026869\n");
}
END_TEST

START_TEST(reserved_bits_are_cleared)
{
	start();
	add_frame(0xf9, "a", 1);
	add_frame(0xf8, "b", 1);
	HAS(tale(wire, wire_len), "message 010161000162\n");
}
END_TEST

/* The answer of session_whole for wire[len], between messages. */
static size_t
short_way(size_t len)
{
	struct session s;
	size_t whole;

	session_init(&s, &config);
	s.phase = SESSION_TRAFFIC;
	ck_assert(session_between(&s));
	whole = session_whole(&s, wire, len);
	session_fini(&s);
	return whole;
}

START_TEST(short_way_takes_what_is_whole_and_clean)
{
	static uint8_t body[100001];
	size_t whole;

	wire_len = 0;
	add_frame(1, "id", 2);
	add_frame(3, "long form", 9);
	add_frame(0, body, 300);
	whole = wire_len;
	add_frame(0, "next", 4);
	ck_assert_uint_eq(short_way(wire_len), whole);
	for (size_t len = 0; len < whole; len++)
		ck_assert_uint_eq(short_way(len), 0);
	ck_assert_uint_eq(short_way(whole), whole);
	wire[4] |= 8; /* a reserved bit in the second frame */
	ck_assert_uint_eq(short_way(wire_len), 0);
	wire_len = 0;
	add_frame(4, "\4PING\0\7", 7);
	ck_assert_uint_eq(short_way(wire_len), 0);
	wire_len = 0;
	add_frame(1, body, config.max_message_size - 1);
	add_frame(0, body, 1);
	ck_assert_uint_eq(short_way(wire_len), wire_len);
	wire_len = 0;
	add_frame(1, body, config.max_message_size - 1);
	add_frame(0, body, 2);
	ck_assert_uint_eq(short_way(wire_len), 0);
	wire_len = 0;
	for (uint32_t i = 1; i < config.max_message_parts; i++)
		add_frame(1, "", 0);
	add_frame(0, "", 0);
	ck_assert_uint_eq(short_way(wire_len), wire_len);
	wire[wire_len - 2] = 1;
	add_frame(0, "", 0);
	ck_assert_uint_eq(short_way(wire_len), 0);
	memset(wire, 0xff, 16);
	wire[0] = 2;
	ck_assert_uint_eq(short_way(16), 0); /* a length of 2^64 - 1 */
}
END_TEST

START_TEST(commands_between_frames_are_cut_out)
{
	start();
	add_frame(1, "a", 1);
	add_frame(4, "\4PING\0\7context", 14);
	add_frame(4, "", 0);
	add_frame(5, "\4WHAT?", 6);
	add_frame(4, "\11SUBSCRIBEx", 11);
	add_frame(0, "b", 1);
	tale(wire, wire_len);
	HAS(story, "message 010161000162\n");
	HAS(story, "040c04504f4e47636f6e74657874"); /* PONG with the context */
}
END_TEST

START_TEST(pong_context_is_cut_to_16)
{
	start();
	add_frame(4, "\4PING\0\0abcdefghijklmnopqrst", 27);
	HAS(tale(wire, wire_len), "041504504f4e476162636465666768696a6b6c6d6e6f70\n");
}
END_TEST

START_TEST(refused)
{
	static const struct {
		const char *reason;
		const char *bytes;
		size_t len;
	} cases[] = {
#define BAD(reason, bytes) {reason, bytes, sizeof(bytes) - 1}
		BAD("protocol_error", "\0\1x"), /* message before READY */
		BAD("protocol_error", "\4\7\6UNREADY"),
		BAD("protocol_error", "\4\6\5READY"), /* without Socket-Type */
		BAD("protocol_error", "\4\32\5READY\13Socket-Type\0\0\0\3REQ!"),
		BAD("protocol_error", "\4\37\5READY\13Socket-Type\0\0\0\3REQ\10Ident"),
		BAD("incompatible_socket_type", "\4\31\5READY\13Socket-Type\0\0\0\3SUB"),
		BAD("bad_routing_id",
			"\4\53\5READY\13Socket-Type\0\0\0\3REQ\10Identity\0\0\0\5\0abcd"),
		BAD("message_too_big", "\6\0\0\0\0\0\0\40\1"), /* command over 8192 */
		BAD("protocol_error", "\2\200\0\0\0\0\0\0\0"), /* 2^63 */
#undef BAD
	};

	wire_len = 0;
	add_greeting(3, 1, "NULL");
	add(cases[_i].bytes, cases[_i].len);
	BEGINS(tale(wire, wire_len), cases[_i].reason);
	if (strcmp(cases[_i].reason, "incompatible_socket_type") == 0)
		HAS(story,
			"05"
			"4552524f52"); /* ERROR goes out first */
}
END_TEST

START_TEST(refused_in_traffic)
{
	static const struct {
		const char *reason;
		const char *bytes;
		size_t len;
	} cases[] = {
#define BAD(reason, bytes) {reason, bytes, sizeof(bytes) - 1}
		BAD("protocol_error", "\4\6\5READY"),  /* a second one */
		BAD("protocol_error", "\4\6\4PING\0"), /* half a TTL */
		BAD("protocol_error", "\2\377\0\0\0\0\0\0\0"),
		BAD("message_too_big", "\2\0\0\0\0\0\1\21\161"),      /* 70001, header alone */
		BAD("message_too_big", "\1\1a\2\0\0\0\0\0\1\21\160"), /* 1 + 70000 */
		BAD("message_too_big", "\2\177\377\377\377\377\377\377\377"),
		BAD("too_many_parts", "\1\0\1\0\1\0\1\0\0\0"),
		BAD("peer_closed", "\4\12\5ERROR\3why"),
#undef BAD
	};

	start();
	add(cases[_i].bytes, cases[_i].len);
	BEGINS(tale(wire, wire_len), "ready \n");
	HAS(story, cases[_i].reason);
}
END_TEST

START_TEST(over_a_limit_is_discarded)
{
	static uint8_t body[100000];
	size_t begin;

	playing = &enveloped;
	start();
	begin = wire_len;
	/* at both limits, which the routing id does not count for */
	add_frame(1, body, 255);
	add_frame(1, "", 0);
	add_frame(1, body, 69990);
	add_frame(1, "", 0);
	add_frame(0, body, 10);
	tale(wire, wire_len);
	BEGINS(story, "ready \nmessage ");
	ck_assert(strstr(story, "discarded") == NULL);
	/* one byte more, or one part more; commands inside */
	wire_len = begin;
	add_frame(1, "id", 2);
	add_frame(1, body, 69990);
	add_frame(4, "\4PING\0\7context", 14);
	add_frame(1, body, 11);
	add_frame(4, "\4PING\0\7again", 12);
	add_frame(0, body, 5);
	add_frame(0, "next", 4);
	tale(wire, wire_len);
	BEGINS(story, "ready \ndiscarded \nmax_message_size\nmessage 00046e657874\n");
	HAS(story,
		"040c04504f4e47636f6e74657874"
		"040a04504f4e47616761696e");
	wire_len = begin;
	for (int i = 0; i < 9; i++)
		add_frame(1, "p", 1);
	add_frame(0, "", 0);
	tale(wire, wire_len);
	BEGINS(story, "ready \ndiscarded \nmax_message_parts\n");
	/* what is no routing id counts: too long, or the whole message */
	wire_len = begin;
	add_frame(1, body, 256);
	add_frame(0, body, 69745);
	add_frame(0, body, 70001);
	tale(wire, wire_len);
	BEGINS(story, "ready \ndiscarded \nmax_message_size\ndiscarded \nmax_message_size\n");
	/* it may announce anything, except what the RFC forbids */
	wire_len = begin;
	add("\2\177\377\377\377\377\377\377\377xyz", 12);
	tale(wire, wire_len);
	BEGINS(story, "ready \nmidway ");
	wire_len = begin;
	add_frame(1, body, 70001);
	add("\2\200\0\0\0\0\0\0\0", 9);
	BEGINS(tale(wire, wire_len), "ready \nprotocol_error");
	playing = &config;
}
END_TEST

/* The part of a long reason that is kept is still reported. */
START_TEST(reason_of_an_error)
{
	uint8_t body[206] = "\5ERROR";
	char want[96] = "peer sent ERROR: ";
	struct session s;

	body[6] = 199;
	memset(body + 7, 'x', 199);
	memset(want + 17, 'x', _i == 0 ? 57 : 64);
	start();
	if (_i == 1) { /* in the handshake more of it is kept */
		wire_len = 0;
		add_greeting(3, 1, "NULL");
	}
	add_frame(4, body, sizeof(body));
	session_init(&s, &config);
	ck_assert_int_eq(feed(&s, wire, wire_len), SESSION_BAD);
	ck_assert_str_eq(s.bad_detail, want);
	session_fini(&s);
}
END_TEST

START_TEST(other_greetings)
{
	struct session s;

	wire_len = 0;
	add_greeting(3, 1, "PLAIN");
	BEGINS(tale(wire, wire_len), "mechanism_mismatch");
	wire_len = 0;
	add_greeting(3, 1, "NULLX");
	BEGINS(tale(wire, wire_len), "mechanism_mismatch");
	BEGINS(tale("GET / HTTP/1.1\r\n", 16), "protocol_error");

	session_init(&s, &config);
	feed(&s, (const uint8_t *)"\1\0", 2);
	ck_assert_ptr_nonnull(strstr(s.bad_detail, "ZMTP 1.0"));
	session_fini(&s);
	session_init(&s, &config);
	feed(&s, (const uint8_t *)"", 0);
	out_len = 0;
	feed(&s, (const uint8_t *)"\377\0\0\0\0\0\0\0\1\177\1\5", 12);
	ck_assert_ptr_nonnull(strstr(s.bad_detail, "ZMTP 2.0"));
	session_fini(&s);
}
END_TEST

/* Nothing that an older peer would misread leaves before it shows its version. */
START_TEST(greeting_leaves_in_stages)
{
	struct session s;

	wire_len = 0;
	add_greeting(3, 1, "NULL");
	session_init(&s, &config);
	out_len = 0;
	feed(&s, wire, 0);
	ck_assert_uint_eq(out_len, 10);
	feed(&s, wire, 9);
	ck_assert_uint_eq(out_len, 10);
	feed(&s, wire + 9, 1);
	ck_assert_uint_eq(out_len, 11);
	feed(&s, wire + 10, 1);
	ck_assert_uint_eq(out_len, 64);
	session_fini(&s);
}
END_TEST

UNIT_MAIN("session", tcase_add_test(tc, handshake), tcase_add_test(tc, draining_and_bye),
	tcase_add_test(tc, ready_takes_the_shortest_size), tcase_add_test(tc, identity_in_any_case),
	tcase_add_loop_test(tc, lengths_at_every_edge, 0, 9),
	tcase_add_test(tc, long_form_of_a_short_frame),
	tcase_add_test(tc, reserved_bits_are_cleared),
	tcase_add_test(tc, short_way_takes_what_is_whole_and_clean),
	tcase_add_test(tc, commands_between_frames_are_cut_out),
	tcase_add_test(tc, pong_context_is_cut_to_16), tcase_add_loop_test(tc, refused, 0, 9),
	tcase_add_loop_test(tc, refused_in_traffic, 0, 8),
	tcase_add_test(tc, over_a_limit_is_discarded),
	tcase_add_loop_test(tc, reason_of_an_error, 0, 2), tcase_add_test(tc, other_greetings),
	tcase_add_test(tc, greeting_leaves_in_stages))
