/* SPDX-License-Identifier: MIT */
/*
 * The simulated machine: sockets with two kernels between the programs, the
 * poller, name lookups and the clock. Replaces net/sys.c, net/poll.c,
 * net/resolver.c and base/clock.c at link time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/poll.h"
#include "net/resolver.h"
#include "net/sys.h"
#include "sim.h"

enum { FIRST_FD = 100, SPIN_LIMIT = 20000, CALLS_MAX = 256 };

struct watch {
	struct watch *next;
	int fd;
	void (*cb)(void *arg, unsigned events);
	void *arg;
	unsigned wanted;
	uint64_t changed; /* stamp of the last change: an event from before it is stale */
};

struct signal_watch {
	struct signal_watch *next;
	void (*cb)(void *arg, int number);
	void *arg;
	int number;
	bool raised;
};

struct resolver {
	struct resolver *next;
	void (*cb)(void *arg, const struct resolved *list, int count, const char *error);
	void *arg;
	int64_t due;
	uint16_t port;
};

struct sock *socks;
static struct watch *watches;
static struct list timers = {&timers, &timers}; /* those that run */
static struct signal_watch *signal_watches;
static struct resolver *resolvers;
static uint64_t stamp, progress, progress_seen, polls_without;
static int64_t timers_ran_at;
static int64_t forbidden_at = INT64_MIN / 2;
static int next_fd = FIRST_FD;

/* --- pipes ---------------------------------------------------------------- */

static void
pipe_init(struct pipe *p)
{
	static const size_t rooms[] = {64, 300, 1500, 4096, 16384, 65536, 262144};

	*p = (struct pipe){.send_room = rooms[rnd(7)], .receive_room = rooms[rnd(7)]};
	/*
	 * who is to blame for a message that does not go on is seen by what a kernel has room for
	 * at least
	 */
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
	progress++;
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
		progress++;
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
	progress++;
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

/* Sockets that both ends are done with. */
static void
sweep(void)
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
		progress++;
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
		s->acked_at = world.now; /* it says that there is room again */
	s->out.read += n;
	if (n > 0)
		progress++;
	return n;
}

void
net_peer_shutdown(struct sock *s)
{
	s->in.fin = true;
	progress++;
}

void
net_peer_reset(struct sock *s)
{
	s->peer_closed = s->reset = true;
	s->in.written = s->in.arrived; /* what was under way is gone */
	progress++;
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
	progress++;
}

void
net_peer_vanish(struct sock *s)
{
	s->vanished = s->peer_closed = true;
	s->vanished_at = world.now;
	s->found_at = world.now + between(60000, 120000);
	s->in.written = s->in.arrived;
	progress++;
}

void
net_raise(int number)
{
	for (struct signal_watch *w = signal_watches; w != NULL; w = w->next)
		if (w->number == number)
			w->raised = true;
	progress++;
}

bool
net_watches(const struct sock *s, unsigned events)
{
	return s->watch != NULL && (s->watch->wanted & events) == events;
}

int64_t
net_timer_due(const struct timer *timer)
{
	return timer->due;
}

int64_t
net_timers_ran_at(void)
{
	return timers_ran_at;
}

int64_t
net_forbidden_at(void)
{
	return forbidden_at;
}

/* --- what the daemon calls: net/sys.h ------------------------------------- */

/* Messages that the daemon has read to their last byte now. */
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
	progress++;
	accepted = s->accepted;
	note_accepted(s);
	turns_on_read(s, total, s->accepted - accepted);
	return (ssize_t)total;
}

ssize_t
sys_writev(int fd, const struct iovec *iov, int count)
{
	struct sock *s = net_find(fd);
	struct conn *conn = check_conn(fd);
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
	 * what is still unanswered when drain_timeout has passed may end in the turn of an earlier
	 * reply
	 */
	if (s->side == PROXY_FRONTEND && (s->peer == NULL || !s->peer->broker) &&
		s->out.written_in == world.loop->turns + 1 && !s->out.fin_follows &&
		!world_proxy()->stopping &&
		world.proxy_config.side[PROXY_BACKEND]
			.opts.replies) /* without, no reply is a last one */
		violation("descriptor %d: our end does not leave in one piece with the last bytes",
			fd);
	if (s->side == PROXY_FRONTEND && s->peer != NULL)
		peer_check_farewell(s);
	s->out.fin = true;
	progress++;
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
	progress++;
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
		/* unread input: a reset, which throws away what the peer had yet to get */
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
	progress++;
	return s->fd;
}

/*
 * Whose socket it is. The broker gets its proxy when the endpoints are bound, the frontend's first.
 */
