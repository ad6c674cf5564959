/* SPDX-License-Identifier: MIT */
#include "daemon/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/idmap.h"
#include "base/mem.h"
#include "base/words.h"
#include "daemon/inifile.h"
#include "daemon/options.h"

enum {
	/* of a slice */
	COST_SECTION = 5, /* with the defaults of its kind, and those of the file */
	COST_SETTING = 2,
	COST_PROXY = 2,
	COST_FREE = 2
};

/* What is done one after the other, each for every one of its kind. */
enum stage {
	STAGE_OPEN,
	STAGE_READ,    /* lines */
	STAGE_APPLY,   /* sections, and their settings */
	STAGE_PROXIES, /* checked */
	STAGE_BINDS,   /* checked: sections, and their settings */
	STAGE_MAP,     /* proxies */
	STAGE_FREE_SETTINGS,
	STAGE_FREE_BINDS,
	STAGE_OVER
};

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
	int side; /* PROXY_FRONTEND or PROXY_BACKEND */
	size_t proxy;
	int line;
	char name[64];
	char title[96]; /* as written, for messages */
	struct setting *settings;
	size_t count;
};

/* Where something stands: the number of its section, counted from 1, and its line; 0: nowhere. */
struct place {
	size_t section;
	int line;
};

/* A proxy's name, with what stands under it. */
struct named {
	char name[64];
	struct place proxy, side[PROXY_SIDES];
	size_t number; /* in the configuration, counted from 1; 0: not there yet */
};

struct config_reader {
	enum stage stage;
	size_t at, setting; /* in it: a section or a proxy, and the section's setting */
	FILE *file;
	struct inifile *ini;
	const char *path; /* the configuration's */
	struct config *config;
	struct section *sections; /* in file order */
	size_t section_count;
	struct place broker, defaults;
	struct place *options; /* for each row of the table, where it was set last */
	struct idmap names;    /* struct named */
	struct idmap binds;    /* struct clash_key */
	struct config_errors errors;
	bool lost_side;  /* a header was wrong: the side that seems to be missing may stand there */
	bool unreadable; /* the file, or its end */
	bool no_memory;  /* all else is void then */
};

/* Makes room in *array, a pointer to elements of `size`, for one more than `count`. */
static bool
room(struct config_reader *p, void *array, size_t count, size_t size)
{
	void *old, *resized;

	if ((count & (count - 1)) != 0)
		return true;
	memcpy(&old, array, sizeof(old));
	resized = mem_try_resize(old, (count > 0 ? 2 * count : 1) * size);
	if (resized == NULL)
		p->no_memory = true;
	else
		memcpy(array, &resized, sizeof(resized));
	return resized != NULL;
}

/* A copy, or NULL. */
static char *
copy(struct config_reader *p, const char *text)
{
	char *own = mem_try_strdup(text);

	p->no_memory |= own == NULL;
	return own;
}

/* --- sections ------------------------------------------------------------- */

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
		if (word_distance(word, section_words[i]) <= 2)
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
	else if (strcmp(word, side_name(PROXY_FRONTEND)) == 0 ||
		strcmp(word, side_name(PROXY_BACKEND)) == 0)
		s->kind = SECTION_SIDE;
	s->side = strcmp(word, side_name(PROXY_BACKEND)) == 0 ? PROXY_BACKEND : PROXY_FRONTEND;
}

/* Add it to the map, which frees it, or free it: no memory. */
static void *
put(struct config_reader *p, struct idmap *map, const void *id, size_t len, void *value)
{
	if (idmap_put(map, id, len, value))
		return value;
	p->no_memory = true;
	free(value);
	return NULL;
}

/* NULL: no memory. */
static struct named *
name_of(struct config_reader *p, const char *name)
{
	size_t len = strlen(name);
	struct named *n = idmap_get(&p->names, (const uint8_t *)name, len);

	if (n != NULL)
		return n;
	n = mem_try_new(sizeof(*n));
	if (n == NULL) {
		p->no_memory = true;
		return NULL;
	}
	snprintf(n->name, sizeof(n->name), "%s", name);
	return put(p, &p->names, n->name, len, n);
}

