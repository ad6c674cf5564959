#include "daemon/diff.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char *const side_names[] = {"frontend", "backend"};

static struct change *
add(struct diff *d, enum change_kind kind, const char *proxy, int side)
{
	d->changes = mem_resize(d->changes, (d->count + 1) * sizeof(*d->changes));
	d->changes[d->count] = (struct change){.kind = kind, .proxy = proxy, .side = side};
	return &d->changes[d->count++];
}

/* --- options ------------------------------------------------------------------ */

static void
compare_options(struct diff *d, enum option_section section, const char *proxy, int side,
	const void *now, const void *next)
{
	char from[512], to[512];

	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		struct change *c;

		if (row->section != section || row->type == OPTION_ENDPOINT ||
			row->type == OPTION_LATER)
			continue;
		option_text(row, now, from, sizeof(from));
		option_text(row, next, to, sizeof(to));
		if (strcmp(from, to) == 0)
			continue;
		c = add(d, CHANGE_OPTION, proxy, side);
		c->row = row;
		c->from = mem_strdup(from);
		c->to = mem_strdup(to);
	}
}

/* --- endpoints ------------------------------------------------------------------ */

static size_t
times(const struct endpoint *list, size_t count, const char *text)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		n += strcmp(list[i].text, text) == 0;
	return n;
}

/*
 * What `list` has more of than `other`. An endpoint may stand there several times: any port is
 * one more port each time.
 */
static void
list_surplus(struct diff *d, enum change_kind kind, const char *proxy, int side, bool binds,
	const struct endpoint *list, size_t count, const struct endpoint *other,
	size_t other_count)
{
	for (size_t i = 0; i < count; i++) {
		struct change *c;

		if (times(list, i + 1, list[i].text) <= times(other, other_count, list[i].text))
			continue;
		c = add(d, kind, proxy, side);
		c->binds = binds;
		c->endpoint = &list[i];
	}
}

static void
list_endpoints(struct diff *d, enum change_kind kind, const char *proxy, int side,
	const struct config_side *a, const struct config_side *b)
{
	list_surplus(d, kind, proxy, side, true, a->bind, a->bind_count, b->bind, b->bind_count);
	list_surplus(d, kind, proxy, side, false, a->connect, a->connect_count, b->connect,
		b->connect_count);
}

/* --- proxies -------------------------------------------------------------------- */

/* The proxies of `a` that `b` lacks, or the endpoints of one that both have. */
static void
compare_proxies(struct diff *d, const struct config *a, const struct config *b,
	enum change_kind proxy_kind, enum change_kind endpoint_kind)
{
	static const struct config_proxy none;

	for (size_t i = 0; i < a->proxy_count; i++) {
		const struct config_proxy *p = &a->proxy[i], *other = config_find(b, p->name);

		if (other == NULL)
			add(d, proxy_kind, p->name, -1);
		for (int side = 0; side < CONFIG_SIDES; side++)
			list_endpoints(d, endpoint_kind, p->name, side, &p->side[side],
				other != NULL ? &other->side[side] : &none.side[side]);
	}
}

struct diff *
diff_new(const struct config *now, const struct config *next)
{
	struct diff *d = mem_new(sizeof(*d));

	compare_options(d, OPTION_BROKER, NULL, -1, &now->broker, &next->broker);
	for (size_t i = 0; i < now->proxy_count; i++) {
		const struct config_proxy *p = &now->proxy[i], *other = config_find(next, p->name);
		for (int side = 0; side < CONFIG_SIDES && other != NULL; side++)
			compare_options(d, OPTION_SIDE, p->name, side, &p->side[side].opts,
				&other->side[side].opts);
		if (other != NULL)
			compare_options(d, OPTION_BACKEND, p->name, CONFIG_BACKEND,
				&p->side[CONFIG_BACKEND].opts, &other->side[CONFIG_BACKEND].opts);
	}
	compare_proxies(d, now, next, CHANGE_PROXY_REMOVED, CHANGE_ENDPOINT_REMOVED);
	compare_proxies(d, next, now, CHANGE_PROXY_ADDED, CHANGE_ENDPOINT_ADDED);
	return d;
}

void
diff_free(struct diff *d)
{
	if (d == NULL)
		return;
	for (size_t i = 0; i < d->count; i++) {
		free(d->changes[i].from);
		free(d->changes[i].to);
	}
	free(d->changes);
	free(d);
}

size_t
diff_restarts(const struct diff *d)
{
	size_t n = 0;

	for (size_t i = 0; i < d->count; i++)
		n += d->changes[i].row != NULL && d->changes[i].row->reload == RELOAD_RESTART;
	return n;
}

/* --- printing --------------------------------------------------------------------- */

static const char *
or_none(const char *value)
{
	return value[0] != '\0' ? value : "(none)";
}

void
diff_print(const struct change *c, FILE *out)
{
	static const char *const notes[] = {"", " (for new connections)", " (needs a restart)"};

	if (c->proxy == NULL)
		fprintf(out, "[broker]");
	else if (c->side < 0)
		fprintf(out, "[proxy %s]", c->proxy);
	else
		fprintf(out, "[%s %s]", side_names[c->side], c->proxy);
	switch (c->kind) {
	case CHANGE_PROXY_ADDED:
		fprintf(out, " added\n");
		break;
	case CHANGE_PROXY_REMOVED:
		fprintf(out, " removed, drains\n");
		break;
	case CHANGE_ENDPOINT_ADDED:
		fprintf(out, " %s %s: added\n", c->binds ? "bind" : "connect", c->endpoint->text);
		break;
	case CHANGE_ENDPOINT_REMOVED:
		fprintf(out, " %s %s: removed, drains\n", c->binds ? "bind" : "connect",
			c->endpoint->text);
		break;
	case CHANGE_OPTION:
		fprintf(out, " %s: %s -> %s%s\n", c->row->name, or_none(c->from), or_none(c->to),
			notes[c->row->reload]);
		break;
	}
}

void
diff_keep_old(const struct diff *d, const struct config *now, struct config *next)
{
	for (size_t i = 0; i < d->count; i++) {
		const struct change *c = &d->changes[i];
		const struct config_proxy *from, *to;

		if (c->row == NULL || c->row->reload != RELOAD_RESTART)
			continue;
		if (c->proxy == NULL) {
			option_copy(c->row, &next->broker, &now->broker);
			continue;
		}
		from = config_find(now, c->proxy);
		to = config_find(next, c->proxy);
		option_copy(c->row, &next->proxy[to - next->proxy].side[c->side].opts,
			&from->side[c->side].opts);
	}
}

