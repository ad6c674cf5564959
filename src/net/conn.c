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
#include "net/connector.h"
#include "net/listener.h"
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

_Static_assert((int)SIDE_STATES == (int)CONN_STATES, "side.h counts every state");

static const char *const state_names[] = {
	"connecting", "handshake", "ready", "stalled", "closing", "closed"};

const char *
conn_state_name(enum conn_state state)
{
	assert(state < CONN_STATES);
	return state_names[state];
}

/* --- interest and timer --------------------------------------------------- */

void
conn_update_interest(struct conn *conn)
{
	unsigned want = 0;

	switch (conn->state) {
	case CONN_CONNECTING:
		want = WATCH_OUT;
		break;
	case CONN_HANDSHAKE:
	case CONN_READY:
	case CONN_STALLED:
	case CONN_LINGER:
		if (conn_wants_input(conn))
			want |= WATCH_IN;
		if (!conn->hung_up)
			want |= WATCH_HUP;
		if (conn->blocked && !conn->write_broken)
			want |= WATCH_OUT;
		break;
	case CONN_CLOSED:
	case CONN_STATES:
		break;
	}
	if (!watch_set(conn->watch, want))
		conn_close(conn, CLOSE_NO_MEMORY, "cannot watch the descriptor");
}

void
conn_due(struct conn *conn, int64_t due)
{
	/* a closed one is freed at the end of the turn: the callers need not know that it is */
	if (due >= conn->timer.due || conn->state == CONN_CLOSED)
		return;
	timer_set(&conn->timer, due - loop_now(conn->side->loop));
}

static void
at_most(int64_t *due, int64_t candidate)
{
	if (candidate < *due)
		*due = candidate;
}

static int64_t
receive_due(const struct conn *conn)
{
	const struct side_opts *o = conn->side->opts;
	int64_t due = CLOCK_NEVER;

	if (!conn_is_open(conn) || conn->part_since == CLOCK_NEVER || !conn_wants_input(conn))
		return CLOCK_NEVER;
	if (o->receive_timeout > 0)
		due = conn->last_in + o->receive_timeout;
	if (o->receive_deadline > 0)
		at_most(&due, conn->part_since + o->receive_deadline);
	return due;
}

/* The next moment at which something may have to be done; the timer is set to no later. */
static void
arm_timer(struct conn *conn)
{
	int64_t due = CLOCK_NEVER;

	at_most(&due, conn->connect_due);
	at_most(&due, conn->handshake_due);
	at_most(&due, conn->send_due);
	at_most(&due, conn->linger_due);
	at_most(&due, receive_due(conn));
	at_most(&due, heartbeat_due(conn));
	conn_due(conn, due);
}

/*
 * A timer may run before the events of its turn, and a whole process may have
 * stood still: nobody is given up before one more attempt to write to it ...
 */
static void
check_send(struct conn *conn, int64_t now)
{
	if (conn->out.unsent > 0) {
		conn->blocked = false;
		conn_write(conn);
		if (!conn->blocked && !conn->write_broken) {
			conn_writable(conn);
			return;
		}
	}
	if (now >= conn->send_due)
		conn_send_timed_out(conn);
}

/* ... or to read from it. */
static void
look_before_giving_up(struct conn *conn, int64_t now)
{
	if (conn->yields && !conn->hung_up && now >= conn->linger_due && sys_has_ended(conn->fd))
		conn_set_hung_up(conn);
	if (now >= receive_due(conn) || now >= heartbeat_due(conn) ||
		(conn->state == CONN_HANDSHAKE && now >= conn->handshake_due))
		conn_read(conn);
}

static void
on_timer_cb(struct timer *timer)
{
	struct conn *conn = list_entry(timer, struct conn, timer);
	int64_t now = loop_now(conn->side->loop);

	if (conn->state != CONN_CLOSED)
		look_before_giving_up(conn, now);
	if (conn->state == CONN_CLOSED)
		return;
	if (now >= conn->connect_due)
		conn_close(conn, CLOSE_CONNECT_TIMEOUT, NULL);
	else if (now >= conn->handshake_due)
		conn_close(conn, CLOSE_HANDSHAKE_TIMEOUT, NULL);
	else if (now >= conn->linger_due)
		conn_close(conn, conn->state == CONN_LINGER ? conn->reason : CLOSE_IO_ERROR,
			conn->detail);
	else if (now >= receive_due(conn))
		conn_close(conn, CLOSE_RECEIVE_TIMEOUT,
			now >= conn->part_since + conn->side->opts->receive_deadline &&
					conn->side->opts->receive_deadline > 0
				? "message took longer than receive_deadline"
				: "silent inside a message");
	else if (now >= conn->send_due)
		check_send(conn, now);
	if (conn->state != CONN_CLOSED)
		heartbeat_check(conn, now);
	if (conn->state != CONN_CLOSED)
		arm_timer(conn);
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
			(!conn->side->loop->crowded || budget_allows(conn)))
			conn_read(conn);
	}
	if (conn->state != CONN_CLOSED)
		conn_update_interest(conn);
}

