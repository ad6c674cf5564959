/* SPDX-License-Identifier: MIT */
/*
 * Memory. If an allocation of start-up fails, the process ends, with a line that says so; if one
 * for a peer fails, that costs the peer its connection, or a message that is counted. An account
 * adds up the memory of queued messages.
 */
#ifndef BULKHEAD_BASE_MEM_H
#define BULKHEAD_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MEM_EXIT_STATUS = 3 }; /* of a process that ends because it has no memory */

/*
 * Call once, at start-up: freed memory stays with the process until mem_trim, so that the
 * blocks of large messages need not be faulted in page by page for each message.
 */
void mem_setup(void);

/*
 * Return freed memory to the system, also from between blocks in use. Takes up to ten milliseconds
 * for 10 MiB, and page faults later.
 */
void mem_trim(void);

/* Returns `p`; if it is NULL (no memory), the process ends with MEM_EXIT_STATUS. */
void *mem_must(void *p);

/* Zeroed memory of `size` bytes; ends the process when there is none. Free with free(). */
void *mem_new(size_t size);

/* Zeroed array of `count` elements of `size` bytes; ends the process on overflow or no memory. */
void *mem_new_array(size_t count, size_t size);

/* Resize `p` (may be NULL) to `size` bytes; ends the process when there is no memory. */
void *mem_resize(void *p, size_t size);

/* Copy of a NUL terminated string; ends the process when there is no memory. */
char *mem_strdup(const char *text);

/* Uninitialised memory of `size` bytes for a peer, or NULL. */
void *mem_try(size_t size);

/* The same, zeroed. */
void *mem_try_new(size_t size);

enum { MEM_LINE = 64 }; /* bytes of a cache line */

/* mem_try for `size` bytes, a multiple of MEM_LINE, that begin with a cache line. */
void *mem_try_lines(size_t size);

/* Copy of a NUL terminated string, or NULL. */
char *mem_try_strdup(const char *text);

/* Resize `p` (may be NULL) to `size` bytes, or return NULL and leave it as it is. */
void *mem_try_resize(void *p, size_t size);

/* The memory of all message queues of one loop together, in bytes. */
struct mem_account {
	uint64_t used;
	uint64_t limit;
};

static inline bool
mem_account_over(const struct mem_account *a)
{
	return a->used > a->limit;
}

/*
 * So far over the limit that no more may be read at all: the margin for what comes in while the
 * limit is being enforced is used up.
 */
static inline bool
mem_account_far_over(const struct mem_account *a)
{
	return a->used > a->limit + a->limit / 8;
}

#endif
