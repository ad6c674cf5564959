#include "net/http.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/ratelimit.h"

enum {
	SWEEP_MS = 1000, /* between two looks for connections that take too long */
	RETRY_MS = 100,  /* while descriptors are short */
	GROUPS_MAX = 64,
	READ_AHEAD = 2 * (HTTP_HEADER_MAX + HTTP_BODY_MAX),
	WRITE_AT_ONCE = 1 << 20
};

/* A connection of evhttp's. The reference is ours, so that its end can be seen. */
struct http_conn {
	struct list node; /* the one that was accepted or answered first comes first */
	struct bufferevent *bev;
	int64_t since; /* accepted, asked or answered last, at */
	bool ended;    /* by us; evhttp will let go of it */
};

struct http_server {
	struct loop *loop;
	struct evhttp *evhttp;
	struct evconnlistener *listener; /* evhttp's */
	void (*on_request)(void *arg, struct http_request *request);
	void *arg;
	struct list conns;
	unsigned count;
	struct list requests; /* not answered yet */
	size_t unsent;
	struct timer sweep_timer, retry_timer;
	struct ratelimit complaints;
};

struct http_request {
	struct list node;
	struct http_server *server;
	struct evhttp_request *evhttp;
};

struct http_body {
	unsigned refs;
	size_t len;
	char *text;
};

/* --- connections ----------------------------------------------------------- */

/* evhttp takes its callbacks off when it lets go of a connection. */
static bool
is_gone(const struct http_conn *conn)
{
	bufferevent_event_cb on_event = NULL;

	bufferevent_getcb(conn->bev, NULL, NULL, &on_event, NULL);
	return on_event == NULL;
}

static void
forget(struct http_server *s, struct http_conn *conn)
{
	list_remove(&conn->node);
	s->count--;
	bufferevent_decref(conn->bev);
	free(conn);
}

/* evhttp sees the end, and does the rest. */
static void
hang_up(struct http_conn *conn)
{
	evutil_socket_t fd = bufferevent_getfd(conn->bev);

	conn->ended = true;
	if (fd >= 0)
		(void)shutdown(fd, SHUT_RDWR);
}

static void
sweep_timer_cb(struct timer *timer)
{
	struct http_server *s = list_entry(timer, struct http_server, sweep_timer);
	int64_t now = loop_now(s->loop);

	list_each(node, tmp, &s->conns)
	{
		struct http_conn *conn = list_entry(node, struct http_conn, node);

		if (now - conn->since >= HTTP_REQUEST_MS)
			hang_up(conn);
	}
	if (s->count > 0)
		timer_set(&s->sweep_timer, SWEEP_MS);
}

void
http_turn(struct http_server *s)
{
	unsigned open = 0;

	list_each(node, tmp, &s->conns)
	{
		struct http_conn *conn = list_entry(node, struct http_conn, node);

		if (is_gone(conn))
			forget(s, conn);
		else if (!conn->ended)
			open++;
	}
	list_each(node, tmp, &s->conns)
	{
		struct http_conn *conn = list_entry(node, struct http_conn, node);

		if (open > HTTP_CONNECTIONS && !conn->ended) {
			hang_up(conn);
			open--;
		}
	}
}

/* evhttp asks for a bufferevent for each connection that it accepted. */
static struct bufferevent *
on_accept_cb(struct event_base *base, void *arg)
{
	struct http_server *s = arg;
	struct http_conn *conn = mem_try_new(sizeof(*conn));

	if (conn == NULL)
		return NULL; /* evhttp makes one of its own, which has evhttp's timeout alone */
	/*
	 * Closed with the last reference, which is ours: when evhttp closed it, the events would
	 * still be there, and those of the next connection with that number would be lost in them.
	 */
	conn->bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	if (conn->bev == NULL) {
		free(conn);
		return NULL;
	}
	bufferevent_incref(conn->bev);
	/* evhttp reads on while it writes: a client that sends and never reads would fill the memory */
	bufferevent_setwatermark(conn->bev, EV_READ, 0, READ_AHEAD);
	bufferevent_set_max_single_write(conn->bev, WRITE_AT_ONCE);
	conn->since = loop_now(s->loop);
	list_push(&s->conns, &conn->node);
	s->count++;
	if (s->sweep_timer.due == CLOCK_NEVER)
		timer_set(&s->sweep_timer, SWEEP_MS);
	return conn->bev;
}

