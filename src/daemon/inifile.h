/*
 * An ini file as a stream of sections and settings. Lines, their lengths and
 * comments are looked after here, `key = value` by inih; what the names mean is
 * the caller's.
 */
#ifndef BULKHEAD_DAEMON_INIFILE_H
#define BULKHEAD_DAEMON_INIFILE_H

#include <stdio.h>

/* Called in the order of the file. Texts are the reader's, good for the call. */
struct inifile_ops {
	/* What stands between the brackets, to be cut up at will; NULL: the header is broken. */
	void (*on_section)(void *user, int line, char *title);
	void (*on_setting)(void *user, int line, const char *key, const char *value);
	/* A line that is neither, and a broken header before its on_section. */
	void (*on_error)(void *user, int line, const char *text);
};

/*
 * Read `file` to its end. Returns the number of its lines, or -1 with errno
 * when it cannot be read.
 */
int inifile_read(FILE *file, const struct inifile_ops *ops, void *user);

#endif
