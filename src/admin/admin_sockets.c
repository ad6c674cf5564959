/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "admin/admin_impl.h"
#include "base/log.h"
#include "net/sockfile.h"

enum {
	BACKLOG = 64,
	RETRY_MIN_MS = 100, /* between two attempts to open the control socket */
	RETRY_MAX_MS = 10000,
	HTTP_TRIES = 150, /* to bind the port, with a pause after each: three seconds in all */
	HTTP_PAUSE_NS = 20000000
};

/* The group of the socket's file: its members may use it. */
static gid_t
group_of(const struct admin_endpoint *e)
{
	struct stat st;

	const char *path = listener_path(e->listener);

	return path[0] != '\0' && stat(path, &st) == 0 ? st.st_gid : (gid_t)-1;
}

void
admin_add_sockets(const struct admin *admin, enum channel_endpoint which, struct channel_message *m,
	int *fds, size_t *n)
{
	const struct admin_endpoint *e = &admin->endpoints[which];

	if (e->listener != NULL)
		m->group[which] = group_of(e);
	for (const struct listener *l = e->listener; l != NULL; l = listener_next(l)) {
		m->sockets[which]++;
		fds[(*n)++] = listener_fd(l);
	}
}

static bool
is_loopback(int fd)
{
	struct sockaddr_storage addr = {0};
	socklen_t len = sizeof(addr);
	const struct sockaddr_in *in = (const struct sockaddr_in *)&addr;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&addr;

	if (getsockname(fd, (struct sockaddr *)&addr, &len) != 0)
		return false;
	if (addr.ss_family == AF_INET)
		return ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return addr.ss_family == AF_INET6 &&
		(IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) ||
			(IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) &&
				in6->sin6_addr.s6_addr[12] == IN_LOOPBACKNET));
}

void
admin_warn_if_exposed(const struct admin *admin)
{
	for (const struct listener *l = admin->endpoints[CHANNEL_HTTP].listener; l != NULL;
		l = listener_next(l))
		if (!is_loopback(listener_fd(l)))
			log_event(LOG_LEVEL_WARNING, "http_exposed",
				"endpoint=%s detail=\"anyone who can reach it sees peers, "
				"counters and events\"",
				listener_text(l));
}

/* --- opening -------------------------------------------------------------- */

/* Returns 0, or an errno value and a text. */
static int
open_endpoint(struct admin *admin, enum channel_endpoint which, const struct endpoint *e,
	char *error, size_t size)
{
	struct admin_endpoint *to = &admin->endpoints[which];
	unsigned count = 0;

	to->side = side_for_listeners(admin->loop, &admin->opts);
	to->listener = listener_new(&to->side, e, error, size);
	if (to->listener == NULL)
		return errno != 0 ? errno : EINVAL;
	for (const struct listener *l = to->listener; l != NULL; l = listener_next(l))
		count++;
	/* as many as one message to the admin process can carry */
	if (count <= CHANNEL_SOCKETS_MAX)
		return 0;
	listener_free(to->listener);
	to->listener = NULL;
	snprintf(error, size, "the name has too many addresses: %u, and at most %d are served",
		count, CHANNEL_SOCKETS_MAX);
	return E2BIG;
}

static void
retry_control_later(struct admin *admin)
{
	timer_set(&admin->control_timer,
		backoff_next(&admin->control_backoff, RETRY_MIN_MS, RETRY_MAX_MS, 0, 0));
}

/* Logs a failure, unless it is the same as the last time. */
void
admin_open_control(struct admin *admin)
{
	const char *path = admin->control.host;
	char error[256], quoted[256];

	log_quote(quoted, sizeof(quoted), path, strlen(path));
	if (open_endpoint(admin, CHANNEL_CONTROL, &admin->control, error, sizeof(error)) == 0) {
		log_event(LOG_LEVEL_NOTICE, "control_listening", "socket=%s", quoted);
		return;
	}
	if (strcmp(error, admin->control_error) != 0)
		log_event(LOG_LEVEL_WARNING, "control_off",
			"socket=%s error=\"%s\" detail=\"will be retried\"", quoted, error);
	memcpy(admin->control_error, error, sizeof(error));
	retry_control_later(admin);
}

