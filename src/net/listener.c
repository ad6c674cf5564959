/* SPDX-License-Identifier: MIT */
#include "net/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/address.h"
#include "net/conn.h"
#include "net/inherit.h"
#include "net/sockfile.h"
#include "net/sys.h"

enum {
	ACCEPTS_PER_TURN = 64, /* so that a flood of connections leaves time for traffic */
	RETRY_MS = 100,        /* while descriptors are short */
	PORT_TRIES = 50        /* attempts to find a port that is free on all addresses */
};

struct listener {
	struct listener *next; /* NULL: the last one */
	struct side *side;
	struct task waiting; /* for a place, while at a connection limit */
	struct watch *watch;
	struct timer timer; /* runs while descriptors are short */
	struct ratelimit complaints;
	int fd;
	uint32_t origin; /* the conn->origin of its connections; 0 until listener_move */
	bool paused;
	bool evicting;  /* a connection is closed to make room: accept again when it is freed */
	bool kept;      /* another process holds the socket open: it stays usable without us */
	bool owns_file; /* a socket file of ours, which is removed unless the socket is kept */
	dev_t file_dev;
	ino_t file_ino;
	char path[108];
	char text[ENDPOINT_TEXT_MAX]; /* the endpoint as bound, with its real port */
};

/* --- binding -------------------------------------------------------------- */

/*
 * Removes a socket file that no process listens on. NULL, or what is wrong: a process does, or it
 * is not a socket.
 */
static const char *
clear_stale_file(const struct address *a, const char *path, const struct side_opts *opts)
{
	struct stat st;
	int fd, error;

	if (lstat(path, &st) != 0)
		return NULL;
	if (!S_ISSOCK(st.st_mode))
		return "the path exists and is not a socket";
	fd = sys_socket(AF_UNIX, opts);
	if (fd < 0)
		return strerror(-fd);
	error = sys_connect(fd, (const struct sockaddr *)&a->addr, a->len);
	sys_close(fd);
	if (error != -ECONNREFUSED)
		return error == 0 || error == -EAGAIN ? "another process listens on it"
						      : strerror(-error);
	if (unlink(path) != 0)
		return strerror(errno);
	return NULL;
}

/* Gives an inherited listening socket the options of one of our own. */
static const char *
adopt(struct listener *l, int fd)
{
	const struct side_opts *o = l->side->opts;
	int send_buffer = (int)o->send_buffer, receive_buffer = (int)o->receive_buffer;

	l->fd = fd;
	if (send_buffer > 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof(send_buffer));
	if (receive_buffer > 0)
		(void)setsockopt(
			fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0 ||
		listen(fd, (int)o->backlog) != 0)
		return strerror(errno);
	return NULL;
}

static bool
adopt_kept(struct listener *l, const struct address *a)
{
	int fd = inherited_by_address(
		l->side->loop->inherited, (const struct sockaddr *)&a->addr, a->len);

	if (fd < 0)
		return false;
	if (adopt(l, fd) == NULL)
		return true;
	sys_close(fd);
	l->fd = -1;
	return false;
}

static int
bind_new(struct listener *l, const struct address *a)
{
	if (l->fd >= 0) /* left by a failed attempt */
		sys_close(l->fd);
	l->fd = sys_socket(a->addr.ss_family, l->side->opts);
	if (l->fd < 0)
		return l->fd;
	return sys_listen(
		l->fd, (const struct sockaddr *)&a->addr, a->len, (int)l->side->opts->backlog);
}

/*
 * Binds and listens, after shutting down sockets that were kept for other addresses of the same
 * port: these are in the way, and not wanted any more.
 */
static int
try_bind(struct listener *l, const struct address *a)
{
	int error;

	if (adopt_kept(l, a))
		return 0;
	error = bind_new(l, a);
	if (error == -EADDRINUSE && inherited_make_way(l->side->loop->inherited, &a->addr))
		error = bind_new(l, a);
	return error;
}

static const char *
bind_address(struct listener *l, const struct address *a)
{
	int error = try_bind(l, a);

	return error != 0 ? strerror(-error) : NULL;
}

/* `*` means both families on one socket, or IPv4 alone where there is no IPv6. 0 or -errno. */
static int
bind_tcp(struct listener *l, const struct endpoint *e, const struct address *a)
{
	struct sockaddr_in any4 = {.sin_family = AF_INET};
	struct address other = {0};
	int error = try_bind(l, a);

	if (l->fd < 0 && e->any_host) {
		address_set(&other, (struct sockaddr *)&any4, sizeof(any4));
		address_set_port(&other, e->port);
		error = try_bind(l, &other);
	}
	return error;
}

