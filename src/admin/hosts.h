/* SPDX-License-Identifier: MIT */
/*
 * Is a request meant for this port, by the host name in it? Any web site can make its own name
 * resolve to 127.0.0.1 (DNS rebinding), and a browser would then let its pages read what is served
 * here. But the name stays in the request, so such a request can be refused.
 */
#ifndef BULKHEAD_ADMIN_HOSTS_H
#define BULKHEAD_ADMIN_HOSTS_H

#include <stdbool.h>
#include <sys/socket.h>

/*
 * `host`: HOST, HOST:PORT or [IPv6]:PORT as in the field Host. Accepted are localhost, the address
 * `local` that the request came to, every name in `names` (each followed by a space or the end),
 * and, if `is_mine` is given, the addresses for which it returns true. Ports are ignored.
 */
bool hosts_mean_us(const char *host, const struct sockaddr_storage *local, const char *names,
	bool (*is_mine)(const struct sockaddr_storage *address));

/* True for an address of one of this machine's interfaces. */
bool hosts_is_of_machine(const struct sockaddr_storage *address);

#endif
