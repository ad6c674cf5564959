/* SPDX-License-Identifier: MIT */
#include "admin/request.h"

#include <string.h>
#include <strings.h>

struct span {
	const char *at;
	size_t len;
};

static bool
is_token(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool
is(struct span s, const char *word)
{
	return s.len == strlen(word) && strncasecmp(s.at, word, s.len) == 0;
}

static bool
copy(char *to, size_t size, struct span from)
{
	if (from.len >= size)
		return false;
	memcpy(to, from.at, from.len);
	to[from.len] = '\0';
	return true;
}

/* The part before `end`, or all of it if there is none; *rest moves past it. */
static struct span
cut(struct span *rest, char end)
{
	const char *p = memchr(rest->at, end, rest->len);
	struct span part = {rest->at, p != NULL ? (size_t)(p - rest->at) : rest->len};
	size_t over = part.len + (p != NULL);

	*rest = (struct span){rest->at + over, rest->len - over};
	return part;
}

static struct span
trimmed(struct span s)
{
	while (s.len > 0 && (s.at[0] == ' ' || s.at[0] == '\t'))
		s.at++, s.len--;
	while (s.len > 0 && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t'))
		s.len--;
	return s;
}

/* --- the request line ----------------------------------------------------- */

static int
set_method(struct request_head *r, struct span method)
{
	static const char *const names[] = {"GET", "HEAD", "POST"};

	for (size_t i = 0; i < method.len; i++)
		if (!is_token((unsigned char)method.at[i]))
			return 400;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (method.len != strlen(names[i]) || memcmp(method.at, names[i], method.len) != 0)
			continue;
		r->method = (enum request_method)i;
		return 0;
	}
	return method.len > 0 ? 501 : 400;
}

/* /path?query, or the form for proxies: http://host/path?query, whose host overrides Host. */
static int
set_target(struct request_head *r, struct span target)
{
	static const char scheme[] = "http://";
	size_t skip = sizeof(scheme) - 1;
	struct span path;

	for (size_t i = 0; i < target.len; i++) {
		unsigned char c = (unsigned char)target.at[i];

		if (c <= ' ' || c >= 0x7f || c == '#')
			return 400;
	}
	if (target.len > skip && strncasecmp(target.at, scheme, skip) == 0) {
		struct span rest = {target.at + skip, target.len - skip};
		struct span host = {rest.at, 0};

		while (host.len < rest.len && strchr("/?", rest.at[host.len]) == NULL)
			host.len++;
		if (!copy(r->host, sizeof(r->host), host))
			return 400;
		r->has_host = true;
		target = (struct span){rest.at + host.len, rest.len - host.len};
		if (target.len == 0 || target.at[0] == '?')
			target = (struct span){"/", 1};
	}
	path = cut(&target, '?');
	if (path.len == 0 || path.at[0] != '/')
		return 400;
	return copy(r->path, sizeof(r->path), path) ? 0 : 414;
}

static int
set_version(struct request_head *r, struct span version)
{
	if (version.len != 8 || memcmp(version.at, "HTTP/", 5) != 0)
		return 400;
	if (memcmp(version.at + 5, "1.", 2) != 0 || version.at[7] < '0' || version.at[7] > '9')
		return 505;
	r->minor = (unsigned)(version.at[7] - '0');
	r->keep_alive = r->minor > 0;
	return 0;
}

static int
parse_line(struct request_head *r, struct span line)
{
	struct span method = cut(&line, ' ');
	struct span target = cut(&line, ' ');
	int status = set_version(r, line);

	if (status == 0)
		status = set_method(r, method);
	return status == 0 ? set_target(r, target) : status;
}

/* --- fields --------------------------------------------------------------- */

/* What the fields said so far; each of these may occur once. */
struct said {
	bool host, length, chunked;
};

static int
set_length(struct request_head *r, struct said *said, struct span value)
{
	size_t n = 0;

	if (value.len == 0)
		return 400;
	for (size_t i = 0; i < value.len; i++) {
		if (value.at[i] < '0' || value.at[i] > '9')
			return 400;
		if (n <= REQUEST_BODY_MAX)
			n = n * 10 + (size_t)(value.at[i] - '0');
	}
	if (said->length && n != r->body)
		return 400;
	said->length = true;
	r->body = n;
	return n > REQUEST_BODY_MAX ? 413 : 0;
}

static int
set_host(struct request_head *r, struct said *said, struct span value)
{
	bool of_target = r->has_host && !said->host;

	if (said->host)
		return 400;
	said->host = true;
	r->has_host = true;
	return of_target || copy(r->host, sizeof(r->host), value) ? 0 : 400;
}

static void
set_connection(struct request_head *r, struct span value)
{
	while (value.len > 0) {
		struct span word = trimmed(cut(&value, ','));

		if (is(word, "close"))
			r->keep_alive = false;
		else if (is(word, "keep-alive") && r->minor == 0)
			r->keep_alive = true;
	}
}

static int
parse_field(struct request_head *r, struct said *said, struct span line)
{
	struct span value = line, name = cut(&value, ':');

	if (name.len == 0 || name.len == line.len)
		return 400;
	for (size_t i = 0; i < name.len; i++)
		if (!is_token((unsigned char)name.at[i]))
			return 400;
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.at[i];

		if ((c < ' ' && c != '\t') || c == 0x7f)
			return 400;
	}
	value = trimmed(value);
	if (is(name, "Content-Length"))
		return set_length(r, said, value);
	if (is(name, "Host"))
		return set_host(r, said, value);
	if (is(name, "Transfer-Encoding"))
		said->chunked = true;
	else if (is(name, "Connection"))
		set_connection(r, value);
	return 0;
}

