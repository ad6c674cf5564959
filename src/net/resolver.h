/* SPDX-License-Identifier: MIT */
/*
 * Resolves names without blocking the loop (libevent's evdns). Every request
 * reads resolv.conf and hosts again, so that it sees a changed network.
 */
#ifndef BULKHEAD_NET_RESOLVER_H
#define BULKHEAD_NET_RESOLVER_H

#include <netdb.h>
#include <sys/socket.h>

#include "net/loop.h"

struct resolver;

struct resolved {
	struct sockaddr_storage addr;
	socklen_t len;
};

/*
 * Look up the addresses of host:port. The callback gets `count` addresses, or
 * count 0 and a static error text; from the loop, never from inside this call.
 * Numeric hosts need no name server. Returns NULL without memory.
 */
struct resolver *resolver_start(struct loop *loop, const char *host, uint16_t port,
	void (*cb)(void *arg, const struct resolved *list, int count, const char *error),
	void *arg);

/* Cancel a request whose callback has not run yet; it will not run. */
void resolver_cancel(struct resolver *resolver);

#endif
