/* SPDX-License-Identifier: MIT */
/*
 * Event log: one event a line, `key=value`, on stderr. When stderr is the
 * journal, a priority prefix replaces time and level. The log never waits: lines
 * that stderr does not take at once are kept, within limits, until it does
 * (sink.h), and lost lines are counted and reported.
 *
 * The log's level and destination, and its last lines (recent.h), are the one piece of
 * process-wide state; everything else hangs off a loop, a proxy or a connection.
 */
#ifndef BULKHEAD_BASE_LOG_H
#define BULKHEAD_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_NOTICE,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

/*
 * Find out what stderr is; call once, before the first event. From now on a closed pipe and a file
 * at its size limit are errors of a write, and do not end the process (SIGPIPE, SIGXFSZ).
 */
void log_open(void);

/* From now on events above `level` are not written. */
void log_set_level(enum log_level level);

/* The level that log_set_level set last. */
enum log_level log_get_level(void);

/* The name of a level, as in the configuration; static text. */
const char *log_level_name(enum log_level level);

/* Find the level of this name. False: there is none. */
bool log_level_parse(const char *name, enum log_level *out);

/* True when an event of this level would be written. */
bool log_enabled(enum log_level level);

/*
 * Write one event. `event` is a bare word; `fmt` gives the rest of the line, complete `key=value`
 * pairs, or "". Events of level info or worse are kept for recent_copy, whatever the log's level
 * is. Failing writes are ignored: the log must never stop the broker.
 */
void log_event(enum log_level level, const char *event, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * The same for an event that quotes the configuration: its copy is marked as secret, because only
 * those who may use the control socket may see the configuration.
 */
void log_secret_event(enum log_level level, const char *event, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* --- what stderr has not taken yet ---------------------------------------- */

/*
 * Call `wait(arg)`, from within log_event, when lines begin to wait for stderr: it must arrange
 * that log_flush is called when log_fd is writable. NULL: call nothing any more.
 */
void log_on_wait(void (*wait)(void *arg), void *arg);

/* The descriptor that lines wait for. */
int log_fd(void);

/* True while lines wait; how many bytes wait. */
bool log_waits(void);
size_t log_waiting(void);

/* Write the lines that wait, as far as stderr takes them. False: it took nothing. */
bool log_flush(void);

/* At the end of the process: wait until all lines are written, for `ms` at most. */
void log_drain(int ms);

/*
 * Make `len` bytes safe as a value: quoted when empty or when there is
 * anything but plain characters, control and non-ASCII bytes as \xNN, cut with
 * "..." when `out` is too small (size >= 16). Returns `out`.
 */
const char *log_quote(char *out, size_t size, const void *data, size_t len);

#endif
