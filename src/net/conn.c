/* SPDX-License-Identifier: MIT */
#include "net/conn.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/idtext.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/conn_impl.h"
#include "net/sys.h"

static const unsigned legal_edges[CONN_STATES] = {
	[CONN_CONNECTING] = 1u << CONN_HANDSHAKE | 1u << CONN_CLOSED,
	[CONN_HANDSHAKE] = 1u << CONN_READY | 1u << CONN_LINGER | 1u << CONN_CLOSED,
	[CONN_READY] = 1u << CONN_STALLED | 1u << CONN_LINGER | 1u << CONN_CLOSED,
	[CONN_STALLED] = 1u << CONN_READY | 1u << CONN_LINGER | 1u << CONN_CLOSED,
	[CONN_LINGER] = 1u << CONN_CLOSED,
};

void
conn_enter(struct conn *conn, enum conn_state state)
{
	assert(conn->state < CONN_STATES && (legal_edges[conn->state] & (1u << state)));
	if (state == CONN_READY || state == CONN_CLOSED)
		slots_leave(conn);
	conn->side->in_state[conn->state]--;
	conn->side->in_state[state]++;
	conn->side->ready[conn->service] -= conn->state == CONN_READY;
	conn->side->ready[conn->service] += state == CONN_READY;
	conn->state = state;
}

void
conn_set_service(struct conn *conn, enum conn_service service)
{
	if (conn->state == CONN_READY) {
		conn->side->ready[conn->service]--;
		conn->side->ready[service]++;
	}
	conn->service = service;
}

static const char *const state_names[] = {
	"connecting", "handshake", "ready", "stalled", "closing", "closed"};

const char *
conn_state_name(enum conn_state state)
{
	assert(state < CONN_STATES);
	return state_names[state];
}

/* Before a peer is given up, try once more to read from it; see conn_check_send. */
static void
read_before_giving_up(struct conn *conn, int64_t now)
{
	if (conn_is_yielding(conn) && !conn->hung_up && now >= conn->linger_due &&
		sys_has_ended(conn->fd))
		conn_set_hung_up(conn);
	if (now >= conn_receive_due(conn) || now >= heartbeat_due(conn) ||
		(conn->state == CONN_HANDSHAKE && now >= conn->handshake_due))
		conn_read(conn);
}

static void
on_timer_cb(struct timer *timer)
{
	struct conn *conn = list_entry(timer, struct conn, timer);
	int64_t now = loop_now(conn->side->loop);

	if (conn->state != CONN_CLOSED)
		read_before_giving_up(conn, now);
	if (conn->state == CONN_CLOSED)
		return;
	if (now >= conn->connect_due)
		conn_close(conn, CLOSE_CONNECT_TIMEOUT, NULL);
	else if (now >= conn->handshake_due)
		conn_close(conn, CLOSE_HANDSHAKE_TIMEOUT, NULL);
	else if (now >= conn->linger_due)
		conn_close(conn, conn->state == CONN_LINGER ? conn->reason : CLOSE_IO_ERROR,
			conn->detail);
	else if (now >= conn_receive_due(conn))
		conn_close(conn, CLOSE_RECEIVE_TIMEOUT,
			now >= conn->part_since + conn->side->opts->receive_deadline &&
					conn->side->opts->receive_deadline > 0
				? "message took longer than receive_deadline"
				: "silent inside a message");
	else if (now >= conn->send_due)
		conn_check_send(conn, now);
	if (conn->state != CONN_CLOSED)
		heartbeat_check(conn, now);
	if (conn->state != CONN_CLOSED)
		conn_arm_timer(conn);
}

/* --- birth ---------------------------------------------------------------- */

