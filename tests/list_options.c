/*
 * Prints the table of options, `section name` a line, for tests/check_docs.sh.
 */
#include "daemon/options.h"

int
main(void)
{
	static const char *const sections[] = {"broker", "proxy", "side", "backend"};

	for (size_t i = 0; i < option_count; i++)
		printf("%s %s %s\n", sections[option_table[i].section], option_table[i].name,
			option_table[i].text != NULL && option_table[i].text[0] != '\0'
				? option_table[i].text
				: "-");
	return 0;
}
