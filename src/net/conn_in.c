/* SPDX-License-Identifier: MIT */
/*
 * Reading: into the loop's scratch buffer, through the session, up to the
 * broker. An idle connection holds no buffer; the front of a message that is
 * not complete yet waits in conn->part, and the body of a large one is read
 * straight into a block of its own.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "net/conn_impl.h"
#include "net/sys.h"

enum {
	/*
	 * If this much of a body is still to come, and as much has come, it is read straight into
	 * its place. An announced length takes no memory; a small multiple of the received bytes
	 * does.
	 */
	DIRECT_MIN = 16384,
	LEND_MIN = 16384,  /* bytes: smaller messages are copied, and hold no chunk */
	PARSED_MAX = 4096, /* shorter messages, on average, may have been parsed byte by byte */
	OVER_LIMIT = 65536 /* bytes of a read over memory_limit: each peer may have one */
};

/*
 * The queue must be sent before these connections are closed: an ERROR, without which libzmq dials
 * again indefinitely, or our whole greeting, which RFC 23 ("Authentication and Confidentiality")
 * demands also when the mechanisms differ.
 */
static bool
is_told_why(enum close_reason reason)
{
	return reason == CLOSE_INCOMPATIBLE_SOCKET_TYPE || reason == CLOSE_AUTH_FAILED ||
		reason == CLOSE_MECHANISM_MISMATCH;
}

static void
on_bad(struct conn *conn, const struct session_event *ev)
{
	if (is_told_why(ev->reason))
		conn_finish(conn, ev->reason, ev->detail);
	else
		conn_close(conn, ev->reason, ev->detail);
}

/*
 * The chunk that was read into, if `len` bytes may stay in it; NULL: copy them. Lent bytes count
 * with their whole chunk, which may be sixteen times as large, so nothing is lent while much is
 * queued.
 */
static struct chunk *
lend(struct loop *loop, size_t len)
{
	const struct mem_account *memory = &loop->env.memory;

	if (len < LEND_MIN || memory->used + LOOP_SCRATCH > memory->limit / 8)
		return NULL;
	if (loop->spare == NULL)
		loop->spare = chunk_new(&loop->env.pool, LOOP_SCRATCH);
	return loop->spare != NULL ? loop->scratch : NULL;
}

/* Makes sure that the next read goes to a chunk that no queue refers to. */
static void
renew_scratch(struct loop *loop)
{
	if (loop->scratch->refs == 1) {
		if (loop->scratch->counted)
			outq_uncount(&loop->env, loop->scratch);
		return;
	}
	chunk_unref(&loop->env.pool, loop->scratch);
	loop->scratch = loop->spare;
	loop->spare = NULL;
}

/* The message that came in parts is complete: nothing of it is left to hold back. */
static void
end_part(struct conn *conn)
{
	outq_fini(&conn->part, &conn->side->loop->env);
	if (conn->side->reading == conn)
		side_let_read(conn->side, NULL);
	if (conn->paused & CONN_LARGE)
		conn_update_held(conn);
}

static void
on_message(struct conn *conn, const struct session_event *ev)
{
	struct loop *loop = conn->side->loop;
	struct outq_env *env = &loop->env;
	struct message m = {ev->data, ev->len, ev->len, NULL, lend(loop, ev->len)};

	if (!conn->was_ready) {
		/* its handshake ended while it was being closed: the broker never knew it */
		outq_fini(&conn->part, env);
		return;
	}
	if (!outq_empty(&conn->part)) {
		if (!outq_append(&conn->part, env, ev->data, ev->len, m.chunk)) {
			conn_close(conn, CLOSE_NO_MEMORY, NULL);
			return;
		}
		outq_end_message(&conn->part);
		m = outq_as_message(&conn->part);
	}
	conn->messages_in++;
	conn->side->ops->on_message(conn, &m); /* part_since is still set in this call */
	conn->part_since = CLOCK_NEVER;
	if (m.rope != NULL)
		end_part(conn);
}

/* Keeps the front of a message that is over a limit: it says to whom the message belongs. */
static bool
keep_front(struct conn *conn, const struct session_event *ev)
{
	struct outq_env *env = &conn->side->loop->env;
	uint8_t front[CONN_FRONT];
	size_t len = outq_copy(&conn->part, front, sizeof(front));
	size_t more = sizeof(front) - len < ev->len ? sizeof(front) - len : ev->len;

	if (more == 0 && conn->part.bytes <= len)
		return true;
	memcpy(front + len, ev->data, more);
	outq_fini(&conn->part, env);
	if (outq_append(&conn->part, env, front, len + more, NULL)) {
		if (conn->paused & CONN_LARGE)
			conn_update_held(conn);
		return true;
	}
	conn_close(conn, CLOSE_NO_MEMORY, NULL);
	return false;
}

