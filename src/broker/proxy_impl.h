/* SPDX-License-Identifier: MIT */
/*
 * What the files of a proxy share with each other and with nobody else. The order in which they
 * stand on each other is in tests/check_layers.sh.
 */
#ifndef BULKHEAD_BROKER_PROXY_IMPL_H
#define BULKHEAD_BROKER_PROXY_IMPL_H

#include "base/clock.h"
#include "broker/envelope.h"
#include "broker/proxy.h"

static inline struct proxy *
proxy_of(const struct conn *conn)
{
	return ((struct peer *)conn->peer)->proxy;
}

static inline struct outq_env *
env_of(struct proxy *proxy)
{
	return &proxy->loop->env;
}

/* Why connections of the proxy are closed at its end. */
static inline enum close_reason
proxy_closing_reason(const struct proxy *proxy)
{
	return proxy->removed ? CLOSE_RELOAD : CLOSE_SHUTDOWN;
}

/* Serve what waits later in this turn. */
static inline void
proxy_serve_soon(struct proxy *proxy)
{
	loop_defer(proxy->loop, LOOP_RESUME, &proxy->serve_task);
}

/* A message that waits for a peer is queued, too. */
static inline void
count_waiting(struct counters *c, uint64_t size)
{
	c->queued++;
	c->queued_bytes += size;
}

static inline void
uncount_waiting(struct counters *c, uint64_t size)
{
	c->queued--;
	c->queued_bytes -= size;
}

/* An empty source must not stay: what comes later would wait behind nothing. */
static inline void
drop_for_memory(struct counters *c, struct source *s)
{
	c->dropped[DROP_QUEUE_FULL]++;
	if (s != NULL && outq_empty(&s->queue))
		source_free(s);
}

/* Workers that hold requests from now on are watched; and the timer for that. */
void proxy_watch_silence(struct proxy *proxy);
void proxy_silence_timer_cb(struct timer *timer);

/* A request more is outstanding. */
static inline void
count_outstanding(struct proxy *proxy)
{
	uint64_t count = ++proxy->counters[PROXY_BACKEND].outstanding;

	if (count == 1 && proxy->silence_timer.due == CLOCK_NEVER)
		proxy_watch_silence(proxy);
}

/* Does the request count as the worker's until it answers? */
static inline bool
expects_reply(const struct peer *worker, const struct message *request)
{
	if (worker->answers == PEER_ANSWERS_ALL)
		return true;
	return worker->answers == PEER_ANSWERS_DELIMITED && envelope_has_delimiter(request);
}

/* The worker holds one request less. False: it held none. */
static inline bool
settle_one(struct proxy *proxy, struct peer *worker)
{
	if (worker->outstanding == 0)
		return false;
	balance_settled(&proxy->balance, worker);
	proxy->counters[PROXY_BACKEND].outstanding--;
	return true;
}

/* The client's oldest request that is not answered is now. */
static inline void
answer_one(struct peer *client)
{
	client->outstanding -= client->outstanding > 0;
}

/* The client that has the routing id in front of a request or reply now; NULL: nobody. */
struct peer *proxy_holder(struct proxy *proxy, const struct message *message);

/* No reply will come to that request or reply, which is counted as unanswered: it is no longer. */
void proxy_unask(struct proxy *proxy, const struct message *message);

/*
 * A request of `client` will not be answered. One whose id another client took is waited for by
 * that one: its count went along.
 */
static inline void
forgo_reply(struct proxy *proxy, struct peer *client)
{
	if (__builtin_expect(!client->routed, 0))
		client = router_find(&proxy->router, peer_id(client), peer_id_len(client));
	if (client != NULL)
		answer_one(client);
}

/*
 * A reply is about to pass that answers no request which is counted as unanswered: it counts as one
 * until it does.
 */
void proxy_expect(struct proxy *proxy, const struct message *reply);

/* Replies that waited for a client's room: one attempt for each of these sources. */
void proxy_serve_blocked(struct proxy *proxy, struct list *blocked);

/*
 * A client's queue has room, or what held its replies back is over: move its backlog on, and what
 * waits for that; a client that leaves goes when nothing is left.
 */
void proxy_move_on(struct proxy *proxy, struct peer *client);

/* Put all of a client's backlog into its queue, whatever its limits; the end of a stop. */
void proxy_flush_backlog(struct proxy *proxy, struct peer *client);

/* Drop and count a client's backlog. */
void proxy_drop_backlog(struct proxy *proxy, struct peer *client, enum drop_reason reason);

/* A request of the client will not be answered any more. */
void proxy_lose_reply(struct proxy *proxy, struct peer *client);

/*
 * A client that leaves asks again. True: it is to be served, since that came before our half-close,
 * and soon enough. False: the request is dropped and counted.
 */
bool proxy_serves_leaving(struct proxy *proxy, struct peer *client);

/* A request of this client will not be served, and the last line of the log is to say so. */
void proxy_note_unserved(struct proxy *proxy, struct peer *client);

/* The first half of proxy_retire: it goes at the next proxy_retire_step or proxy_drain_step. */
void proxy_mark_retiring(struct conn *conn, enum close_reason reason, const char *detail);

/* proxy_retire for all clients. */
void proxy_retire_clients(struct proxy *proxy);

