/* SPDX-License-Identifier: MIT */
#include "base/mem.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

void
mem_setup(void)
{
#ifdef __GLIBC__
	/* settings in the operator's environment have precedence */
	if (getenv("MALLOC_MMAP_THRESHOLD_") == NULL)
		mallopt(M_MMAP_THRESHOLD, 4 << 20);
	if (getenv("MALLOC_TRIM_THRESHOLD_") == NULL)
		mallopt(M_TRIM_THRESHOLD, 256 << 20);
#endif
}

void
mem_trim(void)
{
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

void *
mem_must(void *p)
{
	static const char text[] = "bulkhead: out of memory\n";
	struct pollfd err = {.fd = STDERR_FILENO, .events = POLLOUT};

	if (p == NULL) {
		/* a reader that does not read must not block us; the exit status tells as well */
		if (poll(&err, 1, 0) > 0 && write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
			_exit(MEM_EXIT_STATUS);
		_exit(MEM_EXIT_STATUS);
	}
	return p;
}

void *
mem_new(size_t size)
{
	return mem_must(calloc(1, size));
}

void *
mem_new_array(size_t count, size_t size)
{
	return mem_must(calloc(count > 0 ? count : 1, size));
}

void *
mem_resize(void *p, size_t size)
{
	return mem_must(realloc(p, size));
}

char *
mem_strdup(const char *text)
{
	return mem_must(strdup(text));
}

void *
mem_try(size_t size)
{
	return malloc(size);
}

void *
mem_try_lines(size_t size)
{
	return aligned_alloc(MEM_LINE, size);
}

void *
mem_try_new(size_t size)
{
	return calloc(1, size);
}

char *
mem_try_strdup(const char *text)
{
	return strdup(text);
}

void *
mem_try_resize(void *p, size_t size)
{
	return realloc(p, size);
}
