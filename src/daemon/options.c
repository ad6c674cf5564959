/* SPDX-License-Identifier: MIT */
#include "daemon/options.h"

#include <ctype.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/words.h"
#include "daemon/config.h"

#define MS INT64_C(1)
#define SECOND (1000 * MS)
#define MONTH (SECOND * 3600 * 24 * 30)
#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define BROKER(field) offsetof(struct config_broker, field)
#define SIDE(field) offsetof(struct side_opts, field)

/* clang-format off */
/* a row that does not say so is RELOAD_AT_ONCE */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
const struct option_row option_table[] = {
	/* section, name, type, offset, min, max, zero, choices, default, help[, reload] */
	{OPTION_BROKER, "log_level", OPTION_CHOICE, BROKER(log_level), 0, 0, false,
		"error|warning|notice|info|debug", "info", "what is logged: error, warning, notice, info or debug"},
	{OPTION_BROKER, "control", OPTION_SOCKET, BROKER(control), 0, 0, false, NULL, RUNSTATEDIR "/bulkhead/control.sock",
		"Unix socket of bulkheadctl; empty: off", RELOAD_RESTART},
	{OPTION_BROKER, "http", OPTION_HTTP, BROKER(http), 0, 0, false, NULL, "",
		"tcp endpoint of the read-only HTTP port: /metrics, /healthz, /readyz; empty: off", RELOAD_RESTART},
	{OPTION_BROKER, "http_hosts", OPTION_HOSTS, BROKER(http_hosts), 0, 0, false, NULL, "",
		"names by which the HTTP port may be asked for, besides its addresses and localhost; may be repeated"},
	{OPTION_BROKER, "drain_timeout", OPTION_DURATION, BROKER(drain_timeout), MS, MONTH, true, NULL, "10s",
		"how long a stop waits for answers to what was accepted"},
	{OPTION_BROKER, "memory_limit", OPTION_SIZE, BROKER(memory_limit), MIB, GIB * 1024 * 1024, false, NULL, "1GiB",
		"all queued messages together, with their bookkeeping"},
	{OPTION_BROKER, "max_connections", OPTION_INT, BROKER(max_connections), 1, 1000000, true, NULL, "0",
		"over all sides; 0: what RLIMIT_NOFILE allows"},
	{OPTION_BROKER, "user", OPTION_USER, BROKER(user), 0, 0, false, NULL, "",
		"become this user after binding, when started as root", RELOAD_RESTART},
	{OPTION_BROKER, "group", OPTION_GROUP, BROKER(group), 0, 0, false, NULL, "",
		"become this group after binding; empty: the user's own", RELOAD_RESTART},

	{OPTION_PROXY, "mode", OPTION_LATER, 0, 0, 0, false, NULL, "queue", "queue; forwarder and streamer are not available yet", RELOAD_RESTART},

	{OPTION_SIDE, "bind", OPTION_ENDPOINT, 0, 0, 0, false, NULL, NULL, "listen here; may be repeated"},
	{OPTION_SIDE, "connect", OPTION_ENDPOINT, 0, 0, 0, false, NULL, NULL, "dial this, and again when it ends; may be repeated"},
	{OPTION_SIDE, "send_timeout", OPTION_DURATION, SIDE(send_timeout), MS, MONTH, true, NULL, "10s",
		"a message that the peer does not take for this long is cancelled; 0: never"},
	{OPTION_SIDE, "receive_timeout", OPTION_DURATION, SIDE(receive_timeout), MS, MONTH, true, NULL, "30s",
		"longest silence inside one message; 0: never"},
	{OPTION_SIDE, "receive_deadline", OPTION_DURATION, SIDE(receive_deadline), MS, MONTH, true, NULL, "5m",
		"one message from its first byte to its last; 0: never"},
	{OPTION_SIDE, "receive_hwm_bytes", OPTION_SIZE, SIDE(receive_hwm_bytes), 1, GIB, false, NULL, "1MiB",
		"read ahead from one peer while the other side has no room"},
	{OPTION_SIDE, "handshake_timeout", OPTION_DURATION, SIDE(handshake_timeout), MS, MONTH, false, NULL, "10s",
		"from accept or connect to READY, in total", RELOAD_NEXT},
	{OPTION_SIDE, "heartbeat_interval", OPTION_DURATION, SIDE(heartbeat_interval), MS, MONTH, true, NULL, "10s",
		"PING a peer (ZMTP 3.1 or later) after this much silence; 0: off"},
	{OPTION_SIDE, "heartbeat_timeout", OPTION_DURATION, SIDE(heartbeat_timeout), MS, MONTH, false, NULL, "30s",
		"no byte for this long after a PING, and its host acknowledges nothing: closed"},
	{OPTION_SIDE, "send_hwm", OPTION_INT, SIDE(send_hwm), 1, INT32_MAX, true, NULL, "0",
		"messages queued for one peer; 0: the byte limit alone"},
	{OPTION_SIDE, "send_hwm_bytes", OPTION_SIZE, SIDE(send_hwm_bytes), 1, 64 * GIB, false, NULL, "16MiB",
		"bytes queued for one peer; one message always fits"},
	{OPTION_SIDE, "when_full", OPTION_CHOICE, SIDE(when_full), 0, 0, false, "drop|pause|close", "drop",
		"a reply to a client whose queue is full: drop it, pause the client's requests, or close the client"},
	{OPTION_SIDE, "max_message_size", OPTION_SIZE, SIDE(max_message_size), 1, GIB, false, NULL, "64MiB",
		"all frames of one message together"},
	{OPTION_SIDE, "max_message_parts", OPTION_INT, SIDE(max_message_parts), 1, 1000000, false, NULL, "1024",
		"frames of one message"},
	{OPTION_SIDE, "max_connections", OPTION_INT, SIDE(max_connections), 1, 1000000, true, NULL, "0",
		"of this side; 0: no limit of its own"},
	{OPTION_SIDE, "reconnect_min", OPTION_DURATION, SIDE(reconnect_min), MS, MONTH, false, NULL, "100ms",
		"first delay before dialling again; doubled with each failure"},
	{OPTION_SIDE, "reconnect_max", OPTION_DURATION, SIDE(reconnect_max), MS, MONTH, false, NULL, "30s",
		"longest delay before dialling again"},
	{OPTION_SIDE, "reconnect_jitter", OPTION_INT, SIDE(reconnect_jitter), 1, 100, true, NULL, "25",
		"percent by which the delay varies, both ways"},
	{OPTION_SIDE, "connect_timeout", OPTION_DURATION, SIDE(connect_timeout), MS, MONTH, false, NULL, "5s",
		"one attempt to connect to one address", RELOAD_NEXT},
	{OPTION_SIDE, "duplicate_routing_id", OPTION_CHOICE, SIDE(duplicate_routing_id), 0, 0, false, "reject|takeover",
		"takeover", "a second client with the same id: reject it, or let it take over"},
	{OPTION_SIDE, "routing_id", OPTION_ROUTING_ID, 0, 0, 0, false, NULL, "", "the Identity that Bulkhead presents", RELOAD_NEXT},
	{OPTION_SIDE, "tcp_keepalive", OPTION_BOOL, SIDE(tcp_keepalive), 0, 0, false, NULL, "yes", "SO_KEEPALIVE: yes or no", RELOAD_NEXT},
	{OPTION_SIDE, "tcp_keepalive_idle", OPTION_DURATION, SIDE(tcp_keepalive_idle), SECOND, 32767 * SECOND, false, NULL, "1m",
		"TCP_KEEPIDLE: silence before the first probe, in whole seconds", RELOAD_NEXT},
	{OPTION_SIDE, "tcp_keepalive_interval", OPTION_DURATION, SIDE(tcp_keepalive_interval), SECOND, 32767 * SECOND, false,
		NULL, "10s", "TCP_KEEPINTVL: between probes, in whole seconds", RELOAD_NEXT},
	{OPTION_SIDE, "tcp_keepalive_count", OPTION_INT, SIDE(tcp_keepalive_count), 1, 127, false, NULL, "5",
		"TCP_KEEPCNT: unanswered probes before the connection is dead", RELOAD_NEXT},
	{OPTION_SIDE, "send_buffer", OPTION_SIZE, SIDE(send_buffer), 1, GIB, true, NULL, "0", "SO_SNDBUF; 0: the kernel's", RELOAD_RESTART},
	{OPTION_SIDE, "receive_buffer", OPTION_SIZE, SIDE(receive_buffer), 1, GIB, true, NULL, "0", "SO_RCVBUF; 0: the kernel's", RELOAD_RESTART},
	{OPTION_SIDE, "backlog", OPTION_INT, SIDE(backlog), 1, 65535, false, NULL, "1024", "listen(2)"},
	{OPTION_SIDE, "ipc_mode", OPTION_OCTAL, SIDE(ipc_mode), 0, 0777, false, NULL, "0660", "permission of an ipc:// socket, octal"},
	{OPTION_SIDE, "mechanism", OPTION_LATER, 0, 0, 0, false, NULL, "null", "null; plain and curve are not available yet"},
	{OPTION_SIDE, "plain_file", OPTION_LATER, 0, 0, 0, false, NULL, "", "not available yet"},
	{OPTION_SIDE, "curve_secret_key_file", OPTION_LATER, 0, 0, 0, false, NULL, "", "not available yet"},
	{OPTION_SIDE, "curve_authorized_keys_file", OPTION_LATER, 0, 0, 0, false, NULL, "", "not available yet"},
	{OPTION_SIDE, "curve_server_key", OPTION_LATER, 0, 0, 0, false, NULL, "", "not available yet"},
	{OPTION_SIDE, "allow", OPTION_LATER, 0, 0, 0, false, NULL, "", "not available yet"},
	{OPTION_SIDE, "deny", OPTION_LATER, 0, 0, 0, false, NULL, "", "not available yet"},

	{OPTION_BACKEND, "balance", OPTION_CHOICE, SIDE(balance), 0, 0, false, "round_robin|least_outstanding", "least_outstanding",
		"which ready worker gets a request: the one with the fewest unanswered ones, or each in turn"},
	{OPTION_BACKEND, "replies", OPTION_BOOL, SIDE(replies), 0, 0, false, NULL, "yes",
		"no: one-way traffic, a request is done with once it is sent"},
	{OPTION_BACKEND, "max_outstanding", OPTION_INT, SIDE(max_outstanding), 1, INT32_MAX, true, NULL, "0",
		"unanswered requests one worker may hold; 0: no limit"},
	{OPTION_BACKEND, "redeliver", OPTION_BOOL, SIDE(redeliver), 0, 0, false, NULL, "no",
		"keep each request until its reply passed, and send it to another worker when its worker is gone"},
	{OPTION_BACKEND, "answer_timeout", OPTION_DURATION, SIDE(answer_timeout), MS, MONTH, true, NULL, "0",
		"a worker that holds a request for longer gets no more until it answers; 0: never"},
	{OPTION_BACKEND, "silent_after", OPTION_DURATION, SIDE(silent_after), MS, MONTH, true, NULL, "5s",
		"a worker that holds requests and sends nothing for longer is shown as silent; 0: never"},
	{OPTION_BACKEND, "redeliver_limit", OPTION_INT, SIDE(redeliver_limit), 1, 1000, false, NULL, "3",
		"deliveries of one request; then it is dropped"},
};
/* clang-format on */
#pragma GCC diagnostic pop

