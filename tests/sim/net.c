/* SPDX-License-Identifier: MIT */
/*
 * The simulated network: sockets with two kernels between the programs. Replaces net/sys.c at link
 * time; poller.c has the rest of the machine.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/mem.h"
#include "check.h"
#include "net/poll.h"
#include "net/sys.h"
#include "peers.h"
#include "queue_mode.h"
#include "sim.h"

enum { FIRST_FD = 100 };

struct sock *socks;
uint64_t net_progress;
static int64_t forbidden_at = INT64_MIN / 2;
static int next_fd = FIRST_FD;

/* --- pipes ---------------------------------------------------------------- */

static void
pipe_init(struct pipe *p)
{
	static const size_t rooms[] = {64, 300, 1500, 4096, 16384, 65536, 262144};

	*p = (struct pipe){.send_room = rooms[rnd(7)], .receive_room = rooms[rnd(7)]};
	/* the progress of a message is judged by at least that much room of a kernel */
	if (hogs_are_there() && p->receive_room < 4096)
		p->receive_room = 4096;
}

static void
pipe_write(struct pipe *p, const void *data, size_t n)
{
	if (p->written + n > p->cap) {
		p->cap = (p->written + n) * 2 + 256;
		p->bytes = mem_resize(p->bytes, p->cap);
	}
	if (n > 0)
		memcpy(p->bytes + p->written, data, n);
	p->written += n;
	net_progress++;
}

static size_t
send_space(const struct pipe *p)
{
	size_t held = p->written - p->arrived;

	if (world.now < p->full_until && !world.healing)
		return 0;
	return held < p->send_room ? p->send_room - held : 0;
}

static size_t
deliverable(const struct pipe *p)
{
	size_t room = p->receive_room - (p->arrived - p->read);
	size_t end = world.now < p->halt_until && p->halt_at < p->written ? p->halt_at : p->written;
	size_t n = end - p->arrived;

	return n < room ? n : room;
}

static bool
fin_is_due(const struct pipe *p)
{
	return p->fin && !p->fin_arrived && p->arrived == p->written;
}

/* One piece, or the FIN. True when something moved. */
static bool
pipe_deliver(struct pipe *p)
{
	size_t n = deliverable(p);

	if (world.now < p->next)
		return false;
	if (n == 0) {
		if (!fin_is_due(p))
			return false;
		p->fin_arrived = true;
		net_progress++;
		return true;
	}
	switch (world.healing ? 3 : rnd(4)) {
	case 0:
		if (world.tiny_pieces && n < 400)
			n = 1;
		break;
	case 1:
		n = n > 1460 ? 1460 : n;
		break;
	case 2:
		n = (size_t)between(1, (int64_t)n);
		break;
	default:
		break;
	}
	p->arrived += n;
	p->fin_arrived = p->fin && p->fin_follows && p->arrived == p->written;
	p->next = world.now + (!world.healing && chance(300) ? between(1, 20) : 0);
	if (!world.healing && chance(world.net_faults / 8)) {
		count_fault(FAULT_LINK_STALL);
		p->next = world.now + between(20, 30000);
	}
	net_progress++;
	return true;
}

static int64_t
pipe_next(const struct pipe *p)
{
	if (deliverable(p) == 0 && !fin_is_due(p))
		return world.now < p->halt_until ? p->halt_until : CLOCK_NEVER;
	return p->next;
}

/* --- sockets -------------------------------------------------------------- */

struct sock *
net_find(int fd)
{
	for (struct sock *s = socks; s != NULL; s = s->next)
		if (s->fd == fd && !s->daemon_closed)
			return s;
	violation("the daemon uses descriptor %d, which is not open", fd);
}

static struct sock *
sock_new(int side)
{
	struct sock *s = mem_new(sizeof(*s));

	s->fd = next_fd++;
	s->side = side;
	pipe_init(&s->in);
	pipe_init(&s->out);
	s->decoder = decoder_new();
	s->owed_since = CLOCK_NEVER;
	s->host = (unsigned)(s->fd * 2654435761u >> 20) % 16;
	s->next = socks;
	socks = s;
	return s;
}

