#include "admin/view.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/recent.h"
#include "net/conn.h"
#include "zmtp/socktype.h"

/*
 * jansson's *_set_new and *_append_new fail on a NULL value and without memory; what could not
 * be added is missed at the end of building, by `ok`.
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
	char *text = b->ok ? json_dumps(value, JSON_COMPACT) : NULL;

	json_decref(value);
	return text;
}

static double
seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

/* --- counters ------------------------------------------------------------------ */

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
build_states(struct building *b, const struct snapshot_side *side)
{
	json_t *object = json_object();

	for (int i = 0; i < CONN_CLOSED; i++)
		put_count(b, object, conn_state_name((enum conn_state)i), side->in_state[i]);
	return object;
}

static json_t *
build_side(struct building *b, const struct snapshot_side *side)
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
	put_count(&b, top, "memory_bytes", s->memory_bytes);
	put_count(&b, top, "turns", s->turns);
	put(&b, top, "loop_lag_seconds", build_histogram(&b, &s->lag));
	put(&b, top, "proxies", proxies);
	for (size_t i = 0; i < s->proxy_count; i++) {
		json_t *proxy = json_object();

		put(&b, proxy, "name", json_string(s->proxies[i].name));
		put(&b, proxy, "answer_seconds", build_histogram(&b, &s->proxies[i].answers));
		for (int side = 0; side < PROXY_SIDES; side++)
			put(&b, proxy, snapshot_side_name(side),
				build_side(&b, &s->proxies[i].side[side]));
		append(&b, proxies, proxy);
	}
	return finish(&b, top);
}

/* --- status ---------------------------------------------------------------------- */

static json_t *
build_endpoints(struct building *b, const struct snapshot *s, const char *proxy)
{
	json_t *list = json_array();

	for (size_t i = 0; i < s->endpoint_count; i++) {
		const struct snapshot_endpoint *e = &s->endpoints[i];

		if (strcmp(e->proxy, proxy) == 0)
			append(b, list,
				json_pack("{s:s, s:s, s:s, s:s, s:I}", "side", e->side, "kind",
					e->bound ? "bind" : "connect", "endpoint", e->text, "state",
					e->state, "wait_ms", (json_int_t)e->wait_ms));
	}
	return list;
}

static json_t *
build_proxy(struct building *b, const struct snapshot *s, const struct snapshot_proxy *p)
{
	json_t *object = json_object();

	put(b, object, "name", json_string(p->name));
	put(b, object, "state",
		json_string(p->draining ? "draining" : p->paused ? "paused" : "running"));
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
		put(b, object, snapshot_side_name(i), side);
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
		append(b, list, json_string(line));
	return list;
}

char *
view_status(const struct snapshot *s, int64_t started_ms)
{
	struct building b = {true};
	json_t *top = json_object(), *proxies = json_array();
	char *text = NULL;
	size_t len;
	FILE *why = mem_must(open_memstream(&text, &len));
	bool ready = snapshot_is_ready(s, why);

	fclose(why);
	put(&b, top, "version", json_string(PACKAGE_VERSION));
	put_count(&b, top, "pid", (uint64_t)getpid());
	put(&b, top, "state", json_string(s->state));
	put(&b, top, "ready", json_boolean(ready));
	put(&b, top, "not_ready", build_lines(&b, text));
	free(text);
	put(&b, top, "uptime_seconds", json_real((double)(clock_now_ms() - started_ms) / 1000));
	put(&b, top, "log_level", json_string(log_level_name(log_get_level())));
	put_count(&b, top, "connections", s->connections);
	put_count(&b, top, "max_connections", s->max_connections);
	put_count(&b, top, "memory_bytes", s->memory_bytes);
	put_count(&b, top, "memory_limit", s->memory_limit);
	put_count(&b, top, "last_event", recent_last());
	put(&b, top, "proxies", proxies);
	for (size_t i = 0; i < s->proxy_count; i++)
		append(&b, proxies, build_proxy(&b, s, &s->proxies[i]));
	return finish(&b, top);
}

/* --- peers ------------------------------------------------------------------------- */

