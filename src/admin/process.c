/* SPDX-License-Identifier: MIT */
#include "admin/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double
process_boot_time(void)
{
	unsigned long long seconds = 0;
	struct timespec now, up;
	char line[256];
	FILE *f = fopen("/proc/stat", "re");

	while (f != NULL && seconds == 0 && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "btime ", 6) == 0)
			seconds = strtoull(line + 6, NULL, 10);
	if (f != NULL)
		fclose(f);
	if (seconds > 0)
		return (double)seconds;
	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_BOOTTIME, &up);
	return (double)(now.tv_sec - up.tv_sec);
}

/* proc(5): the fields after the command's name, which may contain any character. */
static void
read_stat(struct process *p, int fd, double boot_time)
{
	enum { UTIME = 14, STIME = 15, STARTTIME = 22, VSIZE = 23, RSS = 24 };
	double ticks = (double)sysconf(_SC_CLK_TCK);
	char text[1024], *at, *end;
	ssize_t len = pread(fd, text, sizeof(text) - 1, 0);

	text[len > 0 ? len : 0] = '\0';
	at = strrchr(text, ')');
	if (at == NULL)
		return;
	at = strchr(at + 2, ' '); /* skip the state, field 3 */
	for (int field = 4; at != NULL && field <= RSS; field++, at = end) {
		uint64_t value = strtoull(at, &end, 10);

		if (field == UTIME || field == STIME)
			p->cpu_seconds += (double)value / ticks;
		else if (field == STARTTIME)
			p->start_seconds = boot_time + (double)value / ticks;
		else if (field == VSIZE)
			p->virtual_bytes = value;
		else if (field == RSS)
			p->resident_bytes = value * (uint64_t)sysconf(_SC_PAGESIZE);
	}
}

/* The directory's position is shared with its copy: it is read from the start each time. */
static uint64_t
count_entries(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	uint64_t n = 0;

	if (dir == NULL) {
		if (copy >= 0)
			close(copy);
		return 0;
	}
	rewinddir(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n > 2 ? n - 2 : 0; /* "." and ".." */
}

struct process
process_read(int stat_fd, int fds_fd, double boot_time)
{
	struct process p = {0};

	if (stat_fd < 0 || fds_fd < 0)
		return p;
	read_stat(&p, stat_fd, boot_time);
	p.open_fds = count_entries(fds_fd);
	return p;
}