/* Where the first section of this kind and name stands. NULL: no memory. */
static struct place *
place_of(struct config_reader *p, const struct section *s)
{
	struct named *n;

	if (s->kind == SECTION_BROKER)
		return &p->broker;
	if (s->kind == SECTION_DEFAULTS)
		return &p->defaults;
	n = name_of(p, s->name);
	if (n == NULL)
		return NULL;
	return s->kind == SECTION_PROXY ? &n->proxy : &n->side[s->side];
}

/* Fills the section from what stands between the brackets: a word, and for some a name. */
static void
parse_title(struct config_reader *p, struct section *s, char *title)
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
		hint = config_errors_wants(&p->errors, s->line) ? nearest_section(word) : NULL;
		p->lost_side |= hint == NULL ||
			(strcmp(hint, "broker") != 0 && strcmp(hint, "defaults") != 0);
		config_errors_add(&p->errors, s->line, "unknown section [%s]%s%s%s",
			OPTION_SHOWN(word), hint != NULL ? ", did you mean \"" : "",
			hint != NULL ? hint : "", hint != NULL ? "\"?" : "");
	} else if (name != NULL && (s->kind == SECTION_BROKER || s->kind == SECTION_DEFAULTS)) {
		config_errors_add(&p->errors, s->line, "section [%s] takes no name", word);
		s->kind = SECTION_BAD;
	} else if (more != NULL || (name != NULL && !is_name(name))) {
		config_errors_add(
			&p->errors, s->line, "a proxy's name is 1 to 63 of A-Z a-z 0-9 _ . -");
		s->kind = SECTION_BAD;
		p->lost_side = true;
	} else if (name != NULL) {
		snprintf(s->name, sizeof(s->name), "%s", name);
	}
}

static void
on_section(void *user, int line, char *title)
{
	struct config_reader *p = user;
	struct section s = {.kind = SECTION_BAD, .line = line, .name = "default"};
	struct place *first;

	if (title != NULL)
		parse_title(p, &s, title);
	else
		p->lost_side = true;
	if (!room(p, &p->sections, p->section_count, sizeof(s)))
		return;
	p->sections[p->section_count++] = s;
	if (s.kind == SECTION_BAD)
		return;
	first = place_of(p, &s);
	if (first == NULL)
		return;
	if (first->section != 0)
		config_errors_add(&p->errors, line, "section %s stands in line %d already", s.title,
			first->line);
	else
		*first = (struct place){p->section_count, line};
}

/* --- settings ------------------------------------------------------------- */

static void
on_error(void *user, int line, const char *text)
{
	config_errors_add(&((struct config_reader *)user)->errors, line, "%s", text);
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

	if (row == NULL && s->kind == SECTION_SIDE && s->side == PROXY_BACKEND)
		row = option_find(OPTION_BACKEND, key);
	return row;
}

