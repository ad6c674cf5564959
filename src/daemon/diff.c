/* SPDX-License-Identifier: MIT */
#include "daemon/diff.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* The stages of comparing, each over all proxies. */
enum stage { STAGE_OPTIONS, STAGE_REMOVED, STAGE_ADDED, STAGE_OVER };

enum {
	/* costs of a slice; options are compared as text */
	COST_OPTIONS = 25,
	COST_PROXY = 5
};

/* NULL: no memory. */
static struct change *
add(struct diff *d, enum change_kind kind, const char *proxy, int side)
{
	struct change *more;

	if ((d->count & (d->count - 1)) == 0) {
		more = mem_try_resize(
			d->changes, (d->count > 0 ? 2 * d->count : 1) * sizeof(*d->changes));
		if (more == NULL) {
			d->no_memory = true;
			return NULL;
		}
		d->changes = more;
	}
	d->changes[d->count] = (struct change){.kind = kind, .proxy = proxy, .side = side};
	return &d->changes[d->count++];
}

/* NULL: no memory. */
static char *
copy(struct diff *d, const char *text)
{
	char *own = mem_try_strdup(text);

	d->no_memory |= own == NULL;
	return own;
}

/* --- options -------------------------------------------------------------- */

static void
compare_options(struct diff *d, enum section_kind section, const char *proxy, int side,
	const void *now, const void *next)
{
	char from[512], to[512];

	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		struct change *c;

		if ((row->sections & section) == 0 || row->type == OPTION_ENDPOINT ||
			row->type == OPTION_LATER)
			continue;
		option_text(row, now, from, sizeof(from));
		option_text(row, next, to, sizeof(to));
		if (strcmp(from, to) == 0)
			continue;
		c = add(d, CHANGE_OPTION, proxy, side);
		if (c == NULL)
			return;
		c->row = row;
		c->from = copy(d, from);
		c->to = copy(d, to);
	}
}

/* --- endpoints ------------------------------------------------------------ */

static void
add_endpoint(struct diff *d, const struct change *like, const struct endpoint *e)
{
	struct change *c = add(d, like->kind, like->proxy, like->side);

	if (c == NULL)
		return;
	c->binds = like->binds;
	c->endpoint = e;
}

/* Count in counts[count] how often `list` has each text. False: no memory. */
static bool
count_texts(struct idmap *map, size_t *counts, const struct endpoint *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const uint8_t *text = (const uint8_t *)list[i].text;
		size_t len = strlen(list[i].text), *n = idmap_get(map, text, len);

		if (n == NULL && !idmap_put(map, text, len, n = &counts[i]))
			return false;
		++*n;
	}
	return true;
}

/*
 * Add a change for each endpoint that `list` has more often than `other`. A list may have an
 * endpoint several times: each bind to any port is another port.
 */
static void
list_surplus(struct diff *d, const struct change *like, const struct endpoint *list, size_t count,
	const struct endpoint *other, size_t other_count)
{
	size_t *counts = mem_try_new((other_count + 1) * sizeof(*counts));
	struct idmap map;

	idmap_init(&map);
	if (counts == NULL || !count_texts(&map, counts, other, other_count))
		d->no_memory = true;
	for (size_t i = 0; i < count && !d->no_memory; i++) {
		size_t *left = idmap_get(&map, (const uint8_t *)list[i].text, strlen(list[i].text));

		if (left != NULL && *left > 0)
			--*left;
		else
			add_endpoint(d, like, &list[i]);
	}
	idmap_fini(&map);
	free(counts);
}

static bool
is_same(const struct endpoint *a, size_t a_count, const struct endpoint *b, size_t b_count)
{
	for (size_t i = 0; i < a_count && a_count == b_count; i++)
		if (strcmp(a[i].text, b[i].text) != 0)
			return false;
	return a_count == b_count;
}

static void
list_endpoints(struct diff *d, enum change_kind kind, const char *proxy, int side,
	const struct config_side *a, const struct config_side *b)
{
	struct change like = {.kind = kind, .proxy = proxy, .side = side, .binds = true};

	if (!is_same(a->bind, a->bind_count, b->bind, b->bind_count))
		list_surplus(d, &like, a->bind, a->bind_count, b->bind, b->bind_count);
	like.binds = false;
	if (!is_same(a->connect, a->connect_count, b->connect, b->connect_count))
		list_surplus(d, &like, a->connect, a->connect_count, b->connect, b->connect_count);
}

/* --- proxies -------------------------------------------------------------- */

