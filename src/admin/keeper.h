/* SPDX-License-Identifier: MIT */
/*
 * Keeps the admin process running: starts it, listens to it, ends it when it does not behave, and
 * starts it again.
 *
 *   RUNNING --it ended, was silent, or said nonsense--> ENDING --reaped--> WAITING --backoff-->
 * RUNNING
 *
 * The process is this program, executed anew: nothing of this one's memory and none of its
 * descriptors are in it, but its end of the socketpair.
 */
#ifndef BULKHEAD_ADMIN_KEEPER_H
#define BULKHEAD_ADMIN_KEEPER_H

#include <sys/types.h>

#include "admin/channel.h"
#include "net/backoff.h"
#include "net/loop.h"

/* argv[0] of the admin process, which is how main() knows it; and its end of the socketpair. */
#define KEEPER_TITLE "bulkhead: admin"
enum { KEEPER_CHANNEL_FD = 3 };

struct keeper_hooks {
	void *arg;
	/* It was started: greet it. False ends it. */
	bool (*on_start)(void *arg);
	/* It asks for something: channel_is_request holds. */
	void (*on_request)(void *arg, const struct channel_message *m);
	/* It is gone; whatever it waits for is not to be sent. */
	void (*on_end)(void *arg);
};

enum keeper_state { KEEPER_OFF, KEEPER_RUNNING, KEEPER_ENDING, KEEPER_WAITING };

struct keeper {
	struct loop *loop;
	struct keeper_hooks hooks;
	enum keeper_state state;
	pid_t pid;
	int fd;
	struct watch *watch;
	struct timer timer;
	struct backoff backoff;
	unsigned silent_for; /* seconds of this loop */
	unsigned asked;      /* messages in this second */
	int64_t started;     /* ms */
	int64_t reap_ms;     /* between two looks whether it has ended */
	uint64_t starts;
	const char *why; /* we ended it; NULL: it did */
	char path[256];  /* of the program */
};

/* Not running yet; the hooks are copied. */
void keeper_init(struct keeper *k, struct loop *loop, const struct keeper_hooks *hooks);

/* Start the process. False, errno set: it cannot be started. */
bool keeper_start(struct keeper *k);

/* Tell it something. What it does not take, since it does not read, ends it. */
void keeper_tell(struct keeper *k, const struct channel_message *m, const int *fds, size_t count);

/* End it, and wait until it has ended. Harmless when it was never started. */
void keeper_fini(struct keeper *k);

#endif
