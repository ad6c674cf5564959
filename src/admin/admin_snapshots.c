/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <unistd.h>

#include "admin/admin_impl.h"
#include "base/clock.h"
#include "base/mem.h"

static struct snapshot *
take_snapshot(struct admin *admin, bool peers)
{
	struct snapshot *s = mem_try_new(sizeof(*s));

	if (s == NULL)
		return NULL;
	s->pid = getpid();
	s->log_level = log_get_level();
	s->uptime_ms = clock_now_ms() - admin->started_ms;
	s->max_fds = admin->max_fds;
	s->admin_starts = admin->keeper.starts;
	if (snapshot_take(s, admin->broker, peers) && admin->hooks.describe(admin->hooks.arg, s))
		return s;
	snapshot_free(s);
	return NULL;
}

/* The turn is over: what was read has left, and the counters agree with the queues. */
static void
snapshot_task_cb(struct task *task)
{
	struct snapshot_request *request =
		list_entry(&task->node, struct snapshot_request, task.node);
	struct admin *admin = request->admin;
	struct channel_message m = {.kind = CHANNEL_SNAPSHOT, .snapshot = request->which};
	struct snapshot *s = take_snapshot(admin, request->which == CHANNEL_PEERS);
	int fd = s != NULL ? snapshot_share(s) : -1;

	request->taken_ms = loop_now(admin->loop);
	keeper_send(&admin->keeper, &m, &fd, fd >= 0);
	if (fd >= 0)
		close(fd);
	snapshot_free(s);
}

static void
snapshot_timer_cb(struct timer *timer)
{
	struct snapshot_request *request = list_entry(timer, struct snapshot_request, timer);

	loop_defer(request->admin->loop, LOOP_OBSERVE, &request->task);
}

/* A snapshot is shown for so long: asking more often must not keep us busy. */
void
admin_ask_snapshot(struct admin *admin, enum channel_snapshot which)
{
	static const int64_t least_ms[CHANNEL_SNAPSHOTS] = {
		SNAPSHOT_COUNTERS_MS, SNAPSHOT_PEERS_MS};
	struct snapshot_request *request = &admin->snapshots[which];
	int64_t due = request->taken_ms + least_ms[which] - loop_now(admin->loop);

	if (due > 0)
		timer_set(&request->timer, due);
	else
		snapshot_timer_cb(&request->timer);
}

void
admin_init_snapshots(struct admin *admin)
{
	for (unsigned i = 0; i < CHANNEL_SNAPSHOTS; i++) {
		struct snapshot_request *request = &admin->snapshots[i];

		task_init(&request->task, snapshot_task_cb);
		timer_init(&request->timer, admin->loop, snapshot_timer_cb);
		request->admin = admin;
		request->which = (enum channel_snapshot)i;
	}
	admin_expire_snapshots(admin);
}

void
admin_expire_snapshots(struct admin *admin)
{
	for (unsigned i = 0; i < CHANNEL_SNAPSHOTS; i++)
		admin->snapshots[i].taken_ms = -SNAPSHOT_PEERS_MS;
}

void
admin_cancel_snapshots(struct admin *admin)
{
	admin_expire_snapshots(admin);
	for (unsigned i = 0; i < CHANNEL_SNAPSHOTS; i++) {
		task_cancel(&admin->snapshots[i].task);
		timer_stop(&admin->snapshots[i].timer);
	}
}
