/* SPDX-License-Identifier: MIT */
/*
 * The metrics process_* of the message process, which the admin process reads from /proc.
 */
#ifndef BULKHEAD_ADMIN_PROCESS_H
#define BULKHEAD_ADMIN_PROCESS_H

#include <stdint.h>

struct process {
	double cpu_seconds, start_seconds;
	uint64_t virtual_bytes, resident_bytes;
	uint64_t open_fds;
};

/* When the machine started, in seconds since 1970; from the clocks if /proc is hidden. */
double process_boot_time(void);

/*
 * Read them from the process's files in /proc, which stay open: `stat`, and the directory `fd`. A
 * value that cannot be read is 0; all are, if a descriptor is -1.
 */
struct process process_read(int stat_fd, int fds_fd, double boot_time);

#endif
