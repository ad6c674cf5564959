/* SPDX-License-Identifier: MIT */
#include "admin/pages.h"

#include <stdlib.h>
#include <string.h>

#include "admin/metrics.h"
#include "admin/view.h"
#include "base/mem.h"

static struct rendered
render_text(int status, const char *type, char *text, size_t len)
{
	return (struct rendered){status, type, http_body_new(text, len), NULL};
}

static struct rendered
render_json(char *json)
{
	return render_text(200, JSON_TYPE, json, json != NULL ? strlen(json) : 0);
}

static struct rendered
render_metrics(const struct sources *from, const struct snapshot *s)
{
	struct process process = process_read(from->stat_fd, from->fds_fd, from->boot_time);
	size_t len;
	char *text = metrics_text(s, &process, &len);

	return render_text(200, METRICS_TYPE, text, text != NULL ? len : 0);
}

static struct rendered
render_healthz(const struct sources *from, const struct snapshot *s)
{
	(void)from, (void)s; /* a snapshot was taken: that is enough */
	return render_text(200, TEXT_TYPE, strdup("ok\n"), 3);
}

static struct rendered
render_readyz(const struct sources *from, const struct snapshot *s)
{
	bool ready = false;
	char *text = view_readiness(s, &ready);

	(void)from;
	if (ready) {
		free(text);
		text = strdup("ready\n");
	}
	return render_text(ready ? 200 : 503, TEXT_TYPE, text, text != NULL ? strlen(text) : 0);
}

static struct rendered
render_status(const struct sources *from, const struct snapshot *s)
{
	(void)from;
	return render_json(view_status(s));
}

static struct rendered
render_peers(const struct sources *from, const struct snapshot *s)
{
	(void)from;
	return render_json(view_peers(s));
}

static struct rendered
render_stats(const struct sources *from, const struct snapshot *s)
{
	(void)from;
	return render_json(view_stats(s));
}

/* Not from a snapshot: they can be shown while the message loop is blocked. */
static struct rendered
render_events(const struct sources *from, const struct snapshot *s)
{
	(void)from, (void)s;
	return render_json(view_events());
}

static struct rendered
render_page(const struct sources *from, const struct snapshot *s)
{
	char *text = mem_try(page_html_len);
	struct rendered out;

	(void)s;
	if (text != NULL)
		memcpy(text, page_html, page_html_len);
	out = render_text(200, HTML_TYPE, text, page_html_len);
	out.policy = from->policy;
	return out;
}

static struct rendered
render_config(const struct sources *from, const struct snapshot *s)
{
	(void)s;
	return render_json(view_text(
		"config", from->config.bytes != NULL ? from->config.bytes : "", from->config.len));
}

static struct rendered
render_version(const struct sources *from, const struct snapshot *s)
{
	(void)from, (void)s;
	return render_json(view_text("version", PACKAGE_VERSION, strlen(PACKAGE_VERSION)));
}

static struct rendered
render_history(const struct sources *from, const struct snapshot *s)
{
	char *end;
	int64_t after = strtoll(from->argument, &end, 10);

	(void)s;
	if (end[0] != '\0')
		return render_text(
			404, TEXT_TYPE, strdup("invalid argument: use a time in ms\n"), 35);
	return render_json(view_history(&from->history, after));
}

enum {
	PAGE_METRICS = COMMAND_COUNT,
	PAGE_HEALTHZ,
	PAGE_READYZ,
	PAGE_STATUS,
	PAGE_HISTORY,
	PAGE_HISTORY_AFTER
};

const struct page_handler page_handlers[PAGE_COUNT] = {
	[COMMAND_status] = {NEEDS_COUNTERS, render_status},
	[COMMAND_peers] = {NEEDS_PEERS, render_peers},
	[COMMAND_stats] = {NEEDS_COUNTERS, render_stats},
	[COMMAND_events] = {NEEDS_NOTHING, render_events},
	[COMMAND_kick] = {NEEDS_LOOP, NULL},
	[COMMAND_drain] = {NEEDS_LOOP, NULL},
	[COMMAND_pause] = {NEEDS_LOOP, NULL},
	[COMMAND_resume] = {NEEDS_LOOP, NULL},
	[COMMAND_reload] = {NEEDS_LOOP, NULL},
	[COMMAND_log_level] = {NEEDS_LOOP, NULL},
	[COMMAND_config] = {NEEDS_NOTHING, render_config},
	[COMMAND_version] = {NEEDS_NOTHING, render_version},
	[PAGE_METRICS] = {NEEDS_COUNTERS, render_metrics},
	[PAGE_HEALTHZ] = {NEEDS_COUNTERS, render_healthz},
	[PAGE_READYZ] = {NEEDS_COUNTERS, render_readyz},
	[PAGE_STATUS] = {NEEDS_NOTHING, render_page},
	[PAGE_HISTORY] = {NEEDS_NOTHING, render_history},
	[PAGE_HISTORY_AFTER] = {NEEDS_NOTHING, render_history},
};

/* The HTTP port serves what anyone may see: no actions, nothing secret. */
#define COMMAND_PAGE(name, word, kind, placeholder, member, help) \
	{.path = COMMAND_PREFIX word, \
		.post = (kind) == COMMAND_ACTION, \
		.control_only = (kind) != COMMAND_VIEW, \
		.argument = (placeholder), \
		.number = COMMAND_##name},

static const struct page pages[PAGE_COUNT] = {
	COMMANDS(COMMAND_PAGE){.path = "/metrics", .number = PAGE_METRICS},
	{.path = "/healthz", .number = PAGE_HEALTHZ},
	{.path = "/readyz", .number = PAGE_READYZ},
	{.path = "/", .number = PAGE_STATUS},
	{.path = COMMAND_PREFIX "history", .number = PAGE_HISTORY},
	{.path = COMMAND_PREFIX "history", .argument = "AFTER", .number = PAGE_HISTORY_AFTER},
};

const struct page *
page_find(const char *path, const char **argument)
{
	for (size_t i = 0; i < PAGE_COUNT; i++) {
		size_t len = strlen(pages[i].path);

		if (strncmp(path, pages[i].path, len) != 0)
			continue;
		*argument = path + len;
		if (path[len] == '\0')
			return &pages[i];
		if (path[len] == '/' && pages[i].argument != NULL) {
			*argument += 1;
			return &pages[i];
		}
	}
	return NULL;
}

bool
page_is_command(const struct page *page)
{
	return page->number < COMMAND_COUNT;
}
