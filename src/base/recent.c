#include "base/recent.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

struct ring {
	struct recent_event events[RECENT_RING];
	uint64_t count; /* of all that ever came */
};

static struct {
	pthread_mutex_t lock; /* held for a copy, never while anything is written or allocated */
	uint64_t last;
	struct ring noteworthy, usual;
} recent = {.lock = PTHREAD_MUTEX_INITIALIZER};

void
recent_add(enum log_level level, const char *event, const char *text, size_t len)
{
	struct ring *ring = level <= LOG_LEVEL_NOTICE ? &recent.noteworthy : &recent.usual;
	struct recent_event *e;
	char when[sizeof(e->when)];

	clock_wall_text(when, sizeof(when));
	if (len > RECENT_TEXT_MAX - 1)
		len = RECENT_TEXT_MAX - 1;
	pthread_mutex_lock(&recent.lock);
	e = &ring->events[ring->count++ % RECENT_RING];
	e->number = ++recent.last;
	e->level = level;
	memcpy(e->when, when, sizeof(when));
	snprintf(e->event, sizeof(e->event), "%s", event);
	memcpy(e->text, text, len);
	e->text[len] = '\0';
	pthread_mutex_unlock(&recent.lock);
}

/* The oldest that is kept, or the one `i` after it; NULL: there are not so many. */
static const struct recent_event *
ring_at(const struct ring *ring, uint64_t i)
{
	uint64_t first = ring->count > RECENT_RING ? ring->count - RECENT_RING : 0;

	return first + i < ring->count ? &ring->events[(first + i) % RECENT_RING] : NULL;
}

size_t
recent_copy(struct recent_event *out)
{
	uint64_t at[2] = {0, 0};
	size_t n = 0;

	pthread_mutex_lock(&recent.lock);
	for (;;) {
		const struct recent_event *a = ring_at(&recent.noteworthy, at[0]);
		const struct recent_event *b = ring_at(&recent.usual, at[1]);

		if (a == NULL && b == NULL)
			break;
		if (b == NULL || (a != NULL && a->number < b->number)) {
			out[n++] = *a;
			at[0]++;
		} else {
			out[n++] = *b;
			at[1]++;
		}
	}
	pthread_mutex_unlock(&recent.lock);
	return n;
}

uint64_t
recent_last(void)
{
	uint64_t last;

	pthread_mutex_lock(&recent.lock);
	last = recent.last;
	pthread_mutex_unlock(&recent.lock);
	return last;
}
