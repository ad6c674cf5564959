/* SPDX-License-Identifier: MIT */
#include "admin/hosts.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { NAME_MAX_BYTES = 256 };

/* HOST without its port, brackets and last dot. False if it is not a HOST, or too long. */
static bool
take_name(const char *host, char out[NAME_MAX_BYTES], bool *bracketed)
{
	size_t len;

	*bracketed = host[0] == '[';
	if (*bracketed)
		host++;
	len = strcspn(host, *bracketed ? "]" : ":");
	if (len == 0 || len >= NAME_MAX_BYTES || (*bracketed && host[len] != ']'))
		return false;
	memcpy(out, host, len);
	out[len] = '\0';
	host += len + *bracketed;
	if (host[0] != '\0' && (host[0] != ':' || host[1 + strspn(host + 1, "0123456789")] != '\0'))
		return false;
	if (!*bracketed && len > 1 && out[len - 1] == '.')
		out[len - 1] = '\0';
	return true;
}

static bool
parse_address(struct sockaddr_storage *out, char *name, bool bracketed)
{
	struct sockaddr_in *in = (struct sockaddr_in *)out;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	if (bracketed) {
		name[strcspn(name, "%")] =
			'\0'; /* a zone means something on the other machine alone */
		out->ss_family = AF_INET6;
		return inet_pton(AF_INET6, name, &in6->sin6_addr) == 1;
	}
	out->ss_family = AF_INET;
	return inet_pton(AF_INET, name, &in->sin_addr) == 1;
}

/* A socket of both families reports IPv4 addresses as IPv6. */
static struct in6_addr
as_ipv6(const struct sockaddr *a)
{
	struct in6_addr out = {0};

	if (a->sa_family == AF_INET6)
		return ((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;
	out.s6_addr[10] = out.s6_addr[11] = 0xff;
	memcpy(&out.s6_addr[12], &((const struct sockaddr_in *)(const void *)a)->sin_addr, 4);
	return out;
}

static bool
is_same(const struct sockaddr *a, const struct sockaddr *b)
{
	struct in6_addr one = as_ipv6(a), other = as_ipv6(b);

	return memcmp(&one, &other, sizeof(one)) == 0;
}

bool
hosts_is_of_machine(const struct sockaddr_storage *address)
{
	struct ifaddrs *all;
	bool found = false;

	if (getifaddrs(&all) != 0)
		return false;
	for (struct ifaddrs *i = all; i != NULL && !found; i = i->ifa_next)
		if (i->ifa_addr != NULL &&
			(i->ifa_addr->sa_family == AF_INET || i->ifa_addr->sa_family == AF_INET6))
			found = is_same(i->ifa_addr, (const struct sockaddr *)address);
	freeifaddrs(all);
	return found;
}

static bool
is_listed(const char *name, const char *names)
{
	size_t len = strlen(name);

	for (const char *p = names; *p != '\0'; p += strspn(p, " ")) {
		size_t n = strcspn(p, " ");

		if (n == len && strncasecmp(p, name, n) == 0)
			return true;
		p += n;
	}
	return false;
}

bool
hosts_mean_us(const char *host, const struct sockaddr_storage *local, const char *names,
	bool (*is_mine)(const struct sockaddr_storage *address))
{
	struct sockaddr_storage address;
	char name[NAME_MAX_BYTES];
	bool bracketed;

	if (!take_name(host, name, &bracketed))
		return false;
	if (!bracketed && (strcasecmp(name, "localhost") == 0 || is_listed(name, names)))
		return true;
	if (!parse_address(&address, name, bracketed))
		return false;
	if (is_same((struct sockaddr *)&address, (const struct sockaddr *)local))
		return true;
	return is_mine != NULL && is_mine(&address);
}
