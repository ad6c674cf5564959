#include "ctl/show.h"

#include <inttypes.h>
#include <string.h>

#include "base/commands.h"

/* --- values ------------------------------------------------------------------ */

int64_t
show_number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
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
	return scaled(out, bytes, 1024);
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
		snprintf(out, SHOW_MAX, "%dd%02dh", (int)(s / 86400 % 100000), (int)(s / 3600 % 24));
	return out;
}

/* --- status -------------------------------------------------------------------- */

static void
show_sides(const json_t *proxies, FILE *out, size_t width)
{
	static const struct table_column columns[] = {{"PROXY", false, true, 0},
		{"STATE", false, false, 0}, {"SIDE", false, false, 0}, {"READY", true, false, 0},
		{"STALLED", true, false, 2}, {"SILENT", true, false, 2}, {"OTHER", true, false, 4},
		{"QUEUED", true, false, 0}, {"BYTES", true, false, 3}, {"RECEIVED", true, false, 5}, {"SENT", true, false, 5},
		{"DROPPED", true, false, 1}, {NULL, false, false, 0}};
	static const char *const sides[] = {"frontend", "backend"};
	struct table t;
	json_t *proxy;
	size_t i;
	char text[SHOW_MAX];

	table_init(&t, columns);
	json_array_foreach(proxies, i, proxy) {
		for (int side = 0; side < 2; side++) {
			const json_t *s = json_object_get(proxy, sides[side]);
			const json_t *conns = json_object_get(s, "connections");

			table_add(&t, "%s", show_text(proxy, "name"));
			table_add(&t, "%s", show_text(proxy, "state"));
			table_add(&t, "%s", sides[side]);
			table_add(&t, "%" PRId64, show_number(conns, "ready"));
			table_add(&t, "%" PRId64, show_number(conns, "stalled"));
			table_add(&t, "%" PRId64, show_number(s, "silent"));
			table_add(&t, "%" PRId64, show_number(conns, "connecting") +
				show_number(conns, "handshake") + show_number(conns, "closing"));
			table_add(&t, "%" PRId64, show_number(s, "queued"));
			table_add(&t, "%s", show_bytes(text, (double)show_number(s, "queued_bytes")));
			table_add(&t, "%" PRId64, show_number(s, "received"));
			table_add(&t, "%" PRId64, show_number(s, "sent"));
			table_add(&t, "%" PRId64, show_number(s, "dropped"));
		}
	}
	table_print(&t, out, width, SIZE_MAX / TABLE_COLUMNS, "");
	table_fini(&t);
}

static void
show_endpoints(const json_t *proxies, FILE *out, size_t width)
{
	static const struct table_column columns[] = {{"PROXY", false, true, 1},
		{"SIDE", false, false, 0}, {"", false, false, 2}, {"ENDPOINT", false, true, 0},
		{"STATE", false, false, 0}, {NULL, false, false, 0}};
	struct table t;
	json_t *proxy, *e;
	size_t i, j;
	char text[SHOW_MAX];

	table_init(&t, columns);
	json_array_foreach(proxies, i, proxy) {
		json_array_foreach(json_object_get(proxy, "endpoints"), j, e) {
			int64_t wait = show_number(e, "wait_ms");

			table_add(&t, "%s", show_text(proxy, "name"));
			table_add(&t, "%s", show_text(e, "side"));
			table_add(&t, "%s", show_text(e, "kind"));
			table_add(&t, "%s", show_text(e, "endpoint"));
			table_add(&t, "%s%s%s", show_text(e, "state"), wait > 0 ? ", next attempt in " : "",
				wait > 0 ? show_ms(text, wait) : "");
		}
	}
	table_print(&t, out, width, SIZE_MAX / TABLE_COLUMNS, "");
	table_fini(&t);
}

