/* SPDX-License-Identifier: MIT */
#include "ctl/show.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/commands.h"
#include "base/sides.h"

/* --- values --------------------------------------------------------------- */

int64_t
show_number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

int
show_len(const char *text)
{
	size_t len = strlen(text);

	return (int)(len > 0 && text[len - 1] == '\n' ? len - 1 : len);
}

const char *
show_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL && text[0] != '\0' ? text : "-";
}

static const char *
scaled(char out[SHOW_MAX], double value, double step)
{
	static const char units[] = " kMGTPE";
	size_t i = 0;

	for (; value >= step && units[i + 1] != '\0'; i++)
		value /= step;
	if (i == 0)
		snprintf(out, SHOW_MAX, "%.0f", value);
	else
		snprintf(out, SHOW_MAX, "%.1f%c", value, units[i]);
	return out;
}

const char *
show_bytes(char out[SHOW_MAX], double bytes)
{
	if (bytes < 1 || bytes >= 1024)
		return scaled(out, bytes, 1024);
	snprintf(out, SHOW_MAX, "%.0fB", bytes);
	return out;
}

const char *
show_count(char out[SHOW_MAX], double count)
{
	return scaled(out, count, count < 10000 ? 1e9 : 1000);
}

const char *
show_ms(char out[SHOW_MAX], int64_t ms)
{
	int64_t s = ms / 1000;

	if (s < 10)
		snprintf(out, SHOW_MAX, "%.1fs", (double)ms / 1000);
	else if (s < 60)
		snprintf(out, SHOW_MAX, "%ds", (int)s);
	else if (s < 3600)
		snprintf(out, SHOW_MAX, "%dm%02ds", (int)(s / 60), (int)(s % 60));
	else if (s < 86400)
		snprintf(out, SHOW_MAX, "%dh%02dm", (int)(s / 3600), (int)(s / 60 % 60));
	else
		snprintf(
			out, SHOW_MAX, "%dd%02dh", (int)(s / 86400 % 100000), (int)(s / 3600 % 24));
	return out;
}

/* --- peers ---------------------------------------------------------------- */

const char *
show_address(const json_t *peer)
{
	const char *address = show_text(peer, "address");

	return strncmp(address, "tcp://", 6) == 0 ? address + 6 : address;
}

const char *
show_routing_id(char out[SHOW_ID_MAX + 1], const json_t *peer)
{
	const char *id = show_text(peer, "routing_id");
	bool cut = strlen(id) > SHOW_ID_MAX;

	snprintf(out, SHOW_ID_MAX + 1, "%.*s%s", cut ? SHOW_ID_MAX - 1 : SHOW_ID_MAX, id,
		cut ? "~" : "");
	return out;
}

const char *
show_state(const json_t *peer)
{
	bool poisoned = strcmp(show_text(peer, "poison"), "poisoned") == 0;

	return show_text(peer, poisoned ? "poison" : "state");
}

const char *
show_style(const json_t *peer)
{
	const char *state = show_state(peer);

	if (strcmp(state, "poisoned") == 0 || strcmp(state, "suspect") == 0)
		return STYLE_BAD;
	if (strcmp(state, "stalled") == 0 || strcmp(state, "silent") == 0)
		return STYLE_WARN;
	return NULL;
}

static bool
is_worker(const json_t *peer)
{
	return strcmp(show_text(peer, "side"), side_name(PROXY_BACKEND)) == 0;
}

int64_t
show_requests(const json_t *peer)
{
	return show_number(peer, is_worker(peer) ? "messages_out" : "messages_in");
}

int64_t
show_replies(const json_t *peer)
{
	return show_number(peer, is_worker(peer) ? "messages_in" : "messages_out");
}

const char *
show_bound(char out[SHOW_MAX], double seconds)
{
	if (seconds == 0)
		snprintf(out, SHOW_MAX, "-");
	else if (seconds < 0)
		snprintf(out, SHOW_MAX, "> %.0fms", -seconds * 1e3);
	else if (seconds < 0.001)
		snprintf(out, SHOW_MAX, "<= %.0fus", seconds * 1e6);
	else
		snprintf(out, SHOW_MAX, "<= %.*fms", seconds < 0.01 ? 2 : 0, seconds * 1e3);
	return out;
}

