/* SPDX-License-Identifier: MIT */
#include "admin/confine.h"

#include <fcntl.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "admin/keeper.h"

enum {
	FDS_MAX = 128, /* two endpoints of 32 connections each, and what comes over the channel */
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
	/* terminals, systemd and pkill signal both processes; SIGUSR1 is for the other one */
	static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT, SIGPIPE};
	sigset_t none;

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL); /* keeper.c blocked them all */
}

/* The limit may already be lower: then it stays. */
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

/* All except stderr and the channel, including any that the message process had inherited. */
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
	if (syscall(SYS_capset, &header, none) == 0)
		return true;
	/* systemd's filter may refuse the call even if there is nothing to give up */
	return syscall(SYS_capget, &header, none) == 0 && none[0].permitted == 0 &&
		none[1].permitted == 0;
}

/* --- system calls --------------------------------------------------------- */

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#endif

/*
 * It runs as the same user as the message process, which it could otherwise trace or kill. No call
 * that is left reaches another process, opens a file, or runs another program.
 */
static const unsigned denied[] = {
	SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp, SYS_kill, SYS_tkill,
	SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_prlimit64, SYS_setpriority,
	SYS_sched_setaffinity, SYS_sched_setparam, SYS_sched_setscheduler, SYS_sched_setattr,
	SYS_ioprio_set, SYS_migrate_pages, SYS_move_pages, SYS_execve, SYS_execveat, SYS_clone,
	SYS_openat, SYS_name_to_handle_at, SYS_open_by_handle_at, SYS_connect, SYS_unlinkat,
	SYS_renameat2, SYS_linkat, SYS_symlinkat, SYS_mkdirat, SYS_mknodat, SYS_fchmodat,
	SYS_fchownat, SYS_bpf, SYS_perf_event_open, SYS_keyctl, SYS_add_key, SYS_request_key,
#ifdef SYS_open
	SYS_open, SYS_creat, SYS_fork, SYS_vfork, SYS_unlink, SYS_rename, SYS_link, SYS_symlink,
	SYS_mkdir, SYS_rmdir, SYS_mknod, SYS_chmod, SYS_chown, SYS_lchown,
#endif
#ifdef SYS_renameat
	SYS_renameat,
#endif
#ifdef SYS_clone3
	SYS_clone3,
#endif
#ifdef SYS_openat2
	SYS_openat2,
#endif
#ifdef SYS_pidfd_open
	SYS_pidfd_open,
#endif
#ifdef SYS_pidfd_getfd
	SYS_pidfd_getfd,
#endif
#ifdef SYS_pidfd_send_signal
	SYS_pidfd_send_signal,
#endif
#ifdef SYS_process_madvise
	SYS_process_madvise,
#endif
#ifdef SYS_io_uring_setup
	SYS_io_uring_setup, /* which can do the same in another way */
#endif
};

enum { DENIED = sizeof(denied) / sizeof(denied[0]) };

#ifdef NATIVE
static struct sock_filter
load(size_t offset)
{
	return (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offset);
}

static struct sock_filter
verdict(unsigned value)
{
	return (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, value);
}

static struct sock_filter
jump(unsigned how, unsigned value, unsigned char yes, unsigned char no)
{
	return (struct sock_filter)BPF_JUMP(BPF_JMP | how | BPF_K, value, yes, no);
}

/* abort() may signal its own process. If the kernel has no filters, the other limits remain. */
static void
deny_system_calls(void)
{
	const unsigned no = SECCOMP_RET_ERRNO | EPERM, numbers = 0x40000000; /* x32's are above */
	struct sock_filter f[12 + 2 * DENIED];
	struct sock_fprog program = {0, f};
	unsigned short n = 0;

	f[n++] = load(offsetof(struct seccomp_data, arch));
	f[n++] = jump(BPF_JEQ, NATIVE, 1, 0);
	f[n++] = verdict(no);
	f[n++] = load(offsetof(struct seccomp_data, nr));
	f[n++] = jump(BPF_JGE, numbers, 0, 1);
	f[n++] = verdict(no);
	for (size_t i = 0; i < DENIED; i++) {
		f[n++] = jump(BPF_JEQ, denied[i], 0, 1);
		f[n++] = verdict(no);
	}
	f[n++] = jump(BPF_JEQ, SYS_tgkill, 0, 3);
	f[n++] = load(offsetof(struct seccomp_data, args[0]));
	f[n++] = jump(BPF_JEQ, (unsigned)getpid(), 1, 0);
	f[n++] = verdict(no);
	f[n++] = verdict(SECCOMP_RET_ALLOW);
	program.len = n;
	(void)prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}
#else
static void
deny_system_calls(void)
{
	(void)denied;
}
#endif

static void
prefer_as_oom_victim(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, "500", 3) < 0) {
		/* not allowed: the message process is as likely to be killed */
	}
	close(fd);
}

bool
confine_alone(void)
{
	pid_t parent = getppid();

	ignore_signals();
	(void)prctl(PR_SET_NAME, "bulkhead-admin", 0, 0, 0);
	/* a parent that ended before this is noticed by the end of the channel */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != parent)
		return false;
	close_descriptors();
	return true;
}

bool
confine(void)
{
	if (!give_up_privileges())
		return false;
	prefer_as_oom_victim();
	set_limit(RLIMIT_NOFILE, FDS_MAX);
	set_limit(RLIMIT_NPROC, 0);
	set_limit(RLIMIT_MEMLOCK, 0);
#ifndef HAS_SHADOW_MEMORY
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_AS, (rlim_t)MEMORY_MAX_MIB << 20);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	deny_system_calls();
#else
	(void)deny_system_calls; /* the sanitizer opens files of its own */
#endif
	return true;
}
