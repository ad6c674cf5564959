/* SPDX-License-Identifier: MIT */
#include "base/recent.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

enum { TRIES = 1000 }; /* to read while nothing is written */

struct ring {
	struct recent_event events[RECENT_RING];
	uint64_t count; /* of all events so far */
};

struct kept {
	_Atomic uint64_t version; /* odd while something is being written */
	_Atomic uint64_t last;
	struct ring noteworthy, usual;
};

static struct kept own;
static struct kept *written = &own;
static const struct kept *shown = &own;

void
recent_add(enum log_level level, bool secret, const char *event, const char *text, size_t len)
{
	struct kept *k = written;
	struct ring *ring = level <= LOG_LEVEL_NOTICE ? &k->noteworthy : &k->usual;
	struct recent_event *e = &ring->events[ring->count % RECENT_RING];
	uint64_t version = atomic_load_explicit(&k->version, memory_order_relaxed);
	uint64_t number = atomic_load_explicit(&k->last, memory_order_relaxed) + 1;

	if (len > RECENT_TEXT_MAX - 1)
		len = RECENT_TEXT_MAX - 1;
	atomic_store_explicit(&k->version, version + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	ring->count++;
	e->number = number;
	e->level = level;
	e->secret = secret;
	clock_wall_text(e->when, sizeof(e->when));
	snprintf(e->event, sizeof(e->event), "%s", event);
	memcpy(e->text, text, len);
	e->text[len] = '\0';
	atomic_store_explicit(&k->last, number, memory_order_relaxed);
	atomic_store_explicit(&k->version, version + 2, memory_order_release);
}

/* The kept event `i` places after the oldest; NULL: there is none. */
static const struct recent_event *
ring_at(const struct ring *ring, uint64_t i)
{
	uint64_t count = ring->count, first = count > RECENT_RING ? count - RECENT_RING : 0;

	return i < RECENT_RING && first + i < count ? &ring->events[(first + i) % RECENT_RING]
						    : NULL;
}

static size_t
copy_in_order(struct recent_event *out)
{
	uint64_t at[2] = {0, 0};
	size_t n = 0;

	while (n < RECENT_EVENTS) {
		const struct recent_event *a = ring_at(&shown->noteworthy, at[0]);
		const struct recent_event *b = ring_at(&shown->usual, at[1]);

		if (a == NULL && b == NULL)
			break;
		if (b == NULL || (a != NULL && a->number < b->number)) {
			out[n++] = *a;
			at[0]++;
		} else {
			out[n++] = *b;
			at[1]++;
		}
	}
	return n;
}

size_t
recent_copy(struct recent_event *out)
{
	for (int i = 0; i < TRIES; i++) {
		uint64_t version = atomic_load_explicit(&shown->version, memory_order_acquire);
		size_t n;

		if (version % 2 != 0)
			continue;
		n = copy_in_order(out);
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&shown->version, memory_order_relaxed) == version)
			return n;
	}
	return 0;
}

uint64_t
recent_last(void)
{
	return atomic_load_explicit(&shown->last, memory_order_relaxed);
}

/*
 * Writes all of it now: without memory for a page this is an error here, not a signal later. Writes
 * on after a short write, since only the next one says why it was short (RLIMIT_FSIZE counts here,
 * too).
 */
static bool
write_all(int fd, const char *p, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

int
recent_share(void)
{
	int fd = memfd_create("bulkhead-events", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *p = MAP_FAILED;

	if (fd < 0)
		return -1;
	if (write_all(fd, (const char *)written, sizeof(*written)))
		p = mmap(NULL, sizeof(*written), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
		if (p != MAP_FAILED)
			munmap(p, sizeof(*written));
		close(fd);
		return -1;
	}
	/*
	 * from Linux 5.1 on no other process can write to it; its contents are not trusted anyway
	 */
	(void)fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE);
	written = p;
	shown = p;
	return fd;
}

bool
recent_attach(int fd)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) != 0 || st.st_size != (off_t)sizeof(*shown))
		return false;
	p = mmap(NULL, sizeof(*shown), PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return false;
	shown = p;
	return true;
}
