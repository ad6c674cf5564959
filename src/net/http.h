/*
 * A small HTTP server on one listening socket: libevent's evhttp with limits on everything that
 * a client may have. It runs on a loop of its own thread, never on one that carries messages.
 *
 * At most HTTP_CONNECTIONS connections: one more closes the one whose last answer, or
 * whose beginning, is longest ago.
 * A connection that does not get one request through in HTTP_REQUEST_MS, be it idle,
 * dripping or not reading its answer, is closed.
 */
#ifndef BULKHEAD_NET_HTTP_H
#define BULKHEAD_NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "net/loop.h"

enum {
	HTTP_CONNECTIONS = 32,
	HTTP_HEADER_MAX = 8192,    /* bytes of a request's line and headers */
	HTTP_BODY_MAX = 4096,      /* bytes of its body */
	HTTP_REQUEST_MS = 10000,   /* one request, from its connection's last one to its answer's end */
	HTTP_UNSENT_MAX = 64 << 20 /* bytes of answers that were not read yet, all together */
};

struct http_server;
struct http_request;

/* Who is at the other end of a Unix socket. */
struct http_peer {
	uid_t uid;
	gid_t gid;
	pid_t pid;
};

/*
 * Serve HTTP on the listening, non-blocking socket `fd`, which stays the caller's and must
 * outlive the server. `on_request` gets each request, and has to see to it that it is answered by
 * http_reply, then or later. NULL without memory.
 */
struct http_server *http_new(struct loop *loop, int fd,
	void (*on_request)(void *arg, struct http_request *request), void *arg);

/* At the end of every turn of its loop: lets go of the connections that are done with. */
void http_turn(struct http_server *server);

/* Close all connections and free; requests that were not answered are gone. NULL is fine. */
void http_free(struct http_server *server);

/* The path, as sent, without the query; "/" at least. */
const char *http_path(const struct http_request *request);

/* POST; otherwise it is GET or HEAD. */
bool http_is_post(const struct http_request *request);

/* Who sent it, over a Unix socket; false when that cannot be told. */
bool http_peer(const struct http_request *request, struct http_peer *out);

/* Is that one in this group, by its own or by a supplementary one? */
bool http_peer_in_group(const struct http_request *request, const struct http_peer *peer, gid_t gid);

/* An answer's text, which several answers may share. */
struct http_body;

/* Takes over `text` (from malloc) of `len` bytes; one reference, the caller's. */
struct http_body *http_body_new(char *text, size_t len);

/* Give back a reference. NULL is fine. */
void http_body_unref(struct http_body *body);

/*
 * Answer with a status, a content type (static text) and a body, whose reference stays the
 * caller's, and be done with the request. `allow`: NULL, or the methods for a 405. `policy`: what a
 * browser may do with it, as Content-Security-Policy (copied); NULL: nothing.
 */
void http_reply(struct http_request *request, int status, const char *type,
	struct http_body *body, const char *allow, const char *policy);

#endif
