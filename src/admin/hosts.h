/* SPDX-License-Identifier: MIT */
/*
 * Does a request mean this port by the name that it asks for? A page of any web site can let its
 * own name stand for 127.0.0.1 (DNS rebinding), and a browser then lets it read what is served
 * here. The name stays in the request, and gives it away.
 */
#ifndef BULKHEAD_ADMIN_HOSTS_H
#define BULKHEAD_ADMIN_HOSTS_H

#include <stdbool.h>
#include <sys/socket.h>

/*
 * `host`: HOST, HOST:PORT or [IPv6]:PORT as in the field Host. Taken are localhost, the address
 * `local` that the request came to, every name in `names` (each followed by a space or the end),
 * and, when `is_mine` is given, the addresses that it says yes to. Ports do not matter.
 */
bool hosts_mean_us(const char *host, const struct sockaddr_storage *local, const char *names,
	bool (*is_mine)(const struct sockaddr_storage *address));

/* An address of one of this machine's interfaces. */
bool hosts_is_of_machine(const struct sockaddr_storage *address);

#endif
