/* SPDX-License-Identifier: MIT */
#include "ctl/client.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/commands.h"
#include "base/mem.h"

enum {
	TIMEOUT_S = 10, /* both are longer than the broker takes for an answer */
	RELOAD_TIMEOUT_S = COMMAND_RELOAD_S + 5,
	ANSWER_MAX = 256 << 20,
	REQUEST_MAX = 4096,
	NAME_MAX_SHOWN = 64 /* of a user or a group */
};

static void __attribute__((format(printf, 2, 3))) say(struct client_answer *a, const char *fmt, ...)
{
	size_t len = strlen(a->error);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->error + len, sizeof(a->error) - len, fmt, ap);
	va_end(ap);
}

static enum client_result
fail(struct client_answer *a, const char *what, const char *why)
{
	say(a, "%.200s: %.200s", what, why);
	return CLIENT_NO_DAEMON;
}

/* --- why there is no answer, and what to do ------------------------------- */

static void
name_user(char out[NAME_MAX_SHOWN], uid_t uid)
{
	const struct passwd *user = getpwuid(uid);

	if (user != NULL)
		snprintf(out, NAME_MAX_SHOWN, "%s", user->pw_name);
	else
		snprintf(out, NAME_MAX_SHOWN, "%ld", (long)uid);
}

static void
name_group(char out[NAME_MAX_SHOWN], gid_t gid)
{
	const struct group *group = getgrgid(gid);

	if (group != NULL)
		snprintf(out, NAME_MAX_SHOWN, "%s", group->gr_name);
	else
		snprintf(out, NAME_MAX_SHOWN, "%ld", (long)gid);
}

/* Stat the socket or, where that is not permitted, the nearest directory above it that can be. */
static bool
stat_nearest(const char *path, struct stat *st)
{
	char above[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char *slash;

	snprintf(above, sizeof(above), "%s", path);
	while (stat(above, st) != 0) {
		slash = strrchr(above, '/');
		if (slash == NULL || slash == above)
			return false;
		*slash = '\0';
	}
	return true;
}

/* Do not advise to join a group if it is root's. */
static enum client_result
deny(struct client_answer *a, const char *path)
{
	char owner[NAME_MAX_SHOWN], group[NAME_MAX_SHOWN], me[NAME_MAX_SHOWN];
	struct stat st;

	say(a, "%s: permission denied\n", path);
	name_user(me, geteuid());
	if (!stat_nearest(path, &st) || st.st_gid == 0) {
		say(a, "Run it with sudo: the user %s may not use this socket.", me);
		return CLIENT_DENIED;
	}
	name_user(owner, st.st_uid);
	name_group(group, st.st_gid);
	say(a,
		"Run it with sudo, or join the group: sudo usermod -aG %s %s, and log in again. "
		"The socket is for root, %s and the group %s.",
		group, me, owner, group);
	return CLIENT_DENIED;
}

static enum client_result
explain(struct client_answer *a, const char *path, int error)
{
	static const char or_name[] = "or name the socket of one that runs: -s SOCKET, the option "
				      "control of its bulkhead.ini";
	struct stat st;

	if (error == EACCES || error == EPERM)
		return deny(a, path);
	if (error == ENOENT || error == ENOTDIR)
		say(a,
			"%s: no such socket: no broker runs with it\nStart one "
			"(installed: systemctl start bulkhead; in the source: scripts/quickstart), "
			"%s.",
			path, or_name);
	else if (error == ECONNREFUSED && stat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		say(a,
			"%s: not a socket\nName the broker's: -s SOCKET, the option control of its "
			"bulkhead.ini.",
			path);
	else if (error == ECONNREFUSED)
		say(a,
			"%s: nobody listens at this socket: its broker has ended\nSee why in its "
			"log (of the service: journalctl -u bulkhead) and start it again, %s.",
			path, or_name);
	else if (error == ENAMETOOLONG)
		say(a, "%.60s...: the path of a socket has at most 107 bytes", path);
	else if (error == EAGAIN)
		return fail(a, path,
			"the broker does not answer\nIts process may be stopped or busy: see its "
			"log, and top or ps.");
	else if (error == EMSGSIZE)
		return fail(a, path, "the answer is too long to be a broker's");
	else
		return fail(a, path, strerror(error));
	return CLIENT_NO_DAEMON;
}

/* --- asking --------------------------------------------------------------- */

/* The functions below return 0, or an errno value as `explain` takes it. */

static int
connect_to(const char *path, int timeout_s, int *out)
{
	const struct timeval timeout = {.tv_sec = timeout_s};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd, error;

	if (strlen(path) >= sizeof(addr.sun_path))
		return ENAMETOOLONG;
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0) {
		error = errno;
		close(fd);
		return error;
	}
	*out = fd;
	return 0;
}

static int
send_all(int fd, const char *p, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0)
			return errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Read to the end: the connection is for one request. *out, NUL terminated, is the caller's. */
static int
read_all(int fd, char **out, size_t *len)
{
	size_t size = 65536;
	char *text = mem_new(size);
	int error = 0;
	ssize_t n;

	*len = 0;
	while ((n = recv(fd, text + *len, size - *len - 1, 0)) > 0) {
		*len += (size_t)n;
		if (size - *len > 1)
			continue;
		if (size >= ANSWER_MAX) {
			error = EMSGSIZE;
			break;
		}
		size *= 2;
		text = mem_resize(text, size);
	}
	if (n < 0)
		error = errno;
	if (error != 0) {
		free(text);
		return error;
	}
	text[*len] = '\0';
	*out = text;
	return 0;
}

static int
exchange(const char *path, int timeout_s, const char *request, char **text, size_t *len)
{
	int fd = -1, error = connect_to(path, timeout_s, &fd);

	if (error != 0)
		return error;
	error = send_all(fd, request, strlen(request));
	if (error == 0)
		error = read_all(fd, text, len);
	close(fd);
	return error;
}

/* --- the request and its answer ------------------------------------------- */

/* Escape all but plain characters as %XX (RFC 3986). False when `out` is too small. */
static bool
put_argument(char *out, size_t size, const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			(c >= '0' && c <= '9') || strchr("_.-", c) != NULL;

		if (n + 4 > size)
			return false;
		n += (size_t)snprintf(out + n, size - n, plain ? "%c" : "%%%02X", c);
	}
	out[n] = '\0';
	return true;
}