/*
 * The file is created with its final owner and mode, or without any permission, so that nobody can
 * connect before it is ready.
 */
static int
make_file(struct listener *l, const struct address *a, const char *path)
{
	const struct sockfile_owner *owner = &l->side->loop->socket_owner;
	mode_t mode = (mode_t)l->side->opts->ipc_mode;
	struct sockfile_maker maker = sockfile_begin(owner, mode, false);
	int error = try_bind(l, a);

	sockfile_end(&maker);
	if (!maker.switched || (error != -EACCES && error != -EPERM))
		return error;
	maker = sockfile_begin(owner, mode, true);
	error = try_bind(l, a);
	sockfile_end(&maker);
	return error != 0 ? error : sockfile_give(path, owner, mode);
}

/*
 * Binds while the directory is locked: no other broker changes the file until the socket listens.
 */
static const char *
bind_file(struct listener *l, const struct address *a, const char *path)
{
	const char *wrong;
	struct stat st;
	int error;

	if (lstat(path, &st) != 0 || !S_ISSOCK(st.st_mode) || !adopt_kept(l, a)) {
		wrong = clear_stale_file(a, path, l->side->opts);
		if (wrong != NULL)
			return wrong;
		error = make_file(l, a, path);
	} else {
		error = sockfile_set_mode(
			path, st.st_dev, st.st_ino, (mode_t)l->side->opts->ipc_mode);
	}
	if (error != 0)
		return strerror(-error);
	if (lstat(path, &st) != 0)
		return strerror(errno);
	l->owns_file = true;
	l->file_dev = st.st_dev;
	l->file_ino = st.st_ino;
	memcpy(l->path, path, strlen(path) + 1); /* endpoint_parse saw to it that it fits */
	return NULL;
}

static const char *
bind_ipc(struct listener *l, const struct endpoint *e)
{
	struct address a = {0};
	const char *wrong;
	int lock;

	address_of_ipc(&a, e);
	if (e->kind == ENDPOINT_ABSTRACT)
		return bind_address(l, &a);
	lock = sockfile_lock(e->host, &wrong);
	if (wrong == NULL)
		wrong = bind_file(l, &a, e->host);
	sockfile_unlock(lock);
	return wrong;
}

/* NULL, or what is wrong. */
static const char *
bind_named(struct listener *l, const char *name)
{
	const char *wrong;
	int fd = inherited_by_name(l->side->loop->inherited, name, &wrong);

	return fd < 0 ? wrong : adopt(l, fd);
}

static const char *
bind_endpoint(struct listener *l, const struct endpoint *e)
{
	return e->kind == ENDPOINT_FD ? bind_named(l, e->host) : bind_ipc(l, e);
}

static void on_acceptable_cb(void *arg, unsigned events);
static void retry_cb(struct timer *timer);
static void retry_task_cb(struct task *task);

/* NULL: no memory. */
static struct listener *
listener_alloc(struct side *side, const struct endpoint *e)
{
	struct listener *l = mem_try_new(sizeof(*l));

	if (l == NULL)
		return NULL;
	*l = (struct listener){.side = side, .fd = -1};
	task_init(&l->waiting, retry_task_cb);
	timer_init(&l->timer, side->loop, retry_cb);
	ratelimit_init(&l->complaints, 1);
	snprintf(l->text, sizeof(l->text), "%s", e->text);
	return l;
}

/* The socket listens: its address as text, its port to *port, and a watch. 0 or -errno. */
static int
finish(struct listener *l, const struct endpoint *e, uint16_t *port)
{
	struct sockaddr_storage bound = {0};
	socklen_t len = sizeof(bound);

	if (e->kind == ENDPOINT_TCP || e->kind == ENDPOINT_FD) {
		if (getsockname(l->fd, (struct sockaddr *)&bound, &len) != 0)
			return -errno; /* nobody could find out its port */
		sys_address_text((struct sockaddr *)&bound, len, l->text, sizeof(l->text));
		if (bound.ss_family == AF_INET)
			*port = ntohs(((struct sockaddr_in *)&bound)->sin_port);
		else if (bound.ss_family == AF_INET6)
			*port = ntohs(((struct sockaddr_in6 *)&bound)->sin6_port);
	}
	l->watch = watch_new(l->side->loop, l->fd, on_acceptable_cb, l);
	return l->watch != NULL ? 0 : -ENOMEM;
}