static void
sock_free(struct sock *s)
{
	for (struct sock **p = &socks; *p != NULL; p = &(*p)->next) {
		if (*p == s) {
			*p = s->next;
			break;
		}
	}
	if (s->peer != NULL)
		s->peer->sock = NULL;
	free(s->in.bytes);
	free(s->out.bytes);
	free(s->sent.at);
	free(s->received.at);
	decoder_free(s->decoder);
	free(s);
}

/* Free the sockets that both ends have closed. */
void
net_sweep(void)
{
	for (struct sock *s = socks, *next; s != NULL; s = next) {
		next = s->next;
		if (s->daemon_closed && s->peer_closed)
			sock_free(s);
	}
}

struct sock *
net_connect(int side)
{
	for (struct sock *l = socks; l != NULL; l = l->next) {
		if (!l->listener || l->daemon_closed || l->side != side || l->pending_count >= 64)
			continue;
		struct sock *s = sock_new(side);
		l->pending[l->pending_count++] = s;
		net_progress++;
		return s;
	}
	return NULL;
}

void
net_peer_write(struct sock *s, const void *data, size_t n)
{
	if (!s->peer_closed && !s->in.fin)
		pipe_write(&s->in, data, n);
}

void
net_peer_halt(struct sock *s, size_t n, int64_t when)
{
	s->in.halt_at = s->in.written + n;
	s->in.halt_until = when;
}

size_t
net_peer_read(struct sock *s, size_t n)
{
	size_t there = s->out.arrived - s->out.read;

	if (n > there)
		n = there;
	if (n > 0 && net_window_closed(s) && s->out.next <= world.now)
		s->acked_at = world.now; /* its kernel announces room again */
	s->out.read += n;
	if (n > 0)
		net_progress++;
	return n;
}

void
net_peer_shutdown(struct sock *s)
{
	s->in.fin = true;
	net_progress++;
}

void
net_peer_reset(struct sock *s)
{
	s->peer_closed = s->reset = true;
	s->in.written = s->in.arrived; /* bytes under way are lost */
	net_progress++;
}

void
net_peer_close(struct sock *s)
{
	if (s->out.arrived > s->out.read) { /* unread input: the kernel resets */
		net_peer_reset(s);
		return;
	}
	s->in.fin = true;
	s->peer_closed = true;
	net_progress++;
}

void
net_peer_vanish(struct sock *s)
{
	s->vanished = s->peer_closed = true;
	s->vanished_at = world.now;
	s->found_at = world.now + between(60000, 120000);
	s->in.written = s->in.arrived;
	net_progress++;
}

int64_t
net_forbidden_at(void)
{
	return forbidden_at;
}

/* --- what the daemon calls: net/sys.h ------------------------------------- */

/* The daemon has read these messages to their last byte. */
static void
note_accepted(struct sock *s)
{
	struct proxy *proxy = world_proxy();

	for (; s->accepted < s->received.count && s->received.at[s->accepted].end <= s->in.read;
		s->accepted++) {
		struct sim_message *m = &messages[s->received.at[s->accepted].message];
		m->accepted = true;
		detail("%s %d of peer %d, number %u, %zu bytes, is read",
			m->kind == REQUEST ? "request" : "reply",
			s->received.at[s->accepted].message, m->from->number, m->number, m->len);
		m->moved_before = proxy->counters[PROXY_BACKEND].rerouted +
			proxy->counters[PROXY_BACKEND].redelivered;
		m->from->asked += m->kind == REQUEST;
		world.too_big += m->too_big;
		if (m->answers < 0)
			continue;
		messages[m->answers].replied = true;
		messages[m->answers].answered |= !m->from->muddled;
	}
}

