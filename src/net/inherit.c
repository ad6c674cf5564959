/* SPDX-License-Identifier: MIT */
#include "net/inherit.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

void
inherited_add(struct inherited *in, int fd, const char *name)
{
	struct inherited_socket *s;

	in->sockets = mem_resize(in->sockets, (in->count + 1) * sizeof(*in->sockets));
	s = &in->sockets[in->count++];
	*s = (struct inherited_socket){.fd = fd};
	snprintf(s->name, sizeof(s->name), "%s", name);
}

void
inherited_fini(struct inherited *in)
{
	for (size_t i = 0; i < in->count; i++)
		if (in->sockets[i].fd >= 0)
			close(in->sockets[i].fd);
	free(in->sockets);
	*in = (struct inherited){0};
}

static bool
has_option(int fd, int option, int wanted)
{
	socklen_t len = sizeof(int);
	int value;

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 && value == wanted;
}

static bool
listens(int fd)
{
	return has_option(fd, SO_ACCEPTCONN, 1) && has_option(fd, SO_TYPE, SOCK_STREAM);
}

int
inherited_by_name(struct inherited *in, const char *name, const char **wrong)
{
	struct inherited_socket *found = NULL;
	int fd;

	for (size_t i = 0; in != NULL && i < in->count; i++) {
		struct inherited_socket *s = &in->sockets[i];
		if (s->fd < 0 || strcmp(s->name, name) != 0)
			continue;
		if (found != NULL) {
			*wrong = "systemd handed over several sockets of this name";
			return -1;
		}
		found = s;
	}
	*wrong = "systemd handed over no socket of this name";
	if (found == NULL)
		return -1;
	*wrong = "the socket of this name is not a listening stream socket";
	if (!listens(found->fd))
		return -1;
	*wrong = "no descriptor is left";
	fd = fcntl(found->fd, F_DUPFD_CLOEXEC, 3);
	found->used = fd >= 0;
	return fd;
}

static bool
same_address(const struct sockaddr_storage *a, socklen_t a_len, const struct sockaddr *b,
	socklen_t b_len)
{
	const struct sockaddr_in *x4 = (const void *)a, *y4 = (const void *)b;
	const struct sockaddr_in6 *x6 = (const void *)a, *y6 = (const void *)b;

	if (a->ss_family != b->sa_family)
		return false;
	if (b->sa_family == AF_INET)
		return x4->sin_port == y4->sin_port && x4->sin_addr.s_addr == y4->sin_addr.s_addr;
	if (b->sa_family == AF_INET6)
		return x6->sin6_port == y6->sin6_port && x6->sin6_scope_id == y6->sin6_scope_id &&
			memcmp(&x6->sin6_addr, &y6->sin6_addr, sizeof(x6->sin6_addr)) == 0;
	return a_len == b_len && memcmp(a, b, a_len) == 0;
}

/* The port of `addr`, 0 when it has none; *everywhere: it means every address. */
static in_port_t
port_of(const struct sockaddr_storage *addr, bool *everywhere)
{
	const struct sockaddr_in *in4 = (const void *)addr;
	const struct sockaddr_in6 *in6 = (const void *)addr;

	*everywhere = false;
	if (addr->ss_family == AF_INET) {
		*everywhere = in4->sin_addr.s_addr == htonl(INADDR_ANY);
		return in4->sin_port;
	}
	if (addr->ss_family == AF_INET6) {
		*everywhere = IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
		return in6->sin6_port;
	}
	return 0;
}

bool
inherited_make_way(struct inherited *in, const struct sockaddr_storage *addr)
{
	bool everywhere, there = false;
	in_port_t port = port_of(addr, &everywhere);

	for (size_t i = 0; in != NULL && port != 0 && i < in->count; i++) {
		const struct inherited_socket *s = &in->sockets[i];
		struct sockaddr_storage bound = {.ss_family = AF_UNSPEC};
		socklen_t len = sizeof(bound);
		bool too;

		if (s->fd < 0 || strncmp(s->name, INHERIT_KEPT, strlen(INHERIT_KEPT)) != 0 ||
			!listens(s->fd) ||
			getsockname(s->fd, (struct sockaddr *)&bound, &len) != 0 ||
			port_of(&bound, &too) != port || (!everywhere && !too))
			continue;
		/* closing our descriptor is not enough: systemd has the socket, too */
		there = shutdown(s->fd, SHUT_RDWR) == 0 || there;
	}
	return there;
}

int
inherited_by_address(struct inherited *in, const struct sockaddr *addr, socklen_t len)
{
	for (size_t i = 0; in != NULL && i < in->count; i++) {
		struct inherited_socket *s = &in->sockets[i];
		struct sockaddr_storage bound = {.ss_family = AF_UNSPEC};
		socklen_t bound_len = sizeof(bound);
		int fd = s->fd;

		if (fd < 0 || strncmp(s->name, INHERIT_KEPT, strlen(INHERIT_KEPT)) != 0 ||
			!listens(fd) ||
			getsockname(fd, (struct sockaddr *)&bound, &bound_len) != 0 ||
			!same_address(&bound, bound_len, addr, len))
			continue;
		s->fd = -1;
		return fd;
	}
	return -1;
}