/* --- status --------------------------------------------------------------- */

/* Requests that came from clients and went to workers; or replies, the other way. */
static int64_t
passed(const json_t *proxy, int side, bool replies)
{
	const json_t *counted =
		json_object_get(proxy, side_name(replies ? PROXY_FRONTEND : PROXY_BACKEND));
	bool in = (side == PROXY_FRONTEND) != replies;

	return show_number(counted, in ? "received" : "sent");
}

static void
add_side(struct table *t, const json_t *proxy, int side)
{
	const json_t *s = json_object_get(proxy, side_name(side));
	const json_t *conns = json_object_get(s, "connections");
	int64_t ready = show_number(conns, "ready"), suspect = show_number(conns, "suspect"),
		stalled = show_number(conns, "stalled"), silent = show_number(s, "silent");
	char text[SHOW_MAX];

	table_add(t, "%s", show_text(proxy, "name"));
	table_add(t, "%s", show_text(proxy, "state"));
	table_add(t, "%s", side_name(side));
	table_add(t, "%" PRId64, ready);
	table_add(t, "%" PRId64, suspect);
	table_add(t, "%" PRId64, stalled);
	table_add(t, "%" PRId64, silent);
	table_add(t, "%" PRId64,
		show_number(conns, "connecting") + show_number(conns, "handshake") +
			show_number(conns, "draining") + show_number(conns, "closing"));
	table_add(t, "%" PRId64, show_number(s, "queued"));
	table_add(t, "%s", show_bytes(text, (double)show_number(s, "queued_bytes")));
	table_add(t, "%" PRId64, passed(proxy, side, false));
	table_add(t, "%" PRId64, passed(proxy, side, true));
	table_add(t, "%" PRId64, show_number(s, "dropped"));
	if (side == 1 && ready == 0)
		table_style(t, STYLE_BAD);
	else if (suspect + stalled + silent > 0)
		table_style(t, STYLE_WARN);
}

static void
show_sides(const json_t *proxies, const struct screen *screen)
{
	static const struct table_column columns[] = {{"PROXY", false, TABLE_CUT_END, 0},
		{"STATE", false, TABLE_WHOLE, 0}, {"SIDE", false, TABLE_WHOLE, 0},
		{"READY", true, TABLE_WHOLE, 0}, {"SUSPECT", true, TABLE_WHOLE, 2},
		{"STALLED", true, TABLE_WHOLE, 4}, {"SILENT", true, TABLE_WHOLE, 5},
		{"OTHER", true, TABLE_WHOLE, 7}, {"QUEUED", true, TABLE_WHOLE, 0},
		{"BYTES", true, TABLE_WHOLE, 6}, {"REQUESTS", true, TABLE_WHOLE, TABLE_LATE},
		{"REPLIES", true, TABLE_WHOLE, TABLE_LATE}, {"DROPPED", true, TABLE_WHOLE, 3},
		{NULL, false, TABLE_WHOLE, 0}};
	struct table t;
	json_t *proxy;
	size_t i;

	table_init(&t, columns);
	json_array_foreach(proxies, i, proxy)
	{
		for (int side = 0; side < PROXY_SIDES; side++)
			add_side(&t, proxy, side);
	}
	table_print(&t, screen, SIZE_MAX / TABLE_COLUMNS);
	table_fini(&t);
}

