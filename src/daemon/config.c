#include "daemon/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/idmap.h"
#include "base/mem.h"
#include "daemon/inifile.h"
#include "daemon/options.h"

enum { ERRORS_TOLD = 100 }; /* more are counted: nobody reads them, and each takes time */

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

/* Where something stands: the number of its section, counted from 1, and its line; 0: nowhere. */
struct place {
	size_t section;
	int line;
};

/* A proxy's name, with what stands under it. */
struct named {
	char name[64];
	struct place proxy, side[CONFIG_SIDES];
	size_t number; /* in the configuration, counted from 1; 0: not there yet */
};

struct parser {
	const char *path;
	struct config *config;
	struct section *sections; /* in file order */
	size_t section_count;
	struct place broker, defaults;
	struct place *options;            /* for each row of the table, where it was set last */
	struct idmap names;               /* struct named */
	struct idmap binds;               /* struct clash_key */
	struct error errors[ERRORS_TOLD]; /* by line */
	size_t error_count, error_total;
	bool lost_side; /* a header was wrong: the side that seems to be missing may stand there */
};

/* The array with room for one more than `count` elements. */
static void *
room(void *array, size_t count, size_t size)
{
	if ((count & (count - 1)) != 0)
		return array;
	return mem_resize(array, (count > 0 ? 2 * count : 1) * size);
}

/* --- errors ---------------------------------------------------------------- */

/*
 * Is there room for an error of this line? Those that come first in the file are told, one for
 * each line. Line 0 is the file as a whole.
 */
static bool
is_worth_telling(const struct parser *p, int line)
{
	if (p->error_count == ERRORS_TOLD && p->errors[ERRORS_TOLD - 1].line <= line)
		return false;
	for (size_t i = p->error_count; i > 0 && p->errors[i - 1].line >= line; i--)
		if (p->errors[i - 1].line == line)
			return false;
	return true;
}

/* In its place; the last one makes room. */
static void
insert_error(struct parser *p, int line, const char *text)
{
	size_t i = p->error_count;

	if (i == ERRORS_TOLD)
		free(p->errors[--i].text);
	else
		p->error_count++;
	for (; i > 0 && p->errors[i - 1].line > line; i--)
		p->errors[i] = p->errors[i - 1];
	p->errors[i] = (struct error){line, mem_strdup(text)};
}

/* What comes from the file is quoted by the caller. */
static void __attribute__((format(printf, 3, 4)))
complain(struct parser *p, int line, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	p->error_total++;
	if (!is_worth_telling(p, line))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	insert_error(p, line, text);
}

