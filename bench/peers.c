/* SPDX-License-Identifier: MIT */
#include "peer.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTING_MAX 256u /* handshakes at a time: a listener's backlog is not endless */
#define SETTLE_NS 200000000ull
#define SILENCE_NS 10000000000ull /* so long a handshake may take while nothing else is ready */
#define RETRY_NS 200000000ull

/* why a connection could not be made, for run_connect */
static char failure[512];

uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- connections ---------------------------------------------------------- */

void
peer_watch(struct run *run, struct peer *peer, int op)
{
	struct epoll_event event = {
		.events = (peer->reads ? EPOLLIN : 0u) | (peer->wants_write ? EPOLLOUT : 0u),
		.data.ptr = peer,
	};

	if (epoll_ctl(run->epoll_fd, op, peer->fd, &event) < 0)
		peer_fail(run, peer, RUN_ERROR_FAILED, "epoll_ctl: %s", strerror(errno));
}

void
peer_want_write(struct run *run, struct peer *peer, bool wants)
{
	if (peer->wants_write == wants)
		return;
	peer->wants_write = wants;
	peer_watch(run, peer, EPOLL_CTL_MOD);
}

static void __attribute__((format(printf, 2, 0)))
keep_failure(const struct peer *peer, const char *why, va_list args)
{
	int n;

	if (failure[0] != '\0')
		return;
	n = snprintf(failure, sizeof(failure), "%s: ", peer->target->text);
	if (n > 0 && (size_t)n < sizeof(failure))
		vsnprintf(failure + n, sizeof(failure) - (size_t)n, why, args);
}

void
peer_fail(struct run *run, struct peer *peer, enum run_error error, const char *why, ...)
{
	va_list args;

	if (peer->state == PEER_DOWN)
		return;
	if (!run->started) {
		va_start(args, why);
		keep_failure(peer, why, args);
		va_end(args);
	}
	run->errors[error]++;
	if (peer->state == PEER_READY)
		run->n_ready--;
	if (run->n_down++ == 0)
		run->retry_at = now_ns() + RETRY_NS;
	peer->state = PEER_DOWN;
	if (peer->fd >= 0)
		close(peer->fd);
	peer->fd = -1;
	peer->left_len = 0;
	if (!peer->worker)
		client_drop(run, peer, RUN_ERROR_LOST);
}

void
peer_fail_errno(struct run *run, struct peer *peer)
{
	if (errno == EPIPE || errno == ECONNRESET)
		peer_fail(run, peer, RUN_ERROR_CLOSED, "the other side closed the connection");
	else
		peer_fail(run, peer, RUN_ERROR_FAILED, "%s", strerror(errno));
}

static void
retry(struct run *run)
{
	uint64_t now = now_ns();

	if (now < run->retry_at)
		return;
	run->retry_at = now + RETRY_NS;
	for (unsigned i = 0; i < run->n_clients + run->n_workers; i++) {
		struct peer *peer = &run->peers[i];

		if (peer->state != PEER_DOWN)
			continue;
		run->n_down--;
		peer_connect(run, peer);
	}
}

static bool
init_peers(struct run *run)
{
	unsigned n = run->n_clients + run->n_workers;

	run->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	run->scratch = calloc(1, SCRATCH);
	run->peers = calloc(n, sizeof(*run->peers));
	if (run->epoll_fd < 0 || run->scratch == NULL || run->peers == NULL)
		return false;
	for (unsigned i = 0; i < n; i++) {
		struct peer *peer = &run->peers[i];

		peer->fd = -1;
		peer->worker = i >= run->n_clients;
		peer->index = peer->worker ? i - run->n_clients : i;
		peer->target = peer->worker ? &run->backends[peer->index % run->n_backends]
					    : &run->frontends[peer->index % run->n_frontends];
	}
	for (unsigned i = 0; i < run->n_clients; i++)
		if (!client_init(run, &run->peers[i]))
			return false;
	return true;
}