/* Add a change for the proxy if `b` lacks it, and for each of its endpoints that `b` lacks. */
static void
compare_proxy(struct diff *d, const struct config_proxy *p, const struct config *b,
	enum change_kind proxy_kind, enum change_kind endpoint_kind)
{
	static const struct config_proxy none;
	const struct config_proxy *other = config_find_proxy(b, p->name);

	if (other == NULL)
		add(d, proxy_kind, p->name, -1);
	for (int side = 0; side < PROXY_SIDES; side++)
		list_endpoints(d, endpoint_kind, p->name, side, &p->side[side],
			other != NULL ? &other->side[side] : &none.side[side]);
}

static void
compare_proxy_options(struct diff *d, const struct config_proxy *p)
{
	const struct config_proxy *other = config_find_proxy(d->next, p->name);

	if (other == NULL)
		return;
	compare_options(d, SECTION_PROXY, p->name, -1, &p->opts, &other->opts);
	for (int side = 0; side < PROXY_SIDES; side++)
		compare_options(d, section_of_side(side), p->name, side, &p->side[side].opts,
			&other->side[side].opts);
}

struct diff *
diff_new(const struct config *now, const struct config *next)
{
	struct diff *d = mem_try_new(sizeof(*d));

	if (d == NULL)
		return NULL;
	d->now = now;
	d->next = next;
	compare_options(d, SECTION_BROKER, NULL, -1, &now->broker, &next->broker);
	return d;
}

static unsigned
cost_of(const struct diff *d, const struct config_proxy *p)
{
	size_t n = d->stage == STAGE_OPTIONS ? COST_OPTIONS : COST_PROXY;

	for (int side = 0; side < PROXY_SIDES && d->stage != STAGE_OPTIONS; side++)
		n += p->side[side].bind_count + p->side[side].connect_count;
	return n < SLICE_UNITS ? (unsigned)n : SLICE_UNITS;
}

bool
diff_step(struct diff *d, struct slice *slice)
{
	for (; d->stage < STAGE_OVER; d->stage++, d->at = 0) {
		const struct config *of = d->stage < STAGE_ADDED ? d->now : d->next;

		for (; d->at < of->proxy_count && !d->no_memory; d->at++) {
			const struct config_proxy *p = &of->proxy[d->at];

			if (!slice_take(slice, cost_of(d, p)))
				return true;
			if (d->stage == STAGE_OPTIONS)
				compare_proxy_options(d, p);
			else if (d->stage == STAGE_REMOVED)
				compare_proxy(d, p, d->next, CHANGE_PROXY_REMOVED,
					CHANGE_ENDPOINT_REMOVED);
			else
				compare_proxy(
					d, p, d->now, CHANGE_PROXY_ADDED, CHANGE_ENDPOINT_ADDED);
		}
	}
	return false;
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

/* --- printing ------------------------------------------------------------- */

static const char *
or_none(const char *value)
{
	return value[0] != '\0' ? value : "(none)";
}

void
diff_print(const struct change *c, struct text *out)
{
	static const char *const notes[] = {"", " (for new connections)", " (needs a restart)"};

	if (c->proxy == NULL)
		text_add(out, "[broker]");
	else if (c->side < 0)
		text_add(out, "[proxy %s]", c->proxy);
	else
		text_add(out, "[%s %s]", side_name(c->side), c->proxy);
	switch (c->kind) {
	case CHANGE_PROXY_ADDED:
		text_add(out, " added\n");
		break;
	case CHANGE_PROXY_REMOVED:
		text_add(out, " removed, draining\n");
		break;
	case CHANGE_ENDPOINT_ADDED:
		text_add(out, " %s %s: added\n", c->binds ? "bind" : "connect", c->endpoint->text);
		break;
	case CHANGE_ENDPOINT_REMOVED:
		text_add(out, " %s %s: removed, draining\n", c->binds ? "bind" : "connect",
			c->endpoint->text);
		break;
	case CHANGE_OPTION:
		text_add(out, " %s: %s -> %s%s\n", c->row->name, or_none(c->from), or_none(c->to),
			notes[c->row->reload]);
		break;
	}
}

/* The struct that has the option of this change. */
static const void *
opts_of(const struct config *config, const struct change *c)
{
	const struct config_proxy *p;

	if (c->proxy == NULL)
		return &config->broker;
	p = config_find_proxy(config, c->proxy);
	return c->side < 0 ? (const void *)&p->opts : &p->side[c->side].opts;
}

void
diff_keep_old(const struct change *c, const struct config *now, struct config *next)
{
	if (c->row != NULL && c->row->reload == RELOAD_RESTART)
		option_copy(c->row, (void *)(uintptr_t)opts_of(next, c), opts_of(now, c));
}
