/* SPDX-License-Identifier: MIT */
/*
 * The configuration: every kind of error with its line, and the round trip.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/options.h"
#include "unit.h"

static char errors[32768];

/* Loads the text from a file; the errors are left in `errors`, without the path. */
static struct config *
load(const char *text, size_t len)
{
	char path[] = "/tmp/test_config.XXXXXX", line[1024];
	int fd = mkstemp(path);
	FILE *err = tmpfile();
	struct config *c;
	struct config_errors found;
	size_t n = 0, lines = 0;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, len), (ssize_t)len);
	close(fd);
	c = config_load(path, &found);
	config_errors_print(&found, path, err);
	unlink(path);
	rewind(err);
	errors[0] = '\0';
	while (fgets(line, sizeof(line), err) != NULL) {
		lines++;
		ck_assert_msg(strncmp(line, path, strlen(path)) == 0, "%s", line);
		n += (size_t)snprintf(
			errors + n, sizeof(errors) - n, "%s", line + strlen(path) + 1);
	}
	fclose(err);
	ck_assert((c == NULL) == (errors[0] != '\0'));
	ck_assert_uint_eq(lines, found.count + (config_errors_left_out(&found) > 0));
	config_errors_fini(&found);
	return c;
}

#define GOOD "[frontend]\nbind = tcp://*:5555\n[backend]\nbind = tcp://*:5556\n"

START_TEST(minimal)
{
	struct config *c = load(GOOD, strlen(GOOD));

	ck_assert_ptr_nonnull(c);
	ck_assert_uint_eq(c->proxy_count, 1);
	ck_assert_str_eq(c->proxy[0].name, "default");
	ck_assert_int_eq(c->proxy[0].side[0].opts.side.send_timeout, 10000);
	ck_assert_int_eq(c->proxy[0].side[1].opts.side.max_message_size, 64 << 20);
	ck_assert_int_eq(c->proxy[0].side[1].opts.side.ipc_mode, 0660);
	ck_assert_int_eq(c->broker.memory_limit, 1 << 30);
	config_free(c);
}
END_TEST

