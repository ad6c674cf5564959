#include "daemon/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/inifile.h"
#include "daemon/options.h"

enum section_kind {
	SECTION_NONE,
	SECTION_BROKER,
	SECTION_DEFAULTS,
	SECTION_PROXY,
	SECTION_SIDE,
	SECTION_BAD
};

/* One `key = value` of [defaults] or of a side, applied after the whole file was read. */
struct setting {
	const struct option_row *row;
	char *value;
	int line;
	bool inherited; /* it stands in [defaults] */
	bool wrong;     /* it was complained of */
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
	struct config *config;
	struct section *sections; /* in file order */
	size_t section_count;
	struct error *errors;
	size_t error_count;
	bool lost_side; /* a header was wrong: the side that seems to be missing may stand there */
};

/* --- errors ---------------------------------------------------------------- */

/* Line 0: the file as a whole. What comes from the file is quoted by the caller. */
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
	for (size_t i = 0; i < p->error_count; i++) {
		if (p->errors[i].line > 0)
			fprintf(err, "%s:%d: %s\n", p->path, p->errors[i].line, p->errors[i].text);
		else
			fprintf(err, "%s: %s\n", p->path, p->errors[i].text);
	}
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

/* Fills the section from what stands between the brackets: a word, and for some a name. */
static void
parse_title(struct parser *p, struct section *s, char *title)
{
	char *word = strtok(title, " \t"), *name = strtok(NULL, " \t");
	char *more = strtok(NULL, " \t");
	const char *hint;

	if (word == NULL)
		word = title;
	set_kind(s, word);
	snprintf(s->title, sizeof(s->title), "[%.20s%s%.60s]", word, name != NULL ? " " : "",
		name != NULL ? name : "");
	if (s->kind == SECTION_BAD) {
		hint = nearest_section(word);
		p->lost_side |= hint == NULL ||
			(strcmp(hint, "broker") != 0 && strcmp(hint, "defaults") != 0);
		complain(p, s->line, "unknown section [%s]%s%s%s", OPTION_SHOWN(word),
			hint != NULL ? ", did you mean \"" : "", hint != NULL ? hint : "",
			hint != NULL ? "\"?" : "");
	} else if (name != NULL && (s->kind == SECTION_BROKER || s->kind == SECTION_DEFAULTS)) {
		complain(p, s->line, "section [%s] takes no name", word);
		s->kind = SECTION_BAD;
	} else if (more != NULL || (name != NULL && !is_name(name))) {
		complain(p, s->line, "a proxy's name is 1 to 63 of A-Z a-z 0-9 _ . -");
		s->kind = SECTION_BAD;
		p->lost_side = true;
	} else if (name != NULL) {
		snprintf(s->name, sizeof(s->name), "%s", name);
	}
}

static void
on_section(void *user, int line, char *title)
{
	struct parser *p = user;
	struct section s = {.kind = SECTION_BAD, .line = line, .name = "default"};

	if (title != NULL)
		parse_title(p, &s, title);
	else
		p->lost_side = true;
	for (size_t i = 0; i < p->section_count && s.kind != SECTION_BAD; i++)
		if (same_section(&p->sections[i], &s))
			complain(p, line, "section %s stands in line %d already", s.title,
				p->sections[i].line);
	p->sections = mem_resize(p->sections, (p->section_count + 1) * sizeof(s));
	p->sections[p->section_count++] = s;
}

/* --- settings ---------------------------------------------------------------- */

static void
on_error(void *user, int line, const char *text)
{
	complain(user, line, "%s", text);
}

static enum option_section
options_of(const struct section *s)
{
	if (s->kind == SECTION_BROKER)
		return OPTION_BROKER;
	return s->kind == SECTION_PROXY ? OPTION_PROXY : OPTION_SIDE;
}

/* The row of a key in this section, or NULL. */
static const struct option_row *
row_in(const struct section *s, const char *key)
{
	const struct option_row *row = option_find(options_of(s), key);

	if (row == NULL && s->kind == SECTION_SIDE && s->side == CONFIG_BACKEND)
		row = option_find(OPTION_BACKEND, key);
	return row;
}

/* The name in this section that is nearest to `key`, or NULL. */
static const char *
nearest_in(const struct section *s, const char *key)
{
	const char *hint = option_nearest(options_of(s), key), *other = NULL;

	if (s->kind == SECTION_SIDE && s->side == CONFIG_BACKEND)
		other = option_nearest(OPTION_BACKEND, key);
	if (hint == NULL || other == NULL)
		return hint != NULL ? hint : other;
	return option_distance(key, other) < option_distance(key, hint) ? other : hint;
}

