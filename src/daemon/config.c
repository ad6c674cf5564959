#include "daemon/config.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/options.h"

/* inih takes lines of 200 bytes with their end; longer ones it would cut in two. */
enum { LINE_LONGEST = 190, PATHNAME_LONGEST = 4096 };

enum section_kind { SECTION_NONE, SECTION_BROKER, SECTION_DEFAULTS, SECTION_PROXY, SECTION_SIDE, SECTION_BAD };

/* One `key = value` of [defaults] or of a side, applied after the whole file was read. */
struct setting {
	const struct option_row *row;
	char *value;
	int line;
};

struct section {
	enum section_kind kind;
	int side; /* CONFIG_FRONTEND or CONFIG_BACKEND */
	size_t proxy;
	int line;
	char name[64];
	char title[96]; /* as written, for messages */
	struct setting *settings;
	size_t count;
};

struct error {
	int line;
	char *text;
};

struct parser {
	const char *path;
	FILE *file;
	struct config *config;
	struct section *sections; /* in file order */
	size_t section_count;
	struct error *errors;
	size_t error_count;
	int line;         /* of the line that inih has in hand */
	bool ignore_line; /* it was reported already */
};

/* --- errors ---------------------------------------------------------------- */

static void __attribute__((format(printf, 3, 4)))
complain(struct parser *p, int line, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	p->errors = mem_resize(p->errors, (p->error_count + 1) * sizeof(*p->errors));
	p->errors[p->error_count++] = (struct error){line, mem_strdup(text)};
}

/* By line; of one line, in the order found. */
static void
report(struct parser *p, FILE *err)
{
	for (size_t i = 1; i < p->error_count; i++) {
		struct error e = p->errors[i];
		size_t j = i;
		for (; j > 0 && p->errors[j - 1].line > e.line; j--)
			p->errors[j] = p->errors[j - 1];
		p->errors[j] = e;
	}
	for (size_t i = 0; i < p->error_count; i++)
		fprintf(err, "%s:%d: %s\n", p->path, p->errors[i].line, p->errors[i].text);
}

/* --- sections --------------------------------------------------------------- */

static bool
is_name(const char *text)
{
	size_t len = strlen(text);

	if (len < 1 || len > 63)
		return false;
	for (; *text != '\0'; text++)
		if (!isalnum((unsigned char)*text) && strchr("_.-", *text) == NULL)
			return false;
	return true;
}

static const char *const section_words[] = {"broker", "defaults", "proxy", "frontend", "backend"};

static const char *
nearest_section(const char *word)
{
	for (size_t i = 0; i < sizeof(section_words) / sizeof(section_words[0]); i++)
		if (option_distance(word, section_words[i]) <= 2)
			return section_words[i];
	return NULL;
}

static void
set_kind(struct section *s, const char *word)
{
	s->kind = SECTION_BAD;
	if (strcmp(word, "broker") == 0)
		s->kind = SECTION_BROKER;
	else if (strcmp(word, "defaults") == 0)
		s->kind = SECTION_DEFAULTS;
	else if (strcmp(word, "proxy") == 0)
		s->kind = SECTION_PROXY;
	else if (strcmp(word, "frontend") == 0 || strcmp(word, "backend") == 0)
		s->kind = SECTION_SIDE;
	s->side = strcmp(word, "backend") == 0 ? CONFIG_BACKEND : CONFIG_FRONTEND;
}

static bool
same_section(const struct section *a, const struct section *b)
{
	return a->kind == b->kind && a->side == b->side && strcmp(a->name, b->name) == 0;
}

/* `text` is what stands between the brackets: a word, and for some a name. */
static void
begin_section(struct parser *p, char *text)
{
	struct section s = {.line = p->line, .name = "default"};
	char *word = strtok(text, " \t"), *name = strtok(NULL, " \t");
	char *more = strtok(NULL, " \t");
	const char *hint;

	if (word == NULL)
		word = text;
	set_kind(&s, word);
	snprintf(s.title, sizeof(s.title), "[%.20s%s%.60s]", word, name != NULL ? " " : "",
		name != NULL ? name : "");
	if (s.kind == SECTION_BAD) {
		hint = nearest_section(word);
		complain(p, p->line, "unknown section [%s]%s%s%s", word,
			hint != NULL ? ", did you mean \"" : "", hint != NULL ? hint : "",
			hint != NULL ? "\"?" : "");
	} else if (name != NULL && (s.kind == SECTION_BROKER || s.kind == SECTION_DEFAULTS)) {
		complain(p, p->line, "section [%s] takes no name", word);
		s.kind = SECTION_BAD;
	} else if (more != NULL || (name != NULL && !is_name(name))) {
		complain(p, p->line, "a proxy's name is 1 to 63 of A-Z a-z 0-9 _ . -");
		s.kind = SECTION_BAD;
	} else if (name != NULL) {
		snprintf(s.name, sizeof(s.name), "%s", name);
	}
	for (size_t i = 0; i < p->section_count && s.kind != SECTION_BAD; i++)
		if (same_section(&p->sections[i], &s))
			complain(p, p->line, "section %s stands in line %d already", s.title,
				p->sections[i].line);
	p->sections = mem_resize(p->sections, (p->section_count + 1) * sizeof(s));
	p->sections[p->section_count++] = s;
}

