/* SPDX-License-Identifier: MIT */
/*
 * Tables of text that fit the terminal: what is too wide loses first a part of its flexible
 * columns, then whole columns: those with nothing in them, and of the others the less important
 * ones first.
 */
#ifndef BULKHEAD_CTL_TABLE_H
#define BULKHEAD_CTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { TABLE_COLUMNS = 24, TABLE_END_MIN = 10, TABLE_START_MIN = 21 };

/* How soon a column is left out that says something even with nothing in it: after all others. */
enum { TABLE_LATE = 1 };

/* How a column may be cut, and to which width. */
enum table_cut {
	TABLE_WHOLE,
	TABLE_CUT_END,  /* to TABLE_END_MIN */
	TABLE_CUT_START /* to TABLE_START_MIN: an address of IPv4 with its port. The end says most
			 */
};

struct table_column {
	const char *title; /* NULL: the end */
	bool right;        /* numbers */
	enum table_cut cut;
	unsigned drop; /* the higher, the sooner it is left out; 0: never */
};

/* Escape sequences of a terminal. */
#define STYLE_BAD "\033[31m"
#define STYLE_WARN "\033[33m"
#define STYLE_TITLE "\033[1m"
#define STYLE_FAINT "\033[2m"
#define STYLE_NONE "\033[0m"

/* Where something is shown. */
struct screen {
	FILE *out;
	size_t width; /* columns; 0: no limit */
	bool color;
	const char *begin; /* of each line: what clears it */
};

struct table {
	const struct table_column *columns;
	size_t column_count;
	char **cells; /* row by row */
	size_t cell_count;
	const char **styles; /* of each row; NULL: none */
	bool steady;         /* redrawn: no column comes or goes with what is in it */
};

/* An empty table; the columns, ended by one without a title, must outlive it. */
void table_init(struct table *t, const struct table_column *columns);

/* The next cell, row by row; of printable ASCII. */
void table_add(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Show the row of the last cell in this style (STYLE_..., NULL: none), where there are colours. */
void table_style(struct table *t, const char *style);

/* Print titles and at most `rows` rows, no wider than the screen. */
void table_print(const struct table *t, const struct screen *screen, size_t rows);

void table_fini(struct table *t);

/* The terminal's columns and lines; 0: it is none, or does not tell. */
void table_terminal(int fd, size_t *columns, size_t *lines);

#endif
