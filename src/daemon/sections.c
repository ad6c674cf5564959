/* SPDX-License-Identifier: MIT */
#include "daemon/sections.h"

#include <stdio.h>
#include <string.h>

#include "base/words.h"

enum { TYPOS_MAX = 2 };

/* In the order of section_list; the bits are in the same order. */
static const enum section_kind kinds[] = {
	SECTION_BROKER, SECTION_PROXY, SECTION_FRONTEND, SECTION_BACKEND, SECTION_DEFAULTS};

enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

enum section_kind
section_of_side(int side)
{
	return side == PROXY_FRONTEND ? SECTION_FRONTEND : SECTION_BACKEND;
}

int
section_side(enum section_kind section)
{
	return section == SECTION_FRONTEND ? PROXY_FRONTEND : PROXY_BACKEND;
}

const char *
section_name(enum section_kind section)
{
	switch (section) {
	case SECTION_BROKER:
		return "broker";
	case SECTION_PROXY:
		return "proxy";
	case SECTION_DEFAULTS:
		return "defaults";
	case SECTION_FRONTEND:
	case SECTION_BACKEND:
		return side_name(section_side(section));
	case SECTION_BAD:
	case SECTION_SIDES:
		break;
	}
	return "";
}

enum section_kind
section_find(const char *name)
{
	for (int i = 0; i < KINDS; i++)
		if (strcmp(section_name(kinds[i]), name) == 0)
			return kinds[i];
	return SECTION_BAD;
}

enum section_kind
section_nearest(const char *name)
{
	for (int i = 0; i < KINDS; i++)
		if (word_distance(name, section_name(kinds[i])) <= TYPOS_MAX)
			return kinds[i];
	return SECTION_BAD;
}

bool
section_is_of_proxy(enum section_kind section)
{
	return (section & (SECTION_PROXY | SECTION_SIDES)) != 0;
}

const char *
section_list(unsigned sections, char out[SECTION_LIST_MAX])
{
	size_t n = 0;

	out[0] = '\0';
	for (int i = 0; i < KINDS; i++) {
		unsigned bit = kinds[i];
		bool last = sections < 2 * bit;

		if ((sections & bit) == 0)
			continue;
		n += (size_t)snprintf(out + n, SECTION_LIST_MAX - n, "%s[%s]",
			n == 0         ? ""
				: last ? " or "
				       : ", ",
			section_name(kinds[i]));
	}
	return out;
}
