/* SPDX-License-Identifier: MIT */
/*
 * Endpoint strings, and which two of them cannot be bound together: compared
 * with listeners on a real loop.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/broker.h"
#include "net/endpoint.h"
#include "net/listener.h"
#include "unit.h"

static const struct {
	const char *text;
	bool bind, connect; /* good for that? */
	const char *canonical;
} cases[] = {
	{"tcp://*:5555", true, false, "tcp://*:5555"},
	{"tcp://127.0.0.1:*", true, false, "tcp://127.0.0.1:*"},
	{"TCP://127.0.0.1:80", true, true, "tcp://127.0.0.1:80"},
	{"tcp://[::1]:5555", true, true, "tcp://[::1]:5555"},
	{"tcp://[fe80::1%eth0]:1", true, true, "tcp://[fe80::1%eth0]:1"},
	{"tcp://some-host.example:65535", true, true, "tcp://some-host.example:65535"},
	{"tcp://eth0:0080", true, true, "tcp://eth0:80"},
	{"ipc:///run/x.sock", true, true, "ipc:///run/x.sock"},
	{"ipc://@name", true, true, "ipc://@name"},
	{"fd://front", true, false, "fd://front"},
	{"", false, false, NULL},
	{"tcp:/127.0.0.1:1", false, false, NULL},
	{"tcp://127.0.0.1", false, false, NULL},
	{"tcp://127.0.0.1:", false, false, NULL},
	{"tcp://:5555", false, false, NULL},
	{"tcp://127.0.0.1:0", false, false, NULL},
	{"tcp://127.0.0.1:65536", false, false, NULL},
	{"tcp://127.0.0.1:-1", false, false, NULL},
	{"tcp://127.0.0.1:99999999999999999999", false, false, NULL},
	{"tcp://127.0.0.1:8x", false, false, NULL},
	{"tcp://127.0.0.256:1", false, false, NULL},
	{"tcp://::1:5555", false, false, NULL},
	{"tcp://[::1]", false, false, NULL},
	{"tcp://[::g]:1", false, false, NULL},
	{"tcp://[]:1", false, false, NULL},
	{"tcp://a b:1", false, false, NULL},
	{"ipc://relative", false, false, NULL},
	{"ipc://", false, false, NULL},
	{"ipc://@", false, false, NULL},
	{"fd://", false, false, NULL},
	{"udp://*:1", false, false, NULL},
};

START_TEST(both_ways)
{
	struct endpoint e;

	ck_assert_msg((endpoint_parse(&e, cases[_i].text, true) == NULL) == cases[_i].bind, "%s",
		cases[_i].text);
	if (cases[_i].bind)
		ck_assert_str_eq(e.text, cases[_i].canonical);
	ck_assert_msg((endpoint_parse(&e, cases[_i].text, false) == NULL) == cases[_i].connect,
		"%s", cases[_i].text);
}
END_TEST

static const struct {
	const char *text;
	bool bind;
	const char *error;
} errors[] = {
	{"tcp://h:*", false, "port * is for bind only"},
	{"tcp://h:0", true, "port must be a number from 1 to 65535"},
	{"tcp://h:65536", true, "port must be a number from 1 to 65535"},
	{"tcp://h", true, "port is missing"},
	{"tcp://*:1", false, "host * is for bind only"},
	{"tcp://:1", true, "host is missing"},
	{"tcp://[]:1", true, "host is missing"},
	{"tcp://[::g]:1", true, "not an IPv6 address"},
	{"tcp://::1:1", true, "an IPv6 address needs brackets: tcp://[::1]:5555"},
	{"tcp://a b:1", true, "bad character in the host"},
	{"tcp://127.0.0.256:1", true, "not an IPv4 address"},
	{"ipc://x", true, "ipc needs an absolute path (ipc:///run/x.sock) or ipc://@name"},
	{"ipc://@", true, "name is missing"},
	{"fd://x", false, "fd:// is for bind only"},
	{"fd://", true, "name is missing or too long"},
	{"tcp://h:1, tcp://h:2", true,
		"these are several endpoints; one line takes one, and bind and connect may be "
		"repeated"},
	{"udp://h:1", true,
		"an endpoint begins with tcp://, ipc:// or fd://, as in tcp://127.0.0.1:5555"},
};

START_TEST(errors_say_what_is_wrong)
{
	struct endpoint e;

	ck_assert_pstr_eq(endpoint_parse(&e, errors[_i].text, errors[_i].bind), errors[_i].error);
}
END_TEST

