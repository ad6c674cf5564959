#include "daemon/reload.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/idmap.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/diff.h"

/* What became of one change before anything was changed. */
struct step {
	struct running_proxy *proxy;    /* that it concerns; not of options of [broker] */
	struct running_endpoint *ready; /* an endpoint to be added: opened, not started */
	struct running_endpoint *giver; /* ... or this one, to be removed, has its socket */
};

struct reload {
	struct running *running;
	const struct config *now;
	struct config *next;
	struct diff *diff;
	struct step *steps; /* one for each change */
	struct list fresh;  /* proxies to be added */
	FILE *report;
	unsigned errors;
	struct idmap givers; /* text: a listening endpoint that is to be removed */
};

/* --- reading the file ----------------------------------------------------------- */

/* One line of config_load's, which begins with the path, and has a number behind it or not. */
static void
log_config_error(struct reload *rl, const char *text, size_t len)
{
	size_t skip = strlen(rl->now->path);
	char path[256], error[600];
	unsigned line = 0;

	if (len > skip && text[skip] == ':')
		skip++;
	while (skip < len && isdigit((unsigned char)text[skip]))
		line = line * 10 + (unsigned)(text[skip++] - '0');
	while (skip < len && (text[skip] == ':' || text[skip] == ' '))
		skip++;
	log_event(LOG_LEVEL_ERROR, "config_error", "file=%s line=%u error=%s",
		log_quote(path, sizeof(path), rl->now->path, strlen(rl->now->path)), line,
		log_quote(error, sizeof(error), text + skip, len - skip));
}

static void
report_config_errors(struct reload *rl, const char *text)
{
	while (*text != '\0') {
		size_t len = strcspn(text, "\n");

		rl->errors++;
		log_config_error(rl, text, len);
		fprintf(rl->report, "%.*s\n", (int)len, text);
		text += len + (text[len] == '\n');
	}
}

static bool
load(struct reload *rl)
{
	char *text = NULL;
	size_t size = 0;
	FILE *err = mem_must(open_memstream(&text, &size));

	rl->next = config_load(rl->now->path, err);
	fclose(err);
	report_config_errors(rl, text);
	free(text);
	return rl->next != NULL;
}

/* --- preparing -------------------------------------------------------------------- */

/* Marks what runs for an endpoint of the old configuration. There is one: it was opened from it. */
static void
condemn(struct reload *rl, const struct running_proxy *p, const struct change *c)
{
	struct running_endpoint *found = NULL;

	list_each(node, tmp, &p->endpoints)
	{
		struct running_endpoint *e = list_entry(node, struct running_endpoint, node);
		if (!e->condemned && e->side == c->side && e->binds == c->binds &&
			strcmp(e->spec.text, c->endpoint->text) == 0) {
			found = e;
			break;
		}
	}
	assert(found != NULL);
	found->condemned = true;
	if (found->listener != NULL && !found->spec.any_port)
		mem_must(idmap_put(&rl->givers, (const uint8_t *)found->spec.text,
				 strlen(found->spec.text), found)
				? found
				: NULL);
}

/* The endpoint that keeps others from listening on `spec`, or NULL. */
static struct running_endpoint *
listening_on(const struct reload *rl, const struct endpoint *spec)
{
	list_each(outer, tmp, &rl->running->proxies)
	{
		struct running_proxy *p = list_entry(outer, struct running_proxy, node);
		list_each(node, tmp2, &p->endpoints)
		{
			struct running_endpoint *e = list_entry(node, struct running_endpoint, node);
			if (e->listener != NULL && endpoint_clash(&e->spec, spec))
				return e;
		}
	}
	return NULL;
}

/* An endpoint that moves from one side to another keeps its socket: nobody is refused. */
static struct running_endpoint *
giver_of(const struct reload *rl, const struct endpoint *spec)
{
	return spec->any_port ? NULL
			      : idmap_get(&rl->givers, (const uint8_t *)spec->text,
					strlen(spec->text));
}

