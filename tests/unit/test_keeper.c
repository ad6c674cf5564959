/* SPDX-License-Identifier: MIT */
/*
 * The keeper, and a process that misbehaves. The process is this program, executed again, as the
 * admin process is the daemon: it does what MISBEHAVE says.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/admin_impl.h"
#include "base/commands.h"
#include "base/log.h"
#include "base/recent.h"
#include "unit.h"

#define MISBEHAVE "BULKHEAD_TEST_MISBEHAVE"

/* --- the process ---------------------------------------------------------- */

static void
send_until_closed(const struct channel_message *m)
{
	struct pollfd p = {.fd = KEEPER_CHANNEL_FD, .events = POLLOUT};

	do {
		if (poll(&p, 1, -1) != 1)
			break;
		(void)channel_send(KEEPER_CHANNEL_FD, m, NULL, 0);
	} while (!(p.revents & (POLLHUP | POLLERR)));
}

/* Until it is killed. */
static void
misbehave(const char *how)
{
	struct channel_message m = {.kind = CHANNEL_ALIVE};

	if (strcmp(how, "half") == 0) {
		(void)send(KEEPER_CHANNEL_FD, &m, sizeof(m) / 2, MSG_NOSIGNAL);
	} else if (strcmp(how, "answer") == 0) {
		m.kind = CHANNEL_ANSWER;
		(void)channel_send(KEEPER_CHANNEL_FD, &m, NULL, 0);
	} else if (strcmp(how, "flood") == 0) {
		send_until_closed(&m);
	} else if (strcmp(how, "exit") == 0) {
		_exit(7);
	}
	while (pause() != 0)
		continue;
}

/* Before main: that is Check's, as in every test. */
static void __attribute__((constructor)) begin(int argc, char **argv)
{
	if (argc == 1 && strcmp(argv[0], KEEPER_TITLE) == 0)
		misbehave(getenv(MISBEHAVE));
}

/* --- its keeper ----------------------------------------------------------- */

static struct loop *loop;
static struct keeper keeper;
static bool is_deaf;
static unsigned ended;
static uint64_t seen; /* the last event before */

static bool
on_start(void *arg)
{
	const struct channel_message m = {.kind = CHANNEL_CONFIG};

	(void)arg;
	while (is_deaf && keeper.state == KEEPER_RUNNING)
		keeper_send(&keeper, &m, NULL, 0);
	return true;
}

static void
on_request(void *arg, const struct channel_message *m)
{
	(void)arg;
	ck_assert_uint_eq(m->kind, CHANNEL_ALIVE);
}

static void
on_end(void *arg)
{
	(void)arg;
	ended++;
}

static void
on_turn(void *arg)
{
	(void)arg;
	if (keeper.state == KEEPER_WAITING && recent_last() > seen)
		loop_stop(loop);
}

static void
run_until_it_ended(void)
{
	seen = recent_last();
	loop->stopping = false;
	loop_run(loop);
}

static void
setup(void)
{
	static const struct keeper_hooks hooks = {
		.on_start = on_start, .on_request = on_request, .on_end = on_end};

	log_set_level(LOG_LEVEL_ERROR);
	is_deaf = false;
	ended = 0;
	loop = loop_new();
	ck_assert_ptr_nonnull(loop);
	loop->on_turn = on_turn;
	keeper_init(&keeper, loop, &hooks);
}

static void
teardown(void)
{
	keeper_fini(&keeper);
	loop_free(loop);
}

/* The last event is `event`, and these words are in it. */
static void
expect_event(const char *event, const char *words)
{
	static struct recent_event events[RECENT_EVENTS];
	size_t count = recent_copy(events);

	ck_assert_uint_gt(count, 0);
	ck_assert_str_eq(events[count - 1].event, event);
	ck_assert_msg(strstr(events[count - 1].text, words) != NULL, "%s is not in %s", words,
		events[count - 1].text);
}