/* The name in this section that is nearest to `key`, or NULL. */
static const char *
nearest_in(const struct section *s, const char *key)
{
	const char *hint = option_nearest(options_of(s), key), *other = NULL;

	if (s->kind == SECTION_SIDE && s->side == PROXY_BACKEND)
		other = option_nearest(OPTION_BACKEND, key);
	if (hint == NULL || other == NULL)
		return hint != NULL ? hint : other;
	return word_distance(key, other) < word_distance(key, hint) ? other : hint;
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
unknown_key(struct config_reader *p, const struct section *s, int line, const char *key)
{
	const char *home = home_of(key), *hint = NULL;

	if (home == NULL && config_errors_wants(&p->errors, line))
		hint = nearest_in(s, key);
	if (home != NULL)
		config_errors_add(
			&p->errors, line, "\"%s\" belongs in %s, not in %s", key, home, s->title);
	else if (hint != NULL)
		config_errors_add(&p->errors, line, "unknown key %s in %s, did you mean \"%s\"?",
			OPTION_QUOTED(key), s->title, hint);
	else
		config_errors_add(
			&p->errors, line, "unknown key %s in %s", OPTION_QUOTED(key), s->title);
}

static void
on_setting(void *user, int line, const char *key, const char *value)
{
	struct config_reader *p = user;
	struct section *s = p->section_count > 0 ? &p->sections[p->section_count - 1] : NULL;
	const struct option_row *row;
	struct place *last;
	char *own;

	if (s == NULL) {
		config_errors_add(
			&p->errors, line, "%s stands before the first section", OPTION_QUOTED(key));
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
		config_errors_add(&p->errors, line,
			"\"%s\" stands in line %d of this section already", key, last->line);
		return;
	}
	*last = (struct place){p->section_count, line};
	if (!room(p, &s->settings, s->count, sizeof(*s->settings)) ||
		(own = copy(p, value)) == NULL)
		return;
	s->settings[s->count++] = (struct setting){
		.row = row, .value = own, .line = line, .inherited = s->kind == SECTION_DEFAULTS};
}

/* --- meaning -------------------------------------------------------------- */

/* NULL: no memory. */
static struct config_proxy *
proxy_named(struct config_reader *p, const char *name)
{
	struct config *c = p->config;
	struct named *known = name_of(p, name);
	struct config_proxy *proxy;

	if (known == NULL)
		return NULL;
	if (known->number != 0)
		return &c->proxy[known->number - 1];
	if (!room(p, &c->proxy, c->proxy_count, sizeof(*c->proxy)))
		return NULL;
	proxy = &c->proxy[c->proxy_count++];
	known->number = c->proxy_count;
	*proxy = (struct config_proxy){0};
	snprintf(proxy->name, sizeof(proxy->name), "%s", name);
	for (int i = 0; i < PROXY_SIDES; i++)
		option_set_defaults(OPTION_SIDE, &proxy->side[i].opts);
	option_set_defaults(OPTION_BACKEND, &proxy->side[PROXY_BACKEND].opts);
	return proxy;
}

static void
apply(struct config_reader *p, struct setting *s, void *base)
{
	char error[384];

	if (option_set(s->row, base, s->value, error, sizeof(error)))
		return;
	s->wrong = true;
	config_errors_add(&p->errors, s->line, "%s: %s", s->row->name, error);
}

static void
add_endpoint(struct config_reader *p, struct config_side *side, const struct setting *s)
{
	bool binding = strcmp(s->row->name, "bind") == 0;
	struct endpoint **list = binding ? &side->bind : &side->connect;
	size_t *count = binding ? &side->bind_count : &side->connect_count;
	struct endpoint e;
	const char *wrong = endpoint_parse(&e, s->value, binding);

	/* a bad one still counts as given, or the side would be called empty on top */
	if (!room(p, list, *count, sizeof(e)))
		return;
	(*list)[(*count)++] = e;
	if (wrong != NULL)
		config_errors_add(&p->errors, s->line, "%s: %s: %s", s->row->name,
			OPTION_QUOTED(s->value), wrong);
}

/* [defaults] first, whatever the order in the file. Its mistakes are reported once. */
static void
apply_defaults(struct config_reader *p, struct side_opts *to)
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

/* Before its settings: the proxy, the side, and what is said for all sides. */
static void
begin_section(struct config_reader *p, const struct section *s)
{
	struct config_proxy *proxy;
	struct config_side *side;

	if (s->kind != SECTION_PROXY && s->kind != SECTION_SIDE)
		return;
	proxy = proxy_named(p, s->name);
	if (proxy == NULL || s->kind == SECTION_PROXY)
		return;
	side = &proxy->side[s->side];
	side->present = true;
	side->line = s->line;
	apply_defaults(p, &side->opts);
}

static void
apply_setting(struct config_reader *p, struct section *s, struct setting *setting)
{
	struct side_opts unused = {0};
	struct config_proxy *proxy;

	if (setting == NULL) {
		begin_section(p, s);
		return;
	}
	switch (s->kind) {
	case SECTION_BROKER:
		apply(p, setting, &p->config->broker);
		break;
	case SECTION_DEFAULTS:
	case SECTION_PROXY: /* no row of it is stored yet */
		apply(p, setting, &unused);
		break;
	case SECTION_SIDE:
		proxy = proxy_named(p, s->name);
		if (proxy == NULL)
			break;
		if (setting->row->type == OPTION_ENDPOINT)
			add_endpoint(p, &proxy->side[s->side], setting);
		else
			apply(p, setting, &proxy->side[s->side].opts);
		break;
	case SECTION_NONE:
	case SECTION_BAD:
		break;
	}
}

/* --- checks over several options ------------------------------------------ */

static struct setting *
setting_in(struct config_reader *p, const struct place *at, const char *key)
{
	struct section *s = at->section != 0 ? &p->sections[at->section - 1] : NULL;

	for (size_t i = 0; s != NULL && i < s->count; i++)
		if (strcmp(s->settings[i].row->name, key) == 0)
			return &s->settings[i];
	return NULL;
}

/* Where this side has the value of `key` from; NULL: it is the built-in one. */
static struct setting *
setting_of(struct config_reader *p, const char *proxy, int side, const char *key)
{
	struct named *n = name_of(p, proxy);
	struct setting *own = n != NULL ? setting_in(p, &n->side[side], key) : NULL;

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
check_reconnect(struct config_reader *p, const struct config_proxy *proxy, int i)
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
	config_errors_add(&p->errors, blamed->line,
		"reconnect_min (%s) is longer than reconnect_max (%s)",
		option_text(
			option_find(OPTION_SIDE, "reconnect_min"), o, shortest, sizeof(shortest)),
		option_text(
			option_find(OPTION_SIDE, "reconnect_max"), o, longest, sizeof(longest)));
}

/* Of its own section. */
static int
line_of(struct config_reader *p, const char *proxy)
{
	struct named *n = name_of(p, proxy);

	return n != NULL ? n->proxy.line : 0;
}

static void
check_proxy(struct config_reader *p, const struct config_proxy *proxy)
{
	for (int i = 0; i < PROXY_SIDES; i++) {
		const struct config_side *side = &proxy->side[i], *other = &proxy->side[1 - i];

		if (!side->present) {
			if (other->present && !p->lost_side)
				config_errors_add(&p->errors, other->line,
					"proxy \"%s\" has a %s but no [%s]", proxy->name,
					side_name(1 - i), side_name(i));
			continue;
		}
		if (side->bind_count + side->connect_count == 0)
			config_errors_add(&p->errors, side->line,
				"[%s] of proxy \"%s\" needs a bind or a connect", side_name(i),
				proxy->name);
		check_reconnect(p, proxy, i);
	}
	if (!proxy->side[0].present && !proxy->side[1].present && !p->lost_side)
		config_errors_add(&p->errors, line_of(p, proxy->name),
			"proxy \"%s\" has neither [frontend] nor [backend]", proxy->name);
}

/* What a bind is found by when another one clashes with it. */
struct clash_key {
	struct endpoint_key key;
	const struct setting *setting;
};

/* The first of those before it that this one clashes with, or NULL. */
static const struct setting *
clash_with(const struct config_reader *p, const struct endpoint_keys *keys)
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
remember_bind(
	struct config_reader *p, const struct endpoint_keys *keys, const struct setting *setting)
{
	for (size_t i = 0; i < keys->is_count; i++) {
		struct clash_key *k;

		if (idmap_get(&p->binds, keys->is[i].bytes, keys->is[i].len) != NULL)
			continue;
		k = mem_try_new(sizeof(*k));
		if (k == NULL) {
			p->no_memory = true;
			return;
		}
		*k = (struct clash_key){keys->is[i], setting};
		if (put(p, &p->binds, k->key.bytes, k->key.len, k) == NULL)
			return;
	}
}

/* Against every earlier one, over all proxies. */
static void
check_bind(struct config_reader *p, struct section *s, struct setting *set)
{
	const struct setting *before;
	struct endpoint_keys keys;
	struct endpoint e, other;

	if (set == NULL || (s->kind != SECTION_SIDE && s->kind != SECTION_BROKER))
		return;
	if ((strcmp(set->row->name, "bind") != 0 && strcmp(set->row->name, "http") != 0) ||
		endpoint_parse(&e, set->value, true) != NULL)
		return;
	endpoint_clash_keys(&e, &keys);
	before = clash_with(p, &keys);
	if (before != NULL && endpoint_parse(&other, before->value, true) == NULL)
		config_errors_add(&p->errors, set->line, "%s: %s clashes with %s in line %d",
			set->row->name, OPTION_SHOWN(e.text), OPTION_SHOWN(other.text),
			before->line);
	remember_bind(p, &keys, set);
}

const struct config_proxy *
config_find(const struct config *config, const char *name)
{
	return idmap_get(&config->by_name, (const uint8_t *)name, strlen(name));
}

static const char *
why_no_file(const struct stat *st)
{
	return S_ISDIR(st->st_mode)    ? strerror(EISDIR)
		: S_ISREG(st->st_mode) ? NULL
				       : "not a regular file";
}

/*
 * A device may act when it is opened, and a pipe waits for who writes to it: what is no file is
 * not opened, and what turns into none meanwhile is not waited for.
 */
static FILE *
open_file(struct config_reader *p)
{
	const char *path = p->path;
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
	p->no_memory |= wrong == NULL && errno == ENOMEM;
	config_errors_add(&p->errors, 0, "%s", wrong != NULL ? wrong : strerror(errno));
	if (fd >= 0)
		close(fd);
	return NULL;
}

static void
map_fini(struct idmap *map)
{
	for (size_t i = 0; i < map->cap; i++)
		if (map->slots[i].id != NULL)
			free(map->slots[i].value);
	idmap_fini(map);
}

static void
section_fini(struct section *s)
{
	for (size_t j = 0; j < s->count; j++)
		free(s->settings[j].value);
	free(s->settings);
	s->settings = NULL;
	s->count = 0;
}

void
config_reader_free(struct config_reader *p)
{
	if (p->file != NULL)
		fclose(p->file);
	inifile_free(p->ini);
	map_fini(&p->names);
	map_fini(&p->binds);
	free(p->options);
	config_errors_fini(&p->errors);
	for (size_t i = 0; i < p->section_count; i++)
		section_fini(&p->sections[i]);
	free(p->sections);
	config_free(p->config);
	free(p);
}

struct config_reader *
config_reader_new(const char *path)
{
	struct config_reader *p = mem_try_new(sizeof(*p));
	struct config *c = mem_try_new(sizeof(*c));

	if (p == NULL || c == NULL) {
		free(p);
		free(c);
		return NULL;
	}
	p->config = c;
	idmap_init(&c->by_name);
	idmap_init(&p->names);
	idmap_init(&p->binds);
	option_set_defaults(OPTION_BROKER, &c->broker);
	p->options = mem_try_new(option_count * sizeof(*p->options));
	p->path = c->path = mem_try_strdup(path);
	if (p->options == NULL || p->path == NULL) {
		config_reader_free(p);
		return NULL;
	}
	p->stage = STAGE_OPEN;
	return p;
}

/* --- its stages ----------------------------------------------------------- */

static bool
open_stage(struct config_reader *p, struct slice *slice)
{
	static const struct inifile_ops ops = {on_section, on_setting, on_error};

	(void)slice;
	p->file = open_file(p);
	p->unreadable = p->file == NULL;
	if (p->file != NULL)
		p->ini = inifile_new(p->file, &ops, p, &p->config->source);
	p->no_memory |= p->file != NULL && p->ini == NULL;
	return false;
}

static bool
read_stage(struct config_reader *p, struct slice *slice)
{
	switch (inifile_read(p->ini, slice)) {
	case INIFILE_MORE:
		return true;
	case INIFILE_END:
		break;
	case INIFILE_FAILED:
		config_errors_add(&p->errors, 0, "%s", strerror(errno));
		p->unreadable = true;
		break;
	case INIFILE_NO_MEMORY:
		p->no_memory = true;
		break;
	}
	return false;
}

/* Calls `each` for the settings of all sections, and before them, with NULL, for the section. */
static bool
walk_settings(struct config_reader *p, struct slice *slice, unsigned cost,
	void (*each)(struct config_reader *, struct section *, struct setting *))
{
	for (; p->at < p->section_count && !p->no_memory; p->at++, p->setting = 0) {
		struct section *s = &p->sections[p->at];

		for (; p->setting <= s->count; p->setting++) {
			if (!slice_take(slice, p->setting > 0 ? cost : COST_SECTION))
				return true;
			each(p, s, p->setting > 0 ? &s->settings[p->setting - 1] : NULL);
		}
	}
	return false;
}

static bool
apply_stage(struct config_reader *p, struct slice *slice)
{
	return walk_settings(p, slice, COST_SETTING, apply_setting);
}

static bool
proxies_stage(struct config_reader *p, struct slice *slice)
{
	const struct config *c = p->config;
	int lines = inifile_lines(p->ini);

	for (; p->at < c->proxy_count && !p->no_memory; p->at++) {
		if (!slice_take(slice, COST_PROXY))
			return true;
		check_proxy(p, &c->proxy[p->at]);
	}
	if (c->proxy_count == 0 && !p->lost_side)
		config_errors_add(&p->errors, lines > 0 ? lines : 1,
			"no proxy: a [frontend] and a [backend] are needed");
	return false;
}

static bool
binds_stage(struct config_reader *p, struct slice *slice)
{
	return walk_settings(p, slice, COST_SETTING, check_bind);
}

static bool
map_stage(struct config_reader *p, struct slice *slice)
{
	struct config *c = p->config;

	for (; p->at < c->proxy_count && !p->no_memory; p->at++) {
		struct config_proxy *proxy = &c->proxy[p->at];

		if (!slice_take(slice, COST_PROXY))
			return true;
		p->no_memory = !idmap_put(
			&c->by_name, (const uint8_t *)proxy->name, strlen(proxy->name), proxy);
	}
	return false;
}

static void
forget_setting(struct config_reader *p, struct section *s, struct setting *setting)
{
	(void)p, (void)s;
	if (setting == NULL)
		return;
	free(setting->value);
	setting->value = NULL;
}

static bool
settings_free_stage(struct config_reader *p, struct slice *slice)
{
	return walk_settings(p, slice, COST_FREE, forget_setting);
}

static bool
binds_free_stage(struct config_reader *p, struct slice *slice)
{
	for (; p->at < p->binds.cap; p->at++) {
		struct idmap_slot *slot = &p->binds.slots[p->at];

		if (slot->id == NULL)
			continue;
		if (!slice_take(slice, COST_FREE))
			return true;
		free(slot->value);
		slot->id = NULL;
	}
	return false;
}

static enum stage
stage_after(const struct config_reader *p)
{
	if (p->no_memory)
		return STAGE_OVER;
	return p->unreadable && p->stage < STAGE_FREE_SETTINGS ? STAGE_FREE_SETTINGS : p->stage + 1;
}

bool
config_reader_step(struct config_reader *p, struct slice *slice)
{
	/* each goes on where it was; true: the slice is over, and the stage is not */
	static bool (*const stages[STAGE_OVER])(struct config_reader *, struct slice *) = {
		[STAGE_OPEN] = open_stage,
		[STAGE_READ] = read_stage,
		[STAGE_APPLY] = apply_stage,
		[STAGE_PROXIES] = proxies_stage,
		[STAGE_BINDS] = binds_stage,
		[STAGE_MAP] = map_stage,
		[STAGE_FREE_SETTINGS] = settings_free_stage,
		[STAGE_FREE_BINDS] = binds_free_stage,
	};

	while (p->stage != STAGE_OVER) {
		if (stages[p->stage](p, slice))
			return true;
		p->stage = stage_after(p);
		p->at = p->setting = 0;
	}
	return false;
}

struct config *
config_reader_end(struct config_reader *p, struct config_errors *errors)
{
	struct config *config = NULL;

	*errors = (struct config_errors){0};
	if (p->no_memory || p->errors.no_memory) {
		errors->no_memory = true;
	} else if (p->errors.total > 0) {
		*errors = p->errors;
		p->errors = (struct config_errors){0};
	} else if (p->stage == STAGE_OVER) {
		config = p->config;
		p->config = NULL;
	}
	config_reader_free(p);
	return config;
}

struct config *
config_load(const char *path, struct config_errors *errors)
{
	struct config_reader *p = config_reader_new(path);

	if (p == NULL) {
		*errors = (struct config_errors){.no_memory = true};
		return NULL;
	}
	(void)config_reader_step(p, NULL);
	return config_reader_end(p, errors);
}

bool
config_free_step(struct config *config, struct slice *slice)
{
	for (; config->proxy_count > 0; config->proxy_count--) {
		struct config_proxy *p = &config->proxy[config->proxy_count - 1];

		if (!slice_take(slice, COST_FREE))
			return true;
		for (int j = 0; j < PROXY_SIDES; j++) {
			free(p->side[j].bind);
			free(p->side[j].connect);
		}
	}
	return false;
}

size_t
config_warn(const struct config *config, FILE *out)
{
	size_t count = 0;

	for (size_t i = 0; i < config->proxy_count; i++) {
		const struct config_side *backend = &config->proxy[i].side[PROXY_BACKEND];
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
	(void)config_free_step(config, NULL);
	idmap_fini(&config->by_name);
	text_fini(&config->source);
	free(config->proxy);
	free(config->path);
	free(config);
}

/* --- printing ------------------------------------------------------------- */

static void
dump_endpoints(struct text *out, const char *key, const struct endpoint *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		text_add(out, "%s = %s\n", key, list[i].text);
}

static void
dump_options(struct text *out, enum option_section section, const void *base)
{
	char text[512];

	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		if (row->section != section || row->type == OPTION_ENDPOINT)
			continue;
		if (row->type == OPTION_LATER) {
			text_add(out, "; %s\n;%s = %s\n", row->help, row->name, row->text);
			continue;
		}
		option_text(row, base, text, sizeof(text));
		/* ; and # would begin a comment behind a space */
		text_add(out, "; %s\n%s =%s%s\n", row->help, row->name,
			text[0] == ';' || text[0] == '#' ? "" : " ", text);
	}
}

void
config_dump_broker(const struct config *config, struct text *out)
{
	text_add(out, "[broker]\n");
	dump_options(out, OPTION_BROKER, &config->broker);
}

void
config_dump_proxy(const struct config_proxy *p, struct text *out)
{
	text_add(out, "\n[proxy %s]\n", p->name);
	dump_options(out, OPTION_PROXY, NULL);
	for (int j = 0; j < PROXY_SIDES; j++) {
		const struct config_side *s = &p->side[j];

		text_add(out, "\n[%s %s]\n", side_name(j), p->name);
		dump_endpoints(out, "bind", s->bind, s->bind_count);
		dump_endpoints(out, "connect", s->connect, s->connect_count);
		dump_options(out, OPTION_SIDE, &s->opts);
		if (j == PROXY_BACKEND)
			dump_options(out, OPTION_BACKEND, &s->opts);
	}
}

void
config_dump(const struct config *config, FILE *out)
{
	struct text text = {0};

	config_dump_broker(config, &text);
	for (size_t i = 0; i < config->proxy_count; i++)
		config_dump_proxy(&config->proxy[i], &text);
	mem_must(text.no_memory ? NULL : text.bytes);
	fputs(text.bytes, out);
	text_fini(&text);
}
