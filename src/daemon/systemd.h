/* SPDX-License-Identifier: MIT */
/*
 * The protocols between the daemon and systemd: inherited sockets, states, the watchdog. They are a
 * few environment variables and datagrams (sd_notify(3), sd_listen_fds(3)): less code than the
 * library for them would add. Without systemd all of it does nothing. Nothing waits for systemd:
 * datagrams that its socket does not accept at once are kept in order, and the loop retries.
 */
#ifndef BULKHEAD_DAEMON_SYSTEMD_H
#define BULKHEAD_DAEMON_SYSTEMD_H

#include <stdint.h>
#include <sys/un.h>

#include "net/inherit.h"
#include "net/listener.h"
#include "net/loop.h"

struct systemd {
	struct loop *loop;
	int fd;            /* for notifications; -1: nobody listens */
	struct list notes; /* struct note: not accepted by systemd yet */
	size_t note_count;
	struct timer notes_timer; /* runs while there are notes */
	struct sockaddr_un to;
	socklen_t to_len;
	struct inherited inherited;
	int64_t watchdog_ms; /* between two pings of the watchdog; 0: it is off */
	struct timer watchdog_timer;
	struct timer status_timer;
	void (*status)(void *arg, char *out, size_t size);
	void *status_arg;
	char last_status[192];
	bool reload_failed; /* the last one */
};

/* Read the environment, and take the inherited sockets, which the loop's listeners then find. */
void systemd_init(struct systemd *sd, struct loop *loop);

/* Close the sockets that nobody used. Wait up to a second for systemd to accept what is left. */
void systemd_fini(struct systemd *sd);

/*
 * Send READY=1. From now on the loop pings the watchdog, and sends the STATUS line that `status`
 * writes, every two seconds if it has changed. Sockets that the configuration does not name are
 * logged; those that systemd kept for us are closed, and removed from its store.
 */
void
systemd_ready(struct systemd *sd, void (*status)(void *arg, char *out, size_t size), void *arg);

/* Send RELOADING=1. */
void systemd_reloading(struct systemd *sd);

/* Send READY=1 again. After a failure, the STATUS line says so until a reload succeeds. */
void systemd_reloaded(struct systemd *sd, bool failed);

/* Send STOPPING=1; the stop may take `ms`. */
void systemd_stopping(struct systemd *sd, int64_t ms);

/*
 * Let systemd keep the listener's socket while the daemon restarts (FileDescriptorStoreMax in its
 * unit), so that connections made meanwhile wait instead of being refused. `text` is the endpoint.
 */
void systemd_keep(struct systemd *sd, struct listener *listener, const char *text);

/* The listener is removed for good: if systemd keeps its socket, let it drop that. */
void systemd_unkeep(struct systemd *sd, struct listener *listener, const char *text);

#endif
