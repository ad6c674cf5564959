/* SPDX-License-Identifier: MIT */
/*
 * Numbers of the ZMTP wire (RFC 23, RFC 37) and this implementation's caps.
 */
#ifndef BULKHEAD_ZMTP_WIRE_H
#define BULKHEAD_ZMTP_WIRE_H

/*
 * A property of READY that only Bulkhead knows (RFC 37: names that begin with X- are for
 * applications). A peer that sends it understands DRAINING, "I am about to leave: send me nothing
 * more", and answers with BYE, "this was my last message". No other peer is sent either of them.
 */
#define WIRE_HEARS_DRAINING "X-Bulkhead-Draining"

enum {
	WIRE_GREETING_SIZE = 64,
	WIRE_SIGNATURE_SIZE = 10,
	WIRE_MECHANISM_SIZE = 20,

	WIRE_FLAG_MORE = 0x01,
	WIRE_FLAG_LONG = 0x02,
	WIRE_FLAG_COMMAND = 0x04,

	WIRE_SHORT_HEADER = 2,
	WIRE_LONG_HEADER = 9,
	WIRE_SHORT_MAX = 255, /* longest body of a short frame */

	WIRE_ROUTING_ID_MAX = 255,
	WIRE_MADE_UP_ID = 5, /* bytes of an id that a ROUTER makes up: a zero and four more */
	WIRE_PING_CONTEXT_MAX = 16,
	WIRE_PING_TTL_MAX = 655, /* tenths of a second; libzmq overflows above */

	/*
	 * Our limits: the longest handshake command that is accepted, and how much of a later
	 * command is kept.
	 */
	WIRE_HANDSHAKE_MAX = 8192,
	WIRE_COMMAND_KEEP = 64
};

#endif
