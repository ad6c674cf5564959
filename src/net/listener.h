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
 * Bind and listen, on all addresses of the host's name or interface, on one port. Addresses that
 * this machine does not have (a name's IPv6 address without IPv6) are left out if there is another
 * one. On failure, also for want of memory, returns NULL, with nothing bound, and writes the reason
 * into error[size]; errno is EADDRINUSE if another process has the port of a TCP endpoint. Blocks
 * while a name is resolved.
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

/* Apply backlog and ipc_mode as side->opts has them now. A failure is logged. */
void listener_retune(struct listener *listener);

/*
 * Another process holds a copy of the socket, which stays usable after listener_free: a Unix
 * socket's file is not removed.
 */
void listener_keep(struct listener *listener);
bool listener_is_kept(const struct listener *listener);

/*
 * Shut down a kept socket, so that no one can connect to it even though somebody else still holds
 * a copy.
 */
void listener_unkeep(struct listener *listener);

/* Start to accept. */
void listener_start(struct listener *listener);

/*
 * Stop listening, remove the socket file if it is still ours, and free this listener and all that
 * follow it by listener_next. NULL is fine. The other functions act on one listener.
 */
void listener_free(struct listener *listener);
#endif
