/* SPDX-License-Identifier: MIT */
/*
 * The daemon: from a checked configuration to a clean stop.
 */
#ifndef BULKHEAD_DAEMON_SERVICE_H
#define BULKHEAD_DAEMON_SERVICE_H

#include <stdbool.h>

#include "base/mem.h"
#include "daemon/config.h"
#include "daemon/last_good.h"

enum {
	EXIT_CLEAN = 0,
	EXIT_CONFIG = 1, /* bad configuration or usage */
	EXIT_START = 2,  /* could not start: bind failed, no permission */
	EXIT_INTERNAL = MEM_EXIT_STATUS,
	EXIT_LAST_GOOD =
		78 /* bad configuration; the next start uses the last good one. systemd: CONFIG */
};

/*
 * Run until a signal stops it. `verbose` raises the log level by that many steps above the
 * configured one. The source of the configuration, and of each that a reload brings, goes to
 * `last_good`. Returns the process's exit status.
 */
int service_run(struct config *config, int verbose, struct last_good last_good);

#endif
