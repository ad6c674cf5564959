/* SPDX-License-Identifier: MIT */
/*
 * Memory: what start-up allocates ends the process when there is none, with a
 * line that says so; what a peer causes can fail and costs that peer its
 * connection, or a message that is counted. An account adds up what queued
 * messages hold.
 */
#ifndef BULKHEAD_BASE_MEM_H
#define BULKHEAD_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Once, at start-up: freed memory stays with the process until mem_give_back, so that the blocks
 * of large messages are not taken from the kernel, page by page, for each of them.
 */
void mem_setup(void);

/*
 * Give what was freed back to the system, also from between what is in use.
 * Takes up to ten milliseconds for 10 MiB, and page faults later on.
 */
void mem_give_back(void);

/* `p`; without memory (NULL) the process ends with status 3. */
void *mem_must(void *p);

/* Zeroed memory of `size` bytes; ends the process when there is none. Free with free(). */
void *mem_new(size_t size);

/* Zeroed array of `count` elements of `size` bytes; ends the process on overflow or no memory. */
void *mem_new_array(size_t count, size_t size);

/* Resize `p` (may be NULL) to `size` bytes; ends the process when there is no memory. */
void *mem_resize(void *p, size_t size);

/* Copy of a NUL terminated string; ends the process when there is no memory. */
char *mem_strdup(const char *text);

/* Uninitialised memory of `size` bytes on behalf of a peer, or NULL. */
void *mem_try(size_t size);

/* The same, zeroed. */
void *mem_try_new(size_t size);

/* Copy of a NUL terminated string, or NULL. */
char *mem_try_strdup(const char *text);

/* Resize `p` (may be NULL) to `size` bytes, or return NULL and leave it as it is. */
void *mem_try_resize(void *p, size_t size);

/* What all message queues of one loop hold together, in bytes. */
struct mem_account {
	uint64_t used;
	uint64_t limit;
};

static inline bool
mem_account_over(const struct mem_account *a)
{
	return a->used > a->limit;
}

/* What may come in while the limit is enforced has come in: now nothing more. */
static inline bool
mem_account_far_over(const struct mem_account *a)
{
	return a->used > a->limit + a->limit / 8;
}

#endif