static void
report(const struct parser *p, FILE *err)
{
	for (size_t i = 0; i < p->error_count; i++) {
		if (p->errors[i].line > 0)
			fprintf(err, "%s:%d: %s\n", p->path, p->errors[i].line, p->errors[i].text);
		else
			fprintf(err, "%s: %s\n", p->path, p->errors[i].text);
	}
	if (p->error_count == ERRORS_TOLD && p->error_total > p->error_count)
		fprintf(err, "%s: and %zu more errors\n", p->path, p->error_total - p->error_count);
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

static struct named *
name_of(struct parser *p, const char *name)
{
	size_t len = strlen(name);
	struct named *n = idmap_get(&p->names, (const uint8_t *)name, len);

	if (n != NULL)
		return n;
	n = mem_new(sizeof(*n));
	snprintf(n->name, sizeof(n->name), "%s", name);
	mem_must(idmap_put(&p->names, (const uint8_t *)n->name, len, n) ? n : NULL);
	return n;
}

/* Where the first section of this kind and name stands. */
static struct place *
place_of(struct parser *p, const struct section *s)
{
	if (s->kind == SECTION_BROKER)
		return &p->broker;
	if (s->kind == SECTION_DEFAULTS)
		return &p->defaults;
	if (s->kind == SECTION_PROXY)
		return &name_of(p, s->name)->proxy;
	return &name_of(p, s->name)->side[s->side];
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
		hint = is_worth_telling(p, s->line) ? nearest_section(word) : NULL;
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
	struct place *first;

	if (title != NULL)
		parse_title(p, &s, title);
	else
		p->lost_side = true;
	p->sections = room(p->sections, p->section_count, sizeof(s));
	p->sections[p->section_count++] = s;
	if (s.kind == SECTION_BAD)
		return;
	first = place_of(p, &s);
	if (first->section != 0)
		complain(p, line, "section %s stands in line %d already", s.title, first->line);
	else
		*first = (struct place){p->section_count, line};
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
	const char *home = home_of(key), *hint = NULL;

	if (home == NULL && is_worth_telling(p, line))
		hint = nearest_in(s, key);
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
	struct place *last;

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
	last = &p->options[row - option_table];
	if (last->section == p->section_count && !option_is_repeatable(row)) {
		complain(p, line, "\"%s\" stands in line %d of this section already", key,
			last->line);
		return;
	}
	*last = (struct place){p->section_count, line};
	s->settings = room(s->settings, s->count, sizeof(*s->settings));
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
	struct named *known = name_of(p, name);
	struct config_proxy *proxy;

	if (known->number != 0)
		return &c->proxy[known->number - 1];
	c->proxy = room(c->proxy, c->proxy_count, sizeof(*c->proxy));
	proxy = &c->proxy[c->proxy_count++];
	known->number = c->proxy_count;
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
	*list = room(*list, *count, sizeof(e));
	(*list)[(*count)++] = e;
	if (wrong != NULL)
		complain(p, s->line, "%s: %s: %s", s->row->name, OPTION_QUOTED(s->value), wrong);
}

/* [defaults] first, whatever the order in the file. Its mistakes are reported once. */
static void
apply_defaults(struct parser *p, struct side_opts *to)
{
	char error[384];
	const struct section *s;

	if (p->defaults.section == 0)
		return;
	s = &p->sections[p->defaults.section - 1];
	for (size_t i = 0; i < s->count; i++)
		(void)option_set(
			s->settings[i].row, to, s->settings[i].value, error, sizeof(error));
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

static struct setting *
setting_in(struct parser *p, const struct place *at, const char *key)
{
	struct section *s = at->section != 0 ? &p->sections[at->section - 1] : NULL;

	for (size_t i = 0; s != NULL && i < s->count; i++)
		if (strcmp(s->settings[i].row->name, key) == 0)
			return &s->settings[i];
	return NULL;
}

/* Where this side has the value of `key` from; NULL: it is the built-in one. */
static struct setting *
setting_of(struct parser *p, const char *proxy, int side, const char *key)
{
	struct setting *own = setting_in(p, &name_of(p, proxy)->side[side], key);

	return own != NULL ? own : setting_in(p, &p->defaults, key);
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
		complain(p, name_of(p, proxy->name)->proxy.line,
			"proxy \"%s\" has neither [frontend] nor [backend]", proxy->name);
}

/* What a bind is found by when another one clashes with it. */
struct clash_key {
	struct endpoint_key key;
	const struct setting *setting;
};

/* The first of those before it that this one clashes with, or NULL. */
static const struct setting *
clash_with(const struct parser *p, const struct endpoint_keys *keys)
{
	const struct setting *found = NULL;

	for (size_t i = 0; i < keys->meets_count; i++) {
		const struct clash_key *k =
			idmap_get(&p->binds, keys->meets[i].bytes, keys->meets[i].len);
		if (k != NULL && (found == NULL || k->setting->line < found->line))
			found = k->setting;
	}
	return found;
}

static void
remember_bind(struct parser *p, const struct endpoint_keys *keys, const struct setting *setting)
{
	for (size_t i = 0; i < keys->is_count; i++) {
		struct clash_key *k;

		if (idmap_get(&p->binds, keys->is[i].bytes, keys->is[i].len) != NULL)
			continue;
		k = mem_new(sizeof(*k));
		*k = (struct clash_key){keys->is[i], setting};
		mem_must(idmap_put(&p->binds, k->key.bytes, k->key.len, k) ? k : NULL);
	}
}

static void
check_bind(struct parser *p, const struct setting *set)
{
	const struct setting *before;
	struct endpoint_keys keys;
	struct endpoint e, other;

	if ((strcmp(set->row->name, "bind") != 0 && strcmp(set->row->name, "http") != 0) ||
		endpoint_parse(&e, set->value, true) != NULL)
		return;
	endpoint_clash_keys(&e, &keys);
	before = clash_with(p, &keys);
	if (before != NULL && endpoint_parse(&other, before->value, true) == NULL)
		complain(p, set->line, "%s: %s clashes with %s in line %d", set->row->name,
			OPTION_SHOWN(e.text), OPTION_SHOWN(other.text), before->line);
	remember_bind(p, &keys, set);
}

/* Every bind against every earlier one, over all proxies. */
static void
check_binds(struct parser *p)
{
	for (size_t i = 0; i < p->section_count; i++) {
		const struct section *s = &p->sections[i];

		if (s->kind != SECTION_SIDE && s->kind != SECTION_BROKER)
			continue;
		for (size_t j = 0; j < s->count; j++)
			check_bind(p, &s->settings[j]);
	}
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
map_fini(struct idmap *map)
{
	for (size_t i = 0; i < map->cap; i++)
		if (map->slots[i].id != NULL)
			free(map->slots[i].value);
	idmap_fini(map);
}

static void
parser_init(struct parser *p, const char *path)
{
	*p = (struct parser){.path = path};
	p->options = mem_new_array(option_count, sizeof(*p->options));
	idmap_init(&p->names);
	idmap_init(&p->binds);
}

static void
parser_fini(struct parser *p)
{
	map_fini(&p->names);
	map_fini(&p->binds);
	free(p->options);
	for (size_t i = 0; i < p->error_count; i++)
		free(p->errors[i].text);
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

static void
map_proxies(struct config *c)
{
	for (size_t i = 0; i < c->proxy_count; i++) {
		struct config_proxy *p = &c->proxy[i];
		mem_must(idmap_put(&c->by_name, (const uint8_t *)p->name, strlen(p->name), p) ? p : NULL);
	}
}

const struct config_proxy *
config_find(const struct config *config, const char *name)
{
	return idmap_get(&config->by_name, (const uint8_t *)name, strlen(name));
}

static const char *
why_no_file(const struct stat *st)
{
	return S_ISDIR(st->st_mode)   ? strerror(EISDIR)
	       : S_ISREG(st->st_mode) ? NULL
				      : "not a regular file";
}

/*
 * A device may act when it is opened, and a pipe waits for who writes to it: what is no file is
 * not opened, and what turns into none meanwhile is not waited for.
 */
static FILE *
open_file(const char *path, FILE *err)
{
	const char *wrong = NULL;
	FILE *file = NULL;
	struct stat st;
	int fd = -1;

	if (stat(path, &st) == 0 && (wrong = why_no_file(&st)) == NULL)
		fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && (wrong = why_no_file(&st)) == NULL)
		file = fdopen(fd, "r");
	if (file != NULL)
		return file;
	fprintf(err, "%s: %s\n", path, wrong != NULL ? wrong : strerror(errno));
	if (fd >= 0)
		close(fd);
	return NULL;
}

struct config *
config_load(const char *path, FILE *err)
{
	struct parser p;
	FILE *file = open_file(path, err);
	struct config *config;

	if (file == NULL)
		return NULL;
	parser_init(&p, path);
	config = p.config = mem_new(sizeof(*config));
	config->path = mem_strdup(path);
	idmap_init(&config->by_name);
	option_set_defaults(OPTION_BROKER, &config->broker);
	read_all(&p, file);
	fclose(file);
	if (p.error_total > 0) {
		report(&p, err);
		config_free(config);
		config = NULL;
	} else {
		map_proxies(config);
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
	idmap_fini(&config->by_name);
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
