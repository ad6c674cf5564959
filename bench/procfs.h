/* SPDX-License-Identifier: MIT */
/*
 * procfs.h - what a process has used, read from /proc.
 */
#ifndef BENCH_PROCFS_H
#define BENCH_PROCFS_H

#include <stdint.h>
#include <sys/types.h>

/* Nanoseconds on a processor of all threads of `pid` that live now; 0 when it cannot be read. */
uint64_t procfs_cpu_ns(pid_t pid);

/* KiB of `pid` in memory (VmRSS); 0 when it cannot be read. */
uint64_t procfs_rss_kb(pid_t pid);

#endif
