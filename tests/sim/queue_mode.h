/* SPDX-License-Identifier: MIT */
/*
 * queue_mode.h - queue mode: what clients and workers exchange, and what must hold of it.
 *
 *   queue_peers.c     what clients and workers send, and do with what they get
 *   queue_messages.c  which message may reach which peer: seen from outside
 *   queue_check.c     what waits, and for what: seen from inside
 *   queue_balance.c   which worker has the next request
 *   queue_inflight.c  requests that workers have
 *
 * Another mode has files of this kind of its own; peers.h and check.h are for all modes.
 */
#ifndef BULKHEAD_TESTS_SIM_QUEUE_MODE_H
#define BULKHEAD_TESTS_SIM_QUEUE_MODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct peer_sim;
struct proxy;
struct recount;
struct sock;

static inline bool
same_id(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
	return a_len == b_len && memcmp(a, b, a_len) == 0;
}

/* --- queue_peers.c -------------------------------------------------------- */

/* The program of a worker got a request, of a client a reply. */
void queue_on_request(struct peer_sim *w, int index);
void queue_on_reply(struct peer_sim *c, int index);

/* Send what is due, and what the window allows. */
void queue_send_replies(struct peer_sim *w);
void queue_send_requests(struct peer_sim *c);

/* Send a request that must be answered. */
void queue_probe(struct peer_sim *c);

/* A client got DRAINING: it sends no more requests, and answers BYE. */
void queue_say_bye(struct peer_sim *c);

/* A worker that is a broker sends DRAINING, and closes when it has answered all before BYE. */
void queue_drain_worker(struct peer_sim *w);

/* --- queue_messages.c ----------------------------------------------------- */

/* A worker is sent this message, which begins with the frames `p`: may it be? */
void queue_check_request(struct peer_sim *w, const uint8_t *p, size_t len, int index);

/* A client is sent this message: may it be? */
void queue_check_reply(struct peer_sim *c, const uint8_t *p, size_t len, int index);

/* The daemon shuts its half of a client's connection: was that due? */
void queue_check_farewell(const struct sock *s);

/*
 * With redeliver, every request of a client that stayed has its reply, or was dropped and counted.
 */
void queue_check_answers(void);

/* Messages that were dropped, except requests that came too late at a stop. */
uint64_t queue_lost(void);

/* --- queue_check.c -------------------------------------------------------- */

/* After every turn; `idle`: the daemon is about to wait. */
void queue_check(const struct proxy *p, bool idle);

/* Add the chunks of all messages that wait for a receiver. */
void queue_recount(const struct proxy *p, struct recount *chunks);

/* --- queue_balance.c ------------------------------------------------------ */

/* Workers with the least come first, and a worker with nothing is one of them. */
void queue_check_levels(const struct proxy *p);

/* After every turn: each request went to a worker that had the least. */
void queue_check_choices(const struct proxy *p);

/* Before the next run. */
void queue_balance_reset(void);

/* --- queue_inflight.c ----------------------------------------------------- */

/*
 * The requests that workers have, counted independently. Adds their chunks; returns the bytes of
 * everything else about them.
 */
uint64_t queue_check_inflight(const struct proxy *p, struct recount *chunks);

/* The gauges of requests that workers have, and of silent workers. */
void queue_check_outstanding(const struct proxy *p);

/* In peace: no request is unanswered, no worker suspect, and no impossible reply is waited for. */
void queue_check_peace(const struct proxy *p);

#endif
