/* SPDX-License-Identifier: MIT */
/*
 * Listening sockets that were there before the process: handed over by systemd, or kept by it
 * over a restart. Listeners take them by name (fd://NAME) or by address.
 */
#ifndef BULKHEAD_NET_INHERIT_H
#define BULKHEAD_NET_INHERIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* Those that we gave systemd to keep are named so, and what they listen on. */
#define INHERIT_KEPT "kept-"
enum { INHERIT_NAME_MAX = 255 };

struct inherited_socket {
	int fd;    /* -1: it was taken */
	bool used; /* fd://NAME asked for it */
	char name[INHERIT_NAME_MAX + 1];
};

struct inherited {
	struct inherited_socket *sockets; /* count of them */
	size_t count;
};

/* Add a socket, which belongs to the table from now on. Longer names are cut. */
void inherited_add(struct inherited *in, int fd, const char *name);

/* Close what is left, and free. */
void inherited_fini(struct inherited *in);

/*
 * A descriptor of its own for the socket of this name, which stays in the table: a reload may ask
 * for it again. -1, with what is wrong in *wrong (static text): none of this name or several, or
 * it does not listen. `in` may be NULL.
 */
int inherited_by_name(struct inherited *in, const char *name, const char **wrong);

/* Take out the one that was kept and listens on this address; -1: there is none. */
int inherited_by_address(struct inherited *in, const struct sockaddr *addr, socklen_t len);

/*
 * Make those listen no more that were kept and are in the way where `addr` is to be bound: on the
 * same port, one of both on every address. They stay in the table, as ones that nobody wanted.
 * Returns whether there was one. `in` may be NULL.
 */
bool inherited_make_way(struct inherited *in, const struct sockaddr_storage *addr);

#endif
