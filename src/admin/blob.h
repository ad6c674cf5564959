/* SPDX-License-Identifier: MIT */
/*
 * Bytes in memory that one process writes once and gives to another as a descriptor. They are freed
 * with the last descriptor or mapping.
 */
#ifndef BULKHEAD_ADMIN_BLOB_H
#define BULKHEAD_ADMIN_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

/* A descriptor of the pieces one after the other; -1, errno set: no memory, or no descriptor. */
int blob_new(const struct iovec *pieces, int count);

/* Append bytes, before it is given away. False, errno set: no memory. */
bool blob_add(int fd, const char *bytes, size_t len);

struct blob {
	const char *bytes; /* NULL: nothing is mapped */
	size_t len;
};

/*
 * Map the bytes for reading; the descriptor stays the caller's. False if that fails. An empty blob
 * becomes NULL and 0.
 */
bool blob_map(struct blob *blob, int fd);

/* Harmless if nothing is mapped. */
void blob_unmap(struct blob *blob);

#endif
