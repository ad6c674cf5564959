/* SPDX-License-Identifier: MIT */
/*
 * The inside of the admin side in the message process, for its files alone: admin.c (life),
 * admin_sockets.c, admin_snapshots.c, admin_commands.c, admin_config.c.
 */
#ifndef BULKHEAD_ADMIN_ADMIN_IMPL_H
#define BULKHEAD_ADMIN_ADMIN_IMPL_H

#include "admin/admin.h"
#include "admin/keeper.h"
#include "base/ratelimit.h"
#include "net/listener.h"

enum { ADMIN_RELOADS_MAX = 32 }; /* that wait: more than the admin process has under way */

/* An endpoint of ours; the admin process accepts from its sockets. */
struct admin_endpoint {
	struct side side;
	struct listener *listener; /* one for each address; NULL: closed */
};

/* A kind of snapshot: it is taken at the end of a turn, and not too often. */
struct snapshot_request {
	struct task task;
	struct timer timer; /* runs while the next one is not due yet */
	struct admin *admin;
	enum channel_snapshot which;
	int64_t taken_ms;
};

/* A command that is answered when a reload is over. */
struct pending_reload {
	uint64_t number; /* of the reload */
	struct channel_message command;
};

struct admin {
	struct loop *loop;
	struct broker *broker;
	struct admin_hooks hooks;
	int64_t started_ms, drain_timeout;
	struct side_opts opts;
	struct admin_endpoint endpoints[CHANNEL_ENDPOINTS];
	struct endpoint control; /* the control socket; retried while somebody else has it */
	char control_error[256]; /* why opening it failed last */
	struct timer control_timer;
	struct backoff control_backoff;
	struct keeper keeper;
	struct snapshot_request snapshots[CHANNEL_SNAPSHOTS];
	int events_fd; /* recent_share; -1: nothing is served */
	int config_fd; /* the configuration, and the names, as blobs; -1: none */
	int hosts_fd;
	int next_fd;    /* a configuration that is being written; -1 */
	int next_error; /* an errno: writing it failed */
	struct pending_reload reloads[ADMIN_RELOADS_MAX]; /* reload_count of them */
	unsigned reload_count;
	uint64_t max_fds;
	struct ratelimit notes;
};

/* --- admin_sockets.c ------------------------------------------------------ */

void admin_init_sockets(struct admin *admin, const char *control);
void admin_close_sockets(struct admin *admin);

/* Open the control socket. If somebody else has it, it is tried again later. */
void admin_open_control(struct admin *admin);

/* Open the HTTP port; an empty endpoint is fine. False, logged, if that fails. */
bool admin_open_http(struct admin *admin, const struct endpoint *endpoint);

/* True when at least one endpoint is open. */
bool admin_has_endpoint(const struct admin *admin);

/* Add the sockets of an endpoint to a message and its descriptors, of which *n are taken. */
void admin_add_sockets(const struct admin *admin, enum channel_endpoint which,
	struct channel_message *m, int *fds, size_t *n);

/* Log a warning for each address of the HTTP port that other machines can reach. */
void admin_warn_if_exposed(const struct admin *admin);

/* --- admin_snapshots.c ---------------------------------------------------- */

void admin_init_snapshots(struct admin *admin);

/* Take a snapshot at the end of this turn, or when the next one is due, and send it. */
void admin_ask_snapshot(struct admin *admin, enum channel_snapshot which);

/* The next snapshot is due at once: something was changed. */
void admin_expire_snapshots(struct admin *admin);

/* Nobody waits for one any more. */
void admin_cancel_snapshots(struct admin *admin);

/* --- admin_commands.c ----------------------------------------------------- */

/* Run a command and answer it, now or, a reload, later. */
void admin_run_command(struct admin *admin, const struct channel_message *m);

/* --- admin_config.c ------------------------------------------------------- */

/* Send the configuration, if there is one. */
void admin_send_config(struct admin *admin);
void admin_free_config(struct admin *admin);

#endif
