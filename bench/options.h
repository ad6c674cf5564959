/* SPDX-License-Identifier: MIT */
/*
 * options.h - the command line of bulkhead-bench.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "target.h"

#define TARGETS_MAX 1024

struct options {
	struct target frontends[TARGETS_MAX], backends[TARGETS_MAX];
	unsigned n_frontends, n_backends;
	unsigned clients, workers, window, parts;
	size_t size;
	double rate;              /* requests per second; 0: closed loop */
	uint64_t count;           /* requests in all; 0: as many as it takes */
	double duration, timeout; /* seconds; a duration of 0 has no end */
	double warmup;
	bool echo, json, quiet;
	/* for bench/ */
	bool bare, oneway, idle, paired, spin;
	unsigned stall;
	pid_t pid;
};

enum options_result {
	OPTIONS_RUN,
	OPTIONS_DONE, /* help or version was printed */
	OPTIONS_WRONG /* a complaint was printed */
};

/* Parses the command line into `o`. Help goes to standard output, complaints to standard error. */
enum options_result options_parse(struct options *o, int argc, char **argv);

#endif
