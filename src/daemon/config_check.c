/* SPDX-License-Identifier: MIT */
#include "daemon/config_reader.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static struct setting *
setting_in(struct config_reader *p, const struct place *at, const char *key)
{
	struct section *s = at->section != 0 ? &p->sections[at->section - 1] : NULL;

	for (size_t i = 0; s != NULL && i < s->count; i++)
		if (strcmp(s->settings[i].row->name, key) == 0)
			return &s->settings[i];
	return NULL;
}

/* The setting that gives this side its value of `key`; NULL: it has the default. */
static struct setting *
setting_of(struct config_reader *p, const char *proxy, int side, const char *key)
{
	struct named *n = reader_named(p, proxy);
	struct setting *own = n != NULL ? setting_in(p, &n->side[side], key) : NULL;

	return own != NULL ? own : setting_in(p, &p->defaults, key);
}

/* The one of two contradicting settings to report: a side's own, or else the later one. */
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
	const struct proxy_opts *o = &proxy->side[i].opts;
	char shortest[32], longest[32];

	if (blamed == NULL || /* the defaults do not contradict each other */
		o->side.reconnect_min <= o->side.reconnect_max || (min != NULL && min->wrong) ||
		(max != NULL && max->wrong))
		return;
	blamed->wrong = true; /* once, however many sides inherit it */
	config_errors_add(&p->errors, blamed->line,
		"reconnect_min (%s) is longer than reconnect_max (%s)",
		option_text(option_find(SECTION_FRONTEND, "reconnect_min"), o, shortest,
			sizeof(shortest)),
		option_text(option_find(SECTION_FRONTEND, "reconnect_max"), o, longest,
			sizeof(longest)));
}

/* The line of its [proxy] section. */
static int
line_of(struct config_reader *p, const char *proxy)
{
	struct named *n = reader_named(p, proxy);

	return n != NULL ? n->proxy.line : 0;
}

void
config_check_proxy(struct config_reader *p, const struct config_proxy *proxy)
{
	for (int i = 0; i < PROXY_SIDES; i++) {
		const struct config_side *side = &proxy->side[i],
					 *other = &proxy->side[side_other(i)];

		if (!side->present) {
			if (other->present && !p->lost_side)
				config_errors_add(&p->errors, other->line,
					"proxy \"%s\" has a %s but no [%s]", proxy->name,
					side_name(side_other(i)), side_name(i));
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

/* A bind in the map of those that others may clash with. */
struct clash_key {
	struct endpoint_key key;
	const struct setting *setting;
};

/* The first setting before this one that it clashes with, or NULL. */
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
		if (reader_put(p, &p->binds, k->key.bytes, k->key.len, k) == NULL)
			return;
	}
}

void
config_check_bind(struct config_reader *p, struct section *s, struct setting *set)
{
	const struct setting *before;
	struct endpoint_keys keys;
	struct endpoint e, other;

	(void)s;
	if (set == NULL)
		return;
	if ((strcmp(set->row->name, "bind") != 0 && strcmp(set->row->name, "http") != 0) ||
		endpoint_parse(&e, set->value, true) != NULL)
		return;
	endpoint_clash_keys(&e, &keys);
	before = clash_with(p, &keys);
	if (before != NULL && endpoint_parse(&other, before->value, true) == NULL)
		config_errors_add(&p->errors, set->line, "%s: %s clashes with %s at line %d",
			set->row->name, OPTION_SHOWN(e.text), OPTION_SHOWN(other.text),
			before->line);
	remember_bind(p, &keys, set);
}

void
config_warnings(const struct config *config, struct config_errors *warnings)
{
	*warnings = (struct config_errors){.warnings = true};
	for (size_t i = 0; i < config->proxy_count; i++) {
		const struct config_side *backend = &config->proxy[i].side[PROXY_BACKEND];
		const struct queue_opts *o = &backend->opts.queue;
		const struct {
			bool set;
			const char *name;
		} idle[] = {{o->redeliver, "redeliver"}, {o->answer_timeout > 0, "answer_timeout"},
			{o->max_outstanding > 0, "max_outstanding"}};

		for (size_t j = 0; !o->replies && j < sizeof(idle) / sizeof(idle[0]); j++) {
			if (idle[j].set)
				config_errors_add(warnings, backend->line,
					"%s has no effect with replies = no", idle[j].name);
		}
	}
}
