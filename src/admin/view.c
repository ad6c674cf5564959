/* SPDX-License-Identifier: MIT */
#include "admin/view.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/trouble.h"
#include "base/idtext.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/recent.h"
#include "net/conn.h"
#include "zmtp/socktype.h"

/* The digits that a double preserves of any decimal number: 28.017, not 28.016999999999999. */
#define FORMAT (JSON_COMPACT | JSON_REAL_PRECISION(15))

/*
 * jansson's *_set_new and *_append_new fail on a NULL value and without memory. A failure is
 * remembered in `ok`, which is checked once, at the end.
 */
struct building {
	bool ok;
};

static void
put(struct building *b, json_t *object, const char *key, json_t *value)
{
	b->ok = json_object_set_new(object, key, value) == 0 && b->ok;
}

static void
put_count(struct building *b, json_t *object, const char *key, uint64_t value)
{
	put(b, object, key, json_integer((json_int_t)value));
}

static void
append(struct building *b, json_t *array, json_t *value)
{
	b->ok = json_array_append_new(array, value) == 0 && b->ok;
}

/* Frees the value. */
static char *
finish(struct building *b, json_t *value)
{
	char *text = b->ok ? json_dumps(value, FORMAT) : NULL;

	json_decref(value);
	return text;
}

static double
seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

/* --- text ----------------------------------------------------------------- */

/* The length of the UTF-8 character (RFC 3629) at p, in `len` bytes; 0: it is not one. */
static size_t
character_len(const unsigned char *p, size_t len)
{
	static const struct {
		unsigned char first, last, low, high; /* of the first byte, and of the second */
		size_t len;
	} forms[] = {{0x00, 0x7f, 0, 0, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2},
		{0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4},
		{0xf4, 0xf4, 0x80, 0x8f, 4}};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (p[0] < forms[i].first || p[0] > forms[i].last)
			continue;
		if (forms[i].len > len)
			return 0;
		for (size_t k = 1; k < forms[i].len; k++)
			if (p[k] < (k == 1 ? forms[i].low : 0x80) ||
				p[k] > (k == 1 ? forms[i].high : 0xbf))
				return 0;
		return forms[i].len;
	}
	return 0;
}

/*
 * JSON is UTF-8; a path, a name in a file, or a cut line need not be. Other bytes become \xNN, as
 * in the log.
 */
static json_t *
build_text_of(const char *text, size_t len)
{
	json_t *value = json_stringn(text, len);
	char *out;
	size_t n = 0;

	if (value != NULL)
		return value;
	out = mem_try(len * 4 + 1);
	for (size_t i = 0; out != NULL && i < len;) {
		size_t whole = character_len((const unsigned char *)text + i, len - i);

		if (whole > 0)
			memcpy(out + n, text + i, whole);
		else
			snprintf(out + n, 5, "\\x%02x", (unsigned char)text[i]);
		n += whole > 0 ? whole : 4;
		i += whole > 0 ? whole : 1;
	}
	value = out != NULL ? json_stringn(out, n) : NULL;
	free(out);
	return value;
}

static json_t *
build_text(const char *text)
{
	return build_text_of(text, strlen(text));
}

/* --- counters ------------------------------------------------------------- */

static json_t *
build_histogram(struct building *b, const struct histogram *h)
{
	json_t *object = json_object(), *buckets = json_array();

	put_count(b, object, "count", histogram_count(h));
	put(b, object, "sum", json_real(seconds(h->sum_ns)));
	put(b, object, "buckets", buckets);
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		append(b, buckets,
			json_pack("{s:o, s:I}", "le",
				i < HISTOGRAM_BOUNDS ? json_real(seconds(histogram_bound(i)))
						     : json_null(),
				"count", (json_int_t)h->bucket[i]));
	return object;
}

static json_t *
build_states(struct building *b, const struct side_view *side)
{
	json_t *object = json_object();

	for (int i = 0; i < CONN_CLOSED; i++)
		put_count(b, object, conn_state_name((enum conn_state)i), side->in_state[i]);
	put_count(b, object, "suspect", side->suspects);
	put_count(b, object, "draining", side->draining);
	return object;
}

static json_t *
build_side(struct building *b, const struct side_view *side)
{
	const struct counters *c = &side->counters;
	json_t *object = json_object(), *dropped = json_object(), *closed = json_object();

#define PUT(field, kind, metric, help) put_count(b, object, #field, c->field);
	COUNTERS(PUT)
#undef PUT
	put_count(b, object, "dropped", counters_dropped(c));
	put(b, object, "dropped_by", dropped);
	for (int i = 0; i < DROP_REASON_COUNT; i++)
		put_count(b, dropped, drop_reason_name((enum drop_reason)i), c->dropped[i]);
	put(b, object, "closed_by", closed);
	for (int i = 0; i < CLOSE_REASON_COUNT; i++)
		put_count(b, closed, close_reason_name((enum close_reason)i), c->closed_by[i]);
	put(b, object, "connections", build_states(b, side));
	put(b, object, "forward_seconds", build_histogram(b, &side->forward));
	return object;
}