START_TEST(lengths)
{
	char text[600] = "ipc:///";
	struct endpoint e;

	memset(text + 7, 'a', 106);
	ck_assert_ptr_null(endpoint_parse(&e, text, true));
	ck_assert_uint_eq(strlen(e.host), 107);
	text[113] = 'a';
	ck_assert_pstr_eq(
		endpoint_parse(&e, text, true), "path is too long for a Unix socket (107 bytes)");
	memset(text, 0, sizeof(text));
	memcpy(text, "tcp://", 6);
	memset(text + 6, 'a', 256);
	memcpy(text + 262, ":1", 2);
	ck_assert_pstr_eq(endpoint_parse(&e, text, true), "host is too long");
}
END_TEST

/* Hosts with one port, each bound together with each. */
static const char *const hosts[] = {"*", "0.0.0.0", "127.0.0.1", "127.0.0.2", "0x7f.2", "[::]",
	"[0::0]", "[::1]", "[0::1]", "[::ffff:127.0.0.1]", "[::FFFF:7f00:1]", "[::ffff:0.0.0.0]"};
enum { HOSTS = sizeof(hosts) / sizeof(hosts[0]) };

static const struct proxy_opts opts = {.side.backlog = 16, .side.ipc_mode = 0600};
static struct loop *loop;
static struct broker *broker;
static struct side *side;

static void
open_loop(void)
{
	struct proxy *proxy;

	ck_assert_int_ge(sodium_init(), 0);
	loop = loop_new();
	broker = broker_new(loop, 1 << 30);
	proxy = proxy_new(loop, "test", &opts, &opts);
	broker_add(broker, proxy);
	side = &proxy->side[0];
}

static void
close_loop(void)
{
	broker_free(broker);
	loop_free(loop);
}

static struct endpoint
parsed(const char *text)
{
	struct endpoint e;

	ck_assert_msg(endpoint_parse(&e, text, true) == NULL, "%s", text);
	return e;
}

static struct endpoint
tcp(const char *host, unsigned port)
{
	char text[64];

	snprintf(text, sizeof(text), "tcp://%s:%u", host, port);
	return parsed(text);
}

static bool
binds(const struct endpoint *e)
{
	char error[256];
	struct listener *l = listener_new(side, e, error, sizeof(error));

	listener_free(l);
	return l != NULL;
}

/* A port that is free on every address, or 0 if there is no IPv6. */
static unsigned
free_port(void)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	socklen_t len = sizeof(in6);
	int fd = socket(AF_INET6, SOCK_STREAM, 0), off = 0;

	if (fd < 0)
		return 0;
	ck_assert_int_eq(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)), 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&in6, sizeof(in6)), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&in6, &len), 0);
	close(fd);
	return ntohs(in6.sin6_port);
}

/* Binds both; the answer must be endpoint_clash's. Others use ports, too: they get some tries. */
static void
try_pair(const char *x, const char *y)
{
	char error[256];

	for (int i = 0; i < 20; i++) {
		unsigned port = free_port();
		struct endpoint a = tcp(x, port), b = tcp(y, port);
		struct listener *l;
		bool clash;

		if (!binds(&a) || !binds(&b))
			continue;
		l = listener_new(side, &a, error, sizeof(error));
		if (l == NULL)
			continue;
		clash = !binds(&b);
		listener_free(l);
		if (clash == endpoint_clash(&a, &b)) {
			ck_assert(clash == endpoint_clash(&b, &a));
			return;
		}
	}
	ck_abort_msg("%s and %s: endpoint_clash is wrong", x, y);
}

START_TEST(clashes_are_those_of_real_sockets)
{
	struct endpoint loopback = tcp("[::1]", free_port());

	open_loop();
	if (loopback.port != 0 && binds(&loopback)) /* or else there is no IPv6 to compare with */
		for (int i = 0; i < HOSTS; i++)
			for (int j = 0; j < HOSTS; j++)
				try_pair(hosts[i], hosts[j]);
	close_loop();
}
END_TEST

