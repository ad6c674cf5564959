/*
 * The daemon: from a checked configuration to a clean stop.
 */
#ifndef BULKHEAD_DAEMON_SERVICE_H
#define BULKHEAD_DAEMON_SERVICE_H

#include <stdbool.h>

#include "daemon/config.h"

enum {
	EXIT_CLEAN = 0,
	EXIT_CONFIG = 1,   /* bad configuration or usage */
	EXIT_START = 2,    /* could not start: bind failed, no permission */
	EXIT_INTERNAL = 3
};

/*
 * Run until a signal stops it. `verbose` raises the log level by that many
 * steps above the configured one. Returns the process's exit status.
 */
int service_run(const struct config *config, int verbose);

#endif