static void
on_watch_cb(void *arg, unsigned events)
{
	struct conn *conn = arg;
	int error;

	if (conn->state == CONN_CLOSED)
		return;
	if (conn->state == CONN_CONNECTING) {
		error = sys_connect_result(conn->fd);
		if (error != 0) {
			conn_close(conn, CLOSE_CONNECT_FAILED, strerror(-error));
			return;
		}
		conn->connect_due = CLOCK_NEVER;
		conn_enter(conn, CONN_HANDSHAKE);
		conn_pump(conn);
	} else {
		if (events & WATCH_HUP)
			conn_hung_up(conn);
		if (events & WATCH_OUT)
			conn_writable(conn);
		if ((events & (WATCH_IN | WATCH_HUP)) && conn->state != CONN_CLOSED &&
			(!conn->side->loop->crowded || budget_admit(conn)))
			conn_read(conn);
	}
	if (conn->state != CONN_CLOSED)
		conn_update_interest(conn);
}

static void
flush_task_cb(struct task *task)
{
	struct conn *conn = list_entry(&task->node, struct conn, task.node);

	if (conn->state == CONN_CLOSED)
		return;
	if (conn_is_leaving(conn) && conn_is_open(conn)) {
		conn_read_before_leaving(conn);
		if (conn->state == CONN_CLOSED)
			return;
	}
	conn_write(conn);
	if (conn->output == CONN_BROKEN)
		conn_tell_broken(conn);
	if (conn_is_leaving(conn) && conn_is_open(conn) && outq_empty(&conn->out))
		conn_finish(conn, conn->reason, conn->detail);
	if (conn->state != CONN_CLOSED)
		conn_update_interest(conn);
	if (conn->was_full)
		conn_tell_drained(conn);
}

static void reap_task_cb(struct task *task);

/* Allocates a connection with its address and its watch. NULL: no memory. */
static struct conn *
allocate(struct side *side, int fd, const struct sockaddr *addr, socklen_t addr_len)
{
	char text[256], quoted[512];
	struct conn *conn;
	size_t size;

	/* the peer chooses a Unix socket's name, which must not forge log lines */
	sys_peer_text(fd, addr, addr_len, text, sizeof(text));
	log_quote(quoted, sizeof(quoted), text, strlen(text));
	size = strlen(quoted) + 1;
	conn = mem_try_new(offsetof(struct conn, address) + size);
	if (conn == NULL)
		return NULL;
	conn->watch = watch_new(side->loop, fd, on_watch_cb, conn);
	if (conn->watch == NULL) {
		free(conn);
		return NULL;
	}
	memcpy(conn->address, quoted, size);
	return conn;
}

/* There is no memory for the connection: closes the descriptor and counts it. */
static void
refuse_for_memory(struct side *side, int fd)
{
	side->counters->closed++;
	side->counters->closed_by[CLOSE_NO_MEMORY]++;
	side->counters->handshakes_failed++;
	if (ratelimit_pass(&side->failures, loop_now(side->loop)))
		log_event(LOG_LEVEL_WARNING, "handshake_failed",
			"proxy=%s side=%s address=- reason=no_memory", side->proxy_name,
			side->name);
	if (fd >= 0)
		sys_close(fd);
}

static struct conn *
conn_new(struct side *side, enum conn_state state, int fd, const struct sockaddr *addr,
	socklen_t addr_len)
{
	struct conn *conn = allocate(side, fd, addr, addr_len);

	if (conn == NULL) {
		refuse_for_memory(side, fd);
		return NULL;
	}
	conn->side = side;
	conn->state = state;
	side->in_state[state]++;
	conn->id = ++side->loop->next_id;
	conn->fd = fd;
	conn->opened = conn->last_in = loop_now(side->loop);
	conn->connect_due = conn->send_due = conn->linger_due = conn->host_due = CLOCK_NEVER;
	conn->part_since = conn->first_ping = CLOCK_NEVER;
	conn->handshake_due = conn->opened + side->opts->handshake_timeout;
	timer_init(&conn->timer, side->loop, on_timer_cb);
	task_init(&conn->task, flush_task_cb);
	session_init(&conn->session, &side->session);
	outq_init(&conn->part);
	outq_init(&conn->out);
	poison_init(&conn->guard);
	conn->window = side->loop->limits.window;
	list_push(&side->conns, &conn->node);
	slots_take(side);
	loop_spend(side->loop, BUDGET_BORN);
	return conn;
}

