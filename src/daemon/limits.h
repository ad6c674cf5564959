/* SPDX-License-Identifier: MIT */
/*
 * How many descriptors the process may have, and how many connections they are enough for.
 */
#ifndef BULKHEAD_DAEMON_LIMITS_H
#define BULKHEAD_DAEMON_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

/* Open /dev/null until descriptors 0 to 2 are taken: a peer's socket must not become stderr. */
void limits_occupy_standard_descriptors(void);

/*
 * Raise RLIMIT_NOFILE to its hard limit. Returns how many connections that allows, `most` at most;
 * 0: no limit of its own.
 */
uint32_t limits_connections(int64_t most);

/*
 * With everything open that the daemon needs: are there descriptors left for a client, a worker and
 * a reload? False, logged, if not: a broker that could accept nobody would still look ready.
 */
bool limits_are_enough(void);

#endif
