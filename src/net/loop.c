#include "net/loop.h"

#include <event2/event.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

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

struct loop *
loop_new(void)
{
	struct loop *loop = mem_new(sizeof(*loop));

	event_set_log_callback(libevent_log_cb);
	/*
	 * Without EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST: it takes a change between level- and
	 * edge-triggered for none at all, and the kernel goes on in the old way.
	 */
	loop->base = event_base_new();
	if (loop->base == NULL) {
		free(loop);
		return NULL;
	}
	for (int i = 0; i < LOOP_PHASES; i++)
		list_init(&loop->tasks[i]);
	list_init(&loop->waiting_listeners);
	chunk_pool_init(&loop->env.pool);
	loop->scratch = mem_new(LOOP_SCRATCH);
	return loop;
}

int64_t
loop_now(struct loop *loop)
{
	if (!loop->now_is_fresh) {
		loop->now = clock_now_ms();
		loop->now_is_fresh = true;
	}
	return loop->now;
}

void
loop_stop(struct loop *loop)
{
	loop->stopping = true;
}

void
task_init(struct task *task, void (*run)(struct task *))
{
	list_init(&task->node);
	task->run = run;
}

void
loop_defer(struct loop *loop, enum loop_phase phase, struct task *task)
{
	if (!list_linked(&task->node))
		list_push(&loop->tasks[phase], &task->node);
}

void
task_cancel(struct task *task)
{
	list_remove(&task->node);
}

static void
run_tasks(struct list *head)
{
	struct list *node;

	while ((node = list_pop(head)) != NULL) {
		struct task *task = list_entry(node, struct task, node);
		task->run(task);
	}
}

/* What is put back while a round runs waits for the next turn. */
static void
run_one_round(struct list *head)
{
	struct list round;

	list_init(&round);
	if (list_empty(head))
		return;
	round.next = head->next;
	round.prev = head->prev;
	round.next->prev = round.prev->next = &round;
	list_init(head);
	run_tasks(&round);
}

static void
turn(struct loop *loop, int flags)
{
	loop->now_is_fresh = false;
	event_base_loop(loop->base, flags);
	run_one_round(&loop->tasks[LOOP_RESUME]);
	/* closing a peer moves its queue to others: flush again until nothing is left to do */
	do {
		run_tasks(&loop->tasks[LOOP_FLUSH]);
		run_tasks(&loop->tasks[LOOP_REAP]);
	} while (!list_empty(&loop->tasks[LOOP_FLUSH]));
	if (loop->on_turn != NULL)
		loop->on_turn(loop->on_turn_arg);
}

static void
loop_turn(struct loop *loop)
{
	bool wait = true;

	for (int i = 0; i < LOOP_PHASES; i++)
		wait = wait && list_empty(&loop->tasks[i]);
	/* EVLOOP_NONBLOCK alone would go on for as long as anything is ready */
	turn(loop, wait ? EVLOOP_ONCE : EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

void
loop_run(struct loop *loop)
{
	while (!loop->stopping)
		loop_turn(loop);
}

void
loop_free(struct loop *loop)
{
	/* a cancelled name lookup reports in a turn of its own */
	loop->on_turn = NULL;
	turn(loop, EVLOOP_NONBLOCK);
	turn(loop, EVLOOP_NONBLOCK);
	event_base_free(loop->base);
	chunk_pool_fini(&loop->env.pool);
	free(loop->scratch);
	free(loop);
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
	struct watch *w = mem_new(sizeof(*w));

	*w = (struct watch){.loop = loop, .cb = cb, .arg = arg, .fd = fd};
	w->event = event_new(loop->base, fd, EV_PERSIST, watch_event_cb, w);
	if (w->event == NULL)
		abort();
	return w;
}

void
watch_set(struct watch *w, unsigned events)
{
	short what = EV_PERSIST;

	if (events == w->wanted)
		return;
	if (w->wanted != 0)
		event_del(w->event);
	w->wanted = events;
	if (events == 0)
		return;
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
	if (event_add(w->event, NULL) != 0) {
		log_event(LOG_LEVEL_ERROR, "watch_failed", "fd=%d", w->fd);
		w->wanted = 0;
	}
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

static void
timer_event_cb(evutil_socket_t fd, short what, void *arg)
{
	struct timer *t = arg;

	(void)fd, (void)what;
	t->cb(t->arg);
}

struct timer *
timer_new(struct loop *loop, void (*cb)(void *), void *arg)
{
	struct timer *t = mem_new(sizeof(*t));

	*t = (struct timer){.loop = loop, .cb = cb, .arg = arg};
	t->event = evtimer_new(loop->base, timer_event_cb, t);
	if (t->event == NULL)
		abort();
	return t;
}

void
timer_set(struct timer *t, int64_t delay)
{
	struct timeval tv;

	if (delay < 1)
		delay = 1; /* never busy, whatever the caller computed */
	tv.tv_sec = (time_t)(delay / 1000);
	tv.tv_usec = (suseconds_t)(delay % 1000 * 1000);
	event_add(t->event, &tv);
}

void
timer_stop(struct timer *t)
{
	event_del(t->event);
}

void
timer_free(struct timer *t)
{
	if (t == NULL)
		return;
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
	if (s == NULL)
		return;
	if (s->event != NULL)
		event_free(s->event);
	free(s);
}