/* The sections that take this key, or NULL. */
static const char *
home_of(const char *key)
{
	const struct option_row *side = option_find(OPTION_SIDE, key);
	bool broker = option_find(OPTION_BROKER, key) != NULL;

	if (side != NULL && side->type == OPTION_ENDPOINT)
		return "[frontend] or [backend]";
	if (side != NULL)
		return broker ? "[broker], [frontend], [backend] or [defaults]"
			      : "[frontend], [backend] or [defaults]";
	if (broker)
		return "[broker]";
	if (option_find(OPTION_BACKEND, key) != NULL)
		return "[backend]";
	return option_find(OPTION_PROXY, key) != NULL ? "[proxy]" : NULL;
}

static void
unknown_key(struct parser *p, const struct section *s, int line, const char *key)
{
	const char *home = home_of(key), *hint = nearest_in(s, key);

	if (home != NULL)
		complain(p, line, "\"%s\" belongs in %s, not in %s", key, home, s->title);
	else if (hint != NULL)
		complain(p, line, "unknown key %s in %s, did you mean \"%s\"?", OPTION_QUOTED(key),
			s->title, hint);
	else
		complain(p, line, "unknown key %s in %s", OPTION_QUOTED(key), s->title);
}

static void
on_setting(void *user, int line, const char *key, const char *value)
{
	struct parser *p = user;
	struct section *s = p->section_count > 0 ? &p->sections[p->section_count - 1] : NULL;
	const struct option_row *row;

	if (s == NULL) {
		complain(p, line, "%s stands before the first section", OPTION_QUOTED(key));
		return;
	}
	if (s->kind == SECTION_BAD)
		return;
	row = row_in(s, key);
	if (row == NULL || (row->type == OPTION_ENDPOINT && s->kind == SECTION_DEFAULTS)) {
		unknown_key(p, s, line, key);
		return;
	}
	for (size_t i = 0; i < s->count && !option_is_repeatable(row); i++)
		if (s->settings[i].row == row)
			complain(p, line, "\"%s\" stands in line %d of this section already", key,
				s->settings[i].line);
	s->settings = mem_resize(s->settings, (s->count + 1) * sizeof(*s->settings));
	s->settings[s->count++] = (struct setting){.row = row,
		.value = mem_strdup(value),
		.line = line,
		.inherited = s->kind == SECTION_DEFAULTS};
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
	option_set_defaults(OPTION_BACKEND, &proxy->side[CONFIG_BACKEND].opts);
	return proxy;
}

static void
apply(struct parser *p, struct setting *s, void *base)
{
	char error[384];

	if (option_set(s->row, base, s->value, error, sizeof(error)))
		return;
	s->wrong = true;
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
		complain(p, s->line, "%s: %s: %s", s->row->name, OPTION_QUOTED(s->value), wrong);
}

/* [defaults] first, whatever the order in the file. Its mistakes are reported once. */
static void
apply_defaults(struct parser *p, struct side_opts *to)
{
	char error[384];

	for (size_t i = 0; i < p->section_count; i++) {
		const struct section *s = &p->sections[i];
		for (size_t j = 0; s->kind == SECTION_DEFAULTS && j < s->count; j++)
			(void)option_set(
				s->settings[j].row, to, s->settings[j].value, error, sizeof(error));
	}
}

static void
apply_section(struct parser *p, struct section *s)
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

/* Where this side has the value of `key` from; NULL: it is the built-in one. */
static struct setting *
setting_of(struct parser *p, const char *proxy, int side, const char *key)
{
	struct setting *found = NULL;

	for (size_t i = 0; i < p->section_count; i++) {
		struct section *s = &p->sections[i];
		if (s->kind != SECTION_DEFAULTS &&
			(s->kind != SECTION_SIDE || s->side != side || strcmp(s->name, proxy) != 0))
			continue;
		for (size_t j = 0; j < s->count; j++)
			if (strcmp(s->settings[j].row->name, key) == 0 &&
				(found == NULL || found->inherited))
				found = &s->settings[j];
	}
	return found;
}

/* Of two settings that do not agree, the one to be blamed: a side's own, then the later one. */
static struct setting *
culprit(struct setting *a, struct setting *b)
{
	if (a == NULL || b == NULL)
		return a != NULL ? a : b;
	if (a->inherited != b->inherited)
		return a->inherited ? b : a;
	return a->line > b->line ? a : b;
}

