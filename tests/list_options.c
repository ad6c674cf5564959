/* SPDX-License-Identifier: MIT */
/*
 * Prints the table of options, `section name default reload` a line, for tests/check_docs.sh. Of
 * several sections that take an option, the first one.
 */
#include "daemon/options.h"

int
main(void)
{
	static const char *const reloads[] = {"at_once", "next", "restart"};

	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		unsigned first = row->sections & -row->sections;

		printf("%s %s %s %s\n", section_name((enum section_kind)first), row->name,
			row->initial != NULL && row->initial[0] != '\0' ? row->initial : "-",
			reloads[row->reload]);
	}
	return 0;
}
