/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

/* Grows the buffer for `len` more bytes and the NUL. */
static bool
grow(struct text *t, size_t len)
{
	size_t cap = t->cap > 0 ? t->cap : 256;
	char *bytes;

	while (cap - t->len <= len)
		cap *= 2;
	if (cap == t->cap)
		return true;
	bytes = mem_try_resize(t->bytes, cap);
	if (bytes == NULL)
		return false;
	t->bytes = bytes;
	t->cap = cap;
	return true;
}

void
text_add(struct text *t, const char *fmt, ...)
{
	va_list ap, again;
	int len;

	if (t->no_memory)
		return;
	va_start(ap, fmt);
	va_copy(again, ap);
	len = vsnprintf(NULL, 0, fmt, ap);
	if (len < 0 || !grow(t, (size_t)len)) {
		t->no_memory = true;
	} else {
		vsnprintf(t->bytes + t->len, (size_t)len + 1, fmt, again);
		t->len += (size_t)len;
	}
	va_end(again);
	va_end(ap);
}

void
text_clear(struct text *t)
{
	t->len = 0;
	t->no_memory = false;
}

char *
text_take(struct text *t)
{
	char *bytes = t->len > 0 && !t->no_memory ? t->bytes : NULL;

	if (bytes == NULL)
		free(t->bytes);
	*t = (struct text){0};
	return bytes;
}

void
text_fini(struct text *t)
{
	free(t->bytes);
	*t = (struct text){0};
}
