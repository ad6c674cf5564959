/* SPDX-License-Identifier: MIT */
#include "base/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

enum {
	CHUNK = PIPE_BUF,       /* a pipe takes so many bytes whole or not at all */
	FLUSH_MOST = 64 * 1024, /* at once */
	PAUSE_MS = 10           /* between attempts when poll and write disagree */
};

/* Opens what `fd` refers to again, with a description of our own, or returns -1. */
static int
reopen(int fd, const struct stat *st)
{
	struct stat got;
	char path[32];
	int own;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (own < 0)
		return -1;
	if (fstat(own, &got) == 0 && got.st_dev == st->st_dev && got.st_ino == st->st_ino)
		return own;
	close(own);
	return -1;
}

void
sink_open(struct sink *s, int fd)
{
	int type = SOCK_STREAM, own;
	socklen_t size = sizeof(type);
	struct stat st;

	s->fd = fd;
	s->kind = SINK_PLAIN;
	s->packets = s->full = s->cut = false;
	s->at = s->len = s->rest = 0;
	s->lost = 0;
	if (fstat(fd, &st) != 0)
		return;
	if (S_ISSOCK(st.st_mode)) {
		s->kind = SINK_SOCKET;
		s->packets = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
			type != SOCK_STREAM;
		return;
	}
	/* Not for a file: it never blocks, and processes that share it share its offset. */
	if (!S_ISFIFO(st.st_mode) && !isatty(fd))
		return;
	own = reopen(fd, &st);
	if (own >= 0)
		s->fd = own;
	else
		s->kind = SINK_SHARED;
}

static bool
is_writable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	return poll(&p, 1, 0) > 0;
}

/* Returns how many bytes were taken, or -errno. */
static ssize_t
write_some(struct sink *s, const char *data, size_t len)
{
	ssize_t n;

	/* a writable pipe takes this many bytes */
	if (s->kind == SINK_SHARED && !is_writable(s->fd))
		return -EAGAIN;
	do
		n = s->kind == SINK_SOCKET ? send(s->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL)
					   : write(s->fd, data, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static bool
must_wait(ssize_t error)
{
	return error == -EAGAIN || error == -ENOBUFS;
}

/* --- the ring ------------------------------------------------------------- */

static bool
keep(struct sink *s, const char *data, size_t len)
{
	size_t end = (s->at + s->len) % SINK_RING, first = SINK_RING - end;

	if (s->full || len > SINK_RING - s->len) {
		s->full = true;
		return false;
	}
	if (first > len)
		first = len;
	memcpy(s->ring + end, data, first);
	memcpy(s->ring, data + first, len - first);
	s->len += len;
	return true;
}

/* Copies the bytes to write next: the rest of a line that was begun, or whole lines. */
static size_t
next_chunk(const struct sink *s, char out[CHUNK])
{
	size_t n = s->len < CHUNK ? s->len : CHUNK, first = SINK_RING - s->at;
	const char *end;

	if (first > n)
		first = n;
	memcpy(out, s->ring + s->at, first);
	memcpy(out + first, s->ring, n - first);
	if (s->rest > 0)
		return s->rest < n ? s->rest : n;
	end = s->packets ? memchr(out, '\n', n) : memrchr(out, '\n', n);
	return (size_t)(end - out) + 1; /* a line is never longer than a chunk */
}

/* Of a chunk of `len` bytes. */
static void
consume(struct sink *s, const char *chunk, size_t len, size_t written)
{
	const char *end;

	s->at = (s->at + written) % SINK_RING;
	s->len -= written;
	if (s->rest > 0) {
		s->rest -= written;
	} else if (chunk[written - 1] != '\n') {
		end = memchr(chunk + written, '\n', len - written);
		s->rest = (size_t)(end - (chunk + written)) + 1;
	}
	if (s->len <= SINK_RING / 2)
		s->full = false;
}

/* The descriptor is broken: the lines that wait are lost. */
static void
lose_all(struct sink *s)
{
	if (s->rest > 0)
		s->cut = true;
	for (size_t i = 0; i < s->len; i++)
		s->lost += s->ring[(s->at + i) % SINK_RING] == '\n';
	s->at = s->len = s->rest = 0;
	s->full = false;
}

/* --- writing -------------------------------------------------------------- */

/* Ends a line that was never finished, so that the next one does not continue it. */
static bool
begin_line(struct sink *s)
{
	if (s->cut && write_some(s, "\n", 1) == 1)
		s->cut = false;
	return !s->cut;
}

bool
sink_write(struct sink *s, const char *line, size_t len)
{
	size_t done = 0;
	ssize_t n = 0;

	/* more than the usual lines of a turn: lines are not dropped while the reader keeps up */
	if (s->len > SINK_RING / 2)
		(void)sink_flush(s);
	if (s->len == 0) {
		if (!begin_line(s)) {
			s->lost++;
			return false;
		}
		while (done < len && (n = write_some(s, line + done, len - done)) > 0)
			done += (size_t)n;
		if (done == len)
			return true;
	}
	if ((n < 0 && !must_wait(n)) || !keep(s, line + done, len - done)) {
		s->cut = s->cut || done > 0;
		s->lost++;
		return false;
	}
	if (done > 0)
		s->rest = len - done;
	return true;
}

bool
sink_flush(struct sink *s)
{
	char chunk[CHUNK];
	size_t total = 0;

	while (s->len > 0 && total < FLUSH_MOST) {
		size_t len = next_chunk(s, chunk);
		ssize_t n = write_some(s, chunk, len);

		if (n <= 0) {
			if (!must_wait(n))
				lose_all(s);
			break;
		}
		consume(s, chunk, len, (size_t)n);
		total += (size_t)n;
	}
	return total > 0;
}

void
sink_drain(struct sink *s, int ms)
{
	int64_t until = clock_now_ms() + ms, left;

	while (s->len > 0 && (left = until - clock_now_ms()) > 0) {
		struct pollfd p = {.fd = s->fd, .events = POLLOUT};

		if (poll(&p, 1, (int)left) > 0 && !sink_flush(s))
			(void)poll(NULL, 0, left < PAUSE_MS ? (int)left : PAUSE_MS);
	}
}
