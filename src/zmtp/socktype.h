/* SPDX-License-Identifier: MIT */
/*
 * Socket types and who may talk to whom (RFC 23, "The Socket-Type Property").
 */
#ifndef BULKHEAD_ZMTP_SOCKTYPE_H
#define BULKHEAD_ZMTP_SOCKTYPE_H

#include <stdbool.h>
#include <stddef.h>

enum socktype {
	SOCKTYPE_PAIR,
	SOCKTYPE_PUB,
	SOCKTYPE_SUB,
	SOCKTYPE_REQ,
	SOCKTYPE_REP,
	SOCKTYPE_DEALER,
	SOCKTYPE_ROUTER,
	SOCKTYPE_PULL,
	SOCKTYPE_PUSH,
	SOCKTYPE_XPUB,
	SOCKTYPE_XSUB,
	SOCKTYPE_COUNT
};

/* The name on the wire; static text. */
const char *socktype_name(enum socktype type);

/* Find the type called name[len]; false if there is none. */
bool socktype_parse(enum socktype *out, const char *name, size_t len);

/*
 * Write the names of the types in `mask`, which has a bit (1 << enum socktype) for each. Returns
 * out.
 */
const char *socktype_list(unsigned mask, char *out, size_t size);

/* May these two types be connected? Symmetric. */
bool socktype_compatible(enum socktype a, enum socktype b);

#endif
