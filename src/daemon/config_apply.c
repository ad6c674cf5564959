/* SPDX-License-Identifier: MIT */
#include "daemon/config_reader.h"

#include <string.h>

/* NULL: no memory. */
static struct config_proxy *
proxy_named(struct config_reader *p, const char *name)
{
	struct config *c = p->config;
	struct named *known = reader_named(p, name);
	struct config_proxy *proxy;

	if (known == NULL)
		return NULL;
	if (known->number != 0)
		return &c->proxy[known->number - 1];
	if (!reader_room(p, &c->proxy, c->proxy_count, sizeof(*c->proxy)))
		return NULL;
	proxy = &c->proxy[c->proxy_count++];
	known->number = c->proxy_count;
	*proxy = (struct config_proxy){0};
	snprintf(proxy->name, sizeof(proxy->name), "%s", name);
	option_set_defaults(SECTION_PROXY, &proxy->opts);
	for (int i = 0; i < PROXY_SIDES; i++)
		option_set_defaults(section_of_side(i), &proxy->side[i].opts);
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

	/* count a bad one, too, so that the side is not reported as empty as well */
	if (!reader_room(p, list, *count, sizeof(e)))
		return;
	(*list)[(*count)++] = e;
	if (wrong != NULL)
		config_errors_add(&p->errors, s->line, "%s: %s: %s", s->row->name,
			OPTION_QUOTED(s->value), wrong);
}

void
config_apply_default(struct config_reader *p, struct setting *s)
{
	apply(p, s, &p->default_opts);
}

static void
inherit_defaults(const struct config_reader *p, struct proxy_opts *to)
{
	const struct section *s;

	if (p->defaults.section == 0)
		return;
	s = &p->sections[p->defaults.section - 1];
	for (size_t i = 0; i < s->count; i++)
		if (!s->settings[i].wrong)
			option_copy(s->settings[i].row, to, &p->default_opts);
}

/* Before its settings: the proxy, the side, and what the side inherits. */
static void
begin_section(struct config_reader *p, const struct section *s)
{
	struct config_proxy *proxy;
	struct config_side *side;

	if (!section_is_of_proxy(s->kind))
		return;
	proxy = proxy_named(p, s->name);
	if (proxy == NULL || s->kind == SECTION_PROXY)
		return;
	side = &proxy->side[section_side(s->kind)];
	side->present = true;
	side->line = s->line;
	inherit_defaults(p, &side->opts);
}

static void
apply_to_side(struct config_reader *p, struct config_side *side, struct setting *setting)
{
	if (setting->row->type == OPTION_ENDPOINT)
		add_endpoint(p, side, setting);
	else
		apply(p, setting, &side->opts);
}

static void
apply_to_proxy(struct config_reader *p, const struct section *s, struct setting *setting)
{
	struct config_proxy *proxy = proxy_named(p, s->name);

	if (proxy == NULL)
		return;
	if (s->kind == SECTION_PROXY)
		apply(p, setting, &proxy->opts);
	else
		apply_to_side(p, &proxy->side[section_side(s->kind)], setting);
}

void
config_apply(struct config_reader *p, struct section *s, struct setting *setting)
{
	bool first = (size_t)(s - p->sections) + 1 == p->defaults.section;

	if (setting == NULL)
		begin_section(p, s);
	else if (section_is_of_proxy(s->kind))
		apply_to_proxy(p, s, setting);
	else if (s->kind == SECTION_BROKER)
		apply(p, setting, &p->config->broker);
	else if (s->kind == SECTION_DEFAULTS && !first)
		config_apply_default(p, setting); /* a duplicate: report its errors */
}
