/* SPDX-License-Identifier: MIT */
/*
 * HTTP/1.1 requests (RFC 9110, RFC 9112), bytes in, a request or a status out. Strangers choose
 * these bytes, so the parser uses no socket and is fuzzed. It accepts what the pages need and
 * refuses the rest: chunked bodies, continued lines, and anything that two parsers might read
 * differently.
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
	char host[REQUEST_HOST_MAX]; /* from the target, or from the field Host */
	size_t body;                 /* bytes that follow, to be discarded */
};

enum { REQUEST_MORE = 0, REQUEST_WHOLE = 200 };

/*
 * Parse the request at the start of `len` bytes. `*seen` is 0 for a new request, or what an earlier
 * call with the same bytes left there. Returns REQUEST_WHOLE, and in *used the bytes of its head;
 * REQUEST_MORE if it is not complete; or the status to refuse it with before closing the
 * connection.
 */
int request_parse(struct request_head *r, const char *data, size_t len, size_t *seen, size_t *used);

/* The reason phrase of a status; static text. */
const char *request_reason(int status);

#endif