/* `client` takes over from `old`: what came after the old one's queue comes after the new one's. */
void proxy_inherit_backlog(struct proxy *proxy, struct peer *client, struct peer *old);

enum {
	PROXY_GRACE_MS = 250, /* what a client that leaves asks until then is still served */
	PROXY_BYE_MS = 1000,  /* a client that was told, and sends nothing, is waited for */
	PROXY_TOLD_MS = 5000 /* ... and when it asks on, it is served, except while we hold it up */
};

/* A client that leaves: is it in the middle of a request that it began in time? */
static inline bool
proxy_is_asking(const struct peer *client)
{
	return client->conn->part_since < client->accept_until;
}

/*
 * ... or might it be about to ask? The next request of a client in a loop is on its way as soon as
 * it has its reply: it must meet us before the end does. One that was told says BYE.
 */
static inline bool
proxy_may_ask(const struct peer *client, int64_t now)
{
	return proxy_is_asking(client) || (!client->replied && now < client->accept_until);
}

/* Does it, or does it wait for a reply? */
static inline bool
proxy_awaits(const struct peer *client, int64_t now)
{
	return client->outstanding > 0 || proxy_may_ask(client, now);
}

/* conn_ops.on_draining of the backend, on_bye of the frontend: see drain.c. */
void proxy_on_draining(struct conn *conn);
void proxy_on_bye(struct conn *conn);

/* A client's requests are passed on again, and it is read, as far as they allow. */
void proxy_unpark(struct proxy *proxy, struct peer *client);

/* Are there rations? And: a client has used up less than its own (see ration.h). */
void proxy_set_rationed(struct proxy *proxy, bool rationed);
void proxy_end_wait(struct proxy *proxy, struct peer *client);

/* The timer of peers that an operator drains; and one of them is gone. */
void proxy_leaving_timer_cb(struct timer *timer);
void proxy_forget_leaving(struct proxy *proxy, const struct peer *peer);

/* What waits in `waiting` and `parked`, messages. */
uint64_t proxy_waiting(const struct proxy *proxy);

/* Drop what is queued for a peer of that side. */
static inline void
proxy_drop_queue(struct proxy *proxy, int side, struct conn *conn, enum drop_reason reason)
{
	uint32_t dropped = conn_drop_all(conn);

	proxy->counters[side].dropped[reason] += dropped;
	conn->dropped += dropped;
}

/* --- backlog.c: requests that wait ---------------------------------------- */

/* Are a client's requests not passed on, so that there are no more replies to them? */
static inline bool
backlog_is_parked(const struct peer *client)
{
	return (client->backlog != NULL || client->waits) && !client->retiring;
}

/* A request of the client waits, after those that wait already; or is dropped, without memory. */
void backlog_hold(struct proxy *proxy, struct peer *client, struct message *message);

/* A part of a source of side `sender` has gone on: read from its peer again when half is gone. */
void backlog_relieve(struct proxy *proxy, struct source *source, int sender);

/* The last message of a source went on; commands may be left. Frees it. */
static inline void
backlog_end(struct proxy *proxy, struct source *source)
{
	outq_fini(&source->queue, env_of(proxy));
	source_free(source);
}

/* The client's requests wait: memory is short, and it has enough under way (ration.h). */
void backlog_begin_wait(struct proxy *proxy, struct peer *client);

/* Drop and count the requests of a source, and free it. */
void backlog_drop(struct proxy *proxy, struct source *source, enum drop_reason reason);

/* The source of rerouted requests. False: no memory. */
bool backlog_make_rerouted(struct proxy *proxy);

/* Nothing went there: an empty one would stop what waits after it. */
void backlog_end_empty_rerouted(struct proxy *proxy);

/*
 * Move the first message that is queued for a worker, closed or stalled, to those that are served
 * before all others. False: no memory; it stays.
 */
bool backlog_reroute_one(struct proxy *proxy, struct peer *worker);

/* --- serve.c -------------------------------------------------------------- */

/* The worker is about to be sent a request that it will answer. */
static inline void
give_to(struct proxy *proxy, struct peer *worker)
{
	balance_given(&proxy->balance, worker);
	count_outstanding(proxy);
}

/* The client uses up a part of its ration (ration.h); NULL: it is gone. */
static inline void
serve_use_ration(struct peer *client)
{
	if (client != NULL && client->spare > 0)
		client->spare--;
}

/* Give what waits to the workers, as far as they have room, in slices. */
void serve_waiting(struct proxy *proxy);

/* proxy->serve_task and proxy->retry_timer. */
void serve_on_task(struct task *task);
void serve_on_retry(struct timer *timer);

/* --- contest.c ------------------------------------------------------------ */

/* Was the client heard a moment ago, and has not ended since? */
bool contest_seems_alive(const struct proxy *proxy, const struct peer *client);

/* `client` takes the routing id from `old`: replies that did not leave yet follow it, in order. */
void contest_take_over(struct proxy *proxy, struct peer *old, struct peer *client);

/* Two clients that live have one id: for people, in status. */
void contest_note(struct proxy *proxy, const struct peer *client);

/* A client that lost its id to another one is gone: was that a contest? */
void contest_count(struct proxy *proxy, const struct peer *loser);

/* Does the holder keep its id? It does for a while, when it was claimed too often. */
bool contest_keeps_id(struct proxy *proxy, struct peer *holder);

#endif
