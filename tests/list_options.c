/* SPDX-License-Identifier: MIT */
/*
 * Prints the table of options, `section name default reload` a line, for tests/check_docs.sh.
 */
#include "daemon/options.h"

int
main(void)
{
	static const char *const sections[] = {"broker", "proxy", "side", "backend"};
	static const char *const reloads[] = {"at_once", "next", "restart"};

	for (size_t i = 0; i < option_count; i++)
		printf("%s %s %s %s\n", sections[option_table[i].section], option_table[i].name,
			option_table[i].text != NULL && option_table[i].text[0] != '\0'
				? option_table[i].text
				: "-",
			reloads[option_table[i].reload]);
	return 0;
}
