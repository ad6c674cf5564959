/* SPDX-License-Identifier: MIT */
/*
 * The client: it sends requests, receives replies, and gives up on those that do not come.
 */
#include "peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define SEND_COPY_MAX 4096u     /* messages up to here are put together, larger ones gathered */
#define SEND_BYTES (128u << 10) /* and one message more: SCRATCH has room */
#define SEND_IOV 64
#define LATE_NS 100000ull

bool
client_init(struct run *run, struct peer *c)
{
	if (run->mode == RUN_IDLE)
		return true;
	c->slots = calloc(run->window, sizeof(*c->slots));
	c->given_up = calloc(run->window, sizeof(*c->given_up));
	c->free = calloc(run->window, sizeof(*c->free));
	c->unsent = calloc(run->window, sizeof(*c->unsent));
	if (c->slots == NULL || c->given_up == NULL || c->free == NULL || c->unsent == NULL)
		return false;
	for (uint32_t i = 0; i < run->window; i++)
		c->free[i] = run->window - 1 - i;
	c->n_free = run->window;
	return true;
}

void
client_fini(struct peer *c)
{
	free(c->slots);
	free(c->given_up);
	free(c->free);
	free(c->unsent);
}

/* --- requests ------------------------------------------------------------- */

static void
make_request(struct run *run, struct peer *c, uint64_t due)
{
	uint32_t slot =
		run->image.has_ident ? c->free[--c->n_free] : (uint32_t)(c->seq % run->window);

	c->seq++;
	c->slots[slot].seq = c->seq;
	c->slots[slot].due = due;
	c->unsent[(c->unsent_at + c->n_unsent++) % run->window] = slot;
	run->may_make--;
	run->requests++;
	run->outstanding++;
}

static bool
has_room(const struct run *run, const struct peer *c)
{
	if (c->state != PEER_READY || run->may_make == 0)
		return false;
	return run->image.has_ident ? c->n_free > 0 : c->seq - c->settled < run->window;
}

static void
free_slot(struct run *run, struct peer *c, uint32_t slot)
{
	c->slots[slot].seq = 0;
	c->settled++;
	if (run->image.has_ident)
		c->free[c->n_free++] = slot;
	run->outstanding--;
}

static void
give_up(struct run *run, struct peer *c, uint32_t slot, enum run_error error)
{
	run->errors[error]++;
	c->given_up[slot] = c->slots[slot].seq;
	free_slot(run, c, slot);
}

void
client_drop(struct run *run, struct peer *c, enum run_error error)
{
	for (uint32_t slot = 0; c->slots != NULL && slot < run->window; slot++)
		if (c->slots[slot].seq != 0)
			give_up(run, c, slot, error);
	c->unsent_at = c->n_unsent = 0;
	c->sent_of_first = 0;
	c->pong_len = 0;
}

/* Requests leave in the order of their seq: from here on none has. */
static uint64_t
first_unsent(const struct peer *c)
{
	return c->n_unsent > 0 ? c->slots[c->unsent[c->unsent_at]].seq : UINT64_MAX;
}

static void
expire(struct run *run, struct peer *c, uint64_t sent_before)
{
	uint64_t unsent = first_unsent(c);

	for (uint32_t slot = 0; slot < run->window; slot++) {
		const struct slot *s = &c->slots[slot];

		if (s->seq == 0 || s->seq >= unsent || s->due > sent_before)
			continue;
		if (!run->image.has_ident) {
			/* which reply is which tells their order alone, and that is lost */
			client_drop(run, c, RUN_ERROR_TIMEOUT);
			peer_fail(run, c, RUN_ERROR_FAILED, "a reply is missing");
			return;
		}
		give_up(run, c, slot, RUN_ERROR_TIMEOUT);
	}
}

void
run_expire(struct run *run, uint64_t timeout)
{
	uint64_t now = now_ns();

	if (run->mode == RUN_ONEWAY || run->mode == RUN_IDLE || now < timeout)
		return;
	for (unsigned i = 0; i < run->n_clients; i++) {
		struct peer *c = &run->peers[i];

		expire(run, c, now - timeout);
		if (c->state == PEER_READY)
			client_fill(run, c, now);
	}
}

void
run_give_up(struct run *run)
{
	for (unsigned i = 0; i < run->n_clients; i++)
		client_drop(run, &run->peers[i], RUN_ERROR_TIMEOUT);
}

/* --- sending -------------------------------------------------------------- */

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
	for (int k = 0; k < n && skip > 0; k++) {
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
		if (run->mode == RUN_ONEWAY)
			free_slot(run, c, slot);
	}
	c->sent_of_first = bytes;
}

/* Returns false when something of it is left. */
static bool
flush_pong(struct run *run, struct peer *c)
{
	ssize_t n = send(c->fd, c->pong + c->pong_at, c->pong_len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN)
		peer_fail_errno(run, c);
	if (n > 0) {
		c->pong_at += (size_t)n;
		c->pong_len -= (size_t)n;
	}
	return n >= 0 && c->pong_len == 0;
}

