/* SPDX-License-Identifier: MIT */
#include "admin/http.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/sys.h"

enum {
	LISTENERS_MAX = 16,
	ACCEPTS_PER_TURN = 16,
	RETRY_MS = 100,   /* while descriptors are short */
	LINGER_MS = 1000, /* for an answer to be read before the rest of its request is refused */
	LINGER_MAX = 1 << 20, /* bytes of the rest that are read meanwhile */
	WRITE_AT_ONCE = 1 << 20,
	ANSWER_HEAD_MAX = 1024,
	GROUPS_AT_ONCE = 64,
	GROUPS_MAX = 65536 /* NGROUPS_MAX */
};

/*
 * READING --whole request--> ASKED --http_reply--> WRITING --all written--> READING, or LINGERING
 * It is closed from any of them.
 */
enum http_state { READING, ASKED, WRITING, LINGERING };

struct http_request {
	/* in its server's list: those that were accepted or answered first come first */
	struct list node;
	struct http_server *server;
	enum http_state state;
	int fd;
	struct watch *watch;
	struct timer timer; /* its deadline */
	struct task task;   /* to continue with what is in the buffer */
	bool to_any;
	struct sockaddr_storage local;
	uint8_t from[16]; /* the address or user that it counts for */
	void *owner;
	struct request_head request;
	size_t skip;   /* bytes of its body that have not come */
	size_t seen;   /* request_parse's */
	size_t in_len; /* bytes of the next request in `in` */
	size_t lingered;
	bool last; /* the connection ends with this answer */
	struct http_body *body;
	size_t head_len, body_len, written; /* of the answer */
	char head[ANSWER_HEAD_MAX];
	char in[REQUEST_HEAD_MAX];
};

struct listening {
	struct http_server *server;
	struct watch *watch;
	int fd;
	bool any; /* bound to every address */
};

struct http_server {
	struct loop *loop;
	struct http_hooks hooks;
	struct listening listening[LISTENERS_MAX];
	unsigned listeners;
	struct list conns;
	unsigned count;
	size_t unsent;
	struct timer retry_timer;
};

struct http_body {
	unsigned refs;
	size_t len;
	char *text;
};

/* --- bodies --------------------------------------------------------------- */

struct http_body *
http_body_new(char *text, size_t len)
{
	struct http_body *body = text != NULL ? mem_try(sizeof(*body)) : NULL;

	if (body != NULL)
		*body = (struct http_body){1, len, text};
	else
		free(text);
	return body;
}

void
http_body_unref(struct http_body *body)
{
	if (body == NULL || --body->refs > 0)
		return;
	free(body->text);
	free(body);
}

/* --- connections ---------------------------------------------------------- */

static void
drop_answer(struct http_request *r)
{
	r->server->unsent -= r->body_len;
	r->body_len = 0;
	http_body_unref(r->body);
	r->body = NULL;
}

/* Ends and frees it. */
static void
hang_up(struct http_request *r)
{
	struct http_server *s = r->server;

	if (r->state == ASKED)
		s->hooks.on_gone(s->hooks.arg, r);
	drop_answer(r);
	list_remove(&r->node);
	s->count--;
	task_cancel(&r->task);
	timer_stop(&r->timer);
	watch_free(r->watch);
	close(r->fd);
	free(r);
}

static void
timer_cb(struct timer *timer)
{
	hang_up(list_entry(timer, struct http_request, timer));
}

static unsigned
count_from(const struct http_server *s, const uint8_t from[16])
{
	unsigned n = 0;

	list_each_const(node, &s->conns)
		n += memcmp(list_entry(node, struct http_request, node)->from, from, 16) == 0;
	return n;
}

/* Closes the first connection of the address that has most: none can keep the others out. */
static void
evict_one(struct http_server *s)
{
	struct http_request *victim = NULL;
	unsigned most = 0;

	list_each_const(node, &s->conns) {
		struct http_request *r = list_entry(node, struct http_request, node);
		unsigned n = count_from(s, r->from);

		if (n <= most)
			continue;
		most = n;
		victim = r;
	}
	if (victim != NULL)
		hang_up(victim);
}

/* False: it failed, and the connection is gone. */
static bool
watch_for(struct http_request *r, unsigned events)
{
	if (watch_set(r->watch, events))
		return true;
	hang_up(r);
	return false;
}

