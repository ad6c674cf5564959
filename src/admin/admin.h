/* SPDX-License-Identifier: MIT */
/*
 * The admin side, as the message process has it: it binds the doors (the control socket and the
 * HTTP port), keeps the admin process running that serves them (keeper.h, server.h), fills a
 * snapshot at the end of a turn when that asks for one, and does what an operator asked for. It
 * makes no text and waits for nobody. The listening sockets stay with it, so that a new admin
 * process can have them.
 */
#ifndef BULKHEAD_ADMIN_ADMIN_H
#define BULKHEAD_ADMIN_ADMIN_H

#include <stdbool.h>
#include <sys/types.h>

#include "admin/snapshot.h"
#include "broker/broker.h"
#include "net/endpoint.h"

struct admin;

/* What the service does for it. */
struct admin_hooks {
	void *arg;
	/*
	 * Set the snapshot's state and instance, add the endpoints; the rest was taken. False: no
	 * memory.
	 */
	bool (*describe)(void *arg, struct snapshot *snapshot);
	/*
	 * Begin a reload, or another one after the one that is under way. Returns the number by
	 * which admin_reloaded will tell of its end; 0: the daemon is stopping.
	 */
	uint64_t (*reload)(void *arg);
};

/*
 * Bind the endpoints: `control` is a path, "" for none; the text of `http` is "" for none. Nothing
 * is served yet. A control socket that cannot be had is a warning, and is tried again, with
 * backoff, until it can; an HTTP port that somebody else has is waited for, 3 s at most, and one
 * that cannot be had is an error, and NULL is returned. All is logged. The broker and what the
 * hooks use must outlive it.
 */
struct admin *admin_new(struct broker *broker, const char *control, const struct endpoint *http,
	const struct admin_hooks *hooks);

/*
 * Start the admin process, when there is something to serve, or as soon as there is. False, logged,
 * when that fails. From then on it is started again whenever it ends.
 */
bool admin_start(struct admin *admin);

/*
 * A part of the configuration that will hold, as text, to be shown. NULL: there was no memory for
 * it.
 */
void admin_add_config(struct admin *admin, const char *text, size_t len);

/*
 * What holds from now on: the configuration, all of whose parts were added; the names that the HTTP
 * port answers to besides its own, each followed by a space or the end; and drain_timeout, ms. Says
 * in the log when the HTTP port can be reached from other machines. Without memory the old ones are
 * shown.
 */
void admin_set_config(struct admin *admin, const char *http_hosts, int64_t drain_timeout);

/* The reload of this number is over: those who asked for it get `text`, a report or why not. */
void admin_reloaded(struct admin *admin, uint64_t number, bool done, const char *text);

/* End the admin process, close everything, free. NULL is fine. */
void admin_free(struct admin *admin);

#endif