/* A PONG that is under way stays, and so it goes on where it stopped. */
void
client_pong(struct run *run, struct peer *c, const uint8_t *pong, size_t len)
{
	if (c->pong_len > 0)
		return;
	memcpy(c->pong, pong, len);
	c->pong_at = 0;
	c->pong_len = len;
	client_flush(run, c);
}

/* Writes once, twice when all of it was taken and there is more. */
void
client_flush(struct run *run, struct peer *c)
{
	uint8_t heads[SEND_IOV / 2][IMAGE_HEAD_MAX];
	struct iovec iov[SEND_IOV];

	while (c->n_unsent > 0 || c->pong_len > 0) {
		size_t bytes;
		struct msghdr message = {.msg_iov = iov};
		ssize_t n;

		if (c->pong_len > 0 && c->sent_of_first == 0) {
			if (!flush_pong(run, c))
				break;
			continue;
		}
		message.msg_iovlen = (size_t)gather(run, c, iov, heads, &bytes);
		n = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			peer_fail_errno(run, c);
		if (n > 0)
			count_sent(run, c, (size_t)n);
		if (n < (ssize_t)bytes)
			break;
	}
	if (c->state == PEER_READY)
		peer_want_write(run, c,
			c->n_unsent > 0 || c->pong_len > 0 ||
				(run->mode == RUN_ONEWAY && run->sending));
}

/* A closed client's window is filled; a one-way client always has something to say. */
void
client_fill(struct run *run, struct peer *c, uint64_t now)
{
	if (run->sending && run->mode != RUN_OPEN && run->mode != RUN_IDLE)
		while (has_room(run, c))
			make_request(run, c, now);
	if (c->n_unsent > 0)
		client_flush(run, c);
}

void
client_on_writable(struct run *run, struct peer *c)
{
	if (run->mode == RUN_ONEWAY && c->n_unsent == 0)
		client_fill(run, c, now_ns());
	else
		client_flush(run, c);
}

/* Makes and sends what is due of one client; returns when its next request is. */
static uint64_t
send_due(struct run *run, struct peer *c, uint64_t now)
{
	uint64_t due = UINT64_MAX;
	bool made = false;

	while (has_room(run, c)) {
		double k = (double)c->seq * run->n_clients + c->index;

		due = run->open_start + (uint64_t)(k / run->rate * 1e9);
		if (due > now)
			break;
		run->sends++;
		run->late_sends += now - due > LATE_NS;
		if (now - due > run->late_max_ns)
			run->late_max_ns = now - due;
		make_request(run, c, due);
		made = true;
		due = UINT64_MAX;
	}
	if (made)
		client_flush(run, c);
	return due;
}

/*
 * Request k of all is due at open_start + k / rate and belongs to client k % n. When its client has
 * no room, it leaves later, and its latency counts from when it was due all the same.
 */
void
client_send_due(struct run *run)
{
	uint64_t now = now_ns();

	run->next_due = UINT64_MAX;
	for (unsigned i = 0; i < run->n_clients; i++) {
		uint64_t due = send_due(run, &run->peers[i], now);

		if (due < run->next_due)
			run->next_due = due;
	}
}

/* --- replies -------------------------------------------------------------- */

struct reading {
	struct run *run;
	struct peer *peer;
	uint64_t now;
};

/* The slot of the request that this answers, or `window` when nobody waits for it any more. */
static bool
find_slot(struct run *run, const struct peer *c, const struct ident *ident, uint32_t *slot)
{
	if (!run->image.has_ident) {
		*slot = (uint32_t)(c->settled % run->window);
		return c->slots[*slot].seq != 0;
	}
	if (ident == NULL || ident->client != c->index || ident->slot >= run->window ||
		ident->seq == 0 || ident->seq > c->seq)
		return false;
	*slot = ident->slot;
	if (c->slots[*slot].seq == ident->seq)
		return true;
	if (ident->seq <= c->given_up[*slot])
		run->late_replies++;
	else
		run->errors[RUN_ERROR_UNEXPECTED]++;
	*slot = run->window;
	return true;
}

static bool
on_reply(void *arg, const struct ident *ident)
{
	struct reading *r = arg;
	struct run *run = r->run;
	struct peer *c = r->peer;
	uint32_t slot;
	uint64_t due;

	if (!find_slot(run, c, ident, &slot))
		return false;
	if (slot == run->window)
		return true;
	due = c->slots[slot].due;
	histogram_add(&run->recent, r->now > due ? r->now - due : 0);
	run->messages++;
	run->replies++;
	free_slot(run, c, slot);
	return true;
}

bool
client_read(struct run *run, struct peer *c, const uint8_t *data, size_t len, size_t *used,
	uint64_t now)
{
	struct reading reading = {run, c, now};

	if (c->slots == NULL)
		return data[0] & WIRE_FLAG_COMMAND; /* an idle one waits for nothing */
	if (run->any_reply)
		return stream_read(&c->stream, data, len, used, on_reply, &reading);
	return image_read(&c->reader, &run->image, data, len, used, on_reply, &reading);
}
