/* SPDX-License-Identifier: MIT */
/*
 * bulkheadctl: its command line, its tables, its numbers.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctl/args.h"
#include "ctl/client.h"
#include "ctl/show.h"
#include "ctl/table.h"
#include "unit.h"

static struct args args;
static char *said, *complained;

static enum args_result
parse(const char *line)
{
	char copy[256], *argv[16] = {copy}, *rest;
	size_t said_len, complained_len;
	FILE *out, *err;
	enum args_result result;
	static char kept[256]; /* argv must outlive it */
	int argc = 0;

	free(said);
	free(complained);
	out = open_memstream(&said, &said_len);
	err = open_memstream(&complained, &complained_len);
	snprintf(kept, sizeof(kept), "bulkheadctl %s", line);
	for (char *word = strtok_r(kept, " ", &rest); word != NULL;
		word = strtok_r(NULL, " ", &rest))
		argv[argc++] = word;
	argv[argc] = NULL;
	result = args_parse(&args, argc, argv, out, err);
	fclose(out);
	fclose(err);
	ck_assert_int_eq(result == ARGS_WRONG, complained[0] != '\0');
	ck_assert_int_eq(result == ARGS_DONE, said[0] != '\0');
	return result;
}

START_TEST(every_command_parses_and_has_help)
{
	char line[64];

	for (int i = 0; i < CTL_HELP; i++) { /* that one is tested below */
		const struct ctl_command *c = &ctl_commands[i];

		snprintf(line, sizeof(line), "%s%s", c->word, c->argument != NULL ? " 12" : "");
		ck_assert_int_eq(parse(line), ARGS_RUN);
		ck_assert_int_eq(args.command, i);
		ck_assert(!args.json);
		ck_assert_int_eq(args.argument != NULL, c->argument != NULL);
		snprintf(line, sizeof(line), "%s --help", c->word);
		ck_assert_int_eq(parse(line), ARGS_DONE);
		ck_assert_ptr_nonnull(strstr(said, c->word));
		ck_assert_ptr_nonnull(strstr(said, c->help));
		snprintf(line, sizeof(line), "%s x y", c->word);
		ck_assert_int_eq(parse(line), ARGS_WRONG);
		if (c->argument != NULL) {
			ck_assert_int_eq(parse(c->word), ARGS_WRONG);
			ck_assert_ptr_nonnull(strstr(complained, c->argument));
		}
		ck_assert_int_eq(parse("--help"), ARGS_DONE);
		ck_assert_ptr_nonnull(strstr(said, c->help));
	}
}
END_TEST

START_TEST(options)
{
	ck_assert_int_eq(parse("-s /a/b kick 7 --json"), ARGS_RUN);
	ck_assert_str_eq(args.socket, "/a/b");
	ck_assert_str_eq(args.argument, "7");
	ck_assert(args.json);
	ck_assert_int_eq(parse("top --interval 0.5"), ARGS_RUN);
	ck_assert_int_eq(args.interval_ms, 500);
	ck_assert_ptr_nonnull(strstr(args.socket, "/bulkhead/control.sock"));
	ck_assert_int_eq(parse("-V"), ARGS_DONE);
	ck_assert_str_eq(said, "bulkheadctl " PACKAGE_VERSION "\n");
}
END_TEST

START_TEST(wrong_lines)
{
	static const char *const lines[] = {"", "stat", "statuss", "--bogus status",
		"status --bogus", "-x", "-s", "status -s", "top -i 0", "top -i -1", "top -i x",
		"top -i 1x", "top -i nan", "top -i 3601", "top -i 1e99"};

	ck_assert_int_eq(parse(lines[_i]), ARGS_WRONG);
	ck_assert_ptr_nonnull(strstr(complained, "--help"));
}
END_TEST

static const struct table_column columns[] = {{"ID", true, TABLE_WHOLE, 0},
	{"NAME", false, TABLE_CUT_END, 0}, {"LESS", false, TABLE_WHOLE, 1},
	{"LEAST", false, TABLE_WHOLE, 2}, {NULL, false, TABLE_WHOLE, 0}};

