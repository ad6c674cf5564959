/* SPDX-License-Identifier: MIT */
/*
 * The options: one row of a table for each. Parsing, range checks, --dump-config, reload and the
 * check of the documentation all come from the row. The rows are in option_table.c.
 */
#ifndef BULKHEAD_DAEMON_OPTIONS_H
#define BULKHEAD_DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "daemon/sections.h"

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
	OPTION_ROUTING_ID, /* proxy_opts.side.routing_id and routing_id_len */
	OPTION_ENDPOINT,   /* in the lists of config_side; repeatable */
	OPTION_LATER       /* stored nowhere, not available yet: takes its default alone */
};

/* What a reload does with a changed value. */
enum option_reload {
	RELOAD_AT_ONCE, /* applies at once, to existing connections as well */
	RELOAD_NEXT,    /* applies to new connections only */
	RELOAD_RESTART  /* needs a restart; until then the old value applies */
};

/*
 * The sections of a row say which struct its offset is for: config_broker for [broker],
 * config_proxy_opts for [proxy], proxy_opts for the others.
 */
struct option_row {
	unsigned sections; /* that take it: bits of enum section_kind */
	const char *name;
	enum option_type type;
	size_t offset;
	int64_t min, max;    /* of numbers, as stored */
	bool or_zero;        /* 0 is taken as well, whatever min is */
	const char *choices; /* "a|b|c" */
	unsigned available;  /* only so many of the choices can be chosen yet; 0: all of them */
	const char *initial; /* the default, as written in a file; NULL: none */
	const char *help;    /* one sentence, with its period */
	enum option_reload reload;
};

/* The rows, option_count of them, in the order of --dump-config. */
extern const struct option_row option_table[];
extern const size_t option_count;

/* May a section have it several times? */
static inline bool
option_is_repeatable(const struct option_row *row)
{
	return row->type == OPTION_ENDPOINT || row->type == OPTION_HOSTS;
}

/* The row of this name that the section takes, or NULL. */
const struct option_row *option_find(enum section_kind section, const char *name);

/* All sections that take an option of this name, as a mask. */
unsigned option_sections(const char *name);

/*
 * Parse `text` into the struct at `base`, which is that of the row's sections. Returns true, or
 * false with what is wrong in error[size].
 */
bool
option_set(const struct option_row *row, void *base, const char *text, char *error, size_t size);

/* A text from the file for a message: quoted, printable, and cut with "..." when it is long. */
#define OPTION_QUOTED(text) option_quote((char[OPTION_SHOWN_MAX]){0}, text)
/* The same, with quotes only if the text needs them. */
#define OPTION_SHOWN(text) \
	log_quote((char[OPTION_SHOWN_MAX]){0}, OPTION_SHOWN_MAX, text, strlen(text))
enum { OPTION_SHOWN_MAX = 120 };
const char *option_quote(char out[OPTION_SHOWN_MAX], const char *text);

/* Copy the option's value from one struct of its sections to another. */
void option_copy(const struct option_row *row, void *to, const void *from);

/* Set every option of the section to its default, in the struct of that section. */
void option_set_defaults(enum section_kind section, void *base);

/* Write the value at `base` as a file would have it. Returns out[size]. */
const char *option_text(const struct option_row *row, const void *base, char *out, size_t size);

/*
 * The name of an option of this section that is close enough to `name` to be what was meant, the
 * closest one; or NULL.
 */
const char *option_nearest(enum section_kind section, const char *name);

#endif