static void
on_discarded(struct conn *conn, const struct session_event *ev)
{
	struct message front;

	if (!keep_front(conn, ev))
		return;
	conn->part_since = CLOCK_NEVER;
	if (conn->was_ready) {
		outq_end_message(&conn->part);
		front = outq_as_message(&conn->part);
		conn->messages_in++;
		conn->side->ops->on_discarded(conn, &front, ev->detail);
	}
	end_part(conn);
}

/*
 * The unit is complete, and its clock stops, unless it is a command between two frames of a
 * message.
 */
static void
end_unit(struct conn *conn)
{
	if (!session_midway(&conn->session))
		conn->part_since = CLOCK_NEVER;
}

/* DRAINING and BYE are taken from any peer: they concern only its own requests or replies. */
static void
on_parting(struct conn *conn, enum session_event_kind kind)
{
	const struct conn_ops *ops = conn->side->ops;
	void (*on)(struct conn *) = kind == SESSION_DRAINING ? ops->on_draining : ops->on_bye;

	conn->side->loop->units += BUDGET_ANSWER;
	if (on != NULL && conn_is_open(conn) && conn->peer != NULL)
		on(conn);
}

static void
on_event(struct conn *conn, enum session_event_kind kind, const struct session_event *ev)
{
	switch (kind) {
	case SESSION_MESSAGE:
		on_message(conn, ev);
		break;
	case SESSION_PART:
		if (!outq_append(&conn->part, &conn->side->loop->env, ev->data, ev->len,
			    lend(conn->side->loop, ev->len)))
			conn_close(conn, CLOSE_NO_MEMORY, NULL);
		break;
	case SESSION_DISCARD:
		keep_front(conn, ev);
		break;
	case SESSION_DISCARDED:
		on_discarded(conn, ev);
		break;
	case SESSION_SEND:
		conn->side->loop->units += BUDGET_ANSWER;
		if (conn->state != CONN_LINGER && conn->out.commands < CONN_COMMANDS_MAX)
			conn_send_command(conn, ev->data, ev->len);
		if (conn->session.ping_ttl > 0)
			conn_due(conn, loop_now(conn->side->loop) + conn->session.ping_ttl);
		end_unit(conn);
		break;
	case SESSION_READY:
		end_unit(conn);
		if (conn->state == CONN_HANDSHAKE)
			conn_became_ready(conn);
		break;
	case SESSION_BAD:
		on_bad(conn, ev);
		break;
	case SESSION_COMMAND:
		conn->side->loop->units += BUDGET_COMMAND;
		end_unit(conn);
		break;
	case SESSION_DRAINING:
	case SESSION_BYE:
		on_parting(conn, kind);
		end_unit(conn);
		break;
	case SESSION_MORE:
		break;
	}
}

/*
 * Passes on messages that lie whole in the buffer, one after the other. Returns their bytes.
 * on_message is read once: a table that is swapped from inside it serves from the next read on.
 */
static size_t
feed_whole(struct conn *conn, const uint8_t *p, size_t len)
{
	void (*const on_whole)(struct conn *, struct message *) = conn->side->ops->on_message;
	size_t at = 0, n;

	while (conn->state != CONN_CLOSED &&
		(n = session_whole(&conn->session, p + at, len - at)) > 0) {
		struct message m = {p + at, n, n, NULL, lend(conn->side->loop, n)};

		conn->messages_in++;
		on_whole(conn, &m);
		at += n;
	}
	return at;
}

static void
feed(struct conn *conn, uint8_t *p, size_t len)
{
	enum session_event_kind kind;
	struct session_event ev;

	do {
		if (len > 0 && conn->was_ready && session_between(&conn->session)) {
			size_t n = feed_whole(conn, p, len);

			p += n;
			len -= n;
			if (len == 0 || conn->state == CONN_CLOSED)
				return;
		}
		kind = session_pull(&conn->session, p, len, &ev);
		p += ev.used;
		len -= ev.used;
		on_event(conn, kind, &ev);
	} while (kind != SESSION_MORE && kind != SESSION_BAD && conn->state != CONN_CLOSED);
}

void
conn_pump(struct conn *conn)
{
	feed(conn, conn->side->loop->scratch->data, 0);
}

/* A message whose front has come is on a clock until its end comes. */
static void
watch_part(struct conn *conn, int64_t now)
{
	const struct side_opts *o = conn->side->opts;

	if (!session_midway(&conn->session))
		return;
	conn_stay(conn); /* our end does not cut a message that it began before */
	if (conn->side->holds && !(conn->paused & CONN_LARGE))
		conn_update_held(conn);
	if (conn->part_since != CLOCK_NEVER)
		return;
	conn->part_since = now;
	if (o->receive_timeout > 0)
		conn_due(conn, now + o->receive_timeout);
	if (o->receive_deadline > 0)
		conn_due(conn, now + o->receive_deadline);
}

