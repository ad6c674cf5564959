/* SPDX-License-Identifier: MIT */
/*
 * Listening sockets that are older than the process: passed by systemd, or kept by it during a
 * restart. Listeners take them by name (fd://NAME) or by address.
 */
#ifndef BULKHEAD_NET_INHERIT_H
#define BULKHEAD_NET_INHERIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* The names of sockets that systemd keeps for us: this, and the address. */
#define INHERIT_KEPT "kept-"
enum { INHERIT_NAME_MAX = 255 };

struct inherited_socket {
	int fd;    /* -1: already taken */
	bool used; /* an endpoint fd://NAME uses it */
	char name[INHERIT_NAME_MAX + 1];
};

struct inherited {
	struct inherited_socket *sockets; /* count of them */
	size_t count;
};

/* Add a socket, which the table owns from now on. Longer names are cut. */
void inherited_add(struct inherited *in, int fd, const char *name);

/* Close the sockets that were not taken, and free the table. */
void inherited_fini(struct inherited *in);

/*
 * A new descriptor of the socket of this name, which stays in the table, because a reload may ask
 * for it again. -1: *wrong (static text) says what is wrong: there is no socket of this name, or
 * several, or it does not listen. `in` may be NULL.
 */
int inherited_by_name(struct inherited *in, const char *name, const char **wrong);

/* Take the kept socket that listens on this address out of the table; -1: there is none. */
int inherited_by_address(struct inherited *in, const struct sockaddr *addr, socklen_t len);

/*
 * Shut down the kept sockets that prevent binding `addr`: they listen on the same port, and one of
 * both on every address. They stay in the table as unwanted ones. Returns whether there was one.
 * `in` may be NULL.
 */
bool inherited_make_way(struct inherited *in, const struct sockaddr_storage *addr);

#endif
