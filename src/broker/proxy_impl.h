/* SPDX-License-Identifier: MIT */
/*
 * Declarations that only the files of a proxy share. The order in which these files may call each
 * other is in tests/check_layers.sh.
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

/* The reason for which the proxy's connections are closed at its end. */
static inline enum close_reason
proxy_closing_reason(const struct proxy *proxy)
{
	return proxy->removed ? CLOSE_RELOAD : CLOSE_SHUTDOWN;
}

/* Later in this turn, serve the requests that wait. */
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

/* Count a drop. An empty source must not stay: later messages would wait for it. */
static inline void
drop_for_memory(struct counters *c, struct source *s)
{
	c->dropped[DROP_QUEUE_FULL]++;
	if (s != NULL && outq_empty(&s->queue))
		source_free(s);
}

/* Watch the workers that hold requests, from now on; and the callback of the timer for that. */
void proxy_watch_silence(struct proxy *proxy);
void proxy_silence_timer_cb(struct timer *timer);

/* One more request is outstanding. */
static inline void
count_outstanding(struct proxy *proxy)
{
	uint64_t count = ++proxy->counters[PROXY_BACKEND].outstanding;

	if (count == 1 && proxy->silence_timer.due == CLOCK_NEVER)
		proxy_watch_silence(proxy);
}

/* Does the request count as outstanding until the worker answers? */
static inline bool
expects_reply(const struct peer *worker, const struct message *request)
{
	if (worker->answers == PEER_ANSWERS_ALL)
		return true;
	return worker->answers == PEER_ANSWERS_DELIMITED && envelope_has_delimiter(request);
}

/* The worker holds one request less. False: the worker held none. */
static inline bool
settle_one(struct proxy *proxy, struct peer *worker)
{
	if (worker->outstanding == 0)
		return false;
	balance_settled(&proxy->balance, worker);
	proxy->counters[PROXY_BACKEND].outstanding--;
	return true;
}

/* The client's oldest unanswered request is answered, or will not be. */
static inline void
answer_one(struct peer *client)
{
	client->outstanding -= client->outstanding > 0;
}

/* The client that now has the routing id at the front of a request or reply; NULL: no client. */
struct peer *proxy_holder(struct proxy *proxy, const struct message *message);

/*
 * No reply will come to the request that `message` is or answers: the request no longer counts as
 * unanswered.
 */
void proxy_unask(struct proxy *proxy, const struct message *message);

/*
 * A request of `client` will not be answered. If another client took over its id, that client has
 * its count, too.
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
 * `reply`, which is about to pass, answers no request that is counted as unanswered: count one
 * until then.
 */
void proxy_expect(struct proxy *proxy, const struct message *reply);

/*
 * Try once, for each of these sources, to pass on replies that waited for room in a client's queue.
 */
void proxy_serve_blocked(struct proxy *proxy, struct list *blocked);

/*
 * A client's queue has room, or its replies are no longer held back: move its backlog into the
 * queue, then the replies that wait after it; half-close a retiring client when nothing is left.
 */
void proxy_move_on(struct proxy *proxy, struct peer *client);

/*
 * Put all of a client's backlog into its queue, regardless of limits, before the client is closed.
 */
void proxy_flush_backlog(struct proxy *proxy, struct peer *client);

/* Drop and count a client's backlog. */
void proxy_drop_backlog(struct proxy *proxy, struct peer *client, enum drop_reason reason);

/* A request of the client will not be answered any more. */
void proxy_lose_reply(struct proxy *proxy, struct peer *client);

/*
 * A retiring client sent a request. True: it is to be served, because it came before our
 * half-close, and soon enough. False: it is dropped and counted.
 */
bool proxy_serves_leaving(struct proxy *proxy, struct peer *client);

/* Count a request of this client as not served, for the last line of the log. */
void proxy_note_unserved(struct proxy *proxy, struct peer *client);

/* The first half of proxy_retire; proxy_retire_step or proxy_drain_step does the rest. */
void proxy_mark_retiring(struct conn *conn, enum close_reason reason, const char *detail);

/* proxy_retire for all clients. */
void proxy_retire_clients(struct proxy *proxy);

/* `client` takes over the backlog of `old`: it comes after the new client's queue. */
void proxy_inherit_backlog(struct proxy *proxy, struct peer *client, struct peer *old);

enum {
	PROXY_GRACE_MS = 250, /* requests that a retiring client sends until then are served */
	PROXY_BYE_MS = 1000,  /* a client that was told, and sends nothing, is waited for */
	PROXY_TOLD_MS = 5000  /* ... a client that asks on is served, while we do not hold it up */
};

/* Is a retiring client in the middle of a request that it began in time? */
static inline bool
proxy_is_asking(const struct peer *client)
{
	return client->conn->part_since < client->accept_until;
}

