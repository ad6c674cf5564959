/* SPDX-License-Identifier: MIT */
/*
 * How a healthy connection ends: at once, when its queue is out, or by giving way to another one.
 */
#include "base/clock.h"
#include "net/conn_impl.h"
#include "net/sys.h"

void
conn_finish(struct conn *conn, enum close_reason reason, const char *detail)
{
	if (conn->state == CONN_CLOSED || conn->state == CONN_LINGER)
		return;
	if (conn->state == CONN_CONNECTING) {
		conn_close(conn, reason, detail);
		return;
	}
	loop_spend(conn->side->loop, BUDGET_END);
	conn->ending = CONN_LEAVES;
	conn_write(conn);
	if (conn->state == CONN_CLOSED)
		return;
	if (!outq_empty(&conn->out) || conn_is_broken(conn) || sys_shutdown_write(conn->fd) < 0) {
		conn_close(conn, reason, detail);
		return;
	}
	conn->reason = reason;
	conn->detail = detail;
	conn_enter(conn, CONN_LINGER);
	conn->connect_due = conn->handshake_due = conn->send_due = CLOCK_NEVER;
	conn->linger_due = loop_now(conn->side->loop) + CONN_LINGER_MS;
	conn_due(conn, conn->linger_due);
	conn_update_interest(conn);
}

void
conn_leave(struct conn *conn, enum close_reason reason, const char *detail, bool more)
{
	struct side *side = conn->side;
	bool waits = conn_is_leaving(conn) && list_linked(&conn->task.node);

	if (!conn_is_open(conn) || conn_is_broken(conn))
		return;
	conn->ending = CONN_LEAVES;
	conn->reason = reason;
	conn->detail = detail;
	if (conn_is_blocked(conn) || waits)
		return;
	task_cancel(&conn->task);
	/* a connection that has nothing queued need not wait for its turn */
	list_push(more || !outq_empty(&conn->out) ? &side->leaving : side->leaving.next,
		&conn->task.node);
	if (side->farewell.due == CLOCK_NEVER)
		timer_set(&side->farewell, SIDE_FAREWELL_MS);
}

void
conn_stay(struct conn *conn)
{
	if (conn_is_open(conn))
		conn->ending = CONN_STAYS;
}

/*
 * Requests that had arrived before it leaves are served, and may need more than one read. A flood
 * is not read to its end.
 */
void
conn_read_before_leaving(struct conn *conn)
{
	const struct loop *loop = conn->side->loop;
	uint32_t end = loop->spent + CONN_LEAVE_UNITS;
	uint64_t before;

	do {
		before = conn->bytes_in;
		conn_read(conn);
	} while (conn_is_leaving(conn) && conn_is_open(conn) && conn->bytes_in > before &&
		loop->spent < end && conn_pending(conn) > 0);
}

/* More than one at a time when there are many: one by one, thousands would take too long. */
static uint32_t
farewells_at_once(const struct side *side)
{
	return 1 + side->in_state[CONN_READY] / SIDE_FAREWELLS;
}

void
side_farewell_cb(struct timer *timer)
{
	struct side *side = list_entry(timer, struct side, farewell);
	struct loop *loop = side->loop;
	uint32_t end = loop->spent + loop->limits.side, left = farewells_at_once(side);
	struct list *node;

	while (left > 0 && loop->spent <= end && (node = list_pop(&side->leaving)) != NULL) {
		struct conn *conn = list_entry(node, struct conn, task.node);

		left -= !outq_empty(&conn->out);
		conn->task.run(&conn->task);
	}
	if (!list_empty(&side->leaving))
		timer_set(&side->farewell, SIDE_FAREWELL_MS);
}

void
conn_yield(struct conn *conn, enum close_reason reason, const char *detail)
{
	int64_t due = loop_now(conn->side->loop) + CONN_YIELD_MS;

	if (!conn_is_open(conn)) /* it is about to end anyway */
		return;
	conn_cancel_writing(conn);
	conn->reason = reason;
	conn->detail = detail;
	conn->ending = CONN_YIELDS;
	conn_enter(conn, CONN_LINGER);
	at_most(&conn->linger_due, due);
	conn_due(conn, conn->linger_due);
	conn_update_interest(conn);
}

bool
conn_has_ended(const struct conn *conn)
{
	return conn->hung_up || conn->state == CONN_LINGER || conn->state == CONN_CLOSED ||
		sys_has_ended(conn->fd);
}