/* --- answers -------------------------------------------------------------- */

/* Read the rest of a refused request: closing now would send a reset that destroys the answer. */
static void
linger(struct http_request *r)
{
	r->state = LINGERING;
	timer_set(&r->timer, LINGER_MS);
	(void)shutdown(r->fd, SHUT_WR);
	(void)watch_for(r, WATCH_IN);
}

static void
on_written(struct http_request *r)
{
	struct http_server *s = r->server;

	drop_answer(r);
	if (r->last) {
		linger(r);
		return;
	}
	r->state = READING;
	r->seen = 0;
	timer_set(&r->timer, HTTP_REQUEST_MS);
	list_move(&s->conns, &r->node);
	if (!watch_for(r, WATCH_IN))
		return;
	if (r->in_len > 0)
		loop_defer(s->loop, LOOP_RESUME, &r->task);
}

static void
write_answer(struct http_request *r)
{
	size_t in_body = r->written > r->head_len ? r->written - r->head_len : 0;
	size_t in_head = r->written < r->head_len ? r->written : r->head_len;
	size_t left = r->body_len - in_body;
	struct iovec iov[] = {{r->head + in_head, r->head_len - in_head},
		{r->body != NULL ? r->body->text + in_body : NULL,
			left < WRITE_AT_ONCE ? left : WRITE_AT_ONCE}};
	ssize_t n = sys_writev(r->fd, iov, iov[1].iov_len > 0 ? 2 : 1);

	if (n > 0)
		r->written += (size_t)n;
	if (n < 0 && n != -EAGAIN && n != -EINTR)
		hang_up(r);
	else if (r->written == r->head_len + r->body_len)
		on_written(r);
	else
		(void)watch_for(r, WATCH_OUT);
}

static void
put_head(struct http_request *r, int status, const char *type, size_t len, const char *allow,
	const char *policy)
{
	int n = snprintf(r->head, sizeof(r->head),
		"HTTP/1.1 %d %s\r\n"
		"Content-Length: %zu\r\n"
		"Content-Type: %s\r\n"
		"Cache-Control: no-store\r\n"
		"X-Content-Type-Options: nosniff\r\n"
		"Content-Security-Policy: %s\r\n"
		"%s%s%s%s\r\n",
		status, request_reason(status), len, type,
		policy != NULL ? policy : "default-src 'none'; frame-ancestors 'none'",
		allow != NULL ? "Allow: " : "", allow != NULL ? allow : "",
		allow != NULL ? "\r\n" : "",
		r->last                         ? "Connection: close\r\n"
			: r->request.minor == 0 ? "Connection: keep-alive\r\n"
						: "");

	r->head_len = n > 0 && (size_t)n < sizeof(r->head) ? (size_t)n : 0;
}

void
http_reply(struct http_request *r, int status, const char *type, struct http_body *body,
	const char *allow, const char *policy)
{
	struct http_server *s = r->server;
	bool head = r->request.method == REQUEST_HEAD;

	if (body == NULL)
		status = 500;
	if (body != NULL && !head && s->unsent + body->len > HTTP_UNSENT_MAX) {
		status = 503;
		body = NULL;
	}
	put_head(r, status, type, body != NULL ? body->len : 0, allow, policy);
	if (body != NULL && !head) {
		body->refs++;
		r->body = body;
		r->body_len = body->len;
		s->unsent += body->len;
	}
	r->written = 0;
	r->state = WRITING;
	timer_set(&r->timer, HTTP_REQUEST_MS);
	write_answer(r);
}

/* --- requests ------------------------------------------------------------- */

static void
refuse(struct http_request *r, int status)
{
	r->last = true;
	r->request.method = REQUEST_GET;
	put_head(r, status, "text/plain; charset=utf-8", 0, NULL, NULL);
	r->written = 0;
	r->state = WRITING;
	write_answer(r);
}

/* Discard the announced body as far as it is in the buffer. True: all of it has come. */
static bool
skip_body(struct http_request *r)
{
	size_t n = r->skip < r->in_len ? r->skip : r->in_len;

	memmove(r->in, r->in + n, r->in_len - n);
	r->in_len -= n;
	r->skip -= n;
	return r->skip == 0;
}

