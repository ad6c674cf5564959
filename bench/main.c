/* SPDX-License-Identifier: MIT */
/*
 * bulkhead-bench - load for anything that stands between ZeroMQ clients and workers. It plays
 * either side or both, on one thread. bulkhead-bench(1) says how it is used, bench/README.md how it
 * measures.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include "options.h"
#include "peers.h"
#include "procfs.h"
#include "report.h"

#define SETTLE_S 1.5 /* from when workers stop until the rate is measured again */
#define PROGRESS_NS 1000000000ull
#define LOOK_MAX_NS 400000000ull /* between two looks for requests that have to be given up */
#define WAIT_MS 10

enum status { STATUS_DONE, STATUS_ERRORS, STATUS_USAGE, STATUS_NO_CONNECTION };

static volatile bool interrupted;

struct bench {
	const struct options *o;
	struct run run;
	struct progress progress;
	uint64_t looked_at;
	uint64_t connected_at; /* when a peer was ready, for the last time */
};

static void
on_signal(int number)
{
	(void)number;
	interrupted = true;
}

/* The first one ends the run in good order, the second one the program. */
static void
catch_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
}

static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static struct moment
moment(pid_t pid)
{
	struct timespec t;
	struct moment m = {.broker_cpu = pid > 0 ? procfs_cpu_ns(pid) : 0};

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	m.own_cpu = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	m.at = now_ns();
	return m;
}

static enum run_mode
mode_of(const struct options *o)
{
	if (o->idle)
		return RUN_IDLE;
	if (o->oneway)
		return RUN_ONEWAY;
	if (o->clients == 0)
		return RUN_SERVE;
	return o->rate > 0 ? RUN_OPEN : RUN_CLOSED;
}

static bool
init(struct bench *b)
{
	const struct options *o = b->o;

	b->run = (struct run){
		.mode = mode_of(o),
		.n_clients = o->clients,
		.n_workers = o->workers,
		.window = o->window,
		.rate = o->rate,
		.timeout_ns = (uint64_t)(o->timeout * 1e9),
		.may_make = o->count > 0 ? o->count : UINT64_MAX,
		.any_reply = o->workers == 0 && !o->echo,
		.blind = o->bare,
		.paired = o->paired,
		.spin = o->spin,
		.frontends = o->frontends,
		.backends = o->backends,
		.n_frontends = o->n_frontends,
		.n_backends = o->n_backends,
		.epoll_fd = -1,
	};
	return image_init(&b->run.image, o->size, o->parts, !o->bare);
}

/* Often enough to be exact to a tenth of the timeout. */
static void
expire_now_and_then(struct run *run, uint64_t *looked_at)
{
	uint64_t now = now_ns(), pause = run->timeout_ns / 10;

	if (now - *looked_at < (pause < LOOK_MAX_NS ? pause : LOOK_MAX_NS))
		return;
	*looked_at = now;
	run_expire(run, run->timeout_ns);
}

/* A line when it is time. */
static void
tell_progress(struct bench *b)
{
	if (now_ns() - b->progress.last < PROGRESS_NS)
		return;
	if (!b->o->quiet)
		report_progress(&b->progress, &b->run);
	else
		report_from_here(&b->progress, &b->run);
	run_take_latencies(&b->run);
}

/* A count would never be reached without a connection, and a script not go on. */
static bool
is_cut_off(struct bench *b)
{
	uint64_t now;

	if (b->o->count == 0)
		return false;
	now = now_ns();
	if (b->run.n_ready > 0)
		b->connected_at = now;
	return now - b->connected_at >= b->run.timeout_ns;
}

static bool
is_done(struct bench *b)
{
	return interrupted || (b->run.may_make == 0 && b->run.outstanding == 0) || is_cut_off(b);
}