static void
show_status(const json_t *a, FILE *out, size_t width)
{
	const json_t *proxies = json_object_get(a, "proxies"), *why;
	char uptime[SHOW_MAX], used[SHOW_MAX], limit[SHOW_MAX];
	size_t i;

	fprintf(out, "bulkhead %s, process %" PRId64 ", %s for %s, %s\n", show_text(a, "version"),
		show_number(a, "pid"), show_text(a, "state"),
		show_ms(uptime,
			(int64_t)(json_real_value(json_object_get(a, "uptime_seconds")) * 1000)),
		json_is_true(json_object_get(a, "ready")) ? "ready" : "not ready:");
	json_array_foreach(json_object_get(a, "not_ready"), i, why) {
		const char *line = json_string_value(why);
		fprintf(out, "  %s\n", line != NULL ? line : "-");
	}
	fprintf(out, "connections %" PRId64 " of %" PRId64 ", memory %s of %s, log level %s\n\n",
		show_number(a, "connections"), show_number(a, "max_connections"),
		show_bytes(used, (double)show_number(a, "memory_bytes")),
		show_bytes(limit, (double)show_number(a, "memory_limit")), show_text(a, "log_level"));
	show_sides(proxies, out, width);
	fputs("\n", out);
	show_endpoints(proxies, out, width);
}

/* --- peers ------------------------------------------------------------------------ */

static void
show_peers(const json_t *a, FILE *out, size_t width)
{
	static const struct table_column columns[] = {{"ID", true, false, 0}, {"PROXY", false, true, 6},
		{"SIDE", false, false, 0}, {"ROUTING ID", false, true, 5}, {"ADDRESS", false, true, 1},
		{"TYPE", false, false, 8}, {"STATE", false, false, 0}, {"POISON", false, false, 7},
		{"QUEUED", true, false, 0}, {"BYTES", true, false, 2}, {"WAITING", true, false, 9},
		{"UNANSWERED", true, false, 10}, {"IN", true, false, 3}, {"OUT", true, false, 3},
		{"AGE", true, false, 4}, {"IDLE", true, false, 4}, {NULL, false, false, 0}};
	char text[SHOW_MAX];
	struct table t;
	json_t *p;
	size_t i;

	table_init(&t, columns);
	json_array_foreach(json_object_get(a, "peers"), i, p) {
		table_add(&t, "%" PRId64, show_number(p, "id"));
		table_add(&t, "%s", show_text(p, "proxy"));
		table_add(&t, "%s", show_text(p, "side"));
		table_add(&t, "%s", show_text(p, "routing_id"));
		table_add(&t, "%s", show_text(p, "address"));
		table_add(&t, "%s", show_text(p, "socket_type"));
		table_add(&t, "%s", show_text(p, "state"));
		table_add(&t, "%s", show_text(p, "poison"));
		table_add(&t, "%" PRId64, show_number(p, "queued"));
		table_add(&t, "%s", show_bytes(text, (double)show_number(p, "queued_bytes")));
		table_add(&t, "%" PRId64, show_number(p, "waiting"));
		table_add(&t, "%" PRId64, show_number(p, "outstanding"));
		table_add(&t, "%" PRId64, show_number(p, "messages_in"));
		table_add(&t, "%" PRId64, show_number(p, "messages_out"));
		table_add(&t, "%s", show_ms(text, show_number(p, "age_ms")));
		table_add(&t, "%s", show_ms(text, show_number(p, "idle_ms")));
	}
	table_print(&t, out, width, SIZE_MAX / TABLE_COLUMNS, "");
	table_fini(&t);
}

/* --- stats -------------------------------------------------------------------------- */

/* The bound of the bucket that holds this part of all, in seconds; 0: nothing was measured. */
static double
quantile(const json_t *histogram, double part)
{
	double want = part * (double)show_number(histogram, "count"), seen = 0, bound = 0;
	json_t *bucket;
	size_t i;

	if (want == 0)
		return 0;
	json_array_foreach(json_object_get(histogram, "buckets"), i, bucket) {
		const json_t *le = json_object_get(bucket, "le");

		if (json_is_real(le))
			bound = json_real_value(le);
		seen += (double)show_number(bucket, "count");
		if (seen >= want)
			break;
	}
	return bound;
}

