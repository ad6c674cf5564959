/*
 * Tables of text that fit the terminal: what is too wide loses first the ends of its flexible
 * columns, then whole columns, the less important ones first.
 */
#ifndef BULKHEAD_CTL_TABLE_H
#define BULKHEAD_CTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { TABLE_COLUMNS = 24, TABLE_FLEX_MIN = 10 };

struct table_column {
	const char *title; /* NULL: the end */
	bool right;        /* numbers */
	bool flexible;     /* may be cut to TABLE_FLEX_MIN */
	unsigned drop;     /* the higher, the sooner it is left out; 0: never */
};

struct table {
	const struct table_column *columns;
	size_t column_count;
	char **cells; /* row by row */
	size_t cell_count;
};

/* An empty table; the columns, ended by one without a title, must outlive it. */
void table_init(struct table *t, const struct table_column *columns);

/* The next cell, row by row; of printable ASCII. */
void table_add(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * Print titles and at most `rows` rows, no wider than `width`; 0: as wide as it gets. `end` stands
 * at each line's end, before the newline.
 */
void table_print(const struct table *t, FILE *out, size_t width, size_t rows, const char *end);

void table_fini(struct table *t);

/* The terminal's columns and lines; 0: it is none, or does not tell. */
void table_terminal(int fd, size_t *columns, size_t *lines);

#endif
