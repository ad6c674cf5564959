/* SPDX-License-Identifier: MIT */
/*
 * The table of options. Parsing, range checks, --dump-config and the check of
 * the documentation all come from a row of it.
 */
#ifndef BULKHEAD_DAEMON_OPTIONS_H
#define BULKHEAD_DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

/*
 * Where an option stands. Side options stand in [frontend], [backend] and [defaults], backend
 * options in [backend] alone; both are members of side_opts.
 */
enum option_section { OPTION_BROKER, OPTION_PROXY, OPTION_SIDE, OPTION_BACKEND };

enum option_type {
	OPTION_DURATION, /* int64_t ms */
	OPTION_SIZE,     /* int64_t bytes */
	OPTION_INT,      /* int64_t */
	OPTION_OCTAL,    /* int64_t */
	OPTION_BOOL,     /* bool */
	OPTION_CHOICE,   /* int64_t, index into choices */
	OPTION_USER,     /* char[64], an account that exists, or empty */
	OPTION_GROUP,    /* char[64], a group that exists, or empty */
	OPTION_SOCKET,   /* char[108], the absolute path of a Unix socket, or empty */
	/* char[OPTION_HOSTS_MAX], names of hosts; repeatable, and several in a line */
	OPTION_HOSTS,
	OPTION_HTTP,       /* struct endpoint, tcp, to bind; its text is empty: none */
	OPTION_ROUTING_ID, /* side_opts.routing_id and routing_id_len */
	OPTION_ENDPOINT,   /* kept by config.c in lists of its own; repeatable */
	OPTION_LATER       /* known, not available yet: only the default value is taken */
};

/* What a reload does with a changed value. */
enum option_reload {
	RELOAD_AT_ONCE, /* it holds from now on, for connections that are there as well */
	RELOAD_NEXT,    /* it holds for connections from now on */
	RELOAD_RESTART  /* it needs a restart; until then the old one holds */
};

struct option_row {
	enum option_section section;
	const char *name;
	enum option_type type;
	size_t offset;       /* into config_broker or side_opts */
	int64_t min, max;    /* of numbers, as stored */
	bool zero;           /* 0 is taken as well: off, or no limit */
	const char *choices; /* "a|b|c" */
	const char *text;    /* the default, as written in a file; NULL: none */
	const char *help;    /* one line */
	enum option_reload reload;
};

/* The rows, option_count of them, in the order of --dump-config. */
extern const struct option_row option_table[];
extern const size_t option_count;

/* May it stand several times in a section? */
static inline bool
option_is_repeatable(const struct option_row *row)
{
	return row->type == OPTION_ENDPOINT || row->type == OPTION_HOSTS;
}

/* The row of this name in this section, or NULL. */
const struct option_row *option_find(enum option_section section, const char *name);

/*
 * Parse `text` into the struct at `base` (config_broker or side_opts). Returns
 * true, or false with what is wrong in error[size].
 */
bool
option_set(const struct option_row *row, void *base, const char *text, char *error, size_t size);

/* A text from the file, fit for a message: printable, and cut with "..." when it is long. */
#define OPTION_QUOTED(text) option_quote((char[OPTION_SHOWN_MAX]){0}, text)
/* The same, without quotes where there is nothing that needs them. */
#define OPTION_SHOWN(text) \
	log_quote((char[OPTION_SHOWN_MAX]){0}, OPTION_SHOWN_MAX, text, strlen(text))
enum { OPTION_SHOWN_MAX = 120 };
const char *option_quote(char out[OPTION_SHOWN_MAX], const char *text);

/* Copy the option's value from one struct (config_broker or side_opts) to another. */
void option_copy(const struct option_row *row, void *to, const void *from);

/* Set every option of the section to its default. */
void option_set_defaults(enum option_section section, void *base);

/* Write the value at `base` as it would stand in a file. Returns out[size]. */
const char *option_text(const struct option_row *row, const void *base, char *out, size_t size);

/*
 * The name of the section's options nearest to `name`, close enough to be what
 * was meant; or NULL.
 */
const char *option_nearest(enum option_section section, const char *name);

#endif