/*
 * A request came on its connection, or was answered: it has its time again. Only an answer makes
 * it the last that has to go: a newcomer must not go before those that merely ask.
 */
static void
touch(struct http_server *s, struct evhttp_request *req, bool answered)
{
	struct evhttp_connection *evcon = evhttp_request_get_connection(req);
	struct bufferevent *bev = evcon != NULL ? evhttp_connection_get_bufferevent(evcon) : NULL;

	list_each(node, tmp, &s->conns)
	{
		struct http_conn *conn = list_entry(node, struct http_conn, node);
		if (conn->bev != bev)
			continue;
		conn->since = loop_now(s->loop);
		if (answered)
			list_move(&s->conns, &conn->node);
		return;
	}
}

/* No descriptors: a listener that is ready for ever must not spin. */
static void
on_accept_error_cb(struct evconnlistener *listener, void *arg)
{
	struct http_server *s = arg;

	if (ratelimit_pass(&s->complaints, loop_now(s->loop)))
		log_event(LOG_LEVEL_WARNING, "http_accept_paused", "error=\"%s\"",
			evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
	evconnlistener_disable(listener);
	timer_set(&s->retry_timer, RETRY_MS);
}

static void
retry_timer_cb(struct timer *timer)
{
	evconnlistener_enable(list_entry(timer, struct http_server, retry_timer)->listener);
}

/* --- requests ---------------------------------------------------------------- */

static void
on_request_cb(struct evhttp_request *req, void *arg)
{
	struct http_server *s = arg;
	struct http_request *r = mem_try_new(sizeof(*r));

	if (r == NULL) {
		evhttp_send_error(req, HTTP_SERVUNAVAIL, NULL);
		return;
	}
	touch(s, req, false);
	r->server = s;
	r->evhttp = req;
	list_push(&s->requests, &r->node);
	s->on_request(s->arg, r);
}

const char *
http_path(const struct http_request *r)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(r->evhttp);
	const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;

	return path != NULL && path[0] != '\0' ? path : "/";
}

bool
http_is_post(const struct http_request *r)
{
	return evhttp_request_get_command(r->evhttp) == EVHTTP_REQ_POST;
}

static int
fd_of(const struct http_request *r)
{
	struct evhttp_connection *evcon = evhttp_request_get_connection(r->evhttp);

	return evcon != NULL ? bufferevent_getfd(evhttp_connection_get_bufferevent(evcon)) : -1;
}

bool
http_peer(const struct http_request *r, struct http_peer *out)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd_of(r), SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
		return false;
	*out = (struct http_peer){cred.uid, cred.gid, cred.pid};
	return true;
}