/*
 * What had come when it was about to leave is served, and may be more than a read takes. A flood is
 * not read to its end.
 */
static void
read_before_leaving(struct conn *conn)
{
	const struct loop *loop = conn->side->loop;
	uint32_t end = loop->spent + CONN_LEAVE_UNITS;
	uint64_t before;

	do {
		before = conn->bytes_in;
		conn_read(conn);
	} while (conn->leaving && conn_is_open(conn) && conn->bytes_in > before &&
		loop->spent < end && conn_pending(conn) > 0);
}

static void
flush_task_cb(struct task *task)
{
	struct conn *conn = list_entry(&task->node, struct conn, task.node);

	if (conn->state == CONN_CLOSED)
		return;
	if (conn->leaving && conn_is_open(conn)) {
		read_before_leaving(conn);
		if (conn->state == CONN_CLOSED)
			return;
	}
	conn_write(conn);
	conn_tell_broken(conn);
	if (conn->leaving && conn_is_open(conn) && outq_empty(&conn->out))
		conn_finish(conn, conn->reason, conn->detail);
	if (conn->state != CONN_CLOSED)
		conn_update_interest(conn);
	if (conn->was_full && conn->state == CONN_READY && !conn->write_broken &&
		conn_has_drained(conn)) {
		conn->was_full = false;
		conn->side->ops->on_drained(conn);
	}
}

static void reap_task_cb(struct task *task);

/* With what it needs memory for: its address and the watch. NULL: there is none. */
static struct conn *
allocate(struct side *side, int fd, const struct sockaddr *addr, socklen_t addr_len)
{
	char text[256], quoted[512];
	struct conn *conn;
	size_t size;

	/* a Unix socket's name is the peer's choice, and must not write our log */
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

/* It cannot even be made: the descriptor goes, and the books are kept. */
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
	conn->connect_due = conn->send_due = conn->linger_due = conn->look_due = CLOCK_NEVER;
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
	arm_timer(conn);
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
	arm_timer(conn);
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
		connector_on_ready(conn->connector);
	conn->side->counters->peers++;
	loop_spend(conn->side->loop, BUDGET_READY);
	conn->side->ops->on_ready(conn);
	session_drop_identity(&conn->session);
	if (conn->state != CONN_CLOSED)
		arm_timer(conn);
}

/* --- pausing -------------------------------------------------------------- */

/* Times that run against the peer must not run while it is us who does not read. */
static void
reading_changed(struct conn *conn, bool wanted)
{
	int64_t now = loop_now(conn->side->loop);
	bool wants = conn_wants_input(conn);

	if (wanted == wants || conn->state == CONN_CLOSED)
		return;
	if (!wants) {
		conn->paused_since = now;
	} else {
		conn->last_in = now;
		conn->first_ping = CLOCK_NEVER;
		if (conn->part_since != CLOCK_NEVER)
			conn->part_since += now - conn->paused_since;
		arm_timer(conn);
	}
	conn_update_interest(conn);
}

void
conn_pause(struct conn *conn, bool paused)
{
	bool wanted = conn_wants_input(conn);

	conn->paused = (uint8_t)((conn->paused & ~CONN_PAUSED) | (paused ? CONN_PAUSED : 0));
	reading_changed(conn, wanted);
}

void
conn_set_hung_up(struct conn *conn)
{
	bool wanted = conn_wants_input(conn);

	if (conn->yields && !conn->hung_up)
		conn->linger_due = loop_now(conn->side->loop) + CONN_LINGER_MS;
	conn->hung_up = true;
	reading_changed(conn, wanted);
}

void
conn_hold(struct conn *conn)
{
	bool wanted = conn_wants_input(conn);

	if (!conn->was_ready || (conn->paused & CONN_HELD))
		return;
	conn->paused |= CONN_HELD;
	reading_changed(conn, wanted);
	loop_spend(conn->side->loop, BUDGET_PAUSE);
}

