#include "admin/confine.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "admin/keeper.h"

enum {
	FDS_MAX = 128, /* two doors of 32 connections each, and what comes over the channel */
	MEMORY_MAX_MIB = 512
};

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SHADOW_MEMORY 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SHADOW_MEMORY 1
#endif

static void
ignore_signals(void)
{
	/* a terminal, systemd and pkill send them to both processes; SIGUSR1 is the other's */
	static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT, SIGPIPE};
	sigset_t none;

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL); /* keeper.c blocked them all */
}

/* Not below what is allowed already, which may be less. */
static void
set_limit(int which, rlim_t most)
{
	struct rlimit limit;

	if (getrlimit((__rlimit_resource_t)which, &limit) != 0)
		return;
	if (limit.rlim_max > most)
		limit.rlim_max = most;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit((__rlimit_resource_t)which, &limit);
}

/* All but stderr and the channel: what the message process inherited without knowing, too. */
static void
close_descriptors(void)
{
	int null = open("/dev/null", O_RDWR);

	for (int fd = 0; null >= 0 && fd < STDERR_FILENO; fd++)
		(void)dup2(null, fd);
#ifdef SYS_close_range
	if (syscall(SYS_close_range, KEEPER_CHANNEL_FD + 1, ~0U, 0) == 0)
		return;
#endif
	for (int fd = KEEPER_CHANNEL_FD + 1; fd < 65536; fd++)
		close(fd);
}

static bool
give_up_privileges(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0, 0, 0}};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return false;
	return syscall(SYS_capset, &header, none) == 0;
}

static void
be_the_first_to_go(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, "500", 3) < 0) {
		/* where that is not allowed the message process is as likely to go */
	}
	close(fd);
}

bool
confine(void)
{
	pid_t parent = getppid();

	ignore_signals();
	(void)prctl(PR_SET_NAME, "bulkhead-admin", 0, 0, 0);
	/* a parent that went before this is seen by the channel's end */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != parent)
		return false;
	close_descriptors();
	if (!give_up_privileges())
		return false;
	be_the_first_to_go();
	set_limit(RLIMIT_NOFILE, FDS_MAX);
	set_limit(RLIMIT_NPROC, 0);
	set_limit(RLIMIT_MEMLOCK, 0);
#ifndef HAS_SHADOW_MEMORY
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_AS, (rlim_t)MEMORY_MAX_MIB << 20);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
	return true;
}
