/* SPDX-License-Identifier: MIT */
#include "net/poll.h"

#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/sys.h"

/* libevent's own part, whose size is known only at run time, follows it. */
struct watch {
	struct loop *loop;
	void (*cb)(void *arg, unsigned events);
	void *arg;
	unsigned wanted;
};

struct signal_watch {
	struct event *event;
	void (*cb)(void *arg, int number);
	void *arg;
	int number;
	struct loop *loop;
};

static void
libevent_log_cb(int severity, const char *text)
{
	char quoted[512];

	log_event(severity >= EVENT_LOG_WARN ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG, "libevent",
		"text=%s", log_quote(quoted, sizeof(quoted), text, strlen(text)));
}

static bool alarm_open(struct loop *loop);
static void alarm_free(struct alarm_clock *alarm);

bool
poll_open(struct loop *loop)
{
	struct event_config *config = event_config_new();

	event_set_log_callback(libevent_log_cb);
	/*
	 * libevent need not read the clock in every poll: the loop does, and the timers are ours.
	 * EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST must stay off: with it, libevent ignores a change
	 * between level- and edge-triggered, and the kernel keeps the old mode.
	 */
	if (config != NULL && event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME) == 0)
		loop->base = event_base_new_with_config(config);
	if (config != NULL)
		event_config_free(config);
	if (loop->base == NULL)
		return false;
	if (alarm_open(loop))
		return true;
	event_base_free(loop->base);
	return false;
}

void
poll_close(struct loop *loop)
{
	alarm_free(loop->alarm);
	event_base_free(loop->base);
}

