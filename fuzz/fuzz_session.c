/* SPDX-License-Identifier: MIT */
/*
 * The ZMTP engine on hostile bytes: fed in pieces that the input chooses, it
 * must keep to its limits, and feeding it whole must give the same messages.
 */
#include "fuzz.h"
#include "zmtp/session.h"

static const struct session_config config = {
	.mechanism = &mechanism_null,
	.type = SOCKTYPE_ROUTER,
	.accepts = 1u << SOCKTYPE_REQ | 1u << SOCKTYPE_DEALER,
	.max_message_size = 1000,
	.max_message_parts = 5,
};

/* The same for a side where messages over a limit are discarded. */
static const struct session_config enveloped = {
	.mechanism = &mechanism_null,
	.type = SOCKTYPE_ROUTER,
	.accepts = 1u << SOCKTYPE_REQ | 1u << SOCKTYPE_DEALER,
	.max_message_size = 1000,
	.max_message_parts = 5,
	.enveloped = true,
	.hears_draining = true,
};

struct result {
	uint64_t hash, part_hash, messages, discarded;
	size_t part;
	enum session_event_kind last;
	enum close_reason reason;
};

static void
add(struct result *r, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		r->part_hash = (r->part_hash ^ p[i]) * 1099511628211u;
}

static struct result
play(const struct session_config *c, const uint8_t *data, size_t len, size_t step)
{
	struct result r = {.last = SESSION_MORE};
	struct session s;

	session_init(&s, c);
	for (size_t at = 0; at < len && r.last != SESSION_BAD; at += step) {
		size_t n = len - at < step ? len - at : step;
		uint8_t *copy = exact_copy(data + at, n), *p = copy;
		struct session_event ev;

		do {
			size_t short_way = session_between(&s) ? session_whole(&s, p, n) : 0;

			r.last = session_pull(&s, p, n, &ev);
			assert(short_way == 0 ||
				(r.last == SESSION_MESSAGE && ev.data == p && ev.len == short_way &&
					ev.used == short_way && session_between(&s)));
			assert(ev.used <= n);
			if (r.last == SESSION_PART || r.last == SESSION_MESSAGE) {
				add(&r, ev.data, ev.len);
				r.part += ev.len;
				assert(r.part <= 1000 + 5 * 9 + (c->enveloped ? 9 + 255 : 0));
			}
			if (r.last == SESSION_MESSAGE) {
				r.messages++;
				r.hash = r.hash * 31 + r.part_hash;
			}
			assert(c->enveloped ||
				(r.last != SESSION_DISCARD && r.last != SESSION_DISCARDED));
			r.discarded += r.last == SESSION_DISCARDED;
			if (r.last == SESSION_MESSAGE || r.last == SESSION_DISCARD ||
				r.last == SESSION_DISCARDED)
				r.part = r.part_hash = 0;
			if (r.last == SESSION_BAD)
				r.reason = ev.reason;
			p += ev.used;
			n -= ev.used;
		} while (r.last != SESSION_MORE && r.last != SESSION_BAD);
		free(copy);
	}
	session_fini(&s);
	return r;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const struct session_config *c;
	struct result whole, pieces;

	if (len < 2)
		return 0;
	c = data[0] & 16 ? &enveloped : &config;
	whole = play(c, data + 1, len - 1, len - 1);
	pieces = play(c, data + 1, len - 1, 1u + data[0] % 16u);
	assert(whole.messages == pieces.messages && whole.last == pieces.last);
	assert(whole.discarded == pieces.discarded);
	assert(whole.last != SESSION_BAD || whole.reason == pieces.reason);
	assert(whole.last == SESSION_BAD || whole.hash == pieces.hash);
	return 0;
}
