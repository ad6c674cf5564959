/* SPDX-License-Identifier: MIT */
/*
 * A text that grows while it is written. If memory runs out, it remembers that and takes no more:
 * the writer checks once, at the end.
 */
#ifndef BULKHEAD_BASE_TEXT_H
#define BULKHEAD_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct text {
	char *bytes; /* len bytes and a NUL; NULL: nothing was written yet */
	size_t len, cap;
	bool no_memory; /* memory ran out: something is missing */
};

/* Append a formatted text. */
void text_add(struct text *text, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Empty the text, and keep its memory. */
void text_clear(struct text *text);

/*
 * Hand the bytes over to the caller, who frees them, and empty the text. NULL: nothing was written,
 * or something is missing.
 */
char *text_take(struct text *text);

/* Free its memory. A text that is all zero is fine. */
void text_fini(struct text *text);

#endif
