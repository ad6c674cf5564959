/* SPDX-License-Identifier: MIT */
/*
 * Where log lines go: the sink never waits, never cuts a line, and counts every lost line.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/sink.h"
#include "unit.h"

static struct sink sink;
static char got[4 << 20], want[4 << 20];
static size_t got_len, want_len;

/* A write that waits would end only at Check's timeout. */
static void
reset(void)
{
	got_len = want_len = 0;
}

/* Reads up to `most` bytes, as far as there are any. */
static size_t
take(int fd, size_t most)
{
	ssize_t n = read(fd, got + got_len, most);

	if (n <= 0)
		return 0;
	got_len += (size_t)n;
	return (size_t)n;
}

/* A line with its number, of `len` bytes at least; what was taken is wanted. */
static void
write_line(unsigned number, size_t len)
{
	char line[4096];
	size_t n = (size_t)snprintf(line, sizeof(line), "%u ", number);

	while (n < len)
		line[n++] = (char)('a' + number % 26);
	line[n++] = '\n';
	if (!sink_write(&sink, line, n))
		return;
	memcpy(want + want_len, line, n);
	want_len += n;
}

static void
check_all(int fd)
{
	do {
		while (take(fd, sizeof(got) - got_len) > 0)
			;
	} while (sink_flush(&sink));
	while (take(fd, sizeof(got) - got_len) > 0)
		;
	ck_assert_uint_eq(sink.len, 0);
	ck_assert_uint_eq(got_len, want_len);
	ck_assert(memcmp(got, want, want_len) == 0);
}

static void
make_pipe(int fds[2])
{
	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	ck_assert_int_gt(fcntl(fds[1], F_SETPIPE_SZ, 4096), 0);
}

/* A reader that reads pieces, nothing for long, and everything; with three kinds of descriptors. */
static void
play(int in, int out, enum sink_kind kind)
{
	uint64_t lost = 0;
	unsigned number = 0;

	reset();
	sink_open(&sink, out);
	if (kind == SINK_SHARED) {
		if (sink.fd != out)
			close(sink.fd);
		sink.fd = out;
		sink.kind = kind;
	}
	ck_assert_int_eq(sink.kind, kind);
	for (unsigned round = 0; round < 400; round++) {
		unsigned lines = (unsigned)rand() % 40 * (round % 50 == 7 ? 50 : 1);
		size_t before = want_len;

		for (unsigned i = 0; i < lines; i++)
			write_line(number++, 8 + (size_t)rand() % 2000);
		ck_assert(sink.lost == lost || sink.full || want_len > before);
		lost = sink.lost;
		if (round % 3 == 0)
			take(in, 1 + (size_t)rand() % 5000);
		if (round % 5 == 0)
			sink_flush(&sink);
		if (round % 60 == 59) {
			check_all(in);
			ck_assert(!sink.full);
		}
		if (got_len > sizeof(got) / 2 || want_len > sizeof(want) / 2) {
			check_all(in);
			got_len = want_len = 0;
		}
	}
	check_all(in);
	ck_assert_uint_gt(sink.lost, 0);
	if (sink.fd != out)
		close(sink.fd);
}

START_TEST(a_pipe)
{
	int fds[2];

	make_pipe(fds);
	play(fds[0], fds[1], SINK_PLAIN);
	ck_assert_int_eq(
		fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0); /* others that share it notice nothing */
	close(fds[0]);
	close(fds[1]);
}
END_TEST

