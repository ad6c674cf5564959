/* SPDX-License-Identifier: MIT */
/*
 * What is wrong with a configuration file, as data: the first errors in the order of the file, at
 * most one for each line, and the number of all that were found.
 *
 * The list is bounded, since nobody reads thousands of errors and each one takes time. An operator
 * sees each as `PATH:LINE: text`; the log has its parts.
 */
#ifndef BULKHEAD_DAEMON_CONFIG_ERRORS_H
#define BULKHEAD_DAEMON_CONFIG_ERRORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/text.h"

enum { CONFIG_ERRORS_MAX = 100 };

struct config_error {
	int line; /* 0: the file as a whole */
	char *text;
};

/* One that is all zero is empty. */
struct config_errors {
	struct config_error
		list[CONFIG_ERRORS_MAX]; /* count of them, in the order of their lines */
	size_t count;
	size_t total;   /* all that were found, including those that the list has no room for */
	bool no_memory; /* there was no memory to read the file, and nothing else counts */
	bool warnings;  /* they are warnings: the file is good, and a line may have several */
};

/*
 * Would an error of this line come into the list? Ask before you do work that is only for an
 * error's text.
 */
bool config_errors_wants(const struct config_errors *errors, int line);

/*
 * Count an error, and add it to the list if its line comes before the last one there, or there is
 * room. The text is at most 511 bytes; bytes from the file must be quoted in it.
 */
void config_errors_add(struct config_errors *errors, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * How many lines have an error, or how many warnings there are; of a list that is full, how many
 * errors were found.
 */
size_t config_errors_count(const struct config_errors *errors);

/* How many errors were found that a full list does not have. */
size_t config_errors_left_out(const struct config_errors *errors);

/* The line of the first error; 0: the file as a whole cannot be read, or there is no error. */
int config_errors_line(const struct config_errors *errors);

/*
 * Append each error as a line `PATH:LINE: text`, or `PATH: text` for the file as a whole, then
 * `PATH: and N more errors` if some were left out. Warnings are `PATH:LINE: warning: text`.
 */
void config_errors_write(const struct config_errors *errors, const char *path, struct text *out);

/* The same to a stream; `PATH: no memory` when there was none. */
void config_errors_print(const struct config_errors *errors, const char *path, FILE *out);

/* Free the texts. */
void config_errors_fini(struct config_errors *errors);

#endif
