/* SPDX-License-Identifier: MIT */
/*
 * The worker: it sends back what it receives.
 */
#include "peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* Room for all that one read can make it send: a PONG is no longer than its PING. */
static bool
keep_left(struct peer *w, const uint8_t *data, size_t len)
{
	if (w->left == NULL && (w->left = malloc(SCRATCH)) == NULL)
		return false;
	if (w->left_len == 0)
		w->left_at = 0;
	memcpy(w->left + w->left_at + w->left_len, data, len);
	w->left_len += len;
	return true;
}

/* It reads nothing more until that has left. */
void
worker_send(struct run *run, struct peer *w, const uint8_t *data, size_t len)
{
	ssize_t n = 0;

	if (w->left_len == 0) {
		n = send(w->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN) {
			peer_fail_errno(run, w);
			return;
		}
		if (n < 0)
			n = 0;
		if ((size_t)n == len)
			return;
	}
	if (!keep_left(w, data + n, len - (size_t)n)) {
		peer_fail(run, w, RUN_ERROR_FAILED, "out of memory");
		return;
	}
	if (w->wants_write)
		return;
	w->reads = false;
	w->wants_write = true;
	peer_watch(run, w, EPOLL_CTL_MOD);
}

void
worker_on_writable(struct run *run, struct peer *w)
{
	ssize_t n = send(w->fd, w->left + w->left_at, w->left_len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN) {
		peer_fail_errno(run, w);
		return;
	}
	if (n > 0) {
		w->left_at += (size_t)n;
		w->left_len -= (size_t)n;
	}
	if (w->left_len > 0)
		return;
	w->reads = true;
	w->wants_write = false;
	peer_watch(run, w, EPOLL_CTL_MOD);
}

static bool
on_served(void *arg, const struct ident *ident)
{
	struct run *run = arg;

	(void)ident;
	if (run->mode == RUN_SERVE)
		run->messages++;
	return true;
}

static bool
on_oneway(void *arg, const struct ident *ident)
{
	struct run *run = arg;

	if (ident != NULL && ident->client >= run->n_clients)
		return false;
	run->messages++;
	return true;
}

bool
worker_read(struct run *run, struct peer *w, const uint8_t *data, size_t len, size_t *used)
{
	if (run->mode == RUN_ONEWAY)
		return image_read(&w->reader, &run->image, data, len, used, on_oneway, run);
	*used = len;
	if (!run->blind && !stream_read(&w->stream, data, len, used, on_served, run))
		return false;
	if (*used > 0)
		worker_send(run, w, data, *used);
	return true;
}
