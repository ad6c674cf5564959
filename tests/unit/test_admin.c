/* SPDX-License-Identifier: MIT */
/*
 * Input from strangers and from the admin process: requests, host names, messages; and the events
 * that two processes share.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "admin/blob.h"
#include "admin/channel.h"
#include "admin/confine.h"
#include "admin/hosts.h"
#include "admin/request.h"
#include "base/commands.h"
#include "base/recent.h"
#include "unit.h"

/* --- requests ------------------------------------------------------------- */

static const struct {
	const char *text;
	int status;
	const char *path, *host; /* of a whole request */
	bool keep_alive;
	size_t body;
} requests[] = {
	{"GET / HTTP/1.1\r\n\r\n", 200, "/", NULL, true, 0},
	{"GET /a/b?c=d HTTP/1.1\r\nHost: x:1\r\n\r\n", 200, "/a/b", "x:1", true, 0},
	{"HEAD /m HTTP/1.0\r\n\r\n", 200, "/m", NULL, false, 0},
	{"POST /m HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n", 200, "/m", NULL, true, 0},
	{"GET / HTTP/1.1\nHost: a\n\n", 200, "/", "a", true, 0},
	{"\r\n\r\n\nGET / HTTP/1.1\r\n\r\n", 200, "/", NULL, true, 0},
	{"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 200, "/", NULL, false, 0},
	{"POST /x HTTP/1.1\r\nContent-Length: 12\r\ncontent-length: 12\r\n\r\n", 200, "/x", NULL,
		true, 12},
	{"GET http://h.example:80/p?q HTTP/1.1\r\nHost: other\r\n\r\n", 200, "/p", "h.example:80",
		true, 0},
	{"GET HTTP://h HTTP/1.1\r\n\r\n", 200, "/", "h", true, 0},
	{"GET http://h?q HTTP/1.1\r\n\r\n", 200, "/", "h", true, 0},
	{"GET / HTTP/1.1\r\nHost:\r\n\r\n", 200, "/", "", true, 0},
	{"GET / HTTP/1.1\r\nHost: \t a \t\r\n\r\n", 200, "/", "a", true, 0},
	{"GET / HTTP/1.1\r\nX: \xff\xe4\r\n\r\n", 200, "/", NULL, true, 0},

	{"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, NULL, NULL, false, 0},
	{"GET http://h/ HTTP/1.1\r\nHost: a\r\nHost: h\r\n\r\n", 400, NULL, NULL, false, 0},
	{"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, NULL, NULL, false, 0},
	{"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400, NULL, NULL, false, 0},
	{"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, NULL, NULL, false, 0},
	{"GET / HTTP/1.1\r\n: b\r\n\r\n", 400, NULL, NULL, false, 0},
	{"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", 400, NULL, NULL, false, 0},
	{"GET / HTTP/1.1\r\nA: b\x01\r\n\r\n", 400, NULL, NULL, false, 0},
	{"GET  / HTTP/1.1\r\n\r\n", 400, NULL, NULL, false, 0},
	{"GET / HTTP/1.1 \r\n\r\n", 400, NULL, NULL, false, 0},
	{"GET /\r\n\r\n", 400, NULL, NULL, false, 0},
	{"GET\r\n\r\n", 400, NULL, NULL, false, 0},
	{"GET /\x01 HTTP/1.1\r\n\r\n", 400, NULL, NULL, false, 0},
	{"GET /\xe4 HTTP/1.1\r\n\r\n", 400, NULL, NULL, false, 0},
	{"GET /#a HTTP/1.1\r\n\r\n", 400, NULL, NULL, false, 0},
	{"GET * HTTP/1.1\r\n\r\n", 400, NULL, NULL, false, 0},
	{"GET a/b HTTP/1.1\r\n\r\n", 400, NULL, NULL, false, 0},
	{"G(T / HTTP/1.1\r\n\r\n", 400, NULL, NULL, false, 0},
	{" / HTTP/1.1\r\n\r\n", 400, NULL, NULL, false, 0},
	{"get / HTTP/1.1\r\n\r\n", 501, NULL, NULL, false, 0},
	{"DELETE / HTTP/1.1\r\n\r\n", 501, NULL, NULL, false, 0},
	{"GET / HTTP/2.0\r\n\r\n", 505, NULL, NULL, false, 0},
	{"GET / HTTP/1.x\r\n\r\n", 505, NULL, NULL, false, 0},
	{"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, NULL, NULL, false, 0},
	{"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400, NULL, NULL, false, 0},
	{"POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", 400, NULL, NULL, false, 0},
	{"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, NULL, NULL,
		false, 0},
	{"POST / HTTP/1.1\r\nContent-Length: 4097\r\n\r\n", 413, NULL, NULL, false, 0},
	{"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413, NULL, NULL,
		false, 0},
	{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;", 411, NULL, NULL, false, 0},
	{"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, NULL,
		NULL, false, 0},
};

/* Whole, and byte by byte: the same. */
START_TEST(requests_are_parsed)
{
	const char *text = requests[_i].text;
	size_t len = strlen(text), used = 0, seen = 0, at;
	struct request_head r;
	int status = request_parse(&r, text, len, &seen, &used);

	ck_assert_int_eq(status, requests[_i].status);
	seen = 0;
	for (at = 1; at <= len; at++)
		if (request_parse(&r, text, at, &seen, &used) != REQUEST_MORE)
			break;
	ck_assert_int_eq(request_parse(&r, text, at, &seen, &used), requests[_i].status);
	if (status != REQUEST_WHOLE)
		return;
	ck_assert_uint_eq(used, at);
	ck_assert_str_eq(r.path, requests[_i].path);
	ck_assert_int_eq(r.has_host, requests[_i].host != NULL);
	if (r.has_host)
		ck_assert_str_eq(r.host, requests[_i].host);
	ck_assert_int_eq(r.keep_alive, requests[_i].keep_alive);
	ck_assert_uint_eq(r.body, requests[_i].body);
}
END_TEST

START_TEST(requests_have_limits)
{
	static char text[REQUEST_HEAD_MAX + 1];
	struct request_head r;
	size_t used = 0, seen = 0;
	int n = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nA: ");

	memset(text + n, 'x', sizeof(text) - (size_t)n);
	ck_assert_int_eq(request_parse(&r, text, REQUEST_HEAD_MAX - 1, &seen, &used), REQUEST_MORE);
	ck_assert_int_eq(request_parse(&r, text, REQUEST_HEAD_MAX, &seen, &used), 431);
	memcpy(text + REQUEST_HEAD_MAX - 4, "\r\n\r\n", 4);
	seen = 0;
	ck_assert_int_eq(request_parse(&r, text, REQUEST_HEAD_MAX, &seen, &used), REQUEST_WHOLE);
	ck_assert_uint_eq(used, REQUEST_HEAD_MAX);
	memset(text, '\n', sizeof(text));
	seen = 0;
	ck_assert_int_eq(request_parse(&r, text, REQUEST_HEAD_MAX, &seen, &used), 431);
	n = snprintf(text, sizeof(text), "GET /%0*d HTTP/1.1\r\n\r\n", REQUEST_PATH_MAX - 1, 1);
	seen = 0;
	ck_assert_int_eq(request_parse(&r, text, (size_t)n, &seen, &used), 414);
	n = snprintf(
		text, sizeof(text), "GET / HTTP/1.1\r\nHost: %0*d\r\n\r\n", REQUEST_HOST_MAX, 1);
	seen = 0;
	ck_assert_int_eq(request_parse(&r, text, (size_t)n, &seen, &used), 400);
}
END_TEST

/* --- names ---------------------------------------------------------------- */

static bool
is_ten(const struct sockaddr_storage *a)
{
	return a->ss_family == AF_INET &&
		((const struct sockaddr_in *)a)->sin_addr.s_addr == htonl(0x0a000001);
}

START_TEST(names_that_mean_us)
{
	static const char *const ours[] = {"localhost", "LocalHost.", "localhost:9464", "127.0.0.1",
		"127.0.0.1:1", "127.0.0.1.", "[::ffff:127.0.0.1]:5", "a.example", "A.EXAMPLE.:1",
		"b", "b:"},
				 *const others[] = {"", ":", "a.example.x", "x.a.example",
					 "example", "10.0.0.2", "127.0.0.1x", "127.1",
					 "[127.0.0.1]", "[::1", "[::1]x", "::1", "a b",
					 "localhost:1x", ".", "..", "[]"};
	struct sockaddr_storage local = {0};
	struct sockaddr_in *in = (struct sockaddr_in *)&local;

	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		ck_assert_msg(hosts_mean_us(ours[i], &local, "a.example b", NULL), "%s", ours[i]);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		ck_assert_msg(
			!hosts_mean_us(others[i], &local, "a.example b", NULL), "%s", others[i]);
	ck_assert(!hosts_mean_us("10.0.0.1", &local, "", NULL));
	ck_assert(hosts_mean_us("10.0.0.1:80", &local, "", is_ten));
	ck_assert(!hosts_mean_us("10.0.0.2:80", &local, "", is_ten));
	local.ss_family = AF_UNSPEC;
	ck_assert(!hosts_mean_us("1.2.3.4", &local, "", NULL));
}
END_TEST

/* --- messages ------------------------------------------------------------- */

START_TEST(requests_of_the_other_process_are_checked)
{
	struct channel_message m = {.kind = CHANNEL_COMMAND, .command = COMMAND_kick};

	ck_assert(channel_is_request(&m));
	m.command = COMMAND_COUNT;
	ck_assert(!channel_is_request(&m));
	m.command = COMMAND_kick;
	memset(m.argument, 'x', sizeof(m.argument)); /* no end */
	ck_assert(!channel_is_request(&m));
	m.argument[CHANNEL_ARGUMENT_MAX - 1] = '\0';
	ck_assert(channel_is_request(&m));
	m = (struct channel_message){.kind = CHANNEL_ASK, .snapshot = CHANNEL_PEERS};
	ck_assert(channel_is_request(&m));
	m.snapshot = CHANNEL_SNAPSHOTS;
	ck_assert(!channel_is_request(&m));
	m = (struct channel_message){.kind = CHANNEL_NOTE, .note = CHANNEL_NOTES};
	ck_assert(!channel_is_request(&m));
	for (uint32_t kind = CHANNEL_HELLO; kind < CHANNEL_ALIVE; kind++)
		ck_assert(!channel_is_request(&(struct channel_message){.kind = kind}));
	for (uint32_t kind = CHANNEL_KINDS; kind < CHANNEL_KINDS + 100; kind++)
		ck_assert(!channel_is_request(&(struct channel_message){.kind = kind}));
}
END_TEST

static int pair[2];

static void
open_pair(void)
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

static void
close_pair(void)
{
	close(pair[0]);
	close(pair[1]);
}

static int
open_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

START_TEST(messages_come_whole_or_not_at_all)
{
	struct channel_message m = {.kind = CHANNEL_ALIVE}, got;
	char bytes[sizeof(m) + 1] = {0};
	size_t count;
	int fds[CHANNEL_FDS_MAX], sent[2];

	open_pair();
	ck_assert_int_eq(channel_receive(pair[1], &got, NULL, NULL), CHANNEL_NOTHING);
	ck_assert(channel_send(pair[0], &m, NULL, 0));
	ck_assert_int_eq(channel_receive(pair[1], &got, NULL, NULL), CHANNEL_GOT);
	ck_assert_uint_eq(got.kind, CHANNEL_ALIVE);
	for (size_t len = 1; len <= sizeof(bytes); len += len + 60 < sizeof(m) ? 61 : 1) {
		memcpy(bytes, &m, sizeof(m));
		((struct channel_message *)(void *)bytes)->version =
			CHANNEL_VERSION + (len == sizeof(m));
		ck_assert_int_eq(send(pair[0], bytes, len, 0), (ssize_t)len);
		ck_assert_int_eq(channel_receive(pair[1], &got, NULL, NULL), CHANNEL_BROKEN);
	}
	/* descriptors: kept if they are wanted, closed otherwise */
	sent[0] = blob_new(&(struct iovec){bytes, 3}, 1);
	sent[1] = blob_new(NULL, 0);
	for (int wanted = 0; wanted < 2; wanted++) {
		int before = open_descriptors();

		ck_assert(channel_send(pair[0], &m, sent, 2));
		ck_assert_int_eq(
			channel_receive(pair[1], &got, wanted ? fds : NULL, &count), CHANNEL_GOT);
		ck_assert_int_eq(open_descriptors() - before, wanted ? 2 : 0);
	}
	ck_assert_uint_eq(count, 2);
	ck_assert_int_eq(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
	for (int i = 0; i < 2; i++)
		close(fds[i]), close(sent[i]);
	/* nobody reads: the message is not sent, and send does not wait */
	for (int i = 0; channel_send(pair[0], &m, NULL, 0); i++)
		ck_assert_int_lt(i, 100000);
	ck_assert_int_eq(errno, EAGAIN);
	close_pair();
	open_pair();
	close(pair[0]);
	ck_assert_int_eq(channel_receive(pair[1], &got, NULL, NULL), CHANNEL_ENDED);
	ck_assert(!channel_send(pair[1], &m, NULL, 0));
	close(pair[1]);
}
END_TEST

START_TEST(blobs_are_what_was_written)
{
	char a[] = "abc", b[] = "defgh";
	const struct iovec pieces[] = {{a, 3}, {NULL, 0}, {b, 5}};
	struct blob blob;
	int fd = blob_new(pieces, 3), empty = blob_new(NULL, 0);

	ck_assert(blob_map(&blob, fd));
	ck_assert_uint_eq(blob.len, 8);
	ck_assert_mem_eq(blob.bytes, "abcdefgh", 8);
	close(fd);
	ck_assert_mem_eq(blob.bytes, "abcdefgh", 8);
	blob_unmap(&blob);
	blob_unmap(&blob);
	ck_assert(blob_map(&blob, empty));
	ck_assert_ptr_null(blob.bytes);
	close(empty);
	ck_assert(!blob_map(&blob, -1));
}
END_TEST

/* --- events --------------------------------------------------------------- */

enum { EVENTS = 20000 };

/* One process writes as fast as it can, the other reads: every event is whole, and none changes. */
START_TEST(events_are_read_while_they_are_written)
{
	static struct recent_event events[RECENT_EVENTS];
	int fd = recent_share(), status;
	uint64_t newest = 0;
	pid_t writer;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, 1), -1); /* or a reader could shrink our memory */
	writer = fork();
	if (writer == 0) {
		char text[64];

		for (int i = 1; i <= EVENTS; i++)
			recent_add(i % 2 ? LOG_LEVEL_INFO : LOG_LEVEL_NOTICE, false, "event", text,
				(size_t)snprintf(text, sizeof(text), "%d", i));
		_exit(0);
	}
	while (newest < EVENTS) {
		size_t count = recent_copy(events);

		for (size_t i = 0; i < count; i++) {
			char text[64];

			snprintf(text, sizeof(text), "%d", (int)events[i].number);
			ck_assert_str_eq(events[i].text, text);
			ck_assert(i == 0 || events[i].number > events[i - 1].number);
			newest = events[i].number;
		}
	}
	ck_assert_int_eq(waitpid(writer, &status, 0), writer);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(recent_last(), EVENTS);
	ck_assert(recent_attach(fd));
	ck_assert_uint_eq(recent_last(), EVENTS);
	ck_assert_uint_eq(recent_copy(events), RECENT_EVENTS);
	ck_assert(!recent_attach(-1));
	close(fd);
	fd = blob_new(NULL, 0);
	ck_assert(!recent_attach(fd));
	close(fd);
}
END_TEST

/* --- what the admin process may not --------------------------------------- */

/* Memcheck makes system calls of its own in the process, which the filter would deny. */
static bool
is_under_memcheck(void)
{
	return getenv("BULKHEAD_VALGRIND") != NULL;
}

enum { TRIED = 8 };

/* Which of the calls are refused: a permitted one has no bit. */
static int
try_what_is_denied(pid_t parent)
{
	char *argv[] = {NULL}, word[8];
	struct iovec to = {word, sizeof(word)}, from = {argv, sizeof(word)};
	struct rlimit limit;
	int refused = 0;

#define TRY(i, call) \
	do { \
		errno = 0; \
		refused |= ((call) == -1 && errno == EPERM) << (i); \
	} while (0)
	TRY(0, kill(parent, 0));
	TRY(1, ptrace(PTRACE_ATTACH, parent, NULL, NULL));
	TRY(2, process_vm_readv(parent, &to, 1, &from, 1, 0));
	TRY(3, open("/proc/self/status", O_RDONLY));
	TRY(4, execv("/bin/true", argv));
	TRY(5, prlimit(parent, RLIMIT_NOFILE, NULL, &limit));
	TRY(6, fork());
	TRY(7, syscall(SYS_tgkill, parent, parent, 0));
#undef TRY
	return refused;
}

START_TEST(the_admin_process_reaches_no_other)
{
	pid_t parent = getpid(), child;
	int status;

	if (is_under_memcheck())
		return;
	child = fork();
	if (child == 0) {
		if (!confine_alone() || !confine())
			_exit(0);
#if defined(__SANITIZE_ADDRESS__)
		_exit((1 << TRIED) - 1);
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
		_exit((1 << TRIED) - 1);
#endif
#endif
		_exit(try_what_is_denied(parent));
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), (1 << TRIED) - 1);
}
END_TEST

/* A signal that must kill it does so. */
START_TEST(the_admin_process_can_abort)
{
	pid_t child;
	int status;

	if (is_under_memcheck())
		return;
	child = fork();
	if (child == 0) {
		if (confine_alone() && confine())
			abort();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGABRT);
}
END_TEST

UNIT_MAIN("admin",
	tcase_add_loop_test(tc, requests_are_parsed, 0, sizeof(requests) / sizeof(requests[0])),
	tcase_add_test(tc, requests_have_limits), tcase_add_test(tc, names_that_mean_us),
	tcase_add_test(tc, requests_of_the_other_process_are_checked),
	tcase_add_test(tc, messages_come_whole_or_not_at_all),
	tcase_add_test(tc, blobs_are_what_was_written),
	tcase_add_test(tc, events_are_read_while_they_are_written),
	tcase_add_test(tc, the_admin_process_reaches_no_other),
	tcase_add_test(tc, the_admin_process_can_abort))
