/* SPDX-License-Identifier: MIT */
#include "daemon/config_reader.h"

#include <ctype.h>
#include <string.h>

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

/* The place of the first section of this kind and name. NULL: no memory. */
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
	return s->kind == SECTION_PROXY ? &n->proxy : &n->side[section_side(s->kind)];
}

/* If the word may have been meant for a side, that side is not reported as missing. */
static void
unknown_section(struct config_reader *p, int line, const char *word)
{
	enum section_kind meant =
		config_errors_wants(&p->errors, line) ? section_nearest(word) : SECTION_BAD;

	p->lost_side |= meant != SECTION_BROKER && meant != SECTION_DEFAULTS;
	if (meant != SECTION_BAD)
		config_errors_add(&p->errors, line, "unknown section [%s], did you mean \"%s\"?",
			OPTION_SHOWN(word), section_name(meant));
	else
		config_errors_add(&p->errors, line, "unknown section [%s]", OPTION_SHOWN(word));
}

/* Fill the section from the text between the brackets: a word, and for some a proxy's name. */
static void
parse_title(struct config_reader *p, struct section *s, char *title)
{
	char *word = strtok(title, " \t"), *name = strtok(NULL, " \t");
	char *more = strtok(NULL, " \t");
	enum section_kind kind;

	if (word == NULL)
		word = title;
	kind = section_find(word);
	snprintf(s->title, sizeof(s->title), "[%.20s%s%.60s]", word, name != NULL ? " " : "",
		name != NULL ? name : "");
	if (kind == SECTION_BAD) {
		unknown_section(p, s->line, word);
	} else if (name != NULL && !section_is_of_proxy(kind)) {
		config_errors_add(&p->errors, s->line, "section [%s] takes no name", word);
	} else if (more != NULL || (name != NULL && !is_name(name))) {
		config_errors_add(&p->errors, s->line,
			"invalid proxy name; use 1 to 63 of A-Z a-z 0-9 _ . -");
		p->lost_side = true;
	} else {
		s->kind = kind;
		if (name != NULL)
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
		config_errors_add(&p->errors, line, "duplicate section %s (first at line %d)",
			s.title, first->line);
	else
		*first = (struct place){p->section_count, line};
}

/* --- settings ------------------------------------------------------------- */

static void
on_error(void *user, int line, const char *text)
{
	config_errors_add(&((struct config_reader *)user)->errors, line, "%s", text);
}

static void
unknown_key(struct config_reader *p, const struct section *s, int line, const char *key)
{
	unsigned homes = option_sections(key);
	char list[SECTION_LIST_MAX];
	const char *hint = NULL;

	if (homes == 0 && config_errors_wants(&p->errors, line))
		hint = option_nearest(s->kind, key);
	if (homes != 0)
		config_errors_add(&p->errors, line, "\"%s\" belongs in %s, not in %s", key,
			section_list(homes, list), s->title);
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
			&p->errors, line, "key %s before the first section", OPTION_QUOTED(key));
		return;
	}
	if (s->kind == SECTION_BAD)
		return;
	row = option_find(s->kind, key);
	if (row == NULL) {
		unknown_key(p, s, line, key);
		return;
	}
	last = &p->options[row - option_table];
	if (last->section == p->section_count && !option_is_repeatable(row)) {
		config_errors_add(&p->errors, line, "duplicate key \"%s\" (first at line %d)", key,
			last->line);
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
