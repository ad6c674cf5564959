/* SPDX-License-Identifier: MIT */
/*
 * The simulated machine's poller, name lookups and clock. Replaces net/poll.c, net/resolver.c and
 * base/clock.c at link time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "check.h"
#include "net/poll.h"
#include "net/resolver.h"
#include "peers.h"
#include "sim.h"

enum { SPIN_LIMIT = 20000, CALLS_MAX = 256 };

struct watch {
	struct watch *next;
	int fd;
	void (*cb)(void *arg, unsigned events);
	void *arg;
	unsigned wanted;
	uint64_t changed; /* stamp of the last change: earlier events are stale */
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

static struct watch *watches;
static struct list timers = {&timers, &timers}; /* running ones */
static struct signal_watch *signal_watches;
static struct resolver *resolvers;
static uint64_t stamp, progress_seen, polls_without;
static int64_t timers_ran_at;

void
net_raise(int number)
{
	for (struct signal_watch *w = signal_watches; w != NULL; w = w->next)
		if (w->number == number)
			w->raised = true;
	net_progress++;
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
		net_progress++;
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

	loop->base = (void *)&base; /* opaque */
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

/* A watch or timer that is due. */
struct call {
	struct watch *watch;
	struct timer *timer;
	unsigned events;
	uint64_t stamp;
};

/* In the order in which they became ready; a queued one is not collected again. */
static struct call uncalled[CALLS_MAX];
static size_t uncalled_count;

/* It is freed: its address may be reused by another. */
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

/* When the network or a lookup is due next. */
static int64_t
world_due(void)
{
	int64_t next = net_next();

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

/* Some due timers were not called, since the turn was cut short. */
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
			return t->due <= world.now; /* if set since then, it is due later */
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
			events = net_readiness(s, s->watch->wanted);
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

/* A daemon that is called back repeatedly without progress burns a core. */
static void
watch_for_spin(int64_t before)
{
	if (net_progress != progress_seen || world.now != before) {
		progress_seen = net_progress;
		polls_without = 0;
	} else if (++polls_without > SPIN_LIMIT) {
		violation("the daemon spins: %d turns without a byte moved", SPIN_LIMIT);
	}
}

static void
advance_clock(bool freeze)
{
	int64_t next = world_due();

	list_each(node, tmp, &timers) {
		struct timer *t = list_entry(node, struct timer, node);
		next = t->due < next ? t->due : next;
	}
	if (next == CLOCK_NEVER)
		violation("no event is due: the run would never end");
	if (next > world.now)
		world.now = next;
	if (freeze && !world.healing && !world.stopping && chance(15)) {
		count_fault(FAULT_FREEZE);
		trace("the daemon is frozen for a while");
		world.now += between(1, chance(300) ? 20000 : 300);
	}
}

/* Run the network and the peers. */
static void
run_world(void)
{
	world_step();
	net_run();
	for (struct peer_sim *p = peers; p != NULL; p = p->next)
		if (p->sock != NULL && p->wake <= world.now)
			peer_step(p);
	net_sweep();
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
		net_progress++;
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
poll_check_empty(void)
{
	while (resolvers != NULL) { /* cancelled in the last turn */
		struct resolver *r = resolvers;
		resolvers = r->next;
		free(r);
	}
	if (watches != NULL || !list_empty(&timers) || signal_watches != NULL)
		violation("watches or signals were never freed, or timers still run");
	stamp = progress_seen = polls_without = uncalled_count = 0;
	timers_ran_at = 0;
}
