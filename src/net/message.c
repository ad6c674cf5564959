/* SPDX-License-Identifier: MIT */
#include "net/message.h"

#include <string.h>

#include "net/outq_impl.h"

const uint8_t *
message_front(const struct message *message, uint8_t *buf, size_t want, size_t *len)
{
	struct walk w, end;

	*len = message->len;
	if (message->rope == NULL || message->len >= want || message->len >= message->size)
		return message->p;
	*len = 0;
	walk_to_message(message->rope, &w, &end);
	for (; w.block != NULL && *len < want;
		w.block = w.block->next, w.offset = w.block != NULL ? w.block->begin : 0) {
		uint32_t stop = w.block == end.block ? end.offset : w.block->len;
		size_t n = stop - w.offset;

		if (n > want - *len)
			n = want - *len;
		if (n > 0)
			memcpy(buf + *len, w.block->bytes + w.offset, n);
		*len += n;
		if (w.block == end.block)
			break;
	}
	return buf;
}

static void
begin_pieces(const struct message *message, struct message_at *at)
{
	struct walk w, end;

	walk_to_message(message->rope, &w, &end);
	at->block = w.block;
	at->offset = w.offset;
	at->end = end.block;
	at->stop = end.offset;
}

const uint8_t *
message_piece(const struct message *message, struct message_at *at, size_t *len)
{
	bool begun = at->begun;

	at->begun = true;
	if (message->rope == NULL) {
		*len = message->len;
		return begun ? NULL : message->p;
	}
	if (!begun)
		begin_pieces(message, at);
	while (at->block != NULL) {
		const struct outq_block *b = at->block;
		uint32_t from = at->offset, stop = b == at->end ? at->stop : b->len;

		at->block = b != at->end ? b->next : NULL;
		at->offset = at->block != NULL ? at->block->begin : 0;
		*len = stop - from;
		if (*len > 0)
			return b->bytes + from;
	}
	return NULL;
}
