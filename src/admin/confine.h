/* SPDX-License-Identifier: MIT */
/*
 * The rights that the admin process gives up before it accepts any connection.
 */
#ifndef BULKHEAD_ADMIN_CONFINE_H
#define BULKHEAD_ADMIN_CONFINE_H

#include <stdbool.h>

/*
 * First: close every descriptor except stderr and the channel, ignore the signals that are meant
 * for the parent, and arrange to be killed when the parent ends. False if a required step fails.
 */
bool confine_alone(void);

/*
 * Then, with every file open: give up every capability and the right to gain one, forbid tracing,
 * and block every system call that reaches another process, opens a file or runs a program; limit
 * memory and descriptors; be the first victim of the OOM killer. False as above.
 */
bool confine(void);

#endif
