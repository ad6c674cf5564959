/* SPDX-License-Identifier: MIT */
/*
 * Writing: queue, then one write per peer and turn, under the poison guard.
 * The send timer is a stored time; it costs something only when the kernel
 * refuses bytes.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "net/conn_impl.h"
#include "net/sys.h"
#include "zmtp/command.h"

enum {
	IOV_COUNT = 64,
	FLUSH_AT = 131072, /* bytes that are written at once, while they are still in the cache */
	MANY_MESSAGES = 10000 /* of a queue that is not searched for commands one by one */
};

/* --- queueing ------------------------------------------------------------- */

/* From now on the next bytes cannot be written. */
static void
start_send_clock(struct conn *conn)
{
	const struct side_opts *o = conn->side->opts;

	if (o->send_timeout == 0 || conn->send_due != CLOCK_NEVER || conn->out.unsent == 0)
		return;
	conn->send_due = loop_now(conn->side->loop) + o->send_timeout;
	conn_due(conn, conn->send_due);
}

static void
mark_dirty(struct conn *conn)
{
	if (!conn_is_blocked(conn))
		loop_defer(conn->side->loop, LOOP_FLUSH, &conn->task);
	else
		start_send_clock(conn); /* the units queued before may have been cut */
}

static bool
fits(const struct conn *conn, size_t size)
{
	const struct side_opts *o = conn->side->opts;

	if (conn->out.messages == 0)
		return true; /* one message always fits */
	if (o->send_hwm > 0 && conn->out.messages >= (uint64_t)o->send_hwm)
		return false;
	return conn->out.bytes + size <= (uint64_t)o->send_hwm_bytes;
}

static bool
can_queue(const struct conn *conn, size_t size)
{
	return conn_is_open(conn) && !conn_is_broken(conn) && fits(conn, size);
}

bool
conn_make_room(struct conn *conn, size_t size)
{
	if (can_queue(conn, size))
		return true;
	if (!conn_is_open(conn) || conn_is_broken(conn))
		return false;
	conn_write(conn);
	if (conn_is_open(conn) && fits(conn, size))
		return true;
	conn->was_full = true;
	mark_dirty(conn);
	return false;
}

static inline void
count_queued(struct conn *conn, uint64_t bytes)
{
	struct counters *c = conn->side->counters;

	c->queued++;
	c->queued_bytes += bytes;
	mark_dirty(conn);
	if (__builtin_expect(conn->out.unsent >= FLUSH_AT, 0))
		conn_write(conn);
}

static void
uncount_queued(struct conn *conn, uint64_t bytes)
{
	conn->side->counters->queued--;
	conn->side->counters->queued_bytes -= bytes;
}

bool
conn_send(struct conn *conn, const uint8_t *prefix, size_t prefix_len, struct message *message,
	size_t skip)
{
	uint64_t before = conn->out.bytes;

	if (!outq_push(&conn->out, &conn->side->loop->env, prefix, prefix_len, message, skip))
		return false;
	count_queued(conn, conn->out.bytes - before);
	return true;
}

uint64_t
conn_send_from(struct conn *conn, struct outq *from)
{
	uint64_t size = outq_move(&conn->out, from, &conn->side->loop->env);

	if (size > 0)
		count_queued(conn, size);
	return size;
}

uint64_t
conn_share(struct conn *conn, const struct outq *from)
{
	uint64_t size = outq_share(&conn->out, from, &conn->side->loop->env);

	if (size > 0)
		count_queued(conn, size);
	return size;
}

uint32_t
conn_cut(struct conn *conn)
{
	struct counters *c = conn->side->counters;
	uint64_t before = conn->out.bytes;
	struct outq_commands commands;
	struct outq_progress cut;

	if (conn->bytes_out < conn->hello_end)
		return 0;
	/* the connection goes on: its PINGs and PONGs are still due */
	outq_copy_commands(&conn->out, &commands);
	cut = outq_cut(&conn->out, &conn->side->loop->env);
	c->queued -= cut.messages;
	c->queued_bytes -= before - conn->out.bytes - cut.command_bytes;
	conn->was_full |= cut.messages > 0;
	if (conn->out.unsent == 0 && conn->state == CONN_READY)
		conn->send_due = CLOCK_NEVER;         /* nothing is late any more */
	for (uint32_t i = 0; i < commands.count; i++) /* without memory: they are lost */
		outq_push_command(
			&conn->out, &conn->side->loop->env, commands.bytes[i], commands.sizes[i]);
	if (commands.count > 0)
		mark_dirty(conn);
	return cut.messages;
}

uint64_t
conn_take(struct conn *conn, struct outq *to)
{
	uint64_t size = outq_move(to, &conn->out, &conn->side->loop->env);

	if (size > 0)
		uncount_queued(conn, size);
	return size;
}

bool
conn_drop(struct conn *conn)
{
	const uint8_t *p;
	size_t len;
	uint64_t size = outq_peek(&conn->out, &p, &len);

	if (size == 0)
		return false;
	outq_drop(&conn->out, &conn->side->loop->env);
	uncount_queued(conn, size);
	return true;
}

