/* SPDX-License-Identifier: MIT */
/*
 * Replies: which client a reply goes to, and how it gets there. Here is what every reply needs;
 * replies.c has the rest.
 */
#ifndef BULKHEAD_BROKER_REPLIES_H
#define BULKHEAD_BROKER_REPLIES_H

#include "broker/outstanding.h"
#include "broker/proxy_impl.h"
#include "zmtp/frame.h"
#include "zmtp/socktype.h"

/* The beginning of a reply, in one piece. */
struct front {
	const uint8_t *p;
	size_t len;
};

/* Enough of the front: the longest id, and what a REQ needs after the id. */
enum { FRONT_MAX = WIRE_LONG_HEADER + WIRE_ROUTING_ID_MAX + 32 };

/* The routing id at the front of a reply. Returns the bytes to cut off; 0: there is no id. */
static inline size_t
replies_read_id(const struct front *f, const struct message *m, const uint8_t **id, size_t *id_len)
{
	struct frame_header h;
	int size = frame_decode(&h, f->p, f->len);

	if (size <= 0 || !(h.flags & WIRE_FLAG_MORE) || h.length > WIRE_ROUTING_ID_MAX ||
		(size_t)size + h.length > f->len || (size_t)size + h.length >= m->size)
		return 0;
	*id = f->p + size;
	*id_len = (size_t)h.length;
	return (size_t)size + (size_t)h.length;
}

/* Steps over a frame of `length` bytes that has MORE. False: the next frame is another one. */
static inline bool
replies_step_over(const uint8_t **p, size_t *len, uint64_t length)
{
	struct frame_header h;
	int size = frame_decode(&h, *p, *len);

	if (size <= 0 || !(h.flags & WIRE_FLAG_MORE) || h.length != length ||
		(size_t)size + length > *len)
		return false;
	*p += (size_t)size + length;
	*len -= (size_t)size + length;
	return true;
}

/*
 * Does a REQ take the reply? The form is [request id of 4 bytes]? [empty] body; anything else would
 * end the client's connection for good (RFC 28; libzmq never dials again).
 */
static inline bool
replies_fit_req(const struct front *f, size_t skip)
{
	const uint8_t *p = f->p + skip;
	size_t len = f->len - skip;

	replies_step_over(&p, &len, 4);
	return replies_step_over(&p, &len, 0);
}

/* replies_find_client for a reply whose front is in one piece. */
static inline struct peer *
replies_find_by_front(struct proxy *proxy, const struct message *m, const struct front *f,
	size_t *skip, enum drop_reason *reason)
{
	const uint8_t *id = NULL;
	struct peer *client;
	size_t id_len = 0;

	*skip = replies_read_id(f, m, &id, &id_len);
	*reason = DROP_MALFORMED;
	if (*skip == 0)
		return NULL;
	client = router_find(&proxy->router, id, id_len);
	if (client == NULL || !conn_is_open(client->conn) || conn_is_broken(client->conn)) {
		*reason = DROP_UNROUTABLE;
		return NULL;
	}
	if (client->conn->session.peer_type == SOCKTYPE_REQ && !replies_fit_req(f, *skip))
		return NULL;
	return client;
}

/* replies_find_client for a reply whose front may be spread over blocks. */
struct peer *replies_find_by_rope(
	struct proxy *proxy, const struct message *m, size_t *skip, enum drop_reason *reason);

/*
 * The client that a reply goes to, or NULL with the reason to drop it; *skip: the bytes of the
 * routing id's frame.
 */
static inline struct peer *
replies_find_client(
	struct proxy *proxy, const struct message *m, size_t *skip, enum drop_reason *reason)
{
	struct front f = {m->p, m->len};

	if (m->rope != NULL)
		return replies_find_by_rope(proxy, m, skip, reason);
	return replies_find_by_front(proxy, m, &f, skip, reason);
}

/* replies_place for a client whose queue has no room, that has an overflow, or that is draining. */
bool replies_place_aside(
	struct proxy *proxy, struct peer *client, struct message *m, size_t skip, bool wait);

/* NOLINTBEGIN(misc-no-recursion): by way of replies_place_aside; replies.c says how deep it goes */

/*
 * Give the client a reply, without its first `skip` bytes, or drop and count it. `wait`: the reply
 * is not dropped for lack of room. False: the reply has to wait for room, and is left as it is.
 */
static inline bool
replies_place(struct proxy *proxy, struct peer *client, struct message *m, size_t skip, bool wait)
{
	if (__builtin_expect(client->aside, 0) || !conn_make_room(client->conn, m->size - skip))
		return replies_place_aside(proxy, client, m, skip, wait);
	outstanding_answer(client);
	if (!conn_send(client->conn, NULL, 0, m, skip))
		proxy->counters[PROXY_FRONTEND].dropped[DROP_QUEUE_FULL]++;
	return true;
}

/* NOLINTEND(misc-no-recursion) */

/*
 * Make the reply wait at its worker, in order, for room in `client`'s queue (NULL: for the replies
 * that wait there already). False: no memory, and the reply is dropped.
 */
bool replies_hold(struct proxy *proxy, struct peer *worker, struct peer *client, struct message *m);

/* The client that now has the routing id at the front of a request or reply; NULL: no client. */
struct peer *replies_holder(struct proxy *proxy, const struct message *message);

/*
 * No reply will come to the request that `message` is or answers: the request no longer counts as
 * unanswered.
 */
void replies_unask(struct proxy *proxy, const struct message *message);

/*
 * `reply`, which is about to pass, answers no request that is counted as unanswered: count one
 * until then.
 */
void replies_expect(struct proxy *proxy, const struct message *reply);

/*
 * Try once, for each of these backlogs, to pass on replies that waited for room in a client's
 * queue.
 */
void replies_serve_blocked(struct proxy *proxy, struct list *blocked);

/*
 * A client's queue has room, or its replies are no longer held back: move its overflow into the
 * queue, then the replies that wait after it; half-close a draining client when nothing is left.
 */
void replies_move_on(struct proxy *proxy, struct peer *client);

/*
 * Put all of a client's overflow into its queue, regardless of limits, before the client is closed.
 */
void replies_flush_overflow(struct proxy *proxy, struct peer *client);

/* Drop and count a client's overflow. */
void replies_drop_overflow(struct proxy *proxy, struct peer *client, enum drop_reason reason);

/* A request of the client will not be answered any more. */
void replies_lose(struct proxy *proxy, struct peer *client);

/* `client` takes over the overflow of `old`: it comes after the new client's queue. */
void replies_inherit_overflow(struct proxy *proxy, struct peer *client, struct peer *old);

/* Pass a client's requests on again, and read from the client unless too many of them wait. */
void replies_unpark(struct proxy *proxy, struct peer *client);

/* End the wait of a client that may ask again (see ration.h). */
void replies_end_wait(struct proxy *proxy, struct peer *client);

#endif
