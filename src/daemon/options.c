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
#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

static const struct unit {
	const char *name;
	int64_t factor;
} durations[] = {{"h", 3600 * SECOND}, {"m", 60 * SECOND}, {"s", SECOND}, {"ms", MS}, {NULL, 0}},
  sizes[] = {{"GiB", GIB}, {"MiB", MIB}, {"KiB", KIB}, {"", 1}, {NULL, 0}};

const struct option_row *
option_find(enum section_kind section, const char *name)
{
	for (size_t i = 0; i < option_count; i++)
		if ((option_table[i].sections & section) != 0 &&
			strcmp(option_table[i].name, name) == 0)
			return &option_table[i];
	return NULL;
}

unsigned
option_sections(const char *name)
{
	unsigned sections = 0;

	for (size_t i = 0; i < option_count; i++)
		if (strcmp(option_table[i].name, name) == 0)
			sections |= option_table[i].sections;
	return sections;
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

/* Parse a number and its unit; 0 needs none. A larger number than fits is INT64_MAX. */
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
	if ((value < row->min || value > row->max) && !(row->or_zero && value == 0)) {
		snprintf(error, size, "%s is out of range: %s%s to %s", OPTION_SHOWN(text),
			row->or_zero ? "0, or " : "",
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

/* The length of the first choice in a list "a|b|c". */
static size_t
choice_len(const char *choices)
{
	return strcspn(choices, "|");
}

static bool
set_choice(const struct option_row *row, int64_t *to, const char *text, char *error, size_t size)
{
	const char *p = row->choices;

	for (unsigned i = 0;; i++) {
		size_t len = choice_len(p);

		if (strlen(text) == len && strncasecmp(p, text, len) == 0) {
			*to = i;
			if (row->available == 0 || i < row->available)
				return true;
			snprintf(error, size, "%s is not available yet", OPTION_QUOTED(text));
			return false;
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
	bool exists = text[0] == '\0' || /* none: nothing to look up */
		(row->type == OPTION_USER ? getpwnam(text) != NULL : getgrnam(text) != NULL);

	if (strlen(text) > 63 || !exists) {
		snprintf(error, size, "%s does not exist", OPTION_QUOTED(text));
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
		snprintf(error, size, "path too long: at most 107 bytes");
		return false;
	}
	snprintf(to, 108, "%s", text);
	return true;
}

/* Adds to the names of earlier lines; an empty value clears them. */
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
			snprintf(error, size, "too many names: at most %d bytes together",
				OPTION_HOSTS_MAX);
			return false;
		}
		n += (size_t)snprintf(
			to + n, OPTION_HOSTS_MAX - n, "%s%.*s", n > 0 ? " " : "", (int)len, p);
		p += len;
	}
	return true;
}

/* Guess the endpoint that was meant by a port, a host and a port, or the URL of a page. */
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
		wrong = "not a tcp endpoint";
	if (wrong != NULL && is_tcp)
		snprintf(error, size, "%s: %s", OPTION_QUOTED(text), wrong);
	else if (wrong != NULL)
		snprintf(error, size, "%s is not of the form tcp://HOST:PORT; write http = %s",
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
		snprintf(error, size, "too long: at most 255 bytes");
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
		return set_routing_id(&((struct proxy_opts *)base)->side, text, error, size);
	case OPTION_LATER:
		if (strcmp(text, row->initial) == 0)
			return true;
		if (row->initial[0] != '\0')
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
		const struct side_opts *f = &((const struct proxy_opts *)from)->side;
		struct side_opts *t = &((struct proxy_opts *)to)->side;

		memcpy(t->routing_id, f->routing_id, sizeof(t->routing_id));
		t->routing_id_len = f->routing_id_len;
		return;
	}
	memcpy((char *)to + row->offset, (const char *)from + row->offset, size_of(row->type));
}

void
option_set_defaults(enum section_kind section, void *base)
{
	char error[128];

	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		if ((row->sections & section) != 0 && row->initial != NULL &&
			!option_set(row, base, row->initial, error, sizeof(error)))
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
		snprintf(out, size, "%s", ((const struct proxy_opts *)base)->side.routing_id);
		break;
	case OPTION_ENDPOINT:
	case OPTION_LATER:
		break;
	}
	return out;
}

/* --- did you mean --------------------------------------------------------- */

const char *
option_nearest(enum section_kind section, const char *name)
{
	enum { LONGEST = 40 }; /* word_distance compares no longer words */
	const char *best = NULL;
	size_t len = strlen(name);
	unsigned least = len <= LONGEST ? (unsigned)len / 3 + 2 : 0;

	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		unsigned d =
			(row->sections & section) != 0 ? word_distance(name, row->name) : least;

		if (d < least) {
			least = d;
			best = row->name;
		}
	}
	return best;
}