static int
side_of(const struct side_opts *opts)
{
	const struct proxy *proxy = world_proxy();

	if (proxy == NULL)
		return socks == NULL ? PROXY_FRONTEND : PROXY_BACKEND;
	return opts == &proxy->opts[PROXY_FRONTEND] ? PROXY_FRONTEND : PROXY_BACKEND;
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
 * A probe of a closed window gets its answer: all is well, except that the program does not read.
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

/* Its end is sent, and within a second it is closed: nobody looks at it any more. */
static bool
lingers(const struct sock *s)
{
	const struct conn *conn = check_conn(s->fd);

	return conn != NULL && conn->state == CONN_LINGER;
}

/* As Linux does it: also when the window is closed, and every probe is answered. */
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
	progress++;
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

/* --- clock: base/clock.h -------------------------------------------------- */

int64_t
clock_now_ms(void)
{
	return world.now;
}

uint64_t
clock_now_ns(void)
{
	return (uint64_t)world.now * 1000000;
}

void
clock_wall_text(char *out, size_t size)
{
	snprintf(out, size, "%lld", (long long)world.now);
}

/* --- lookups: net/resolver.h ---------------------------------------------- */

struct resolver *
resolver_start(struct loop *loop, const char *host, uint16_t port,
	void (*cb)(void *, const struct resolved *, int, const char *), void *arg)
{
	struct resolver *r = mem_try_new(sizeof(*r));

	(void)loop, (void)host;
	if (r == NULL)
		return NULL;
	*r = (struct resolver){.cb = cb, .arg = arg, .port = port};
	r->due = world.now + (chance(500) ? 0 : between(1, 3000));
	r->next = resolvers;
	resolvers = r;
	return r;
}

void
resolver_cancel(struct resolver *r)
{
	r->cb = NULL;
}

static void
run_resolvers(void)
{
	struct resolved list[3];

	for (struct resolver **at = &resolvers; *at != NULL;) {
		struct resolver *r = *at;
		int count = (int)between(1, 3);

		if (r->cb != NULL && r->due > world.now) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		progress++;
		if (r->cb != NULL && !world.healing && chance(150)) {
			count_fault(FAULT_NO_NAME);
			r->cb(r->arg, NULL, 0, "no such name");
		} else if (r->cb != NULL) {
			struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(r->port)};
			memset(list, 0, sizeof(list));
			for (int i = 0; i < count; i++) {
				memcpy(&list[i].addr, &in, sizeof(in));
				list[i].len = sizeof(in);
			}
			r->cb(r->arg, list, count, NULL);
		}
		free(r);
		at = &resolvers; /* the callback may have changed the list */
	}
}

/* --- poller: net/poll.h and the second half of net/loop.h ----------------- */

bool
poll_open(struct loop *loop)
{
	static char base;

	loop->base = (void *)&base; /* never looked into */
	world.loop = loop;
	if (world.tight) {
		uint32_t side = (uint32_t)between(1, 200);

		loop->limits = (struct budget_limits){.turn = (uint32_t)between(1, 4 * side),
			.side = side,
			.read = (uint32_t)between(1, 2 * side),
			.events = (uint32_t)between(1, 20),
			.write = (uint32_t)between(1, 5000),
			.window = (uint32_t)between(100, 3000)};
	}
	return true;
}

void
poll_close(struct loop *loop)
{
	world.loop = NULL;
	loop->base = NULL;
}

struct watch *
watch_new(struct loop *loop, int fd, void (*cb)(void *, unsigned), void *arg)
{
	struct watch *w = mem_try_new(sizeof(*w));
	struct sock *s;

	(void)loop;
	if (w == NULL)
		return NULL;
	*w = (struct watch){.next = watches, .fd = fd, .cb = cb, .arg = arg};
	watches = w;
	if (fd >= 0) {
		s = net_find(fd);
		if (s->watch != NULL)
			violation("descriptor %d is watched twice", fd);
		s->watch = w;
	}
	return w;
}

bool
watch_set(struct watch *w, unsigned events)
{
	if (events == w->wanted)
		return true;
	if (w->fd < 0)
		violation("a watch on no descriptor");
	w->changed = ++stamp;
	w->wanted = 0;
	if (events != 0 && memory_fails(200))
		return false;
	w->wanted = events;
	return true;
}

/* Something that is to be called back. */
struct call {
	struct watch *watch;
	struct timer *timer;
	unsigned events;
	uint64_t stamp;
};

/* In the order in which they became ready; what is in it is not collected again. */
static struct call uncalled[CALLS_MAX];
static size_t uncalled_count;

/* It is no more: what gets its place in memory later is something else. */
static void
forget_calls(const struct watch *watch, const struct timer *timer)
{
	for (size_t i = 0; i < uncalled_count; i++)
		if (uncalled[i].watch == watch && uncalled[i].timer == timer)
			uncalled[i] = (struct call){0};
}