/* --- lines ------------------------------------------------------------------- */

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

/* Checks a line and makes it plain; "" when it is empty, a section, or wrong. */
static char *
normalise(struct parser *p, char *line, size_t len)
{
	char *text = line;

	if (strlen(line) != len) {
		complain(p, p->line, "a zero byte in the file");
		return line + strlen(line);
	}
	if (p->line == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0)
		text += 3;
	strip_comment(text);
	text = trim(text);
	len = strlen(text);
	if (len == 0)
		return text;
	if (len > LINE_LONGEST) {
		complain(p, p->line, "line is longer than %d bytes", LINE_LONGEST);
		return text + len;
	}
	if (text[0] == '[') {
		if (text[len - 1] != ']') {
			complain(p, p->line, "\"]\" is missing at the end of the section's name");
		} else {
			text[len - 1] = '\0';
			begin_section(p, trim(text + 1));
		}
		return text + len;
	}
	if (strchr(text, '=') == NULL) {
		complain(p, p->line, "expected \"key = value\" or \"[section]\"");
		return text + len;
	}
	if (text[0] == '=') {
		complain(p, p->line, "a key is missing before \"=\"");
		return text + len;
	}
	return text;
}

/* inih's reader: hands on one plain line for each line of the file. */
static char *
read_line_cb(char *out, int size, void *stream)
{
	struct parser *p = stream;
	char *line = NULL, *text;
	size_t room = 0;
	ssize_t len = getline(&line, &room, p->file);

	if (len < 0) {
		free(line);
		return NULL;
	}
	p->line++;
	text = normalise(p, line, (size_t)len);
	snprintf(out, (size_t)size, "%s\n", text);
	free(line);
	return out;
}

static enum option_section
options_of(const struct section *s)
{
	if (s->kind == SECTION_BROKER)
		return OPTION_BROKER;
	return s->kind == SECTION_PROXY ? OPTION_PROXY : OPTION_SIDE;
}

static void
unknown_key(struct parser *p, const struct section *s, const char *key)
{
	const char *hint = option_nearest(options_of(s), key);

	if (hint != NULL) {
		complain(p, p->line, "unknown key \"%s\" in %s, did you mean \"%s\"?", key, s->title,
			hint);
		return;
	}
	complain(p, p->line, "unknown key \"%s\" in %s", key, s->title);
}

/* inih's handler: one `key = value`. Sections are tracked by begin_section. */
static int
on_setting_cb(void *user, const char *ignored, const char *key, const char *value)
{
	struct parser *p = user;
	struct section *s = p->section_count > 0 ? &p->sections[p->section_count - 1] : NULL;
	const struct option_row *row;

	(void)ignored;
	if (s == NULL) {
		complain(p, p->line, "\"%s\" stands before the first section", key);
		return 1;
	}
	if (s->kind == SECTION_BAD)
		return 1;
	row = option_find(options_of(s), key);
	if (row == NULL) {
		unknown_key(p, s, key);
		return 1;
	}
	if (row->type == OPTION_ENDPOINT && s->kind == SECTION_DEFAULTS) {
		complain(p, p->line, "\"%s\" belongs in [frontend] or [backend], not in [defaults]", key);
		return 1;
	}
	for (size_t i = 0; i < s->count && row->type != OPTION_ENDPOINT; i++)
		if (s->settings[i].row == row)
			complain(p, p->line, "\"%s\" stands in line %d of this section already", key,
				s->settings[i].line);
	s->settings = mem_resize(s->settings, (s->count + 1) * sizeof(*s->settings));
	s->settings[s->count++] = (struct setting){row, mem_strdup(value), p->line};
	return 1;
}

/* --- meaning ----------------------------------------------------------------- */

static struct config_proxy *
proxy_named(struct parser *p, const char *name)
{
	struct config *c = p->config;
	struct config_proxy *proxy;

	for (size_t i = 0; i < c->proxy_count; i++)
		if (strcmp(c->proxy[i].name, name) == 0)
			return &c->proxy[i];
	c->proxy = mem_resize(c->proxy, (c->proxy_count + 1) * sizeof(*c->proxy));
	proxy = &c->proxy[c->proxy_count++];
	*proxy = (struct config_proxy){0};
	snprintf(proxy->name, sizeof(proxy->name), "%s", name);
	for (int i = 0; i < CONFIG_SIDES; i++)
		option_set_defaults(OPTION_SIDE, &proxy->side[i].opts);
	return proxy;
}