/* Binary as it is: in hexadecimal, as in the log. */
static json_t *
build_routing_id(const struct snapshot *s, const struct snapshot_peer *p)
{
	static const char hex[] = "0123456789abcdef";
	char text[2 * 256 + 1];
	size_t n = 0;

	if (p->routing_id_len == 0)
		return json_null();
	for (size_t i = 0; i < p->routing_id_len && i < 256; i++) {
		unsigned char c = (unsigned char)s->texts[p->routing_id + i];
		text[n++] = hex[c >> 4];
		text[n++] = hex[c & 15];
	}
	text[n] = '\0';
	return json_string(text);
}

static const char *
state_of(const struct snapshot_peer *p)
{
	if (p->leaving && p->state != CONN_LINGER)
		return "draining";
	if (p->suspect && p->state == CONN_READY)
		return "suspect";
	return conn_state_name((enum conn_state)p->state);
}

static json_t *
build_peer(struct building *b, const struct snapshot *s, const struct snapshot_peer *p)
{
	json_t *object = json_object();

	put_count(b, object, "id", p->id);
	put(b, object, "proxy", json_string(s->proxies[p->proxy].name));
	put(b, object, "side", json_string(snapshot_side_name(p->side)));
	put(b, object, "routing_id", build_routing_id(s, p));
	put(b, object, "address", json_stringn(s->texts + p->address, p->address_len));
	put(b, object, "direction", json_string(p->dialled ? "dialled" : "accepted"));
	put(b, object, "socket_type",
		p->was_ready ? json_string(socktype_name((enum socktype)p->socktype)) : json_null());
	put(b, object, "zmtp", p->was_ready ? json_sprintf("3.%u", p->zmtp_minor) : json_null());
	put(b, object, "state", json_string(state_of(p)));
	put(b, object, "poison", json_string(p->poison));
	put(b, object, "reading", json_boolean(p->reading));
	put_count(b, object, "blocked_ms", (uint64_t)p->blocked_ms);
	put_count(b, object, "queued", p->queued);
	put_count(b, object, "queued_bytes", p->queued_bytes);
	put_count(b, object, "waiting", p->waiting);
	put_count(b, object, "waiting_bytes", p->waiting_bytes);
	put_count(b, object, "part_bytes", p->part_bytes);
	put_count(b, object, "outstanding", p->outstanding);
	put(b, object, "suspect", json_boolean(p->suspect));
	put_count(b, object, "messages_in", p->messages_in);
	put_count(b, object, "messages_out", p->messages_out);
	put_count(b, object, "bytes_in", p->bytes_in);
	put_count(b, object, "bytes_out", p->bytes_out);
	put_count(b, object, "age_ms", (uint64_t)p->age_ms);
	put_count(b, object, "idle_ms", (uint64_t)p->idle_ms);
	return object;
}

char *
view_peers(const struct snapshot *s)
{
	struct building b = {true};
	json_t *top = json_object(), *list = json_array();

	put_count(&b, top, "clock_ms", (uint64_t)s->taken_ms);
	put(&b, top, "peers", list);
	for (size_t i = 0; i < s->peer_count; i++)
		append(&b, list, build_peer(&b, s, &s->peers[i]));
	return finish(&b, top);
}

/* --- events ------------------------------------------------------------------------- */

/* What is not UTF-8 cannot be shown as it is. */
static json_t *
build_text(const char *text)
{
	json_t *value = json_string(text);

	return value != NULL ? value : json_string("(not UTF-8)");
}

static bool
tells_configuration(const struct recent_event *e)
{
	return strcmp(e->event, "reload_change") == 0 || strcmp(e->event, "config_error") == 0;
}

static json_t *
build_event(struct building *b, const struct recent_event *e)
{
	json_t *object = json_object();

	put_count(b, object, "number", e->number);
	put(b, object, "time", json_string(e->when));
	put(b, object, "level", json_string(log_level_name(e->level)));
	put(b, object, "event", json_string(e->event));
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
		if (!tells_configuration(&events[i]))
			append(&b, list, build_event(&b, &events[i]));
	free(events);
	return finish(&b, top);
}

/* --- the rest -------------------------------------------------------------------------- */

char *
view_text(const char *name, const char *text)
{
	struct building b = {true};
	json_t *top = json_object();

	put(&b, top, name, build_text(text));
	return finish(&b, top);
}
