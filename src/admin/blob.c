/* SPDX-License-Identifier: MIT */
#include "admin/blob.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Written, not mapped: without memory a write fails, where a store would raise a signal. */
bool
blob_add(int fd, const char *p, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

int
blob_new(const struct iovec *pieces, int count)
{
	int fd = memfd_create("bulkhead", MFD_CLOEXEC);

	if (fd < 0)
		return -1;
	for (int i = 0; i < count; i++) {
		int error;

		if (blob_add(fd, pieces[i].iov_base, pieces[i].iov_len))
			continue;
		error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

bool
blob_map(struct blob *blob, int fd)
{
	struct stat st;
	void *p;

	*blob = (struct blob){NULL, 0};
	if (fstat(fd, &st) != 0 || st.st_size < 0 || (uint64_t)st.st_size > SIZE_MAX)
		return false;
	if (st.st_size == 0)
		return true;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return false;
	*blob = (struct blob){p, (size_t)st.st_size};
	return true;
}

void
blob_unmap(struct blob *blob)
{
	if (blob->bytes != NULL)
		munmap((void *)(uintptr_t)blob->bytes, blob->len);
	*blob = (struct blob){NULL, 0};
}
