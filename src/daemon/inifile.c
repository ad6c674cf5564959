#include "daemon/inifile.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <string.h>

enum {
	LINE_LONGEST = 4096,
	KEY_LONGEST = 64,       /* longer than any key; what is cut here is unknown anyway */
	FILE_LONGEST = 16 << 20 /* also of one that grows while it is read */
};

struct reader {
	FILE *file;
	const struct inifile_ops *ops;
	void *user;
	int line;
	size_t total;                /* bytes read */
	bool too_long;               /* the file */
	size_t len;                  /* of the line, also of what did not fit */
	char text[LINE_LONGEST + 1]; /* the line without its end */
	const char *value;           /* in text: the value of a line that inih cannot hold */
};

/* The next byte, or EOF; what is past the longest file is not read. */
static int
next_byte(struct reader *r)
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

/* False at the end. */
static bool
next_line(struct reader *r)
{
	int c;

	for (r->len = 0; (c = next_byte(r)) != EOF && c != '\n'; r->len++)
		if (r->len < LINE_LONGEST)
			r->text[r->len] = (char)c;
	if (c == EOF && (r->len == 0 || r->too_long || ferror(r->file)))
		return false;
	r->text[r->len < LINE_LONGEST ? r->len : LINE_LONGEST] = '\0';
	r->line++;
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
refuse(struct reader *r, const char *text, const char *why)
{
	r->ops->on_error(r->user, r->line, why);
	if (*text == '[')
		r->ops->on_section(r->user, r->line, NULL);
}

static void
read_header(struct reader *r, char *text)
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
bare_setting(struct reader *r)
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
	struct reader *r = stream;
	char *text, *equals;

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
	struct reader *r = user;

	(void)section;
	r->ops->on_setting(r->user, r->line, key, r->value != NULL ? r->value : value);
	return 1;
}

int
inifile_read(FILE *file, const struct inifile_ops *ops, void *user)
{
	struct reader r = {.file = file, .ops = ops, .user = user};
	int wrong;

	errno = 0;
	wrong = ini_parse_stream(read_line_cb, &r, on_setting_cb, &r);
	if (ferror(file))
		return -1;
	if (wrong != 0) /* it gets nothing that it can object to, but must not do so unseen */
		ops->on_error(user, wrong > 0 ? wrong : 1, "cannot be parsed");
	return r.line;
}
