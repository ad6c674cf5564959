/* SPDX-License-Identifier: MIT */
/*
 * The pages: their paths, who may request each, what each needs and which function makes it.
 */
#ifndef BULKHEAD_ADMIN_PAGES_H
#define BULKHEAD_ADMIN_PAGES_H

#include <stdbool.h>
#include <stddef.h>

#include "admin/blob.h"
#include "admin/channel.h"
#include "admin/history.h"
#include "admin/http.h"
#include "admin/page.h"
#include "admin/snapshot.h"
#include "base/commands.h"

#define TEXT_TYPE "text/plain; charset=utf-8"
#define JSON_TYPE "application/json"
#define HTML_TYPE "text/html; charset=utf-8"

enum { PAGE_COUNT = 6 + COMMAND_COUNT };

enum needs {
	NEEDS_COUNTERS = CHANNEL_COUNTERS, /* a snapshot */
	NEEDS_PEERS = CHANNEL_PEERS,       /* one with all connections */
	NEEDS_NOTHING,
	NEEDS_LOOP /* the message process runs the command */
};

/* What pages are made from, besides a snapshot. */
struct sources {
	struct blob config;           /* the configuration as text */
	int stat_fd, fds_fd;          /* process_read's, */
	double boot_time;             /* likewise, read while files could be opened */
	char policy[PAGE_POLICY_MAX]; /* of the status page */
	struct history history;
	const char *argument; /* of the request that is answered; NEEDS_NOTHING alone */
};

/* A complete answer. */
struct rendered {
	int status;
	const char *type;
	struct http_body *body; /* NULL: not made yet, or no memory */
	const char *policy;     /* http_reply's */
};

struct page {
	const char *path;
	bool post;
	bool control_only;
	const char *argument; /* the name of what follows the path and a '/'; NULL: nothing */
	unsigned number;      /* index of its handler; for a command its enum command */
};

struct page_handler {
	enum needs needs;
	/* makes the answer from the snapshot that it needs; NULL: NEEDS_LOOP */
	struct rendered (*render)(const struct sources *from, const struct snapshot *s);
};

extern const struct page_handler page_handlers[PAGE_COUNT];

/* The page at `path`, and where its argument begins, "" without one. NULL: there is none. */
const struct page *page_find(const char *path, const char **argument);

/* True for a page that programs request: its errors are JSON. */
bool page_is_command(const struct page *page);

#endif
