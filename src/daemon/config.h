/*
 * The configuration: read whole, checked whole, then plain data.
 *
 * Every option is one row of the table in options.c; parsing, checking,
 * --dump-config and the documentation check come from that row.
 */
#ifndef BULKHEAD_DAEMON_CONFIG_H
#define BULKHEAD_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/idmap.h"
#include "net/endpoint.h"
#include "net/opts.h"

enum { OPTION_HOSTS_MAX = 512 };

enum { CONFIG_FRONTEND, CONFIG_BACKEND, CONFIG_SIDES };

struct config_side {
	bool present; /* its section stands in the file */
	int line;     /* of its section header */
	struct side_opts opts;
	struct endpoint *bind; /* bind_count of them */
	size_t bind_count;
	struct endpoint *connect; /* connect_count of them */
	size_t connect_count;
};

struct config_proxy {
	char name[64];
	struct config_side side[CONFIG_SIDES];
};

struct config_broker {
	int64_t log_level;     /* enum log_level of base/log.h */
	int64_t drain_timeout; /* ms */
	int64_t memory_limit;  /* bytes */
	int64_t max_connections;
	char user[64];  /* empty: do not change */
	char group[64]; /* empty: the user's own */
	char control[108];    /* path of the control socket; empty: off */
	struct endpoint http; /* of the HTTP port; its text is empty: off */
	char http_hosts[OPTION_HOSTS_MAX]; /* names, each followed by a space or the end */
};

struct config {
	char *path;
	struct config_broker broker;
	struct config_proxy *proxy; /* proxy_count of them, in file order */
	size_t proxy_count;
	struct idmap by_name; /* for config_find */
};

/*
 * Read and check the file at `path` ("-" is not special), in time that grows with its length.
 * Each line with an error gives `PATH:LINE: message` in `err`, at most 100 of them and
 * `PATH: and N more errors`; a file that cannot be read, or that is no regular file, gives
 * `PATH: reason`. Returns a new configuration (config_free), or NULL after at
 * least one error.
 */
struct config *config_load(const char *path, FILE *err);

/*
 * Write what is allowed and hardly meant, each as one line `PATH:LINE: warning: message`. Returns how
 * many there are.
 */
size_t config_warn(const struct config *config, FILE *out);

/* The proxy of this name, or NULL. */
const struct config_proxy *config_find(const struct config *config, const char *name);

/* Free what config_load returned; NULL is fine. */
void config_free(struct config *config);

/*
 * Print the effective configuration as a valid ini file: every option with
 * its value and a comment that says what it does. Reading it back gives the
 * same configuration, and dumping that gives the same text.
 */
void config_dump(const struct config *config, FILE *out);

#endif