static void
apply(struct parser *p, const struct setting *s, void *base)
{
	char error[384];

	if (!option_set(s->row, base, s->value, error, sizeof(error)))
		complain(p, s->line, "%s: %s", s->row->name, error);
}

static void
add_endpoint(struct parser *p, struct config_side *side, const struct setting *s)
{
	bool binding = strcmp(s->row->name, "bind") == 0;
	struct endpoint **list = binding ? &side->bind : &side->connect;
	size_t *count = binding ? &side->bind_count : &side->connect_count;
	struct endpoint e;
	const char *wrong = endpoint_parse(&e, s->value, binding);

	/* a bad one still counts as given, or the side would be called empty on top */
	*list = mem_resize(*list, (*count + 1) * sizeof(e));
	(*list)[(*count)++] = e;
	if (wrong != NULL)
		complain(p, s->line, "%s: \"%s\": %s", s->row->name, s->value, wrong);
	else if (e.kind == ENDPOINT_FD)
		complain(p, s->line, "%s: fd:// is not available yet", s->row->name);
}

/* [defaults] first, whatever the order in the file. Its mistakes are reported once. */
static void
apply_defaults(struct parser *p, struct side_opts *to)
{
	char error[384];

	for (size_t i = 0; i < p->section_count; i++) {
		const struct section *s = &p->sections[i];
		for (size_t j = 0; s->kind == SECTION_DEFAULTS && j < s->count; j++)
			(void)option_set(s->settings[j].row, to, s->settings[j].value, error,
				sizeof(error));
	}
}

static void
apply_section(struct parser *p, const struct section *s)
{
	struct config_proxy *proxy;
	struct config_side *side;
	struct side_opts unused = {0};

	switch (s->kind) {
	case SECTION_BROKER:
		for (size_t i = 0; i < s->count; i++)
			apply(p, &s->settings[i], &p->config->broker);
		break;
	case SECTION_DEFAULTS:
		for (size_t i = 0; i < s->count; i++)
			apply(p, &s->settings[i], &unused);
		break;
	case SECTION_PROXY:
		proxy_named(p, s->name);
		for (size_t i = 0; i < s->count; i++)
			apply(p, &s->settings[i], &unused); /* no row of [proxy] is stored yet */
		break;
	case SECTION_SIDE:
		proxy = proxy_named(p, s->name);
		side = &proxy->side[s->side];
		side->present = true;
		side->line = s->line;
		apply_defaults(p, &side->opts);
		for (size_t i = 0; i < s->count; i++) {
			if (s->settings[i].row->type == OPTION_ENDPOINT)
				add_endpoint(p, side, &s->settings[i]);
			else
				apply(p, &s->settings[i], &side->opts);
		}
		break;
	case SECTION_NONE:
	case SECTION_BAD:
		break;
	}
}

/* --- checks over several options ----------------------------------------------- */

static const char *const side_names[] = {"frontend", "backend"};

static int
line_of_proxy(const struct parser *p, const char *name)
{
	for (size_t i = 0; i < p->section_count; i++)
		if (p->sections[i].kind == SECTION_PROXY && strcmp(p->sections[i].name, name) == 0)
			return p->sections[i].line;
	return 1;
}

static void
check_proxy(struct parser *p, const struct config_proxy *proxy)
{
	for (int i = 0; i < CONFIG_SIDES; i++) {
		const struct config_side *side = &proxy->side[i], *other = &proxy->side[1 - i];

		if (!side->present) {
			if (other->present)
				complain(p, other->line, "proxy \"%s\" has a %s but no [%s]", proxy->name,
					side_names[1 - i], side_names[i]);
			continue;
		}
		if (side->bind_count + side->connect_count == 0)
			complain(p, side->line, "[%s] of proxy \"%s\" needs a bind or a connect",
				side_names[i], proxy->name);
		if (side->opts.reconnect_min > side->opts.reconnect_max)
			complain(p, side->line, "reconnect_min is longer than reconnect_max");
	}
	if (!proxy->side[0].present && !proxy->side[1].present)
		complain(p, line_of_proxy(p, proxy->name),
			"proxy \"%s\" has neither [frontend] nor [backend]", proxy->name);
}

/* Can these two not be bound at the same time? */
static bool
clash(const struct endpoint *a, const struct endpoint *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind != ENDPOINT_TCP)
		return strcmp(a->host, b->host) == 0;
	return !a->any_port && !b->any_port && a->port == b->port &&
		(a->any_host || b->any_host || strcasecmp(a->host, b->host) == 0);
}