char *
view_stats(const struct snapshot *s)
{
	struct building b = {true};
	json_t *top = json_object(), *proxies = json_array();

	put_count(&b, top, "clock_ms", (uint64_t)s->taken_ms);
	put_count(&b, top, "memory_bytes", s->loop.memory_bytes);
	put_count(&b, top, "turns", s->loop.turns);
	put(&b, top, "loop_lag_seconds", build_histogram(&b, &s->loop.lag));
	put(&b, top, "proxies", proxies);
	for (size_t i = 0; i < s->proxy_count; i++) {
		json_t *proxy = json_object();

		put(&b, proxy, "name", build_text(s->proxies[i].name));
		put(&b, proxy, "answer_seconds", build_histogram(&b, &s->proxies[i].answers));
		for (int side = 0; side < PROXY_SIDES; side++)
			put(&b, proxy, side_name(side), build_side(&b, &s->proxies[i].side[side]));
		append(&b, proxies, proxy);
	}
	return finish(&b, top);
}

/* --- status --------------------------------------------------------------- */

static json_t *
build_endpoints(struct building *b, const struct snapshot *s, const char *proxy)
{
	json_t *list = json_array();

	for (size_t i = 0; i < s->endpoint_count; i++) {
		const struct snapshot_endpoint *e = &s->endpoints[i];

		if (strcmp(e->proxy, proxy) == 0)
			append(b, list,
				json_pack("{s:s, s:s, s:o, s:s, s:I}", "side", side_name(e->side),
					"kind", e->bound ? "bind" : "connect", "endpoint",
					build_text(e->text), "state", e->state, "wait_ms",
					(json_int_t)e->wait_ms));
	}
	return list;
}

static json_t *
build_proxy(struct building *b, const struct snapshot *s, const struct proxy_view *p)
{
	json_t *object = json_object();

	put(b, object, "name", build_text(p->name));
	put(b, object, "state",
		json_string(p->draining     ? "draining"
				: p->paused ? "paused"
					    : "running"));
	put(b, object, "endpoints", build_endpoints(b, s, p->name));
	for (int i = 0; i < PROXY_SIDES; i++) {
		const struct counters *c = &p->side[i].counters;
		json_t *side = json_object();

		put(b, side, "connections", build_states(b, &p->side[i]));
		put_count(b, side, "received", c->received);
		put_count(b, side, "sent", c->sent);
		put_count(b, side, "queued", c->queued);
		put_count(b, side, "queued_bytes", c->queued_bytes);
		put_count(b, side, "dropped", counters_dropped(c));
		put_count(b, side, "silent", c->silent);
		put(b, object, side_name(i), side);
	}
	return object;
}

/* Each line of `text` as an element. */
static json_t *
build_lines(struct building *b, char *text)
{
	json_t *list = json_array();
	char *rest, *line = strtok_r(text, "\n", &rest);

	for (; line != NULL; line = strtok_r(NULL, "\n", &rest))
		append(b, list, build_text(line));
	return list;
}

char *
view_readiness(const struct snapshot *s, bool *ready)
{
	char *text = NULL;
	size_t len;
	FILE *why = open_memstream(&text, &len);
	bool failed;

	if (why == NULL)
		return NULL;
	*ready = trouble_is_ready(s, why);
	failed = ferror(why) != 0;
	if (fclose(why) == 0 && !failed)
		return text;
	free(text);
	return NULL;
}

/* null, or the file that was not used, and its first error. */
static json_t *
build_last_good(struct building *b, const struct snapshot *s)
{
	json_t *object;

	if (s->last_good == 0)
		return json_null();
	object = json_object();
	put(b, object, "file", build_text(s->file));
	put_count(b, object, "wrong_line", (uint64_t)s->wrong_line);
	return object;
}

struct troubles {
	struct building *b;
	json_t *list;
	uint64_t left_out;
};

static void
add_trouble(void *arg, const struct trouble *t)
{
	struct troubles *to = arg;
	json_t *object, *peers;

	if (json_array_size(to->list) >= VIEW_TROUBLES_MAX) {
		to->left_out++;
		return;
	}
	object = json_object();
	peers = json_array();
	put(to->b, object, "kind", json_string(t->kind));
	put(to->b, object, "level", json_string(t->bad ? "bad" : "warning"));
	put(to->b, object, "proxy", t->proxy != NULL ? build_text(t->proxy) : json_null());
	put(to->b, object, "side", t->side >= 0 ? json_string(side_name(t->side)) : json_null());
	put_count(to->b, object, "count", t->count);
	put(to->b, object, "peers", peers);
	for (size_t i = 0; i < SIDE_NAMED_PEERS && t->peers[i] > 0; i++)
		append(to->b, peers, json_integer((json_int_t)t->peers[i]));
	put(to->b, object, "text", build_text(t->text));
	put(to->b, object, "advice", json_string(t->advice));
	append(to->b, to->list, object);
}

