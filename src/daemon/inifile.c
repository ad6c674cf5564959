/* SPDX-License-Identifier: MIT */
/*
 * inih splits settings: it finds the key and the value in a line `key = value`. Everything else is
 * done here, because inih
 *   - has 200 bytes for a line and 50 for the name of a section, and silently cuts longer ones (a
 *     routing id may have 255 bytes, and "frontend NAME" 72);
 *   - ends a line at a zero byte, accepts ":" for "=", and continues a setting on the next line;
 *   - reports the number of the first bad line, and neither a reason nor the other lines;
 *   - has no limit for the size of a file, and cannot stop in a long line when a slice ends.
 * inih calls read_line_cb() for each line. A line that is not a setting, or is too long for inih,
 * is dealt with there, and inih gets an empty line.
 */
#include "daemon/inifile.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum {
	LINE_LONGEST = 4096,
	FILE_LONGEST = 16 << 20, /* a file may grow while it is read */
	/* costs of a slice */
	COST_LINE = 1,
	COST_PART = 8, /* LINE_LONGEST bytes of a longer line */
	NO_MEMORY_OF_INIH = -2
};

#define BYTE_ORDER_MARK "\xef\xbb\xbf"

struct inifile {
	FILE *file;
	const struct inifile_ops *ops;
	void *user;
	struct text *source;
	int line;
	size_t total;                /* bytes read */
	bool too_long;               /* the file */
	struct slice *slice;         /* of this call */
	bool cut;                    /* the slice ended before the file */
	bool in_line;                /* ... and within a line */
	size_t len;                  /* of the line, also of what did not fit */
	char text[LINE_LONGEST + 1]; /* the line without its end */
};

/* The next byte, or EOF. Bytes after FILE_LONGEST are not read. */
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

/* Take the time for another line, or for another part of a long line. False: the slice is over. */
static bool
take_time(struct inifile *r)
{
	r->cut = !slice_take(r->slice, r->len > 0 ? COST_PART : COST_LINE);
	r->in_line = r->cut && r->len > 0;
	return !r->cut;
}

/* Read to the end of the line, or of a part of it. Returns the last byte, or EOF. */
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

/* False at the end of the file or of the slice. */
static bool
next_line(struct inifile *r)
{
	int c;

	if (!r->in_line)
		r->len = 0;
	do {
		if (!take_time(r))
			return false;
		c = read_part(r);
	} while (c != EOF && c != '\n');
	if (c == EOF && (r->len == 0 || r->too_long || ferror(r->file)))
		return false;
	r->text[r->len < LINE_LONGEST ? r->len : LINE_LONGEST] = '\0';
	r->line++;
	text_add(r->source, "%s\n", r->text); /* cut if it is too long, which is an error */
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

/* Report the line. If it looks like a header, the settings after it belong to no section. */
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

/* Skip the byte order mark that a file may begin with. False: the line is refused. */
static bool
check_bytes(struct inifile *r, char **text)
{
	const char *begin = r->text + strspn(r->text, " \t");
	bool marked = strncmp(begin, BYTE_ORDER_MARK, strlen(BYTE_ORDER_MARK)) == 0;
	const char *wrong = NULL;

	if (marked && r->line == 1 && begin == r->text)
		*text += strlen(BYTE_ORDER_MARK);
	if (r->len > LINE_LONGEST)
		wrong = "line too long: at most 4096 bytes";
	else if (strlen(r->text) != r->len)
		wrong = "a zero byte in the file";
	else if (marked && *text == r->text)
		wrong = "a byte order mark after the beginning of the file";
	if (wrong != NULL)
		refuse(r, *text + strspn(*text, " \t"), wrong);
	return wrong == NULL;
}

/* Deal with a line that is not a setting, and return NULL; or return the setting, trimmed. */
static char *
setting_of_line(struct inifile *r)
{
	char *text = r->text;

	if (!check_bytes(r, &text))
		return NULL;
	strip_comment(text);
	text = trim(text);
	if (*text == '\0')
		return NULL;
	if (*text == '[') {
		read_header(r, text);
		return NULL;
	}
	if (*text == '=') {
		refuse(r, text, "a key is missing before \"=\"");
		return NULL;
	}
	if (text[strcspn(text, "=:")] != '=') {
		refuse(r, text, "expected \"key = value\" or \"[section]\"");
		return NULL;
	}
	return text;
}

/* Do inih's part for a setting that is too long for it. */
static void
split_long_setting(struct inifile *r, char *text)
{
	size_t key = strcspn(text, "=");

	text[key] = '\0';
	r->ops->on_setting(r->user, r->line, trim(text), trim(text + key + 1));
}

/* What inih calls to read a line, like fgets(). */
static char *
read_line_cb(char *out, int size, void *stream)
{
	struct inifile *r = stream;
	char *setting;

	if (!next_line(r))
		return NULL;
	setting = setting_of_line(r);
	if (setting != NULL && strlen(setting) + 2 > (size_t)size) {
		split_long_setting(r, setting);
		setting = NULL;
	}
	snprintf(out, (size_t)size, "%s\n", setting != NULL ? setting : "");
	return out;
}

/* What inih calls for a setting. It has seen no section. */
static int
on_setting_cb(void *user, const char *section, const char *key, const char *value)
{
	struct inifile *r = user;

	(void)section;
	r->ops->on_setting(r->user, r->line, key, value);
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
	r->cut = false;
	errno = 0;
	wrong = ini_parse_stream(read_line_cb, r, on_setting_cb, r);
	if (ferror(r->file))
		return INIFILE_FAILED;
	if (wrong == NO_MEMORY_OF_INIH)
		return INIFILE_NO_MEMORY;
	if (wrong != 0) /* a bug: inih got a line that it refuses */
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