static bool
net_fails(unsigned divisor)
{
	return !world.healing && !world.stopping && chance(world.net_faults) && rnd(divisor) == 0;
}

size_t
sys_pending(int fd)
{
	const struct sock *s = net_find(fd);

	return s->in.arrived - s->in.read;
}

bool
sys_has_ended(int fd)
{
	const struct sock *s = net_find(fd);

	return s->in.fin_arrived || s->reset;
}

ssize_t
sys_readv(int fd, const struct iovec *iov, int count)
{
	struct sock *s = net_find(fd);
	size_t there = s->in.arrived - s->in.read, total = 0, accepted;

	if (s->timed_out && !s->reset_told) {
		s->reset_told = true;
		return -ETIMEDOUT;
	}
	if (s->listener || s->connecting)
		violation("a read from descriptor %d, which is not connected", fd);
	if (there == 0) {
		if (s->reset && !s->reset_told) {
			s->reset_told = true;
			return -ECONNRESET;
		}
		if (s->reset || s->in.fin_arrived)
			return 0;
		return -EAGAIN;
	}
	if (net_fails(50)) {
		static const int errors[] = {ENOMEM, ENOBUFS, ETIMEDOUT, EHOSTUNREACH, EIO};
		count_fault(FAULT_READ_ERROR);
		return -errors[rnd(5)];
	}
	if (there > 1 && !world.farewell && chance(world.net_faults)) {
		count_fault(FAULT_SHORT_READ);
		there = (size_t)between(1, (int64_t)there);
	}
	for (int i = 0; i < count && there > 0; i++) {
		size_t n = iov[i].iov_len < there ? iov[i].iov_len : there;
		memcpy(iov[i].iov_base, s->in.bytes + s->in.read, n);
		s->in.read += n;
		total += n;
		there -= n;
	}
	net_progress++;
	accepted = s->accepted;
	note_accepted(s);
	turns_on_read(s, total, s->accepted - accepted);
	return (ssize_t)total;
}

ssize_t
sys_writev(int fd, const struct iovec *iov, int count)
{
	struct sock *s = net_find(fd);
	struct conn *conn = world_conn(fd);
	size_t room = send_space(&s->out), total = 0, wanted = 0;

	if (s->listener || s->connecting)
		violation("a write to descriptor %d, which is not connected", fd);
	if (s->out.fin)
		violation("a write to descriptor %d after its shutdown", fd);
	if (conn != NULL && poison_is_poisoned(&conn->guard))
		violation("a write to a poisoned stream, peer %llu", (unsigned long long)conn->id);
	if (s->reset || s->peer_closed) {
		if (!s->vanished)
			s->reset = true;
		if (s->reset) {
			int error = s->reset_told ? EPIPE : ECONNRESET;
			s->reset_told = true;
			return -error;
		}
	}
	for (int i = 0; i < count; i++)
		wanted += iov[i].iov_len;
	if (net_fails(100)) {
		static const int errors[] = {ENOBUFS, ETIMEDOUT, EHOSTUNREACH, EPIPE};
		count_fault(FAULT_WRITE_ERROR);
		return -errors[rnd(4)];
	}
	if (room == 0) {
		count_fault(FAULT_NO_ROOM);
		return -EAGAIN;
	}
	if (room < wanted || (wanted > 1 && chance(world.net_faults))) {
		if (room > 1 && chance(200))
			room = (size_t)between(1, (int64_t)room);
		if (room >= wanted)
			room = (size_t)between(1, (int64_t)wanted);
		count_fault(FAULT_SHORT_WRITE);
	}
	for (int i = 0; i < count && room > 0; i++) {
		size_t n = iov[i].iov_len < room ? iov[i].iov_len : room;
		pipe_write(&s->out, iov[i].iov_base, n);
		total += n;
		room -= n;
	}
	if (net_fails(4)) {
		count_fault(FAULT_KERNEL_FULL);
		s->out.full_until = world.now + between(1, chance(300) ? 30000 : 300);
	}
	if (total > 0 && s->owed_since == CLOCK_NEVER)
		s->owed_since = world.now;
	s->out.fin_follows = false;
	s->out.written_in = world.loop->turns + 1;
	decoder_run(s);
	return (ssize_t)total;
}

