/* SPDX-License-Identifier: MIT */
/*
 * What the daemon and systemd tell each other: sockets that are handed over, states, the watchdog.
 * The protocols are a few environment variables and datagrams (sd_notify(3), sd_listen_fds(3)),
 * which take less than the library for them would bring along. Without systemd all of it does
 * nothing. Nothing waits for systemd: what its socket does not take at once is kept in order, and
 * the loop tries again.
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
	int fd;            /* to notify with; -1: nobody listens */
	struct list notes; /* struct note: what it has not taken yet */
	size_t note_count;
	struct timer notes_timer; /* runs while there are some */
	struct sockaddr_un to;
	socklen_t to_len;
	struct inherited inherited;
	int64_t watchdog_ms; /* between two signs of life; 0: nobody waits for them */
	struct timer watchdog_timer;
	struct timer status_timer;
	void (*status)(void *arg, char *out, size_t size);
	void *status_arg;
	char last_status[192];
	bool reload_failed; /* the last one */
};

/* Read the environment, and take what sockets there are; the loop's listeners find them. */
void systemd_init(struct systemd *sd, struct loop *loop);

/* The sockets that nobody took are closed. What systemd has not taken yet gets a second. */
void systemd_fini(struct systemd *sd);

/*
 * READY=1, and from now on signs of life from the loop for the watchdog, and a STATUS line that
 * `status` writes, every other second that it changes. Sockets that the configuration does not
 * name are logged, and those that were kept for it are given back.
 */
void
systemd_ready(struct systemd *sd, void (*status)(void *arg, char *out, size_t size), void *arg);

/* RELOADING=1; */
void systemd_reloading(struct systemd *sd);

/* ... and READY=1 again. When it failed, the STATUS line says so until one succeeds. */
void systemd_reloaded(struct systemd *sd, bool failed);

/* STOPPING=1; the stop may take `ms`. */
void systemd_stopping(struct systemd *sd, int64_t ms);

/*
 * Let systemd keep the listener's socket while the daemon restarts (FileDescriptorStoreMax in its
 * unit), so that nobody who connects meanwhile is refused. `text` is its endpoint.
 */
void systemd_keep(struct systemd *sd, struct listener *listener, const char *text);

/* Of one that was kept: it goes for good. */
void systemd_unkeep(struct systemd *sd, struct listener *listener, const char *text);

#endif