/* Take the status from `text`, and its body to the front of it. False: no complete answer. */
static bool
parse_answer(struct client_answer *a, char *text, size_t len)
{
	char *body = strstr(text, "\r\n\r\n"), *length, *end;

	/* HTTP/1.1 200 OK */
	if (body == NULL || strncmp(text, "HTTP/1.", 7) != 0 || text[8] != ' ')
		return false;
	a->status = (int)strtol(text + 9, &end, 10);
	if (end != text + 12)
		return false;
	*body = '\0';
	body += 4;
	len -= (size_t)(body - text);
	length = strcasestr(text, "\r\nContent-Length:");
	if (length == NULL || strtoull(length + 17, NULL, 10) != len)
		return false;
	memmove(text, body, len + 1);
	a->body = text;
	return true;
}

enum client_result
client_ask(struct client_answer *a, const char *path, const char *word, const char *argument,
	bool action)
{
	char request[REQUEST_MAX], encoded[REQUEST_MAX / 2] = "", *text;
	int error;
	size_t len;

	*a = (struct client_answer){0};
	if (argument != NULL && !put_argument(encoded, sizeof(encoded), argument)) {
		say(a, "the argument is too long");
		return CLIENT_TOO_LONG;
	}
	snprintf(request, sizeof(request),
		"%s " COMMAND_PREFIX
		"%s%s%s HTTP/1.1\r\nHost: bulkhead\r\nConnection: close\r\n%s\r\n",
		action ? "POST" : "GET", word, argument != NULL ? "/" : "", encoded,
		action ? "Content-Length: 0\r\n" : "");
	error = exchange(path, strcmp(word, "reload") == 0 ? RELOAD_TIMEOUT_S : TIMEOUT_S, request,
		&text, &len);
	if (error != 0)
		return explain(a, path, error);
	if (parse_answer(a, text, len))
		return CLIENT_ANSWERED;
	free(text);
	return fail(a, path, "the answer is incomplete, or not a broker's");
}

void
client_answer_fini(struct client_answer *a)
{
	free(a->body);
	a->body = NULL;
}
