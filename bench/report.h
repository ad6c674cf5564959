/* SPDX-License-Identifier: MIT */
/*
 * report.h - what a run says: a line each second, and at its end a summary, for people or as JSON.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "options.h"
#include "peers.h"

/* The kernel's figures at one moment. */
struct moment {
	uint64_t at, own_cpu, broker_cpu; /* ns */
};

/* The results of a run, besides its own counts. */
struct result {
	struct moment from, to;
	uint64_t messages;         /* between these */
	double stalled_per_second; /* with workers that stopped */
	uint64_t rss_before, rss_after;
	bool interrupted;
};

/* The figures of the last progress line. */
struct progress {
	uint64_t from, last, messages; /* ns; the rest: of the run, then */
	uint64_t errors[RUN_ERROR_COUNT];
};

/* Print what is about to happen on standard error. */
void report_start(const struct options *o);

/* The next line is about what comes from now on. */
void report_from_here(struct progress *progress, const struct run *run);

/* A line on standard error about the time since the last one, from run->recent. */
void report_progress(struct progress *progress, const struct run *run);

/* The summary, on standard output. */
void report_summary(const struct options *o, const struct run *run, const struct result *result);
void report_json(const struct options *o, const struct run *run, const struct result *result);

/* All errors of all kinds. */
uint64_t report_errors(const struct run *run);

#endif
