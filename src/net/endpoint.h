/* SPDX-License-Identifier: MIT */
/*
 * Endpoint strings: parsing and printing. No socket is opened and no name is
 * resolved here.
 *
 *   tcp://HOST:PORT   HOST: *, IPv4, [IPv6] (zone allowed: [fe80::1%eth0]), a
 *                     name, or an interface when binding; PORT: 1-65535, or *
 *                     when binding (any free one)
 *   ipc:///path       a Unix socket file (absolute path, fits in sun_path)
 *   ipc://@name       a Linux abstract socket
 *   fd://NAME         a listening socket handed over by systemd (bind only)
 */
#ifndef BULKHEAD_NET_ENDPOINT_H
#define BULKHEAD_NET_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum endpoint_kind { ENDPOINT_TCP, ENDPOINT_IPC, ENDPOINT_ABSTRACT, ENDPOINT_FD };

#define ENDPOINT_HOST_MAX 255
#define ENDPOINT_TEXT_MAX 320

struct endpoint {
	enum endpoint_kind kind;
	bool any_host;                    /* HOST is * */
	bool any_port;                    /* PORT is * */
	bool bracketed;                   /* HOST was written as [IPv6] */
	uint16_t port;                    /* host byte order; 0 when any_port */
	char host[ENDPOINT_HOST_MAX + 1]; /* tcp: host; ipc: path; abstract, fd: name */
	char text[ENDPOINT_TEXT_MAX];     /* canonical spelling, for logs and comparing */
};

/*
 * Parse `text` into `*out`. `binding`: it is the value of `bind`, where * and fd:// are allowed;
 * otherwise of `connect`, where they are not. Returns NULL, or a static text that says what is
 * wrong; then `*out` is undefined.
 */
const char *endpoint_parse(struct endpoint *out, const char *text, bool binding);

/*
 * Is it impossible to bind these two at the same time? True only when that is certain: names and
 * interfaces are not looked up.
 */
bool endpoint_clash(const struct endpoint *a, const struct endpoint *b);

enum { ENDPOINT_KEY_MAX = ENDPOINT_HOST_MAX + 4 };

struct endpoint_key {
	size_t len;
	uint8_t bytes[ENDPOINT_KEY_MAX];
};

struct endpoint_keys {
	size_t is_count, meets_count;
	struct endpoint_key is[3], meets[3];
};

/*
 * The same for many endpoints: an endpoint clashes with all those that have a key among `is` that
 * it has among `meets`.
 */
void endpoint_clash_keys(const struct endpoint *endpoint, struct endpoint_keys *out);

#endif
