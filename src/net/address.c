/* SPDX-License-Identifier: MIT */
#include "net/address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

void
address_set(struct address *out, const struct sockaddr *addr, socklen_t len)
{
	memset(out, 0, sizeof(*out));
	memcpy(&out->addr, addr, len);
	out->len = len;
}

void
address_set_port(struct address *a, uint16_t port)
{
	if (a->addr.ss_family == AF_INET)
		((struct sockaddr_in *)&a->addr)->sin_port = htons(port);
	else if (a->addr.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&a->addr)->sin6_port = htons(port);
}

/* False when the list is full. An address that is in it is not added again. */
static bool
add_address(struct addresses *list, const struct sockaddr *addr, socklen_t len)
{
	struct address a = {0};

	address_set(&a, addr, len);
	for (unsigned i = 0; i < list->count; i++)
		if (memcmp(&list->at[i].addr, &a.addr, sizeof(a.addr)) == 0)
			return true;
	if (list->count == ADDRESSES_MAX)
		return false;
	list->at[list->count++] = a;
	return true;
}

/* Adds all IPv4 and IPv6 addresses of an interface; none if there is no such interface. */
static bool
interface_addresses(struct addresses *list, const char *name)
{
	struct ifaddrs *all;
	bool fits = true;

	if (getifaddrs(&all) != 0)
		return true;
	for (struct ifaddrs *i = all; i != NULL && fits; i = i->ifa_next) {
		int family = i->ifa_addr != NULL ? i->ifa_addr->sa_family : AF_UNSPEC;

		if (strcmp(i->ifa_name, name) != 0)
			continue;
		if (family == AF_INET)
			fits = add_address(list, i->ifa_addr, sizeof(struct sockaddr_in));
		else if (family == AF_INET6)
			fits = add_address(list, i->ifa_addr, sizeof(struct sockaddr_in6));
	}
	freeifaddrs(all);
	return fits;
}

static const char *
name_addresses(struct addresses *list, const char *name, bool *fits)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *all;
	int error = getaddrinfo(name, NULL, &hints, &all);

	if (error != 0)
		return gai_strerror(error);
	for (struct addrinfo *i = all; i != NULL && *fits; i = i->ai_next)
		*fits = add_address(list, i->ai_addr, i->ai_addrlen);
	freeaddrinfo(all);
	return NULL;
}

const char *
addresses_of_tcp(struct addresses *list, const struct endpoint *e)
{
	struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
	const char *wrong = NULL;
	bool fits = true;

	list->count = 0;
	if (e->any_host)
		add_address(list, (struct sockaddr *)&any6, sizeof(any6));
	else if (!e->bracketed && inet_pton(AF_INET, e->host, &(struct in_addr){0}) != 1)
		fits = interface_addresses(
			list, e->host); /* which asks the kernel for all of them */
	if (list->count == 0)
		wrong = name_addresses(list, e->host, &fits);
	if (!fits)
		wrong = "the name has too many addresses";
	for (unsigned i = 0; i < list->count; i++)
		address_set_port(&list->at[i], e->port);
	return wrong;
}

void
address_of_ipc(struct address *out, const struct endpoint *e)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	size_t len = strlen(e->host);
	bool abstract = e->kind == ENDPOINT_ABSTRACT;

	if (len > sizeof(un.sun_path) - 1)
		len = sizeof(un.sun_path) - 1;
	memcpy(un.sun_path + (abstract ? 1 : 0), e->host, len);
	address_set(out, (struct sockaddr *)&un,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1));
}
