/* SPDX-License-Identifier: MIT */
#include "daemon/config_errors.h"

#include <stdarg.h>
#include <stdlib.h>

#include "base/mem.h"

bool
config_errors_wants(const struct config_errors *e, int line)
{
	if (e->count == CONFIG_ERRORS_MAX && e->list[CONFIG_ERRORS_MAX - 1].line <= line)
		return false;
	if (e->warnings)
		return true;
	for (size_t i = e->count; i > 0 && e->list[i - 1].line >= line; i--)
		if (e->list[i - 1].line == line)
			return false;
	return true;
}

/* Insert it in the order of lines; in a full list the last one makes room. */
static void
insert(struct config_errors *e, int line, const char *text)
{
	char *own = mem_try_strdup(text);
	size_t i = e->count;

	if (own == NULL) {
		e->no_memory = true;
		return;
	}
	if (i == CONFIG_ERRORS_MAX)
		free(e->list[--i].text);
	else
		e->count++;
	for (; i > 0 && e->list[i - 1].line > line; i--)
		e->list[i] = e->list[i - 1];
	e->list[i] = (struct config_error){line, own};
}

void
config_errors_add(struct config_errors *e, int line, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	e->total++;
	if (!config_errors_wants(e, line))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	insert(e, line, text);
}

size_t
config_errors_count(const struct config_errors *e)
{
	if (e->no_memory)
		return 1;
	return e->count < CONFIG_ERRORS_MAX ? e->count : e->total;
}

size_t
config_errors_left_out(const struct config_errors *e)
{
	return e->count < CONFIG_ERRORS_MAX ? 0 : e->total - e->count;
}

int
config_errors_line(const struct config_errors *e)
{
	return e->count > 0 && !e->no_memory ? e->list[0].line : 0;
}

void
config_errors_write(const struct config_errors *e, const char *path, struct text *out)
{
	size_t left_out = config_errors_left_out(e);
	const char *kind = e->warnings ? "warning: " : "";

	for (size_t i = 0; i < e->count; i++) {
		const struct config_error *one = &e->list[i];

		if (one->line > 0)
			text_add(out, "%s:%d: %s%s\n", path, one->line, kind, one->text);
		else
			text_add(out, "%s: %s%s\n", path, kind, one->text);
	}
	if (left_out > 0)
		text_add(out, "%s: and %zu more %s\n", path, left_out,
			e->warnings ? "warnings" : "errors");
}

void
config_errors_print(const struct config_errors *e, const char *path, FILE *out)
{
	struct text text = {.no_memory = e->no_memory};

	config_errors_write(e, path, &text);
	if (text.no_memory)
		fprintf(out, "%s: no memory\n", path);
	else if (text.len > 0)
		fputs(text.bytes, out);
	text_fini(&text);
}

void
config_errors_fini(struct config_errors *e)
{
	for (size_t i = 0; i < e->count; i++)
		free(e->list[i].text);
	*e = (struct config_errors){0};
}
