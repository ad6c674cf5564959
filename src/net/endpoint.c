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

const char *
endpoint_parse(struct endpoint *out, const char *text, bool binding)
{
	memset(out, 0, sizeof(*out));
	if (strncasecmp(text, "tcp://", 6) == 0)
		return parse_tcp(out, text + 6, binding);
	if (strncasecmp(text, "ipc://", 6) == 0)
		return parse_ipc(out, text + 6);
	if (strncasecmp(text, "fd://", 5) == 0)
		return parse_fd(out, text + 5, binding);
	return "an endpoint begins with tcp://, ipc:// or fd://";
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

/* What Linux does with two listening sockets, IPv6 ones taking both families. */
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

/* Past slashes that are one, and past "." as a step. */
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