static void
bind_failed(struct reload *rl, const struct change *c, const char *error)
{
	const struct running_endpoint *ours = listening_on(rl, c->endpoint);

	rl->errors++;
	log_event(LOG_LEVEL_ERROR, "bind_failed", "proxy=%s side=%s endpoint=%s error=\"%s\"",
		c->proxy, c->side == CONFIG_FRONTEND ? "frontend" : "backend", c->endpoint->text,
		error);
	fprintf(rl->report, "bind %s: %s%s%s\n", c->endpoint->text, error,
		ours != NULL ? "; it clashes with what is to be removed in the same reload: " : "",
		ours != NULL ? ours->spec.text : "");
}

static void
prepare_endpoint(struct reload *rl, const struct change *c, struct step *s)
{
	char error[256];

	s->giver = c->binds ? giver_of(rl, c->endpoint) : NULL;
	if (s->giver != NULL)
		return;
	s->ready = running_endpoint_open(
		rl->running, s->proxy, c->side, c->binds, c->endpoint, error, sizeof(error));
	if (s->ready == NULL)
		bind_failed(rl, c, error);
}

static struct running_proxy *
prepare_proxy(struct reload *rl, const struct change *c)
{
	struct running_proxy *p;

	if (running_is_leaving(rl->running, c->proxy)) {
		rl->errors++;
		fprintf(rl->report,
			"proxy %s still drains since it was removed; try again when it is gone\n",
			c->proxy);
	}
	p = running_proxy_new(rl->running, config_find(rl->next, c->proxy));
	list_push(&rl->fresh, &p->node);
	return p;
}

/* The changes of one proxy stand together, those of a new one after the change that adds it. */
static struct running_proxy *
proxy_of(struct reload *rl, size_t i)
{
	const struct change *c = &rl->diff->changes[i];

	if (c->kind == CHANGE_PROXY_ADDED)
		return prepare_proxy(rl, c);
	if (c->proxy == NULL)
		return NULL;
	if (i > 0 && c[-1].proxy != NULL && strcmp(c[-1].proxy, c->proxy) == 0)
		return rl->steps[i - 1].proxy;
	return running_find(rl->running, c->proxy);
}

/* Everything that can fail. Nothing that runs is changed by it. */
static bool
prepare(struct reload *rl)
{
	rl->steps = mem_new_array(rl->diff->count + 1, sizeof(*rl->steps));
	for (size_t i = 0; i < rl->diff->count; i++) {
		const struct change *c = &rl->diff->changes[i];
		struct step *s = &rl->steps[i];

		s->proxy = proxy_of(rl, i);
		if (c->kind == CHANGE_ENDPOINT_REMOVED)
			condemn(rl, s->proxy, c);
		else if (c->kind == CHANGE_ENDPOINT_ADDED)
			prepare_endpoint(rl, c, s);
	}
	return rl->errors == 0;
}

static void
take_back(struct reload *rl)
{
	for (size_t i = 0; i < rl->diff->count; i++)
		if (rl->steps[i].ready != NULL)
			running_endpoint_discard(rl->steps[i].ready);
	while (!list_empty(&rl->fresh))
		running_proxy_discard(list_entry(rl->fresh.next, struct running_proxy, node));
	list_each(outer, tmp, &rl->running->proxies)
	{
		struct running_proxy *p = list_entry(outer, struct running_proxy, node);
		list_each(node, tmp2, &p->endpoints)
			list_entry(node, struct running_endpoint, node)->condemned = false;
	}
}

/* --- applying --------------------------------------------------------------------- */

static void
change_options(struct reload *rl, struct running_proxy *p)
{
	const struct config_proxy *c = config_find(rl->next, p->proxy->name);

	proxy_set_opts(p->proxy, &c->side[CONFIG_FRONTEND].opts, &c->side[CONFIG_BACKEND].opts);
	list_each(node, tmp, &p->endpoints)
	{
		struct running_endpoint *e = list_entry(node, struct running_endpoint, node);
		for (struct listener *l = e->listener; l != NULL; l = l->next)
			listener_retune(l);
	}
}