/* The peer ended its side, orderly or not, and everything it sent was read. */
static void
on_end(struct conn *conn, int error)
{
	if (error == 0 && conn->side->flush_at_end && conn->state != CONN_LINGER)
		conn_write(conn); /* it may have shut only its half */
	if (conn->state == CONN_CLOSED)
		return;
	if (conn->state == CONN_LINGER)
		conn_close(conn, conn->reason, conn->detail);
	else if (error == 0 || error == -EPIPE)
		conn_close(conn, CLOSE_PEER_CLOSED, session_end_detail(&conn->session));
	else if (error == -ENOMEM || error == -ENOBUFS)
		conn_close(conn, CLOSE_NO_MEMORY, strerror(-error));
	else
		conn_close(conn, CLOSE_IO_ERROR, strerror(-error));
}

/* How much is read at once: as much of this peer's data as a turn can take. */
static size_t
window_of(const struct conn *conn)
{
	if (conn->window > OVER_LIMIT && mem_account_over(&conn->side->loop->env.memory))
		return OVER_LIMIT;
	return conn->window;
}

/* Processes a read of `bytes` bytes, `len` of which are in the scratch chunk. */
static inline void
feed_small(struct conn *conn, size_t len, size_t bytes)
{
	struct loop *loop = conn->side->loop;

	loop_spend(loop, BUDGET_READ + (uint32_t)bytes);
	if (len > 0)
		feed(conn, loop->scratch->data, len);
}

/* The same for a read that may have cost much. */
static void __attribute__((noinline))
feed_and_charge(struct conn *conn, size_t len, size_t bytes, size_t window)
{
	struct loop *loop = conn->side->loop;
	uint64_t messages = conn->messages_in, parsed = 0;
	uint32_t units;

	loop->units = 0;
	if (len > 0)
		feed(conn, loop->scratch->data, len);
	messages = conn->messages_in - messages;
	/* long messages that lay whole in the buffer were not parsed byte by byte */
	if (messages == 0 || len / messages < PARSED_MAX)
		parsed = len >> BUDGET_PARSED;
	units = (uint32_t)(loop->units + BUDGET_MESSAGE * messages + parsed +
		(bytes >> BUDGET_BYTES));
	if (bytes <= BUDGET_MEDIUM && units <= BUDGET_PLAIN)
		loop_spend(loop, BUDGET_READ + units);
	else
		budget_charge(conn, units, bytes >= window);
}

/*
 * Aims the read at the place of the body, up to `left` - 1 bytes: the last byte goes through the
 * scratch chunk, so that the session sees the end. *direct: bytes in place. Returns the number of
 * entries in iov; 0: no memory, and the connection is closed.
 */
static int
read_in_place(struct conn *conn, uint64_t left, struct iovec iov[2], size_t *direct)
{
	size_t most =
		left - 1 < conn->part.bytes * 2 ? (size_t)left - 1 : (size_t)conn->part.bytes * 2;
	struct iovec scratch = iov[0];
	uint8_t *place;

	*direct = outq_reserve(&conn->part, &conn->side->loop->env, most, &place);
	if (*direct == 0) {
		conn_close(conn, CLOSE_NO_MEMORY, NULL);
		return 0;
	}
	iov[0] = (struct iovec){place, *direct};
	if (*direct < left - 1)
		return 1;
	iov[1] = scratch;
	return 2;
}

/*
 * One read per readiness: bytes that are left make the descriptor ready again, so that a busy peer
 * takes turns with the others.
 */
void
conn_read(struct conn *conn)
{
	struct loop *loop = conn->side->loop;
	uint64_t left = session_body_left(&conn->session);
	size_t window = window_of(conn);
	struct iovec iov[2] = {{loop->scratch->data, window}};
	size_t direct = 0;
	int count = 1;
	ssize_t n, read;

	if (__builtin_expect(conn->side->read_paused, 0))
		conn_hold(conn);
	if (!conn_wants_input(conn))
		return;
	/* the data of a peer that is gone is read even while paused, but not without limit */
	if (conn->hung_up && conn_is_open(conn) && mem_account_far_over(&loop->env.memory)) {
		conn_close(conn, CLOSE_OVER_LIMIT,
			"peer closed; memory_limit reached before its data was read");
		return;
	}
	if (left >= DIRECT_MIN && conn->part.bytes >= DIRECT_MIN) {
		count = read_in_place(conn, left, iov, &direct);
		if (count == 0)
			return;
	}
	n = sys_readv(conn->fd, iov, count);
	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		on_end(conn, (int)n);
		return;
	}
	read = n;
	conn->last_in = loop_now(loop);
	conn->first_ping = CLOCK_NEVER;
	conn->bytes_in += (uint64_t)n;
	conn->side->counters->bytes_received += (uint64_t)n;
	if (direct > 0) {
		size_t in_place = (size_t)n < direct ? (size_t)n : direct;
		outq_commit(&conn->part, in_place);
		session_took(&conn->session, in_place);
		n -= (ssize_t)in_place;
	}
	if (read > BUDGET_SMALL)
		feed_and_charge(conn, (size_t)n, (size_t)read, window);
	else
		feed_small(conn, (size_t)n, (size_t)read);
	renew_scratch(loop);
	if (conn->state != CONN_CLOSED)
		watch_part(conn, conn->last_in);
}
