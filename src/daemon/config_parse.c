/* SPDX-License-Identifier: MIT */
#include "daemon/config_reader.h"

#include <ctype.h>
#include <string.h>

#include "base/words.h"

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

/* Where the first section of this kind and name stands. NULL: no memory. */
static struct place *
place_of(struct config_reader *p, const struct section *s)
{
	struct named *n;

	if (s->kind == SECTION_BROKER)
		return &p->broker;
	if (s->kind == SECTION_DEFAULTS)
		return &p->defaults;
	n = reader_named(p, s->name);
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
	if (!reader_room(p, &p->sections, p->section_count, sizeof(s)))
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
	if (!reader_room(p, &s->settings, s->count, sizeof(*s->settings)) ||
		(own = reader_copy(p, value)) == NULL)
		return;
	s->settings[s->count++] = (struct setting){
		.row = row, .value = own, .line = line, .inherited = s->kind == SECTION_DEFAULTS};
}

const struct inifile_ops config_parse_ops = {on_section, on_setting, on_error};
