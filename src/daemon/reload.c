/* SPDX-License-Identifier: MIT */
#include "daemon/reload.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/idmap.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "daemon/diff.h"

/* The stages of a reload, most of them over all changes. */
enum stage {
	STAGE_LOAD,
	STAGE_COMPARE,
	STAGE_PREPARE,
	STAGE_DESCRIBE,
	STAGE_RESERVE, /* the last one that can fail */
	STAGE_OPTIONS,
	STAGE_ADD,
	STAGE_REMOVE,
	STAGE_DRAIN,
	STAGE_LOG,
	STAGE_OVER,
	/* after a failure: */
	STAGE_UNDO,
	STAGE_DISCARD,
	STAGE_FAILED
};

/* What is prepared for one change before anything is applied. */
struct step {
	struct running_proxy *proxy;    /* the proxy it concerns; NULL: an option of [broker] */
	struct running_endpoint *ready; /* an endpoint to add: opened, not started */
	struct running_endpoint *reuse_from; /* ... with the socket of this one, to be removed */
	struct running_endpoint *leaving;    /* an endpoint to remove */
};

struct reload {
	enum stage stage;
	size_t at; /* the next change of it */
	struct running *running;
	const struct config *now;
	struct config_reader *reader;
	struct config *next;
	struct diff *diff;
	struct step *steps; /* one for each change */
	struct list added;  /* proxies to add */
	size_t added_count;
	struct text report;
	struct text line; /* of the current change */
	size_t errors;
	bool no_memory;
	struct idmap reusable; /* by text: listening endpoints to remove, for their sockets */
};

/* --- reading the file ----------------------------------------------------- */

static void
log_config_error(const struct reload *rl, int line, const char *text)
{
	char path[256], error[600];

	log_secret_event(LOG_LEVEL_ERROR, "config_error", "file=%s line=%d error=%s",
		log_quote(path, sizeof(path), rl->now->path, strlen(rl->now->path)), line,
		log_quote(error, sizeof(error), text, strlen(text)));
}

static void
report_config_errors(struct reload *rl, const struct config_errors *errors)
{
	size_t left_out = config_errors_left_out(errors);
	char text[64];

	for (size_t i = 0; i < errors->count; i++)
		log_config_error(rl, errors->list[i].line, errors->list[i].text);
	snprintf(text, sizeof(text), "and %zu more errors", left_out);
	if (left_out > 0)
		log_config_error(rl, 0, text);
	config_errors_write(errors, rl->now->path, &rl->report);
	rl->errors += config_errors_count(errors);
	rl->no_memory |= rl->report.no_memory;
}

static bool
load_stage(struct reload *rl, struct slice *slice)
{
	struct config_errors errors;

	if (config_reader_step(rl->reader, slice))
		return true;
	rl->next = config_reader_end(rl->reader, &errors);
	rl->reader = NULL;
	if (errors.no_memory)
		rl->no_memory = true;
	else
		report_config_errors(rl, &errors);
	config_errors_fini(&errors);
	return false;
}

static bool
compare_stage(struct reload *rl, struct slice *slice)
{
	if (rl->diff == NULL)
		rl->diff = diff_new(rl->now, rl->next);
	if (rl->diff != NULL && diff_step(rl->diff, slice))
		return true;
	if (rl->diff != NULL && !rl->diff->no_memory)
		rl->steps = mem_try_new((rl->diff->count + 1) * sizeof(*rl->steps));
	rl->no_memory |= rl->steps == NULL;
	return false;
}

/* --- preparing ------------------------------------------------------------ */

/* Mark the running endpoint of an endpoint in the old configuration; there is always one. */
static void
mark_for_removal(struct reload *rl, const struct change *c, struct step *s)
{
	const struct running_proxy *p = s->proxy;
	struct running_endpoint *found = NULL;

	list_each(node, tmp, &p->endpoints) {
		struct running_endpoint *e = list_entry(node, struct running_endpoint, node);
		if (!e->marked && e->side == c->side && e->binds == c->binds &&
			strcmp(e->spec.text, c->endpoint->text) == 0) {
			found = e;
			break;
		}
	}
	assert(found != NULL);
	found->marked = true;
	s->leaving = found;
	if (found->listener != NULL && !found->spec.any_port &&
		!idmap_put(&rl->reusable, (const uint8_t *)found->spec.text,
			strlen(found->spec.text), found))
		rl->no_memory = true;
}

