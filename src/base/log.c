/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/recent.h"
#include "base/sink.h"

#define LINE_MAX_BYTES 2048

static struct {
	enum log_level level;
	bool journal;
	bool opened;
	void (*on_wait)(void *arg);
	void *on_wait_arg;
} log_state = {.level = LOG_LEVEL_INFO};

static struct sink log_sink; /* its ring takes no space in the program's file */

static const char *const level_names[] = {"error", "warning", "notice", "info", "debug"};
static const int level_priorities[] = {3, 4, 5, 6, 7}; /* syslog's */

/* systemd sets JOURNAL_STREAM to DEVICE:INODE of the journal's socket. */
static bool
is_journal(const char *text)
{
	unsigned long long device, inode;
	struct stat st;
	char *end;

	if (text == NULL)
		return false;
	device = strtoull(text, &end, 10);
	if (end == text || *end != ':')
		return false;
	text = end + 1;
	inode = strtoull(text, &end, 10);
	return end != text && fstat(STDERR_FILENO, &st) == 0 && st.st_dev == (dev_t)device &&
		st.st_ino == (ino_t)inode;
}

void
log_open(void)
{
	log_state.journal = is_journal(getenv("JOURNAL_STREAM"));
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	sink_open(&log_sink, STDERR_FILENO);
	log_state.opened = true;
}

void
log_set_level(enum log_level level)
{
	log_state.level = level;
}

bool
log_enabled(enum log_level level)
{
	return level <= log_state.level;
}

enum log_level
log_get_level(void)
{
	return log_state.level;
}

const char *
log_level_name(enum log_level level)
{
	return level_names[level];
}

bool
log_level_parse(const char *name, enum log_level *out)
{
	for (unsigned i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (strcmp(name, level_names[i]) == 0) {
			*out = (enum log_level)i;
			return true;
		}
	}
	return false;
}

static int
put_prefix(char *line, size_t size, enum log_level level, const char *event)
{
	char when[32];

	if (log_state.journal)
		return snprintf(line, size, "<%d>event=%s", level_priorities[level], event);
	clock_wall_text(when, sizeof(when));
	return snprintf(line, size, "%s level=%s event=%s", when, level_names[level], event);
}

/* Reports lost lines. If that fails, too, the count stays and is reported later. */
static void
tell_lost(void)
{
	struct sink *s = &log_sink;
	uint64_t lost = s->lost;
	char line[256];
	int n;

	if (lost == 0 || s->full)
		return;
	n = put_prefix(line, sizeof(line), LOG_LEVEL_WARNING, "log_lost");
	n += snprintf(line + n, sizeof(line) - (size_t)n,
		" lines=%" PRIu64 " detail=\"stderr did not take them\"\n", lost);
	s->lost = sink_write(s, line, (size_t)n) ? 0 : lost;
}

static void
put_line(const char *line, size_t len)
{
	struct sink *s = &log_sink;

	if (!log_state.opened) /* a test that has no need to */
		sink_open(s, STDERR_FILENO);
	log_state.opened = true;
	tell_lost();
	(void)sink_write(s, line, len);
	if (s->len > 0 && log_state.on_wait != NULL)
		log_state.on_wait(log_state.on_wait_arg);
}

__attribute__((format(printf, 4, 0))) static void
write_event(enum log_level level, bool secret, const char *event, const char *fmt, va_list ap)
{
	char line[LINE_MAX_BYTES];
	bool kept = level <= LOG_LEVEL_INFO;
	size_t len, text;
	int n;

	if (!log_enabled(level) && !kept)
		return;
	n = put_prefix(line, sizeof(line) - 1, level, event);
	len = text = n < 0 ? 0 : (size_t)n;
	if (fmt[0] != '\0' && len < sizeof(line) - 2) {
		line[len++] = ' ';
		text = len;
		n = vsnprintf(line + len, sizeof(line) - 1 - len, fmt, ap);
		len += n < 0 ? 0 : (size_t)n;
	}
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	if (kept)
		recent_add(level, secret, event, line + text, len - text);
	if (!log_enabled(level))
		return;
	line[len++] = '\n';
	put_line(line, len);
}

void
log_event(enum log_level level, const char *event, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	write_event(level, false, event, fmt, ap);
	va_end(ap);
}

void
log_secret_event(enum log_level level, const char *event, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	write_event(level, true, event, fmt, ap);
	va_end(ap);
}

/* --- what stderr has not taken yet ---------------------------------------- */

void
log_on_wait(void (*wait)(void *arg), void *arg)
{
	log_state.on_wait = wait;
	log_state.on_wait_arg = arg;
}

int
log_fd(void)
{
	return log_sink.fd;
}

bool
log_waits(void)
{
	return log_sink.len > 0;
}

size_t
log_waiting(void)
{
	return log_sink.len;
}

bool
log_flush(void)
{
	bool some = sink_flush(&log_sink);

	tell_lost();
	return some;
}

void
log_drain(int ms)
{
	sink_drain(&log_sink, ms);
	tell_lost();
}

static bool
is_plain(unsigned char c)
{
	return c > ' ' && c < 0x7f && c != '"' && c != '\\' && c != '=';
}

const char *
log_quote(char *out, size_t size, const void *data, size_t len)
{
	const unsigned char *p = data;
	bool plain = len > 0 && len < size;
	size_t n = 0;

	for (size_t i = 0; plain && i < len; i++)
		plain = is_plain(p[i]);
	if (plain) {
		memcpy(out, p, len);
		out[len] = '\0';
		return out;
	}
	out[n++] = '"';
	for (size_t i = 0; i < len; i++) {
		if (n + 4 + 4 + 2 > size) { /* an escape, "...", quote and NUL must still fit */
			memcpy(out + n, "...", 3);
			n += 3;
			break;
		}
		if (p[i] == ' ' || p[i] == '=' || is_plain(p[i]))
			out[n++] = (char)p[i];
		else if (p[i] == '"' || p[i] == '\\')
			out[n++] = '\\', out[n++] = (char)p[i];
		else
			n += (size_t)snprintf(out + n, 5, "\\x%02x", p[i]);
	}
	out[n++] = '"';
	out[n] = '\0';
	return out;
}
