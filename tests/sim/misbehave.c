/* SPDX-License-Identifier: MIT */
/*
 * How peers misbehave: lies, messages that are cut, connections that end.
 */
#include <string.h>

#include "base/clock.h"
#include "peers.h"
#include "sim.h"

/* --- lies ----------------------------------------------------------------- */

#define BYTES(text) net_peer_write(s, text, sizeof(text) - 1)

static void
lie_early(struct peer_sim *p)
{
	struct sock *s = p->sock;
	uint8_t bytes[1024];

	switch (rnd(8)) {
	case 0:
		BYTES("GET / HTTP/1.1\r\nHost: here\r\n\r\n");
		return;
	case 1: /* ZMTP 2.0 */
		BYTES("\xff\0\0\0\0\0\0\0\1\x7f\1\5\0\0");
		return;
	case 2:
		peer_make_handshake(p, bytes);
		memcpy(bytes + 12, "PLAIN", 5);
		net_peer_write(s, bytes, 64);
		return;
	case 3:
		peer_make_handshake(p, bytes);
		net_peer_write(s, bytes, 64);
		BYTES("\4\31\5READY\13Socket-Type\0\0\0\3PUB");
		return;
	case 4:
		peer_make_handshake(p, bytes);
		net_peer_write(s, bytes, 64);
		BYTES("\4\7\5READY\1"); /* a property without a name */
		return;
	case 5: /* an id of the form that the daemon generates */
		peer_make_handshake(p, bytes);
		net_peer_write(s, bytes, 64);
		BYTES("\4\50\5READY\13Socket-Type\0\0\0\3REQ\10Identity\0\0\0\2\0x");
		return;
	case 6: /* an ERROR instead of READY */
		peer_make_handshake(p, bytes);
		net_peer_write(s, bytes, 64);
		BYTES("\4\7\5ERROR\0");
		return;
	default: /* a message before READY */
		peer_make_handshake(p, bytes);
		net_peer_write(s, bytes, 64);
		BYTES("\0\5hello");
	}
}

/* Each of these ends the connection, and no later byte counts. */
static void
lie_late(struct peer_sim *p)
{
	struct sock *s = p->sock;
	const struct proxy_opts *o = &world.proxy_config.side[p->side].opts;
	uint64_t size = (uint64_t)o->side.max_message_size + 1;
	uint8_t header[9] = {2};

	switch (rnd(world.flight ? 6 : 7)) {
	case 0:
		BYTES("\2\xff\xff\xff\xff\xff\xff\xff\xff");
		break;
	case 1:
		for (int i = 0; i < 8; i++)
			header[1 + i] = (uint8_t)(size >> (56 - 8 * i));
		net_peer_write(s, header, 9);
		break;
	case 2:
		for (int64_t i = 0; i <= o->side.max_message_parts; i++)
			BYTES("\1\0");
		break;
	case 3:
		BYTES("\4\31\5READY\13Socket-Type\0\0\0\3REQ");
		break;
	case 4:
		BYTES("\4\5\4PING");
		break;
	case 5:
		BYTES("\4\7\5ERROR\0");
		break;
	default:
		s->fuzzy = world.babble = true;
		for (int i = 0; i < 50; i++) {
			uint8_t b = (uint8_t)rnd(256);
			net_peer_write(s, &b, 1);
		}
	}
}

void
peer_lie(struct peer_sim *p)
{
	char text[64];

	trace("%s breaks the protocol", peer_describe(p, text, sizeof(text)));
	count_fault(FAULT_LIE);
	if (p->greeted == 0)
		lie_early(p);
	else
		lie_late(p);
	p->greeted = 1;
	p->finished_writing = true;
	p->ends_at = world.now + between(1, 60000); /* then it closes, unless the daemon did */
}

/* --- ends ----------------------------------------------------------------- */

void
peer_leave(struct peer_sim *p)
{
	char text[64];

	peer_describe(p, text, sizeof(text));
	switch (p->finished_writing ? rnd(2) : rnd(4)) {
	case 0:
		trace("%s closes", text);
		count_fault(FAULT_CLOSE);
		net_peer_close(p->sock);
		break;
	case 1:
		trace("%s resets", text);
		count_fault(FAULT_RESET);
		net_peer_reset(p->sock);
		break;
	case 2:
		trace("%s shuts its half", text);
		count_fault(FAULT_HALF_CLOSE);
		net_peer_shutdown(p->sock);
		p->finished_writing = true;
		p->ends_at = world.now + between(100, 60000);
		break;
	default:
		trace("%s vanishes", text);
		count_fault(FAULT_VANISH);
		net_peer_vanish(p->sock);
	}
}

static void
cut_message(struct peer_sim *p)
{
	char text[64];

	trace("%s stops inside a message", peer_describe(p, text, sizeof(text)));
	count_fault(FAULT_CUT);
	p->finished_writing = true;
	p->ends_at = world.now + between(0, 120000);
	if (!p->ready && !p->eager)
		return;
	if (p->side == PROXY_FRONTEND)
		message_write(p->sock, message_request(p, false), 1 + rnd(300));
	else
		message_write(p->sock, message_bad_reply(p, 1), 1 + rnd(300));
}

void
peer_reach_end(struct peer_sim *p)
{
	char text[64];

	p->ends_at = CLOCK_NEVER;
	switch (p->temper) {
	case STOPS:
		trace("%s stops reading", peer_describe(p, text, sizeof(text)));
		count_fault(FAULT_STOP_READING);
		p->stops_until = world.now + between(10, chance(500) ? 2000 : 120000);
		p->ends_at = p->stops_until + between(10, 20000);
		if (world.flight && chance(500)) {
			count_fault(FAULT_FROZEN);
			p->frozen_until = p->stops_until;
		}
		break;
	case MUTE:
		if (p->side == PROXY_FRONTEND) {
			trace("%s stops reading for good", peer_describe(p, text, sizeof(text)));
			count_fault(FAULT_STOP_READING);
			p->stops_until = CLOCK_NEVER;
		}
		break;
	case CUTS:
		if (p->finished_writing)
			peer_leave(p);
		else
			cut_message(p);
		break;
	case LIES:
		if (p->finished_writing)
			peer_leave(p);
		else
			peer_lie(p);
		break;
	default:
		peer_leave(p);
	}
}
