/*
 * The configuration: every kind of error with its line, and the round trip.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"
#include "unit.h"

static char errors[8192];

/* Loads the text from a file; the errors are left in `errors`, without the path. */
static struct config *
load(const char *text, size_t len)
{
	char path[] = "/tmp/test_config.XXXXXX", line[1024];
	int fd = mkstemp(path);
	FILE *err = tmpfile();
	struct config *c;
	size_t n = 0;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, len), (ssize_t)len);
	close(fd);
	c = config_load(path, err);
	unlink(path);
	rewind(err);
	errors[0] = '\0';
	while (fgets(line, sizeof(line), err) != NULL) {
		ck_assert_msg(strncmp(line, path, strlen(path)) == 0, "%s", line);
		n += (size_t)snprintf(errors + n, sizeof(errors) - n, "%s", line + strlen(path) + 1);
	}
	fclose(err);
	ck_assert((c == NULL) == (errors[0] != '\0'));
	return c;
}

#define GOOD "[frontend]\nbind = tcp://*:5555\n[backend]\nbind = tcp://*:5556\n"

START_TEST(minimal)
{
	struct config *c = load(GOOD, strlen(GOOD));

	ck_assert_ptr_nonnull(c);
	ck_assert_uint_eq(c->proxy_count, 1);
	ck_assert_str_eq(c->proxy[0].name, "default");
	ck_assert_int_eq(c->proxy[0].side[0].opts.send_timeout, 10000);
	ck_assert_int_eq(c->proxy[0].side[1].opts.max_message_size, 64 << 20);
	ck_assert_int_eq(c->proxy[0].side[1].opts.ipc_mode, 0660);
	ck_assert_int_eq(c->broker.memory_limit, 1 << 30);
	config_free(c);
}
END_TEST

/* What stands behind a good file, and what is said of it; its first line is 5. */
static const struct {
	const char *text, *error;
} wrong[] = {
	{"[broker]\nlog_levl = info\n", "6: unknown key \"log_levl\" in [broker], did you mean \"log_level\"?\n"},
	{"[brocker]\n", "5: unknown section [brocker], did you mean \"broker\"?\n"},
	{"[zebra]\n", "5: unknown section [zebra]\n"},
	{"[broker x]\n", "5: section [broker] takes no name\n"},
	{"[proxy a/b]\n", "5: a proxy's name is 1 to 63 of A-Z a-z 0-9 _ . -\n"},
	{"[broker\n", "5: \"]\" is missing at the end of the section's name\n"},
	{"[broker]\nlog_level = loud\n", "6: log_level: \"loud\" is not one of error|warning|notice|info|debug\n"},
	{"[broker]\ndrain_timeout = 5\n", "6: drain_timeout: \"5\" is not a duration (500ms, 5s, 2m, 1h)\n"},
	{"[broker]\ndrain_timeout = 999999999999999999h\n",
		"6: drain_timeout: \"999999999999999999h\" is not a duration (500ms, 5s, 2m, 1h)\n"},
	{"[broker]\ndrain_timeout = 48h\n", "6: drain_timeout: 48h is out of range: 0, or 1ms to 24h\n"},
	{"[broker]\nmemory_limit = 1KiB\n", "6: memory_limit: 1KiB is out of range: 1MiB to 1048576GiB\n"},
	{"[broker]\nmemory_limit = -1\n", "6: memory_limit: \"-1\" is not a size (4096, 64KiB, 16MiB, 1GiB)\n"},
	{"[broker]\nmax_connections = ten\n", "6: max_connections: \"ten\" is not a whole number\n"},
	{"[broker]\nuser = no-such-user-here\n", "6: user: there is no user \"no-such-user-here\"\n"},
	{"[broker]\nhttp = tcp://*:80\n", "6: http: not available yet\n"},
	{"[broker]\nlog_level = info\nlog_level = info\n", "7: \"log_level\" stands in line 6 of this section already\n"},
	{"[frontend]\nbind = tcp://*:1\n", "5: section [frontend] stands in line 1 already\n"},
	{"[proxy]\nmode = forwarder\n", "6: mode: \"forwarder\" is not available yet\n"},
	{"[proxy other]\n", "5: proxy \"other\" has neither [frontend] nor [backend]\n"},
	{"[frontend b]\nbind = tcp://*:1\n", "5: proxy \"b\" has a frontend but no [backend]\n"},
	{"[backend b]\nbind = tcp://*:1\n", "5: proxy \"b\" has a backend but no [frontend]\n"},
	{"[frontend b]\n[backend b]\nconnect = tcp://a:1\n", "5: [frontend] of proxy \"b\" needs a bind or a connect\n"},
	{"[frontend b]\nbind = tcp://127.0.0.1:5556\n[backend b]\nbind = tcp://*:7\n",
		"6: bind: tcp://127.0.0.1:5556 clashes with tcp://*:5556 in line 4\n"},
	{"[frontend b]\nbind = tcp://nowhere\n[backend b]\nbind = tcp://*:7\n", "6: bind: \"tcp://nowhere\": port is missing\n"},
	{"[frontend b]\nbind = fd://x\n[backend b]\nbind = tcp://*:7\n", "6: bind: fd:// is not available yet\n"},
	{"[defaults]\nbind = tcp://*:9\n", "6: \"bind\" belongs in [frontend] or [backend], not in [defaults]\n"},
	{"[defaults]\nsend_timeout = x\n", "6: send_timeout: \"x\" is not a duration (500ms, 5s, 2m, 1h)\n"},
	{"[defaults]\ntcp_keepalive = maybe\n", "6: tcp_keepalive: \"maybe\" is neither yes nor no\n"},
	{"[defaults]\nipc_mode = 0999\n", "6: ipc_mode: \"0999\" is not an octal permission (0000 to 0777)\n"},
	{"[defaults]\nhandshake_timeout = 0\n", "6: handshake_timeout: 0 is out of range: 1ms to 24h\n"},
	{"[frontend b]\nbind = tcp://*:1\nreconnect_min = 1m\n[backend b]\nbind = tcp://*:2\n",
		"5: reconnect_min is longer than reconnect_max\n"},
	{"nonsense\n", "5: expected \"key = value\" or \"[section]\"\n"},
	{"= 5\n", "5: a key is missing before \"=\"\n"},
};