/* Lines after a valid file, and the errors that they cause; the first of them is line 5. */
static const struct {
	const char *text, *error;
} wrong[] = {
	{"[broker]\nlog_levl = info\n",
		"6: unknown key \"log_levl\" in [broker], did you mean \"log_level\"?\n"},
	{"[brocker]\n", "5: unknown section [brocker], did you mean \"broker\"?\n"},
	{"[zebra]\n", "5: unknown section [zebra]\n"},
	{"[broker x]\n", "5: section [broker] takes no name\n"},
	{"[proxy a/b]\n", "5: invalid proxy name; use 1 to 63 of A-Z a-z 0-9 _ . -\n"},
	{"[broker\n", "5: \"]\" is missing at the end of the section's name\n"},
	{"[broker]\nlog_level = loud\n",
		"6: log_level: \"loud\" is not one of error|warning|notice|info|debug\n"},
	{"[broker]\ndrain_timeout = 5\n",
		"6: drain_timeout: \"5\" is not a duration (500ms, 5s, 2m, 1h)\n"},
	{"[broker]\ndrain_timeout = 999999999999999999h\n",
		"6: drain_timeout: 999999999999999999h is out of range: 0, or 1ms to 720h\n"},
	{"[broker]\ndrain_timeout = 721h\n",
		"6: drain_timeout: 721h is out of range: 0, or 1ms to 720h\n"},
	{"[broker]\nmax_connections = 18446744073709551617\n",
		"6: max_connections: 18446744073709551617 is out of range: 0, or 1 to 1000000\n"},
	{"[broker]\nmemory_limit = 8589934592GiB\n",
		"6: memory_limit: 8589934592GiB is out of range: 1MiB to 1048576GiB\n"},
	{"[broker]\ndrain_timeout = 99999999999999999999\n",
		"6: drain_timeout: \"99999999999999999999\" is not a duration (500ms, 5s, 2m, 1h)\n"},
	{"[broker]\nmemory_limit = 1KiB\n",
		"6: memory_limit: 1KiB is out of range: 1MiB to 1048576GiB\n"},
	{"[broker]\nmemory_limit = -1\n",
		"6: memory_limit: \"-1\" is not a size (4096, 64KiB, 16MiB, 1GiB)\n"},
	{"[broker]\nmax_connections = ten\n",
		"6: max_connections: \"ten\" is not a whole number\n"},
	{"[broker]\nuser = no-such-user-here\n", "6: user: \"no-such-user-here\" does not exist\n"},
	{"[broker]\nhttp = ipc:///tmp/x\n",
		"6: http: \"ipc:///tmp/x\" is not of the form tcp://HOST:PORT; write http = tcp://127.0.0.1:9464\n"},
	{"[broker]\nhttp = 8080\n",
		"6: http: \"8080\" is not of the form tcp://HOST:PORT; write http = tcp://127.0.0.1:8080\n"},
	{"[broker]\nhttp = :8080\n",
		"6: http: \":8080\" is not of the form tcp://HOST:PORT; write http = tcp://127.0.0.1:8080\n"},
	{"[broker]\nhttp = *:8080\n",
		"6: http: \"*:8080\" is not of the form tcp://HOST:PORT; write http = tcp://*:8080\n"},
	{"[broker]\nhttp = http://[::1]:80/metrics\n",
		"6: http: \"http://[::1]:80/metrics\" is not of the form tcp://HOST:PORT; write http = tcp://[::1]:80\n"},
	{"[broker]\nhttp = yes\n",
		"6: http: \"yes\" is not of the form tcp://HOST:PORT; write http = tcp://127.0.0.1:9464\n"},
	{"[broker]\nhttp = 70000\n",
		"6: http: \"70000\" is not of the form tcp://HOST:PORT; write http = tcp://127.0.0.1:9464\n"},
	{"[broker]\nhttp = tcp://a:1 tcp://b:1\n",
		"6: http: \"tcp://a:1 tcp://b:1\": these are several "
		"endpoints; one line takes one, and bind and connect may be repeated\n"},
	{"bind = tcp://a:1, tcp://b:2\n",
		"5: bind: \"tcp://a:1, tcp://b:2\": these are several "
		"endpoints; one line takes one, and bind and connect may be repeated\n"},
	{"connect = tcp://a:1 b:2\n",
		"5: connect: \"tcp://a:1 b:2\": these are several "
		"endpoints; one line takes one, and bind and connect may be repeated\n"},
	{"bind = ipc:///a,ipc:///b\n",
		"5: bind: \"ipc:///a,ipc:///b\": these are several "
		"endpoints; one line takes one, and bind and connect may be repeated\n"},
	{"bind = tcp://a:1,2\nbind = ipc:///a b\nbind = ipc:///c,d\n",
		"5: bind: \"tcp://a:1,2\": these are "
		"several endpoints; one line takes one, and bind and connect may be repeated\n"},
	{"bind = 5555\n",
		"5: bind: \"5555\": an endpoint begins with tcp://, ipc:// or fd://, as in tcp://127.0.0.1:5555\n"},
	{"[broker]\nhttp = tcp://*\n", "6: http: \"tcp://*\": port is missing\n"},
	{"[broker]\nhttp = tcp://127.0.0.1:5556\n",
		"6: http: tcp://127.0.0.1:5556 clashes with tcp://*:5556 at line 4\n"},
	{"[broker]\nhttp_hosts = a:80\n",
		"6: http_hosts: \"a:80\" is not the name of a host (without a port)\n"},
	{"[broker]\ncontrol = control.sock\n",
		"6: control: \"control.sock\" is not an absolute path\n"},
	{"[broker]\nlog_level = info\nlog_level = info\n",
		"7: duplicate key \"log_level\" (first at line 6)\n"},
	{"[frontend]\nbind = tcp://*:1\n", "5: duplicate section [frontend] (first at line 1)\n"},
	{"[proxy]\nmode = forwarder\n", "6: mode: \"forwarder\" is not available yet\n"},
	{"[proxy]\nmode = quue\n", "6: mode: \"quue\" is not one of queue|forwarder|streamer\n"},
	{"[proxy other]\n", "5: proxy \"other\" has neither [frontend] nor [backend]\n"},
	{"[frontend b]\nbind = tcp://*:1\n", "5: proxy \"b\" has a frontend but no [backend]\n"},
	{"[backend b]\nbind = tcp://*:1\n", "5: proxy \"b\" has a backend but no [frontend]\n"},
	{"[frontend b]\n[backend b]\nconnect = tcp://a:1\n",
		"5: [frontend] of proxy \"b\" needs a bind or a connect\n"},
	{"[frontend b]\nbind = tcp://127.0.0.1:5556\n[backend b]\nbind = tcp://*:7\n",
		"6: bind: tcp://127.0.0.1:5556 clashes with tcp://*:5556 at line 4\n"},
	{"[frontend b]\nbind = tcp://nowhere\n[backend b]\nbind = tcp://*:7\n",
		"6: bind: \"tcp://nowhere\": port is missing\n"},
	{"[frontend b]\nbind = fd://x\n[backend b]\nbind = fd://x\n",
		"8: bind: fd://x clashes with fd://x at line 6\n"},
	{"[frontend b]\nbind = tcp://0.0.0.0:9\n[backend b]\nbind = tcp://127.0.0.1:9\n",
		"8: bind: tcp://127.0.0.1:9 clashes with tcp://0.0.0.0:9 at line 6\n"},
	{"[frontend b]\nbind = tcp://[::1]:9\n[backend b]\nbind = tcp://[0::1]:9\n",
		"8: bind: tcp://[0::1]:9 clashes with tcp://[::1]:9 at line 6\n"},
	{"[defaults]\nbind = tcp://*:9\n",
		"6: \"bind\" belongs in [frontend] or [backend], not in [defaults]\n"},
	{"[broker]\nconnect = tcp://a:9\n",
		"6: \"connect\" belongs in [frontend] or [backend], not in [broker]\n"},
	{"[broker]\nsend_timeout = 1s\n",
		"6: \"send_timeout\" belongs in [frontend], [backend] or [defaults], not in [broker]\n"},
	{"[proxy]\nsend_timeout = 1s\n",
		"6: \"send_timeout\" belongs in [frontend], [backend] or [defaults], not in [proxy]\n"},
	{"[proxy]\nmax_connections = 1\n",
		"6: \"max_connections\" belongs in [broker], [frontend], [backend] or [defaults], not in [proxy]\n"},
	{"[proxy]\nuser = x\n", "6: \"user\" belongs in [broker], not in [proxy]\n"},
	{"drain_timeout = 1s\n", "5: \"drain_timeout\" belongs in [broker], not in [backend]\n"},
	{"[defaults]\nlog_level = info\n",
		"6: \"log_level\" belongs in [broker], not in [defaults]\n"},
	{"mode = queue\n", "5: \"mode\" belongs in [proxy], not in [backend]\n"},
	/*
	 * a broken header: one error, nothing for what stands below it, nothing for what is missing
	 */
	{"[frontend b\nbind = x\nnonsense = 1\n[backend b]\nbind = tcp://*:9\n",
		"5: \"]\" is missing at the end of the section's name\n"},
	{"[proxy b]\n[frontend b] x\nbind = x\n",
		"6: \"]\" is missing at the end of the section's name\n"},
	{"[brok\x1b"
	 "er]\nbind = x\n",
		"5: unknown section [\"brok\\x1ber\"], did you mean \"broker\"?\n"},
	{"[brocker]\nbind = x\n[backend b]\nbind = tcp://*:9\n",
		"5: unknown section [brocker], did you mean \"broker\"?\n"
		"7: proxy \"b\" has a backend but no [frontend]\n"},
	{"[defaults b]\nbind = x\n[backend b]\nbind = tcp://*:9\n",
		"5: section [defaults] takes no name\n7: proxy \"b\" has a backend but no [frontend]\n"},
	{"[frontend b/]\nbind = x\n[backend b]\nbind = tcp://*:9\n",
		"5: invalid proxy name; use 1 to 63 of A-Z a-z 0-9 _ . -\n"},
	{"[fro]\nbind = x\n[backend b]\nbind = tcp://*:9\n", "5: unknown section [fro]\n"},
	/* control characters */
	{"a\x1b[31m = 1\n", "5: unknown key \"a\\x1b[31m\" in [backend]\n"},
	{"bind = tcp://a\rb:1\n", "5: bind: \"tcp://a\\x0db:1\": bad character in the host\n"},
	{"send_hwm = \"\xff\\\n", "5: send_hwm: \"\\\"\\xff\\\\\" is not a whole number\n"},
	{"ipc_mode = \t7\t7\n",
		"5: ipc_mode: \"7\\x097\" is not an octal permission (0000 to 0777)\n"},
	{"tcp_keepalive = \x7f\n", "5: tcp_keepalive: \"\\x7f\" is neither yes nor no\n"},
	{"when_full = \b\n", "5: when_full: \"\\x08\" is not one of drop|pause|close\n"},
	{"mechanism = \x9b\n", "5: mechanism: \"\\x9b\" is not available yet\n"},
	{"[broker]\ngroup = \x1b\n", "6: group: \"\\x1b\" does not exist\n"},
	{"bind = ipc:///\x1b\nbind = ipc:///\x1b\n",
		"6: bind: \"ipc:///\\x1b\" clashes with \"ipc:///\\x1b\" at line 5\n"},
	{"routing_id: x=y\n", "5: expected \"key = value\" or \"[section]\"\n"},
	{"[defaults]\nsend_timeout = x\n",
		"6: send_timeout: \"x\" is not a duration (500ms, 5s, 2m, 1h)\n"},
	{"[defaults]\ntcp_keepalive = maybe\n",
		"6: tcp_keepalive: \"maybe\" is neither yes nor no\n"},
	{"[defaults]\nipc_mode = 0999\n",
		"6: ipc_mode: \"0999\" is not an octal permission (0000 to 0777)\n"},
	{"[defaults]\nhandshake_timeout = 0\n",
		"6: handshake_timeout: 0 is out of range: 1ms to 720h\n"},
	/* the line of the setting at fault: a side's own, of two the later one */
	{"[frontend b]\nbind = tcp://*:1\nreconnect_min = 1m\n[backend b]\nbind = tcp://*:2\n",
		"7: reconnect_min (1m) is longer than reconnect_max (30s)\n"},
	{"[frontend b]\nbind = tcp://*:1\n[backend b]\nreconnect_max = 1s\nbind = tcp://*:2\nreconnect_min = 1m\n",
		"10: reconnect_min (1m) is longer than reconnect_max (1s)\n"},
	{"[frontend b]\nbind = tcp://*:1\n[backend b]\nreconnect_min = 1m\nbind = tcp://*:2\nreconnect_max = 1s\n",
		"10: reconnect_min (1m) is longer than reconnect_max (1s)\n"},
	{"[frontend b]\nbind = tcp://*:1\nreconnect_max = 1s\n[backend b]\nbind = tcp://*:2\nreconnect_max = 3m\n"
	 "[defaults]\nreconnect_max = 2m\nreconnect_min = 2m\n[frontend c]\nbind = tcp://*:3\n[backend c]\nbind = tcp://*:4\n",
		"7: reconnect_min (2m) is longer than reconnect_max (1s)\n"},
	/* inherited by two sides: once */
	{"[defaults]\nreconnect_min = 1m\n",
		"6: reconnect_min (1m) is longer than reconnect_max (30s)\n"},
	{"[defaults]\nreconnect_max = 1ms\n",
		"6: reconnect_min (100ms) is longer than reconnect_max (1ms)\n"},
	/* a refused value causes no further errors */
	{"[defaults]\nreconnect_min = 1m\nreconnect_max = 5 m\n",
		"7: reconnect_max: \"5 m\" is not a duration (500ms, 5s, 2m, 1h)\n"},
	{"[defaults]\nreconnect_min = 1m\n[frontend b]\nbind = tcp://*:1\nreconnect_max = 5 m\n[backend b]\n"
	 "bind = tcp://*:2\nreconnect_max = 1h\n",
		"6: reconnect_min (1m) is longer than reconnect_max (30s)\n"
		"9: reconnect_max: \"5 m\" is not a duration (500ms, 5s, 2m, 1h)\n"},
	{"nonsense\n", "5: expected \"key = value\" or \"[section]\"\n"},
	{"= 5\n", "5: a key is missing before \"=\"\n"},
};

