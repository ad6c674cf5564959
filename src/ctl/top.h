/* SPDX-License-Identifier: MIT */
/*
 * The peers, redrawn: those in trouble first, then those with most in their queues.
 */
#ifndef BULKHEAD_CTL_TOP_H
#define BULKHEAD_CTL_TOP_H

#include "ctl/args.h"

/* Until q or a signal; where stdout is no terminal, print once. Returns the exit status. */
int top(const struct args *args);

#endif