struct conn *
conn_accept(struct side *side, int fd, const struct sockaddr *addr, socklen_t addr_len)
{
	struct conn *conn = conn_new(side, CONN_HANDSHAKE, fd, addr, addr_len);

	side->counters->accepted++;
	if (conn == NULL)
		return NULL;
	slots_enter(conn, addr);
	sys_tune(fd, addr->sa_family, side->opts);
	conn_pump(conn);
	if (conn->state == CONN_CLOSED)
		return conn;
	conn_arm_timer(conn);
	conn_update_interest(conn);
	return conn;
}

struct conn *
conn_dial(struct side *side, struct connector *connector, const struct sockaddr *addr,
	socklen_t addr_len)
{
	int fd = sys_socket(addr->sa_family, side->opts);
	struct conn *conn = conn_new(side, CONN_CONNECTING, fd, addr, addr_len);
	int error;

	side->counters->connect_attempts++;
	if (conn == NULL)
		return NULL;
	conn->connector = connector;
	conn->connect_due = conn->opened + side->opts->connect_timeout;
	if (fd >= 0)
		sys_tune(fd, addr->sa_family, side->opts);
	error = fd < 0 ? fd : sys_connect(fd, addr, addr_len);
	if (error == 0) {
		conn->connect_due = CLOCK_NEVER;
		conn_enter(conn, CONN_HANDSHAKE);
		conn_pump(conn);
	} else if (error != -EINPROGRESS) {
		conn_close(conn, CLOSE_CONNECT_FAILED, strerror(-error));
	}
	if (conn->state == CONN_CLOSED)
		return conn;
	conn_arm_timer(conn);
	conn_update_interest(conn);
	return conn;
}

static void
log_ready(const struct conn *conn)
{
	const struct session *s = &conn->session;
	char id[IDTEXT_MAX], quoted[2 * IDTEXT_MAX];

	_Static_assert((int)WIRE_ROUTING_ID_MAX <= (int)IDTEXT_BYTES, "an id would be cut");
	idtext(id, s->peer_identity, s->peer_identity_len);
	log_event(LOG_LEVEL_INFO, "peer_ready",
		"proxy=%s side=%s peer=%" PRIu64
		" address=%s direction=%s zmtp=3.%u type=%s routing_id=%s",
		conn->side->proxy_name, conn->side->name, conn->id, conn->address,
		conn->connector != NULL ? "dialled" : "accepted", session_peer_minor(s),
		socktype_name(s->peer_type), log_quote(quoted, sizeof(quoted), id, strlen(id)));
}

void
conn_became_ready(struct conn *conn)
{
	conn_enter(conn, CONN_READY);
	conn->was_ready = true;
	conn->hello_end = conn->bytes_out + conn->out.unsent;
	conn->handshake_due = CLOCK_NEVER;
	log_ready(conn);
	heartbeat_start(conn);
	if (conn->connector != NULL)
		conn->connector->ops->on_ready(conn->connector);
	conn->side->counters->peers++;
	loop_spend(conn->side->loop, BUDGET_READY);
	conn->side->ops->on_ready(conn);
	session_drop_identity(&conn->session);
	if (conn->state != CONN_CLOSED)
		conn_arm_timer(conn);
}

size_t
conn_pending(const struct conn *conn)
{
	return sys_pending(conn->fd);
}

/* --- end ------------------------------------------------------------------ */

void
conn_close(struct conn *conn, enum close_reason reason, const char *detail)
{
	if (conn->state == CONN_CLOSED)
		return;
	if (conn->state != CONN_LINGER) {
		conn->reason = reason;
		conn->detail = detail;
	}
	conn_enter(conn, CONN_CLOSED);
	conn_cancel_guard(conn);
	watch_set(conn->watch, 0);
	timer_stop(&conn->timer);
	task_cancel(&conn->task);
	conn->task.run = reap_task_cb;
	loop_defer(conn->side->loop, LOOP_REAP, &conn->task);
	loop_spend(conn->side->loop, BUDGET_DEAD);
}

