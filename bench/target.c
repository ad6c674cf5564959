/* SPDX-License-Identifier: MIT */
#include "target.h"

#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "net/endpoint.h"

/* A name's IPv4 address, if it has one, as libzmq does: localhost is where most brokers listen. */
static int
resolve(const struct endpoint *endpoint, struct addrinfo **found)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	char port[8];

	snprintf(port, sizeof(port), "%u", endpoint->port);
	hints.ai_family = AF_INET;
	if (getaddrinfo(endpoint->host, port, &hints, found) == 0)
		return 0;
	hints.ai_family = AF_UNSPEC;
	return getaddrinfo(endpoint->host, port, &hints, found);
}

static const char *
look_up(struct target *target, const struct endpoint *endpoint)
{
	struct addrinfo *found;
	int error = resolve(endpoint, &found);

	if (error != 0)
		return gai_strerror(error);
	memcpy(&target->addr, found->ai_addr, found->ai_addrlen);
	target->len = found->ai_addrlen;
	freeaddrinfo(found);
	return NULL;
}

/* The length of an abstract name is all that ends it; a path ends with its NUL. */
static void
set_path(struct target *target, const char *name, bool abstract)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = strlen(name);

	memcpy(addr.sun_path + (abstract ? 1 : 0), name, len);
	memcpy(&target->addr, &addr, sizeof(addr));
	target->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
}

const char *
target_init(struct target *target, const char *text)
{
	struct endpoint endpoint;
	const char *error = endpoint_parse(&endpoint, text, false);

	memset(target, 0, sizeof(*target));
	target->text = text;
	if (error != NULL)
		return error;
	if (endpoint.kind == ENDPOINT_TCP)
		return look_up(target, &endpoint);
	set_path(target, endpoint.host, endpoint.kind == ENDPOINT_ABSTRACT);
	return NULL;
}
