/*
 * The other thread: it serves the HTTP port and the control socket, so that the message loop
 * never renders a text, and never waits. It asks the loop by letters; the loop fills a snapshot
 * at the end of a turn, or does what an operator asked for, and sends the letter back. Snapshots
 * and what is made of them are kept for a moment: many requests cost the loop one look.
 */
#ifndef BULKHEAD_DAEMON_ADMIN_H
#define BULKHEAD_DAEMON_ADMIN_H

#include <stdbool.h>
#include <sys/types.h>

#include "broker/broker.h"
#include "daemon/config.h"
#include "admin/snapshot.h"

struct admin;

/* What the service does for it, on the message loop's thread. */
struct admin_hooks {
	void *arg;
	/* Set the snapshot's state and add the endpoints; the rest was taken. False: no memory. */
	bool (*look)(void *arg, struct snapshot *snapshot);
	/* service_reload */
	bool (*reload)(void *arg, char **report);
};

/* How many descriptors it may need beyond those that every daemon has. */
unsigned admin_descriptors(const struct config_broker *config);

/*
 * Bind the endpoints that the configuration has; nothing is served yet. A control socket that
 * cannot be had is a warning; an HTTP port that cannot is an error, and NULL is returned. Both
 * are logged. The broker and what the hooks
 * use must outlive it.
 */
struct admin *admin_new(struct broker *broker, const struct config *config,
	const struct admin_hooks *hooks);

/* The control socket's file goes to this user and group; -1: stays as it is. */
void admin_give_socket(struct admin *admin, uid_t uid, gid_t gid);

/* Start the thread, when there is something to serve. False, logged, when that fails. */
bool admin_start(struct admin *admin);

/* What is shown as the effective configuration from now on. From the message loop's thread. */
void admin_set_config(struct admin *admin, const struct config *config);

/* Stop the thread, close everything, free. NULL is fine. */
void admin_free(struct admin *admin);

#endif
