/* SPDX-License-Identifier: MIT */
#include "net/unpinged.h"

#include <stdio.h>
#include <string.h>

static void
copy_host(char *out, const char *address)
{
	const char *port = strncmp(address, "tcp://", 6) == 0 ? strrchr(address + 6, ':') : NULL;
	size_t len = port != NULL ? (size_t)(port - address) : strlen(address);

	snprintf(out, UNPINGED_HOST, "%.*s", (int)len, address);
}

bool
unpinged_has(const struct unpinged *u, const char *address, enum socktype type)
{
	char host[UNPINGED_HOST];

	if (u->count == 0)
		return false;
	copy_host(host, address);
	for (uint32_t i = 0; i < u->count; i++)
		if (u->entries[i].type == type && strcmp(u->entries[i].host, host) == 0)
			return true;
	return false;
}

bool
unpinged_add(struct unpinged *u, const char *address, enum socktype type)
{
	if (unpinged_has(u, address, type))
		return false;
	copy_host(u->entries[u->next].host, address);
	u->entries[u->next].type = type;
	u->next = (u->next + 1) % UNPINGED_MAX;
	if (u->count < UNPINGED_MAX)
		u->count++;
	return true;
}