const size_t option_count = sizeof(option_table) / sizeof(option_table[0]);

static const struct unit {
	const char *name;
	int64_t factor;
} durations[] = {{"h", 3600 * SECOND}, {"m", 60 * SECOND}, {"s", SECOND}, {"ms", MS}, {NULL, 0}},
  sizes[] = {{"GiB", GIB}, {"MiB", MIB}, {"KiB", KIB}, {"", 1}, {NULL, 0}};

const struct option_row *
option_find(enum option_section section, const char *name)
{
	for (size_t i = 0; i < option_count; i++)
		if (option_table[i].section == section && strcmp(option_table[i].name, name) == 0)
			return &option_table[i];
	return NULL;
}

/* --- reading -------------------------------------------------------------- */

const char *
option_quote(char out[OPTION_SHOWN_MAX], const char *text)
{
	size_t len;

	log_quote(out + 1, OPTION_SHOWN_MAX - 2, text, strlen(text));
	if (out[1] == '"')
		return out + 1;
	len = 1 + strlen(out + 1);
	out[0] = out[len] = '"';
	out[len + 1] = '\0';
	return out;
}

/* A number and its unit; 0 needs none. INT64_MAX when it is larger. False for anything else. */
static bool
parse_number(const char *text, const struct unit *units, int64_t *out)
{
	int64_t value = 0;
	const char *p = text;

	if (!isdigit((unsigned char)*p))
		return false;
	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, *p - '0', &value))
			value = INT64_MAX;
	if (value == 0 && *p == '\0') {
		*out = 0;
		return true;
	}
	for (; units->name != NULL; units++) {
		if (strcasecmp(p, units->name) == 0) {
			if (__builtin_mul_overflow(value, units->factor, out))
				*out = INT64_MAX;
			return true;
		}
	}
	return false;
}

