/* SPDX-License-Identifier: MIT */
/*
 * An ini file as a stream of sections and settings. Lines, their lengths and
 * comments are looked after here, `key = value` by inih; what the names mean is
 * the caller's.
 */
#ifndef BULKHEAD_DAEMON_INIFILE_H
#define BULKHEAD_DAEMON_INIFILE_H

#include <stdio.h>

#include "base/text.h"
#include "daemon/slice.h"

struct inifile;

/* Called in the order of the file. Texts are the reader's, good for the call. */
struct inifile_ops {
	/* What stands between the brackets, to be cut up at will; NULL: the header is broken. */
	void (*on_section)(void *user, int line, char *title);
	void (*on_setting)(void *user, int line, const char *key, const char *value);
	/* A line that is neither, and a broken header before its on_section. */
	void (*on_error)(void *user, int line, const char *text);
};

/*
 * A reader of `file`, which stays the caller's, as does `ops`. Every line is added to `source` as
 * it is. NULL: no memory.
 */
struct inifile *
inifile_new(FILE *file, const struct inifile_ops *ops, void *user, struct text *source);

enum inifile_result {
	INIFILE_MORE,   /* the slice is over, and the file is not */
	INIFILE_END,    /* all was read */
	INIFILE_FAILED, /* it cannot be read: errno */
	INIFILE_NO_MEMORY
};

/* Go on reading, as far as the slice allows. */
enum inifile_result inifile_read(struct inifile *file, struct slice *slice);

/* How many lines were read. */
int inifile_lines(const struct inifile *file);

/* NULL is fine. */
void inifile_free(struct inifile *file);

#endif
