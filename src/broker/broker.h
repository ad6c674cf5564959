/* SPDX-License-Identifier: MIT */
/*
 * All proxies of one loop, and what holds over all of them: the memory limit.
 */
#ifndef BULKHEAD_BROKER_BROKER_H
#define BULKHEAD_BROKER_BROKER_H

#include "broker/proxy.h"

struct broker;

/* A broker on `loop` without proxies, whose queues hold at most `memory_limit` bytes. */
struct broker *broker_new(struct loop *loop, uint64_t memory_limit);

/* Frees the proxies, too; all connections must be gone. */
void broker_free(struct broker *broker);

/* Make room for `more` proxies, so that broker_add cannot fail. False: no memory. */
bool broker_reserve(struct broker *broker, size_t more);

/* Add a proxy (proxy_new), which the broker owns from now on. Without room or memory we end. */
void broker_add(struct broker *broker, struct proxy *proxy);

/* The loop that all of them run on. */
struct loop *broker_loop(const struct broker *broker);

/* How many proxies there are; and each, by a number that holds until one is added or removed. */
size_t broker_proxy_count(const struct broker *broker);
const struct proxy *broker_proxy(const struct broker *broker, size_t number);

/* The sums over all proxies. */
struct proxy_totals broker_totals(const struct broker *broker);

/* Another memory limit, in bytes, from the end of this turn on. */
void broker_set_memory_limit(struct broker *broker, uint64_t memory_limit);

/* The end, for all proxies: see proxy_drain, and the others in proxy.h. */
void broker_drain(struct broker *broker);
void broker_drain_step(struct broker *broker);
bool broker_is_drained(const struct broker *broker);
void broker_log_drain(const struct broker *broker, int64_t left);
struct drain_result broker_drain_result(const struct broker *broker);
void broker_close_side(struct broker *broker, int side, bool politely);

/* Drop and count all that still waits for a peer, in this turn. */
void broker_drop_waiting(struct broker *broker);

/* What an operator asks for. Each returns NULL, or a static text that says why not. */

/* Close the connection with this id politely, reason `admin`. */
const char *broker_kick(struct broker *broker, uint64_t id);

/* proxy_drain_peer for the connection with this id. */
const char *broker_drain_peer(struct broker *broker, uint64_t id, int64_t timeout);

/* proxy_pause for the proxy of this name. */
const char *broker_pause(struct broker *broker, const char *name, bool paused);

/*
 * Take a proxy out and free it; its connections must be gone. What still waits in it is dropped,
 * and its counters are logged for the last time, with an event `proxy_removed`.
 */
void broker_remove(struct broker *broker, struct proxy *proxy);

/*
 * Log every counter, one event `stats` per side, then `stats_end`, which says
 * whether the conservation law holds. The process may be at its end: then it waits for a log reader
 * that is behind, `patience` ms in all; 0: it does not.
 */
void broker_log_stats(struct broker *broker, int patience);

/*
 * The same in slices: proxy by proxy, as long as `may` says so. True: there is more, for another
 * turn. Each proxy's counters are those of the turn in which it is told.
 */
bool broker_log_some(struct broker *broker, bool (*may)(void *arg), void *arg);

/* Has broker_log_some begun, and not come to its end? */
bool broker_is_logging(const struct broker *broker);

#endif