/* Load balancers and monitors check all day whether the port is open: nothing has failed. */
static bool
came_and_went(const struct conn *conn)
{
	return conn->connector == NULL && conn->bytes_in == 0 &&
		(conn->reason == CLOSE_PEER_CLOSED || conn->reason == CLOSE_IO_ERROR);
}

static void
log_failed_handshake(struct conn *conn)
{
	struct side *side = conn->side;
	int64_t now = loop_now(side->loop);
	char detail[160];

	side_log_suppressed(side);
	if (!ratelimit_pass(&side->failures, now))
		return;
	log_event(LOG_LEVEL_INFO, "handshake_failed", "proxy=%s side=%s address=%s reason=%s%s%s",
		side->proxy_name, side->name, conn->address, close_reason_name(conn->reason),
		conn->detail != NULL ? " detail=" : "",
		conn->detail != NULL
			? log_quote(detail, sizeof(detail), conn->detail, strlen(conn->detail))
			: "");
}

/*
 * A warning if a limit of ours closed the connection, since the peer or an option must change, or
 * if a message was cut.
 */
static void
log_closed(const struct conn *conn)
{
	const char *option;
	bool limit = close_reason_is_limit(conn->reason, &option);
	bool poisoned = poison_is_poisoned(&conn->guard);
	char detail[160];

	log_event(limit || poisoned ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "peer_closed",
		"proxy=%s side=%s peer=%" PRIu64 " address=%s reason=%s age_ms=%" PRId64
		" messages_in=%" PRIu64 " messages_out=%" PRIu64 " bytes_in=%" PRIu64
		" bytes_out=%" PRIu64 " poisoned=%s rerouted=%" PRIu64 " dropped=%" PRIu64
		"%s%s%s%s",
		conn->side->proxy_name, conn->side->name, conn->id, conn->address,
		close_reason_name(conn->reason), loop_now(conn->side->loop) - conn->opened,
		conn->messages_in, conn->messages_out, conn->bytes_in, conn->bytes_out,
		poisoned ? "yes" : "no", conn->rerouted, conn->dropped,
		option != NULL ? " option=" : "", option != NULL ? option : "",
		conn->detail != NULL ? " detail=" : "",
		conn->detail != NULL
			? log_quote(detail, sizeof(detail), conn->detail, strlen(conn->detail))
			: "");
}

/* The last step: tells the broker, logs, frees. */
static void
reap_task_cb(struct task *task)
{
	struct conn *conn = list_entry(&task->node, struct conn, task.node);
	struct side *side = conn->side;
	struct loop *loop = side->loop;

	if (conn->peer != NULL && !side->ops->on_closed(conn)) {
		loop_defer(loop, LOOP_RESUME, task);
		return;
	}
	side->counters->closed++;
	side->counters->closed_by[conn->reason]++;
	if (conn->was_ready) {
		heartbeat_on_end(conn);
		side->counters->peers--;
		log_closed(conn);
	} else if (came_and_went(conn)) {
		side->counters->unused++;
		log_event(LOG_LEVEL_DEBUG, "connection_unused", "proxy=%s side=%s address=%s",
			side->proxy_name, side->name, conn->address);
	} else {
		side->counters->handshakes_failed++;
		log_failed_handshake(conn);
	}
	if (conn->connector != NULL)
		conn->connector->ops->on_closed(conn->connector, conn->was_ready, conn->reason);
	task_cancel(&conn->task);
	assert(!list_linked(&conn->timer.node));
	outq_fini(&conn->part, &loop->env);
	outq_fini(&conn->out, &loop->env);
	session_fini(&conn->session);
	watch_free(conn->watch);
	conn->watch = NULL;
	if (conn->fd >= 0)
		sys_close(conn->fd);
	side_forget(side, conn);
	slots_release(side);
	side->in_state[conn->state]--;
	free(conn);
	loop_retry_waiting(loop);
}