/* The next peer, alternating between sides: a byte relay's client waits for its worker. */
static struct peer *
next_peer(struct run *run, unsigned *clients, unsigned *workers)
{
	bool client =
		*clients < run->n_clients && (*clients <= *workers || *workers == run->n_workers);

	return &run->peers[client ? (*clients)++ : run->n_clients + (*workers)++];
}

static const struct peer *
first_unready(const struct run *run)
{
	const struct peer *peer = run->peers;

	while (peer->state == PEER_READY)
		peer++;
	return peer;
}

static const char *
connect_all(struct run *run, const volatile bool *interrupted)
{
	unsigned n = run->n_clients + run->n_workers, clients = 0, workers = 0, ready = 0;
	uint64_t progress = now_ns();

	while (run->n_ready < n && failure[0] == '\0' && !*interrupted) {
		unsigned begun = clients + workers;

		if (begun < n && begun - run->n_ready < CONNECTING_MAX) {
			peer_connect(run, next_peer(run, &clients, &workers));
			if (begun + 1 < n)
				continue;
		}
		run_turn(run, 100);
		if (run->n_ready != ready) {
			ready = run->n_ready;
			progress = now_ns();
		} else if (now_ns() - progress > SILENCE_NS && failure[0] == '\0') {
			snprintf(failure, sizeof(failure),
				"%s: no handshake in %llu seconds; is it ZeroMQ that listens "
				"there?",
				first_unready(run)->target->text, SILENCE_NS / 1000000000u);
		}
	}
	return failure[0] != '\0' ? failure : NULL;
}

const char *
run_connect(struct run *run, const volatile bool *interrupted)
{
	const char *why;

	failure[0] = '\0';
	if (!init_peers(run))
		return "out of memory";
	why = connect_all(run, interrupted);
	if (why != NULL)
		return why;
	/* the broker's side of the last handshakes ends after ours */
	if (run->mode != RUN_SERVE)
		for (uint64_t settled = now_ns() + SETTLE_NS; now_ns() < settled && !*interrupted;)
			run_turn(run, 10);
	return failure[0] != '\0' ? failure : NULL;
}

