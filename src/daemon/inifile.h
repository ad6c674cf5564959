/* SPDX-License-Identifier: MIT */
/*
 * An ini file as a stream of sections and settings, read in slices. What their names mean is the
 * caller's business.
 */
#ifndef BULKHEAD_DAEMON_INIFILE_H
#define BULKHEAD_DAEMON_INIFILE_H

#include <stdio.h>

#include "base/text.h"
#include "daemon/slice.h"

struct inifile;

/* Called in the order of the file. Texts are valid during the call. */
struct inifile_ops {
	/* The text between the brackets, which may be changed; NULL: the header is not valid. */
	void (*on_section)(void *user, int line, char *title);
	void (*on_setting)(void *user, int line, const char *key, const char *value);
	/* A line that is neither, or a header that is not valid, before its on_section. */
	void (*on_error)(void *user, int line, const char *text);
};

/*
 * A reader of `file`, which stays the caller's, like `ops`. Every line is appended to `source` as
 * it is. NULL: no memory.
 */
struct inifile *
inifile_new(FILE *file, const struct inifile_ops *ops, void *user, struct text *source);

enum inifile_result {
	INIFILE_MORE,   /* the slice ended before the file */
	INIFILE_END,    /* the whole file was read */
	INIFILE_FAILED, /* the file cannot be read: errno */
	INIFILE_NO_MEMORY
};

/* Go on reading, as far as the slice allows. */
enum inifile_result inifile_read(struct inifile *file, struct slice *slice);

/* How many lines were read. */
int inifile_lines(const struct inifile *file);

/* NULL is fine. */
void inifile_free(struct inifile *file);

#endif
