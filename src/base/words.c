#include "base/words.h"

#include <ctype.h>
#include <string.h>

unsigned
word_distance(const char *a, const char *b)
{
	enum { MOST = 40 };
	unsigned row[MOST + 1] = {0};
	size_t len = strlen(b);

	if (len > MOST || strlen(a) > MOST)
		return MOST;
	for (unsigned j = 0; j <= len; j++)
		row[j] = j;
	for (unsigned i = 1; a[i - 1] != '\0'; i++) {
		unsigned diagonal = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= len; j++) {
			unsigned cost = diagonal + (tolower((unsigned char)a[i - 1]) != b[j - 1]);
			diagonal = row[j];
			if (row[j] + 1 < cost)
				cost = row[j] + 1;
			if (row[j - 1] + 1 < cost)
				cost = row[j - 1] + 1;
			row[j] = cost;
		}
	}
	return row[len];
}