static void
add_duration(struct table *t, const json_t *histogram, double part)
{
	double s = quantile(histogram, part);

	if (s == 0)
		table_add(t, "-");
	else if (s < 0.001)
		table_add(t, "<= %.0fus", s * 1e6);
	else
		table_add(t, "<= %.*fms", s < 0.01 ? 2 : 0, s * 1e3);
}

/* Of a table by reason, what there was. */
static void
add_reasons(struct table *t, const char *what, const json_t *frontend, const json_t *backend)
{
	const char *reason;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)frontend, reason, value) {
		if (json_integer_value(value) == 0 && show_number(backend, reason) == 0)
			continue;
		table_add(t, "%s %s", what, reason);
		table_add(t, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		table_add(t, "%" PRId64, show_number(backend, reason));
	}
}

static void
show_proxy_stats(const json_t *proxy, FILE *out, size_t width)
{
	static const struct table_column columns[] = {{"COUNTER", false, true, 0},
		{"FRONTEND", true, false, 0}, {"BACKEND", true, false, 0}, {NULL, false, false, 0}};
	const json_t *f = json_object_get(proxy, "frontend"), *b = json_object_get(proxy, "backend");
	const json_t *forward[] = {
		json_object_get(f, "forward_seconds"), json_object_get(b, "forward_seconds")};
	static const double parts[] = {0.5, 0.99};
	const char *key;
	struct table t;
	json_t *value;

	table_init(&t, columns);
	json_object_foreach((json_t *)(uintptr_t)f, key, value) {
		if (!json_is_integer(value))
			continue;
		table_add(&t, "%s", key);
		table_add(&t, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		table_add(&t, "%" PRId64, show_number(b, key));
	}
	add_reasons(&t, "dropped", json_object_get(f, "dropped_by"), json_object_get(b, "dropped_by"));
	add_reasons(&t, "closed", json_object_get(f, "closed_by"), json_object_get(b, "closed_by"));
	for (size_t i = 0; i < 2; i++) {
		table_add(&t, "forward p%.0f", parts[i] * 100);
		add_duration(&t, forward[0], parts[i]);
		add_duration(&t, forward[1], parts[i]);
	}
	fprintf(out, "proxy %s\n", show_text(proxy, "name"));
	table_print(&t, out, width, SIZE_MAX / TABLE_COLUMNS, "");
	table_fini(&t);
}

static void
show_stats(const json_t *a, FILE *out, size_t width)
{
	json_t *proxy;
	size_t i;

	json_array_foreach(json_object_get(a, "proxies"), i, proxy) {
		if (i > 0)
			fputs("\n", out);
		show_proxy_stats(proxy, out, width);
	}
}

/* --- events ------------------------------------------------------------------------- */

static void
show_events(const json_t *a, FILE *out)
{
	json_t *e;
	size_t i;

	json_array_foreach(json_object_get(a, "events"), i, e) {
		fprintf(out, "%s level=%s event=%s %s\n", show_text(e, "time"), show_text(e, "level"),
			show_text(e, "event"), show_text(e, "text"));
	}
}

/* --- all ------------------------------------------------------------------------------ */

static void
show_done(int command, const json_t *a, FILE *out)
{
	/* without a report the answer is the command's own word */
	fprintf(out, "%s\n", command == COMMAND_reload ? show_text(a, "done") : "done");
}

void
show_answer(int command, const json_t *a, FILE *out, size_t width)
{
	switch ((enum command)command) {
	case COMMAND_status:
		show_status(a, out, width);
		break;
	case COMMAND_peers:
		show_peers(a, out, width);
		break;
	case COMMAND_stats:
		show_stats(a, out, width);
		break;
	case COMMAND_events:
		show_events(a, out);
		break;
	case COMMAND_config:
		fputs(show_text(a, "config"), out);
		break;
	case COMMAND_version:
		fprintf(out, "bulkhead %s\nbulkheadctl %s\n", show_text(a, "version"), PACKAGE_VERSION);
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
