/* SPDX-License-Identifier: MIT */
#include "admin/admin.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "admin/admin_impl.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/recent.h"

enum { NOTES_PER_SECOND = 10 };

/* --- what the admin process asks for -------------------------------------- */

static void
on_note(struct admin *admin, const struct channel_message *m)
{
	if (!ratelimit_pass(&admin->notes, loop_now(admin->loop)))
		return;
	if (m->note == CHANNEL_REFUSED)
		log_event(LOG_LEVEL_WARNING, "control_refused", "uid=%" PRId64 " pid=%" PRId64,
			m->uid, m->pid);
	else
		log_event(LOG_LEVEL_WARNING, "http_accept_paused", "error=\"%s\"",
			strerror(m->error));
}

static void
on_request(void *arg, const struct channel_message *m)
{
	struct admin *admin = arg;

	if (m->kind == CHANNEL_ASK)
		admin_ask_snapshot(admin, (enum channel_snapshot)m->snapshot);
	else if (m->kind == CHANNEL_COMMAND)
		admin_run_command(admin, m);
	else if (m->kind == CHANNEL_NOTE)
		on_note(admin, m);
}

static void
on_end(void *arg)
{
	struct admin *admin = arg;

	admin_cancel_snapshots(admin);
	admin->reload_count = 0;
}

/*
 * The files in /proc are opened here: after a change of user the other process could not open
 * them. It can count our descriptors with them, but open none.
 */
static bool
greet(void *arg)
{
	struct admin *admin = arg;
	struct channel_message m = {.kind = CHANNEL_HELLO, .pid = getpid()};
	int proc[2] = {open("/proc/self/stat", O_RDONLY | O_CLOEXEC),
		open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
	int fds[CHANNEL_FDS_MAX] = {admin->events_fd};
	size_t n = 1;

	m.has_proc = proc[0] >= 0 && proc[1] >= 0;
	for (int i = 0; i < 2 && m.has_proc; i++)
		fds[n++] = proc[i];
	for (int i = 0; i < CHANNEL_ENDPOINTS; i++)
		admin_add_sockets(admin, (enum channel_endpoint)i, &m, fds, &n);
	keeper_send(&admin->keeper, &m, fds, n);
	for (int i = 0; i < 2; i++)
		if (proc[i] >= 0)
			close(proc[i]);
	admin_send_config(admin);
	return true;
}

/* --- life ----------------------------------------------------------------- */

struct admin *
admin_new(struct broker *broker, const char *control, const struct endpoint *http,
	const struct admin_hooks *hooks)
{
	struct admin *admin = mem_new(sizeof(*admin));
	const struct keeper_hooks keeper_hooks = {admin, greet, on_request, on_end};
	struct rlimit fds;

	admin->loop = broker_loop(broker);
	admin->broker = broker;
	admin->hooks = *hooks;
	admin->started_ms = clock_now_ms();
	admin->events_fd = admin->config_fd = admin->hosts_fd = admin->next_fd = -1;
	admin->max_fds = getrlimit(RLIMIT_NOFILE, &fds) == 0 ? fds.rlim_cur : 0;
	ratelimit_init(&admin->notes, NOTES_PER_SECOND);
	admin_init_snapshots(admin);
	keeper_init(&admin->keeper, admin->loop, &keeper_hooks);
	admin_init_sockets(admin, control);
	if (control[0] != '\0')
		admin_open_control(admin);
	if (!admin_open_http(admin, http)) {
		admin_free(admin);
		return NULL;
	}
	if (!admin_has_endpoint(admin) && control[0] == '\0') /* nor will it ever have one */
		return admin;
	admin->events_fd = recent_share();
	if (admin->events_fd < 0) {
		int error = errno;

		log_event(LOG_LEVEL_ERROR, "start_failed", "error=\"no shared memory: %s%s\"",
			strerror(error), error == EFBIG ? " (RLIMIT_FSIZE is too low)" : "");
		admin_free(admin);
		return NULL;
	}
	return admin;
}

bool
admin_start(struct admin *admin)
{
	if (!admin_has_endpoint(admin) || keeper_start(&admin->keeper))
		return true;
	log_event(LOG_LEVEL_ERROR, "start_failed",
		"error=\"cannot start the process for HTTP and the control socket: %s\"",
		strerror(errno));
	return false;
}

void
admin_free(struct admin *admin)
{
	if (admin == NULL)
		return;
	keeper_fini(&admin->keeper);
	admin_cancel_snapshots(admin);
	admin_close_sockets(admin);
	admin_free_config(admin);
	if (admin->events_fd >= 0)
		close(admin->events_fd);
	free(admin);
}
