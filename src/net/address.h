/* SPDX-License-Identifier: MIT */
/*
 * The socket addresses that an endpoint to be bound stands for. Names are resolved here, which
 * blocks.
 */
#ifndef BULKHEAD_NET_ADDRESS_H
#define BULKHEAD_NET_ADDRESS_H

#include <stdint.h>
#include <sys/socket.h>

#include "net/endpoint.h"

enum { ADDRESSES_MAX = 64 }; /* of one name or interface */

struct address {
	struct sockaddr_storage addr;
	socklen_t len;
};

struct addresses {
	struct address at[ADDRESSES_MAX]; /* count of them */
	unsigned count;
};

/* Copy addr[len]; the rest of *out is zero. */
void address_set(struct address *out, const struct sockaddr *addr, socklen_t len);

/* Set the port of an IPv4 or IPv6 address. */
void address_set_port(struct address *a, uint16_t port);

/* The address of an endpoint that is a Unix socket's path or an abstract name. */
void address_of_ipc(struct address *out, const struct endpoint *e);

/*
 * Find all addresses that the host of a TCP endpoint has: a numeric address, an interface or a
 * name; :: for any host. NULL, or a static text that says what is wrong.
 */
const char *addresses_of_tcp(struct addresses *list, const struct endpoint *e);

#endif
