/* SPDX-License-Identifier: MIT */
/*
 * All proxies of one loop, and the memory limit that they share.
 */
#ifndef BULKHEAD_BROKER_BROKER_H
#define BULKHEAD_BROKER_BROKER_H

#include "broker/proxy.h"

struct broker;

/* Creates a broker without proxies on `loop`. Its queues hold at most `memory_limit` bytes. */
struct broker *broker_new(struct loop *loop, uint64_t memory_limit);

/* Frees the proxies, too; all connections must be gone. */
void broker_free(struct broker *broker);

/* Make room for `more` proxies, so that broker_add cannot fail. False: no memory. */
bool broker_reserve(struct broker *broker, size_t more);

/* Add a proxy (proxy_new), which the broker owns from now on. Without memory the process ends. */
void broker_add(struct broker *broker, struct proxy *proxy);

/* The loop that all proxies run on. */
struct loop *broker_loop(const struct broker *broker);

/*
 * How many proxies there are; and each proxy, by a number that holds until one is added or removed.
 */
size_t broker_proxy_count(const struct broker *broker);
const struct proxy *broker_proxy(const struct broker *broker, size_t number);

/* The sums over all proxies. */
struct proxy_totals broker_totals(const struct broker *broker);

/* Set another memory limit, in bytes, from the end of this turn on. */
void broker_set_memory_limit(struct broker *broker, uint64_t memory_limit);

/* These call the functions of the same names in proxy.h (proxy_drain, ...) for all proxies. */
void broker_drain(struct broker *broker);
void broker_drain_step(struct broker *broker);
bool broker_is_drained(const struct broker *broker);
void broker_log_drain(const struct broker *broker, int64_t left);
struct drain_result broker_drain_result(const struct broker *broker);
void broker_close_side(struct broker *broker, int side, bool politely);

/* Drop and count all messages that still wait for a peer, in this turn. */
void broker_drop_waiting(struct broker *broker);

/* Commands of an operator. Each returns NULL, or a static text that says why it was refused. */

/* Close the connection with this id politely, reason `admin`. */
const char *broker_kick(struct broker *broker, uint64_t id);

/* drain_peer for the connection with this id. */
const char *broker_drain_peer(struct broker *broker, uint64_t id, int64_t timeout);

/* proxy_pause for the proxy of this name. */
const char *broker_pause(struct broker *broker, const char *name, bool paused);

/*
 * Remove a proxy and free it; its connections must be gone. Messages that still wait in it are
 * dropped, and its counters are logged for the last time, with an event `proxy_removed`.
 */
void broker_remove(struct broker *broker, struct proxy *proxy);

/*
 * Log every counter, one event `stats` per side, then `stats_end`, which says whether the
 * conservation law holds. Wait for a slow log reader for at most `patience` ms in all, if the
 * process is about to end; 0: do not wait.
 */
void broker_log_stats(struct broker *broker, int patience);

/*
 * broker_log_stats in slices: proxy by proxy, as long as `may` returns true. True: there is more,
 * for another turn. Each proxy's counters are those of the turn in which they are logged.
 */
bool broker_log_some(struct broker *broker, bool (*may)(void *arg), void *arg);

/* Has broker_log_some begun and not finished? */
bool broker_is_logging(const struct broker *broker);

#endif
