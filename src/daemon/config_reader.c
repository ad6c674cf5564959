/* SPDX-License-Identifier: MIT */
#include "daemon/config_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

/* costs of a slice */
enum {
	COST_SECTION = 5, /* with its defaults, and the settings it inherits */
	COST_SETTING = 2,
	COST_PROXY = 2,
	COST_FREE = 2
};

bool
reader_room(struct config_reader *p, void *array, size_t count, size_t size)
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

char *
reader_copy(struct config_reader *p, const char *text)
{
	char *own = mem_try_strdup(text);

	p->no_memory |= own == NULL;
	return own;
}

void *
reader_put(struct config_reader *p, struct idmap *map, const void *id, size_t len, void *value)
{
	if (idmap_put(map, id, len, value))
		return value;
	p->no_memory = true;
	free(value);
	return NULL;
}

struct named *
reader_named(struct config_reader *p, const char *name)
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
	return reader_put(p, &p->names, n->name, len, n);
}

/* --- its life ------------------------------------------------------------- */

static const char *
why_no_file(const struct stat *st)
{
	return S_ISDIR(st->st_mode)    ? strerror(EISDIR)
		: S_ISREG(st->st_mode) ? NULL
				       : "not a regular file";
}

/*
 * Only a regular file is opened: opening a device may have an effect, and a pipe waits for a
 * writer. O_NONBLOCK is for a file that is replaced by a pipe after stat().
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
	option_set_defaults(SECTION_BROKER, &c->broker);
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
	(void)slice;
	p->file = open_file(p);
	p->unreadable = p->file == NULL;
	if (p->file != NULL)
		p->ini = inifile_new(p->file, &config_parse_ops, p, &p->config->source);
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

/* Call `each` for every section, with NULL, and then for each of its settings. */
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

/* [defaults] come first, wherever the section is in the file. */
static bool
defaults_stage(struct config_reader *p, struct slice *slice)
{
	struct section *s = p->defaults.section > 0 ? &p->sections[p->defaults.section - 1] : NULL;

	for (; s != NULL && p->setting < s->count && !p->no_memory; p->setting++) {
		if (!slice_take(slice, COST_SETTING))
			return true;
		config_apply_default(p, &s->settings[p->setting]);
	}
	return false;
}

static bool
apply_stage(struct config_reader *p, struct slice *slice)
{
	return walk_settings(p, slice, COST_SETTING, config_apply);
}

static bool
proxies_stage(struct config_reader *p, struct slice *slice)
{
	const struct config *c = p->config;
	int lines = inifile_lines(p->ini);

	for (; p->at < c->proxy_count && !p->no_memory; p->at++) {
		if (!slice_take(slice, COST_PROXY))
			return true;
		config_check_proxy(p, &c->proxy[p->at]);
	}
	if (c->proxy_count == 0 && !p->lost_side)
		config_errors_add(&p->errors, lines > 0 ? lines : 1,
			"no proxy: a [frontend] and a [backend] are needed");
	return false;
}

static bool
binds_stage(struct config_reader *p, struct slice *slice)
{
	return walk_settings(p, slice, COST_SETTING, config_check_bind);
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
	/* each resumes where it stopped; true: the slice ended before the stage */
	static bool (*const stages[STAGE_OVER])(struct config_reader *, struct slice *) = {
		[STAGE_OPEN] = open_stage,
		[STAGE_READ] = read_stage,
		[STAGE_DEFAULTS] = defaults_stage,
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
