/* SPDX-License-Identifier: MIT */
#include "admin/keeper.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

enum {
	TICK_MS = 1000,
	SILENT_MAX = 10,     /* ticks: longer than a slow machine or a blocked loop takes */
	REQUESTS_MAX = 1000, /* messages in a second; it needs twenty */
	REQUESTS_PER_TURN = 8,
	RESTART_MIN_MS = 100,
	RESTART_MAX_MS = 10000,
	HEALTHY_MS =
		30000, /* after running for so long, the next restart takes RESTART_MIN_MS again */
	REAP_MS = 5
};

/* Variables that systemd and others mean for the message process alone. */
static const char *const withheld[] = {"NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_", "CREDENTIALS_"};

/* --- start ---------------------------------------------------------------- */

/*
 * /proc/self/exe is this program even after its file was replaced by another version. If it is
 * another program (memcheck, an emulator), or hidden, the program is found by its name.
 */
static void
find_program(struct keeper *k)
{
	static const char self[] = "/proc/self/exe";
	const char *name = (const char *)getauxval(AT_EXECFN);
	struct stat named, running;
	ssize_t n = readlink(self, k->path, sizeof(k->path) - 1);

	k->path[n > 0 ? n : 0] = '\0';
	if (n > 0 && stat(k->path, &named) == 0 && stat(self, &running) == 0 &&
		(named.st_dev != running.st_dev || named.st_ino != running.st_ino))
		return;
	snprintf(k->path, sizeof(k->path), "%s", n > 0 || name == NULL ? self : name);
}

static bool
is_withheld(const char *variable)
{
	for (size_t i = 0; i < sizeof(withheld) / sizeof(withheld[0]); i++)
		if (strncmp(variable, withheld[i], strlen(withheld[i])) == 0)
			return true;
	return false;
}

/* To be freed with free(), its strings are not; NULL without memory. */
static char **
environment(void)
{
	size_t count = 0, n = 0;
	char **out;

	while (environ != NULL && environ[count] != NULL)
		count++;
	out = mem_try((count + 1) * sizeof(*out));
	if (out == NULL)
		return NULL;
	for (size_t i = 0; i < count; i++)
		if (!is_withheld(environ[i]))
			out[n++] = environ[i];
	out[n] = NULL;
	return out;
}

/* An errno, or 0. posix_spawn copies nothing of this process, however large: it is a vfork. */
static int
spawn(struct keeper *k, int its_end)
{
	char title[] = KEEPER_TITLE, *argv[] = {title, NULL}, **envp = environment();
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t all;
	int error;

	if (envp == NULL)
		return ENOMEM;
	/* it unblocks them once it ignores those that are not meant for it */
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	posix_spawn_file_actions_init(&actions);
	error = posix_spawn_file_actions_adddup2(&actions, its_end, KEEPER_CHANNEL_FD);
	if (error == 0)
		error = posix_spawn(&k->pid, k->path, &actions, &attr, argv, envp);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	free(envp);
	return error;
}

static void on_channel_cb(void *arg, unsigned events);

static void
hang_up(struct keeper *k)
{
	watch_free(k->watch);
	k->watch = NULL;
	if (k->fd >= 0)
		close(k->fd);
	k->fd = -1;
}

static bool
start(struct keeper *k)
{
	int pair[2], error;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
		return false;
	k->fd = pair[0];
	k->watch = watch_new(k->loop, k->fd, on_channel_cb, k);
	if (k->watch == NULL || !watch_set(k->watch, WATCH_IN))
		error = ENOMEM;
	else
		error = spawn(k, pair[1]);
	close(pair[1]);
	if (error != 0) {
		hang_up(k);
		errno = error;
		return false;
	}
	k->state = KEEPER_RUNNING;
	k->started_ms = loop_now(k->loop);
	k->silent_for = k->requests = 0;
	k->end_reason = NULL;
	k->starts++;
	timer_set(&k->timer, TICK_MS);
	log_event(LOG_LEVEL_NOTICE, "admin_started", "pid=%ld", (long)k->pid);
	return true;
}

/* --- end ------------------------------------------------------------------ */

/* `reason`: for the log; NULL: it ended by itself. */
static void
end(struct keeper *k, const char *reason)
{
	if (k->state != KEEPER_RUNNING)
		return;
	k->end_reason = reason;
	k->state = KEEPER_ENDING;
	(void)kill(k->pid, SIGKILL);
	hang_up(k);
	k->reap_ms = REAP_MS;
	timer_set(&k->timer, k->reap_ms);
	k->hooks.on_end(k->hooks.arg);
}

