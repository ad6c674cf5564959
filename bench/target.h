/* SPDX-License-Identifier: MIT */
/*
 * target.h - an endpoint to connect to, resolved once.
 */
#ifndef BENCH_TARGET_H
#define BENCH_TARGET_H

#include <sys/socket.h>

struct target {
	const char *text; /* as it was given; for messages */
	struct sockaddr_storage addr;
	socklen_t len;
};

/*
 * Parses tcp://HOST:PORT, ipc://PATH or ipc://@NAME and looks a host's name up. `text` must outlive
 * the target. Returns NULL, or a static text that says what is wrong.
 */
const char *target_init(struct target *target, const char *text);

#endif
