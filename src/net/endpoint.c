/* SPDX-License-Identifier: MIT */
#include "net/endpoint.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

/* PORT: a number from 1 to 65535, or * when binding. NULL, or what is wrong. */
static const char *
parse_port(struct endpoint *out, const char *text, bool binding)
{
	char *end;
	long port;

	if (strcmp(text, "*") == 0) {
		if (!binding)
			return "port * is for bind only";
		out->any_port = true;
		return NULL;
	}
	if (text[0] < '0' || text[0] > '9')
		return "port must be a number from 1 to 65535";
	port = strtol(text, &end, 10);
	if (*end != '\0' || port < 1 || port > 65535)
		return "port must be a number from 1 to 65535";
	out->port = (uint16_t)port;
	return NULL;
}

static bool
is_host_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		c == '.' || c == '-' || c == '_';
}

static const char *
check_host(const struct endpoint *e, bool binding)
{
	struct in6_addr in6;
	struct in_addr in;
	char plain[ENDPOINT_HOST_MAX + 1];

	if (e->any_host)
		return binding ? NULL : "host * is for bind only";
	if (e->bracketed) {
		snprintf(plain, sizeof(plain), "%.*s", (int)strcspn(e->host, "%"), e->host);
		return inet_pton(AF_INET6, plain, &in6) == 1 ? NULL : "not an IPv6 address";
	}
	for (const char *p = e->host; *p != '\0'; p++)
		if (!is_host_char(*p))
			return strchr(e->host, ':') != NULL
				? "an IPv6 address needs brackets: tcp://[::1]:5555"
				: "bad character in the host";
	if (strspn(e->host, "0123456789.") == strlen(e->host) &&
		inet_pton(AF_INET, e->host, &in) != 1)
		return "not an IPv4 address";
	return NULL;
}

/* Splits HOST:PORT at the last colon; HOST may stand in brackets. */
static const char *
parse_tcp(struct endpoint *out, const char *rest, bool binding)
{
	const char *colon = strrchr(rest, ':'), *host = rest, *wrong;
	size_t len;

	if (colon == NULL || (rest[0] == '[' && colon < strchr(rest, ']')))
		return "port is missing";
	len = (size_t)(colon - rest);
	if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
		out->bracketed = true;
		host++;
		len -= 2;
	}
	if (len == 0)
		return "host is missing";
	if (len > ENDPOINT_HOST_MAX)
		return "host is too long";
	memcpy(out->host, host, len);
	out->host[len] = '\0';
	out->any_host = !out->bracketed && strcmp(out->host, "*") == 0;
	wrong = check_host(out, binding);
	if (wrong == NULL)
		wrong = parse_port(out, colon + 1, binding);
	if (wrong != NULL)
		return wrong;
	if (out->any_port)
		snprintf(out->text, sizeof(out->text), "tcp://%s%s%s:*", out->bracketed ? "[" : "",
			out->host, out->bracketed ? "]" : "");
	else
		snprintf(out->text, sizeof(out->text), "tcp://%s%s%s:%u", out->bracketed ? "[" : "",
			out->host, out->bracketed ? "]" : "", out->port);
	return NULL;
}

static const char *
parse_ipc(struct endpoint *out, const char *rest)
{
	size_t room = sizeof(((struct sockaddr_un *)0)->sun_path) - 1, len;

	if (rest[0] == '@') {
		out->kind = ENDPOINT_ABSTRACT;
		rest++;
	} else {
		out->kind = ENDPOINT_IPC;
		if (rest[0] != '/')
			return "ipc needs an absolute path (ipc:///run/x.sock) or ipc://@name";
	}
	len = strlen(rest);
	if (len == 0)
		return "name is missing";
	if (len > room - (out->kind == ENDPOINT_ABSTRACT ? 1 : 0))
		return "path is too long for a Unix socket (107 bytes)";
	memcpy(out->host, rest, len + 1);
	snprintf(out->text, sizeof(out->text), "ipc://%s%s",
		out->kind == ENDPOINT_ABSTRACT ? "@" : "", out->host);
	return NULL;
}