static void
hand_over(struct http_request *r)
{
	r->last = !r->request.keep_alive;
	r->state = ASKED;
	timer_set(&r->timer, HTTP_REQUEST_MS);
	/* a hang-up is not watched for: the client may have shut down only its half */
	if (watch_for(r, 0))
		r->server->hooks.on_request(r->server->hooks.arg, r);
}

/* The connection may be gone afterwards. */
static void
go_on(struct http_request *r)
{
	size_t used;
	int status;

	if (r->skip == 0) {
		status = request_parse(&r->request, r->in, r->in_len, &r->seen, &used);
		if (status == REQUEST_MORE)
			return;
		if (status != REQUEST_WHOLE) {
			refuse(r, status);
			return;
		}
		r->seen = 0;
		r->skip = used + r->request.body; /* the head goes with it */
	}
	if (skip_body(r))
		hand_over(r);
}

static void
task_cb(struct task *task)
{
	struct http_request *r = list_entry(&task->node, struct http_request, task.node);

	if (r->state == READING)
		go_on(r);
}

/* Reads a buffer full at most; a lingering connection discards it. */
static ssize_t
read_some(struct http_request *r)
{
	struct iovec iov = {r->in + r->in_len, sizeof(r->in) - r->in_len};
	ssize_t n;

	if (r->state == LINGERING)
		iov = (struct iovec){r->in, sizeof(r->in)};
	n = sys_readv(r->fd, &iov, 1);
	if (n > 0 && r->state == LINGERING)
		r->lingered += (size_t)n;
	else if (n > 0)
		r->in_len += (size_t)n;
	return n;
}

static void
on_readable(struct http_request *r)
{
	ssize_t n = read_some(r);

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0 || r->lingered > LINGER_MAX)
		hang_up(r);
	else if (r->state == READING)
		go_on(r);
}

static void
on_ready_cb(void *arg, unsigned events)
{
	struct http_request *r = arg;

	(void)events;
	if (r->state == WRITING)
		write_answer(r);
	else
		on_readable(r);
}

/* --- accepting ------------------------------------------------------------ */

/* All connections from one IPv4 address, one IPv6 network or one user count together. */
static void
set_from(struct http_request *r, const struct sockaddr_storage *peer)
{
	struct http_peer who;

	if (peer->ss_family == AF_INET)
		memcpy(r->from, &((const struct sockaddr_in *)peer)->sin_addr, 4);
	else if (peer->ss_family == AF_INET6) {
		const uint8_t *a = ((const struct sockaddr_in6 *)peer)->sin6_addr.s6_addr;
		bool mapped = IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *)peer)->sin6_addr);
		memcpy(r->from, mapped ? a + 12 : a, mapped ? 4 : 8);
	} else if (http_peer(r, &who)) {
		memcpy(r->from, &who.uid, sizeof(who.uid));
	}
}

static void
accept_one(struct listening *l, int fd, const struct sockaddr_storage *peer)
{
	struct http_server *s = l->server;
	struct http_request *r = mem_try_new(sizeof(*r));
	socklen_t len = sizeof(r->local);
	const int on = 1;

	if (r != NULL)
		r->watch = watch_new(s->loop, fd, on_ready_cb, r);
	if (r == NULL || r->watch == NULL) {
		free(r);
		close(fd);
		return;
	}
	if (s->count >= HTTP_CONNECTIONS)
		evict_one(s);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* not on a Unix socket */
	r->server = s;
	r->fd = fd;
	r->to_any = l->any;
	if (getsockname(fd, (struct sockaddr *)&r->local, &len) != 0)
		r->local.ss_family = AF_UNSPEC;
	set_from(r, peer);
	timer_init(&r->timer, s->loop, timer_cb);
	task_init(&r->task, task_cb);
	timer_set(&r->timer, HTTP_REQUEST_MS);
	list_push(&s->conns, &r->node);
	s->count++;
	(void)watch_for(r, WATCH_IN);
}

static void
watch_listeners(struct http_server *s, unsigned events)
{
	bool ok = true;

	for (unsigned i = 0; i < s->listeners; i++)
		ok = watch_set(s->listening[i].watch, events) && ok;
	if (!ok || events == 0)
		timer_set(&s->retry_timer, RETRY_MS);
}

static void
retry_timer_cb(struct timer *timer)
{
	watch_listeners(list_entry(timer, struct http_server, retry_timer), WATCH_IN);
}