ssize_t
sys_writev_last(int fd, const struct iovec *iov, int count)
{
	ssize_t n = sys_writev(fd, iov, count);

	net_find(fd)->out.fin_follows = n > 0;
	return n;
}

int
sys_shutdown_write(int fd)
{
	struct sock *s = net_find(fd);

	if (s->reset)
		return -ENOTCONN;
	/*
	 * a client with unanswered requests at drain_timeout may be closed in the turn of an
	 * earlier reply
	 */
	if (s->side == PROXY_FRONTEND && (s->peer == NULL || !s->peer->broker) &&
		s->out.written_in == world.loop->turns + 1 && !s->out.fin_follows &&
		!proxy_is_stopping(world_proxy()) &&
		world.proxy_config.side[PROXY_BACKEND]
			.opts.queue.replies) /* without it, no reply is the last one */
		violation(
			"descriptor %d: our end is not sent in one piece with the last bytes", fd);
	if (s->side == PROXY_FRONTEND && s->peer != NULL)
		queue_check_farewell(s);
	s->out.fin = true;
	net_progress++;
	return 0;
}

void
sys_close(int fd)
{
	struct sock *s = net_find(fd);

	if (s->watch != NULL)
		violation("descriptor %d is closed while it is watched", fd);
	if (!s->listener)
		check_closing(s);
	s->daemon_closed = true;
	net_progress++;
	if (s->listener) {
		for (unsigned i = 0; i < s->pending_count; i++) {
			struct sock *c = s->pending[i];
			c->daemon_closed = true;
			if (c->peer != NULL)
				peer_wake(c->peer);
		}
		s->peer_closed = true;
		return;
	}
	if (s->in.arrived > s->in.read) {
		/* unread input: a reset, which discards what the peer has not received yet */
		s->out.written = s->out.arrived;
		s->reset = true;
	}
	s->out.fin = true;
	if (s->peer != NULL)
		peer_wake(s->peer);
	else
		s->peer_closed = true;
}

int
sys_accept(int fd, struct sockaddr_storage *addr, socklen_t *len)
{
	struct sock *l = net_find(fd), *s;

	if (l->pending_count == 0)
		return -EAGAIN;
	if (world.now < l->forbidden_until)
		violation("accept was forbidden, and is tried again at once");
	if (net_fails(10)) {
		static const int errors[] = {EMFILE, ENFILE, ECONNABORTED, ENOBUFS, EPERM};
		int error = errors[rnd(5)];

		count_fault(FAULT_NO_DESCRIPTOR);
		if (error == EPERM) {
			forbidden_at = world.now;
			l->forbidden_until = world.now + 50;
		}
		return -error;
	}
	s = l->pending[0];
	memmove(l->pending, l->pending + 1, --l->pending_count * sizeof(l->pending[0]));
	*addr = (struct sockaddr_storage){.ss_family = AF_UNIX};
	*len = sizeof(sa_family_t);
	net_progress++;
	return s->fd;
}

/*
 * The side of a new listener. The broker gets its proxy after its endpoints are bound, the
 * frontend's first.
 */
static int
side_of(const struct side_opts *opts)
{
	const struct proxy *proxy = world_proxy();

	if (proxy == NULL)
		return socks == NULL ? PROXY_FRONTEND : PROXY_BACKEND;
	return opts == &proxy->opts[PROXY_FRONTEND].side ? PROXY_FRONTEND : PROXY_BACKEND;
}

int
sys_socket(int family, const struct side_opts *opts)
{
	struct sock *s;

	(void)family, (void)opts;
	if (world.loop != NULL && world.steps > 3 && net_fails(5)) {
		count_fault(FAULT_NO_DESCRIPTOR);
		return -EMFILE;
	}
	s = sock_new(side_of(opts));
	return s->fd;
}