/* Our own endpoint that keeps others from listening on `spec`, or NULL. */
static struct running_endpoint *
listening_on(const struct reload *rl, const struct endpoint *spec)
{
	list_each(outer, tmp, &rl->running->proxies) {
		struct running_proxy *p = list_entry(outer, struct running_proxy, node);
		list_each(node, tmp2, &p->endpoints) {
			struct running_endpoint *e =
				list_entry(node, struct running_endpoint, node);
			if (e->listener != NULL && endpoint_clash(&e->spec, spec))
				return e;
		}
	}
	return NULL;
}

/* An endpoint that moves from one side to another keeps its socket, so that nobody is refused. */
static struct running_endpoint *
socket_to_reuse(const struct reload *rl, const struct endpoint *spec)
{
	return spec->any_port
		? NULL
		: idmap_get(&rl->reusable, (const uint8_t *)spec->text, strlen(spec->text));
}

static void
bind_failed(struct reload *rl, const struct change *c, const char *error)
{
	const struct running_endpoint *ours = listening_on(rl, c->endpoint);

	rl->errors++;
	log_event(LOG_LEVEL_ERROR, "bind_failed", "proxy=%s side=%s endpoint=%s error=\"%s\"",
		c->proxy, side_name(c->side), c->endpoint->text, error);
	text_add(&rl->report, "bind %s: %s%s%s%s\n", c->endpoint->text, error,
		ours != NULL ? "; it clashes with an endpoint that this reload removes: " : "",
		ours != NULL ? ours->spec.text : "",
		ours != NULL ? "; restart the broker instead" : "");
}

static void
prepare_endpoint(struct reload *rl, const struct change *c, struct step *s)
{
	char error[256];

	s->reuse_from = c->binds ? socket_to_reuse(rl, c->endpoint) : NULL;
	if (s->reuse_from != NULL)
		s->ready = running_endpoint_await(rl->running, s->proxy, c->side, c->endpoint);
	else
		s->ready = running_endpoint_open(rl->running, s->proxy, c->side, c->binds,
			c->endpoint, error, sizeof(error));
	if (s->ready != NULL)
		return;
	if (s->reuse_from == NULL && c->binds)
		bind_failed(rl, c, error);
	else
		rl->no_memory = true;
}

/* NULL: no memory. */
static struct running_proxy *
prepare_proxy(struct reload *rl, const struct change *c)
{
	struct running_proxy *p;

	if (running_is_draining(rl->running, c->proxy)) {
		rl->errors++;
		text_add(&rl->report,
			"proxy %s is still draining after its removal; try again later\n",
			c->proxy);
	}
	p = running_proxy_new(rl->running, config_find_proxy(rl->next, c->proxy));
	if (p == NULL) {
		rl->no_memory = true;
		return NULL;
	}
	list_push(&rl->added, &p->node);
	rl->added_count++;
	return p;
}

/* The changes of a proxy follow each other, and for a new one the change that adds it is first. */
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

/* Do everything that can fail. It changes nothing that runs. */
static void
prepare(struct reload *rl, const struct change *c, struct step *s)
{
	s->proxy = proxy_of(rl, (size_t)(s - rl->steps));
	if (rl->no_memory)
		return;
	if (c->kind == CHANGE_ENDPOINT_REMOVED)
		mark_for_removal(rl, c, s);
	else if (c->kind == CHANGE_ENDPOINT_ADDED)
		prepare_endpoint(rl, c, s);
}

/* Write the report, and make room for the line that log_change writes. */
static void
describe(struct reload *rl, const struct change *c, struct step *s)
{
	(void)s;
	text_clear(&rl->line);
	diff_print(c, &rl->line);
	if (!rl->line.no_memory)
		text_add(&rl->report, "%s", rl->line.bytes);
	rl->no_memory |= rl->line.no_memory || rl->report.no_memory;
	diff_keep_old(c, rl->now, rl->next);
}