static void
on_acceptable_cb(void *arg, unsigned events)
{
	struct listening *l = arg;
	struct http_server *s = l->server;
	struct sockaddr_storage peer;
	socklen_t len;

	(void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int fd = sys_accept(l->fd, &peer, &len);

		if (fd >= 0)
			accept_one(l, fd, &peer);
		if (fd >= 0 || sys_accept_is_over(fd))
			continue;
		if (fd == -EAGAIN)
			return;
		/* no descriptor: close a connection for the one that waits */
		if (sys_accept_is_short(fd))
			evict_one(s);
		watch_listeners(s, 0);
		s->hooks.on_accept_error(s->hooks.arg, -fd);
		return;
	}
}

/* --- what was asked ------------------------------------------------------- */

const struct request_head *
http_request(const struct http_request *r)
{
	return &r->request;
}

void
http_set_owner(struct http_request *r, void *owner)
{
	r->owner = owner;
}

void *
http_owner(const struct http_request *r)
{
	return r->owner;
}

const struct sockaddr_storage *
http_local(const struct http_request *r)
{
	return &r->local;
}

bool
http_is_to_any(const struct http_request *r)
{
	return r->to_any;
}

bool
http_peer(const struct http_request *r, struct http_peer *out)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(r->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
		return false;
	*out = (struct http_peer){cred.uid, cred.gid, cred.pid};
	return true;
}

static bool
has_group(const gid_t *groups, size_t count, gid_t gid)
{
	for (size_t i = 0; i < count; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

bool
http_peer_in_group(const struct http_request *r, const struct http_peer *peer, gid_t gid)
{
	gid_t some[GROUPS_AT_ONCE], *all;
	socklen_t len = sizeof(some);
	bool found;

	if (peer->gid == gid)
		return true;
	if (getsockopt(r->fd, SOL_SOCKET, SO_PEERGROUPS, some, &len) == 0)
		return has_group(some, len / sizeof(some[0]), gid);
	/* there are more groups: `len` now says how many bytes they take */
	if (errno != ERANGE || len > GROUPS_MAX * sizeof(*all))
		return false;
	all = mem_try(len);
	found = all != NULL && getsockopt(r->fd, SOL_SOCKET, SO_PEERGROUPS, all, &len) == 0 &&
		has_group(all, len / sizeof(*all), gid);
	free(all);
	return found;
}

/* --- life ----------------------------------------------------------------- */

struct http_server *
http_new(struct loop *loop, const struct http_hooks *hooks)
{
	struct http_server *s = mem_try_new(sizeof(*s));

	if (s == NULL)
		return NULL;
	*s = (struct http_server){.loop = loop, .hooks = *hooks};
	list_init(&s->conns);
	timer_init(&s->retry_timer, loop, retry_timer_cb);
	return s;
}

static bool
is_any(int fd)
{
	struct sockaddr_storage a = {0};
	socklen_t len = sizeof(a);

	if (getsockname(fd, (struct sockaddr *)&a, &len) != 0)
		return false;
	if (a.ss_family == AF_INET)
		return ((struct sockaddr_in *)&a)->sin_addr.s_addr == htonl(INADDR_ANY);
	return a.ss_family == AF_INET6 &&
		IN6_IS_ADDR_UNSPECIFIED(&((struct sockaddr_in6 *)&a)->sin6_addr);
}

bool
http_listen(struct http_server *s, int fd)
{
	struct listening *l = &s->listening[s->listeners];

	if (s->listeners == LISTENERS_MAX)
		return false;
	*l = (struct listening){s, watch_new(s->loop, fd, on_acceptable_cb, l), fd, is_any(fd)};
	if (l->watch == NULL)
		return false;
	s->listeners++;
	if (!watch_set(l->watch, WATCH_IN))
		timer_set(&s->retry_timer, RETRY_MS);
	return true;
}

void
http_free(struct http_server *s)
{
	if (s == NULL)
		return;
	while (!list_empty(&s->conns))
		hang_up(list_entry(s->conns.next, struct http_request, node));
	for (unsigned i = 0; i < s->listeners; i++) {
		watch_free(s->listening[i].watch);
		close(s->listening[i].fd);
	}
	timer_stop(&s->retry_timer);
	free(s);
}