START_TEST(every_error_has_its_line)
{
	char text[1024];
	struct config *c;

	ck_assert_uint_lt(strlen(GOOD) + strlen(wrong[_i].text), sizeof(text));
	snprintf(text, sizeof(text), "%s%s", GOOD, wrong[_i].text);
	c = load(text, strlen(text));
	ck_assert_ptr_null(c);
	ck_assert_str_eq(errors, wrong[_i].error);
}
END_TEST

START_TEST(all_errors_in_order)
{
	static const char text[] = "x = 1\n[frontend]\nbind = tcp://*:0\nfoo = 1\n";

	ck_assert_ptr_null(load(text, strlen(text)));
	ck_assert_str_eq(errors,
		"1: key \"x\" before the first section\n"
		"2: proxy \"default\" has a frontend but no [backend]\n"
		"3: bind: \"tcp://*:0\": port must be a number from 1 to 65535\n"
		"4: unknown key \"foo\" in [frontend]\n");
}
END_TEST

START_TEST(odd_but_good_files)
{
	static const char text[] =
		"\xef\xbb\xbf# comment\r\n[ frontend ]\r\n  bind=tcp://*:1 # here\r\n"
		"\tsend_timeout = 2m ; there\r\n[defaults]\r\nsend_timeout = 7s\r\n"
		"[backend]\r\nbind = ipc:///tmp/a#b\r\nconnect = ipc://@x;y";
	struct config *c = load(text, strlen(text));

	ck_assert_msg(c != NULL, "%s", errors);
	ck_assert_int_eq(c->proxy[0].side[0].opts.side.send_timeout, 120000);
	ck_assert_int_eq(c->proxy[0].side[1].opts.side.send_timeout, 7000);
	ck_assert_str_eq(c->proxy[0].side[1].bind[0].text, "ipc:///tmp/a#b");
	ck_assert_str_eq(c->proxy[0].side[1].connect[0].text, "ipc://@x;y");
	config_free(c);
}
END_TEST