/*
 * Is a retiring client asking, or may it be about to? A client in a loop sends the next request as
 * soon as it has its reply: that request must come before the end. A client that was told says BYE.
 */
static inline bool
proxy_may_ask(const struct peer *client, int64_t now)
{
	return proxy_is_asking(client) || (!client->replied && now < client->accept_until);
}

/* May a retiring client ask, or does it wait for a reply? */
static inline bool
proxy_awaits(const struct peer *client, int64_t now)
{
	return client->outstanding > 0 || proxy_may_ask(client, now);
}

/* conn_ops.on_draining of the backend, on_bye of the frontend: see drain.c. */
void proxy_on_draining(struct conn *conn);
void proxy_on_bye(struct conn *conn);

/* Pass a client's requests on again, and read from the client unless too many of them wait. */
void proxy_unpark(struct proxy *proxy, struct peer *client);

/* Turn rations on or off; and end the wait of a client that may ask again (see ration.h). */
void proxy_set_rationed(struct proxy *proxy, bool rationed);
void proxy_end_wait(struct proxy *proxy, struct peer *client);

/* The callback of the timer of peers that an operator drains; and forget a peer that is gone. */
void proxy_leaving_timer_cb(struct timer *timer);
void proxy_forget_leaving(struct proxy *proxy, const struct peer *peer);

/* Drop and count what is queued for a peer of that side. */
static inline void
proxy_drop_queue(struct proxy *proxy, int side, struct conn *conn, enum drop_reason reason)
{
	uint32_t dropped = conn_drop_all(conn);

	proxy->counters[side].dropped[reason] += dropped;
	conn->dropped += dropped;
}

/* --- backlog.c: requests that wait ---------------------------------------- */

/* Are a client's requests not passed on, so that no more replies come for the client? */
static inline bool
backlog_is_parked(const struct peer *client)
{
	return (client->backlog != NULL || client->waits) && !client->retiring;
}

/* Add a request to those of the client that wait. Without memory it is dropped and counted. */
void backlog_hold(struct proxy *proxy, struct peer *client, struct message *message);

/*
 * A part of a source was passed on: read from its peer, of side `sender`, again when half is gone.
 */
void backlog_relieve(struct proxy *proxy, struct source *source, int sender);

/* Free a source whose last message was passed on; commands may be left in it. */
static inline void
backlog_end(struct proxy *proxy, struct source *source)
{
	outq_fini(&source->queue, env_of(proxy));
	source_free(source);
}

/* Make the client's requests wait: memory is short, and enough of them are under way (ration.h). */
void backlog_begin_wait(struct proxy *proxy, struct peer *client);

/* Drop and count the requests of a source, and free it. */
void backlog_drop(struct proxy *proxy, struct source *source, enum drop_reason reason);

/* Create proxy->rerouted if there is none. False: no memory. */
bool backlog_make_rerouted(struct proxy *proxy);

/*
 * Free proxy->rerouted if it is empty: an empty source would stop the requests that wait after it.
 */
void backlog_end_empty_rerouted(struct proxy *proxy);

/*
 * Move the first message that is queued for a closed or stalled worker to proxy->rerouted, which is
 * served before all others. False: no memory; the message stays.
 */
bool backlog_reroute_one(struct proxy *proxy, struct peer *worker);

/* --- serve.c -------------------------------------------------------------- */

/* Count a request for the worker, which will answer it. */
static inline void
give_to(struct proxy *proxy, struct peer *worker)
{
	balance_given(&proxy->balance, worker);
	count_outstanding(proxy);
}

/* The client uses up a part of its ration (ration.h); NULL: the client is gone. */
static inline void
serve_use_ration(struct peer *client)
{
	if (client != NULL && client->spare > 0)
		client->spare--;
}

/* Give the requests that wait to workers that have room, in slices. */
void serve_waiting(struct proxy *proxy);

/* The callbacks of proxy->serve_task and proxy->retry_timer. */
void serve_on_task(struct task *task);
void serve_on_retry(struct timer *timer);

/* --- contest.c ------------------------------------------------------------ */

/* `client` takes the routing id from `old`, and the replies that were not sent yet, in order. */
void contest_take_over(struct proxy *proxy, struct peer *old, struct peer *client);

/* Record that two live clients have one id: people see it in status. */
void contest_note(struct proxy *proxy, const struct peer *client);

/* A client that lost its id to another client is gone: count it if that was a contest. */
void contest_count(struct proxy *proxy, const struct peer *loser);

/* Does the holder keep its id? It does for a while after the id was claimed too often. */
bool contest_keeps_id(struct proxy *proxy, struct peer *holder);

#endif
