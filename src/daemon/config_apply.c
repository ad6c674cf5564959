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
	if (!reader_room(p, list, *count, sizeof(e)))
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

void
config_apply(struct config_reader *p, struct section *s, struct setting *setting)
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
