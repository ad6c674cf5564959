#include "net/mailbox.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"

struct mailbox {
	pthread_mutex_t lock;
	struct list letters; /* under the lock */
	struct watch *watch;
	void (*on_letter)(void *arg, struct list *letter);
	void *arg;
	int fd; /* readable: there are letters */
};

static struct list *
take_locked(struct mailbox *m)
{
	struct list *letter;

	pthread_mutex_lock(&m->lock);
	letter = list_pop(&m->letters);
	pthread_mutex_unlock(&m->lock);
	return letter;
}

/* What is posted meanwhile is read as well, or makes the descriptor readable again. */
static void
on_watch_cb(void *arg, unsigned events)
{
	struct mailbox *m = arg;
	struct list *letter;
	eventfd_t posted;

	(void)events;
	(void)eventfd_read(m->fd, &posted);
	while ((letter = take_locked(m)) != NULL)
		m->on_letter(m->arg, letter);
}

struct mailbox *
mailbox_new(struct loop *loop, void (*on_letter)(void *, struct list *), void *arg)
{
	struct mailbox *m = mem_new(sizeof(*m));

	m->on_letter = on_letter;
	m->arg = arg;
	list_init(&m->letters);
	pthread_mutex_init(&m->lock, NULL);
	m->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->fd >= 0)
		m->watch = mem_must(watch_new(loop, m->fd, on_watch_cb, m));
	if (m->fd < 0 || !watch_set(m->watch, WATCH_IN)) {
		mailbox_free(m);
		return NULL;
	}
	return m;
}

void
mailbox_post(struct mailbox *m, struct list *letter)
{
	bool first;

	pthread_mutex_lock(&m->lock);
	first = list_empty(&m->letters);
	list_push(&m->letters, letter);
	pthread_mutex_unlock(&m->lock);
	if (first) /* cannot fail: the counter is far from full */
		(void)eventfd_write(m->fd, 1);
}

struct list *
mailbox_take(struct mailbox *m)
{
	return take_locked(m);
}

void
mailbox_free(struct mailbox *m)
{
	if (m == NULL)
		return;
	assert(list_empty(&m->letters));
	watch_free(m->watch);
	if (m->fd >= 0)
		close(m->fd);
	pthread_mutex_destroy(&m->lock);
	free(m);
}