/* Give it to the admin process, now or when that is running. */
static void
serve_control(struct admin *admin)
{
	struct channel_message m = {.kind = CHANNEL_ENDPOINT};
	int fds[CHANNEL_SOCKETS_MAX];
	size_t n = 0;

	admin_add_sockets(admin, CHANNEL_CONTROL, &m, fds, &n);
	if (admin->keeper.state != KEEPER_OFF)
		keeper_send(&admin->keeper, &m, fds, n);
	else if (!admin_start(admin))
		retry_control_later(admin);
}

/* A process that has locked the directory is about to bind or remove a socket there: try later. */
static void
control_timer_cb(struct timer *timer)
{
	struct admin *admin = list_entry(timer, struct admin, control_timer);

	if (admin->endpoints[CHANNEL_CONTROL].listener == NULL) {
		if (sockfile_is_locked(admin->control.host)) {
			retry_control_later(admin);
			return;
		}
		admin_open_control(admin);
	}
	if (admin->endpoints[CHANNEL_CONTROL].listener != NULL)
		serve_control(admin);
}

/*
 * When a broker is killed, its admin process keeps the port for a moment longer: a start that
 * follows at once waits for that. It may block, because nobody is served yet.
 */
static bool
open_http_endpoint(struct admin *admin, const struct endpoint *e, char *error, size_t size)
{
	const struct timespec pause = {0, HTTP_PAUSE_NS};
	int wrong;

	for (int i = 1; (wrong = open_endpoint(admin, CHANNEL_HTTP, e, error, size)) != 0; i++) {
		if (wrong != EADDRINUSE || i == HTTP_TRIES)
			return false;
		if (i == 1)
			log_event(LOG_LEVEL_NOTICE, "http_waits",
				"endpoint=%s error=\"%s\" detail=\"for at most %d s\"", e->text,
				error, (int)((int64_t)HTTP_TRIES * HTTP_PAUSE_NS / 1000000000));
		(void)nanosleep(&pause, NULL);
	}
	return true;
}

bool
admin_open_http(struct admin *admin, const struct endpoint *e)
{
	char error[256];

	if (e->text[0] == '\0')
		return true;
	if (!open_http_endpoint(admin, e, error, sizeof(error))) {
		log_event(LOG_LEVEL_ERROR, "bind_failed", "option=http endpoint=%s error=\"%s\"",
			e->text, error);
		return false;
	}
	for (const struct listener *l = admin->endpoints[CHANNEL_HTTP].listener; l != NULL;
		l = listener_next(l))
		log_event(LOG_LEVEL_NOTICE, "http_listening", "endpoint=%s", listener_text(l));
	return true;
}

bool
admin_has_endpoint(const struct admin *admin)
{
	for (int i = 0; i < CHANNEL_ENDPOINTS; i++)
		if (admin->endpoints[i].listener != NULL)
			return true;
	return false;
}

void
admin_init_sockets(struct admin *admin, const char *control)
{
	struct endpoint *e = &admin->control;

	admin->opts = (struct side_opts){.backlog = BACKLOG, .ipc_mode = 0660};
	timer_init(&admin->control_timer, admin->loop, control_timer_cb);
	e->kind = ENDPOINT_IPC;
	snprintf(e->host, sizeof(e->host), "%s", control);
	snprintf(e->text, sizeof(e->text), "ipc://%s", control);
}

void
admin_close_sockets(struct admin *admin)
{
	timer_stop(&admin->control_timer);
	for (int i = 0; i < CHANNEL_ENDPOINTS; i++)
		listener_free(admin->endpoints[i].listener);
}
