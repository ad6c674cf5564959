/* SPDX-License-Identifier: MIT */
/*
 * What the admin process gives up before it hears of anybody.
 */
#ifndef BULKHEAD_ADMIN_CONFINE_H
#define BULKHEAD_ADMIN_CONFINE_H

#include <stdbool.h>

/*
 * First: close every descriptor but stderr and the channel; ignore the signals that are meant for
 * the parent, and end when it does. False when a step that must succeed does not.
 */
bool confine_alone(void);

/*
 * Then, when every file is open: give up every capability and the right to gain one, to be looked
 * into, and every call that reaches another process, opens a file or runs a program; bound memory
 * and descriptors; be the first to go when the machine has no memory. False as above.
 */
bool confine(void);

#endif
