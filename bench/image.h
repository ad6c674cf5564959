/* SPDX-License-Identifier: MIT */
/*
 * image.h - the one message of a run as it stands on the wire, and a reader that checks a stream of
 * them byte for byte. An ident of 16 bytes tells which request it is; the rest is a pattern that is
 * the same in all of them.
 *
 * With an envelope the ident is a frame of its own, before the empty one that REQ and REP know:
 * a worker of any kind sends both back, whatever its answer is. Without, the ident is the front of
 * the first part.
 */
#ifndef BENCH_IMAGE_H
#define BENCH_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Which request: only its sender reads it, so its byte order is the machine's. */
struct ident {
	uint32_t client;
	uint32_t slot;
	uint64_t seq;
};

/* `ident_at` is the ident's offset; without an envelope, parts under 16 bytes have none. */
struct image {
	uint8_t *bytes;
	size_t len;
	size_t ident_at;
	bool has_ident;
};

/*
 * Builds the image of `parts` (at least 1) parts of `size` bytes each; image_fini frees it. False:
 * there is not enough memory.
 */
bool image_init(struct image *image, size_t size, unsigned parts, bool envelope);
void image_fini(struct image *image);

/* The bytes of the front that differ between messages: header and ident. */
#define IMAGE_HEAD_MAX (9 + sizeof(struct ident))

/* Length of that front. */
static inline size_t
image_head_len(const struct image *image)
{
	return image->has_ident ? image->ident_at + sizeof(struct ident) : 0;
}

/*
 * Where a reader is in its stream. With `routed`, each message has a frame in front (a routing id)
 * that is skipped.
 */
struct image_reader {
	bool routed;
	size_t prefix; /* bytes of the routing id's frame; 0 while its length is not known */
	size_t at;     /* bytes of the current message seen so far, the prefix among them */
	uint8_t head[IMAGE_HEAD_MAX];
};

/* Called for each message; `ident` is NULL when it has none. False: it is wrong. */
typedef bool image_handler(void *arg, const struct ident *ident);

/*
 * Checks the next `len` bytes of a stream of images, in pieces of any size. Sets *used to `len`, or
 * to where a command stands between two messages. Returns false at the first wrong byte, or when
 * the handler says so; the stream is of no use then.
 */
bool image_read(struct image_reader *reader, const struct image *image, const uint8_t *data,
	size_t len, size_t *used, image_handler *handler, void *arg);

#endif
