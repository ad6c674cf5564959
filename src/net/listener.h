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

/*
 * One listening socket. A name may have several addresses: then the listener of the first one leads
 * to the others by listener_next.
 */
struct listener;

/*
 * Bind and listen, on all addresses that the host's name or interface has, on one port. Addresses
 * that this machine does not have (a name's IPv6 address without IPv6) are left out, if there is
 * another one. On failure, also for want of memory, returns NULL, with nothing bound, and writes
 * what was wrong into error[size]; errno is EADDRINUSE then, if a TCP endpoint's port is somebody
 * else's. Blocks for a name that must be resolved.
 */
struct listener *
listener_new(struct side *side, const struct endpoint *endpoint, char *error, size_t size);

/* The listener of the same endpoint's next address; NULL: this was the last one. */
struct listener *listener_next(const struct listener *listener);

/* The endpoint as bound, with its real port. */
const char *listener_text(const struct listener *listener);

/* The path of a Unix socket; "" for TCP. */
const char *listener_path(const struct listener *listener);

/* The socket, which stays the listener's: to hand a copy of it to another process. */
int listener_fd(const struct listener *listener);

/* True while it accepts nothing, because connections, descriptors or memory are short. */
bool listener_is_paused(const struct listener *listener);

/*
 * Serve this side from now on; connections accepted from now on get `origin` as their conn->origin.
 * Connections that were accepted before stay where they are. The side may be the same as before.
 */
void listener_move(struct listener *listener, struct side *side, uint32_t origin);

/* Let backlog and ipc_mode be what side->opts say now. A refusal is logged. */
void listener_retune(struct listener *listener);

/*
 * Somebody else holds a copy of the socket, and it stays usable after listener_free: a Unix
 * socket's file is not removed.
 */
void listener_keep(struct listener *listener);
bool listener_is_kept(const struct listener *listener);

/*
 * Shut down a kept socket, so that no one can connect to it even though somebody else still holds
 * a copy.
 */
void listener_unkeep(struct listener *listener);

/* Begin to accept. */
void listener_start(struct listener *listener);

/*
 * Stop listening, remove the socket file if it is still ours, free: this one and all that follow.
 * NULL is fine. The other functions here act on one.
 */
void listener_free(struct listener *listener);

/* Called when a connection is freed, or the limit is raised: resume listeners paused at it. */
void listener_retry_waiting(struct loop *loop);

#endif
