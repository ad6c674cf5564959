/* SPDX-License-Identifier: MIT */
/*
 * A side as a whole: pausing, holding back large messages, changed options. If each connection
 * needs system calls for that, a walk visits them in slices, some in each turn.
 */
#include "net/side.h"

#include <assert.h>
#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"
#include "net/conn_impl.h"

/* --- a walk over the connections, in slices ------------------------------- */

/* Thousands of connections, with system calls for each, would make a long turn. */
static void
walk_task_cb(struct task *task)
{
	struct side_walk *walk = list_entry(&task->node, struct side_walk, task.node);
	struct side *side = walk->side;
	struct loop *loop = side->loop;
	uint32_t end = loop->spent + loop->limits.side;

	while (walk->next != &side->conns) {
		struct conn *conn = list_entry(walk->next, struct conn, node);

		if (loop->spent > end) {
			loop_defer(loop, LOOP_RESUME, task);
			return;
		}
		walk->next = conn->node.next;
		walk->visit(conn);
		loop_spend(loop, 1); /* a visit that changes nothing costs something, too */
	}
}

static void
walk_init(struct side_walk *walk, struct side *side, void (*visit)(struct conn *))
{
	walk->side = side;
	walk->next = &side->conns;
	walk->visit = visit;
	task_init(&walk->task, walk_task_cb);
}

/* Visits every connection that is there now, from this turn on; a running walk starts again. */
static void
walk_start_over(struct side_walk *walk)
{
	walk->next = walk->side->conns.next;
	loop_defer(walk->side->loop, LOOP_RESUME, &walk->task);
}

void
side_forget(struct side *side, struct conn *conn)
{
	struct side_walk *walks[] = {&side->pausing, &side->changing};

	for (size_t i = 0; i < sizeof(walks) / sizeof(walks[0]); i++)
		if (walks[i]->next == &conn->node)
			walks[i]->next = conn->node.next;
	list_remove(&conn->node);
	if (side->reading == conn)
		side->reading = NULL;
}

static void
pause_or_resume(struct conn *conn)
{
	if (conn->side->read_paused)
		conn_hold(conn);
	else
		conn_release(conn);
}

/* Gives the connection its changed options: mostly a system call. */
static void
take_options(struct conn *conn)
{
	if (!conn_is_open(conn))
		return;
	heartbeat_start(conn);
	conn_arm_timer(conn);
	if (conn->was_full) /* the flush task asks whether the queue has drained */
		loop_defer(conn->side->loop, LOOP_FLUSH, &conn->task);
	loop_spend(conn->side->loop, BUDGET_CHANGE);
}

/* --- a side's life -------------------------------------------------------- */

void
side_init(struct side *side)
{
	list_init(&side->conns);
	list_init(&side->leaving);
	timer_init(&side->farewell, side->loop, side_farewell_cb);
	walk_init(&side->pausing, side, pause_or_resume);
	walk_init(&side->changing, side, take_options);
	slots_add_side(side);
	ratelimit_init(&side->failures, 10);
}

void
side_fini(struct side *side)
{
	assert(list_empty(&side->conns));
	slots_remove_side(side);
	task_cancel(&side->pausing.task);
	task_cancel(&side->changing.task);
	timer_stop(&side->farewell);
}

/* --- reading -------------------------------------------------------------- */

void
side_pause(struct side *side, bool paused)
{
	if (side->read_paused == paused)
		return;
	side_let_read(side, NULL);
	side->read_paused = paused;
	walk_start_over(&side->pausing);
}

void
side_hold(struct side *side, uint64_t above)
{
	side->holds = true;
	side->hold_above = above;
	list_each(node, tmp, &side->conns)
		conn_update_held(list_entry(node, struct conn, node));
}

void
side_release(struct side *side)
{
	if (!side->holds)
		return;
	if (!side->read_paused)
		side_let_read(side, NULL);
	side->holds = false;
	list_each(node, tmp, &side->conns)
		conn_update_held(list_entry(node, struct conn, node));
}

void
side_let_read(struct side *side, struct conn *conn)
{
	struct conn *both[] = {side->reading, conn};
	bool wanted[2];

	side->reading_since = loop_now(side->loop);
	if (side->reading == conn)
		return;
	side->reading_ended = conn == NULL;
	side->reading_from = conn != NULL ? conn->bytes_in : 0;
	for (int i = 0; i < 2; i++)
		wanted[i] = both[i] != NULL && conn_wants_input(both[i]);
	side->reading = conn;
	for (int i = 0; i < 2; i++)
		if (both[i] != NULL)
			conn_reading_changed(both[i], wanted[i]);
}

/* --- changed options ------------------------------------------------------ */

/* A running wait becomes longer or shorter by as much as the option did. */
static void
shift_send_due(struct conn *conn, int64_t before)
{
	int64_t timeout = conn->side->opts->send_timeout;

	if (timeout == 0)
		conn->send_due = CLOCK_NEVER;
	else if (conn->send_due != CLOCK_NEVER)
		conn->send_due += timeout - before;
	else if (conn_is_blocked(conn))
		conn->send_due = loop_now(conn->side->loop) + timeout;
}

/* All at once: it is a difference, and the next change may come before the walk is done. */
static void
shift_all_send_dues(struct side *side, int64_t before)
{
	list_each(node, tmp, &side->conns) {
		struct conn *conn = list_entry(node, struct conn, node);

		if (conn_is_open(conn))
			shift_send_due(conn, before);
	}
}

void
side_opts_changed(struct side *side, const struct side_opts *old)
{
	if (side->opts->send_timeout != old->send_timeout)
		shift_all_send_dues(side, old->send_timeout);
	walk_start_over(&side->changing);
	loop_retry_waiting(side->loop);
}

void
side_log_suppressed(struct side *side)
{
	uint64_t n = ratelimit_collect(&side->failures, loop_now(side->loop));

	if (n > 0)
		log_event(LOG_LEVEL_INFO, "handshake_failed_suppressed",
			"proxy=%s side=%s count=%" PRIu64, side->proxy_name, side->name, n);
}
