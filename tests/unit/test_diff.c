/* SPDX-License-Identifier: MIT */
/*
 * The difference of two configurations: every option, proxies and endpoints, and what it is
 * called.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/diff.h"
#include "unit.h"

static struct config *
load(const char *text)
{
	char path[] = "/tmp/test_diff.XXXXXX";
	int fd = mkstemp(path);
	struct config *c;
	struct config_errors found;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	c = config_load(path, &found);
	unlink(path);
	ck_assert_ptr_nonnull(c);
	return c;
}

/* At once, and in the smallest slices. */
static struct diff *
compare(const struct config *now, const struct config *next)
{
	struct diff *whole = diff_new(now, next), *parts = diff_new(now, next);
	struct slice least = {SLICE_UNITS, 0};

	ck_assert(!diff_step(whole, NULL));
	for (size_t turns = 0; diff_step(parts, &least); least.left = SLICE_UNITS)
		ck_assert_uint_le(++turns, 10);
	ck_assert_uint_eq(whole->count, parts->count);
	for (size_t i = 0; i < whole->count; i++) {
		struct text a = {0}, b = {0};

		diff_print(&whole->changes[i], &a);
		diff_print(&parts->changes[i], &b);
		ck_assert_str_eq(a.bytes, b.bytes);
		text_fini(&a);
		text_fini(&b);
	}
	diff_free(whole);
	return parts;
}

/* The changes from one file to another, as text. */
static char *
differences(const char *now_text, const char *next_text)
{
	struct config *now = load(now_text), *next = load(next_text);
	struct diff *d = compare(now, next);
	struct text out = {0};
	char *text;

	for (size_t i = 0; i < d->count; i++)
		diff_print(&d->changes[i], &out);
	diff_free(d);
	config_free(now);
	config_free(next);
	text = text_take(&out);
	return text != NULL ? text : strdup("");
}

static void
expect(const char *now, const char *next, const char *want)
{
	char *text = differences(now, next);

	ck_assert_str_eq(text, want);
	free(text);
}

#define A "[frontend a]\nbind = tcp://*:5555\n[backend a]\nbind = tcp://*:5556\n"
#define B "[frontend b]\nbind = tcp://*:6555\nsend_hwm = 7\n[backend b]\nconnect = tcp://h:1\n"

START_TEST(nothing)
{
	expect(A B, A B, "");
	expect(A B, B A, ""); /* in whatever order */
	expect(A B, "# a comment\n\n" A "[broker]\nlog_level = info\n" B, "");
}
END_TEST

START_TEST(proxies)
{
	expect(A, A B,
		"[proxy b] added\n"
		"[frontend b] bind tcp://*:6555: added\n"
		"[backend b] connect tcp://h:1: added\n");
	expect(A B, A,
		"[proxy b] removed, draining\n"
		"[frontend b] bind tcp://*:6555: removed, draining\n"
		"[backend b] connect tcp://h:1: removed, draining\n");
	expect(A, B,
		"[proxy a] removed, draining\n"
		"[frontend a] bind tcp://*:5555: removed, draining\n"
		"[backend a] bind tcp://*:5556: removed, draining\n"
		"[proxy b] added\n"
		"[frontend b] bind tcp://*:6555: added\n"
		"[backend b] connect tcp://h:1: added\n");
}
END_TEST

START_TEST(endpoints)
{
	expect("[frontend]\nbind = ipc:///a\nbind = ipc:///b\n[backend]\nbind = ipc:///c\n",
		"[frontend]\nbind = ipc:///b\nconnect = ipc:///a\n[backend]\nbind = ipc:///c\n",
		"[frontend default] bind ipc:///a: removed, draining\n"
		"[frontend default] connect ipc:///a: added\n");
	/* any port, several times */
	expect("[frontend]\nbind = tcp://*:*\nbind = tcp://*:*\n[backend]\nbind = ipc:///c\n",
		"[frontend]\nbind = tcp://*:*\n[backend]\nbind = ipc:///c\n",
		"[frontend default] bind tcp://*:*: removed, draining\n");
	expect("[frontend]\nbind = tcp://*:*\n[backend]\nbind = ipc:///c\n",
		"[frontend]\nbind = tcp://*:*\nbind = tcp://*:*\nbind = tcp://*:*\n"
		"[backend]\nbind = ipc:///c\n",
		"[frontend default] bind tcp://*:*: added\n"
		"[frontend default] bind tcp://*:*: added\n");
}
END_TEST