static const char *
print_number(int64_t value, const struct unit *units, char *out, size_t size)
{
	if (value == 0) {
		snprintf(out, size, "0");
		return out;
	}
	while (units[1].name != NULL && value % units->factor != 0)
		units++;
	snprintf(out, size, "%" PRId64 "%s", value / units->factor, units->name);
	return out;
}

static const struct unit plain_unit[] = {{"", 1}, {NULL, 0}};

static const struct unit *
units_of(enum option_type type)
{
	if (type == OPTION_DURATION)
		return durations;
	return type == OPTION_SIZE ? sizes : plain_unit;
}

static bool
set_number(const struct option_row *row, int64_t *to, const char *text, char *error, size_t size)
{
	const struct unit *units = units_of(row->type);
	char least[32], most[32];
	int64_t value;

	if (!parse_number(text, units, &value)) {
		snprintf(error, size, "%s is not %s", OPTION_QUOTED(text),
			row->type == OPTION_DURATION       ? "a duration (500ms, 5s, 2m, 1h)"
				: row->type == OPTION_SIZE ? "a size (4096, 64KiB, 16MiB, 1GiB)"
							   : "a whole number");
		return false;
	}
	if ((value < row->min || value > row->max) && !(row->zero && value == 0)) {
		snprintf(error, size, "%s is out of range: %s%s to %s", OPTION_SHOWN(text),
			row->zero ? "0, or " : "",
			print_number(row->min, units, least, sizeof(least)),
			print_number(row->max, units, most, sizeof(most)));
		return false;
	}
	*to = value;
	return true;
}