START_TEST(keys_before_the_first_section)
{
	static const char text[] = "a\x1b = 1\n" GOOD;

	ck_assert_ptr_null(load(text, strlen(text)));
	ck_assert_str_eq(errors, "1: key \"a\\x1b\" before the first section\n");
}
END_TEST

/* Valid pairs that look alike. */
START_TEST(binds_that_do_not_clash)
{
	static const char text[] =
		"[frontend]\nbind = tcp://127.0.0.1:5\nbind = tcp://127.0.0.2:5\nbind = tcp://[::1]:5\n"
		"bind = tcp://*:*\nbind = tcp://*:*\nbind = tcp://0.0.0.0:6\nbind = tcp://[::1]:6\n"
		"[backend]\nbind = tcp://0.0.0.0:*\nconnect = tcp://127.0.0.1:5\n";

	struct config *c = load(text, strlen(text));
	ck_assert_msg(c != NULL, "%s", errors);
	config_free(c);
}
END_TEST

START_TEST(hostile_files)
{
	char text[20000];

	ck_assert_ptr_null(load("", 0));
	ck_assert_str_eq(errors, "1: no proxy: a [frontend] and a [backend] are needed\n");
	ck_assert_ptr_null(load("[bro\0ker]\nx = 1\n", 16));
	ck_assert_str_eq(errors, "1: a zero byte in the file\n");
	ck_assert_ptr_null(load(GOOD "send_hwm = 1\0\n", strlen(GOOD) + 14));
	ck_assert_str_eq(errors, "5: a zero byte in the file\n");
	memset(text, 'a', sizeof(text));
	memcpy(text, GOOD, strlen(GOOD));
	ck_assert_ptr_null(load(text, sizeof(text)));
	ck_assert_str_eq(errors, "5: line too long: at most 4096 bytes\n");
	memset(text, '[', sizeof(text));
	memcpy(text + sizeof(text) - 10, "\nx = 1\nx=2", 10);
	ck_assert_ptr_null(load(text, sizeof(text)));
	ck_assert_str_eq(errors, "1: line too long: at most 4096 bytes\n");
}
END_TEST

/*
 * A file has an end, also one that grows while it is read. Few lines, since only its bytes matter.
 */
START_TEST(endless_file)
{
	size_t size = (16 << 20) + 1, line = 4000;
	char *text = malloc(size);

	ck_assert_ptr_nonnull(text);
	memset(text, ';', size);
	for (size_t at = line; at < size; at += line)
		text[at] = '\n';
	memcpy(text, GOOD, strlen(GOOD));
	config_free(load(text, size - 1));
	ck_assert_str_eq(errors, "");
	ck_assert_ptr_null(load(text, size));
	ck_assert_ptr_nonnull(strstr(errors, ": the file is longer than 16 MiB\n"));
	free(text);
}
END_TEST

/*
 * However many errors there are, the first hundred are printed, and a line counts the rest. n
 * repetitions take n steps: with n * n of them this test would not end in time.
 */