uint32_t
conn_drop_all(struct conn *conn)
{
	struct counters *c = conn->side->counters;
	uint64_t before = conn->out.bytes;
	struct outq_progress all = outq_clear(&conn->out, &conn->side->loop->env);

	c->queued -= all.messages;
	c->queued_bytes -= before - all.command_bytes;
	return all.messages;
}

uint32_t
conn_splice(struct conn *conn, struct outq *to)
{
	uint32_t messages = conn->out.messages;

	if (conn->bytes_out < conn->hello_end ||
		(conn->out.commands > 0 && messages < MANY_MESSAGES))
		return 0;
	outq_splice(to, &conn->out);
	return messages;
}

uint32_t
conn_splice_from(struct conn *conn, struct conn *from)
{
	uint32_t messages;

	/* older peers must not get PINGs */
	if (from->out.commands > 0 && session_peer_minor(&conn->session) == 0 &&
		(from->bytes_out < from->hello_end ||
			!outq_drop_commands(&from->out, &conn->side->loop->env)))
		return 0;
	messages = conn_splice(from, &conn->out);
	if (messages > 0)
		mark_dirty(conn);
	return messages;
}

void
conn_send_command(struct conn *conn, const uint8_t *data, size_t len)
{
	if (conn->state == CONN_CLOSED)
		return;
	if (!outq_push_command(&conn->out, &conn->side->loop->env, data, len)) {
		conn_close(conn, CLOSE_NO_MEMORY, NULL);
		return;
	}
	mark_dirty(conn);
}

bool
conn_say_draining(struct conn *conn)
{
	uint8_t draining[COMMAND_DRAINING_MAX];

	if (!conn->session.peer_hears_draining || !conn_is_open(conn) || conn_is_broken(conn))
		return false;
	conn_send_command(conn, draining, command_put_draining(draining));
	return true;
}

void
conn_say_bye(struct conn *conn)
{
	uint8_t bye[COMMAND_DRAINING_MAX];

	/* one more than the PINGs and PONGs that are queued at most */
	if (conn_is_open(conn) && !conn_is_broken(conn) && conn->out.commands <= CONN_COMMANDS_MAX)
		conn_send_command(conn, bye, command_put_bye(bye));
}

/* --- writing -------------------------------------------------------------- */

void
conn_cancel_guard(struct conn *conn)
{
	if (!poison_is_poisoned(&conn->guard) && poison_cancel(&conn->guard))
		conn->side->counters->poisoned++;
}

void
conn_cancel_writing(struct conn *conn)
{
	if (conn->output != CONN_BROKEN_TOLD)
		conn->output = CONN_BROKEN;
	conn->send_due = CLOCK_NEVER;
	conn_cancel_guard(conn);
}

/*
 * Nothing is sent any more. What the peer sent before it left is still read, and the connection
 * closes at its end, or soon: not every failed write means that the peer is gone.
 */
static void
stop_writing(struct conn *conn)
{
	conn_cancel_writing(conn);
	conn_set_hung_up(conn);
	if (conn->state == CONN_LINGER)
		return;
	conn->linger_due = loop_now(conn->side->loop) + CONN_LINGER_MS;
	conn_due(conn, conn->linger_due);
	/* this may be a call of the broker, which is told at the end of the turn */
	loop_defer(conn->side->loop, LOOP_FLUSH, &conn->task);
}

void
conn_tell_broken(struct conn *conn)
{
	if (conn->output != CONN_BROKEN || !conn_is_open(conn))
		return;
	conn->output = CONN_BROKEN_TOLD;
	if (conn->side->ops->on_broken != NULL)
		conn->side->ops->on_broken(conn);
}

/* Half empty again: waking the other side for every single message would cost more. */
static bool
has_drained(const struct conn *conn)
{
	const struct side_opts *o = conn->side->opts;

	return conn->out.messages == 0 ||
		((o->send_hwm == 0 || conn->out.messages <= (uint64_t)o->send_hwm / 2) &&
			conn->out.bytes <= (uint64_t)o->send_hwm_bytes / 2);
}

void
conn_tell_drained(struct conn *conn)
{
	if (conn->state != CONN_READY || conn_is_broken(conn) || !has_drained(conn))
		return;
	conn->was_full = false;
	conn->side->ops->on_drained(conn);
}

void
conn_hung_up(struct conn *conn)
{
	conn_set_hung_up(conn);
	if (conn->side->flush_at_end || !conn_is_open(conn) || conn_is_broken(conn))
		return;
	stop_writing(conn);
	conn_tell_broken(conn);
}

/*
 * Messages that came in this turn are measured when it ends, by one reading of the clock for all.
 * Messages that waited count with the age of the oldest in this write.
 */
static inline void
count_forwarded(struct side *side, uint64_t since, uint64_t messages)
{
	struct loop *loop = side->loop;

	if (messages == 0)
		return;
	loop_now(loop);
	if (since == loop->env.now_ns)
		histogram_hold(&loop->held, &side->forward, messages);
	else
		histogram_add(&side->forward, loop->env.now_ns - since, messages);
}