static bool
set_octal(const struct option_row *row, int64_t *to, const char *text, char *error, size_t size)
{
	char *end;
	long value = strtol(text, &end, 8);

	if (!isdigit((unsigned char)text[0]) || *end != '\0' || value > row->max) {
		snprintf(error, size, "%s is not an octal permission (0000 to 0777)",
			OPTION_QUOTED(text));
		return false;
	}
	*to = value;
	return true;
}

static bool
set_bool(bool *to, const char *text, char *error, size_t size)
{
	static const char *const words[] = {"no", "yes", "off", "on", "false", "true", "0", "1"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcasecmp(text, words[i]) == 0) {
			*to = i % 2 == 1;
			return true;
		}
	}
	snprintf(error, size, "%s is neither yes nor no", OPTION_QUOTED(text));
	return false;
}

/* The length of the first choice in a "a|b|c" list. */
static size_t
choice_len(const char *choices)
{
	return strcspn(choices, "|");
}

static bool
set_choice(const struct option_row *row, int64_t *to, const char *text, char *error, size_t size)
{
	const char *p = row->choices;

	for (int64_t i = 0;; i++) {
		size_t len = choice_len(p);
		if (strlen(text) == len && strncasecmp(p, text, len) == 0) {
			*to = i;
			return true;
		}
		if (p[len] == '\0')
			break;
		p += len + 1;
	}
	snprintf(error, size, "%s is not one of %s", OPTION_QUOTED(text), row->choices);
	return false;
}

static bool
set_account(const struct option_row *row, char *to, const char *text, char *error, size_t size)
{
	bool exists = text[0] == '\0' || /* nobody: nothing to look up */
		(row->type == OPTION_USER ? getpwnam(text) != NULL : getgrnam(text) != NULL);

	if (strlen(text) > 63 || !exists) {
		snprintf(error, size, "there is no %s %s", row->name, OPTION_QUOTED(text));
		return false;
	}
	snprintf(to, 64, "%s", text);
	return true;
}