START_TEST(many_errors)
{
	static const char *const lines[] = {"nosuch = 1\n", "send_hwm = 5\n", "[frontend]\n",
		"[defaults]\n", "bind = tcp://127.0.0.1:5556\n", "[nosuch]\n", "[frontend\n",
		"bind = tcp://*:0\n"};
	size_t n = (size_t)unit_repeat(100000, 50), len = strlen(lines[_i]), start = strlen(GOOD),
	       count = 0;
	char *text = malloc(start + n * len), expected[64];
	const char *end;

	ck_assert_ptr_nonnull(text);
	memcpy(text, GOOD, start);
	for (size_t i = 0; i < n; i++)
		memcpy(text + start + i * len, lines[_i], len);
	ck_assert_ptr_null(load(text, start + n * len));
	for (const char *c = errors; *c != '\0'; c++)
		count += *c == '\n';
	ck_assert_uint_eq(count, 101);
	end = strstr(errors, "and ");
	ck_assert_ptr_nonnull(end);
	snprintf(expected, sizeof(expected), "and %zu more errors\n", n - 100);
	if (strcmp(lines[_i], "send_hwm = 5\n") == 0 || strcmp(lines[_i], "[defaults]\n") == 0)
		snprintf(expected, sizeof(expected), "and %zu more errors\n", n - 101);
	ck_assert_str_eq(end, expected);
	ck_assert_int_eq(strncmp(errors, "5: ", 3) == 0 || strncmp(errors, "6: ", 3) == 0, 1);
	free(text);
}
END_TEST

/* The same number of valid lines takes no longer. */
START_TEST(many_good_lines)
{
	size_t n = (size_t)unit_repeat(20000, 10), size = 1 << 22, len = 0;
	char *text = malloc(size), last[32];
	struct config *c;

	ck_assert_ptr_nonnull(text);
	for (size_t i = 0; i < n; i++)
		len += (size_t)snprintf(text + len, size - len,
			"[frontend p%zu]\nbind = ipc://@f%zu\n[backend p%zu]\nbind = tcp://127.1.%zu.%zu:7\n",
			i, i, i, i / 250, i % 250);
	c = load(text, len);
	ck_assert_msg(c != NULL, "%.200s", errors);
	ck_assert_uint_eq(c->proxy_count, n);
	snprintf(last, sizeof(last), "tcp://127.1.%zu.249:7", n / 250 - 1);
	ck_assert_str_eq(c->proxy[n - 1].side[1].bind[0].text, last);
	config_free(c);
	free(text);
}
END_TEST

/* Lines near the limit of their length: `key` and a value that makes the line `len` bytes. */
static struct config *
load_long(const char *key, const char *begin, size_t len)
{
	char text[16384];
	size_t n = (size_t)snprintf(text, sizeof(text), "%s", GOOD), start = n;

	n += (size_t)snprintf(text + n, sizeof(text) - n, "%s = %s", key, begin);
	memset(text + n, 'a', start + len - n);
	memcpy(text + start + len, "\n", 2);
	return load(text, strlen(text));
}

START_TEST(long_values)
{
	char host[256], id[256], text[1024];
	struct config *c;

	/* every length around inih's own limit and up to what an id may have */
	for (size_t n = 150; n <= 255; n++) {
		memset(id, 'i', n);
		memcpy(id, "\xc3\xa4;#=", 5); /* bytes with a meaning in the syntax */
		memcpy(id + n - 3, "z", 2);
		id[n - 2] = 'y';
		id[n - 1] = 'z';
		id[n] = '\0';
		snprintf(
			text, sizeof(text), GOOD "routing_id = %s ; comment\r\nsend_hwm = 7\n", id);
		c = load(text, strlen(text));
		ck_assert_msg(c != NULL, "%zu: %s", n, errors);
		ck_assert_str_eq(c->proxy[0].side[1].opts.side.routing_id, id);
		ck_assert_uint_eq(c->proxy[0].side[1].opts.side.routing_id_len, n);
		ck_assert_int_eq(c->proxy[0].side[1].opts.side.send_hwm, 7);
		config_free(c);
	}
	memset(host, 'h', 240);
	host[240] = '\0';
	snprintf(text, sizeof(text), GOOD "connect = tcp://%s:5 # there\n", host);
	c = load(text, strlen(text));
	ck_assert_msg(c != NULL, "%s", errors);
	ck_assert_str_eq(c->proxy[0].side[1].connect[0].host, host);
	config_free(c);
}
END_TEST

