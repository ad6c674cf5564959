/* SPDX-License-Identifier: MIT */
/*
 * The codecs alone: frame, greeting, metadata, command, socket types.
 */
#include <string.h>

#include "unit.h"
#include "zmtp/command.h"
#include "zmtp/frame.h"
#include "zmtp/greeting.h"
#include "zmtp/metadata.h"
#include "zmtp/socktype.h"

START_TEST(frame_headers_round_trip)
{
	static const uint64_t lengths[] = {
		0, 1, 254, 255, 256, 65535, 65536, UINT32_MAX, (uint64_t)UINT32_MAX + 1, INT64_MAX};
	uint64_t length = lengths[_i];
	struct frame_header h;
	uint8_t wire[9];
	size_t size = frame_encode(wire, WIRE_FLAG_MORE, length);

	ck_assert_uint_eq(size, length > 255 ? 9 : 2);
	for (size_t n = 0; n < size; n++)
		ck_assert_int_eq(frame_decode(&h, wire, n), 0);
	ck_assert_int_eq(frame_decode(&h, wire, size), (int)size);
	ck_assert_uint_eq(h.length, length);
	ck_assert_uint_eq(h.flags, WIRE_FLAG_MORE | (length > 255 ? WIRE_FLAG_LONG : 0));
}
END_TEST

START_TEST(frame_length_of_2_to_63)
{
	static const uint8_t wire[9] = {WIRE_FLAG_LONG, 0x80};
	struct frame_header h;

	ck_assert_int_eq(frame_decode(&h, wire, 9), -1);
}
END_TEST

static enum greeting_result
greet(const uint8_t *p, size_t len, size_t cut, struct greeting *g)
{
	enum greeting_result r;
	size_t used;

	greeting_init(g);
	r = greeting_read(g, p, cut, "NULL", &used);
	if (r == GREETING_MORE)
		r = greeting_read(g, p + cut, len - cut, "NULL", &used);
	return r;
}

START_TEST(greetings_at_every_split)
{
	uint8_t ours[WIRE_GREETING_SIZE];
	struct greeting g;

	greeting_encode(ours, "NULL", false);
	for (size_t cut = 0; cut <= sizeof(ours); cut++) {
		ck_assert_int_eq(greet(ours, sizeof(ours), cut, &g), GREETING_DONE);
		ck_assert_uint_eq(g.minor, 1);
	}
	for (int i = 1; i < 9; i++)
		ours[i] = 0xaa; /* padding */
	ours[10] = 4;           /* a later major is taken for 3.1 */
	ours[11] = 7;
	ck_assert_int_eq(greet(ours, sizeof(ours), 3, &g), GREETING_DONE);
	ck_assert_uint_eq(g.minor, 1);
	ours[10] = 1;
	ck_assert_int_eq(greet(ours, sizeof(ours), 3, &g), GREETING_VERSION_2);
	ours[10] = 0;
	ck_assert_int_eq(greet(ours, sizeof(ours), 3, &g), GREETING_VERSION_1);
	ours[9] = 0x7e;
	ck_assert_int_eq(greet(ours, sizeof(ours), 3, &g), GREETING_VERSION_1);
	ck_assert_int_eq(greet((const uint8_t *)"\0", 1, 0, &g), GREETING_NOT_ZMTP);
	ck_assert_int_eq(greet((const uint8_t *)"\5\1", 2, 1, &g), GREETING_VERSION_1);
	ck_assert_int_eq(greet((const uint8_t *)"\5\2", 2, 1, &g), GREETING_NOT_ZMTP);
}
END_TEST

START_TEST(metadata_cut_anywhere_is_wrong)
{
	uint8_t wire[64];
	struct metadata m;
	size_t len = metadata_put(wire, "Identity", "me", 2), first = len;

	len += metadata_put(wire + len, "socket-TYPE", "REQ", 3);
	ck_assert_ptr_null(metadata_parse(&m, wire, len));
	ck_assert_uint_eq(m.identity_len, 2);
	ck_assert_mem_eq(m.socket_type, "REQ", 3);
	for (size_t n = 1; n < len; n++)
		ck_assert_msg((metadata_parse(&m, wire, n) == NULL) == (n == first), "%zu", n);
	ck_assert_ptr_null(metadata_parse(&m, wire, 0));
	ck_assert_ptr_null(m.socket_type);
	memcpy(wire + first + 12, "\xff\xff\xff\xff", 4);
	ck_assert_ptr_nonnull(metadata_parse(&m, wire, len));
	ck_assert_ptr_nonnull(metadata_parse(&m, (const uint8_t *)"\0\0\0\0\0", 5)); /* no name */
}
END_TEST

START_TEST(commands)
{
	static const uint8_t ping[] = "\4PING\1\2ctx";
	struct command c = command_parse(ping, sizeof(ping) - 1);
	uint8_t wire[256];

	ck_assert_int_eq(c.kind, COMMAND_PING);
	ck_assert_uint_eq(c.len, 5);
	ck_assert_int_eq(command_parse(ping, 4).kind, COMMAND_MALFORMED);
	ck_assert_int_eq(command_parse(ping, 0).kind, COMMAND_UNKNOWN);
	ck_assert_int_eq(command_parse((const uint8_t *)"\4ping", 5).kind, COMMAND_UNKNOWN);
	ck_assert_uint_eq(command_put_ping(wire, 655), 9);
	ck_assert_mem_eq(wire, "\4\7\4PING\2\217", 9);
	ck_assert_uint_eq(command_put_pong(wire, (const uint8_t *)"0123456789abcdefXYZ", 19), 23);
	ck_assert_mem_eq(wire, "\4\25\4PONG0123456789abcdef", 23);
	ck_assert_uint_eq(command_put_draining(wire), 11);
	ck_assert_int_eq(command_parse(wire + 2, 9).kind, COMMAND_DRAINING);
	ck_assert_uint_eq(command_put_bye(wire), 6);
	ck_assert_int_eq(command_parse(wire + 2, 4).kind, COMMAND_BYE);
	ck_assert_uint_eq(command_put_error(wire, "no"), 11);
	ck_assert_mem_eq(wire, "\4\11\5ERROR\2no", 11);
}
END_TEST

START_TEST(socket_types)
{
	enum socktype t;

	for (int a = 0; a < SOCKTYPE_COUNT; a++) {
		ck_assert(socktype_parse(&t, socktype_name(a), strlen(socktype_name(a))));
		ck_assert_int_eq(t, a);
		for (int b = 0; b < SOCKTYPE_COUNT; b++)
			ck_assert(socktype_compatible(a, b) == socktype_compatible(b, a));
	}
	ck_assert(socktype_compatible(SOCKTYPE_REQ, SOCKTYPE_ROUTER));
	ck_assert(!socktype_compatible(SOCKTYPE_REQ, SOCKTYPE_DEALER));
	ck_assert(!socktype_compatible(SOCKTYPE_SUB, SOCKTYPE_ROUTER));
	ck_assert(!socktype_parse(&t, "REQX", 4));
	ck_assert(!socktype_parse(&t, "req", 3));
}
END_TEST

UNIT_MAIN("zmtp", tcase_add_loop_test(tc, frame_headers_round_trip, 0, 10),
	tcase_add_test(tc, frame_length_of_2_to_63), tcase_add_test(tc, greetings_at_every_split),
	tcase_add_test(tc, metadata_cut_anywhere_is_wrong), tcase_add_test(tc, commands),
	tcase_add_test(tc, socket_types))