static bool
set_socket(char *to, const char *text, char *error, size_t size)
{
	if (text[0] != '\0' && text[0] != '/') {
		snprintf(error, size, "%s is not an absolute path", OPTION_QUOTED(text));
		return false;
	}
	if (strlen(text) > 107) {
		snprintf(error, size, "the path of a socket has at most 107 bytes");
		return false;
	}
	snprintf(to, 108, "%s", text);
	return true;
}

/* Adds to what earlier lines named. */
static bool
set_hosts(char *to, const char *text, char *error, size_t size)
{
	size_t n = strlen(to);

	if (text[0] == '\0')
		to[0] = '\0';
	for (const char *p = text + strspn(text, " \t"); *p != '\0'; p += strspn(p, " \t")) {
		size_t len = strcspn(p, " \t");
		size_t plain = strspn(
			p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

		if (plain < len) {
			snprintf(error, size, "%s is not the name of a host (without a port)",
				OPTION_QUOTED(text));
			return false;
		}
		if (n + len + 2 > OPTION_HOSTS_MAX) {
			snprintf(error, size, "these are more than %d bytes of names",
				OPTION_HOSTS_MAX);
			return false;
		}
		n += (size_t)snprintf(
			to + n, OPTION_HOSTS_MAX - n, "%s%.*s", n > 0 ? " " : "", (int)len, p);
		p += len;
	}
	return true;
}

/*
 * A port, with a host or without, alone or as a browser has it: as an endpoint, where it makes one.
 */
static bool
guess_http(struct endpoint *to, const char *text)
{
	char guess[ENDPOINT_TEXT_MAX];

	if (strncasecmp(text, "http://", 7) == 0)
		text += 7;
	snprintf(guess, sizeof(guess), "tcp://%s%.*s",
		strchr(text, ':') == NULL ? "127.0.0.1:"
			: text[0] == ':'  ? "127.0.0.1"
					  : "",
		(int)strcspn(text, "/"), text);
	return endpoint_parse(to, guess, true) == NULL;
}

static bool
set_http(struct endpoint *to, const char *text, char *error, size_t size)
{
	static const char example[] = "tcp://127.0.0.1:9464";
	const char *wrong = text[0] != '\0' ? endpoint_parse(to, text, true) : NULL;
	bool is_tcp = strncasecmp(text, "tcp://", 6) == 0;
	struct endpoint guess;

	if (wrong == NULL && text[0] != '\0' && to->kind != ENDPOINT_TCP)
		wrong = "it is for TCP";
	if (wrong != NULL && is_tcp)
		snprintf(error, size, "%s: %s", OPTION_QUOTED(text), wrong);
	else if (wrong != NULL)
		snprintf(error, size, "%s: it must be tcp://HOST:PORT; write http = %s",
			OPTION_QUOTED(text), guess_http(&guess, text) ? guess.text : example);
	if (wrong != NULL || text[0] == '\0')
		*to = (struct endpoint){0};
	return wrong == NULL;
}

static bool
set_routing_id(struct side_opts *o, const char *text, char *error, size_t size)
{
	size_t len = strlen(text);

	if (len > 255) {
		snprintf(error, size, "a routing id has at most 255 bytes");
		return false;
	}
	memcpy(o->routing_id, text, len + 1);
	o->routing_id_len = (uint8_t)len;
	return true;
}

bool
option_set(const struct option_row *row, void *base, const char *text, char *error, size_t size)
{
	char *at = (char *)base + row->offset;

	switch (row->type) {
	case OPTION_DURATION:
	case OPTION_SIZE:
	case OPTION_INT:
		return set_number(row, (int64_t *)(void *)at, text, error, size);
	case OPTION_OCTAL:
		return set_octal(row, (int64_t *)(void *)at, text, error, size);
	case OPTION_BOOL:
		return set_bool((bool *)at, text, error, size);
	case OPTION_CHOICE:
		return set_choice(row, (int64_t *)(void *)at, text, error, size);
	case OPTION_USER:
	case OPTION_GROUP:
		return set_account(row, at, text, error, size);
	case OPTION_SOCKET:
		return set_socket(at, text, error, size);
	case OPTION_HOSTS:
		return set_hosts(at, text, error, size);
	case OPTION_HTTP:
		return set_http((struct endpoint *)(void *)at, text, error, size);
	case OPTION_ROUTING_ID:
		return set_routing_id(base, text, error, size);
	case OPTION_LATER:
		if (strcmp(text, row->text) == 0)
			return true;
		if (row->text[0] != '\0')
			snprintf(error, size, "%s is not available yet", OPTION_QUOTED(text));
		else
			snprintf(error, size, "not available yet");
		return false;
	case OPTION_ENDPOINT:
		break;
	}
	return true;
}

static size_t
size_of(enum option_type type)
{
	switch (type) {
	case OPTION_DURATION:
	case OPTION_SIZE:
	case OPTION_INT:
	case OPTION_OCTAL:
	case OPTION_CHOICE:
		return sizeof(int64_t);
	case OPTION_BOOL:
		return sizeof(bool);
	case OPTION_USER:
	case OPTION_GROUP:
		return sizeof(((struct config_broker *)NULL)->user);
	case OPTION_SOCKET:
		return sizeof(((struct config_broker *)NULL)->control);
	case OPTION_HOSTS:
		return OPTION_HOSTS_MAX;
	case OPTION_HTTP:
		return sizeof(struct endpoint);
	case OPTION_ROUTING_ID:
	case OPTION_ENDPOINT:
	case OPTION_LATER:
		break;
	}
	return 0;
}

void
option_copy(const struct option_row *row, void *to, const void *from)
{
	if (row->type == OPTION_ROUTING_ID) {
		const struct side_opts *f = from;
		struct side_opts *t = to;

		memcpy(t->routing_id, f->routing_id, sizeof(t->routing_id));
		t->routing_id_len = f->routing_id_len;
		return;
	}
	memcpy((char *)to + row->offset, (const char *)from + row->offset, size_of(row->type));
}

void
option_set_defaults(enum option_section section, void *base)
{
	char error[128];

	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		if (row->section == section && row->text != NULL &&
			!option_set(row, base, row->text, error, sizeof(error)))
			abort(); /* a default that is not valid is a bug in the table */
	}
}

