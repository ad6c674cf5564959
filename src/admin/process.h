/* SPDX-License-Identifier: MIT */
/*
 * What the kernel says of the message process, read by the admin process: its metrics process_*.
 */
#ifndef BULKHEAD_ADMIN_PROCESS_H
#define BULKHEAD_ADMIN_PROCESS_H

#include <stdint.h>

struct process {
	double cpu_seconds, start_seconds;
	uint64_t virtual_bytes, resident_bytes;
	uint64_t open_fds;
};

/* When the machine started, in seconds since 1970; where /proc is hidden, by the clocks. */
double process_boot_time(void);

/*
 * Read it from the process's files in /proc, which stay open: `stat`, and the directory `fd`. What
 * cannot be read is 0, all of it when a descriptor is -1.
 */
struct process process_look(int stat_fd, int fds_fd, double boot_time);

#endif