static void
check_reconnect(struct parser *p, const struct config_proxy *proxy, int i)
{
	struct setting *min = setting_of(p, proxy->name, i, "reconnect_min");
	struct setting *max = setting_of(p, proxy->name, i, "reconnect_max");
	struct setting *blamed = culprit(min, max);
	const struct side_opts *o = &proxy->side[i].opts;
	char shortest[32], longest[32];

	if (blamed == NULL || /* the defaults agree */
		o->reconnect_min <= o->reconnect_max || (min != NULL && min->wrong) ||
		(max != NULL && max->wrong))
		return;
	blamed->wrong = true; /* once, however many sides inherit it */
	complain(p, blamed->line, "reconnect_min (%s) is longer than reconnect_max (%s)",
		option_text(
			option_find(OPTION_SIDE, "reconnect_min"), o, shortest, sizeof(shortest)),
		option_text(
			option_find(OPTION_SIDE, "reconnect_max"), o, longest, sizeof(longest)));
}

static void
check_proxy(struct parser *p, const struct config_proxy *proxy)
{
	for (int i = 0; i < CONFIG_SIDES; i++) {
		const struct config_side *side = &proxy->side[i], *other = &proxy->side[1 - i];

		if (!side->present) {
			if (other->present && !p->lost_side)
				complain(p, other->line, "proxy \"%s\" has a %s but no [%s]",
					proxy->name, side_names[1 - i], side_names[i]);
			continue;
		}
		if (side->bind_count + side->connect_count == 0)
			complain(p, side->line, "[%s] of proxy \"%s\" needs a bind or a connect",
				side_names[i], proxy->name);
		check_reconnect(p, proxy, i);
	}
	if (!proxy->side[0].present && !proxy->side[1].present && !p->lost_side)
		complain(p, line_of_proxy(p, proxy->name),
			"proxy \"%s\" has neither [frontend] nor [backend]", proxy->name);
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
		bool may = s->kind == SECTION_SIDE || s->kind == SECTION_BROKER;
		for (size_t j = 0; may && j < s->count; j++) {
			const struct setting *set = &s->settings[j];
			struct endpoint e;

			if ((strcmp(set->row->name, "bind") != 0 && strcmp(set->row->name, "http") != 0) ||
				endpoint_parse(&e, set->value, true) != NULL)
				continue;
			for (size_t k = 0; k < count; k++) {
				if (endpoint_clash(&seen[k].e, &e)) {
					complain(p, set->line,
						"%s: %s clashes with %s in line %d", set->row->name,
						OPTION_SHOWN(e.text), OPTION_SHOWN(seen[k].e.text),
						seen[k].line);
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
check_all(struct parser *p, int lines)
{
	for (size_t i = 0; i < p->config->proxy_count; i++)
		check_proxy(p, &p->config->proxy[i]);
	check_binds(p);
	if (p->config->proxy_count == 0 && !p->lost_side)
		complain(p, lines > 0 ? lines : 1,
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
read_all(struct parser *p, FILE *file)
{
	static const struct inifile_ops ops = {on_section, on_setting, on_error};
	int lines = inifile_read(file, &ops, p);

	if (lines < 0) {
		complain(p, 0, "%s", strerror(errno));
		return;
	}
	for (size_t i = 0; i < p->section_count; i++)
		apply_section(p, &p->sections[i]);
	check_all(p, lines);
}

struct config *
config_load(const char *path, FILE *err)
{
	struct parser p = {.path = path};
	FILE *file = fopen(path, "re");
	struct config *config;

	if (file == NULL) {
		fprintf(err, "%s: %s\n", path, strerror(errno));
		return NULL;
	}
	config = p.config = mem_new(sizeof(*config));
	config->path = mem_strdup(path);
	option_set_defaults(OPTION_BROKER, &config->broker);
	read_all(&p, file);
	fclose(file);
	if (p.error_count > 0) {
		report(&p, err);
		config_free(config);
		config = NULL;
	}
	parser_fini(&p);
	return config;
}

size_t
config_warn(const struct config *config, FILE *out)
{
	size_t count = 0;

	for (size_t i = 0; i < config->proxy_count; i++) {
		const struct config_side *backend = &config->proxy[i].side[CONFIG_BACKEND];
		const struct side_opts *o = &backend->opts;
		const struct {
			bool set;
			const char *name;
		} idle[] = {{o->redeliver, "redeliver"}, {o->answer_timeout > 0, "answer_timeout"},
			{o->max_outstanding > 0, "max_outstanding"}};

		for (size_t j = 0; !o->replies && j < sizeof(idle) / sizeof(idle[0]); j++) {
			if (!idle[j].set)
				continue;
			fprintf(out, "%s:%d: warning: %s has no effect with replies = no\n",
				config->path, backend->line, idle[j].name);
			count++;
		}
	}
	return count;
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
		option_text(row, base, text, sizeof(text));
		/* ; and # would begin a comment behind a space */
		fprintf(out, "; %s\n%s =%s%s\n", row->help, row->name,
			text[0] == ';' || text[0] == '#' ? "" : " ", text);
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
			if (j == CONFIG_BACKEND)
				dump_options(out, OPTION_BACKEND, &s->opts);
		}
	}
}
