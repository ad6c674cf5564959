/* SPDX-License-Identifier: MIT */
#include "daemon/systemd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

enum {
	FIRST_FD = 3,    /* the first inherited socket */
	MANY_FDS = 4096, /* more than anybody passes */
	STATUS_MS = 2000,
	RETRY_MS = 5,      /* to send what systemd did not accept */
	END_MS = 1000,     /* how long we wait for the rest at the end */
	NOTES_MAX = 8192,  /* that wait; the sockets of more listeners are not kept */
	WATCHDOG_PINGS = 3 /* per interval of the watchdog */
};

/* --- notifying ------------------------------------------------------------ */

/* A path, or @ and an abstract name. */
static void
open_notify(struct systemd *sd, const char *to)
{
	size_t len = to != NULL ? strlen(to) : 0;

	sd->fd = -1;
	if (len < 2 || len >= sizeof(sd->to.sun_path) || (to[0] != '/' && to[0] != '@'))
		return;
	sd->to.sun_family = AF_UNIX;
	memcpy(sd->to.sun_path, to, len);
	if (to[0] == '@')
		sd->to.sun_path[0] = '\0';
	sd->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	sd->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

/* A datagram that systemd's socket had no room for. */
struct note {
	struct list node;
	int fd;        /* a copy of a listener's, to be kept under `name`; -1: none */
	bool is_state; /* READY, RELOADING or STOPPING: a later one replaces it */
	char name[INHERIT_NAME_MAX + 1];
	char text[INHERIT_NAME_MAX + 128];
};

/*
 * Sends a copy of `fd` along, unless it is -1. False: try again later. Other failures are ignored:
 * logging each would help nobody.
 */
static bool
send_notify(struct systemd *sd, const char *text, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	char copy[1024];
	struct iovec iov = {copy, strlen(text)};
	struct msghdr msg = {
		.msg_name = &sd->to, .msg_namelen = sd->to_len, .msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;
	ssize_t sent;

	if (sd->fd < 0 || iov.iov_len >= sizeof(copy))
		return true;
	memcpy(copy, text, iov.iov_len + 1);
	if (fd >= 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	do
		sent = sendmsg(sd->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent >= 0 || (errno != EAGAIN && errno != ENOBUFS && errno != ETOOMANYREFS);
}

static void
note_free(struct systemd *sd, struct note *n)
{
	list_remove(&n->node);
	sd->note_count--;
	if (n->fd >= 0)
		close(n->fd);
	free(n);
}

static void
send_notes(struct systemd *sd)
{
	while (!list_empty(&sd->notes)) {
		struct note *n = list_entry(sd->notes.next, struct note, node);
		if (!send_notify(sd, n->text, n->fd))
			return;
		note_free(sd, n);
	}
}

static void
notes_cb(struct timer *timer)
{
	struct systemd *sd = list_entry(timer, struct systemd, notes_timer);

	send_notes(sd);
	if (!list_empty(&sd->notes))
		timer_set(timer, RETRY_MS);
}

/* Sends it, or queues it after those that wait. Without memory or a descriptor it is lost. */
static struct note *
post(struct systemd *sd, const char *text, int fd)
{
	struct note *n;

	if (sd->fd < 0 || (list_empty(&sd->notes) && send_notify(sd, text, fd)))
		return NULL;
	n = mem_try_new(sizeof(*n));
	if (n == NULL)
		return NULL;
	n->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
	if (fd >= 0 && n->fd < 0) {
		free(n);
		return NULL;
	}
	snprintf(n->text, sizeof(n->text), "%s", text);
	list_push(&sd->notes, &n->node);
	if (sd->note_count++ == 0)
		timer_set(&sd->notes_timer, RETRY_MS);
	return n;
}

/* A state that systemd waits for. One that begins something new replaces those that wait. */
static void
notify(struct systemd *sd, const char *text, bool begins)
{
	struct note *n;

	list_each(node, tmp, &sd->notes) {
		n = list_entry(node, struct note, node);
		if (begins && n->is_state)
			note_free(sd, n);
	}
	n = post(sd, text, -1);
	if (n != NULL)
		n->is_state = true;
}

/* For a message that is repeated soon: it is not queued. */
static bool
notify_nowait(struct systemd *sd, const char *text)
{
	return send_notify(sd, text, -1);
}

/* --- watchdog and status -------------------------------------------------- */

/* Only from a timer of the loop: a loop that is stuck must not ping. */
static void
watchdog_cb(struct timer *timer)
{
	struct systemd *sd = list_entry(timer, struct systemd, watchdog_timer);

	(void)notify_nowait(sd, "WATCHDOG=1");
	timer_set(timer, sd->watchdog_ms);
}

static void
show_status(struct systemd *sd)
{
	static const char note[] = "; the last reload failed, see the log";
	char text[sizeof(sd->last_status)] = "", line[sizeof(text) + 8];

	sd->status(sd->status_arg, text, sizeof(text) - sizeof(note));
	if (sd->reload_failed)
		memcpy(text + strlen(text), note, sizeof(note));
	if (strcmp(text, sd->last_status) == 0)
		return;
	snprintf(line, sizeof(line), "STATUS=%s", text);
	if (notify_nowait(sd, line))
		memcpy(sd->last_status, text, sizeof(text));
}

static void
status_cb(struct timer *timer)
{
	struct systemd *sd = list_entry(timer, struct systemd, status_timer);

	show_status(sd);
	timer_set(timer, STATUS_MS);
}

/* 0: off, or meant for another process. */
static int64_t
watchdog_interval(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	int64_t ms;

	if (usec == NULL || (pid != NULL && strtol(pid, NULL, 10) != getpid()))
		return 0;
	ms = strtoll(usec, NULL, 10) / 1000;
	if (ms <= 0)
		return 0;
	return ms / WATCHDOG_PINGS > 0 ? ms / WATCHDOG_PINGS : 1;
}

/* --- sockets -------------------------------------------------------------- */

/* The part of "a:b:c" at *names, which moves past it. */
static void
next_name(const char **names, char out[INHERIT_NAME_MAX + 1])
{
	size_t len = strcspn(*names, ":");

	snprintf(out, INHERIT_NAME_MAX + 1, "%.*s", (int)len, *names);
	*names += len + ((*names)[len] == ':');
}

static void
take_sockets(struct systemd *sd)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	const char *names = getenv("LISTEN_FDNAMES");
	char name[INHERIT_NAME_MAX + 1];
	long n;

	if (pid == NULL || count == NULL || strtol(pid, NULL, 10) != getpid())
		return;
	n = strtol(count, NULL, 10);
	for (int fd = FIRST_FD; fd < FIRST_FD + (n < MANY_FDS ? n : MANY_FDS); fd++) {
		snprintf(name, sizeof(name), "unknown"); /* as sd_listen_fds_with_names says */
		if (names != NULL)
			next_name(&names, name);
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0)
			inherited_add(&sd->inherited, fd, name);
	}
}

/* A name has no colon. Empty: the text is too long for a name. */
static void
kept_name(const char *text, char out[INHERIT_NAME_MAX + 1])
{
	int len = snprintf(out, INHERIT_NAME_MAX + 1, INHERIT_KEPT "%s", text);

	if (len > INHERIT_NAME_MAX)
		out[0] = '\0';
	for (char *p = out; *p != '\0'; p++)
		if (*p == ':')
			*p = ';';
}

void
systemd_keep(struct systemd *sd, struct listener *l, const char *text)
{
	char name[INHERIT_NAME_MAX + 1], line[INHERIT_NAME_MAX + 32];
	struct note *n;

	kept_name(text, name);
	if (sd->fd < 0 || name[0] == '\0' || sd->note_count >= NOTES_MAX)
		return;
	snprintf(line, sizeof(line), "FDSTORE=1\nFDNAME=%s", name);
	n = post(sd, line, listener_fd(l));
	if (n != NULL)
		memcpy(n->name, name, sizeof(name));
	listener_keep(l);
}

static void
forget(struct systemd *sd, const char *name)
{
	char line[INHERIT_NAME_MAX + 32];

	list_each(node, tmp, &sd->notes) {
		struct note *n = list_entry(node, struct note, node);
		if (strcmp(n->name, name) != 0)
			continue;
		note_free(sd, n); /* systemd never got it */
		return;
	}
	snprintf(line, sizeof(line), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	(void)post(sd, line, -1);
}

void
systemd_unkeep(struct systemd *sd, struct listener *l, const char *text)
{
	char name[INHERIT_NAME_MAX + 1];

	if (!listener_is_kept(l))
		return;
	kept_name(text, name);
	forget(sd, name);
	listener_unkeep(l);
}

/* Clients of a socket that is never accepted from would hang. */
static void
close_unused(struct systemd *sd)
{
	for (size_t i = 0; i < sd->inherited.count; i++) {
		struct inherited_socket *s = &sd->inherited.sockets[i];
		char quoted[160];

		if (s->fd < 0 || s->used)
			continue;
		log_event(LOG_LEVEL_WARNING, "socket_unused", "name=%s",
			log_quote(quoted, sizeof(quoted), s->name, strlen(s->name)));
		if (strncmp(s->name, INHERIT_KEPT, strlen(INHERIT_KEPT)) != 0)
			continue; /* from its unit: a reload may still use it */
		forget(sd, s->name);
		(void)shutdown(s->fd, SHUT_RDWR);
		close(s->fd);
		s->fd = -1;
	}
}

/* --- life ----------------------------------------------------------------- */

void
systemd_init(struct systemd *sd, struct loop *loop)
{
	*sd = (struct systemd){.loop = loop};
	list_init(&sd->notes);
	timer_init(&sd->notes_timer, loop, notes_cb);
	open_notify(sd, getenv("NOTIFY_SOCKET"));
	take_sockets(sd);
	sd->watchdog_ms = sd->fd >= 0 ? watchdog_interval() : 0;
	timer_init(&sd->watchdog_timer, loop, watchdog_cb);
	timer_init(&sd->status_timer, loop, status_cb);
	loop_set_inherited(loop, &sd->inherited);
}

void
systemd_fini(struct systemd *sd)
{
	timer_stop(&sd->watchdog_timer);
	timer_stop(&sd->status_timer);
	timer_stop(&sd->notes_timer);
	send_notes(sd);
	for (int ms = 0; ms < END_MS && !list_empty(&sd->notes); ms += RETRY_MS) {
		(void)poll(NULL, 0, RETRY_MS);
		send_notes(sd);
	}
	while (!list_empty(&sd->notes))
		note_free(sd, list_entry(sd->notes.next, struct note, node));
	inherited_fini(&sd->inherited);
	if (sd->fd >= 0)
		close(sd->fd);
}

void
systemd_ready(struct systemd *sd, void (*status)(void *arg, char *out, size_t size), void *arg)
{
	close_unused(sd);
	if (sd->fd < 0)
		return;
	sd->status = status;
	sd->status_arg = arg;
	notify(sd, "READY=1", false);
	status_cb(&sd->status_timer);
	if (sd->watchdog_ms > 0)
		watchdog_cb(&sd->watchdog_timer);
}

void
systemd_reloading(struct systemd *sd)
{
	struct timespec now;
	char text[64];

	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
		(int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
	notify(sd, text, true);
}

void
systemd_reloaded(struct systemd *sd, bool failed)
{
	sd->reload_failed = failed;
	if (sd->status != NULL)
		show_status(sd);
	notify(sd, "READY=1", false);
}

void
systemd_stopping(struct systemd *sd, int64_t ms)
{
	char text[128];

	timer_stop(&sd->status_timer);
	snprintf(text, sizeof(text), "STOPPING=1\nSTATUS=Draining\nEXTEND_TIMEOUT_USEC=%" PRId64,
		ms * 1000);
	notify(sd, text, true);
}
