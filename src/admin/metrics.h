/* SPDX-License-Identifier: MIT */
/*
 * The metrics, as Prometheus reads them: one table, one row each.
 */
#ifndef BULKHEAD_ADMIN_METRICS_H
#define BULKHEAD_ADMIN_METRICS_H

#include <stddef.h>
#include <stdio.h>

#include "admin/process.h"
#include "admin/snapshot.h"

/* The content type of the text. */
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/*
 * All metrics of a snapshot and of the message process in the text format 0.0.4. Returns the text,
 * to be freed with free(), and its length in *len; NULL without memory.
 */
char *metrics_text(const struct snapshot *s, const struct process *process, size_t *len);

/* The names of all metrics, one a line; for the check of the documentation. */
void metrics_list(FILE *out);

#endif