START_TEST(long_lines)
{
	struct config *c = load_long("send_hwm", "1 ;", 4096);

	ck_assert_msg(c != NULL, "%s", errors);
	ck_assert_int_eq(c->proxy[0].side[1].opts.side.send_hwm, 1);
	config_free(c);
	ck_assert_ptr_null(load_long("send_hwm", "1 ;", 4097));
	ck_assert_str_eq(errors, "5: line too long: at most 4096 bytes\n");
	ck_assert_ptr_null(load_long("routing_id", "", 300));
	ck_assert_str_eq(errors, "5: routing_id: too long: at most 255 bytes\n");
	ck_assert_ptr_null(load_long("[broker]\ncontrol", "/", 140));
	ck_assert_str_eq(errors, "6: control: path too long: at most 107 bytes\n");
	ck_assert_ptr_null(load_long("[broker]\nhttp_hosts", "b ", 600));
	ck_assert_str_eq(errors, "6: http_hosts: too many names: at most 512 bytes together\n");
	/* an error about a long value or key stays short, and whole */
	ck_assert_ptr_null(load_long("send_timeout", "", 4096));
	ck_assert_ptr_nonnull(strstr(errors, "aaa...\" is not a duration (500ms, 5s, 2m, 1h)\n"));
	ck_assert_uint_lt(strlen(errors), 256);
	ck_assert_ptr_null(load_long("when_full", "drop", 4096));
	ck_assert_ptr_nonnull(strstr(errors, "aaa...\" is not one of drop|pause|close\n"));
	ck_assert_ptr_null(load_long("bind", "tcp://", 4096));
	ck_assert_ptr_nonnull(strstr(errors, "aaa...\": port is missing\n"));
	ck_assert_ptr_null(load_long("send_hwm", "9 ", 4096));
	ck_assert_ptr_nonnull(strstr(errors, "aaa...\" is not a whole number\n"));
}
END_TEST

START_TEST(long_keys)
{
	char text[8192] = GOOD;
	size_t n = strlen(text);

	memset(text + n, 'k', 4000);
	memcpy(text + n + 4000, " = 1\n", 6);
	ck_assert_ptr_null(load(text, strlen(text)));
	ck_assert_ptr_nonnull(strstr(errors, "5: unknown key \"kkkk"));
	ck_assert_ptr_nonnull(strstr(errors, "\" in [backend]\n"));
}
END_TEST

/* The same file in every style of line ends, begun and ended in every way. */
START_TEST(styles_of_lines)
{
	static const char *const lines[] = {"[frontend]", "bind = tcp://*:5", "routing_id = a b",
		"", "[backend] # c", "connect = tcp://h:6 ; c"};
	static const char *const ends[] = {"\n", "\r\n", " \t\n", "\n\n\r\n"};
	char text[512];

	for (size_t end = 0; end < 4; end++) {
		for (int variant = 0; variant < 4; variant++) {
			struct config *c;
			size_t n = 0;

			if (variant & 1)
				n += (size_t)snprintf(text, sizeof(text), "\xef\xbb\xbf");
			for (size_t i = 0; i < 6; i++)
				n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", lines[i],
					i == 5 && (variant & 2) ? "" : ends[end]);
			c = load(text, n);
			ck_assert_msg(c != NULL, "%s", errors);
			ck_assert_str_eq(c->proxy[0].side[0].bind[0].text, "tcp://*:5");
			ck_assert_str_eq(c->proxy[0].side[0].opts.side.routing_id, "a b");
			ck_assert_str_eq(c->proxy[0].side[1].connect[0].text, "tcp://h:6");
			config_free(c);
		}
	}
	/* CR alone never ends a line; a BOM is one only at the start */
	ck_assert_ptr_null(load("[frontend]\rbind = tcp://*:5\r", 28));
	ck_assert_str_eq(errors, "1: \"]\" is missing at the end of the section's name\n");
	ck_assert_ptr_null(load(GOOD "\xef\xbb\xbf[defaults]\n", strlen(GOOD) + 14));
	ck_assert_str_eq(errors, "5: a byte order mark after the beginning of the file\n");
	ck_assert_ptr_null(load(GOOD " \xef\xbb\xbfsend_hwm = 7\n", strlen(GOOD) + 17));
	ck_assert_str_eq(errors, "5: a byte order mark after the beginning of the file\n");
	ck_assert_ptr_null(load(GOOD "\xef\xbb\xbfsend_hwm = 7\n", strlen(GOOD) + 16));
	ck_assert_str_eq(errors, "5: a byte order mark after the beginning of the file\n");
}
END_TEST

/* The errors of config_load for a file that it cannot read. */
static void
check_refused(const char *path, const char *error)
{
	char expected[512], text[512] = "";
	FILE *err = tmpfile();
	struct config_errors found;

	snprintf(expected, sizeof(expected), "%s: %s\n", path, error);
	ck_assert_ptr_null(config_load(path, &found));
	ck_assert_uint_eq(config_errors_count(&found), 1);
	ck_assert_int_eq(config_errors_line(&found), 0);
	config_errors_print(&found, path, err);
	config_errors_fini(&found);
	rewind(err);
	ck_assert_uint_gt(fread(text, 1, sizeof(text) - 1, err), 0);
	ck_assert_str_eq(text, expected);
	fclose(err);
}

START_TEST(files_that_cannot_be_read)
{
	char path[] = "/tmp/test_config.XXXXXX", dir[] = "/tmp/test_config.XXXXXX", fifo[64];
	int fd = mkstemp(path);
	bool root = geteuid() == 0;

	check_refused("/nonexistent/bulkhead.ini", "No such file or directory");
	check_refused("/tmp", "Is a directory");
	check_refused("/dev/zero", "not a regular file");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	check_refused(fifo, "not a regular file"); /* a FIFO without a writer: load does not wait */
	unlink(fifo);
	rmdir(dir);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fchmod(fd, 0), 0);
	if (root) /* root may read anything */
		ck_assert_int_eq(seteuid(65534), 0);
	check_refused(path, "Permission denied");
	if (root)
		ck_assert_int_eq(seteuid(0), 0);
	close(fd);
	unlink(path);
}
END_TEST

static char *
dump(const struct config *c)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	config_dump(c, out);
	fclose(out);
	return text;
}

