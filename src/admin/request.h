/* SPDX-License-Identifier: MIT */
/*
 * HTTP/1.1 requests (RFC 9110, RFC 9112), bytes in, a request or a status out: the part that
 * strangers talk to, without a socket. It takes what the pages need and refuses the rest: no
 * chunked bodies, no continued lines, nothing that two readers could understand in two ways.
 */
#ifndef BULKHEAD_ADMIN_REQUEST_H
#define BULKHEAD_ADMIN_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

enum {
	REQUEST_HEAD_MAX = 8192, /* bytes of the line and the headers */
	REQUEST_BODY_MAX = 4096,
	REQUEST_PATH_MAX = 512,
	REQUEST_HOST_MAX = 272
};

enum request_method { REQUEST_GET, REQUEST_HEAD, REQUEST_POST };

struct request_head {
	enum request_method method;
	unsigned minor;  /* of HTTP/1.x */
	bool keep_alive; /* another request may follow */
	bool has_host;
	char path[REQUEST_PATH_MAX]; /* as sent, without the query */
	char host[REQUEST_HOST_MAX]; /* of the target, or of the field Host */
	size_t body;                 /* bytes that follow, to be thrown away */
};

enum { REQUEST_MORE = 0, REQUEST_WHOLE = 200 };

/*
 * Parse the request at the start of `len` bytes. `*seen`: 0 for a new one; how far an earlier call
 * got with the same bytes. Returns REQUEST_WHOLE, with *used, its bytes without the body;
 * REQUEST_MORE, when there are too few; or the status to refuse it with, and then the connection
 * ends.
 */
int request_parse(struct request_head *r, const char *data, size_t len, size_t *seen, size_t *used);

/* What stands after the status in an answer; static text. */
const char *request_reason(int status);

#endif
