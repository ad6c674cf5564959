/* SPDX-License-Identifier: MIT */
/*
 * The kinds of sections that a configuration file has. Each is a bit, so that a row of the table
 * of options names all the sections that take it.
 */
#ifndef BULKHEAD_DAEMON_SECTIONS_H
#define BULKHEAD_DAEMON_SECTIONS_H

#include <stdbool.h>

#include "base/sides.h"

enum section_kind {
	SECTION_BAD = 0, /* an unknown name, or a header that is not valid */
	SECTION_BROKER = 1 << 0,
	SECTION_PROXY = 1 << 1,
	SECTION_FRONTEND = 1 << 2,
	SECTION_BACKEND = 1 << 3,
	SECTION_DEFAULTS = 1 << 4, /* what both sides of every proxy inherit */
	SECTION_SIDES = SECTION_FRONTEND | SECTION_BACKEND
};

/* The section of one side of a proxy, and the other way round. */
enum section_kind section_of_side(int side);
int section_side(enum section_kind side_section);

/* The kind that is called so, or SECTION_BAD. */
enum section_kind section_find(const char *name);

/* The kind whose name is close enough to `name` to be what was meant, or SECTION_BAD. */
enum section_kind section_nearest(const char *name);

/* The name of one kind, such as "broker". */
const char *section_name(enum section_kind section);

/* May the name of a proxy follow, as in [frontend NAME]? */
bool section_is_of_proxy(enum section_kind section);

/* All sections of a mask for people: "[broker], [frontend] or [backend]". Returns `out`. */
enum { SECTION_LIST_MAX = 64 };
const char *section_list(unsigned sections, char out[SECTION_LIST_MAX]);

#endif
