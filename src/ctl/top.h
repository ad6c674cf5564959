/* SPDX-License-Identifier: MIT */
/*
 * The peers, redrawn again and again: those in trouble first, then those with most in their queues.
 */
#ifndef BULKHEAD_CTL_TOP_H
#define BULKHEAD_CTL_TOP_H

#include "ctl/args.h"

/* Run until q or a signal; if stdout is not a terminal, print once. Returns the exit status. */
int top(const struct args *args);

#endif