static void
schedule_restart(struct keeper *k, const char *reason, int number)
{
	int64_t delay;

	if (loop_now(k->loop) - k->started_ms >= HEALTHY_MS)
		backoff_reset(&k->backoff);
	delay = backoff_next(&k->backoff, RESTART_MIN_MS, RESTART_MAX_MS, 0, 0);
	k->state = KEEPER_WAITING;
	timer_set(&k->timer, delay);
	log_event(LOG_LEVEL_WARNING, "admin_ended",
		"pid=%ld reason=\"%s\" status=%d restart_ms=%" PRId64, (long)k->pid, reason, number,
		delay);
}

static void
reap(struct keeper *k)
{
	int status = 0;
	pid_t got = waitpid(k->pid, &status, WNOHANG);

	if (got == 0 || (got < 0 && errno == EINTR)) {
		k->reap_ms = k->reap_ms < TICK_MS ? k->reap_ms * 2 : TICK_MS;
		timer_set(&k->timer, k->reap_ms);
	} else if (k->end_reason != NULL) {
		schedule_restart(k, k->end_reason, 0);
	} else if (WIFSIGNALED(status)) {
		schedule_restart(k, "signal", WTERMSIG(status));
	} else {
		schedule_restart(k, "exit", WEXITSTATUS(status));
	}
}

/* --- while it runs -------------------------------------------------------- */

static void
on_channel_cb(void *arg, unsigned events)
{
	struct keeper *k = arg;
	struct channel_message m;

	(void)events;
	for (int i = 0; i < REQUESTS_PER_TURN && k->state == KEEPER_RUNNING; i++) {
		switch (channel_receive(k->fd, &m, NULL, NULL)) {
		case CHANNEL_NOTHING:
			return;
		case CHANNEL_ENDED:
			end(k, NULL);
			return;
		case CHANNEL_BROKEN:
			end(k, "invalid message");
			return;
		case CHANNEL_GOT:
			break;
		}
		k->silent_for = 0;
		if (!channel_is_request(&m))
			end(k, "invalid message");
		else if (++k->requests > REQUESTS_MAX)
			end(k, "too many messages");
		else
			k->hooks.on_request(k->hooks.arg, &m);
	}
}

static void
restart(struct keeper *k)
{
	if (!start(k))
		schedule_restart(k, "cannot be started", errno);
	else if (!k->hooks.on_start(k->hooks.arg))
		end(k, "no memory");
}

static void
timer_cb(struct timer *timer)
{
	struct keeper *k = list_entry(timer, struct keeper, timer);

	switch (k->state) {
	case KEEPER_OFF:
		break;
	case KEEPER_RUNNING:
		k->requests = 0;
		/* in ticks, not by the clock: while this loop was blocked, it could not be heard */
		if (++k->silent_for > SILENT_MAX)
			end(k, "not responding");
		else
			timer_set(&k->timer, TICK_MS);
		break;
	case KEEPER_ENDING:
		reap(k);
		break;
	case KEEPER_WAITING:
		restart(k);
		break;
	}
}

/* --- life ----------------------------------------------------------------- */

void
keeper_init(struct keeper *k, struct loop *loop, const struct keeper_hooks *hooks)
{
	*k = (struct keeper){.loop = loop, .hooks = *hooks, .fd = -1};
	timer_init(&k->timer, loop, timer_cb);
}

bool
keeper_start(struct keeper *k)
{
	find_program(k);
	if (!start(k))
		return false;
	if (!k->hooks.on_start(k->hooks.arg))
		end(k, "no memory");
	return true;
}

void
keeper_send(struct keeper *k, const struct channel_message *m, const int *fds, size_t count)
{
	if (k->state == KEEPER_RUNNING && !channel_send(k->fd, m, fds, count))
		end(k, "does not read its messages");
}

void
keeper_fini(struct keeper *k)
{
	timer_stop(&k->timer);
	if (k->state == KEEPER_RUNNING || k->state == KEEPER_ENDING) {
		(void)kill(k->pid, SIGKILL);
		while (waitpid(k->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	hang_up(k);
	k->state = KEEPER_OFF;
}
