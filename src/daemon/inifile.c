/* SPDX-License-Identifier: MIT */
#include "daemon/inifile.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum {
	LINE_LONGEST = 4096,
	KEY_LONGEST = 64,        /* longer than any key; what is cut here is unknown anyway */
	FILE_LONGEST = 16 << 20, /* also of one that grows while it is read */
	COST_LINE = 1,
	COST_PART = 8, /* of a slice; a part has LINE_LONGEST bytes */
	NO_MEMORY_OF_INIH = -2
};

struct inifile {
	FILE *file;
	const struct inifile_ops *ops;
	void *user;
	struct text *source;
	int line;
	size_t total;                /* bytes read */
	bool too_long;               /* the file */
	struct slice *slice;         /* of this call */
	bool began;                  /* inih has had a line of this call */
	bool cut;                    /* the slice ended before the file */
	bool in_line;                /* ... and within a line */
	size_t len;                  /* of the line, also of what did not fit */
	char text[LINE_LONGEST + 1]; /* the line without its end */
	const char *value;           /* in text: the value of a line that inih cannot hold */
};

/* The next byte, or EOF; what is past the longest file is not read. */
static int
next_byte(struct inifile *r)
{
	int c;

	if (r->too_long)
		return EOF;
	c = getc_unlocked(r->file);
	if (c != EOF && r->total++ == FILE_LONGEST) {
		r->too_long = true;
		r->ops->on_error(r->user, r->line + 1, "the file is longer than 16 MiB");
		return EOF;
	}
	return c;
}

/* May we go on with the line? A long one is no reason to stay. */
static bool
may_go_on(struct inifile *r)
{
	r->cut = !slice_take(r->slice, r->len > 0 ? COST_PART : COST_LINE);
	r->in_line = r->cut && r->len > 0;
	return !r->cut;
}

/* To the end of the line, or of a part of it. Returns the last byte, or EOF. */
static int
read_part(struct inifile *r)
{
	int c;

	while ((c = next_byte(r)) != EOF && c != '\n') {
		if (r->len < LINE_LONGEST)
			r->text[r->len] = (char)c;
		if (++r->len % LINE_LONGEST == 0)
			break;
	}
	return c;
}

/* False at the end, of the file or of the slice. */
static bool
next_line(struct inifile *r)
{
	int c;

	if (!r->in_line)
		r->len = 0;
	do {
		if (!may_go_on(r))
			return false;
		c = read_part(r);
	} while (c != EOF && c != '\n');
	if (c == EOF && (r->len == 0 || r->too_long || ferror(r->file)))
		return false;
	r->text[r->len < LINE_LONGEST ? r->len : LINE_LONGEST] = '\0';
	r->line++;
	text_add(r->source, "%s\n", r->text); /* one that is too long is an error */
	return true;
}

/* ; and # begin a comment at the start of a line, or after white space. */
static void
strip_comment(char *line)
{
	for (char *c = line; *c != '\0'; c++) {
		if ((*c == ';' || *c == '#') && (c == line || isspace((unsigned char)c[-1]))) {
			*c = '\0';
			return;
		}
	}
}

static char *
trim(char *text)
{
	char *end = text + strlen(text);

	while (isspace((unsigned char)*text))
		text++;
	while (end > text && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return text;
}

/* The line that is in hand is of no use; when it was a header, no section has begun. */
static void
refuse(struct inifile *r, const char *text, const char *why)
{
	r->ops->on_error(r->user, r->line, why);
	if (*text == '[')
		r->ops->on_section(r->user, r->line, NULL);
}

static void
read_header(struct inifile *r, char *text)
{
	char *end = text + strlen(text) - 1;

	if (*end != ']') {
		refuse(r, text, "\"]\" is missing at the end of the section's name");
		return;
	}
	*end = '\0';
	r->ops->on_section(r->user, r->line, trim(text + 1));
}

/* Deals with all that is not `key = value`; what is comes back, bare, the rest as "". */
static char *
bare_setting(struct inifile *r)
{
	char *text = r->text, *end;

	if (r->line == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0)
		text += 3;
	if (r->len > LINE_LONGEST || strlen(r->text) != r->len) {
		refuse(r, text + strspn(text, " \t"),
			r->len > LINE_LONGEST ? "line too long: at most 4096 bytes"
					      : "a zero byte in the file");
		return r->text + strlen(r->text);
	}
	strip_comment(text);
	text = trim(text);
	end = text + strlen(text);
	if (*text == '[') {
		read_header(r, text);
		return end;
	}
	if (*text == '=') {
		refuse(r, text, "a key is missing before \"=\"");
		return end;
	}
	/* inih would take "key: value" as well, and a = later in the line as part of the value */
	if (*text != '\0' && text[strcspn(text, "=:")] != '=') {
		refuse(r, text, "expected \"key = value\" or \"[section]\"");
		return end;
	}
	return text;
}

/*
 * inih's reader: one line for each line of the file. inih has a buffer of 200
 * bytes; of a line that is longer it gets a stand-in for the value.
 */
static char *
read_line_cb(char *out, int size, void *stream)
{
	struct inifile *r = stream;
	char *text, *equals;

	/* it takes the first three bytes of what it reads first for a mark of the encoding */
	if (!r->began) {
		r->began = true;
		snprintf(out, (size_t)size, "\n");
		return out;
	}
	if (!next_line(r))
		return NULL;
	r->value = NULL;
	text = bare_setting(r);
	if (strlen(text) + 2 <= (size_t)size) {
		snprintf(out, (size_t)size, "%s\n", text);
		return out;
	}
	equals = strchr(text, '=');
	assert(equals != NULL); /* bare_setting saw to it; its stand-ins are short */
	*equals = '\0';
	r->value = trim(equals + 1);
	snprintf(out, (size_t)size, "%.*s = long\n", KEY_LONGEST, trim(text));
	return out;
}

/* inih's handler; sections are not left to it, for it has but 50 bytes for a name. */
static int
on_setting_cb(void *user, const char *section, const char *key, const char *value)
{
	struct inifile *r = user;

	(void)section;
	r->ops->on_setting(r->user, r->line, key, r->value != NULL ? r->value : value);
	return 1;
}

struct inifile *
inifile_new(FILE *file, const struct inifile_ops *ops, void *user, struct text *source)
{
	struct inifile *r = mem_try_new(sizeof(*r));

	if (r != NULL)
		*r = (struct inifile){.file = file, .ops = ops, .user = user, .source = source};
	return r;
}

enum inifile_result
inifile_read(struct inifile *r, struct slice *slice)
{
	int wrong;

	r->slice = slice;
	r->began = r->cut = false;
	errno = 0;
	wrong = ini_parse_stream(read_line_cb, r, on_setting_cb, r);
	if (ferror(r->file))
		return INIFILE_FAILED;
	if (wrong == NO_MEMORY_OF_INIH)
		return INIFILE_NO_MEMORY;
	if (wrong != 0) /* it gets nothing that it can object to, but must not do so unseen */
		r->ops->on_error(r->user, r->line > 0 ? r->line : 1, "cannot be parsed");
	return r->cut ? INIFILE_MORE : INIFILE_END;
}

int
inifile_lines(const struct inifile *r)
{
	return r->line;
}

void
inifile_free(struct inifile *r)
{
	free(r);
}
