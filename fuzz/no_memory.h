/* SPDX-License-Identifier: MIT */
/*
 * Memory that runs out when the input says so: for one program, which is linked with $(no_memory)
 * of local.am, so that the linker wraps base/mem.c's functions.
 */
#ifndef BULKHEAD_FUZZ_NO_MEMORY_H
#define BULKHEAD_FUZZ_NO_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

static unsigned fail_after; /* so many allocations, of which the last one fails; 0: none does */
static bool failed;         /* one did; cleared by the target */

void *__real_mem_try(size_t size);
void *__wrap_mem_try(size_t size);
void *__real_mem_try_new(size_t size);
void *__wrap_mem_try_new(size_t size);

static inline bool
runs_out(void)
{
	if (fail_after == 0 || --fail_after > 0)
		return false;
	failed = true;
	return true;
}

void *
__wrap_mem_try(size_t size)
{
	return runs_out() ? NULL : __real_mem_try(size);
}

void *
__wrap_mem_try_new(size_t size)
{
	return runs_out() ? NULL : __real_mem_try_new(size);
}

/* For programs that wrap these, too. */
void *__real_mem_try_resize(void *p, size_t size) __attribute__((weak));
void *__wrap_mem_try_resize(void *p, size_t size);
void *__real_mem_try_lines(size_t size) __attribute__((weak));
void *__wrap_mem_try_lines(size_t size);

void *
__wrap_mem_try_resize(void *p, size_t size)
{
	return runs_out() ? NULL : __real_mem_try_resize(p, size);
}

void *
__wrap_mem_try_lines(size_t size)
{
	return runs_out() ? NULL : __real_mem_try_lines(size);
}

#endif
