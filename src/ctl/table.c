/* SPDX-License-Identifier: MIT */
#include "ctl/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/mem.h"

void
table_init(struct table *t, const struct table_column *columns)
{
	*t = (struct table){.columns = columns};
	while (t->column_count < TABLE_COLUMNS && columns[t->column_count].title != NULL)
		t->column_count++;
}

void
table_add(struct table *t, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	t->cells = mem_resize(t->cells, (t->cell_count + 1) * sizeof(*t->cells));
	if (t->cell_count % t->column_count == 0) {
		size_t row = t->cell_count / t->column_count;

		t->styles = mem_resize(t->styles, (row + 1) * sizeof(*t->styles));
		t->styles[row] = NULL;
	}
	t->cells[t->cell_count++] = mem_strdup(text);
}

void
table_style(struct table *t, const char *style)
{
	t->styles[(t->cell_count - 1) / t->column_count] = style;
}

/* 0: the column is left out. */
struct widths {
	size_t of[TABLE_COLUMNS];
};

static size_t
total(const struct table *t, const struct widths *w)
{
	size_t sum = 0;

	for (size_t i = 0; i < t->column_count; i++)
		if (w->of[i] > 0)
			sum += w->of[i] + (sum > 0 ? 2 : 0);
	return sum;
}

static void
shrink(const struct table *t, struct widths *w, size_t width)
{
	for (size_t i = 0; i < t->column_count; i++) {
		size_t sum = total(t, w), over = sum > width ? sum - width : 0, spare;
		size_t least = t->columns[i].cut == TABLE_CUT_END ? TABLE_END_MIN : TABLE_START_MIN;

		if (t->columns[i].cut == TABLE_WHOLE || w->of[i] <= least)
			continue;
		spare = w->of[i] - least;
		w->of[i] -= over < spare ? over : spare;
	}
}

/* Has the column nothing but "0" and "-"? */
static bool
is_empty(const struct table *t, size_t column, size_t rows)
{
	for (size_t i = column; i < t->cell_count && i < rows * t->column_count;
		i += t->column_count)
		if (strcmp(t->cells[i], "0") != 0 && strcmp(t->cells[i], "-") != 0)
			return false;
	return true;
}

/* Leave out the least important column. False when no other column may go. */
static bool
leave_out(const struct table *t, struct widths *w, size_t rows)
{
	size_t least = t->column_count;
	bool least_empty = false;

	for (size_t i = 0; i < t->column_count; i++) {
		bool empty;

		if (w->of[i] == 0 || t->columns[i].drop == 0)
			continue;
		empty = !t->steady && t->columns[i].drop > TABLE_LATE && is_empty(t, i, rows);
		if (least == t->column_count || empty > least_empty ||
			(empty == least_empty && t->columns[i].drop > t->columns[least].drop)) {
			least = i;
			least_empty = empty;
		}
	}
	if (least == t->column_count)
		return false;
	w->of[least] = 0;
	return true;
}

static struct widths
natural(const struct table *t, size_t rows)
{
	struct widths w = {{0}};

	for (size_t i = 0; i < t->column_count; i++)
		w.of[i] = strlen(t->columns[i].title);
	for (size_t i = 0; i < t->cell_count && i < rows * t->column_count; i++) {
		size_t len = strlen(t->cells[i]);
		if (len > w.of[i % t->column_count])
			w.of[i % t->column_count] = len;
	}
	return w;
}

static struct widths
fit(const struct table *t, size_t width, size_t rows)
{
	const struct widths full = natural(t, rows);
	struct widths w = full, cut;

	for (;;) {
		cut = w;
		shrink(t, &cut, width);
		if (width == 0 || total(t, &cut) <= width || !leave_out(t, &w, rows))
			return width == 0 ? full : cut;
	}
}

static void
print_cell(FILE *out, const struct table_column *column, const char *text, size_t width)
{
	size_t len = strlen(text);

	if (len <= width)
		fputs(text, out);
	else if (column->cut == TABLE_CUT_START)
		fprintf(out, "~%s", text + len - (width - 1));
	else
		fprintf(out, "%.*s~", (int)width - 1, text);
}

static void
print_row(const struct table *t, const struct screen *screen, const struct widths *w,
	char *const *cells, const char *style)
{
	size_t padding = 0;
	bool first = true, styled = screen->color && style != NULL;

	fprintf(screen->out, "%s%s", screen->begin, styled ? style : "");
	for (size_t i = 0; i < t->column_count; i++) {
		const char *text = cells != NULL ? cells[i] : t->columns[i].title;
		size_t len = strlen(text), shown = len > w->of[i] ? w->of[i] : len;

		if (w->of[i] == 0)
			continue;
		padding += first ? 0 : 2;
		first = false;
		if (t->columns[i].right)
			padding += w->of[i] - shown;
		fprintf(screen->out, "%*s", (int)padding, "");
		print_cell(screen->out, &t->columns[i], text, w->of[i]);
		padding = t->columns[i].right ? 0 : w->of[i] - shown;
	}
	fprintf(screen->out, "%s\n", styled ? STYLE_NONE : "");
}

void
table_print(const struct table *t, const struct screen *screen, size_t rows)
{
	struct widths w = fit(t, screen->width, rows);

	print_row(t, screen, &w, NULL, STYLE_TITLE);
	for (size_t i = 0; i < rows && (i + 1) * t->column_count <= t->cell_count; i++)
		print_row(t, screen, &w, t->cells + i * t->column_count, t->styles[i]);
}

void
table_fini(struct table *t)
{
	for (size_t i = 0; i < t->cell_count; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t->styles);
}

void
table_terminal(int fd, size_t *columns, size_t *lines)
{
	struct winsize size = {0};

	if (ioctl(fd, TIOCGWINSZ, &size) != 0)
		size = (struct winsize){0};
	*columns = size.ws_col;
	*lines = size.ws_row;
}