static void
show_endpoints(const json_t *proxies, const struct screen *screen)
{
	static const struct table_column columns[] = {{"PROXY", false, TABLE_CUT_END, 1},
		{"SIDE", false, TABLE_WHOLE, 0}, {"", false, TABLE_WHOLE, 2},
		{"ENDPOINT", false, TABLE_CUT_START, 0}, {"STATE", false, TABLE_WHOLE, 0},
		{NULL, false, TABLE_WHOLE, 0}};
	struct table t;
	json_t *proxy, *e;
	size_t i, j;
	char text[SHOW_MAX];

	table_init(&t, columns);
	json_array_foreach(proxies, i, proxy)
	{
		json_array_foreach(json_object_get(proxy, "endpoints"), j, e)
		{
			int64_t wait = show_number(e, "wait_ms");

			table_add(&t, "%s", show_text(proxy, "name"));
			table_add(&t, "%s", show_text(e, "side"));
			table_add(&t, "%s", show_text(e, "kind"));
			table_add(&t, "%s", show_text(e, "endpoint"));
			table_add(&t, "%s%s%s", show_text(e, "state"),
				wait > 0 ? ", next attempt in " : "",
				wait > 0 ? show_ms(text, wait) : "");
		}
	}
	table_print(&t, screen, SIZE_MAX / TABLE_COLUMNS);
	table_fini(&t);
}

/* Wrap `text`, with `indent` spaces before each line. Words wider than the screen stay whole. */
static void
put_wrapped(const struct screen *screen, int indent, const char *text)
{
	size_t room = screen->width > (size_t)indent ? screen->width - (size_t)indent : SIZE_MAX;

	for (bool first = true; *text != '\0' || first; first = false) {
		size_t length = strlen(text), end = length;

		if (end > room) {
			for (end = room; end > 0 && text[end] != ' ';)
				end--;
			if (end == 0)
				end = strcspn(text, " ");
		}
		fprintf(screen->out, "%*s%.*s\n", indent, "", (int)end, text);
		text += end + (end < length);
	}
}

/* What is wrong and what to do about it, as the broker says it. */
static void
show_troubles(const json_t *a, const struct screen *screen)
{
	int64_t left_out = show_number(a, "troubles_left_out");
	json_t *t;
	size_t i;

	json_array_foreach(json_object_get(a, "troubles"), i, t)
	{
		bool bad = strcmp(show_text(t, "level"), "bad") == 0;

		if (screen->color)
			fputs(bad ? STYLE_BAD : STYLE_WARN, screen->out);
		put_wrapped(screen, 2, show_text(t, "text"));
		if (screen->color)
			fputs(STYLE_NONE, screen->out);
		put_wrapped(screen, 4, show_text(t, "advice"));
	}
	if (left_out > 0)
		fprintf(screen->out, "  and %" PRId64 " more\n", left_out);
}

static void
show_status(const json_t *a, const struct screen *screen)
{
	const json_t *proxies = json_object_get(a, "proxies");
	bool ready = json_is_true(json_object_get(a, "ready")), bad = screen->color && !ready;
	char uptime[SHOW_MAX], used[SHOW_MAX], limit[SHOW_MAX];
	FILE *out = screen->out;

	fprintf(out, "%sbulkhead %s, process %" PRId64 ", %s for %s, %s%s\n", bad ? STYLE_BAD : "",
		show_text(a, "version"), show_number(a, "pid"), show_text(a, "state"),
		show_ms(uptime,
			(int64_t)(json_real_value(json_object_get(a, "uptime_seconds")) * 1000)),
		!ready                                                        ? "not ready:"
			: json_array_size(json_object_get(a, "troubles")) > 0 ? "ready; but:"
									      : "ready",
		bad ? STYLE_NONE : "");
	show_troubles(a, screen);
	fprintf(out, "connections %" PRId64 " of %" PRId64 ", memory %s of %s, log level %s\n\n",
		show_number(a, "connections"), show_number(a, "max_connections"),
		show_bytes(used, (double)show_number(a, "memory_bytes")),
		show_bytes(limit, (double)show_number(a, "memory_limit")),
		show_text(a, "log_level"));
	show_sides(proxies, screen);
	fputs("\n", out);
	show_endpoints(proxies, screen);
}

/* --- peers ---------------------------------------------------------------- */