void
watch_free(struct watch *w)
{
	if (w == NULL)
		return;
	for (struct watch **at = &watches; *at != NULL; at = &(*at)->next) {
		if (*at == w) {
			*at = w->next;
			break;
		}
	}
	for (struct sock *s = socks; s != NULL; s = s->next)
		if (s->watch == w)
			s->watch = NULL;
	forget_calls(w, NULL);
	free(w);
}

void
timer_init(struct timer *t, struct loop *loop, void (*run)(struct timer *))
{
	*t = (struct timer){.due = CLOCK_NEVER, .run = run, .loop = loop};
	list_init(&t->node);
}

void
timer_set(struct timer *t, int64_t delay)
{
	t->due = world.now + (delay < 1 ? 1 : delay);
	list_move(&timers, &t->node);
}

void
timer_stop(struct timer *t)
{
	t->due = CLOCK_NEVER;
	list_remove(&t->node);
	forget_calls(NULL, t);
}

struct signal_watch *
signal_watch_new(struct loop *loop, int number, void (*cb)(void *, int), void *arg)
{
	struct signal_watch *s = mem_new(sizeof(*s));

	(void)loop;
	*s = (struct signal_watch){.next = signal_watches, .cb = cb, .arg = arg, .number = number};
	signal_watches = s;
	return s;
}

void
signal_watch_free(struct signal_watch *s)
{
	if (s == NULL)
		return;
	for (struct signal_watch **at = &signal_watches; *at != NULL; at = &(*at)->next) {
		if (*at == s) {
			*at = s->next;
			break;
		}
	}
	free(s);
}

/* The watched events that the kernel would report now. */
static unsigned
readiness(const struct sock *s, unsigned wanted)
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
	/* a reset alone shows as readable, not as a hang-up, to somebody who reads */
	if (s->in.fin_arrived || (s->reset && !(wanted & WATCH_IN)))
		events |= WATCH_HUP;
	return events & wanted;
}

/* When bytes reach a socket that its peer closed: that kernel answers with a reset. */
static int64_t
refused_at(const struct sock *s)
{
	bool refused =
		s->peer_closed && !s->daemon_closed && !s->reset && s->out.written > s->out.arrived;

	return refused ? s->out.next : CLOCK_NEVER;
}

