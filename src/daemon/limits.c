/* SPDX-License-Identifier: MIT */
#include "daemon/limits.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"

enum {
	RESERVED_DESCRIPTORS = 32, /* of RLIMIT_NOFILE, for the daemon itself */
	SPARE_DESCRIPTORS = 8,     /* free when everything is open: a client, a worker, a reload */
	CONNECTIONS_MAX = 1000000  /* as many as routing ids can be made up for */
};

void
limits_occupy_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

uint32_t
limits_connections(int64_t most)
{
	struct rlimit limit = {1024, 1024};
	rlim_t reserved = RESERVED_DESCRIPTORS;
	uint64_t available;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
		(void)getrlimit(RLIMIT_NOFILE, &limit);
	}
	available = limit.rlim_cur > reserved ? limit.rlim_cur - reserved : 1;
	if (available > CONNECTIONS_MAX)
		available = CONNECTIONS_MAX;
	if (most > 0 && (uint64_t)most < available)
		available = (uint64_t)most;
	return (uint32_t)available;
}

bool
limits_are_enough(void)
{
	struct rlimit limit = {0, 0};
	int fds[SPARE_DESCRIPTORS], n = 0;
	uint64_t least;

	while (n < SPARE_DESCRIPTORS && (fds[n] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) >= 0)
		n++;
	for (int i = 0; i < n; i++)
		close(fds[i]);
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	least = limit.rlim_cur + (uint64_t)(SPARE_DESCRIPTORS - n);
	if (least < RESERVED_DESCRIPTORS + 2)
		least = RESERVED_DESCRIPTORS + 2;
	if (limit.rlim_cur >= least)
		return true;
	log_event(LOG_LEVEL_ERROR, "start_failed",
		"error=\"too few descriptors to serve a client and a worker: RLIMIT_NOFILE is "
		"%" PRIu64 ", and must be %" PRIu64 " or more\"",
		(uint64_t)limit.rlim_cur, least);
	return false;
}