static void
put_troubles(struct building *b, json_t *top, const struct snapshot *s)
{
	struct troubles to = {b, json_array(), 0};

	trouble_each(s, add_trouble, &to);
	put(b, top, "troubles", to.list);
	put_count(b, top, "troubles_left_out", to.left_out);
}

static json_t *
build_host(void)
{
	char name[256] = "";

	if (gethostname(name, sizeof(name) - 1) != 0)
		name[0] = '\0';
	return build_text(name);
}

char *
view_status(const struct snapshot *s)
{
	struct building b = {true};
	json_t *top = json_object(), *proxies = json_array();
	bool ready = false;
	char *text = view_readiness(s, &ready);

	put(&b, top, "version", json_string(PACKAGE_VERSION));
	put(&b, top, "host", build_host());
	put(&b, top, "instance", build_text(s->instance));
	put_count(&b, top, "pid", (uint64_t)s->pid);
	put(&b, top, "state", json_string(s->state));
	put(&b, top, "ready", json_boolean(ready));
	put(&b, top, "not_ready", text != NULL ? build_lines(&b, text) : NULL);
	free(text);
	put(&b, top, "last_good", build_last_good(&b, s));
	put_troubles(&b, top, s);
	put(&b, top, "uptime_seconds", json_real((double)s->uptime_ms / 1000));
	put(&b, top, "log_level", json_string(log_level_name(s->log_level)));
	put_count(&b, top, "connections", s->loop.connections);
	put_count(&b, top, "max_connections", s->loop.max_connections);
	put_count(&b, top, "memory_bytes", s->loop.memory_bytes);
	put_count(&b, top, "memory_limit", s->loop.memory_limit);
	put_count(&b, top, "last_event", recent_last());
	put(&b, top, "proxies", proxies);
	for (size_t i = 0; i < s->proxy_count; i++)
		append(&b, proxies, build_proxy(&b, s, &s->proxies[i]));
	return finish(&b, top);
}

/* --- peers ---------------------------------------------------------------- */

static json_t *
build_routing_id(const struct snapshot *s, const struct snapshot_peer *p)
{
	char text[IDTEXT_MAX];

	if (p->routing_id_len == 0)
		return json_null();
	return json_string(idtext(text, s->texts + p->routing_id, p->routing_id_len));
}

static const char *
state_of(const struct peer_view *v)
{
	if (v->draining && v->state != CONN_LINGER)
		return "draining";
	if (v->suspect && v->state == CONN_READY)
		return "suspect";
	if (v->silent && v->state == CONN_READY)
		return "silent";
	return conn_state_name((enum conn_state)v->state);
}

static json_t *
build_peer(struct building *b, const struct snapshot *s, const struct snapshot_peer *p)
{
	const struct peer_view *v = &p->view;
	json_t *object = json_object();

	put_count(b, object, "id", v->id);
	put(b, object, "proxy", build_text(s->proxies[p->proxy].name));
	put(b, object, "side", json_string(side_name(v->side)));
	put(b, object, "routing_id", build_routing_id(s, p));
	put(b, object, "address", build_text_of(s->texts + p->address, p->address_len));
	put(b, object, "direction", json_string(v->dialled ? "dialled" : "accepted"));
	put(b, object, "socket_type",
		v->was_ready ? json_string(socktype_name((enum socktype)v->socktype))
			     : json_null());
	put(b, object, "zmtp", v->was_ready ? json_sprintf("3.%u", v->zmtp_minor) : json_null());
	put(b, object, "state", json_string(state_of(v)));
	put(b, object, "poison", json_string(snapshot_poison_name((enum peer_poison)v->poison)));
	put(b, object, "reading", json_boolean(v->reading));
	put_count(b, object, "blocked_ms", (uint64_t)v->blocked_ms);
	put_count(b, object, "queued", v->queued);
	put_count(b, object, "queued_bytes", v->queued_bytes);
	put_count(b, object, "waiting", v->waiting);
	put_count(b, object, "waiting_bytes", v->waiting_bytes);
	put_count(b, object, "part_bytes", v->part_bytes);
	put_count(b, object, "outstanding", v->outstanding);
	put(b, object, "suspect", json_boolean(v->suspect));
	put(b, object, "silent", json_boolean(v->silent));
	put_count(b, object, "messages_in", v->messages_in);
	put_count(b, object, "messages_out", v->messages_out);
	put_count(b, object, "bytes_in", v->bytes_in);
	put_count(b, object, "bytes_out", v->bytes_out);
	put_count(b, object, "age_ms", (uint64_t)v->age_ms);
	put_count(b, object, "idle_ms", (uint64_t)v->idle_ms);
	return object;
}

