/* SPDX-License-Identifier: MIT */
/*
 * The greeting: read whole, byte by byte and in pieces it comes to the same,
 * which is what the RFC's table says of its 64 bytes; and ours is understood.
 */
#include "fuzz.h"
#include "zmtp/greeting.h"

static const char *const mechanisms[] = {"NULL", "CURVE", "PLAIN", "TWENTY-BYTES-OF-NAME"};

struct outcome {
	enum greeting_result result;
	size_t used;
};

/* The positions one after the other, without any state: what g[len] must come to. */
static struct outcome
expect(const uint8_t *g, size_t len, const char *mechanism)
{
	char name[WIRE_MECHANISM_SIZE + 1] = {0};

	strncpy(name, mechanism, WIRE_MECHANISM_SIZE);
	if (len > 0 && g[0] == 0)
		return (struct outcome){GREETING_NOT_ZMTP, 1};
	if (len > 1 && g[0] != 0xff)
		return (struct outcome){g[1] > 1 ? GREETING_NOT_ZMTP : GREETING_VERSION_1, 2};
	if (len > 9 && g[9] % 2 == 0)
		return (struct outcome){GREETING_VERSION_1, 10};
	if (len > 10 && g[10] < 2)
		return (struct outcome){g[10] ? GREETING_VERSION_2 : GREETING_VERSION_1, 11};
	for (size_t i = 12; i < 32 && i < len; i++)
		if (g[i] != (uint8_t)name[i - 12])
			return (struct outcome){GREETING_BAD_MECHANISM, i + 1};
	if (len >= WIRE_GREETING_SIZE)
		return (struct outcome){GREETING_DONE, WIRE_GREETING_SIZE};
	return (struct outcome){GREETING_MORE, len};
}

/* Feeds it in pieces of `step` bytes, or of sizes from `sizes` when that is set. */
static struct outcome
feed(struct greeting *g, const uint8_t *data, size_t len, const char *mechanism, size_t step,
	struct input *sizes)
{
	struct outcome o = {GREETING_MORE, 0};
	size_t released = 0;

	greeting_init(g);
	do {
		size_t n = sizes != NULL ? 1 + input_last(sizes) % 24u : step, used, may;
		uint8_t *copy;

		if (n > len - o.used)
			n = len - o.used;
		copy = exact_copy(data + o.used, n);
		o.result = greeting_read(g, copy, n, mechanism, &used);
		free(copy);
		o.used += used;
		assert(used <= n && (used == n || o.result != GREETING_MORE) && g->pos == o.used);
		may = greeting_may_send(g);
		assert(may >= released && (may == 10 || may == 11 || may == 64));
		/* what an older peer would misread waits until it showed its version */
		assert(may == (g->pos < 10 ? 10 : g->pos < 11 ? 11 : 64));
		released = may;
	} while (o.result == GREETING_MORE && o.used < len);
	return o;
}

static void
check_ours(const char *mechanism, bool as_server)
{
	uint8_t ours[WIRE_GREETING_SIZE];
	struct greeting g;
	struct outcome o;

	greeting_encode(ours, mechanism, as_server);
	o = feed(&g, ours, sizeof(ours), mechanism, sizeof(ours), NULL);
	assert(o.result == GREETING_DONE && g.minor == 1 && !g.revision_2);
	assert(ours[32] == as_server);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, data + len};
	struct greeting whole, single, pieces;
	unsigned choice = input_last(&in);
	const char *mechanism = mechanisms[choice % 4];
	struct outcome want, a, b, c;

	len = input_left(&in);
	want = expect(in.p, len, mechanism);
	a = feed(&whole, in.p, len, mechanism, len, NULL);
	b = feed(&single, in.p, len, mechanism, 1, NULL);
	c = feed(&pieces, data, len, mechanism, 0, &in);
	assert(a.result == want.result && a.used == want.used);
	assert(b.result == want.result && b.used == want.used);
	assert(c.result == want.result && c.used == want.used);
	assert(whole.minor == single.minor && whole.minor == pieces.minor);
	if (want.used > 11)
		assert(whole.minor == (data[10] == 3 ? data[11] : 1));
	check_ours(mechanism, choice & 4);
	return 0;
}
