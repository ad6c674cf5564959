/* SPDX-License-Identifier: MIT */
/*
 * All proxies of one loop, and what holds over all of them: the memory limit.
 */
#ifndef BULKHEAD_BROKER_BROKER_H
#define BULKHEAD_BROKER_BROKER_H

#include "broker/memory.h"
#include "broker/proxy.h"

struct broker {
	struct loop *loop;
	struct proxy **proxies; /* count of them, owned */
	size_t count, cap;
	struct memory memory;
	struct broker_report {
		size_t next;       /* proxy */
		unsigned slices;   /* begun */
		const char *wrong; /* with one of those before; NULL: nothing */
	} report;                  /* of broker_log_some; all zero between two */
};

/* A broker on `loop` without proxies, whose queues hold at most `memory_limit` bytes. */
struct broker *broker_new(struct loop *loop, uint64_t memory_limit);

/* Frees the proxies, too; all connections must be gone. */
void broker_free(struct broker *broker);

/* Make room for `more` proxies, so that broker_add cannot fail. False: no memory. */
bool broker_reserve(struct broker *broker, size_t more);

/* Add a proxy (proxy_new), which the broker owns from now on. Without room or memory we end. */
void broker_add(struct broker *broker, struct proxy *proxy);

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

#endif