/* The table in this width, '\n' at the end of each line. */
static void
prints(size_t width, const char *want)
{
	struct table t;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	const struct screen screen = {out, width, false, ""};

	table_init(&t, columns);
	table_add(&t, "%d", 1);
	table_add(&t, "%s", "abcdefghijklmnop");
	table_add(&t, "%s", "b");
	table_add(&t, "%s", "c");
	table_add(&t, "%d", 1000);
	for (int i = 0; i < 3; i++)
		table_add(&t, "%s", "x");
	table_print(&t, &screen, 100);
	fclose(out);
	ck_assert_str_eq(text, want);
	free(text);
	table_fini(&t);
}

START_TEST(tables_fit)
{
	static const char full[] = "  ID  NAME              LESS  LEAST\n"
				   "   1  abcdefghijklmnop  b     c\n"
				   "1000  x                 x     x\n";

	prints(0, full);
	prints(35, full);
	prints(34,
		"  ID  NAME             LESS  LEAST\n"
		"   1  abcdefghijklmn~  b     c\n"
		"1000  x                x     x\n");
	prints(29,
		"  ID  NAME        LESS  LEAST\n"
		"   1  abcdefghi~  b     c\n"
		"1000  x           x     x\n");
	prints(28,
		"  ID  NAME              LESS\n"
		"   1  abcdefghijklmnop  b\n"
		"1000  x                 x\n");
	prints(16,
		"  ID  NAME\n"
		"   1  abcdefghi~\n"
		"1000  x\n");
}
END_TEST

START_TEST(a_table_shows_so_many_rows)
{
	struct table t;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	const struct screen screen = {out, 0, false, "|"};

	table_init(&t, columns);
	for (int i = 0; i < 40; i++)
		table_add(&t, "%d", i / 4);
	table_print(&t, &screen, 2);
	fclose(out);
	ck_assert_str_eq(text, "|ID  NAME  LESS  LEAST\n| 0  0     0     0\n| 1  1     1     1\n");
	free(text);
	table_fini(&t);
}
END_TEST

/* Ends of values are kept if they matter; empty columns are dropped before others. */
START_TEST(tables_keep_what_says_most)
{
	static const struct table_column some[] = {{"ADDRESS", false, TABLE_CUT_START, 0},
		{"LATE", true, TABLE_WHOLE, TABLE_LATE}, {"NONE", true, TABLE_WHOLE, 2},
		{"SOME", true, TABLE_WHOLE, 3}, {NULL, false, TABLE_WHOLE, 0}};
	struct table t;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	struct screen screen = {out, 33, true, ""};

	table_init(&t, some);
	table_add(&t, "[2001:db8::1234:5678]:54321");
	table_add(&t, "0");
	table_add(&t, "-");
	table_add(&t, "0");
	table_style(&t, STYLE_BAD);
	table_add(&t, "[::1]:1");
	table_add(&t, "0");
	table_add(&t, "0");
	table_add(&t, "7");
	table_print(&t, &screen, 100);
	screen.width = 27;
	screen.color = false;
	table_print(&t, &screen, 100);
	fclose(out);
	ck_assert_str_eq(text,
		"\033[1mADDRESS                LATE  SOME\033[0m\n"
		"\033[31m~b8::1234:5678]:54321     0     0\033[0m\n"
		"[::1]:1                   0     7\n"
		"ADDRESS                LATE\n"
		"~b8::1234:5678]:54321     0\n"
		"[::1]:1                   0\n");
	free(text);
	table_fini(&t);
}
END_TEST