void
run_stall(struct run *run, unsigned n)
{
	for (unsigned i = 0; i < n && i < run->n_workers; i++) {
		struct peer *w = &run->peers[run->n_clients + i];

		if (w->fd >= 0)
			(void)epoll_ctl(run->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
	}
}

/* --- what comes ----------------------------------------------------------- */

static void
on_command(struct run *run, struct peer *peer)
{
	const struct frame_reader *frame = &peer->command;
	struct command command = command_parse(frame->kept, frame->kept_len);
	uint8_t pong[COMMAND_PING_MAX];
	size_t len;

	if (command.kind == COMMAND_ERROR) {
		peer_fail(run, peer, RUN_ERROR_FAILED, "the other side sent an ERROR");
		return;
	}
	if (command.kind != COMMAND_PING || command.len < 2)
		return;
	/* RFC 37, "Heartbeating": the context follows a TTL of two bytes */
	len = command_put_pong(pong, command.data + 2, command.len - 2);
	if (peer->worker)
		worker_send(run, peer, pong, len);
	else
		client_pong(run, peer, pong, len);
}

static bool
read_messages(struct run *run, struct peer *peer, const uint8_t *data, size_t len, size_t *used,
	uint64_t now)
{
	if (frame_reader_is_inside(&peer->command))
		return true;
	return peer->worker ? worker_read(run, peer, data, len, used)
			    : client_read(run, peer, data, len, used, now);
}

/* Messages and the commands between them, in turns. */
static void
read_traffic(struct run *run, struct peer *peer, const uint8_t *data, size_t len)
{
	uint64_t now = now_ns();

	while (len > 0 && peer->state == PEER_READY) {
		size_t used = 0;

		if (!read_messages(run, peer, data, len, &used, now)) {
			peer_fail(run, peer, RUN_ERROR_WRONG, "wrong bytes");
			return;
		}
		if (used < len && peer->state == PEER_READY &&
			command_read(&peer->command, data + used, len - used, &used))
			on_command(run, peer);
		data += used;
		len -= used;
	}
	if (!peer->worker && peer->state == PEER_READY)
		client_fill(run, peer, now);
}

static void
on_bytes(struct run *run, struct peer *peer, const uint8_t *data, size_t len)
{
	while (len > 0 && peer->fd >= 0 && peer->state != PEER_READY) {
		size_t used = peer_handshake(run, peer, data, len);

		if (used == 0)
			return;
		data += used;
		len -= used;
		if (peer->state == PEER_READY && !peer->worker)
			client_fill(run, peer, now_ns());
	}
	if (len > 0 && peer->state == PEER_READY)
		read_traffic(run, peer, data, len);
}

static void
on_readable(struct run *run, struct peer *peer)
{
	ssize_t n = recv(peer->fd, run->scratch, SCRATCH, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0)
		peer_fail_errno(run, peer);
	else if (n == 0)
		peer_fail(run, peer, RUN_ERROR_CLOSED, "the other side closed the connection%s",
			peer->state == PEER_READY ? "" : " during the handshake");
	else
		on_bytes(run, peer, run->scratch, (size_t)n);
}

static void
on_event(struct run *run, struct peer *peer, uint32_t events)
{
	if (peer->state == PEER_CONNECTING) {
		peer_connected(run, peer);
		return;
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		on_readable(run, peer);
	if (!(events & EPOLLOUT) || peer->fd < 0 || !peer->wants_write)
		return;
	if (peer->worker)
		worker_on_writable(run, peer);
	else
		client_on_writable(run, peer);
}

/* --- the run -------------------------------------------------------------- */

void
run_start(struct run *run)
{
	uint64_t now = now_ns();

	run->started = run->sending = true;
	run->open_start = now;
	for (unsigned i = 0; i < run->n_clients; i++)
		client_fill(run, &run->peers[i], now);
}

/* Sleeps until something is ready or the next request is due; epoll knows milliseconds only. */
static void
sleep_until_due(struct run *run, int wait_ms)
{
	struct pollfd fd = {.fd = run->epoll_fd, .events = POLLIN};
	uint64_t now = now_ns(), wait = (uint64_t)wait_ms * 1000000u;
	struct timespec t;

	if (run->next_due <= now)
		return;
	if (run->next_due - now < wait)
		wait = run->next_due - now;
	t = (struct timespec){(time_t)(wait / 1000000000u), (long)(wait % 1000000000u)};
	ppoll(&fd, 1, &t, NULL);
}

void
run_turn(struct run *run, int wait_ms)
{
	struct epoll_event events[64];
	bool open = run->sending && run->mode == RUN_OPEN;
	int n;

	if (open)
		client_send_due(run);
	if (open && !run->spin)
		sleep_until_due(run, wait_ms);
	n = epoll_wait(run->epoll_fd, events, 64, open ? 0 : wait_ms);
	for (int i = 0; i < n; i++)
		on_event(run, events[i].data.ptr, events[i].events);
	if (run->n_down > 0 && run->started)
		retry(run);
}

void
run_count_from_here(struct run *run)
{
	run->messages = 0;
	run->sends = run->late_sends = run->late_max_ns = 0;
	histogram_reset(&run->recent);
	histogram_reset(&run->latency);
}

void
run_take_latencies(struct run *run)
{
	histogram_merge(&run->latency, &run->recent);
	histogram_reset(&run->recent);
}

void
run_fini(struct run *run)
{
	for (unsigned i = 0; run->peers != NULL && i < run->n_clients + run->n_workers; i++) {
		struct peer *peer = &run->peers[i];

		if (peer->fd >= 0)
			close(peer->fd);
		free(peer->left);
		client_fini(peer);
	}
	if (run->epoll_fd >= 0)
		close(run->epoll_fd);
	free(run->peers);
	free(run->scratch);
	image_fini(&run->image);
}