/* --- all of it ------------------------------------------------------------ */

/* How many of the bytes are empty lines: some clients send one after a body. */
static size_t
empty_lines(const char *data, size_t len)
{
	size_t n = 0;

	while (n < len &&
		(data[n] == '\n' || (data[n] == '\r' && n + 1 < len && data[n + 1] == '\n')))
		n += data[n] == '\n' ? 1 : 2;
	return n;
}

/* Where the empty line after the head ends; 0: it has not come. Examines each byte once. */
static size_t
find_end(const char *data, size_t len, size_t from, size_t *seen)
{
	size_t i = *seen > from + 3 ? *seen - 3 : from;
	const char *p;

	*seen = len;
	while ((p = memchr(data + i, '\n', len - i)) != NULL) {
		i = (size_t)(p - data) + 1;
		if (i < len && data[i] == '\n')
			return i + 1;
		if (i + 1 < len && data[i] == '\r' && data[i + 1] == '\n')
			return i + 2;
	}
	return 0;
}

static struct span
next_line(struct span *rest)
{
	struct span line = cut(rest, '\n');

	if (line.len > 0 && line.at[line.len - 1] == '\r')
		line.len--;
	return line;
}

static int
parse_head(struct request_head *r, struct span head)
{
	struct said said = {false, false, false};
	int status = parse_line(r, next_line(&head));

	while (status == 0 && head.len > 0) {
		struct span line = next_line(&head);

		if (line.len == 0)
			break;
		status = parse_field(r, &said, line);
	}
	if (status != 0)
		return status;
	if (said.chunked) /* RFC 9112, 6.3: with both it may be an attack on a proxy in between
			   */
		return said.length ? 400 : 411;
	return REQUEST_WHOLE;
}

int
request_parse(struct request_head *r, const char *data, size_t len, size_t *seen, size_t *used)
{
	size_t begin = empty_lines(data, len), end = find_end(data, len, begin, seen);

	*r = (struct request_head){.method = REQUEST_GET};
	if (end == 0)
		return len >= REQUEST_HEAD_MAX ? 431 : REQUEST_MORE;
	if (end > REQUEST_HEAD_MAX)
		return 431;
	*used = end;
	return parse_head(r, (struct span){data + begin, end - begin});
}

const char *
request_reason(int status)
{
	static const struct {
		int status;
		const char *reason;
	} reasons[] = {{200, "OK"}, {400, "Bad Request"}, {403, "Forbidden"}, {404, "Not Found"},
		{405, "Method Not Allowed"}, {409, "Conflict"}, {411, "Length Required"},
		{413, "Content Too Large"}, {414, "URI Too Long"}, {421, "Misdirected Request"},
		{431, "Request Header Fields Too Large"}, {500, "Internal Server Error"},
		{501, "Not Implemented"}, {503, "Service Unavailable"},
		{505, "HTTP Version Not Supported"}};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "";
}