static const char *
parse_fd(struct endpoint *out, const char *rest, bool binding)
{
	out->kind = ENDPOINT_FD;
	if (!binding)
		return "fd:// is for bind only";
	if (rest[0] == '\0' || strlen(rest) > ENDPOINT_HOST_MAX)
		return "name is missing or too long";
	snprintf(out->host, sizeof(out->host), "%s", rest);
	snprintf(out->text, sizeof(out->text), "fd://%s", out->host);
	return NULL;
}

/*
 * Is it a valid endpoint that is followed by a comma or a blank and more, or text with a second
 * "://"?
 */
static bool
is_several(const char *text, bool binding)
{
	static const char between[] = ", \t;";
	size_t len = strcspn(text, between);
	char first[ENDPOINT_TEXT_MAX];
	struct endpoint e;

	if (text[len + strspn(text + len, between)] == '\0')
		return false;
	if (strstr(text + len, "://") != NULL)
		return true;
	if (strncasecmp(text, "tcp://", 6) != 0 || len >= sizeof(first))
		return false;
	memcpy(first, text, len);
	first[len] = '\0';
	memset(&e, 0, sizeof(e));
	return parse_tcp(&e, first + 6, binding) == NULL;
}

const char *
endpoint_parse(struct endpoint *out, const char *text, bool binding)
{
	memset(out, 0, sizeof(*out));
	if (is_several(text, binding))
		return "these are several endpoints; one line takes one, and bind and connect may "
		       "be repeated";
	if (strncasecmp(text, "tcp://", 6) == 0)
		return parse_tcp(out, text + 6, binding);
	if (strncasecmp(text, "ipc://", 6) == 0)
		return parse_ipc(out, text + 6);
	if (strncasecmp(text, "fd://", 5) == 0)
		return parse_fd(out, text + 5, binding);
	return "an endpoint begins with tcp://, ipc:// or fd://, as in tcp://127.0.0.1:5555";
}

/* An address in numbers as IPv6, the other family mapped; false for a name. */
static bool
numeric_address(struct in6_addr *out, uint32_t *scope, const struct endpoint *e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *list;
	struct sockaddr_in6 in6;
	struct sockaddr_in in;

	memset(out, 0, sizeof(*out));
	*scope = 0;
	if (e->any_host)
		return true;
	if (getaddrinfo(e->host, NULL, &hints, &list) != 0)
		return false;
	if (list->ai_family == AF_INET6) {
		memcpy(&in6, list->ai_addr, sizeof(in6));
		*out = in6.sin6_addr;
		if (IN6_IS_ADDR_LINKLOCAL(out))
			*scope = in6.sin6_scope_id;
	} else {
		memcpy(&in, list->ai_addr, sizeof(in));
		memset(out->s6_addr + 10, 0xff, 2);
		memcpy(out->s6_addr + 12, &in.sin_addr, 4);
	}
	freeaddrinfo(list);
	return true;
}

static bool
is_any_ipv4(const struct in6_addr *a)
{
	static const uint8_t zero[4];

	return IN6_IS_ADDR_V4MAPPED(a) && memcmp(a->s6_addr + 12, zero, 4) == 0;
}

/* Whether Linux refuses the second of two listening sockets; IPv6 sockets take both families. */
static bool
clash_tcp(const struct endpoint *a, const struct endpoint *b)
{
	struct in6_addr x, y;
	uint32_t scope_x, scope_y;
	bool numeric_x, numeric_y;

	if (a->any_port || b->any_port || a->port != b->port)
		return false;
	numeric_x = numeric_address(&x, &scope_x, a);
	numeric_y = numeric_address(&y, &scope_y, b);
	if ((numeric_x && IN6_IS_ADDR_UNSPECIFIED(&x)) ||
		(numeric_y && IN6_IS_ADDR_UNSPECIFIED(&y)))
		return true;
	if (!numeric_x || !numeric_y)
		return strcmp(a->host, b->host) == 0;
	if (IN6_IS_ADDR_V4MAPPED(&x) && IN6_IS_ADDR_V4MAPPED(&y) &&
		(is_any_ipv4(&x) || is_any_ipv4(&y)))
		return true;
	return IN6_ARE_ADDR_EQUAL(&x, &y) && scope_x == scope_y;
}

/* Skips repeated slashes and "." components. */
static const char *
skip_slashes(const char *path)
{
	while (*path == '/' || (*path == '.' && (path[1] == '/')))
		path++;
	return path;
}

