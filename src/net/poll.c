#include "net/poll.h"

#include <event2/event.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

enum { LATE_MS = 20 }; /* until a timer that found no memory tries again */

struct watch {
	struct loop *loop;
	struct event *event;
	void (*cb)(void *arg, unsigned events);
	void *arg;
	int fd;
	unsigned wanted;
};

struct timer {
	struct loop *loop;
	struct event *event;
	struct list late; /* in loop->late_timers */
	int64_t due;      /* when it is there */
	void (*cb)(void *arg);
	void *arg;
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

static void late_timer_cb(void *arg);

bool
poll_open(struct loop *loop)
{
	event_set_log_callback(libevent_log_cb);
	/*
	 * Without EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST: it takes a change between level- and
	 * edge-triggered for none at all, and the kernel goes on in the old way.
	 */
	loop->base = event_base_new();
	if (loop->base == NULL)
		return false;
	loop->late_timer = timer_new(loop, late_timer_cb, loop);
	if (loop->late_timer == NULL)
		event_base_free(loop->base);
	return loop->late_timer != NULL;
}

void
poll_close(struct loop *loop)
{
	timer_free(loop->late_timer);
	event_base_free(loop->base);
}

void
poll_once(struct loop *loop, bool wait)
{
	/* EVLOOP_NONBLOCK alone would go on for as long as anything is ready */
	event_base_loop(loop->base, wait ? EVLOOP_ONCE : EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

/* --- descriptors ------------------------------------------------------- */

static bool
has_hung_up(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

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
		((what & EV_CLOSED) || (!(w->wanted & WATCH_IN) && has_hung_up(fd))))
		events |= WATCH_HUP;
	if (events == 0)
		return;
	w->cb(w->arg, events);
}

struct watch *
watch_new(struct loop *loop, int fd, void (*cb)(void *, unsigned), void *arg)
{
	struct watch *w = mem_try_new(sizeof(*w));

	if (w == NULL)
		return NULL;
	*w = (struct watch){.loop = loop, .cb = cb, .arg = arg, .fd = fd};
	w->event = event_new(loop->base, fd, EV_PERSIST, watch_event_cb, w);
	if (w->event == NULL) {
		free(w);
		return NULL;
	}
	return w;
}

bool
watch_set(struct watch *w, unsigned events)
{
	short what = EV_PERSIST;

	if (events == w->wanted)
		return true;
	if (w->wanted != 0)
		event_del(w->event);
	w->wanted = events;
	if (events == 0)
		return true;
	if (events & WATCH_IN)
		what |= EV_READ;
	if (events & WATCH_OUT)
		what |= EV_WRITE;
	/*
	 * Alone, a reset reaches libevent's EV_READ and EV_WRITE only, never EV_CLOSED alone, and would
	 * come up in every poll. Edge-triggered reading wakes once per arrival, at most until the
	 * receive buffer is full. An edge cannot be lost to a change of interest, since that
	 * removes the descriptor and adds it anew.
	 */
	if (events & WATCH_HUP)
		what |= EV_CLOSED;
	if ((events & (WATCH_HUP | WATCH_IN)) == WATCH_HUP)
		what |= EV_READ | EV_ET;
	event_assign(w->event, w->loop->base, w->fd, what, watch_event_cb, w);
	if (event_add(w->event, NULL) == 0)
		return true;
	w->wanted = 0;
	return false;
}

void
watch_free(struct watch *w)
{
	if (w == NULL)
		return;
	event_free(w->event);
	free(w);
}

/* --- timers and signals ------------------------------------------------ */

/*
 * Setting a timer takes memory when libevent's heap has to grow. So that it
 * cannot fail once the timer exists, every timer stays in the heap, those that
 * do not run with a time that never comes.
 */
static int
set_far(struct timer *t)
{
	const struct timeval far = {.tv_sec = INT64_C(10) * 365 * 86400};

	return event_add(t->event, &far);
}

static void
timer_event_cb(evutil_socket_t fd, short what, void *arg)
{
	struct timer *t = arg;

	(void)fd, (void)what;
	set_far(t);
	t->cb(t->arg);
}

struct timer *
timer_new(struct loop *loop, void (*cb)(void *), void *arg)
{
	struct timer *t = mem_try_new(sizeof(*t));

	if (t == NULL)
		return NULL;
	*t = (struct timer){.loop = loop, .cb = cb, .arg = arg};
	list_init(&t->late);
	t->event = evtimer_new(loop->base, timer_event_cb, t);
	if (t->event == NULL || set_far(t) != 0) {
		timer_free(t);
		return NULL;
	}
	return t;
}

/* Of several timers that go off at once, all leave the heap first: rarely, one finds it full. */
static void
late_timer_cb(void *arg)
{
	struct loop *loop = arg;

	list_each(node, tmp, &loop->late_timers)
	{
		struct timer *t = list_entry(node, struct timer, late);
		timer_set(t, t->due - loop_now(loop));
	}
}

static bool
arm(struct timer *t, int64_t delay)
{
	struct timeval tv = {.tv_sec = (time_t)(delay / 1000),
		.tv_usec = (suseconds_t)(delay % 1000 * 1000)};

	return event_add(t->event, &tv) == 0;
}

void
timer_set(struct timer *t, int64_t delay)
{
	if (delay < 1)
		delay = 1; /* never busy, whatever the caller computed */
	if (arm(t, delay)) {
		list_remove(&t->late);
		return;
	}
	t->due = loop_now(t->loop) + delay;
	list_move(&t->loop->late_timers, &t->late);
	arm(t->loop->late_timer, LATE_MS);
}

void
timer_stop(struct timer *t)
{
	list_remove(&t->late);
	set_far(t);
}

void
timer_free(struct timer *t)
{
	if (t == NULL)
		return;
	list_remove(&t->late);
	if (t->event != NULL)
		event_free(t->event);
	free(t);
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
	/* or one that comes from now on would end the process, in the middle of its own end */
	sigemptyset(&set);
	sigaddset(&set, s->number);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (s->event != NULL)
		event_free(s->event);
	free(s);
}