START_TEST(unknown_commands_are_guessed)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{"stauts",
			"there is no command \"stauts\", did you mean \"status\" or \"stats\"?\n"},
		{"stat", ", did you mean \"status\" or \"stats\"?\n"},
		{"Peers", ", did you mean \"peers\"?\n"},
		{"loglevel", ", did you mean \"log-level\"?\n"},
		{"rel", ", did you mean \"reload\"?\n"},
		{"help statuss", ", did you mean \"status\"?\n"},
		{"frobnicate", "there is no command \"frobnicate\"\n"},
		{"help foo", "there is no command \"foo\"\n"},
		{"restart", "there is no command \"restart\"\n"}, {"", "  status "},
		{"kick", "kick PEER takes an id, as bulkheadctl peers shows them\n"},
		{"pause", "pause PROXY takes a name, as bulkheadctl status shows them\n"},
		{"log-level", "takes one of error, warning, notice, info, debug\n"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ck_assert_int_eq(parse(cases[i].line), ARGS_WRONG);
		ck_assert_msg(strstr(complained, cases[i].says) != NULL, "%s", complained);
		ck_assert_ptr_nonnull(strstr(complained, "--help"));
	}
}
END_TEST

START_TEST(help_is_a_command)
{
	ck_assert_int_eq(parse("help"), ARGS_DONE);
	ck_assert_ptr_nonnull(strstr(said, "\n  status "));
	ck_assert_int_eq(parse("help kick"), ARGS_DONE);
	ck_assert_ptr_nonnull(strstr(said, "kick PEER\n"));
	ck_assert_ptr_null(strstr(said, "\n  status "));
	ck_assert_int_eq(parse("help help"), ARGS_DONE);
	ck_assert_int_eq(parse("help kick it"), ARGS_WRONG);
}
END_TEST

/* Standard output of a test may be a terminal or not: only explicit settings are tested here. */
START_TEST(colors_are_asked_for)
{
	ck_assert_int_eq(parse("top --color"), ARGS_RUN);
	ck_assert(args_color(&args));
	ck_assert_int_eq(parse("--color=always top"), ARGS_RUN);
	setenv("NO_COLOR", "1", 1);
	ck_assert(args_color(&args));
	ck_assert_int_eq(parse("top"), ARGS_RUN);
	ck_assert(!args_color(&args));
	unsetenv("NO_COLOR");
	ck_assert_int_eq(parse("--color=never top"), ARGS_RUN);
	ck_assert(!args_color(&args));
	ck_assert_int_eq(parse("--color=blue top"), ARGS_WRONG);
	ck_assert_ptr_nonnull(strstr(complained, "blue"));
}
END_TEST

START_TEST(numbers_for_people)
{
	char text[SHOW_MAX];

	ck_assert_str_eq(show_bytes(text, 0), "0");
	ck_assert_str_eq(show_bytes(text, 1023), "1023B");
	ck_assert_str_eq(show_bytes(text, 1536), "1.5k");
	ck_assert_str_eq(show_bytes(text, 1.5 * 1024 * 1024 * 1024), "1.5G");
	ck_assert_str_eq(show_count(text, 9999), "9999");
	ck_assert_str_eq(show_count(text, 12345), "12.3k");
	ck_assert_str_eq(show_ms(text, 0), "0.0s");
	ck_assert_str_eq(show_ms(text, 59999), "59s");
	ck_assert_str_eq(show_ms(text, 192000), "3m12s");
	ck_assert_str_eq(show_ms(text, INT64_C(3600000) * 25), "1d01h");
	ck_assert_uint_lt(strlen(show_ms(text, INT64_MAX)), SHOW_MAX);
	ck_assert_uint_lt(strlen(show_bytes(text, 1e30)), SHOW_MAX);
	ck_assert_str_eq(show_bound(text, 0), "-");
	ck_assert_str_eq(show_bound(text, 0.00008), "<= 80us");
	ck_assert_str_eq(show_bound(text, 0.00512), "<= 5.12ms");
	ck_assert_str_eq(show_bound(text, 0.02), "<= 20ms");
	ck_assert_str_eq(show_bound(text, -10.48576), "> 10486ms");
}
END_TEST

/* --- permissions (the linker wraps send and recv) ------------------------- */

static int send_error, recv_error; /* an errno; 0: none */
static const char *answer_bytes;   /* what recv returns, and then the end; NULL: what comes */
static bool answer_is_endless;     /* recv fills every buffer */

ssize_t __real_send(int fd, const void *p, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *p, size_t len, int flags);
ssize_t __real_recv(int fd, void *p, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *p, size_t len, int flags);