/* Loads, prints, loads the output, prints again: both outputs are equal. Returns the first. */
static char *
round_trip(const char *text)
{
	struct config *c = load(text, strlen(text));
	char *first, *second;

	ck_assert_msg(c != NULL, "%.300s\n%.500s", text, errors);
	first = dump(c);
	config_free(c);
	c = load(first, strlen(first));
	ck_assert_msg(c != NULL, "%.300s\n%.500s", text, errors);
	second = dump(c);
	ck_assert_str_eq(first, second);
	config_free(c);
	free(second);
	return first;
}

START_TEST(dump_round_trips)
{
	static const char text[] =
		"[broker]\nlog_level = debug\ndrain_timeout = 0\nmemory_limit = 3MiB\n[defaults]\n"
		"send_timeout = 1500ms\nwhen_full = pause\nrouting_id = me\ntcp_keepalive = off\n"
		"[frontend a]\nbind = tcp://[::1]:1\nbind = tcp://*:*\nipc_mode = 0600\n"
		"[backend a]\nconnect = tcp://name.example:5\nsend_hwm_bytes = 1000\n"
		"[frontend b]\nbind = ipc://@b\n[backend b]\nbind = ipc:///tmp/b\n";
	char *out = round_trip(text);

	ck_assert_ptr_nonnull(strstr(out, "send_timeout = 1500ms\n"));
	ck_assert_ptr_nonnull(strstr(out, "send_hwm_bytes = 1000\n"));
	free(out);
}
END_TEST

/* `key = value` in its section, in each side, is printed as it was set. */
static void
check_value(const struct option_row *row, const char *value)
{
	char text[4096], line[1024];
	bool inherited = (row->sections & SECTION_DEFAULTS) != 0;
	enum section_kind section = inherited ? SECTION_DEFAULTS : (enum section_kind)row->sections;
	size_t seen = 0;
	char *out;

	snprintf(text, sizeof(text),
		"[frontend]\nbind = ipc://@f\n[backend]\nbind = ipc://@b\n%s%s%s%s=%s\n",
		section == SECTION_BACKEND ? "" : "[",
		section == SECTION_BACKEND ? "" : section_name(section),
		section == SECTION_BACKEND ? "" : "]\n", row->name, value);
	if (strcmp(row->name, "reconnect_min") == 0) /* the two must agree */
		strcat(text, "reconnect_max = 720h\n");
	else if (strcmp(row->name, "reconnect_max") == 0)
		strcat(text, "reconnect_min = 1ms\n");
	out = round_trip(text);
	snprintf(line, sizeof(line), "\n%s =%s%s\n", row->name,
		value[0] == ';' || value[0] == '#' ? "" : " ", value);
	for (const char *p = out; (p = strstr(p, line)) != NULL; p++)
		seen++;
	/* at least: max_connections stands in [broker] and in the sides */
	ck_assert_msg(seen >= (inherited ? 2 : 1), "%s: %zu times", text, seen);
	free(out);
}

static void
check_numbers(const struct option_row *row)
{
	int64_t values[] = {row->min, row->min + 1, row->max - 1, row->max, 0};
	union {
		struct config_broker broker;
		struct config_proxy_opts proxy;
		struct side_opts side;
	} base;
	char text[64];

	for (size_t i = 0; i < (row->or_zero ? 5 : 4); i++) {
		memcpy((char *)&base + row->offset, &values[i], sizeof(values[i]));
		check_value(row, option_text(row, &base, text, sizeof(text)));
	}
}

START_TEST(every_option_round_trips)
{
	static const char *const ids[] = {"", "x", ";x", "#", ";", "a;b#c", "\"a b\"", "[x]", "a=b",
		"=", "a:b", "\\", "\xc3\xa4\xff", "a\x1b\x01z"};
	const struct option_row *row = &option_table[_i];
	char id[256], choices[64], *rest;
	unsigned n = 0;

	switch (row->type) {
	case OPTION_DURATION:
	case OPTION_SIZE:
	case OPTION_INT:
	case OPTION_OCTAL:
		check_numbers(row);
		break;
	case OPTION_BOOL:
		check_value(row, "yes");
		check_value(row, "no");
		break;
	case OPTION_CHOICE:
		snprintf(choices, sizeof(choices), "%s", row->choices);
		for (char *word = strtok_r(choices, "|", &rest); word != NULL;
			word = ++n == row->available ? NULL : strtok_r(NULL, "|", &rest))
			check_value(row, word);
		break;
	case OPTION_USER:
	case OPTION_GROUP:
		check_value(row, "root");
		check_value(row, "");
		break;
	case OPTION_SOCKET:
		check_value(row, "");
		check_value(row, "/x y;z");
		memset(id, 'p', 107);
		id[0] = '/';
		id[107] = '\0';
		check_value(row, id);
		break;
	case OPTION_HOSTS:
		check_value(row, "");
		check_value(row, "broker.example.org a-b_c");
		break;
	case OPTION_HTTP:
		check_value(row, "");
		check_value(row, "tcp://[::1]:9464");
		check_value(row, "tcp://*:*");
		break;
	case OPTION_ROUTING_ID:
		for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
			check_value(row, ids[i]);
		memset(id, 'i', 255);
		id[255] = '\0';
		check_value(row, id);
		id[0] = ';';
		check_value(row, id);
		break;
	case OPTION_ENDPOINT: /* below */
	case OPTION_LATER:
		break;
	}
}
END_TEST