static const struct {
	const char *how, *logged;
} ways[] = {{"half", "reason=\"invalid message\" status=0"},
	{"answer", "reason=\"invalid message\" status=0"},
	{"flood", "reason=\"too many messages\" status=0"},
	{"deaf", "reason=\"does not read its messages\" status=0"},
	{"exit", "reason=\"exit\" status=7"}};

START_TEST(a_process_that_misbehaves_is_ended)
{
	setenv(MISBEHAVE, ways[_i].how, 1);
	is_deaf = strcmp(ways[_i].how, "deaf") == 0;
	ck_assert(keeper_start(&keeper));
	run_until_it_ended();
	ck_assert_uint_eq(ended, 1);
	ck_assert_uint_eq(keeper.starts, 1);
	expect_event("admin_ended", ways[_i].logged);
	run_until_it_ended();
	ck_assert_uint_eq(ended, 2);
	ck_assert_uint_eq(keeper.starts, 2);
}
END_TEST

START_TEST(a_program_that_is_gone_is_tried_again)
{
	static const char gone[] = "/nonexistent/bulkhead";
	char error[64], program[sizeof(keeper.path)];

	if (unit_repeat(2, 2) == 1)
		return; /* memcheck forks, and the program is missed only in the child */
	setenv(MISBEHAVE, "exit", 1);
	ck_assert(keeper_start(&keeper));
	run_until_it_ended();
	memcpy(program, keeper.path, sizeof(program));
	memcpy(keeper.path, gone, sizeof(gone));
	snprintf(error, sizeof(error), "reason=\"cannot be started\" status=%d ", ENOENT);
	for (int i = 0; i < 2; i++) {
		run_until_it_ended();
		expect_event("admin_ended", error);
		ck_assert_uint_eq(keeper.starts, 1);
	}
	memcpy(keeper.path, program, sizeof(program));
	run_until_it_ended();
	expect_event("admin_ended", "reason=\"exit\" status=7");
	ck_assert_uint_eq(keeper.starts, 2);
}
END_TEST

/* --- commands that it must not send --------------------------------------- */

static uint64_t reloads;

static uint64_t
reload(void *arg)
{
	(void)arg;
	return ++reloads;
}

/* The admin process has fewer commands under way: one that has more cannot fill our memory. */
START_TEST(reloads_that_wait_have_a_limit)
{
	static struct admin admin;
	const struct channel_message m = {.kind = CHANNEL_COMMAND, .command = COMMAND_reload};

	admin = (struct admin){.loop = loop, .hooks.reload = reload};
	admin_init_snapshots(&admin);
	reloads = 0;
	seen = recent_last();
	keeper_init(&admin.keeper, loop, &(struct keeper_hooks){0});
	for (unsigned i = 0; i < ADMIN_RELOADS_MAX; i++)
		admin_run_command(&admin, &m);
	ck_assert_uint_eq(recent_last(), seen);
	admin_run_command(&admin, &m);
	expect_event("admin", "result=refused detail=\"too many reloads pending\"");
	ck_assert_uint_eq(reloads, ADMIN_RELOADS_MAX);
	for (uint64_t number = 1; number <= ADMIN_RELOADS_MAX; number++)
		admin_reloaded(&admin, number, true, NULL);
	expect_event("admin", "command=reload argument=\"\" uid=0 pid=0 result=done");
	ck_assert_uint_eq(admin.reload_count, 0);
	admin_run_command(&admin, &m);
	ck_assert_uint_eq(reloads, ADMIN_RELOADS_MAX + 1);
}
END_TEST

UNIT_MAIN("keeper", tcase_add_checked_fixture(tc, setup, teardown),
	tcase_add_loop_test(
		tc, a_process_that_misbehaves_is_ended, 0, (int)(sizeof(ways) / sizeof(ways[0]))),
	tcase_add_test(tc, a_program_that_is_gone_is_tried_again),
	tcase_add_test(tc, reloads_that_wait_have_a_limit))