ssize_t
__wrap_send(int fd, const void *p, size_t len, int flags)
{
	errno = send_error;
	return send_error != 0 ? -1 : __real_send(fd, p, len, flags);
}

ssize_t
__wrap_recv(int fd, void *p, size_t len, int flags)
{
	size_t n;

	errno = recv_error;
	if (recv_error != 0)
		return -1;
	if (answer_is_endless)
		return (ssize_t)len;
	if (answer_bytes == NULL)
		return __real_recv(fd, p, len, flags);
	n = strlen(answer_bytes) < len ? strlen(answer_bytes) : len;
	memcpy(p, answer_bytes, n);
	answer_bytes += n;
	return (ssize_t)n;
}

/* Ask a socket that takes the request. */
static enum client_result
ask(struct client_answer *answer)
{
	char folder[] = "/tmp/test_ctl.XXXXXX";
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	enum client_result result;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(at.sun_path, sizeof(at.sun_path), "%s/control", folder);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	result = client_ask(answer, at.sun_path, "status", NULL, false);
	close(fd);
	unlink(at.sun_path);
	rmdir(folder);
	return result;
}

/* As a security module may: the result is that of a socket that nobody may connect to. */
START_TEST(who_may_not_use_the_socket_is_denied)
{
	static const struct {
		int send_error, recv_error;
		enum client_result result;
		const char *said;
	} cases[] = {{EACCES, 0, CLIENT_DENIED, ": permission denied\nRun it with sudo"},
		{EPERM, 0, CLIENT_DENIED, ": permission denied\nRun it with sudo"},
		{0, EACCES, CLIENT_DENIED, ": permission denied\nRun it with sudo"},
		{0, EPERM, CLIENT_DENIED, ": permission denied\nRun it with sudo"},
		{EPIPE, 0, CLIENT_NO_DAEMON, ": Broken pipe"},
		{0, ECONNRESET, CLIENT_NO_DAEMON, ": Connection reset by peer"}};
	struct client_answer answer;
	enum client_result result;

	send_error = cases[_i].send_error;
	recv_error = cases[_i].recv_error;
	result = ask(&answer);
	send_error = recv_error = 0;
	ck_assert_int_eq(result, cases[_i].result);
	ck_assert_msg(strstr(answer.error, cases[_i].said) != NULL, "%s", answer.error);
	client_answer_fini(&answer);
}
END_TEST

START_TEST(an_answer_that_is_none_is_refused)
{
	static const struct {
		const char *bytes; /* NULL: more than any answer has */
		const char *said;
	} cases[] = {{"", ": the answer is incomplete, or not a broker's"},
		{"SSH-2.0-OpenSSH_9.2\r\n", ": the answer is incomplete, or not a broker's"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
			": the answer is incomplete, or not a broker's"},
		{NULL, ": the answer is too long to be a broker's"}};
	struct client_answer answer;
	enum client_result result;

	answer_bytes = cases[_i].bytes;
	answer_is_endless = cases[_i].bytes == NULL;
	result = ask(&answer);
	answer_bytes = NULL;
	answer_is_endless = false;
	ck_assert_int_eq(result, CLIENT_NO_DAEMON);
	ck_assert_msg(strstr(answer.error, cases[_i].said) != NULL, "%s", answer.error);
	client_answer_fini(&answer);
}
END_TEST

UNIT_MAIN("ctl", tcase_add_loop_test(tc, who_may_not_use_the_socket_is_denied, 0, 6),
	tcase_add_loop_test(tc, an_answer_that_is_none_is_refused, 0, 4),
	tcase_add_test(tc, every_command_parses_and_has_help), tcase_add_test(tc, options),
	tcase_add_loop_test(tc, wrong_lines, 0, 15), tcase_add_test(tc, tables_fit),
	tcase_add_test(tc, a_table_shows_so_many_rows),
	tcase_add_test(tc, tables_keep_what_says_most),
	tcase_add_test(tc, unknown_commands_are_guessed), tcase_add_test(tc, help_is_a_command),
	tcase_add_test(tc, colors_are_asked_for), tcase_add_test(tc, numbers_for_people))