static void
change_all_options(struct reload *rl)
{
	for (size_t i = 0; i < rl->diff->count; i++) {
		const struct step *s = &rl->steps[i];

		if (rl->diff->changes[i].kind != CHANGE_OPTION || s->proxy == NULL)
			continue;
		/* once for each proxy: its options stand together */
		if (i == 0 || rl->steps[i - 1].proxy != s->proxy)
			change_options(rl, s->proxy);
	}
}

static void
add_endpoints(struct reload *rl)
{
	for (size_t i = 0; i < rl->diff->count; i++) {
		struct step *s = &rl->steps[i];

		if (rl->diff->changes[i].kind != CHANGE_ENDPOINT_ADDED)
			continue;
		if (s->giver != NULL) {
			s->ready = running_endpoint_take(
				rl->running, s->proxy, rl->diff->changes[i].side, s->giver);
			for (struct listener *l = s->ready->listener; l != NULL; l = l->next)
				listener_retune(l);
		}
		if (s->proxy->started) /* the others start with their proxy */
			running_endpoint_start(rl->running, s->ready);
	}
	list_each(node, tmp, &rl->fresh)
	{
		struct running_proxy *p = list_entry(node, struct running_proxy, node);
		list_remove(&p->node);
		running_proxy_start(rl->running, p);
	}
}

static void
remove_endpoints(struct reload *rl)
{
	int64_t drain_timeout = rl->next->broker.drain_timeout;

	for (size_t i = 0; i < rl->diff->count; i++)
		if (rl->diff->changes[i].kind == CHANGE_PROXY_REMOVED)
			running_proxy_retire(rl->running, rl->steps[i].proxy, drain_timeout);
	list_each(outer, tmp, &rl->running->proxies)
	{
		struct running_proxy *p = list_entry(outer, struct running_proxy, node);
		list_each(node, tmp2, &p->endpoints)
		{
			struct running_endpoint *e = list_entry(node, struct running_endpoint, node);
			if (e->condemned)
				running_endpoint_retire(rl->running, e, drain_timeout);
		}
	}
}

/* --- telling ------------------------------------------------------------------------- */

static void
tell_change(struct reload *rl, const struct change *c)
{
	char *text = NULL, quoted[1200];
	size_t size = 0;
	FILE *out = mem_must(open_memstream(&text, &size));

	diff_print(c, out);
	fclose(out);
	fputs(text, rl->report);
	log_event(LOG_LEVEL_NOTICE, "reload_change", "change=%s",
		log_quote(quoted, sizeof(quoted), text, size - 1)); /* without its end of line */
	free(text);
}

static void
tell_success(struct reload *rl)
{
	for (size_t i = 0; i < rl->diff->count; i++)
		tell_change(rl, &rl->diff->changes[i]);
	if (rl->diff->count == 0)
		fputs("nothing changed\n", rl->report);
	log_event(LOG_LEVEL_NOTICE, "reloaded", "changes=%zu need_restart=%zu", rl->diff->count,
		diff_restarts(rl->diff));
}

static bool
reload(struct reload *rl)
{
	if (!load(rl))
		return false;
	rl->diff = diff_new(rl->now, rl->next);
	if (!prepare(rl)) {
		take_back(rl);
		return false;
	}
	diff_keep_old(rl->diff, rl->now, rl->next);
	change_all_options(rl);
	add_endpoints(rl);
	remove_endpoints(rl);
	tell_success(rl);
	return true;
}

struct config *
reload_run(struct running *running, const struct config *now, char **report)
{
	struct reload rl = {.running = running, .now = now};
	size_t size = 0;

	list_init(&rl.fresh);
	idmap_init(&rl.givers);
	rl.report = mem_must(open_memstream(report, &size));
	if (!reload(&rl)) {
		log_event(LOG_LEVEL_ERROR, "reload_failed", "errors=%u", rl.errors);
		config_free(rl.next);
		rl.next = NULL;
	}
	mem_must(fclose(rl.report) == 0 ? *report : NULL);
	diff_free(rl.diff);
	idmap_fini(&rl.givers);
	free(rl.steps);
	return rl.next;
}