static bool
reserve_stage(struct reload *rl, struct slice *slice)
{
	(void)slice;
	if (rl->diff->count == 0)
		text_add(&rl->report, "nothing changed\n");
	if (rl->report.no_memory || !broker_reserve(rl->running->broker, rl->added_count))
		rl->no_memory = true;
	return false;
}

/* --- undoing -------------------------------------------------------------- */

/* Discard an endpoint that was not started. */
static void
undo(struct reload *rl, const struct change *c, struct step *s)
{
	(void)rl, (void)c;
	if (s->ready != NULL && !s->ready->started)
		running_endpoint_discard(s->ready);
	s->ready = NULL;
	if (s->leaving != NULL)
		s->leaving->marked = false;
}

static bool
discard_stage(struct reload *rl, struct slice *slice)
{
	enum { COST = 20 };

	while (!list_empty(&rl->added)) {
		if (!slice_take(slice, COST))
			return true;
		running_proxy_discard(list_entry(rl->added.next, struct running_proxy, node));
	}
	return false;
}

/* --- applying ------------------------------------------------------------- */

static void
change_options(struct reload *rl, const struct change *change, struct step *s)
{
	const struct config_proxy *c;

	if (change->kind != CHANGE_OPTION || s->proxy == NULL)
		return;
	if (s > rl->steps && s[-1].proxy == s->proxy)
		return; /* once for each proxy: its options follow each other */
	c = config_find_proxy(rl->next, change->proxy);
	proxy_set_opts(
		s->proxy->proxy, &c->side[PROXY_FRONTEND].opts, &c->side[PROXY_BACKEND].opts);
	list_each(node, tmp, &s->proxy->endpoints)
		running_endpoint_retune(list_entry(node, struct running_endpoint, node));
}

/* Start a proxy before its endpoints: a reused socket may have clients at once. */
static void
apply_addition(struct reload *rl, const struct change *c, struct step *s)
{
	if (c->kind == CHANGE_PROXY_ADDED) {
		list_remove(&s->proxy->node);
		running_proxy_start(rl->running, s->proxy);
	}
	if (c->kind != CHANGE_ENDPOINT_ADDED)
		return;
	if (s->reuse_from != NULL) {
		running_endpoint_take(s->ready, s->reuse_from);
		running_endpoint_retune(s->ready);
	}
	running_endpoint_start(rl->running, s->ready);
}

/* The endpoints of a removed proxy are only closed here; the proxy drains their peers. */
static void
apply_removal(struct reload *rl, const struct change *c, struct step *s)
{
	if (s->leaving == NULL)
		return;
	if (config_find_proxy(rl->next, c->proxy) == NULL)
		running_endpoint_close(rl->running, s->leaving);
	else
		running_endpoint_drain(rl->running, s->leaving, rl->next->broker.drain_timeout);
}

/* After all sockets are closed. From now on any turn may free the proxy and its endpoints. */
static void
apply_drain(struct reload *rl, const struct change *c, struct step *s)
{
	if (c->kind == CHANGE_PROXY_REMOVED)
		running_proxy_drain(rl->running, s->proxy, rl->next->broker.drain_timeout);
}

/* --- logging -------------------------------------------------------------- */

static void
log_change(struct reload *rl, const struct change *c, struct step *s)
{
	char quoted[1200];

	(void)s;
	text_clear(&rl->line); /* describe() made room for it */
	diff_print(c, &rl->line);
	log_secret_event(LOG_LEVEL_NOTICE, "reload_change", "change=%s",
		log_quote(quoted, sizeof(quoted), rl->line.bytes,
			rl->line.len - 1)); /* without its end of line */
}

static void
log_failure(const struct reload *rl, const char *reason)
{
	log_event(LOG_LEVEL_ERROR, "reload_failed", "errors=%zu%s%s%s", rl->errors,
		reason != NULL ? " reason=\"" : "", reason != NULL ? reason : "",
		reason != NULL ? "\"" : "");
}

/* --- stages --------------------------------------------------------------- */

