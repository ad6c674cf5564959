#include "peers.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define SCRATCH (256u << 10)
#define CONNECTING_MAX 256u   /* handshakes at a time: a listener's backlog is not endless */
#define SEND_COPY_MAX 4096u   /* messages up to here are put together, larger ones gathered */
#define SEND_BYTES (128u << 10) /* and one message more: SCRATCH has room */
#define SEND_IOV 64
#define SETTLE_NS 200000000ull
#define CONNECT_NS 60000000000ull
#define LATE_NS 100000ull
#define GREETING 64u

/* A request that is on its way. */
struct slot {
	uint64_t seq; /* 0: nothing is on its way here */
	uint64_t due; /* ns: when it was to leave */
};

struct peer {
	int fd;
	bool worker, wants_write, reads;
	uint32_t index;
	/* the handshake: READY's length is in its second byte, it is a short command */
	bool ready;
	uint32_t handshake_at;
	uint8_t ready_len;
	struct image_reader reader;
	/* a worker's: what it could not send back yet */
	uint8_t *left;
	size_t left_at, left_len;
	/* a client's */
	struct slot *slots;
	uint32_t *free; /* slots where nothing is on its way: a stack, unused without idents */
	uint32_t n_free;
	uint32_t *unsent; /* ring of `window` slots that have to leave */
	uint32_t unsent_at, n_unsent;
	size_t sent_of_first;
	uint64_t seq; /* requests that were made so far */
	uint64_t replied;
	uint64_t given_up_to; /* requests up to this one are counted as lost */
	uint64_t progress;
};

