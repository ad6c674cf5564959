/* SPDX-License-Identifier: MIT */
/*
 * A small HTTP server on one or more listening sockets, in the admin process. It limits what
 * strangers can cost, without relying on a library for that.
 *
 * There are at most HTTP_CONNECTIONS connections: to accept one more, it closes a connection of the
 * address that has most of them, the one that was answered or accepted longest ago. A connection
 * that does not complete a request within HTTP_REQUEST_MS is closed, whether it is idle, sends
 * slowly or does not read its answer. It holds one buffer of fixed size, and one request at a time:
 * the next one is read after the last was answered. Without memory or descriptors the connection is
 * closed.
 */
#ifndef BULKHEAD_ADMIN_HTTP_H
#define BULKHEAD_ADMIN_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "admin/request.h"
#include "net/loop.h"

enum {
	HTTP_CONNECTIONS = 32,
	/* for one request: from the answer before, or the accept, to the end of its answer */
	HTTP_REQUEST_MS = 10000,
	HTTP_UNSENT_MAX = 64 << 20 /* bytes of all answers that were not read yet */
};

struct http_server;
struct http_request;

struct http_hooks {
	void *arg;
	/* A request, to be answered by http_reply, now or later. */
	void (*on_request)(void *arg, struct http_request *request);
	/*
	 * The client has closed its connection before its request was answered: forget the request.
	 */
	void (*on_gone)(void *arg, struct http_request *request);
	/* Accepting failed, and pauses for a moment: an errno. */
	void (*on_accept_error)(void *arg, int error);
};

/* Who is at the other end of a Unix socket. */
struct http_peer {
	uid_t uid;
	gid_t gid;
	pid_t pid;
};

/* NULL without memory. The hooks are copied. */
struct http_server *http_new(struct loop *loop, const struct http_hooks *hooks);

/*
 * Accept from the listening, non-blocking socket `fd`, which becomes the server's. False: no
 * memory.
 */
bool http_listen(struct http_server *server, int fd);

/* Close all connections and free; on_gone is called for unanswered requests. NULL is fine. */
void http_free(struct http_server *server);

/* The request itself. */
const struct request_head *http_request(const struct http_request *request);

/* For the owner's use: a pointer that stays with the request. */
void http_set_owner(struct http_request *request, void *owner);
void *http_owner(const struct http_request *request);

/* The address that it came to. */
const struct sockaddr_storage *http_local(const struct http_request *request);

/* Did it come to a socket that is bound to every address? */
bool http_is_to_any(const struct http_request *request);

/* Who sent it, over a Unix socket; false when that cannot be told. */
bool http_peer(const struct http_request *request, struct http_peer *out);

/* True if the peer is in this group, by its own or by a supplementary group. */
bool
http_peer_in_group(const struct http_request *request, const struct http_peer *peer, gid_t gid);

/* The text of an answer, which several answers may share. */
struct http_body;

/*
 * Takes over `text` (from malloc) of `len` bytes; the caller has the one reference. NULL without
 * memory, and then the text is freed, or if `text` is NULL.
 */
struct http_body *http_body_new(char *text, size_t len);

/* Drop a reference. NULL is fine. */
void http_body_unref(struct http_body *body);

/*
 * Answer with a status, a content type (static text) and a body, whose reference stays the
 * caller's, and be done with the request. NULL as a body: there was no memory for it, status 500.
 * `allow`: NULL, or the methods for a 405 (static text). `policy`: what a browser may do with it,
 * as Content-Security-Policy; NULL: nothing.
 */
void http_reply(struct http_request *request, int status, const char *type, struct http_body *body,
	const char *allow, const char *policy);

#endif
