#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *
must(void *p)
{
	if (p == NULL) {
		fputs("bulkhead: out of memory\n", stderr);
		abort();
	}
	return p;
}

void *
mem_new(size_t size)
{
	return must(calloc(1, size));
}

void *
mem_new_array(size_t count, size_t size)
{
	return must(calloc(count > 0 ? count : 1, size));
}

void *
mem_resize(void *p, size_t size)
{
	return must(realloc(p, size));
}

char *
mem_strdup(const char *text)
{
	return must(strdup(text));
}

void *
mem_try(size_t size)
{
	return malloc(size);
}
