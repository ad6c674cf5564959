/* SPDX-License-Identifier: MIT */
/*
 * A text that grows as it is written. Without memory it remembers that, and takes no more: whoever
 * writes it looks once, at the end.
 */
#ifndef BULKHEAD_BASE_TEXT_H
#define BULKHEAD_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct text {
	char *bytes; /* len of them and a NUL; NULL: nothing was written yet */
	size_t len, cap;
	bool no_memory; /* something is missing */
};

/* Append. */
void text_add(struct text *text, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Empty it, and keep its memory. */
void text_clear(struct text *text);

/* Empties it. The bytes are the caller's now (free); NULL: none, or something is missing. */
char *text_take(struct text *text);

/* Free what it holds. One that is all zero is fine. */
void text_fini(struct text *text);

#endif