static void
let_go(struct conn *conn)
{
	bool wanted = conn_wants_input(conn);

	if (!(conn->paused & CONN_HELD))
		return;
	conn->paused &= (uint8_t)~CONN_HELD;
	reading_changed(conn, wanted);
	loop_spend(conn->side->loop, BUDGET_PAUSE);
}

/* Each costs two calls of the kernel: thousands would be a long turn. */
static void
pausing_task_cb(struct task *task)
{
	struct side *side = list_entry(&task->node, struct side, pausing.node);
	struct loop *loop = side->loop;
	uint32_t end = loop->spent + loop->limits.side;

	while (side->next_pausing != &side->conns) {
		struct conn *conn = list_entry(side->next_pausing, struct conn, node);

		if (loop->spent > end) {
			loop_defer(loop, LOOP_RESUME, task);
			return;
		}
		side->next_pausing = conn->node.next;
		if (side->read_paused)
			conn_hold(conn);
		else
			let_go(conn);
		loop_spend(loop, 1); /* thousands that are only looked at cost something, too */
	}
}

/* Thousands do not wait for as long as their number would take one by one. */
static uint32_t
farewells_at_once(const struct side *side)
{
	return 1 + side->in_state[CONN_READY] / SIDE_FAREWELLS;
}

static void
farewell_timer_cb(struct timer *timer)
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

/* Mostly a system call. */
static void
take_options(struct conn *conn)
{
	if (!conn_is_open(conn))
		return;
	heartbeat_start(conn);
	arm_timer(conn);
	if (conn->was_full) /* flushing asks whether there is room */
		loop_defer(conn->side->loop, LOOP_FLUSH, &conn->task);
	loop_spend(conn->side->loop, BUDGET_CHANGE);
}

static void
changing_task_cb(struct task *task)
{
	struct side *side = list_entry(&task->node, struct side, changing.node);
	struct loop *loop = side->loop;
	uint32_t end = loop->spent + loop->limits.side;

	while (side->next_changing != &side->conns) {
		struct conn *conn = list_entry(side->next_changing, struct conn, node);

		if (loop->spent > end) {
			loop_defer(loop, LOOP_RESUME, task);
			return;
		}
		side->next_changing = conn->node.next;
		take_options(conn);
		loop_spend(loop, 1);
	}
}

void
side_init(struct side *side)
{
	list_init(&side->conns);
	list_init(&side->leaving);
	timer_init(&side->farewell, side->loop, farewell_timer_cb);
	side->next_pausing = side->next_changing = &side->conns;
	task_init(&side->pausing, pausing_task_cb);
	task_init(&side->changing, changing_task_cb);
	slots_add_side(side);
	ratelimit_init(&side->failures, 10);
}

void
side_fini(struct side *side)
{
	assert(list_empty(&side->conns));
	slots_remove_side(side);
	task_cancel(&side->pausing);
	task_cancel(&side->changing);
	timer_stop(&side->farewell);
}

void
side_pause(struct side *side, bool paused)
{
	if (side->read_paused == paused)
		return;
	side_let_read(side, NULL);
	side->read_paused = paused;
	side->next_pausing = side->conns.next;
	loop_defer(side->loop, LOOP_RESUME, &side->pausing);
}

void
conn_update_held(struct conn *conn)
{
	const struct side *side = conn->side;
	bool wanted = conn_wants_input(conn);

	if (side->holds && conn_is_open(conn) && outq_cost(&conn->part) > side->hold_above)
		conn->paused |= CONN_LARGE;
	else
		conn->paused &= (uint8_t)~CONN_LARGE;
	reading_changed(conn, wanted);
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
			reading_changed(both[i], wanted[i]);
}

size_t
conn_pending(const struct conn *conn)
{
	return sys_pending(conn->fd);
}

int64_t
conn_silent_for(const struct conn *conn)
{
	return (conn_wants_input(conn) ? loop_now(conn->side->loop) : conn->paused_since) -
		conn->last_in;
}

/* --- changed options ------------------------------------------------------ */