static void
show_peers(const json_t *a, const struct screen *screen)
{
	static const struct table_column columns[] = {{"ID", true, TABLE_WHOLE, 0},
		{"PROXY", false, TABLE_CUT_END, 6}, {"SIDE", false, TABLE_WHOLE, TABLE_LATE},
		{"ROUTING ID", false, TABLE_CUT_END, 5}, {"ADDRESS", false, TABLE_CUT_START, 0},
		{"TYPE", false, TABLE_WHOLE, 8}, {"STATE", false, TABLE_WHOLE, 0},
		{"POISON", false, TABLE_WHOLE, 7}, {"QUEUED", true, TABLE_WHOLE, 2},
		{"BYTES", true, TABLE_WHOLE, 4}, {"WAITING", true, TABLE_WHOLE, 3},
		{"UNANSWERED", true, TABLE_WHOLE, 0}, {"REQUESTS", true, TABLE_WHOLE, TABLE_LATE},
		{"REPLIES", true, TABLE_WHOLE, TABLE_LATE}, {"AGE", true, TABLE_WHOLE, 9},
		{"IDLE", true, TABLE_WHOLE, 9}, {NULL, false, TABLE_WHOLE, 0}};
	char text[SHOW_MAX], id[SHOW_ID_MAX + 1];
	struct table t;
	json_t *p;
	size_t i;

	table_init(&t, columns);
	json_array_foreach(json_object_get(a, "peers"), i, p)
	{
		table_add(&t, "%" PRId64, show_number(p, "id"));
		table_add(&t, "%s", show_text(p, "proxy"));
		table_add(&t, "%s", show_text(p, "side"));
		table_add(&t, "%s", show_routing_id(id, p));
		table_add(&t, "%s", show_address(p));
		table_add(&t, "%s", show_text(p, "socket_type"));
		table_add(&t, "%s", show_state(p));
		table_add(&t, "%s", show_text(p, "poison"));
		table_add(&t, "%" PRId64, show_number(p, "queued"));
		table_add(&t, "%s", show_bytes(text, (double)show_number(p, "queued_bytes")));
		table_add(&t, "%" PRId64, show_number(p, "waiting"));
		table_add(&t, "%" PRId64, show_number(p, "outstanding"));
		table_add(&t, "%" PRId64, show_requests(p));
		table_add(&t, "%" PRId64, show_replies(p));
		table_add(&t, "%s", show_ms(text, show_number(p, "age_ms")));
		table_add(&t, "%s", show_ms(text, show_number(p, "idle_ms")));
		table_style(&t, show_style(p));
	}
	table_print(&t, screen, SIZE_MAX / TABLE_COLUMNS);
	table_fini(&t);
}

/* --- stats ---------------------------------------------------------------- */

/* The upper bound of the bucket with this quantile, in seconds; 0: nothing was measured. */
static double
quantile(const json_t *histogram, double part)
{
	double want = part * (double)show_number(histogram, "count"), seen = 0, bound = 0;
	json_t *bucket;
	size_t i;

	if (want == 0)
		return 0;
	json_array_foreach(json_object_get(histogram, "buckets"), i, bucket)
	{
		const json_t *le = json_object_get(bucket, "le");

		/* the last bucket has no bound */
		bound = json_is_real(le) ? json_real_value(le) : -bound;
		seen += (double)show_number(bucket, "count");
		if (seen >= want)
			break;
	}
	return bound;
}

static void
add_duration(struct table *t, const json_t *histogram, double part)
{
	char text[SHOW_MAX];

	table_add(t, "%s", show_bound(text, quantile(histogram, part)));
}

/* Add the reasons that were counted at least once. */
static void
add_reasons(struct table *t, const char *what, const json_t *frontend, const json_t *backend)
{
	const char *reason;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)frontend, reason, value)
	{
		if (json_integer_value(value) == 0 && show_number(backend, reason) == 0)
			continue;
		table_add(t, "%s %s", what, reason);
		table_add(t, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		table_add(t, "%" PRId64, show_number(backend, reason));
	}
}

