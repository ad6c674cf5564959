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
	t->cells[t->cell_count++] = mem_strdup(text);
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

		if (!t->columns[i].flexible || w->of[i] <= TABLE_FLEX_MIN)
			continue;
		spare = w->of[i] - TABLE_FLEX_MIN;
		w->of[i] -= over < spare ? over : spare;
	}
}

/* Leaves out the least important column. False when there is none left that may go. */
static bool
leave_out(const struct table *t, struct widths *w)
{
	size_t least = t->column_count;

	for (size_t i = 0; i < t->column_count; i++)
		if (w->of[i] > 0 && t->columns[i].drop > 0 &&
			(least == t->column_count || t->columns[i].drop > t->columns[least].drop))
			least = i;
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
		if (width == 0 || total(t, &cut) <= width || !leave_out(t, &w))
			return width == 0 ? full : cut;
	}
}

static void
print_row(const struct table *t, FILE *out, const struct widths *w, char *const *cells,
	const char *end)
{
	size_t padding = 0;
	bool first = true;

	for (size_t i = 0; i < t->column_count; i++) {
		const char *text = cells != NULL ? cells[i] : t->columns[i].title;
		size_t len = strlen(text), shown = len > w->of[i] ? w->of[i] : len;

		if (w->of[i] == 0)
			continue;
		padding += first ? 0 : 2;
		first = false;
		if (t->columns[i].right)
			padding += w->of[i] - shown;
		fprintf(out, "%*s", (int)padding, "");
		if (shown < len)
			fprintf(out, "%.*s~", (int)shown - 1, text);
		else
			fputs(text, out);
		padding = t->columns[i].right ? 0 : w->of[i] - shown;
	}
	fprintf(out, "%s\n", end);
}

void
table_print(const struct table *t, FILE *out, size_t width, size_t rows, const char *end)
{
	struct widths w = fit(t, width, rows);

	print_row(t, out, &w, NULL, end);
	for (size_t i = 0; i < rows && (i + 1) * t->column_count <= t->cell_count; i++)
		print_row(t, out, &w, t->cells + i * t->column_count, end);
}

void
table_fini(struct table *t)
{
	for (size_t i = 0; i < t->cell_count; i++)
		free(t->cells[i]);
	free(t->cells);
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