static void
on_written(struct conn *conn, size_t n)
{
	struct counters *c = conn->side->counters;
	uint64_t before = conn->out.bytes;
	struct outq_progress done = outq_consume(&conn->out, &conn->side->loop->env, n);

	poison_wrote(&conn->guard, n, (size_t)done.left);
	conn->messages_out += done.messages;
	conn->bytes_out += n;
	c->bytes_sent += n;
	conn->side->loop->spent += BUDGET_WRITE + (uint32_t)(n >> BUDGET_BYTES);
	c->sent += done.messages;
	count_forwarded(conn->side, done.since, done.messages);
	c->queued -= done.messages;
	/* commands are part of out.bytes but of no message count; the gauge follows messages */
	c->queued_bytes -= before - conn->out.bytes - done.command_bytes;
	if (done.messages + done.commands > 0)
		conn->send_due = CLOCK_NEVER; /* another unit is the first one now */
	if (conn->was_full) /* the flush task tells the broker that there is room */
		loop_defer(conn->side->loop, LOOP_FLUSH, &conn->task);
}

void
conn_write(struct conn *conn)
{
	struct iovec iov[IOV_COUNT];
	uint64_t end = 0;
	size_t total;
	ssize_t n;
	int count;

	if (conn->state == CONN_CONNECTING || conn->state == CONN_CLOSED ||
		conn->output != CONN_WRITES)
		return;
	while ((count = outq_iov(&conn->out, iov, IOV_COUNT, &total)) > 0) {
		if (end == 0) {
			end = conn->bytes_out + conn->side->loop->limits.write;
		} else if (conn->bytes_out >= end && !conn_is_leaving(conn)) {
			mark_dirty(conn); /* others first */
			break;
		}
		if (poison_arm(&conn->guard) != 0)
			return;
		n = conn_is_leaving(conn) ? sys_writev_last(conn->fd, iov, count)
					  : sys_writev(conn->fd, iov, count);
		if (n < 0 && n != -EAGAIN) {
			conn->detail = strerror((int)-n);
			stop_writing(conn);
			return;
		}
		on_written(conn, n > 0 ? (size_t)n : 0);
		if (n < (ssize_t)total) {
			conn->output = CONN_BLOCKED;
			if (n > 0 || conn->send_due == CLOCK_NEVER)
				conn->blocked_since = loop_now(conn->side->loop);
			break;
		}
	}
	if (conn_is_blocked(conn))
		start_send_clock(conn);
}

static void
log_stall(const struct conn *conn, enum log_level level, const char *event)
{
	log_event(level, event, "proxy=%s side=%s peer=%" PRIu64 " address=%s",
		conn->side->proxy_name, conn->side->name, conn->id, conn->address);
}

void
conn_writable(struct conn *conn)
{
	if (conn_is_blocked(conn))
		conn->output = CONN_WRITES;
	if (conn->state == CONN_STALLED) {
		conn_enter(conn, CONN_READY);
		conn->send_due = CLOCK_NEVER;
		log_stall(conn, LOG_LEVEL_NOTICE, "peer_resumed");
		if (conn->side->ops->on_resumed != NULL)
			conn->side->ops->on_resumed(conn);
	}
	mark_dirty(conn);
}

/*
 * The send timeout passed. A message that is partly out poisons the stream, and the connection
 * closes; otherwise the peer is stalled, and closed, with a clean guard, when the timeout passes
 * again.
 */
static void
send_timed_out(struct conn *conn)
{
	conn->side->counters->send_timeouts++;
	conn->send_due = CLOCK_NEVER;
	/* a stalled peer's queue may go to others, but our greeting is for this one alone */
	if (poison_midway(&conn->guard) || conn->state != CONN_READY ||
		conn->bytes_out < conn->hello_end) {
		conn_close(conn, CLOSE_SEND_TIMEOUT,
			poison_midway(&conn->guard)         ? "inside a message"
				: conn->state == CONN_READY ? "handshake not fully sent"
							    : "stalled");
		return;
	}
	conn_enter(conn, CONN_STALLED);
	conn->send_due = loop_now(conn->side->loop) + conn->side->opts->send_timeout;
	log_stall(conn, LOG_LEVEL_WARNING, "peer_stalled");
	if (conn->side->ops->on_stalled != NULL)
		conn->side->ops->on_stalled(conn);
}

/*
 * The timer may run before the events of its turn, and the whole process may have been stopped for
 * a while: no peer is given up before one more attempt to write to it.
 */
void
conn_check_send(struct conn *conn, int64_t now_ms)
{
	if (conn->out.unsent > 0) {
		if (conn_is_blocked(conn))
			conn->output = CONN_WRITES;
		conn_write(conn);
		if (conn->output == CONN_WRITES) {
			conn_writable(conn);
			return;
		}
	}
	if (now_ms >= conn->send_due)
		send_timed_out(conn);
}