/* Writes one peer at a time: all as objects would take ten times the memory of their text. */
char *
view_peers(const struct snapshot *s)
{
	struct building b = {true};
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		return NULL;
	fprintf(out, "{\"clock_ms\":%" PRId64 ",\"peers\":[", s->taken_ms);
	for (size_t i = 0; i < s->peer_count && b.ok; i++) {
		json_t *peer = build_peer(&b, s, &s->peers[i]);

		if (i > 0)
			fputc(',', out);
		b.ok = json_dumpf(peer, out, FORMAT) == 0 && b.ok;
		json_decref(peer);
	}
	fputs("]}", out);
	b.ok = !ferror(out) && b.ok;
	if (fclose(out) == 0 && b.ok)
		return text;
	free(text);
	return NULL;
}

/* --- history -------------------------------------------------------------- */

static void
write_column(FILE *out, const struct history *h, const struct history_proxy *p,
	enum history_column column, uint64_t from)
{
	fprintf(out, ",\"%s\":[", history_column_name(column));
	for (uint64_t n = from; n < h->count; n++)
		fprintf(out, "%s%" PRIu32, n > from ? "," : "",
			p->value[n % HISTORY_SAMPLES][column]);
	fputc(']', out);
}

static bool
write_past(FILE *out, const struct history *h, const struct history_proxy *p, uint64_t from)
{
	json_t *name = build_text(p->name);
	bool ok;

	fputs("{\"name\":", out);
	ok = json_dumpf(name, out, JSON_ENCODE_ANY) == 0;
	json_decref(name);
	for (int c = 0; c < HISTORY_COLUMN_COUNT; c++)
		write_column(out, h, p, (enum history_column)c, p->first > from ? p->first : from);
	fputc('}', out);
	return ok;
}

static void
write_times(FILE *out, const struct history *h, uint64_t from)
{
	fprintf(out, "{\"interval_ms\":%d,\"kept_ms\":%d,\"times\":[", HISTORY_MS,
		HISTORY_MS * HISTORY_SAMPLES);
	for (uint64_t n = from; n < h->count; n++)
		fprintf(out, "%s%" PRId64, n > from ? "," : "",
			h->times[n % HISTORY_SAMPLES].taken_ms);
	fputs("],\"lengths_ms\":[", out);
	for (uint64_t n = from; n < h->count; n++)
		fprintf(out, "%s%" PRIu32, n > from ? "," : "",
			h->times[n % HISTORY_SAMPLES].length_ms);
	fputs("],\"proxies\":[", out);
}

char *
view_history(const struct history *h, int64_t after_ms)
{
	uint64_t from = history_first(h);
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	bool ok = true;

	if (out == NULL)
		return NULL;
	while (from < h->count && h->times[from % HISTORY_SAMPLES].taken_ms <= after_ms)
		from++;
	write_times(out, h, from);
	for (size_t i = 0; i < h->proxy_count && ok; i++) {
		if (i > 0)
			fputc(',', out);
		ok = write_past(out, h, h->proxies[i], from);
	}
	fputs("]}", out);
	ok = !ferror(out) && ok;
	if (fclose(out) == 0 && ok)
		return text;
	free(text);
	return NULL;
}

/* --- events --------------------------------------------------------------- */

static json_t *
build_event(struct building *b, const struct recent_event *e)
{
	json_t *object = json_object();

	put_count(b, object, "number", e->number);
	put(b, object, "time", json_string(e->when));
	put(b, object, "level", json_string(log_level_name(e->level)));
	put(b, object, "event", build_text(e->event));
	put(b, object, "text", build_text(e->text));
	return object;
}

char *
view_events(void)
{
	struct building b = {true};
	struct recent_event *events = mem_try(RECENT_EVENTS * sizeof(*events));
	size_t count = events != NULL ? recent_copy(events) : 0;
	json_t *top = json_object(), *list = json_array();

	b.ok = events != NULL;
	put(&b, top, "events", list);
	for (size_t i = 0; i < count; i++)
		if (!events[i].secret)
			append(&b, list, build_event(&b, &events[i]));
	free(events);
	return finish(&b, top);
}

/* --- the rest ------------------------------------------------------------- */

char *
view_text(const char *name, const char *text, size_t len)
{
	struct building b = {true};
	json_t *top = json_object();

	put(&b, top, name, build_text_of(text, len));
	return finish(&b, top);
}
