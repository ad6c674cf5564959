/* SPDX-License-Identifier: MIT */
/*
 * The admin side in the message process: it binds the control socket and the HTTP port, keeps the
 * admin process running that serves them (keeper.h, server.h), fills in a snapshot at the end of a
 * turn when the admin process requests one, and runs an operator's commands. It makes no text and
 * never blocks. It keeps the listening sockets, so that it can give them to a new admin process.
 */
#ifndef BULKHEAD_ADMIN_ADMIN_H
#define BULKHEAD_ADMIN_ADMIN_H

#include <stdbool.h>
#include <sys/types.h>

#include "admin/snapshot.h"
#include "broker/broker.h"
#include "net/endpoint.h"

struct admin;

/* What the service does for the admin side. */
struct admin_hooks {
	void *arg;
	/*
	 * Set the snapshot's state and instance, and add the endpoints; the rest is filled in
	 * already. False: no memory.
	 */
	bool (*describe)(void *arg, struct snapshot *snapshot);
	/*
	 * Begin a reload, or another one after the one that is under way. Returns its number,
	 * with which admin_reloaded is called at its end; 0: the daemon is stopping.
	 */
	uint64_t (*reload)(void *arg);
};

/*
 * Bind the endpoints: `control` is a path, "" for none; the text of `http` is "" for none. Nothing
 * is served yet. If the control socket cannot be bound, that is a warning, and it is retried with
 * backoff. An HTTP port that is in use is waited for, 3 s at most; if it cannot be bound, NULL is
 * returned. All of this is logged. The broker and what the hooks use must outlive the admin side.
 */
struct admin *admin_new(struct broker *broker, const char *control, const struct endpoint *http,
	const struct admin_hooks *hooks);

/*
 * Start the admin process, now or as soon as there is something to serve. False, logged, if that
 * fails. From then on it is restarted whenever it ends.
 */
bool admin_start(struct admin *admin);

/*
 * Add a part of the next configuration, as text, to be shown. NULL: there was no memory for it.
 */
void admin_add_config(struct admin *admin, const char *text, size_t len);

/*
 * From now on show the configuration whose parts were added, and use these: the host names that the
 * HTTP port accepts besides its own, each followed by a space or the end, and drain_timeout, in ms.
 * Logs a warning if other machines can reach the HTTP port. Without memory the old configuration is
 * still shown.
 */
void admin_set_config(struct admin *admin, const char *http_hosts, int64_t drain_timeout);

/* The reload of this number is over: answer its commands with `text`, a report or why not. */
void admin_reloaded(struct admin *admin, uint64_t number, bool done, const char *text);

/* End the admin process, close the endpoints, free. NULL is fine. */
void admin_free(struct admin *admin);

#endif