/* The network moves on: one piece for each pipe, connects, what peers do. */
static bool
run_network(void)
{
	bool moved = false;

	for (struct sock *s = socks; s != NULL; s = s->next) {
		if (s->listener)
			continue;
		if (s->connecting && !s->connect_known && s->connect_at <= world.now) {
			s->connect_known = moved = true;
			if (s->connect_result == 0)
				peer_accept(s);
			progress++;
		}
		if (s->vanished && !s->reset && s->found_at <= world.now) {
			s->reset = moved = true;
			progress++;
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

static int64_t
network_next(void)
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
	for (struct resolver *r = resolvers; r != NULL; r = r->next)
		next = r->cb == NULL || r->due < next ? (r->cb == NULL ? world.now : r->due) : next;
	return next;
}

static bool
is_uncalled(const struct watch *watch, const struct timer *timer)
{
	for (size_t i = 0; i < uncalled_count; i++)
		if (uncalled[i].watch == watch && uncalled[i].timer == timer)
			return true;
	return false;
}

/* Some that are due were not called, since the turn was cut. */
static bool
timers_wait(void)
{
	for (size_t i = 0; i < uncalled_count; i++)
		if (uncalled[i].timer != NULL)
			return true;
	return false;
}

static bool
still_there(const struct call *c)
{
	for (struct watch *w = watches; c->watch != NULL && w != NULL; w = w->next)
		if (w == c->watch)
			return w->changed <= c->stamp;
	list_each(node, tmp, &timers) {
		struct timer *t = list_entry(node, struct timer, node);
		if (t == c->timer)
			return t->due <= world.now; /* what was set since then is due later */
	}
	return false;
}

static size_t
collect(struct call *calls, size_t max)
{
	size_t n = 0;

	for (struct sock *s = socks; s != NULL && n < max; s = s->next) {
		unsigned events = 0;
		if (!s->daemon_closed && s->watch != NULL)
			events = readiness(s, s->watch->wanted);
		if (events != 0 && !is_uncalled(s->watch, NULL) &&
			(!chance(100) || n == 0)) /* not all at once, in no order */
			calls[n++] = (struct call){.watch = s->watch, .events = events};
	}
	list_each(node, tmp, &timers) {
		struct timer *t = list_entry(node, struct timer, node);
		if (t->due <= world.now && n < max && !is_uncalled(NULL, t))
			calls[n++] = (struct call){.timer = t};
	}
	for (size_t i = 0; i < n; i++)
		calls[i].stamp = stamp;
	for (size_t i = n; i > 1; i--) {
		size_t j = rnd(i);
		struct call c = calls[i - 1];
		calls[i - 1] = calls[j];
		calls[j] = c;
	}
	return n;
}

static bool
run_signals(void)
{
	bool any = false;

	for (struct signal_watch *w = signal_watches; w != NULL; w = w->next) {
		if (!w->raised)
			continue;
		w->raised = false;
		any = true;
		w->cb(w->arg, w->number);
	}
	return any;
}

/* A daemon that is called back again and again and moves nothing burns a core. */
static void
watch_for_spin(int64_t before)
{
	if (progress != progress_seen || world.now != before) {
		progress_seen = progress;
		polls_without = 0;
	} else if (++polls_without > SPIN_LIMIT) {
		violation("the daemon spins: %d turns without a byte moved", SPIN_LIMIT);
	}
}

static void
advance_clock(bool freeze)
{
	int64_t next = network_next();

	list_each(node, tmp, &timers) {
		struct timer *t = list_entry(node, struct timer, node);
		next = t->due < next ? t->due : next;
	}
	if (next == CLOCK_NEVER)
		violation("nothing will ever happen again");
	if (next > world.now)
		world.now = next;
	if (freeze && !world.healing && !world.stopping && chance(15)) {
		count_fault(FAULT_FREEZE);
		trace("the daemon is frozen for a while");
		world.now += between(1, chance(300) ? 20000 : 300);
	}
}

/* The network goes on, and peers act. */
static void
run_world(void)
{
	world_step();
	run_network();
	for (struct peer_sim *p = peers; p != NULL; p = p->next)
		if (p->sock != NULL && p->wake <= world.now)
			peer_step(p);
	sweep();
}

void
loop_cut(struct loop *loop)
{
	loop->cut = loop->unfinished = true;
}

static void
call_back_one(struct loop *loop, const struct call *c)
{
	struct timer *timer = c->timer;
	struct sock *s;

	if (!still_there(c))
		return;
	if (timer != NULL) {
		timer_stop(timer);
		timer->run(timer);
		progress++;
		return;
	}
	if (++loop->ready >= loop->limits.events)
		loop_cut(loop);
	s = net_find(c->watch->fd);
	turns_begin_call(s);
	c->watch->cb(c->watch->arg, c->events);
	turns_end_call(s);
}

/* The descriptors that a poll did not reach come first in the next one. */
static void
call_back(struct loop *loop, const struct call *calls, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (uncalled_count == CALLS_MAX)
			break; /* they are level-triggered, or due */
		uncalled[uncalled_count++] = calls[i];
	}
	for (i = 0; i < uncalled_count && !loop->cut; i++)
		call_back_one(loop, &uncalled[i]);
	uncalled_count -= i;
	memmove(uncalled, uncalled + i, uncalled_count * sizeof(*uncalled));
}

void
poll_again(struct loop *loop)
{
	struct call calls[CALLS_MAX];

	run_world();
	call_back(loop, calls, collect(calls, CALLS_MAX));
}

void
poll_once(struct loop *loop, bool wait)
{
	struct call calls[CALLS_MAX];
	int64_t before = world.now;
	size_t n;

	world.steps++;
	check_step(wait);
	for (bool first = true;; first = false) {
		run_world();
		n = collect(calls, CALLS_MAX);
		if (n + uncalled_count > 0 || !wait)
			break;
		for (struct signal_watch *w = signal_watches; w != NULL; w = w->next)
			n += w->raised;
		for (struct resolver *r = resolvers; r != NULL; r = r->next)
			n += r->cb == NULL || r->due <= world.now;
		if (n > 0) {
			n = 0;
			break;
		}
		advance_clock(world.freezes && first);
	}
	if (!wait && chance(20))
		world.now++;
	run_resolvers();
	run_signals();
	call_back(loop, calls, n);
	if (!timers_wait())
		timers_ran_at = before;
	watch_for_spin(before);
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
	while (resolvers != NULL) { /* cancelled in the last turn */
		struct resolver *r = resolvers;
		resolvers = r->next;
		free(r);
	}
	if (watches != NULL || !list_empty(&timers) || signal_watches != NULL)
		violation("watches or signals were never freed, or timers still run");
	next_fd = FIRST_FD;
	stamp = progress = progress_seen = polls_without = uncalled_count = 0;
	turns_forget();
	timers_ran_at = 0;
	forbidden_at = INT64_MIN / 2;
}