START_TEST(every_error_has_its_line)
{
	char text[1024];
	struct config *c;

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
		"1: \"x\" stands before the first section\n"
		"2: proxy \"default\" has a frontend but no [backend]\n"
		"3: bind: \"tcp://*:0\": port must be a number from 1 to 65535\n"
		"4: unknown key \"foo\" in [frontend]\n");
}
END_TEST

START_TEST(odd_but_good_files)
{
	static const char text[] = "\xef\xbb\xbf# comment\r\n[ frontend ]\r\n  bind=tcp://*:1 # here\r\n"
				   "\tsend_timeout = 2m ; there\r\n[defaults]\r\nsend_timeout = 7s\r\n"
				   "[backend]\r\nbind = ipc:///tmp/a#b\r\nconnect = ipc://@x;y";
	struct config *c = load(text, strlen(text));

	ck_assert_msg(c != NULL, "%s", errors);
	ck_assert_int_eq(c->proxy[0].side[0].opts.send_timeout, 120000);
	ck_assert_int_eq(c->proxy[0].side[1].opts.send_timeout, 7000);
	ck_assert_str_eq(c->proxy[0].side[1].bind[0].text, "ipc:///tmp/a#b");
	ck_assert_str_eq(c->proxy[0].side[1].connect[0].text, "ipc://@x;y");
	config_free(c);
}
END_TEST

START_TEST(hostile_files)
{
	char text[4096];

	ck_assert_ptr_null(load("", 0));
	ck_assert_str_eq(errors, "1: no proxy: a [frontend] and a [backend] are needed\n");
	ck_assert_ptr_null(load("[bro\0ker]\n", 10));
	ck_assert_ptr_nonnull(strstr(errors, "1: a zero byte in the file"));
	memset(text, 'a', sizeof(text));
	ck_assert_ptr_null(load(text, sizeof(text)));
	ck_assert_ptr_nonnull(strstr(errors, "1: line is longer than 190 bytes"));
}
END_TEST

START_TEST(files_that_cannot_be_read)
{
	char text[512] = "";
	FILE *err = tmpfile();

	ck_assert_ptr_null(config_load("/nonexistent/bulkhead.ini", err));
	ck_assert_ptr_null(config_load("/tmp", err));
	rewind(err);
	ck_assert_uint_gt(fread(text, 1, sizeof(text) - 1, err), 0);
	ck_assert_ptr_nonnull(strstr(text, "/nonexistent/bulkhead.ini: No such file"));
	ck_assert_ptr_nonnull(strstr(text, "Is a directory"));
	fclose(err);
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

START_TEST(dump_round_trips)
{
	static const char text[] =
		"[broker]\nlog_level = debug\ndrain_timeout = 0\nmemory_limit = 3MiB\n[defaults]\n"
		"send_timeout = 1500ms\nwhen_full = pause\nrouting_id = me\ntcp_keepalive = off\n"
		"[frontend a]\nbind = tcp://[::1]:1\nbind = tcp://*:*\nipc_mode = 0600\n"
		"[backend a]\nconnect = tcp://name.example:5\nsend_hwm_bytes = 1000\n"
		"[frontend b]\nbind = ipc://@b\n[backend b]\nbind = ipc:///tmp/b\n";
	struct config *c = load(text, strlen(text));
	char *first, *second;

	ck_assert_msg(c != NULL, "%s", errors);
	first = dump(c);
	config_free(c);
	ck_assert_ptr_nonnull(strstr(first, "send_timeout = 1500ms\n"));
	ck_assert_ptr_nonnull(strstr(first, "send_hwm_bytes = 1000\n"));
	c = load(first, strlen(first));
	ck_assert_msg(c != NULL, "%s", errors);
	second = dump(c);
	ck_assert_str_eq(first, second);
	config_free(c);
	free(first);
	free(second);
}
END_TEST

UNIT_MAIN("config", tcase_add_test(tc, minimal),
	tcase_add_loop_test(tc, every_error_has_its_line, 0, (int)(sizeof(wrong) / sizeof(wrong[0]))),
	tcase_add_test(tc, all_errors_in_order), tcase_add_test(tc, odd_but_good_files),
	tcase_add_test(tc, hostile_files), tcase_add_test(tc, files_that_cannot_be_read),
	tcase_add_test(tc, dump_round_trips))
