/* SPDX-License-Identifier: MIT */
/*
 * Keeps the admin process running: starts it, receives its requests, kills it when it misbehaves,
 * and starts it again.
 *
 *   RUNNING --it ended, was silent, or sent an invalid message--> ENDING
 *       --reaped--> WAITING --backoff--> RUNNING
 *
 * The process is this program, executed again: it has nothing of this one's memory, and none of its
 * descriptors except its end of the socketpair.
 */
#ifndef BULKHEAD_ADMIN_KEEPER_H
#define BULKHEAD_ADMIN_KEEPER_H

#include <sys/types.h>

#include "admin/channel.h"
#include "net/backoff.h"
#include "net/loop.h"

/* argv[0] of the admin process, by which main() recognises it; and its end of the socketpair. */
#define KEEPER_TITLE "bulkhead: admin"
enum { KEEPER_CHANNEL_FD = 3 };

struct keeper_hooks {
	void *arg;
	/* The process was started: send it what it needs. False: end it. */
	bool (*on_start)(void *arg);
	/* It sent a request, for which channel_is_request is true. */
	void (*on_request)(void *arg, const struct channel_message *m);
	/* It has ended; nothing that it asked for must be sent any more. */
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
	unsigned requests;   /* messages in this second */
	int64_t started_ms;
	int64_t reap_ms; /* until the next check whether it has ended */
	uint64_t starts;
	const char *end_reason; /* why we ended it; NULL: it ended by itself */
	char path[256];         /* of the program */
};

/* Not running yet; the hooks are copied. */
void keeper_init(struct keeper *k, struct loop *loop, const struct keeper_hooks *hooks);

/* Start the process. False, errno set: it cannot be started. */
bool keeper_start(struct keeper *k);

/* Send it a message. If the message cannot be sent, because it does not read, end it. */
void keeper_send(struct keeper *k, const struct channel_message *m, const int *fds, size_t count);

/* Kill it, and wait until it has ended. Harmless if it was never started. */
void keeper_fini(struct keeper *k);

#endif