/* Runs this long, or until all is done; `seconds` of 0: without an end. */
static void
turn_for(struct bench *b, double seconds)
{
	uint64_t end = seconds > 0 ? now_ns() + (uint64_t)(seconds * 1e9) : UINT64_MAX;

	while (now_ns() < end && !is_done(b)) {
		run_turn(&b->run, WAIT_MS);
		expire_now_and_then(&b->run, &b->looked_at);
		tell_progress(b);
	}
}

/* Nothing is given up meanwhile: a closed loop that stands still is to be seen as such. */
static void
turn_patiently(struct run *run, double seconds)
{
	uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);

	while (now_ns() < end && !interrupted)
		run_turn(run, WAIT_MS);
}

static double
rate_with_a_stall(struct bench *b)
{
	struct run *run = &b->run;
	uint64_t before, from;

	run_stall(run, b->o->stall);
	turn_patiently(run, SETTLE_S);
	before = run->messages;
	from = now_ns();
	turn_patiently(run, b->o->duration);
	return (double)(run->messages - before) / ((double)(now_ns() - from) / 1e9);
}

/* Replies that are still on their way have as long as any; what does not come then is given up. */
static void
drain(struct bench *b)
{
	struct run *run = &b->run;
	uint64_t end = now_ns() + run->timeout_ns;

	run->sending = false;
	if (run->mode == RUN_ONEWAY)
		return;
	while (run->outstanding > 0 && now_ns() < end && !interrupted) {
		run_turn(run, WAIT_MS);
		expire_now_and_then(run, &b->looked_at);
	}
	if (!interrupted)
		run_give_up(run);
	run_take_latencies(run);
}

static void
measure(struct bench *b, struct result *r)
{
	const struct options *o = b->o;
	struct run *run = &b->run;

	run_start(run);
	b->looked_at = b->connected_at = now_ns();
	turn_patiently(run, o->warmup);
	/* workers alone were given requests as soon as they were ready: none goes uncounted */
	if (run->mode != RUN_SERVE || o->warmup > 0)
		run_count_from_here(run);
	report_from_here(&b->progress, run);
	b->progress.from = b->progress.last;
	r->from = moment(o->pid);
	turn_for(b, o->duration);
	r->to = moment(o->pid);
	r->messages = run->messages;
	r->rss_after = o->pid > 0 ? procfs_rss_kb(o->pid) : 0;
	if (o->stall > 0)
		r->stalled_per_second = rate_with_a_stall(b);
	drain(b);
	r->interrupted = interrupted;
}

static enum status
bench(struct bench *b)
{
	const struct options *o = b->o;
	struct result r = {.rss_before = o->pid > 0 ? procfs_rss_kb(o->pid) : 0};
	const char *why = init(b) ? run_connect(&b->run, &interrupted) : "out of memory";

	if (why == NULL && b->run.n_ready < o->clients + o->workers)
		why = "interrupted before all were connected";
	if (why != NULL) {
		fprintf(stderr, "bulkhead-bench: %s\n", why);
		return STATUS_NO_CONNECTION;
	}
	if (!o->quiet)
		report_start(o);
	measure(b, &r);
	(o->json ? report_json : report_summary)(o, &b->run, &r);
	return report_errors(&b->run) > 0 ? STATUS_ERRORS : STATUS_DONE;
}

int
main(int argc, char **argv)
{
	static struct options o;
	static struct bench b = {.o = &o};
	enum status status = STATUS_DONE;

	switch (options_parse(&o, argc, argv)) {
	case OPTIONS_DONE:
		break;
	case OPTIONS_WRONG:
		return STATUS_USAGE;
	case OPTIONS_RUN:
		raise_descriptor_limit();
		catch_signals();
		prctl(PR_SET_TIMERSLACK,
			1ul); /* a request leaves when it is due, not 50 us later */
		status = bench(&b);
		run_fini(&b.run);
		break;
	}
	if (fflush(stdout) != 0 || ferror(stdout)) {
		perror("bulkhead-bench: standard output");
		return STATUS_ERRORS;
	}
	return (int)status;
}
