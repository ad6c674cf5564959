/* SPDX-License-Identifier: MIT */
/*
 * Listening sockets: bind, accept, and wait without spinning when descriptors
 * or connections run out.
 */
#ifndef BULKHEAD_NET_LISTENER_H
#define BULKHEAD_NET_LISTENER_H

#include <sys/types.h>

#include "base/list.h"
#include "net/endpoint.h"
#include "net/side.h"

/* One socket. A name may stand for several addresses: then its sockets are linked by `next`. */
struct listener {
	struct listener *next; /* NULL: the last one */
	struct side *side;
	struct list waiting; /* in loop->waiting_listeners while at a connection limit */
	struct watch *watch;
	struct timer timer; /* runs while descriptors are short */
	struct ratelimit complaints;
	int fd;
	uint32_t origin; /* what its connections get as conn->origin; 0 until the owner says so */
	bool paused;
	bool evicting;  /* a connection makes room: when it is freed, look again who waits */
	bool kept;      /* somebody else holds its socket open: it goes on without us */
	bool owns_file; /* an ipc file of ours, to be removed, unless it is kept */
	dev_t file_dev;
	ino_t file_ino;
	char path[108];
	char text[ENDPOINT_TEXT_MAX]; /* the endpoint as bound, with its real port */
};

/*
 * Bind and listen, on all addresses that the host's name or interface has, on one port. Addresses
 * that this machine does not have (a name's IPv6 address without IPv6) are left out, if there is
 * another one. On failure, also for want of memory, returns NULL, with nothing bound, and writes
 * what was wrong into error[size]; errno is EADDRINUSE then, if a TCP endpoint's port is somebody
 * else's. Blocks for a name that must be resolved.
 */
struct listener *
listener_new(struct side *side, const struct endpoint *endpoint, char *error, size_t size);

/*
 * Let it serve another side from now on, as `origin`; what it accepted before stays where it is.
 * The same side may be given.
 */
void listener_move(struct listener *listener, struct side *side, uint32_t origin);

/* Let backlog and ipc_mode be what side->opts say now. A refusal is logged. */
void listener_retune(struct listener *listener);

/* Of one that is kept: nobody can connect to its socket any more, whoever holds it. */
void listener_unkeep(struct listener *listener);

/* Begin to accept. */
void listener_start(struct listener *listener);

/*
 * Stop listening, remove the socket file if it is still ours, free: this one and all that follow.
 * NULL is fine. The other functions here act on one.
 */
void listener_free(struct listener *listener);

/* A connection went: listeners that waited for that go on. */
void listener_retry_waiting(struct loop *loop);

#endif