static void
show_proxy_stats(const json_t *proxy, const struct screen *screen)
{
	static const struct table_column columns[] = {{"COUNTER", false, TABLE_CUT_END, 0},
		{"FRONTEND, REPLIES", true, TABLE_WHOLE, 0},
		{"BACKEND, REQUESTS", true, TABLE_WHOLE, 0}, {NULL, false, TABLE_WHOLE, 0}};
	const json_t *f = json_object_get(proxy, side_name(PROXY_FRONTEND)),
		     *b = json_object_get(proxy, side_name(PROXY_BACKEND));
	const json_t *forward[] = {
		json_object_get(f, "forward_seconds"), json_object_get(b, "forward_seconds")};
	static const double parts[] = {0.5, 0.99};
	const char *key;
	struct table t;
	json_t *value;

	table_init(&t, columns);
	json_object_foreach((json_t *)(uintptr_t)f, key, value)
	{
		if (!json_is_integer(value))
			continue;
		table_add(&t, "%s", key);
		table_add(&t, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		table_add(&t, "%" PRId64, show_number(b, key));
	}
	add_reasons(
		&t, "dropped", json_object_get(f, "dropped_by"), json_object_get(b, "dropped_by"));
	add_reasons(&t, "closed", json_object_get(f, "closed_by"), json_object_get(b, "closed_by"));
	for (size_t i = 0; i < 2; i++) {
		table_add(&t, "forward p%.0f", parts[i] * 100);
		add_duration(&t, forward[0], parts[i]);
		add_duration(&t, forward[1], parts[i]);
	}
	fprintf(screen->out, "proxy %s\n", show_text(proxy, "name"));
	table_print(&t, screen, SIZE_MAX / TABLE_COLUMNS);
	table_fini(&t);
}

static void
show_stats(const json_t *a, const struct screen *screen)
{
	json_t *proxy;
	size_t i;

	json_array_foreach(json_object_get(a, "proxies"), i, proxy)
	{
		if (i > 0)
			fputs("\n", screen->out);
		show_proxy_stats(proxy, screen);
	}
}

/* --- events --------------------------------------------------------------- */

static const char *
event_style(const json_t *event)
{
	const char *level = show_text(event, "level");

	if (strcmp(level, "error") == 0)
		return STYLE_BAD;
	return strcmp(level, "warning") == 0 ? STYLE_WARN : NULL;
}

static void
show_events(const json_t *a, const struct screen *screen)
{
	json_t *e;
	size_t i;

	json_array_foreach(json_object_get(a, "events"), i, e)
	{
		const char *style = screen->color ? event_style(e) : NULL;

		fprintf(screen->out, "%s%s level=%s event=%s %s%s\n", style != NULL ? style : "",
			show_text(e, "time"), show_text(e, "level"), show_text(e, "event"),
			show_text(e, "text"), style != NULL ? STYLE_NONE : "");
	}
}

/* --- all ------------------------------------------------------------------ */

static void
show_done(int command, const json_t *a, FILE *out)
{
	/* only a reload has a report */
	const char *text = command == COMMAND_reload ? show_text(a, "done") : "done";

	fprintf(out, "%.*s\n", show_len(text), text);
}

void
show_answer(int command, const json_t *a, const struct screen *screen)
{
	FILE *out = screen->out;

	switch ((enum command)command) {
	case COMMAND_status:
		show_status(a, screen);
		break;
	case COMMAND_peers:
		show_peers(a, screen);
		break;
	case COMMAND_stats:
		show_stats(a, screen);
		break;
	case COMMAND_events:
		show_events(a, screen);
		break;
	case COMMAND_config:
		fputs(show_text(a, "config"), out);
		break;
	case COMMAND_version:
		fprintf(out, "bulkhead %s\nbulkheadctl %s\n", show_text(a, "version"),
			PACKAGE_VERSION);
		break;
	case COMMAND_kick:
	case COMMAND_drain:
	case COMMAND_pause:
	case COMMAND_resume:
	case COMMAND_reload:
	case COMMAND_log_level:
		show_done(command, a, out);
		break;
	case COMMAND_COUNT:
		break;
	}
}