bool
http_peer_in_group(const struct http_request *r, const struct http_peer *peer, gid_t gid)
{
	gid_t groups[GROUPS_MAX];
	socklen_t len = sizeof(groups);

	if (peer->gid == gid)
		return true;
	if (getsockopt(fd_of(r), SOL_SOCKET, SO_PEERGROUPS, groups, &len) != 0)
		return false;
	for (size_t i = 0; i < len / sizeof(groups[0]); i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/* --- answers ------------------------------------------------------------------ */

struct http_body *
http_body_new(char *text, size_t len)
{
	struct http_body *body = mem_new(sizeof(*body));

	*body = (struct http_body){1, len, text};
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

/* A body on its way out. */
struct sending {
	struct http_server *server;
	struct http_body *body;
};

static void
on_sent_cb(const void *data, size_t len, void *arg)
{
	struct sending *sending = arg;

	(void)data;
	sending->server->unsent -= len;
	http_body_unref(sending->body);
	free(sending);
}

static bool
attach(struct http_server *s, struct evbuffer *out, struct http_body *body)
{
	struct sending *sending;

	if (s->unsent + body->len > HTTP_UNSENT_MAX)
		return false;
	sending = mem_try_new(sizeof(*sending));
	if (sending == NULL)
		return false;
	*sending = (struct sending){s, body};
	if (evbuffer_add_reference(out, body->text, body->len, on_sent_cb, sending) != 0) {
		free(sending);
		return false;
	}
	body->refs++;
	s->unsent += body->len;
	return true;
}

static const char *
reason_of(int status)
{
	static const struct {
		int status;
		const char *reason;
	} reasons[] = {{200, "OK"}, {400, "Bad Request"}, {403, "Forbidden"}, {404, "Not Found"},
		{405, "Method Not Allowed"}, {409, "Conflict"}, {503, "Service Unavailable"}};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "";
}

static void
add_headers(struct evhttp_request *req, const char *type, size_t len, const char *allow,
	const char *policy)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
	char text[24];

	snprintf(text, sizeof(text), "%zu", len); /* of a HEAD, too */
	evhttp_add_header(headers, "Content-Length", text);
	evhttp_add_header(headers, "Content-Type", type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	evhttp_add_header(headers, "Content-Security-Policy",
		policy != NULL ? policy : "default-src 'none'; frame-ancestors 'none'");
	if (allow != NULL)
		evhttp_add_header(headers, "Allow", allow);
}

void
http_reply(struct http_request *r, int status, const char *type, struct http_body *body,
	const char *allow, const char *policy)
{
	struct http_server *s = r->server;
	struct evbuffer *out = mem_must(evbuffer_new());
	bool head = evhttp_request_get_command(r->evhttp) == EVHTTP_REQ_HEAD;

	touch(s, r->evhttp, true);
	if (body->len > 0 && !head && !attach(s, out, body)) {
		status = HTTP_SERVUNAVAIL;
		add_headers(r->evhttp, "text/plain", 0, NULL, NULL);
	} else {
		add_headers(r->evhttp, type, body->len, allow, policy);
	}
	evhttp_send_reply(r->evhttp, status, reason_of(status), out);
	evbuffer_free(out);
	list_remove(&r->node);
	free(r);
}

/* --- life ----------------------------------------------------------------------- */

static bool
listen_on(struct http_server *s, int fd)
{
	const int on = 1;

	/* what is accepted inherits it: the second half of an answer must not wait for an ACK */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* not on a Unix socket */
	s->listener = evconnlistener_new(
		s->loop->base, NULL, NULL, LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_DISABLED, 0, fd);
	if (s->listener == NULL)
		return false;
	if (evhttp_bind_listener(s->evhttp, s->listener) == NULL) {
		evconnlistener_free(s->listener);
		return false;
	}
	evconnlistener_set_error_cb(s->listener, on_accept_error_cb);
	evconnlistener_enable(s->listener);
	return true;
}

struct http_server *
http_new(struct loop *loop, int fd, void (*on_request)(void *, struct http_request *), void *arg)
{
	struct http_server *s = mem_new(sizeof(*s));

	*s = (struct http_server){.loop = loop, .on_request = on_request, .arg = arg};
	list_init(&s->conns);
	list_init(&s->requests);
	timer_init(&s->sweep_timer, loop, sweep_timer_cb);
	timer_init(&s->retry_timer, loop, retry_timer_cb);
	ratelimit_init(&s->complaints, 1);
	s->evhttp = evhttp_new(loop->base);
	if (s->evhttp == NULL) {
		free(s);
		return NULL;
	}
	evhttp_set_allowed_methods(s->evhttp, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST);
	evhttp_set_max_headers_size(s->evhttp, HTTP_HEADER_MAX);
	evhttp_set_max_body_size(s->evhttp, HTTP_BODY_MAX);
	evhttp_set_timeout(s->evhttp, HTTP_REQUEST_MS / 1000);
	evhttp_set_bevcb(s->evhttp, on_accept_cb, s);
	evhttp_set_gencb(s->evhttp, on_request_cb, s);
	if (!listen_on(s, fd)) {
		http_free(s);
		return NULL;
	}
	return s;
}

void
http_free(struct http_server *s)
{
	struct list *node;

	if (s == NULL)
		return;
	while ((node = list_pop(&s->requests)) != NULL) {
		struct http_request *r = list_entry(node, struct http_request, node);

		/* also one whose connection is gone is freed by its answer alone */
		evhttp_send_error(r->evhttp, HTTP_SERVUNAVAIL, NULL);
		free(r);
	}
	evhttp_free(s->evhttp); /* with its listener and its requests */
	while (!list_empty(&s->conns))
		forget(s, list_entry(s->conns.next, struct http_conn, node));
	/* libevent ends them, and gives back what they had to send, in a pass of its own */
	event_base_loop(s->loop->base, EVLOOP_NONBLOCK);
	timer_stop(&s->sweep_timer);
	timer_stop(&s->retry_timer);
	free(s);
}