/* --dump-config shows it after a ";", in a line of its own. */
START_TEST(every_help_is_a_sentence)
{
	const char *help = option_table[_i].help;
	size_t len = strlen(help);

	ck_assert_uint_gt(len, 10);
	ck_assert_uint_le(len, 98);
	ck_assert(help[0] >= 'A' && help[0] <= 'Z');
	ck_assert_int_eq(help[len - 1], '.');
	ck_assert_ptr_null(strchr(help, '\n'));
}
END_TEST

/* Each option is allowed in some section, and each section has one option of a name. */
START_TEST(every_option_has_its_sections)
{
	const struct option_row *row = &option_table[_i];

	ck_assert_uint_ne(row->sections, 0);
	for (size_t i = 0; i < option_count; i++)
		if (i != (size_t)_i && strcmp(option_table[i].name, row->name) == 0)
			ck_assert_uint_eq(option_table[i].sections & row->sections, 0);
	ck_assert_uint_eq(option_sections(row->name) & row->sections, row->sections);
}
END_TEST

START_TEST(endpoints_round_trip)
{
	char host[256], path[128], text[4096], line[512];
	char *out;

	memset(host, 'h', 255);
	memset(path, 'p', 106);
	memcpy(path, "/;#", 3);
	path[50] = ' ';
	host[255] = path[106] = '\0';
	snprintf(text, sizeof(text),
		"[frontend]\nbind = tcp://%s:65535\nbind = ipc://%s\nbind=ipc://@;\nbind = tcp://*:*\n"
		"[backend]\nconnect = tcp://%s:1\nconnect = ipc://@ x#y\nconnect = tcp://[fe80::1%%a;b]:1\n",
		host, path, host);
	out = round_trip(text);
	snprintf(line, sizeof(line), "\nbind = tcp://%s:65535\n", host);
	ck_assert_ptr_nonnull(strstr(out, line));
	snprintf(line, sizeof(line), "\nbind = ipc://%s\n", path);
	ck_assert_ptr_nonnull(strstr(out, line));
	ck_assert_ptr_nonnull(strstr(out, "\nbind = ipc://@;\n"));
	ck_assert_ptr_nonnull(strstr(out, "\nconnect = ipc://@ x#y\n"));
	ck_assert_ptr_nonnull(strstr(out, "\nconnect = tcp://[fe80::1%a;b]:1\n"));
	free(out);
}
END_TEST

/* A line may have several, the list is bounded, and all are counted. */
START_TEST(warnings)
{
	enum { PROXIES = 51 };
	char text[8192], first[64];
	struct config_errors found;
	struct text out = {0};
	struct config *c;
	size_t len = 0;

	for (int i = 0; i < PROXIES; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len,
			"[frontend p%d]\nbind = tcp://*:%d\n[backend p%d]\nbind = tcp://*:%d\n"
			"replies = no\nredeliver = yes\nanswer_timeout = 1s\n",
			i, 5000 + 2 * i, i, 5001 + 2 * i);
	c = load(text, len);
	ck_assert_ptr_nonnull(c);
	config_warnings(c, &found);
	ck_assert_uint_eq(config_errors_count(&found), 2 * PROXIES);
	ck_assert_uint_eq(found.count, CONFIG_ERRORS_MAX);
	config_errors_write(&found, "x", &out);
	snprintf(first, sizeof(first), "x:3: warning: redeliver has no effect with replies = no\n");
	ck_assert_int_eq(strncmp(out.bytes, first, strlen(first)), 0);
	ck_assert_ptr_nonnull(strstr(out.bytes,
		"\nx:3: warning: answer_timeout has no effect with replies = no\nx:10:"));
	ck_assert_ptr_nonnull(strstr(out.bytes, "\nx: and 2 more warnings\n"));
	text_fini(&out);
	config_errors_fini(&found);
	config_free(c);
	c = load(GOOD, strlen(GOOD));
	config_warnings(c, &found);
	ck_assert_uint_eq(config_errors_count(&found), 0);
	config_free(c);
}
END_TEST

UNIT_MAIN("config", tcase_add_test(tc, minimal), tcase_add_test(tc, warnings),
	tcase_add_loop_test(
		tc, every_error_has_its_line, 0, (int)(sizeof(wrong) / sizeof(wrong[0]))),
	tcase_add_test(tc, all_errors_in_order), tcase_add_test(tc, keys_before_the_first_section),
	tcase_add_test(tc, binds_that_do_not_clash), tcase_add_test(tc, odd_but_good_files),
	tcase_add_test(tc, hostile_files), tcase_add_test(tc, endless_file),
	tcase_add_loop_test(tc, many_errors, 0, 8), tcase_add_test(tc, many_good_lines),
	tcase_add_test(tc, long_values), tcase_add_test(tc, long_lines),
	tcase_add_test(tc, long_keys), tcase_add_test(tc, styles_of_lines),
	tcase_add_test(tc, files_that_cannot_be_read), tcase_add_test(tc, dump_round_trips),
	tcase_add_loop_test(tc, every_option_round_trips, 0, (int)option_count),
	tcase_add_loop_test(tc, every_help_is_a_sentence, 0, (int)option_count),
	tcase_add_loop_test(tc, every_option_has_its_sections, 0, (int)option_count),
	tcase_add_test(tc, endpoints_round_trip))