/* Every bind against every earlier one, over all proxies. */
static void
check_binds(struct parser *p)
{
	struct bound {
		struct endpoint e;
		int line;
	} *seen = NULL;
	size_t count = 0;

	for (size_t i = 0; i < p->section_count; i++) {
		const struct section *s = &p->sections[i];
		for (size_t j = 0; s->kind == SECTION_SIDE && j < s->count; j++) {
			const struct setting *set = &s->settings[j];
			struct endpoint e;

			if (strcmp(set->row->name, "bind") != 0 ||
				endpoint_parse(&e, set->value, true) != NULL)
				continue;
			for (size_t k = 0; k < count; k++) {
				if (clash(&seen[k].e, &e)) {
					complain(p, set->line, "bind: %s clashes with %s in line %d",
						e.text, seen[k].e.text, seen[k].line);
					break;
				}
			}
			seen = mem_resize(seen, (count + 1) * sizeof(*seen));
			seen[count++] = (struct bound){e, set->line};
		}
	}
	free(seen);
}

static void
check_all(struct parser *p)
{
	for (size_t i = 0; i < p->config->proxy_count; i++)
		check_proxy(p, &p->config->proxy[i]);
	check_binds(p);
	if (p->config->proxy_count == 0)
		complain(p, p->line > 0 ? p->line : 1,
			"no proxy: a [frontend] and a [backend] are needed");
}

/* --- all of it ------------------------------------------------------------------ */

static void
parser_fini(struct parser *p)
{
	for (size_t i = 0; i < p->error_count; i++)
		free(p->errors[i].text);
	free(p->errors);
	for (size_t i = 0; i < p->section_count; i++) {
		for (size_t j = 0; j < p->sections[i].count; j++)
			free(p->sections[i].settings[j].value);
		free(p->sections[i].settings);
	}
	free(p->sections);
}

static void
read_all(struct parser *p)
{
	int result = ini_parse_stream(read_line_cb, p, on_setting_cb, p);

	/* what inih itself finds wrong must not pass unseen */
	if (result != 0 && p->error_count == 0)
		complain(p, result > 0 ? result : 1, "cannot be parsed");
	if (ferror(p->file))
		complain(p, p->line > 0 ? p->line : 1, "cannot be read: %s", strerror(errno));
	for (size_t i = 0; i < p->section_count; i++)
		apply_section(p, &p->sections[i]);
	if (!ferror(p->file))
		check_all(p);
}

struct config *
config_load(const char *path, FILE *err)
{
	struct parser p = {.path = path};
	struct config *config;

	p.file = fopen(path, "re");
	if (p.file == NULL) {
		fprintf(err, "%s: %s\n", path, strerror(errno));
		return NULL;
	}
	config = p.config = mem_new(sizeof(*config));
	config->path = mem_strdup(path);
	option_set_defaults(OPTION_BROKER, &config->broker);
	read_all(&p);
	fclose(p.file);
	if (p.error_count > 0) {
		report(&p, err);
		config_free(config);
		config = NULL;
	}
	parser_fini(&p);
	return config;
}

void
config_free(struct config *config)
{
	if (config == NULL)
		return;
	for (size_t i = 0; i < config->proxy_count; i++) {
		for (int j = 0; j < CONFIG_SIDES; j++) {
			free(config->proxy[i].side[j].bind);
			free(config->proxy[i].side[j].connect);
		}
	}
	free(config->proxy);
	free(config->path);
	free(config);
}

/* --- printing --------------------------------------------------------------------- */

static void
dump_endpoints(FILE *out, const char *key, const struct endpoint *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		fprintf(out, "%s = %s\n", key, list[i].text);
}

static void
dump_options(FILE *out, enum option_section section, const void *base)
{
	char text[512];

	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		if (row->section != section || row->type == OPTION_ENDPOINT)
			continue;
		if (row->type == OPTION_LATER) {
			fprintf(out, "; %s\n;%s = %s\n", row->help, row->name, row->text);
			continue;
		}
		fprintf(out, "; %s\n%s = %s\n", row->help, row->name,
			option_text(row, base, text, sizeof(text)));
	}
}

void
config_dump(const struct config *config, FILE *out)
{
	fprintf(out, "[broker]\n");
	dump_options(out, OPTION_BROKER, &config->broker);
	for (size_t i = 0; i < config->proxy_count; i++) {
		const struct config_proxy *p = &config->proxy[i];
		fprintf(out, "\n[proxy %s]\n", p->name);
		dump_options(out, OPTION_PROXY, NULL);
		for (int j = 0; j < CONFIG_SIDES; j++) {
			const struct config_side *s = &p->side[j];
			fprintf(out, "\n[%s %s]\n", side_names[j], p->name);
			dump_endpoints(out, "bind", s->bind, s->bind_count);
			dump_endpoints(out, "connect", s->connect, s->connect_count);
			dump_options(out, OPTION_SIDE, &s->opts);
		}
	}
}