static bool
same_path(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b) {
		if (*a == '/') {
			a = skip_slashes(a);
			b = skip_slashes(b);
		} else {
			a++;
			b++;
		}
	}
	return *a == *b;
}

bool
endpoint_clash(const struct endpoint *a, const struct endpoint *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind == ENDPOINT_TCP)
		return clash_tcp(a, b);
	if (a->kind == ENDPOINT_IPC)
		return same_path(a->host, b->host);
	return strcmp(a->host, b->host) == 0;
}

/* --- the same in keys ----------------------------------------------------- */

enum key_kind {
	KEY_PORT,     /* anything on this port */
	KEY_ANY,      /* all addresses */
	KEY_IPV4,     /* any address of IPv4 */
	KEY_ANY_IPV4, /* all addresses of IPv4 */
	KEY_ADDRESS,
	KEY_NAME,
	KEY_IPC,
	KEY_ABSTRACT,
	KEY_FD
};

static struct endpoint_key
key_of(enum key_kind kind, uint16_t port, const void *rest, size_t len)
{
	struct endpoint_key key = {.len = 3 + len, .bytes = {(uint8_t)kind}};

	memcpy(key.bytes + 1, &port, 2);
	if (len > 0)
		memcpy(key.bytes + 3, rest, len);
	return key;
}

static void
be(struct endpoint_keys *k, struct endpoint_key key)
{
	k->is[k->is_count++] = key;
}

static void
meet(struct endpoint_keys *k, struct endpoint_key key)
{
	k->meets[k->meets_count++] = key;
}

static void
both(struct endpoint_keys *k, struct endpoint_key key)
{
	be(k, key);
	meet(k, key);
}

static void
address_keys(struct endpoint_keys *k, uint16_t port, const struct in6_addr *a, uint32_t scope)
{
	uint8_t rest[sizeof(*a) + sizeof(scope)];

	if (IN6_IS_ADDR_UNSPECIFIED(a)) {
		be(k, key_of(KEY_ANY, port, NULL, 0));
		meet(k, key_of(KEY_PORT, port, NULL, 0));
		return;
	}
	meet(k, key_of(KEY_ANY, port, NULL, 0));
	if (IN6_IS_ADDR_V4MAPPED(a))
		be(k, key_of(KEY_IPV4, port, NULL, 0));
	if (is_any_ipv4(a)) {
		be(k, key_of(KEY_ANY_IPV4, port, NULL, 0));
		meet(k, key_of(KEY_IPV4, port, NULL, 0));
		return;
	}
	if (IN6_IS_ADDR_V4MAPPED(a))
		meet(k, key_of(KEY_ANY_IPV4, port, NULL, 0));
	memcpy(rest, a, sizeof(*a));
	memcpy(rest + sizeof(*a), &scope, sizeof(scope));
	both(k, key_of(KEY_ADDRESS, port, rest, sizeof(rest)));
}

static void
tcp_keys(const struct endpoint *e, struct endpoint_keys *k)
{
	struct in6_addr a;
	uint32_t scope;

	if (e->any_port)
		return;
	be(k, key_of(KEY_PORT, e->port, NULL, 0));
	if (numeric_address(&a, &scope, e)) {
		address_keys(k, e->port, &a, scope);
		return;
	}
	meet(k, key_of(KEY_ANY, e->port, NULL, 0));
	both(k, key_of(KEY_NAME, e->port, e->host, strlen(e->host)));
}

/* The key of a socket file: its path without repeated slashes and "." components. */
static void
path_keys(const struct endpoint *e, struct endpoint_keys *k)
{
	char path[sizeof(e->host)];
	size_t n = 0;

	for (const char *c = e->host; *c != '\0';) {
		path[n++] = *c;
		c = *c == '/' ? skip_slashes(c) : c + 1;
	}
	both(k, key_of(KEY_IPC, 0, path, n));
}

void
endpoint_clash_keys(const struct endpoint *e, struct endpoint_keys *out)
{
	out->is_count = out->meets_count = 0;
	if (e->kind == ENDPOINT_TCP)
		tcp_keys(e, out);
	else if (e->kind == ENDPOINT_IPC)
		path_keys(e, out);
	else
		both(out,
			key_of(e->kind == ENDPOINT_FD ? KEY_FD : KEY_ABSTRACT, 0, e->host,
				strlen(e->host)));
}