/* A value that is not the row's default. */
static void
other_value(const struct option_row *row, char *out, size_t size)
{
	const char *second;

	switch (row->type) {
	case OPTION_CHOICE:
		second = strchr(row->choices, '|') + 1;
		snprintf(out, size, "%.*s", (int)strcspn(row->choices, "|"), row->choices);
		if (strcmp(out, row->initial) == 0)
			snprintf(out, size, "%.*s", (int)strcspn(second, "|"), second);
		break;
	case OPTION_BOOL:
		snprintf(out, size, "%s", strcmp(row->initial, "yes") == 0 ? "no" : "yes");
		break;
	case OPTION_USER:
	case OPTION_GROUP:
		snprintf(out, size, "root");
		break;
	case OPTION_ROUTING_ID:
		snprintf(out, size, "me");
		break;
	case OPTION_OCTAL:
		snprintf(out, size, "0123");
		break;
	case OPTION_SOCKET:
		snprintf(out, size, "/run/other.sock");
		break;
	case OPTION_HTTP:
		snprintf(out, size, "tcp://127.0.0.1:8080");
		break;
	default: /* numbers: the least that is taken, in its own words */
		if (row->type == OPTION_DURATION)
			snprintf(out, size, "%lds", 1 + (long)(row->min / 1000));
		else
			snprintf(out, size, "%ld", (long)row->min + 1);
	}
}

/* The file A, with one option changed. */
static void
file_with(char *out, size_t size, const struct option_row *row, int side, const char *value)
{
	char line[128];
	bool broker = row->sections == SECTION_BROKER;

	snprintf(line, sizeof(line), "%s = %s\n", row->name, value);
	snprintf(out, size,
		"[broker]\n%s[frontend a]\nbind = tcp://*:5555\n%s"
		"[backend a]\nbind = tcp://*:5556\n%s",
		broker ? line : "", !broker && side == 0 ? line : "",
		!broker && side == 1 ? line : "");
}

static const void *
base_of(const struct config *c, const struct option_row *row, int side)
{
	return row->sections == SECTION_BROKER ? (const void *)&c->broker
					       : &c->proxy[0].side[side].opts;
}

static void
change_and_keep(const struct option_row *row, int side)
{
	static const char *const notes[] = {"", " (for new connections)", " (needs a restart)"};
	static const char *const sections[] = {"frontend a", "backend a"};
	char next_text[512], value[64], normal[64], want[256];
	struct config *now, *next;
	struct diff *d;

	other_value(row, value, sizeof(value));
	file_with(next_text, sizeof(next_text), row, side, value);
	now = load(A);
	next = load(next_text);
	option_text(row, base_of(next, row, side), normal, sizeof(normal));
	snprintf(want, sizeof(want), "[%s] %s: %s -> %s%s\n",
		row->sections == SECTION_BROKER ? "broker" : sections[side], row->name,
		row->initial[0] != '\0' ? row->initial : "(none)", normal, notes[row->reload]);
	expect(A, next_text, want);

	/* options that need a restart stay; all others change */
	d = compare(now, next);
	ck_assert_uint_eq(diff_restarts(d), row->reload == RELOAD_RESTART);
	diff_keep_old(&d->changes[0], now, next);
	ck_assert_str_eq(option_text(row, base_of(next, row, side), value, sizeof(value)),
		row->reload == RELOAD_RESTART ? row->initial : normal);
	diff_free(d);
	config_free(now);
	config_free(next);
}

/* Each option of the table, in each section that allows it. */
START_TEST(every_option)
{
	const struct option_row *row = &option_table[_i];

	if (row->type == OPTION_LATER || row->type == OPTION_ENDPOINT || row->available == 1)
		return;
	if (row->sections == SECTION_BROKER)
		change_and_keep(row, -1);
	for (int side = 0; side < PROXY_SIDES; side++)
		if (row->sections & section_of_side(side))
			change_and_keep(row, side);
}
END_TEST

UNIT_MAIN("diff", tcase_add_test(tc, nothing), tcase_add_test(tc, proxies),
	tcase_add_test(tc, endpoints), tcase_add_loop_test(tc, every_option, 0, (int)option_count))
