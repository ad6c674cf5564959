/* SPDX-License-Identifier: MIT */
/*
 * Shared by the fuzz targets: libFuzzer's entry, which replay.c calls as well,
 * and a reader that makes decisions of an input's bytes.
 */
#ifndef BULKHEAD_FUZZ_H
#define BULKHEAD_FUZZ_H

#undef NDEBUG /* the targets' checks are their purpose */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The rest of an input. After its end it reads as zeros. */
struct input {
	const uint8_t *p, *end;
};

static inline size_t
input_left(const struct input *in)
{
	return (size_t)(in->end - in->p);
}

static inline uint8_t
input_byte(struct input *in)
{
	return in->p < in->end ? *in->p++ : 0;
}

/* A byte from the back: what is decided there does not move when the front grows. */
static inline uint8_t
input_last(struct input *in)
{
	return in->p < in->end ? *--in->end : 0;
}

static inline uint16_t
input_u16(struct input *in)
{
	unsigned high = input_byte(in);

	return (uint16_t)(high << 8 | input_byte(in));
}

/* A number from 0 to most, which is below 65536; two bytes are only read when it takes them. */
static inline size_t
input_upto(struct input *in, size_t most)
{
	return (most < 256 ? input_byte(in) : input_u16(in)) % (most + 1);
}

/* p[len] in a block of just that size, so that AddressSanitizer sees a step over its end. */
static inline uint8_t *
exact_copy(const void *p, size_t len)
{
	uint8_t *copy = malloc(len);

	assert(copy != NULL || len == 0);
	if (len > 0)
		memcpy(copy, p, len);
	return copy;
}

#endif