/* A stage is one function for a slice (true: there is more), or one that is called per change. */
static const struct {
	bool (*run)(struct reload *rl, struct slice *slice);
	void (*each)(struct reload *rl, const struct change *c, struct step *s);
	unsigned cost; /* of one change, in a slice */
} stages[] = {
	[STAGE_LOAD] = {load_stage, NULL, 0},
	[STAGE_COMPARE] = {compare_stage, NULL, 0},
	[STAGE_PREPARE] = {NULL, prepare, 40},
	[STAGE_DESCRIBE] = {NULL, describe, 3},
	[STAGE_RESERVE] = {reserve_stage, NULL, 0},
	[STAGE_OPTIONS] = {NULL, change_options, 20},
	[STAGE_ADD] = {NULL, apply_addition, 40},
	[STAGE_REMOVE] = {NULL, apply_removal, 40},
	[STAGE_DRAIN] = {NULL, apply_drain, 40},
	[STAGE_LOG] = {NULL, log_change, 10},
	[STAGE_UNDO] = {NULL, undo, 20},
	[STAGE_DISCARD] = {discard_stage, NULL, 0},
};

static bool
run_stage(struct reload *rl, struct slice *slice)
{
	if (stages[rl->stage].run != NULL)
		return stages[rl->stage].run(rl, slice);
	if (rl->steps == NULL) /* it failed before there were changes */
		return false;
	for (; rl->at < rl->diff->count && !(rl->stage == STAGE_PREPARE && rl->no_memory);
		rl->at++) {
		if (!slice_take(slice, stages[rl->stage].cost))
			return true;
		stages[rl->stage].each(rl, &rl->diff->changes[rl->at], &rl->steps[rl->at]);
	}
	return false;
}

static bool
is_over(const struct reload *rl)
{
	return rl->stage == STAGE_OVER || rl->stage == STAGE_FAILED;
}

bool
reload_step(struct reload *rl, struct slice *slice)
{
	while (!is_over(rl)) {
		if (run_stage(rl, slice))
			return true;
		rl->at = 0;
		if (rl->stage <= STAGE_RESERVE && (rl->no_memory || rl->errors > 0))
			rl->stage = STAGE_UNDO;
		else
			rl->stage++;
	}
	if (rl->stage != STAGE_OVER)
		log_failure(rl, rl->no_memory ? "no memory" : NULL);
	return false;
}

struct reload *
reload_new(struct running *running, const struct config *now)
{
	struct reload *rl = mem_try_new(sizeof(*rl));

	if (rl == NULL)
		return NULL;
	*rl = (struct reload){.running = running, .now = now};
	list_init(&rl->added);
	idmap_init(&rl->reusable);
	rl->reader = config_reader_new(now->path);
	if (rl->reader != NULL)
		return rl;
	free(rl);
	return NULL;
}

/* The daemon stops. Changes that were applied stay. */
static void
interrupt(struct reload *rl)
{
	for (size_t i = 0; rl->steps != NULL && i < rl->diff->count; i++) {
		struct step *s = &rl->steps[i];

		if (rl->stage >= STAGE_REMOVE && rl->stage < STAGE_OVER)
			s->leaving = NULL; /* it may have been freed */
		undo(rl, &rl->diff->changes[i], s);
	}
	(void)discard_stage(rl, NULL);
	log_failure(rl, "interrupted by a stop");
}

struct config *
reload_end(struct reload *rl, struct reload_summary *summary)
{
	struct config *next = rl->next;

	if (!is_over(rl))
		interrupt(rl);
	if (rl->reader != NULL)
		config_reader_free(rl->reader);
	if (rl->stage != STAGE_OVER) {
		config_free(next);
		next = NULL;
	}
	*summary = (struct reload_summary){.report = rl->no_memory ? NULL : text_take(&rl->report)};
	if (rl->stage == STAGE_OVER) {
		summary->changes = rl->diff->count;
		summary->restarts = diff_restarts(rl->diff);
	}
	diff_free(rl->diff);
	idmap_fini(&rl->reusable);
	free(rl->steps);
	text_fini(&rl->report);
	text_fini(&rl->line);
	free(rl);
	return next;
}