int
sys_listen(int fd, const struct sockaddr *addr, socklen_t len, int backlog)
{
	struct sock *s = net_find(fd);

	(void)addr, (void)len, (void)backlog;
	s->listener = true;
	return 0;
}

int
sys_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct sock *s = net_find(fd);

	(void)addr, (void)len;
	s->connecting = true;
	s->connect_at = world.now + between(0, 50);
	if (!world.healing && chance(250)) {
		s->connect_result = -ECONNREFUSED;
		count_fault(FAULT_REFUSED);
		if (chance(300))
			return -ECONNREFUSED;
	} else if (!world.healing && chance(150)) {
		s->connect_at = CLOCK_NEVER;
		count_fault(FAULT_BLACKHOLE);
	} else if (chance(200)) {
		s->connecting = false;
		peer_accept(s);
		return 0;
	}
	return -EINPROGRESS;
}

int
sys_connect_result(int fd)
{
	struct sock *s = net_find(fd);

	if (!s->connect_known)
		violation("the result of a connect is asked for before it is known");
	s->connecting = s->connect_result != 0;
	return s->connect_result;
}

void
sys_tune(int fd, int family, const struct side_opts *opts)
{
	(void)net_find(fd), (void)family, (void)opts;
}

/* --- what the daemon's kernel knows of the peer's ------------------------- */

bool
net_window_closed(const struct sock *s)
{
	return s->out.written > s->out.arrived &&
		s->out.arrived - s->out.read >= s->out.receive_room;
}

/*
 * A probe of a closed window is answered: only the peer's program does not read.
 */
static void
probe_window(struct sock *s)
{
	if (net_window_closed(s) && !s->vanished && s->out.next <= world.now)
		s->acked_at = world.now;
}

static int64_t
gives_up_at(const struct sock *s)
{
	if (s->patience == 0 || s->owed_since == CLOCK_NEVER || s->reset || s->daemon_closed)
		return CLOCK_NEVER;
	return s->owed_since + s->patience;
}

/* Its end is sent, and within a second it is closed: it is not watched any more. */
static bool
lingers(const struct sock *s)
{
	const struct conn *conn = world_conn(s->fd);

	return conn != NULL && conn->state == CONN_LINGER;
}

/* As Linux: also when the window is closed and every probe is answered. */
static bool
give_up(struct sock *s)
{
	if (gives_up_at(s) > world.now)
		return false;
	if (net_window_closed(s) && !s->vanished && s->out.next <= world.now && !world.freezes &&
		!lingers(s))
		violation("the kernel gives up the connection at descriptor %d, whose peer is only "
			  "busy",
			s->fd);
	count_fault(FAULT_GIVEN_UP);
	s->reset = s->timed_out = true;
	s->in.written = s->in.arrived;
	net_progress++;
	return true;
}

bool
sys_set_patience(int fd, int64_t ms)
{
	struct sock *s = net_find(fd);

	s->patience = ms;
	return true;
}

bool
sys_ask_about_peer(int fd, struct sys_peer *out)
{
	struct sock *s = net_find(fd);

	probe_window(s);
	*out = (struct sys_peer){
		.window_closed = net_window_closed(s),
		.sends_again = s->owed_since != CLOCK_NEVER && world.now - s->owed_since > 600,
		.silent_ms = world.now - s->acked_at,
	};
	return true;
}

const char *
sys_address_text(const struct sockaddr *addr, socklen_t len, char *out, size_t size)
{
	(void)len;
	snprintf(out, size, "%s", addr->sa_family == AF_UNIX ? "ipc://" : "tcp://192.0.2.1:1");
	return out;
}

const char *
sys_peer_text(int fd, const struct sockaddr *addr, socklen_t len, char *out, size_t size)
{
	(void)addr, (void)len;
	snprintf(out, size, "tcp://192.0.2.%u:%d", fd >= 0 ? net_find(fd)->host : 0, fd);
	return out;
}

