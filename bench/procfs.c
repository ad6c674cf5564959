/* SPDX-License-Identifier: MIT */
#include "procfs.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* schedstat counts nanoseconds; stat would count hundredths of a second */
uint64_t
procfs_cpu_ns(pid_t pid)
{
	char path[64];
	uint64_t sum = 0;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	if (tasks == NULL)
		return 0;
	for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
		char file[sizeof(path) + sizeof(task->d_name) + 16];
		char line[64];
		FILE *f;

		if (task->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s/schedstat", path, task->d_name);
		f = fopen(file, "r");
		if (f == NULL)
			continue;
		if (fgets(line, sizeof(line), f) != NULL)
			sum += strtoull(line, NULL, 10);
		fclose(f);
	}
	closedir(tasks);
	return sum;
}

uint64_t
procfs_rss_kb(pid_t pid)
{
	char path[64], line[256];
	uint64_t kb = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	if (f == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "VmRSS:", 6) == 0)
			kb = strtoull(line + 6, NULL, 10);
	fclose(f);
	return kb;
}