static const struct {
	const char *a, *b;
	bool clash;
} pairs[] = {
	{"tcp://0.0.0.0:5", "tcp://127.0.0.1:5", true},
	{"tcp://0.0.0.0:5", "tcp://127.0.0.1:6", false},
	{"tcp://0.0.0.0:*", "tcp://0.0.0.0:*", false},
	{"tcp://*:5", "tcp://*:*", false},
	{"tcp://*:5", "tcp://0.0.0.0:5", true},
	{"tcp://*:5", "tcp://[::1]:5", true},
	{"tcp://[::]:5", "tcp://127.0.0.1:5", true},
	{"tcp://[::]:5", "tcp://[::1]:5", true},
	{"tcp://[::1]:5", "tcp://[0::1]:5", true},
	{"tcp://[::1]:5", "tcp://0.0.0.0:5", false},
	{"tcp://[fe80::1%1]:5", "tcp://[fe80::1%2]:5", false},
	{"tcp://[fe80::1%1]:5", "tcp://[fe80:0::1%1]:5", true},
	{"tcp://[fe80::1%1]:5", "tcp://[fe80::1%lo]:5", true},
	{"tcp://[fe80::1%1]:5", "tcp://[::]:5", true},
	{"tcp://[fe80::1%nosuch]:5", "tcp://[fe80::1%nosuch]:5", true},
	{"tcp://name.example:5", "tcp://name.example:5", true},
	{"tcp://name.example:5", "tcp://*:5", true},
	{"tcp://name.example:5", "tcp://[::]:5", true},
	{"tcp://name.example:5", "tcp://0.0.0.0:5", false}, /* it may be an IPv6 address */
	{"tcp://name.example:5", "tcp://other.example:5", false},
	{"tcp://*:5", "ipc://@5", false},
	{"ipc:///a/b", "ipc:///a/b", true},
	{"ipc:///a/b", "ipc:///a//./b", true},
	{"ipc:///a/b", "ipc:///a/.b", false},
	{"ipc:///a/b", "ipc:///a/bc", false},
	{"ipc:///a/b", "ipc:///a/../a/b", false}, /* a may be a symbolic link */
	{"ipc:///a", "ipc://@/a", false},
	{"ipc://@a", "ipc://@a", true},
	{"ipc://@a/b", "ipc://@a//b", false},
	{"fd://a", "fd://a", true},
	{"fd://a", "fd://b", false},
};

static bool
clash_by_keys(const struct endpoint *before, const struct endpoint *e)
{
	struct endpoint_keys x, y;

	endpoint_clash_keys(before, &x);
	endpoint_clash_keys(e, &y);
	for (size_t i = 0; i < x.is_count; i++)
		for (size_t j = 0; j < y.meets_count; j++)
			if (x.is[i].len == y.meets[j].len &&
				memcmp(x.is[i].bytes, y.meets[j].bytes, x.is[i].len) == 0)
				return true;
	return false;
}

START_TEST(clashes)
{
	struct endpoint a = parsed(pairs[_i].a), b = parsed(pairs[_i].b);

	ck_assert(endpoint_clash(&a, &b) == pairs[_i].clash);
	ck_assert(endpoint_clash(&b, &a) == pairs[_i].clash);
	ck_assert(clash_by_keys(&a, &b) == pairs[_i].clash);
	ck_assert(clash_by_keys(&b, &a) == pairs[_i].clash);
}
END_TEST

/* net.ipv6.bindv6only = 1, where we may have a namespace to set it in. */
static void
set_bindv6only(void)
{
	int fd;

	if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
		return;
	fd = open("/proc/sys/net/ipv6/bindv6only", O_WRONLY);
	if (fd < 0)
		return;
	(void)!write(fd, "1", 1);
	close(fd);
}

START_TEST(any_host_is_both_families)
{
	static const char *const any[] = {"tcp://*:*", "tcp://[::]:*"};
	struct sockaddr_storage addr;
	int only = 1;

	set_bindv6only();
	open_loop();
	for (int i = 0; i < 2; i++) {
		struct endpoint e = parsed(any[i]);
		char error[256];
		struct listener *l = listener_new(side, &e, error, sizeof(error));
		socklen_t size = sizeof(addr), len = sizeof(only);

		if (l == NULL && i == 1)
			break; /* no IPv6 */
		ck_assert_msg(l != NULL, "%s", error);
		ck_assert_int_eq(getsockname(listener_fd(l), (struct sockaddr *)&addr, &size), 0);
		if (addr.ss_family == AF_INET6) {
			ck_assert_int_eq(
				getsockopt(listener_fd(l), IPPROTO_IPV6, IPV6_V6ONLY, &only, &len),
				0);
			ck_assert_int_eq(only, 0);
		}
		listener_free(l);
	}
	close_loop();
}
END_TEST

UNIT_MAIN("endpoint", tcase_add_loop_test(tc, clashes, 0, (int)(sizeof(pairs) / sizeof(pairs[0]))),
	tcase_add_test(tc, clashes_are_those_of_real_sockets),
	tcase_add_test(tc, any_host_is_both_families),
	tcase_add_loop_test(tc, both_ways, 0, (int)(sizeof(cases) / sizeof(cases[0]))),
	tcase_add_loop_test(
		tc, errors_say_what_is_wrong, 0, (int)(sizeof(errors) / sizeof(errors[0]))),
	tcase_add_test(tc, lengths))
