/* SPDX-License-Identifier: MIT */
#include "zmtp/socktype.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define BIT(type) (1u << SOCKTYPE_##type)

static const struct {
	const char *name;
	unsigned peers;
} types[SOCKTYPE_COUNT] = {
	[SOCKTYPE_PAIR] = {"PAIR", BIT(PAIR)},
	[SOCKTYPE_PUB] = {"PUB", BIT(SUB) | BIT(XSUB)},
	[SOCKTYPE_SUB] = {"SUB", BIT(PUB) | BIT(XPUB)},
	[SOCKTYPE_REQ] = {"REQ", BIT(REP) | BIT(ROUTER)},
	[SOCKTYPE_REP] = {"REP", BIT(REQ) | BIT(DEALER)},
	[SOCKTYPE_DEALER] = {"DEALER", BIT(REP) | BIT(DEALER) | BIT(ROUTER)},
	[SOCKTYPE_ROUTER] = {"ROUTER", BIT(REQ) | BIT(DEALER) | BIT(ROUTER)},
	[SOCKTYPE_PULL] = {"PULL", BIT(PUSH)},
	[SOCKTYPE_PUSH] = {"PUSH", BIT(PULL)},
	[SOCKTYPE_XPUB] = {"XPUB", BIT(SUB) | BIT(XSUB)},
	[SOCKTYPE_XSUB] = {"XSUB", BIT(PUB) | BIT(XPUB)},
};

const char *
socktype_name(enum socktype type)
{
	assert((unsigned)type < SOCKTYPE_COUNT);
	return types[type].name;
}

bool
socktype_parse(enum socktype *out, const char *name, size_t len)
{
	for (int i = 0; i < SOCKTYPE_COUNT; i++) {
		if (strlen(types[i].name) == len && memcmp(types[i].name, name, len) == 0) {
			*out = i;
			return true;
		}
	}
	return false;
}

const char *
socktype_list(unsigned mask, char *out, size_t size)
{
	size_t len = 0;

	out[0] = '\0';
	for (int i = 0; i < SOCKTYPE_COUNT && len < size; i++)
		if (mask & (1u << i))
			len += (size_t)snprintf(
				out + len, size - len, "%s%s", len > 0 ? ", " : "", types[i].name);
	return out;
}

bool
socktype_compatible(enum socktype a, enum socktype b)
{
	return (types[a].peers & (1u << b)) != 0;
}