/* Does this machine lack the address, or its whole family? Example: localhost without IPv6. */
static bool
is_not_here(int error)
{
	return error == -EAFNOSUPPORT || error == -EADDRNOTAVAIL;
}

static void
tell_failure(const struct address *a, int reason, bool many, char *error, size_t size)
{
	char text[ENDPOINT_TEXT_MAX];

	sys_address_text((const struct sockaddr *)&a->addr, a->len, text, sizeof(text));
	snprintf(error, size, "%s%s%s", many ? text : "", many ? ": " : "", strerror(-reason));
}

/* One attempt: a listener for each address, all on one port, or NULL and the reason. */
static struct listener *
open_addresses(struct side *side, const struct endpoint *e, struct addresses *list, int *reason,
	char *error, size_t size)
{
	struct listener *first = NULL, **end = &first;
	uint16_t port = e->port;

	*reason = 0;
	for (unsigned i = 0; i < list->count; i++) {
		struct listener *l = listener_alloc(side, e);
		int failed = -ENOMEM;

		address_set_port(&list->at[i], port);
		if (l != NULL)
			failed = bind_tcp(l, e, &list->at[i]);
		if (failed == 0)
			failed = finish(l, e, &port);
		if (failed == 0) {
			*end = l;
			end = &l->next;
			continue;
		}
		listener_free(l);
		*reason = failed;
		tell_failure(&list->at[i], failed, list->count > 1, error, size);
		if (!is_not_here(failed))
			break;
	}
	if (first != NULL && (*reason == 0 || is_not_here(*reason)))
		return first;
	listener_free(first);
	return NULL;
}

static struct listener *
open_tcp(struct side *side, const struct endpoint *e, char *error, size_t size)
{
	struct addresses list = {0};
	const char *wrong = addresses_of_tcp(&list, e);
	struct listener *l = NULL;
	int reason = 0;

	if (wrong != NULL) {
		snprintf(error, size, "%s", wrong);
		errno = EADDRNOTAVAIL;
		return NULL;
	}
	/* the port that was free on the first address may be in use on another */
	for (int i = 0; i < PORT_TRIES; i++) {
		l = open_addresses(side, e, &list, &reason, error, size);
		if (l != NULL || !e->any_port || reason != -EADDRINUSE || list.count == 1)
			break;
	}
	errno = -reason;
	return l;
}

struct listener *
listener_new(struct side *side, const struct endpoint *e, char *error, size_t size)
{
	struct listener *l;
	const char *wrong;
	uint16_t port;
	int failed;

	if (e->kind == ENDPOINT_TCP)
		return open_tcp(side, e, error, size);
	l = listener_alloc(side, e);
	if (l == NULL) {
		snprintf(error, size, "%s", strerror(ENOMEM));
		return NULL;
	}
	wrong = bind_endpoint(l, e);
	if (wrong == NULL && (failed = finish(l, e, &port)) != 0)
		wrong = strerror(-failed);
	if (wrong == NULL)
		return l;
	snprintf(error, size, "%s", wrong);
	listener_free(l);
	return NULL;
}

/* Removes the socket file unless another broker has replaced it since. */
static void
remove_file(const struct listener *l)
{
	const char *wrong;
	struct stat st;
	int lock = sockfile_lock(l->path, &wrong);

	if (wrong == NULL && lstat(l->path, &st) == 0 && st.st_dev == l->file_dev &&
		st.st_ino == l->file_ino && unlink(l->path) != 0)
		log_event(LOG_LEVEL_NOTICE, "socket_left", "endpoint=ipc://%s error=\"%s\"",
			l->path, strerror(errno));
	sockfile_unlock(lock);
}

void
listener_free(struct listener *l)
{
	for (struct listener *next; l != NULL; l = next) {
		next = l->next;
		if (l->owns_file && !l->kept)
			remove_file(l);
		task_cancel(&l->waiting);
		watch_free(l->watch);
		timer_stop(&l->timer);
		if (l->fd >= 0)
			sys_close(l->fd);
		free(l);
	}
}

struct listener *
listener_next(const struct listener *l)
{
	return l->next;
}

const char *
listener_text(const struct listener *l)
{
	return l->text;
}

const char *
listener_path(const struct listener *l)
{
	return l->path;
}

