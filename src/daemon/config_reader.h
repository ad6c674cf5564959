/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the configuration's reader share. Only they include it.
 *
 *   config_reader.c   runs the stages one after the other, each in slices
 *   config_parse.c    turns the lines of the file into sections and settings
 *   config_apply.c    turns settings into the values of a configuration
 *   config_check.c    checks options and sections that must fit together
 */
#ifndef BULKHEAD_DAEMON_CONFIG_READER_H
#define BULKHEAD_DAEMON_CONFIG_READER_H

#include <stdio.h>

#include "base/idmap.h"
#include "daemon/config.h"
#include "daemon/inifile.h"
#include "daemon/options.h"

/* The stages of reading, each over all lines, sections or proxies. */
enum stage {
	STAGE_OPEN,
	STAGE_READ,     /* lines */
	STAGE_DEFAULTS, /* settings of [defaults] */
	STAGE_APPLY,    /* sections, and their settings */
	STAGE_PROXIES,  /* checked */
	STAGE_BINDS,    /* checked: sections, and their settings */
	STAGE_MAP,      /* proxies */
	STAGE_FREE_SETTINGS,
	STAGE_FREE_BINDS,
	STAGE_OVER
};

/* One `key = value` of a section, applied after the whole file was read. */
struct setting {
	const struct option_row *row;
	char *value;
	int line;
	bool inherited; /* it is in [defaults] */
	bool wrong;     /* already reported */
};

struct section {
	enum section_kind kind;
	int line;
	char name[64];
	char title[96]; /* as written, for errors */
	struct setting *settings;
	size_t count;
};

/* A place in the file: the number of its section, counted from 1, and its line; 0: none. */
struct place {
	size_t section;
	int line;
};

/* The name of a proxy, and the places of its sections. */
struct named {
	char name[64];
	struct place proxy, side[PROXY_SIDES];
	size_t number; /* in the configuration, counted from 1; 0: not added yet */
};

struct config_reader {
	enum stage stage;
	size_t at, setting; /* where the stage is: a section or a proxy, and a setting */
	FILE *file;
	struct inifile *ini;
	const char *path; /* the configuration's */
	struct config *config;
	struct section *sections; /* in file order */
	size_t section_count;
	struct place broker, defaults;
	struct proxy_opts default_opts; /* only the options that [defaults] sets */
	struct place *options;          /* for each row of the table, the last place that sets it */
	struct idmap names;             /* struct named */
	struct idmap binds;             /* struct clash_key */
	struct config_errors errors;
	bool lost_side;  /* a header is wrong: it may be that of a side that is missing */
	bool unreadable; /* the file, or the rest of it */
	bool no_memory;  /* nothing else counts then */
};

/*
 * Make room in *array, a pointer to elements of `size`, for one more than `count`. This and the
 * next three set no_memory when they fail.
 */
bool reader_room(struct config_reader *reader, void *array, size_t count, size_t size);

/* A copy (free), or NULL. */
char *reader_copy(struct config_reader *reader, const char *text);

/* Add `value` to a map, which frees it. Returns it; or frees it and returns NULL. */
void *reader_put(
	struct config_reader *reader, struct idmap *map, const void *id, size_t len, void *value);

/* The entry of this proxy's name, added if it is new; or NULL. */
struct named *reader_named(struct config_reader *reader, const char *name);

/* What inifile.c calls, with the reader as `user`. */
extern const struct inifile_ops config_parse_ops;

/* Apply one setting of [defaults], which sides inherit when their section begins. */
void config_apply_default(struct config_reader *reader, struct setting *setting);

/* Apply one setting of a section; `setting` NULL: begin the section. */
void config_apply(struct config_reader *reader, struct section *section, struct setting *setting);

/* Check one proxy whose sections were all applied. */
void config_check_proxy(struct config_reader *reader, const struct config_proxy *proxy);

/* Check a setting, if it binds, against every one before it. */
void
config_check_bind(struct config_reader *reader, struct section *section, struct setting *setting);

#endif