static void __attribute__((noreturn, format(printf, 1, 2)))
die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("load: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static void *
take(size_t n, size_t size)
{
	void *memory = calloc(n, size);

	if (memory == NULL)
		die("out of memory");
	return memory;
}

uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- connections ------------------------------------------------------- */

static void
watch(struct run *run, struct peer *peer, int op)
{
	struct epoll_event event = {
		.events = (peer->reads ? EPOLLIN : 0u) | (peer->wants_write ? EPOLLOUT : 0u),
		.data.ptr = peer,
	};

	if (epoll_ctl(run->epoll_fd, op, peer->fd, &event) < 0)
		die("epoll_ctl: %s", strerror(errno));
}

static void
want_write(struct run *run, struct peer *peer, bool wants)
{
	if (peer->wants_write == wants)
		return;
	peer->wants_write = wants;
	watch(run, peer, EPOLL_CTL_MOD);
}

/* ZMTP 3.1: the greeting, and READY with the socket type */
static size_t
put_handshake(uint8_t *out)
{
	static const uint8_t ready[] = "\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06""DEALER";

	memset(out, 0, GREETING);
	out[0] = 0xff;
	out[9] = 0x7f;
	out[10] = 3;
	out[11] = 1;
	memcpy(out + 12, "NULL", 4);
	memcpy(out + GREETING, ready, sizeof(ready) - 1);
	return GREETING + sizeof(ready) - 1;
}

static void
open_peer(struct run *run, struct peer *peer, const struct sockaddr_in *addr)
{
	uint8_t hello[128];
	size_t len = put_handshake(hello);
	int one = 1;

	peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (peer->fd < 0)
		die("socket: %s", strerror(errno));
	setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(peer->fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0)
		die("connect to port %u: %s", ntohs(addr->sin_port), strerror(errno));
	if (send(peer->fd, hello, len, MSG_NOSIGNAL) != (ssize_t)len)
		die("the greeting was not taken");
	peer->reads = true;
	watch(run, peer, EPOLL_CTL_ADD);
}

static void
init_peer(struct run *run, struct peer *peer, bool worker, uint32_t index)
{
	peer->worker = worker;
	peer->index = index;
	peer->fd = -1;
	peer->reader.routed = worker && !run->paired;
	if (worker || run->mode == RUN_IDLE)
		return;
	peer->slots = take(run->window, sizeof(*peer->slots));
	peer->free = take(run->window, sizeof(*peer->free));
	peer->unsent = take(run->window, sizeof(*peer->unsent));
	for (uint32_t i = 0; i < run->window; i++)
		peer->free[i] = run->window - 1 - i;
	peer->n_free = run->window;
}

void
run_connect(struct run *run)
{
	unsigned n = run->n_clients + run->n_workers, clients = 0, workers = 0;
	uint64_t limit = now_ns() + CONNECT_NS, settled;

	run->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	run->scratch = take(1, SCRATCH);
	run->peers = take(n, sizeof(*run->peers));
	for (unsigned i = 0; i < n; i++)
		init_peer(run, &run->peers[i], i >= run->n_clients,
			i < run->n_clients ? i : i - run->n_clients);
	/* in turns: a byte relay's client waits for its worker */
	while (run->n_ready < n) {
		if (clients + workers < n && clients + workers - run->n_ready < CONNECTING_MAX) {
			bool client = clients < run->n_clients &&
			              (clients <= workers || workers == run->n_workers);
			unsigned i = client ? clients++ : workers++;

			open_peer(run, &run->peers[client ? i : run->n_clients + i],
				&(client ? run->frontends : run->backends)[i % run->n_proxies]);
			if (clients + workers < n)
				continue;
		}
		run_turn(run, 100);
		if (now_ns() > limit)
			die("%u of %u peers are ready after a minute", run->n_ready, n);
	}
	/* the broker's side of the last handshakes ends after ours */
	for (settled = now_ns() + SETTLE_NS; now_ns() < settled;)
		run_turn(run, 10);
}

/* --- clients ------------------------------------------------------------ */

static void
make_request(struct run *run, struct peer *c, uint64_t due)
{
	uint32_t slot = run->image.has_ident ? c->free[--c->n_free]
	                                     : (uint32_t)(c->seq % run->window);

	c->seq++;
	c->slots[slot].seq = c->seq;
	c->slots[slot].due = due;
	c->unsent[(c->unsent_at + c->n_unsent++) % run->window] = slot;
	run->outstanding++;
}

static bool
has_room(const struct run *run, const struct peer *c)
{
	return run->image.has_ident ? c->n_free > 0
	                            : c->seq - c->replied - c->given_up_to < run->window;
}

static void
free_slot(struct run *run, struct peer *c, uint32_t slot)
{
	c->slots[slot].seq = 0;
	if (run->image.has_ident)
		c->free[c->n_free++] = slot;
	run->outstanding--;
}

static void
put_head(const struct run *run, const struct peer *c, uint32_t slot, uint8_t *out)
{
	struct ident ident = {c->index, slot, c->slots[slot].seq};

	memcpy(out, run->image.bytes, run->image.ident_at);
	if (run->image.has_ident)
		memcpy(out + run->image.ident_at, &ident, sizeof(ident));
}

/* Puts the next messages together: returns how many vectors, and their bytes. */
static int
gather(struct run *run, const struct peer *c, struct iovec *iov, uint8_t heads[][IMAGE_HEAD_MAX],
	size_t *bytes)
{
	const struct image *image = &run->image;
	size_t head = image_head_len(image), skip = c->sent_of_first, used = 0;
	bool copy = image->len <= SEND_COPY_MAX;
	uint32_t i, n_messages = 0;
	int n = 0;

	for (i = 0; i < c->n_unsent && used < SEND_BYTES && (copy || n + 2 <= SEND_IOV); i++) {
		uint32_t slot = c->unsent[(c->unsent_at + i) % run->window];

		if (copy) {
			put_head(run, c, slot, run->scratch + used);
			memcpy(run->scratch + used + head, image->bytes + head, image->len - head);
		} else {
			put_head(run, c, slot, heads[n_messages++]);
			iov[n++] = (struct iovec){heads[n_messages - 1], head};
			iov[n++] = (struct iovec){image->bytes + head, image->len - head};
		}
		used += image->len;
	}
	*bytes = used - skip;
	if (copy) {
		iov[0] = (struct iovec){run->scratch + skip, used - skip};
		return 1;
	}
	for (int k = 0; skip > 0; k++) {
		size_t cut = skip < iov[k].iov_len ? skip : iov[k].iov_len;

		iov[k].iov_base = (uint8_t *)iov[k].iov_base + cut;
		iov[k].iov_len -= cut;
		skip -= cut;
	}
	return n;
}

static void
count_sent(struct run *run, struct peer *c, size_t bytes)
{
	bytes += c->sent_of_first;
	while (bytes >= run->image.len) {
		uint32_t slot = c->unsent[c->unsent_at];

		bytes -= run->image.len;
		c->unsent_at = (c->unsent_at + 1) % run->window;
		c->n_unsent--;
		if (run->mode == RUN_ONEWAY) {
			c->replied++;
			free_slot(run, c, slot);
		}
	}
	c->sent_of_first = bytes;
}

/* Writes once, twice when all of it was taken and there is more. */
static void
flush_client(struct run *run, struct peer *c)
{
	uint8_t heads[SEND_IOV / 2][IMAGE_HEAD_MAX];
	struct iovec iov[SEND_IOV];

	while (c->n_unsent > 0) {
		size_t bytes;
		struct msghdr message = {.msg_iov = iov};
		ssize_t n;

		message.msg_iovlen = (size_t)gather(run, c, iov, heads, &bytes);
		n = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			die("client %u: write: %s", c->index, strerror(errno));
		if (n > 0)
			count_sent(run, c, (size_t)n);
		if (n < (ssize_t)bytes)
			break;
	}
	want_write(run, c, c->n_unsent > 0 || (run->mode == RUN_ONEWAY && run->sending));
}

/* A closed client's window is filled; a one-way client always has something to say. */
static void
fill(struct run *run, struct peer *c, uint64_t now)
{
	if (run->sending && run->mode != RUN_OPEN && run->mode != RUN_IDLE)
		while (has_room(run, c))
			make_request(run, c, now);
	if (c->n_unsent > 0)
		flush_client(run, c);
}

static void
count_reply(struct run *run, struct peer *c, const struct slot *slot, uint64_t now)
{
	histogram_add(&run->latency, now > slot->due ? now - slot->due : 0);
	run->messages++;
	c->replied++;
}

struct reading {
	struct run *run;
	struct peer *peer;
	uint64_t now;
};

static bool
on_reply(void *arg, const struct ident *ident)
{
	struct reading *r = arg;
	struct run *run = r->run;
	struct peer *c = r->peer;
	uint32_t slot;

	if (ident == NULL) {
		slot = (uint32_t)((c->replied + c->given_up_to) % run->window);
		if (c->slots[slot].seq == 0)
			return false;
	} else {
		slot = ident->slot;
		if (ident->client != c->index || slot >= run->window || ident->seq > c->seq)
			return false;
		if (ident->seq <= c->given_up_to && c->slots[slot].seq != ident->seq)
			return true; /* too late: it is counted as lost */
		if (c->slots[slot].seq != ident->seq)
			return false;
	}
	count_reply(run, c, &c->slots[slot], r->now);
	free_slot(run, c, slot);
	return true;
}

static bool
on_oneway(void *arg, const struct ident *ident)
{
	struct reading *r = arg;

	if (ident != NULL && ident->client >= r->run->n_clients)
		return false;
	r->run->messages++;
	return true;
}

void
run_give_up(struct run *run, uint64_t silence)
{
	uint64_t now = now_ns();

	for (unsigned i = 0; i < run->n_clients; i++) {
		struct peer *c = &run->peers[i];
		bool gone = false;

		if (run->mode == RUN_ONEWAY || c->slots == NULL || c->n_unsent > 0 ||
			now - c->progress < silence)
			continue;
		for (uint32_t slot = 0; slot < run->window; slot++) {
			if (c->slots[slot].seq == 0)
				continue;
			run->lost++;
			gone = true;
			if (!run->image.has_ident)
				die("client %u: a reply was lost; parts under 16 bytes cannot go on",
					c->index);
			free_slot(run, c, slot);
		}
		if (gone)
			c->given_up_to = c->seq;
		c->progress = now;
		fill(run, c, now);
	}
}

/* --- workers ------------------------------------------------------------ */

static void
keep_left(struct peer *w, const uint8_t *data, size_t len)
{
	if (w->left == NULL)
		w->left = take(1, SCRATCH);
	memcpy(w->left, data, len);
	w->left_at = 0;
	w->left_len = len;
}

static void
flush_worker(struct run *run, struct peer *w)
{
	ssize_t n = send(w->fd, w->left + w->left_at, w->left_len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN)
		die("worker %u: write: %s", w->index, strerror(errno));
	if (n > 0) {
		w->left_at += (size_t)n;
		w->left_len -= (size_t)n;
	}
	if (w->left_len > 0)
		return;
	w->reads = true;
	w->wants_write = false;
	watch(run, w, EPOLL_CTL_MOD);
}

static void
send_back(struct run *run, struct peer *w, const uint8_t *data, size_t len)
{
	ssize_t n = send(w->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN)
		die("worker %u: write: %s", w->index, strerror(errno));
	if (n < 0)
		n = 0;
	if ((size_t)n == len)
		return;
	keep_left(w, data + n, len - (size_t)n);
	w->reads = false;
	w->wants_write = true;
	watch(run, w, EPOLL_CTL_MOD);
}

void
run_stall(struct run *run, unsigned n)
{
	for (unsigned i = 0; i < n && i < run->n_workers; i++)
		if (epoll_ctl(run->epoll_fd, EPOLL_CTL_DEL, run->peers[run->n_clients + i].fd, NULL) < 0)
			die("epoll_ctl: %s", strerror(errno));
}

/* --- both ---------------------------------------------------------------- */

/* Skips the other side's greeting and READY; returns how many of the bytes those were. */
static size_t
read_handshake(struct run *run, struct peer *peer, const uint8_t *data, size_t len)
{
	size_t used = 0;

	while (used < len && !peer->ready) {
		uint32_t at = peer->handshake_at++;
		uint8_t byte = data[used++];

		if (at == GREETING && byte != 0x04)
			die("the other side answers the greeting with a frame that is no command");
		if (at == GREETING + 1)
			peer->ready_len = byte;
		if (at > GREETING && at == GREETING + 1u + peer->ready_len) {
			peer->ready = true;
			run->n_ready++;
		}
	}
	return used;
}

static void
on_bytes(struct run *run, struct peer *peer, const uint8_t *data, size_t len)
{
	struct reading reading = {run, peer, now_ns()};
	size_t skip = peer->ready ? 0 : read_handshake(run, peer, data, len);
	bool client = !peer->worker;

	data += skip;
	len -= skip;
	if (len == 0)
		return;
	if (!client && run->mode != RUN_ONEWAY) {
		send_back(run, peer, data, len);
		return;
	}
	if (!image_read(&peer->reader, &run->image, data, len, client ? on_reply : on_oneway, &reading)) {
		run->wrong++;
		die("%s %u: got bytes that are not the next message's", client ? "client" : "worker",
			peer->index);
	}
	if (client) {
		peer->progress = reading.now;
		fill(run, peer, reading.now);
	}
}

static void
on_readable(struct run *run, struct peer *peer)
{
	ssize_t n = recv(peer->fd, run->scratch, SCRATCH, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		die("%s %u: %s", peer->worker ? "worker" : "client", peer->index,
			n < 0 ? strerror(errno) : "the other side closed the connection");
	on_bytes(run, peer, run->scratch, (size_t)n);
}

static void
on_writable(struct run *run, struct peer *peer)
{
	if (peer->worker)
		flush_worker(run, peer);
	else if (run->mode == RUN_ONEWAY && peer->n_unsent == 0)
		fill(run, peer, now_ns());
	else
		flush_client(run, peer);
}

/*
 * Request k of all is due at open_start + k / rate and belongs to client k % n. When its client has
 * no room, it leaves later, and its latency counts from when it was due all the same.
 */
static void
send_due(struct run *run)
{
	uint64_t now = now_ns();

	for (unsigned i = 0; i < run->n_clients; i++) {
		struct peer *c = &run->peers[i];
		bool made = false;

		while (has_room(run, c)) {
			double k = (double)c->seq * run->n_clients + i;
			uint64_t due = run->open_start + (uint64_t)(k / run->rate * 1e9);

			if (due > now)
				break;
			run->sends++;
			run->late_sends += now - due > LATE_NS;
			if (now - due > run->late_max_ns)
				run->late_max_ns = now - due;
			make_request(run, c, due);
			made = true;
		}
		if (made)
			flush_client(run, c);
	}
}

void
run_start(struct run *run)
{
	uint64_t now = now_ns();

	run->sending = true;
	run->open_start = now;
	for (unsigned i = 0; i < run->n_clients; i++) {
		run->peers[i].progress = now;
		fill(run, &run->peers[i], now);
	}
}

void
run_turn(struct run *run, int wait_ms)
{
	struct epoll_event events[64];
	bool open = run->sending && run->mode == RUN_OPEN;
	int n;

	if (open)
		send_due(run);
	n = epoll_wait(run->epoll_fd, events, 64, open ? 0 : wait_ms);
	for (int i = 0; i < n; i++) {
		struct peer *peer = events[i].data.ptr;

		if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
			on_readable(run, peer);
		if (events[i].events & EPOLLOUT && peer->wants_write)
			on_writable(run, peer);
	}
}

void
run_count_from_here(struct run *run)
{
	run->messages = run->lost = run->wrong = 0;
	run->sends = run->late_sends = run->late_max_ns = 0;
	histogram_reset(&run->latency);
}

void
run_fini(struct run *run)
{
	for (unsigned i = 0; i < run->n_clients + run->n_workers; i++) {
		struct peer *peer = &run->peers[i];

		if (peer->fd >= 0)
			close(peer->fd);
		free(peer->left);
		free(peer->slots);
		free(peer->free);
		free(peer->unsent);
	}
	close(run->epoll_fd);
	free(run->peers);
	free(run->scratch);
}
