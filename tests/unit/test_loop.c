/* SPDX-License-Identifier: MIT */
/*
 * How much one turn of the loop does, and which work is next: tasks, descriptors and timers that
 * each report the cost of a whole turn.
 */
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/loop.h"
#include "unit.h"

enum { JOBS = 6, TURNS_MAX = 50 };

/* A task that runs once, or again in the next turn. */
struct job {
	struct task task;
	struct timer timer;
	struct watch *watch;
	uint64_t turn;  /* in which it ran last; 0: never */
	unsigned place; /* its place in the order of all */
	unsigned again;
};

static struct loop *loop;
static struct job jobs[JOBS];
static unsigned done;
static uint64_t turns;

static void
do_job(struct job *job)
{
	job->turn = loop->turns + 1;
	job->place = ++done;
	loop_spend(loop, loop->limits.turn);
}

static void
task_cb(struct task *task)
{
	struct job *job = list_entry(&task->node, struct job, task.node);

	do_job(job);
	if (job->again > 0) {
		job->again--;
		loop_defer(loop, LOOP_RESUME, task);
	}
}

static void
timer_cb(struct timer *timer)
{
	do_job(list_entry(timer, struct job, timer));
}

static void
watch_cb(void *arg, unsigned events)
{
	struct job *job = arg;

	ck_assert_uint_eq(events, WATCH_IN);
	do_job(job);
	watch_set(job->watch, 0);
}

static void
on_turn_cb(void *arg)
{
	(void)arg;
	if (done >= JOBS || ++turns == TURNS_MAX)
		loop_stop(loop);
}

static void
begin(void)
{
	loop = loop_new();
	ck_assert_ptr_nonnull(loop);
	loop->on_turn = on_turn_cb;
	done = 0;
	turns = 0;
	for (int i = 0; i < JOBS; i++) {
		jobs[i] = (struct job){0};
		task_init(&jobs[i].task, task_cb);
		timer_init(&jobs[i].timer, loop, timer_cb);
	}
}

/* All ran, in the order in which they were queued, and at most `most` of them in a turn. */
static void
check_and_end(unsigned most)
{
	loop_run(loop);
	ck_assert_uint_eq(done, JOBS);
	for (unsigned i = 0; i < JOBS; i++) {
		ck_assert_uint_eq(jobs[i].place, i + 1);
		if (i >= most)
			ck_assert_uint_gt(jobs[i].turn, jobs[i - most].turn);
	}
	loop_free(loop);
}

/* The one that passes the limit is the last. */
START_TEST(writes_are_spread_over_turns)
{
	begin();
	for (int i = 0; i < JOBS; i++)
		loop_defer(loop, LOOP_FLUSH, &jobs[i].task);
	check_and_end(2);
}
END_TEST

START_TEST(resumed_work_is_spread_over_turns)
{
	begin();
	for (int i = 0; i < JOBS; i++)
		loop_defer(loop, LOOP_RESUME, &jobs[i].task);
	check_and_end(2);
}
END_TEST

/* A descriptor that is queued again comes after those that waited. */
START_TEST(nobody_is_passed_by_who_comes_again)
{
	begin();
	jobs[0].again = 1;
	for (int i = 0; i < JOBS - 1; i++)
		loop_defer(loop, LOOP_RESUME, &jobs[i].task);
	loop_run(loop);
	ck_assert_uint_eq(jobs[0].place, JOBS);
	for (unsigned i = 1; i < JOBS - 1; i++)
		ck_assert_uint_eq(jobs[i].place, i + 1);
	loop_free(loop);
}
END_TEST

/*
 * Libevent calls them in some order; what counts is that each has its turn, and none a second one.
 */
START_TEST(a_poll_is_cut_and_goes_on)
{
	int fds[JOBS][2];

	begin();
	for (int i = 0; i < JOBS; i++) {
		ck_assert_int_eq(pipe(fds[i]), 0);
		jobs[i].watch = watch_new(loop, fds[i][0], watch_cb, &jobs[i]);
		ck_assert_ptr_nonnull(jobs[i].watch);
		ck_assert(watch_set(jobs[i].watch, WATCH_IN));
		ck_assert_int_eq(write(fds[i][1], "x", 1), 1);
	}
	loop_run(loop);
	ck_assert_uint_eq(done, JOBS);
	for (int i = 0; i < JOBS; i++) {
		for (int j = 0; j < i; j++) /* two of them pass the limit */
			for (int k = 0; k < j; k++)
				ck_assert(jobs[i].turn != jobs[j].turn ||
					jobs[j].turn != jobs[k].turn);
		watch_free(jobs[i].watch);
		close(fds[i][0]);
		close(fds[i][1]);
	}
	loop_free(loop);
}
END_TEST

START_TEST(timers_are_spread_over_turns)
{
	begin();
	for (int i = 0; i < JOBS; i++)
		timer_set(&jobs[i].timer, 1);
	/* all are due in the first turn that checks */
	while (clock_now_ms() < loop->now_ms + 3)
		;
	check_and_end(2);
}
END_TEST

/* A timer that is set again, or stopped, while it waits for its turn does not fire as before. */
START_TEST(a_timer_that_waits_can_be_stopped)
{
	begin();
	for (int i = 0; i < JOBS; i++)
		timer_set(&jobs[i].timer, 1);
	while (clock_now_ms() < loop->now_ms + 3)
		;
	turns = TURNS_MAX - 1; /* one turn */
	loop_run(loop);
	ck_assert_uint_gt(done, 0);
	ck_assert_uint_lt(done, JOBS);
	for (int i = 0; i < JOBS; i++)
		timer_stop(&jobs[i].timer);
	loop->stopping = false;
	done = 0;
	turns = TURNS_MAX - 1;
	loop_defer(loop, LOOP_RESUME, &jobs[0].task); /* so that the loop does not wait */
	loop_run(loop);
	ck_assert_uint_eq(done, 1);
	loop_free(loop);
}
END_TEST

UNIT_MAIN("loop", tcase_add_test(tc, writes_are_spread_over_turns),
	tcase_add_test(tc, resumed_work_is_spread_over_turns),
	tcase_add_test(tc, nobody_is_passed_by_who_comes_again),
	tcase_add_test(tc, a_poll_is_cut_and_goes_on),
	tcase_add_test(tc, timers_are_spread_over_turns),
	tcase_add_test(tc, a_timer_that_waits_can_be_stopped))
