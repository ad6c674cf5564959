/* SPDX-License-Identifier: MIT */
/*
 * The configuration: plain data, read and checked as a whole before any of it is used.
 *
 * Every option is one row of the table in option_table.c.
 */
#ifndef BULKHEAD_DAEMON_CONFIG_H
#define BULKHEAD_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/idmap.h"
#include "base/sides.h"
#include "base/text.h"
#include "daemon/config_errors.h"
#include "daemon/slice.h"
#include "net/endpoint.h"
#include "broker/opts.h"

enum { OPTION_HOSTS_MAX = 512 };

struct config_side {
	bool present; /* the file has its section */
	int line;     /* of its section header */
	struct proxy_opts opts;
	struct endpoint *bind; /* bind_count of them */
	size_t bind_count;
	struct endpoint *connect; /* connect_count of them */
	size_t connect_count;
};

/* The options of [proxy]. */
struct config_proxy_opts {
	int64_t mode; /* enum proxy_mode */
};

enum proxy_mode { MODE_QUEUE, MODE_FORWARDER, MODE_STREAMER };

struct config_proxy {
	char name[64];
	struct config_proxy_opts opts;
	struct config_side side[PROXY_SIDES];
};

struct config_broker {
	int64_t log_level;     /* enum log_level of base/log.h */
	int64_t drain_timeout; /* ms */
	int64_t memory_limit;  /* bytes */
	int64_t max_connections;
	char user[64];                     /* empty: do not change */
	char group[64];                    /* empty: the user's own */
	char control[108];                 /* path of the control socket; empty: off */
	struct endpoint http;              /* of the HTTP port; its text is empty: off */
	char http_hosts[OPTION_HOSTS_MAX]; /* names, each followed by a space or the end */
};

struct config {
	char *path;
	struct config_broker broker;
	struct config_proxy *proxy; /* proxy_count of them, in file order */
	size_t proxy_count;
	struct idmap by_name; /* for config_find_proxy */
	struct text source;   /* the lines it was read from; last_good.c keeps a copy */
};

/*
 * Reads and checks the file at `path` ("-" is not special) in slices. The time it takes grows
 * linearly with the length of the file.
 */
struct config_reader;

/* NULL: no memory. */
struct config_reader *config_reader_new(const char *path);

/* Go on for one slice. False: the reader is done; call config_reader_end. */
bool config_reader_step(struct config_reader *reader, struct slice *slice);

/*
 * Free the reader. Returns a new configuration (config_free) when the whole file was read and is
 * good; otherwise NULL, and what is wrong with it in *errors (config_errors_fini).
 */
struct config *config_reader_end(struct config_reader *reader, struct config_errors *errors);

/* Free a reader without its result, at any time. */
void config_reader_free(struct config_reader *reader);

/* Read and check a file at once. NULL: *errors says why (config_errors_fini). */
struct config *config_load(const char *path, struct config_errors *errors);

/* The settings that are valid but have no effect, to *warnings (config_errors_fini). */
void config_warnings(const struct config *config, struct config_errors *warnings);

/* The proxy of this name, or NULL. */
const struct config_proxy *config_find_proxy(const struct config *config, const char *name);

/* Free a configuration; NULL is fine. */
void config_free(struct config *config);

/*
 * Free the parts of a configuration for one slice. Afterwards only this and config_free may be
 * called for it. True: there is more to free.
 */
bool config_free_step(struct config *config, struct slice *slice);

/*
 * Print the effective configuration as a valid ini file: every option with its value and a comment
 * that says what it does. That file gives the same configuration, and the same text again.
 */
void config_dump(const struct config *config, FILE *out);

/* The same for [broker] alone, and for the sections of one proxy. */
void config_dump_broker(const struct config *config, struct text *out);
void config_dump_proxy(const struct config_proxy *proxy, struct text *out);

#endif