int
listener_fd(const struct listener *l)
{
	return l->fd;
}

bool
listener_is_paused(const struct listener *l)
{
	return l->paused;
}

void
listener_keep(struct listener *l)
{
	l->kept = true;
}

bool
listener_is_kept(const struct listener *l)
{
	return l->kept;
}

void
listener_unkeep(struct listener *l)
{
	l->kept = false;
	(void)shutdown(l->fd, SHUT_RDWR);
}

void
listener_move(struct listener *l, struct side *side, uint32_t origin)
{
	l->side = side;
	l->origin = origin;
}

static void
complain_retune(const struct listener *l, const char *option, int error)
{
	if (error != 0)
		log_event(LOG_LEVEL_WARNING, "retune_failed",
			"proxy=%s side=%s endpoint=%s option=%s error=\"%s\"", l->side->proxy_name,
			l->side->name, l->text, option, strerror(-error));
}

void
listener_retune(struct listener *l)
{
	const struct side_opts *o = l->side->opts;
	struct stat st;

	if (l->owns_file && lstat(l->path, &st) == 0 && (st.st_mode & 07777) != (mode_t)o->ipc_mode)
		complain_retune(l, "ipc_mode",
			sockfile_set_mode(l->path, l->file_dev, l->file_ino, (mode_t)o->ipc_mode));
	complain_retune(l, "backlog", listen(l->fd, (int)o->backlog) == 0 ? 0 : -errno);
}

/* --- accepting ------------------------------------------------------------ */

static void
complain(struct listener *l, const char *reason)
{
	if (ratelimit_pass(&l->complaints, loop_now(l->side->loop)))
		log_event(LOG_LEVEL_WARNING, "accept_paused",
			"proxy=%s side=%s endpoint=%s reason=\"%s\" connections=%" PRIu32,
			l->side->proxy_name, l->side->name, l->text, reason,
			l->side->loop->connections);
}

void
listener_start(struct listener *l)
{
	task_cancel(&l->waiting);
	timer_stop(&l->timer);
	l->paused = !watch_set(l->watch, WATCH_IN);
	if (!l->paused)
		return;
	complain(l, "cannot watch the descriptor");
	timer_set(&l->timer, RETRY_MS);
}

static void
retry_cb(struct timer *timer)
{
	listener_start(list_entry(timer, struct listener, timer));
}

static void
pause_for(struct listener *l, const char *reason)
{
	l->paused = true;
	watch_set(l->watch, 0);
	complain(l, reason);
}

static void
retry_task_cb(struct task *task)
{
	struct listener *l = list_entry(task, struct listener, waiting);

	if (l->evicting || slots_find_place(l->side))
		listener_start(l);
}

/*
 * A peer wants to connect at a limit: a connection in its handshake is closed to make room, or will
 * be when it is old enough, or accepting waits until a connection is freed.
 */
static void
make_place(struct listener *l, const char *reason)
{
	int64_t left = slots_evict(l->side);

	l->evicting = left == 0;
	if (left < 0)
		pause_for(l, reason);
	if (left < 0 && slots_are_short(l->side->loop))
		left = RETRY_MS; /* descriptors may be returned by other processes, too */
	if (left > 0)
		timer_set(&l->timer, left);
	watch_set(l->watch, 0);
	loop_await_place(l->side->loop, &l->waiting);
}

static void
on_acceptable_cb(void *arg, unsigned events)
{
	struct listener *l = arg;
	struct sockaddr_storage addr;
	struct conn *conn;
	socklen_t len;
	int fd;

	(void)events;
	if (!slots_find_place(l->side)) {
		make_place(l, "max_connections");
		return;
	}
	/* after the first one nobody may be waiting: the next turn will tell */
	for (int i = 0; i < ACCEPTS_PER_TURN && slots_find_place(l->side); i++) {
		fd = sys_accept(l->fd, &addr, &len);
		if (fd >= 0) {
			conn = conn_accept(l->side, fd, (struct sockaddr *)&addr, len);
			if (conn != NULL)
				conn->origin = l->origin;
			continue;
		}
		if (sys_accept_is_over(fd))
			continue;
		if (sys_accept_is_short(fd)) {
			slots_run_short(l->side->loop);
			make_place(l, strerror(-fd));
		} else if (fd != -EAGAIN) {
			pause_for(l, strerror(-fd));
			timer_set(&l->timer, RETRY_MS);
		}
		return;
	}
}
