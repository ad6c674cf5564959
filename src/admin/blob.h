/* SPDX-License-Identifier: MIT */
/*
 * Bytes that one process writes once and hands to another as a descriptor: in memory, as many as
 * it takes, gone with the last one that has them.
 */
#ifndef BULKHEAD_ADMIN_BLOB_H
#define BULKHEAD_ADMIN_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

/* A descriptor of the pieces one after the other; -1, errno set: no memory, or no descriptor. */
int blob_new(const struct iovec *pieces, int count);

/* Add bytes, before it is handed on. False, errno set: no memory. */
bool blob_add(int fd, const char *bytes, size_t len);

struct blob {
	const char *bytes; /* NULL: nothing is mapped */
	size_t len;
};

/*
 * Map what is behind the descriptor, to be read; the descriptor stays the caller's. False when
 * that is not possible. An empty one is NULL and 0.
 */
bool blob_map(struct blob *blob, int fd);

/* Harmless on one that is not mapped. */
void blob_unmap(struct blob *blob);

#endif