/* The wait that runs gets longer or shorter by as much as the option. */
static void
shift_send_due(struct conn *conn, int64_t before)
{
	int64_t timeout = conn->side->opts->send_timeout;

	if (timeout == 0)
		conn->send_due = CLOCK_NEVER;
	else if (conn->send_due != CLOCK_NEVER)
		conn->send_due += timeout - before;
	else if (conn->blocked && !conn->write_broken)
		conn->send_due = loop_now(conn->side->loop) + timeout;
}

/* At once, since it is a difference: there may be another change before the slices are done. */
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
	side->next_changing = side->conns.next;
	loop_defer(side->loop, LOOP_RESUME, &side->changing);
	listener_retry_waiting(side->loop);
}

/* --- end ------------------------------------------------------------------ */

void
conn_close(struct conn *conn, enum close_reason reason, const char *detail)
{
	struct counters *c = conn->side->counters;

	if (conn->state == CONN_CLOSED)
		return;
	if (conn->state != CONN_LINGER) {
		conn->reason = reason;
		conn->detail = detail;
	}
	conn_enter(conn, CONN_CLOSED);
	if (poison_cancel(&conn->guard) && !conn->poison_counted)
		c->poisoned++;
	watch_set(conn->watch, 0);
	timer_stop(&conn->timer);
	task_cancel(&conn->task);
	conn->task.run = reap_task_cb;
	loop_defer(conn->side->loop, LOOP_REAP, &conn->task);
	loop_spend(conn->side->loop, BUDGET_DEAD);
}

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
	conn->leaving = true;
	conn_write(conn);
	if (conn->state == CONN_CLOSED)
		return;
	if (!outq_empty(&conn->out) || conn->write_broken || sys_shutdown_write(conn->fd) < 0) {
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
	bool waits = conn->leaving && list_linked(&conn->task.node);

	if (!conn_is_open(conn) || conn->write_broken)
		return;
	conn->leaving = true;
	conn->reason = reason;
	conn->detail = detail;
	if (conn->blocked || waits)
		return;
	task_cancel(&conn->task);
	/* those that get nothing with it need not wait for their turn */
	list_push(more || !outq_empty(&conn->out) ? &side->leaving : side->leaving.next,
		&conn->task.node);
	if (side->farewell.due == CLOCK_NEVER)
		timer_set(&side->farewell, SIDE_FAREWELL_MS);
}

bool
conn_has_ended(const struct conn *conn)
{
	return conn->hung_up || conn->state == CONN_LINGER || conn->state == CONN_CLOSED ||
		sys_has_ended(conn->fd);
}

void
conn_yield(struct conn *conn, enum close_reason reason, const char *detail)
{
	int64_t due = loop_now(conn->side->loop) + CONN_YIELD_MS;

	if (!conn_is_open(conn)) /* it is about to end as it is */
		return;
	conn_cancel_writing(conn);
	conn->reason = reason;
	conn->detail = detail;
	conn->yields = true;
	conn_enter(conn, CONN_LINGER);
	at_most(&conn->linger_due, due);
	conn_due(conn, conn->linger_due);
	conn_update_interest(conn);
}

void
conn_stay(struct conn *conn)
{
	if (conn_is_open(conn))
		conn->leaving = false;
}

void
side_log_suppressed(struct side *side)
{
	uint64_t n = ratelimit_collect(&side->failures, loop_now(side->loop));

	if (n > 0)
		log_event(LOG_LEVEL_INFO, "handshake_failed_suppressed",
			"proxy=%s side=%s count=%" PRIu64, side->proxy_name, side->name, n);
}

/* Load balancers and monitors look whether the port is open, all day long: nothing has failed. */
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
 * A warning when a limit of ours did it: then its peer, or an option, has to change; and when a
 * message was cut.
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

/* Frees; the last that is heard of a connection. */
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
		connector_on_closed(conn->connector, conn->was_ready, conn->reason);
	task_cancel(&conn->task);
	assert(!list_linked(&conn->timer.node));
	outq_fini(&conn->part, &loop->env);
	outq_fini(&conn->out, &loop->env);
	session_fini(&conn->session);
	watch_free(conn->watch);
	conn->watch = NULL;
	if (conn->fd >= 0)
		sys_close(conn->fd);
	if (side->next_pausing == &conn->node)
		side->next_pausing = conn->node.next;
	if (side->next_changing == &conn->node)
		side->next_changing = conn->node.next;
	list_remove(&conn->node);
	if (side->reading == conn)
		side->reading = NULL;
	slots_give_back(side);
	side->in_state[conn->state]--;
	free(conn);
	listener_retry_waiting(loop);
}