/* --- the network moves on ------------------------------------------------- */

/* The watched events that the kernel would report now. */
unsigned
net_readiness(const struct sock *s, unsigned wanted)
{
	unsigned events = 0;
	bool ended = s->in.fin_arrived || s->reset;

	if (s->listener)
		return s->pending_count > 0 ? wanted & WATCH_IN : 0;
	if (s->connecting)
		return s->connect_known ? wanted & WATCH_OUT : 0;
	if (s->in.arrived > s->in.read || ended)
		events |= WATCH_IN;
	if (s->reset || send_space(&s->out) * 3 >= s->out.send_room)
		events |= WATCH_OUT;
	/* a reset alone shows as readable, not as a hang-up, to one that reads */
	if (s->in.fin_arrived || (s->reset && !(wanted & WATCH_IN)))
		events |= WATCH_HUP;
	return events & wanted;
}

/* When bytes reach a socket that its peer has closed: that kernel answers with a reset. */
static int64_t
refused_at(const struct sock *s)
{
	bool refused =
		s->peer_closed && !s->daemon_closed && !s->reset && s->out.written > s->out.arrived;

	return refused ? s->out.next : CLOCK_NEVER;
}

/* The network moves on: one piece for each pipe, connects, what peers do. */
bool
net_run(void)
{
	bool moved = false;

	for (struct sock *s = socks; s != NULL; s = s->next) {
		if (s->listener)
			continue;
		if (s->connecting && !s->connect_known && s->connect_at <= world.now) {
			s->connect_known = moved = true;
			if (s->connect_result == 0)
				peer_accept(s);
			net_progress++;
		}
		if (s->vanished && !s->reset && s->found_at <= world.now) {
			s->reset = moved = true;
			net_progress++;
		}
		if (s->connecting)
			continue;
		if (give_up(s))
			moved = true;
		if (s->vanished)
			continue;
		if (!s->daemon_closed && !s->reset && pipe_deliver(&s->in))
			moved = true;
		if (refused_at(s) <= world.now) {
			net_peer_reset(s);
			moved = true;
		}
		if (!s->peer_closed && pipe_deliver(&s->out)) {
			moved = true;
			s->acked_at = world.now;
			s->owed_since = s->out.written > s->out.arrived ? world.now : CLOCK_NEVER;
			peer_wake(s->peer);
		}
	}
	return moved;
}

int64_t
net_next(void)
{
	int64_t next = world_next(), t;

	for (struct sock *s = socks; s != NULL; s = s->next) {
		if (s->listener)
			continue;
		if (s->connecting && !s->connect_known && s->connect_at < next)
			next = s->connect_at;
		if (s->vanished && !s->reset && s->found_at < next)
			next = s->found_at;
		if (s->connecting)
			continue;
		t = gives_up_at(s);
		next = t < next ? t : next;
		if (s->vanished)
			continue;
		t = s->daemon_closed || s->reset ? CLOCK_NEVER : pipe_next(&s->in);
		next = t < next ? t : next;
		t = s->peer_closed ? refused_at(s) : pipe_next(&s->out);
		next = t < next ? t : next;
		if (s->out.full_until > world.now && s->out.full_until < next)
			next = s->out.full_until;
	}
	for (struct peer_sim *p = peers; p != NULL; p = p->next)
		if (p->sock != NULL && p->wake < next)
			next = p->wake;
	return next;
}

void
net_check_empty(void)
{
	for (struct sock *s = socks, *next; s != NULL; s = next) {
		next = s->next;
		if (!s->daemon_closed)
			violation("descriptor %d was never closed", s->fd);
		sock_free(s);
	}
	poll_check_empty();
	next_fd = FIRST_FD;
	net_progress = 0;
	turns_forget();
	forbidden_at = INT64_MIN / 2;
}