START_TEST(a_pipe_that_others_share)
{
	int fds[2];

	make_pipe(fds);
	play(fds[0], fds[1], SINK_SHARED);
	ck_assert_int_eq(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

START_TEST(a_socket)
{
	int fds[2], size = 4096;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	ck_assert_int_eq(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	play(fds[0], fds[1], SINK_SOCKET);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

START_TEST(a_socket_of_packets)
{
	int fds[2], size = 4096;
	char line[4096];
	ssize_t n;
	unsigned count = 0;

	reset();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	ck_assert_int_eq(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	sink_open(&sink, fds[1]);
	for (unsigned i = 0; i < 200; i++)
		write_line(i, 100);
	ck_assert_uint_gt(sink.len, 0);
	do {
		while ((n = read(fds[0], line, sizeof(line))) > 0) {
			ck_assert_uint_eq(strtoul(line, NULL, 10), count++);
			ck_assert_ptr_eq(memchr(line, '\n', (size_t)n), line + n - 1);
		}
	} while (sink_flush(&sink));
	ck_assert_uint_eq(count, 200);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

/* Full: it accepts nothing until half of it is free, so that losses are one gap. */
START_TEST(one_gap)
{
	unsigned number = 0;
	int fds[2];

	reset();
	make_pipe(fds);
	sink_open(&sink, fds[1]);
	while (sink.lost == 0)
		write_line(number++, 1000);
	ck_assert_uint_gt(sink.len, SINK_RING - 4096);
	take(fds[0], 4096);
	sink_flush(&sink);
	ck_assert(!sink_write(&sink, "x\n", 2));
	while (sink.len > SINK_RING / 2) {
		ck_assert(sink.full);
		take(fds[0], 4096);
		sink_flush(&sink);
	}
	ck_assert(sink_write(&sink, "x\n", 2));
	ck_assert_uint_eq(sink.lost, 2);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

START_TEST(the_reader_is_gone)
{
	unsigned number = 0;
	int fds[2];

	reset();
	signal(SIGPIPE, SIG_IGN);
	make_pipe(fds);
	sink_open(&sink, fds[1]);
	while (number < 20)
		write_line(number++, 1000);
	ck_assert_uint_gt(sink.len, 0);
	close(fds[0]);
	ck_assert(!sink_flush(&sink));
	ck_assert_uint_eq(sink.len, 0);
	ck_assert_uint_gt(sink.lost, 10);
	ck_assert(!sink_write(&sink, "x\n", 2));
	sink_drain(&sink, 10000); /* nothing to wait for */
	close(fds[1]);
}
END_TEST

/* Half a line is in a full file; when there is room again, the next one begins a new line. */
START_TEST(a_file_at_its_limit)
{
	char path[] = "/tmp/test_sink.XXXXXX";
	struct rlimit before, limit;
	int fd = mkstemp(path);
	ssize_t n;

	reset();
	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_ge(fd, 0);
	unlink(path);
	getrlimit(RLIMIT_FSIZE, &before);
	limit = before;
	limit.rlim_cur = 2500;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	sink_open(&sink, fd);
	ck_assert_int_eq(sink.fd, fd); /* the place in the file is shared as well */
	write_line(1, 1000);
	write_line(2, 1000);
	ck_assert_uint_eq(sink.lost, 0);
	write_line(3, 1000);
	write_line(4, 1000);
	setrlimit(RLIMIT_FSIZE, &before);
	ck_assert_uint_eq(sink.lost, 2);
	ck_assert_uint_eq(sink.len, 0);
	write_line(5, 1000);
	ck_assert_uint_eq(sink.lost, 2);
	n = pread(fd, got, sizeof(got), 0);
	ck_assert_int_eq(n, 2500 + 1 + 1001);
	ck_assert(memcmp(got + 2500, "\n5 f", 4) == 0);
	close(fd);
}
END_TEST

START_TEST(a_drain_is_bounded)
{
	unsigned number = 0;
	int fds[2];

	reset();
	make_pipe(fds);
	sink_open(&sink, fds[1]);
	while (number < 20)
		write_line(number++, 1000);
	sink_drain(&sink, 50); /* nobody reads */
	ck_assert_uint_gt(sink.len, 0);
	ck_assert_int_gt(fcntl(fds[1], F_SETPIPE_SZ, 65536), 0);
	sink_drain(&sink, 50000);
	ck_assert_uint_eq(sink.len, 0);
	check_all(fds[0]);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

/* A burst of many times the ring, whose reader keeps up, loses nothing. */
START_TEST(a_burst_that_is_read)
{
	unsigned number = 0;
	int fds[2];

	reset();
	make_pipe(fds);
	sink_open(&sink, fds[1]);
	while (number < 1000) {
		write_line(number++, 1000);
		if (sink.len > SINK_RING / 2)
			while (take(fds[0], 4096) > 0)
				;
	}
	ck_assert_uint_eq(sink.lost, 0);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

UNIT_MAIN("sink", tcase_add_test(tc, a_burst_that_is_read), tcase_add_test(tc, a_pipe),
	tcase_add_test(tc, a_pipe_that_others_share), tcase_add_test(tc, a_socket),
	tcase_add_test(tc, a_socket_of_packets), tcase_add_test(tc, one_gap),
	tcase_add_test(tc, the_reader_is_gone), tcase_add_test(tc, a_file_at_its_limit),
	tcase_add_test(tc, a_drain_is_bounded))
