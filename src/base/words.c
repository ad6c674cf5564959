/* SPDX-License-Identifier: MIT */
#include "base/words.h"

#include <ctype.h>
#include <string.h>

enum { MOST = 40 };

/* The row for i letters of the first word: one of three, which are reused in turn. */
static unsigned *
row_of(unsigned rows[3][MOST + 1], unsigned i)
{
	return rows[i % 3];
}

static unsigned
least_of(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

unsigned
word_distance(const char *a, const char *b)
{
	unsigned rows[3][MOST + 1] = {{0}}, len = (unsigned)strlen(b), i;

	if (len > MOST || strlen(a) > MOST)
		return MOST;
	for (unsigned j = 0; j <= len; j++)
		rows[0][j] = j;
	for (i = 1; a[i - 1] != '\0'; i++) {
		unsigned *row = row_of(rows, i), *before = row_of(rows, i - 1);
		char c = (char)tolower((unsigned char)a[i - 1]);

		row[0] = i;
		for (unsigned j = 1; j <= len; j++) {
			row[j] = before[j - 1] + (c != b[j - 1]);
			row[j] = least_of(row[j], least_of(before[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && c == b[j - 2] &&
				tolower((unsigned char)a[i - 2]) == b[j - 1])
				row[j] = least_of(row[j], row_of(rows, i + 1)[j - 2] + 1);
		}
	}
	return row_of(rows, i - 1)[len];
}
