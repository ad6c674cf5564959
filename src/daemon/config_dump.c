/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/config.h"
#include "daemon/options.h"

static void
dump_endpoints(struct text *out, const char *key, const struct endpoint *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		text_add(out, "%s = %s\n", key, list[i].text);
}

static void
dump_options(struct text *out, enum section_kind section, const void *base)
{
	char text[512];

	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		if ((row->sections & section) == 0 || row->type == OPTION_ENDPOINT)
			continue;
		if (row->type == OPTION_LATER) {
			text_add(out, "; %s\n;%s = %s\n", row->help, row->name, row->initial);
			continue;
		}
		option_text(row, base, text, sizeof(text));
		/* ; and # would begin a comment after a space */
		text_add(out, "; %s\n%s =%s%s\n", row->help, row->name,
			text[0] == ';' || text[0] == '#' ? "" : " ", text);
	}
}

void
config_dump_broker(const struct config *config, struct text *out)
{
	text_add(out, "[broker]\n");
	dump_options(out, SECTION_BROKER, &config->broker);
}

void
config_dump_proxy(const struct config_proxy *p, struct text *out)
{
	text_add(out, "\n[proxy %s]\n", p->name);
	dump_options(out, SECTION_PROXY, &p->opts);
	for (int j = 0; j < PROXY_SIDES; j++) {
		const struct config_side *s = &p->side[j];

		text_add(out, "\n[%s %s]\n", side_name(j), p->name);
		dump_endpoints(out, "bind", s->bind, s->bind_count);
		dump_endpoints(out, "connect", s->connect, s->connect_count);
		dump_options(out, section_of_side(j), &s->opts);
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