void
poll_once(struct loop *loop, bool wait)
{
	/* EVLOOP_NONBLOCK alone would go on for as long as anything is ready */
	event_base_loop(loop->base, wait ? EVLOOP_ONCE : EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

/*
 * Events that are active in libevent stay active, in their order, and event_base_loop begins with
 * them.
 */
void
loop_cut(struct loop *loop)
{
	loop->cut = loop->unfinished = true;
	event_base_loopbreak(loop->base);
}

void
poll_again(struct loop *loop)
{
	poll_once(loop, false);
}

/* --- descriptors ---------------------------------------------------------- */

static void
watch_event_cb(evutil_socket_t fd, short what, void *arg)
{
	struct watch *w = arg;
	unsigned events = 0;

	if ((what & EV_READ) && (w->wanted & WATCH_IN))
		events |= WATCH_IN;
	if (what & EV_WRITE)
		events |= WATCH_OUT;
	if ((w->wanted & WATCH_HUP) &&
		((what & EV_CLOSED) || (!(w->wanted & WATCH_IN) && sys_has_ended(fd))))
		events |= WATCH_HUP;
	if (events == 0)
		return;
	if (++w->loop->ready >= w->loop->limits.events)
		loop_cut(w->loop);
	w->cb(w->arg, events);
}

static struct event *
event_of(struct watch *w)
{
	return (struct event *)(void *)(w + 1);
}

struct watch *
watch_new(struct loop *loop, int fd, void (*cb)(void *, unsigned), void *arg)
{
	struct watch *w = mem_try_new(sizeof(*w) + event_get_struct_event_size());

	if (w == NULL)
		return NULL;
	*w = (struct watch){.loop = loop, .cb = cb, .arg = arg};
	event_assign(event_of(w), loop->base, fd, EV_PERSIST, watch_event_cb, w);
	return w;
}

bool
watch_set(struct watch *w, unsigned events)
{
	struct event *ev = event_of(w);
	short what = EV_PERSIST;

	if (events == w->wanted)
		return true;
	if (w->wanted != 0)
		event_del(ev);
	w->wanted = events;
	if (events == 0)
		return true;
	if (events & WATCH_IN)
		what |= EV_READ;
	if (events & WATCH_OUT)
		what |= EV_WRITE;
	/*
	 * A reset is reported as EV_READ and EV_WRITE, never as EV_CLOSED alone, and would be
	 * reported in every poll. Edge-triggered reading wakes once per arrival, at most until the
	 * receive buffer is full. An edge cannot be lost to a change of interest, since that
	 * removes the descriptor and adds it again.
	 */
	if (events & WATCH_HUP)
		what |= EV_CLOSED;
	if ((events & (WATCH_HUP | WATCH_IN)) == WATCH_HUP)
		what |= EV_READ | EV_ET;
	event_assign(ev, event_get_base(ev), event_get_fd(ev), what, watch_event_cb, w);
	if (event_add(ev, NULL) == 0)
		return true;
	w->wanted = 0;
	return false;
}

void
watch_free(struct watch *w)
{
	if (w == NULL)
		return;
	event_del(event_of(w));
	free(w);
}

/* --- timers and signals --------------------------------------------------- */

/*
 * All timers of the loop share one descriptor of the kernel's. A libevent timer
 * for each would cost more memory than all the rest of an idle connection's
 * state, logarithmic time, and could fail for want of memory when it is set.
 */
struct alarm_clock {
	struct wheel wheel;
	struct list expired; /* timers that expired, and that no turn has run yet */
	struct event *event;
	int64_t rings; /* the time that the descriptor is set to; CLOCK_NEVER: none */
	int fd;
	bool running; /* timers are being run: the descriptor is set once afterwards */
};

static void
set_alarm(struct alarm_clock *a, int64_t when)
{
	struct itimerspec ts = {.it_value = {.tv_sec = (time_t)(when / 1000),
					.tv_nsec = (long)(when % 1000 * 1000000)}};

	a->rings = when;
	if (when == CLOCK_NEVER)
		ts.it_value = (struct timespec){0, 0};
	timerfd_settime(a->fd, TFD_TIMER_ABSTIME, &ts, NULL);
}

/* Setting the descriptor again also makes it unreadable again. */
static void
alarm_event_cb(evutil_socket_t fd, short what, void *arg)
{
	struct loop *loop = arg;
	struct alarm_clock *a = loop->alarm;
	struct list *node;

	(void)fd, (void)what;
	a->running = true;
	wheel_advance(&a->wheel, loop_now(loop), &a->expired);
	while (!loop->cut && (node = list_pop(&a->expired)) != NULL) {
		struct timer *t = list_entry(node, struct timer, node);
		t->due = CLOCK_NEVER;
		loop_spend(loop, BUDGET_TIMER);
		t->run(t);
	}
	a->running = false;
	/* a time in the past expires at once */
	set_alarm(a, list_empty(&a->expired) ? wheel_next(&a->wheel) : 1);
}

static void
alarm_free(struct alarm_clock *a)
{
	if (a->event != NULL)
		event_free(a->event);
	if (a->fd >= 0)
		close(a->fd);
	free(a);
}

static bool
alarm_open(struct loop *loop)
{
	struct alarm_clock *a = mem_new(sizeof(*a));

	wheel_init(&a->wheel, clock_now_ms());
	list_init(&a->expired);
	a->rings = CLOCK_NEVER;
	a->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (a->fd >= 0)
		a->event = event_new(loop->base, a->fd, EV_READ | EV_PERSIST, alarm_event_cb, loop);
	if (a->event == NULL || event_add(a->event, NULL) != 0) {
		alarm_free(a);
		return false;
	}
	loop->alarm = a;
	return true;
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
	struct alarm_clock *a = t->loop->alarm;
	int64_t now = loop_now(t->loop);

	if (delay < 1)
		delay = 1; /* never busy, whatever the caller computed */
	if (delay > CLOCK_NEVER - now)
		delay = CLOCK_NEVER - now;
	wheel_remove(&a->wheel, t);
	wheel_add(&a->wheel, t, now + delay);
	/* an alarm that comes too early is corrected when it does */
	if (!a->running && t->due < a->rings)
		set_alarm(a, t->due);
}

void
timer_stop(struct timer *t)
{
	wheel_remove(&t->loop->alarm->wheel, t);
}

static void
signal_event_cb(evutil_socket_t fd, short what, void *arg)
{
	struct signal_watch *s = arg;

	(void)fd, (void)what;
	s->cb(s->arg, s->number);
}

struct signal_watch *
signal_watch_new(struct loop *loop, int number, void (*cb)(void *, int), void *arg)
{
	struct signal_watch *s = mem_new(sizeof(*s));

	*s = (struct signal_watch){.cb = cb, .arg = arg, .number = number, .loop = loop};
	s->event = evsignal_new(loop->base, number, signal_event_cb, s);
	if (s->event == NULL || event_add(s->event, NULL) != 0) {
		signal_watch_free(s);
		return NULL;
	}
	return s;
}

void
signal_watch_free(struct signal_watch *s)
{
	sigset_t set;

	if (s == NULL)
		return;
	/* otherwise a signal from now on would kill the process in the middle of its shutdown */
	sigemptyset(&set);
	sigaddset(&set, s->number);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (s->event != NULL)
		event_free(s->event);
	free(s);
}
