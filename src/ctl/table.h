/* SPDX-License-Identifier: MIT */
/*
 * Tables of text that fit the terminal. A table that is too wide first gets narrower columns, where
 * they may be cut, and then fewer: empty ones go first, and then the less important ones.
 *
 * By hand, because libsmartcols cannot drop columns in an order of importance.
 */
#ifndef BULKHEAD_CTL_TABLE_H
#define BULKHEAD_CTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { TABLE_COLUMNS = 24, TABLE_END_MIN = 10, TABLE_START_MIN = 21 };

/* The value of `drop` for a column that means something even if it is empty: it goes last. */
enum { TABLE_LATE = 1 };

/* How a column may be cut, and to which width. */
enum table_cut {
	TABLE_WHOLE,
	TABLE_CUT_END,  /* to TABLE_END_MIN */
	TABLE_CUT_START /* to TABLE_START_MIN, an IPv4 address with its port; the end is kept */
};

struct table_column {
	const char *title; /* NULL: the end */
	bool right;        /* numbers */
	enum table_cut cut;
	unsigned drop; /* columns with a higher value are left out sooner; 0: never */
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
	const char *begin; /* printed before each line, to clear it */
};

struct table {
	const struct table_column *columns;
	size_t column_count;
	char **cells; /* row by row */
	size_t cell_count;
	const char **styles; /* of each row; NULL: none */
	bool steady; /* for a table that is redrawn: an empty column counts like any other */
};

/* Begin an empty table. The columns, ended by one without a title, must outlive it. */
void table_init(struct table *t, const struct table_column *columns);

/* Add the next cell, row by row. Its text is printable ASCII. */
void table_add(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Set the style of the last cell's row: STYLE_..., or NULL. It is used on coloured screens. */
void table_style(struct table *t, const char *style);

/* Print titles and at most `rows` rows, no wider than the screen. */
void table_print(const struct table *t, const struct screen *screen, size_t rows);

/* Free what table_add took. */
void table_fini(struct table *t);

/* Get the size of the terminal; 0: fd is not one, or its size is unknown. */
void table_terminal(int fd, size_t *columns, size_t *lines);

#endif
