/*
 * Event log: one event a line, `key=value`, on stderr. When stderr is the
 * journal, a priority prefix replaces time and level.
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

/* Find out whether stderr is the journal; call once, before the first event. */
void log_open(void);

/* Events above `level` are left out from now on. From any thread, like all but log_open. */
void log_set_level(enum log_level level);

/* What log_set_level set last. */
enum log_level log_get_level(void);

/* Its name, as in the configuration; static text. */
const char *log_level_name(enum log_level level);

/* The level of this name into *out; false: there is none. */
bool log_level_parse(const char *name, enum log_level *out);

/* True when an event of this level would be written. */
bool log_enabled(enum log_level level);

/*
 * Write one event. `event` is a bare word; `fmt` gives the rest of the line,
 * ready made `key=value` pairs, or "". Those of level info or worse are kept for
 * recent_copy, whatever the log's level is. A failing stderr is ignored: the log
 * must never stop the broker.
 */
void log_event(enum log_level level, const char *event, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Make `len` bytes safe as a value: quoted when empty or when there is
 * anything but plain characters, control and non-ASCII bytes as \xNN, cut with
 * "..." when `out` is too small (size >= 16). Returns `out`.
 */
const char *log_quote(char *out, size_t size, const void *data, size_t len);

#endif