/* --- writing -------------------------------------------------------------- */

const char *
option_text(const struct option_row *row, const void *base, char *out, size_t size)
{
	const char *at = (const char *)base + row->offset;
	const char *p = row->choices;
	int64_t value = 0;

	out[0] = '\0';
	switch (row->type) {
	case OPTION_DURATION:
	case OPTION_SIZE:
	case OPTION_INT:
		memcpy(&value, at, sizeof(value));
		return print_number(value, units_of(row->type), out, size);
	case OPTION_OCTAL:
		memcpy(&value, at, sizeof(value));
		snprintf(out, size, "%04" PRIo64, (uint64_t)value);
		break;
	case OPTION_BOOL:
		snprintf(out, size, "%s", *(const bool *)at ? "yes" : "no");
		break;
	case OPTION_CHOICE:
		memcpy(&value, at, sizeof(value));
		while (value-- > 0)
			p += choice_len(p) + 1;
		snprintf(out, size, "%.*s", (int)choice_len(p), p);
		break;
	case OPTION_USER:
	case OPTION_GROUP:
	case OPTION_SOCKET:
	case OPTION_HOSTS:
		snprintf(out, size, "%s", at);
		break;
	case OPTION_HTTP:
		snprintf(out, size, "%s", ((const struct endpoint *)(const void *)at)->text);
		break;
	case OPTION_ROUTING_ID:
		snprintf(out, size, "%s", ((const struct side_opts *)base)->routing_id);
		break;
	case OPTION_ENDPOINT:
	case OPTION_LATER:
		break;
	}
	return out;
}

/* --- did you mean --------------------------------------------------------- */

const char *
option_nearest(enum option_section section, const char *name)
{
	const char *best = NULL;
	unsigned least = (unsigned)strlen(name) / 3 + 2;

	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		unsigned d = word_distance(name, row->name);
		if (row->section == section && d < least) {
			least = d;
			best = row->name;
		}
	}
	return best;
}
