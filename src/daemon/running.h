/* SPDX-License-Identifier: MIT */
/*
 * The proxies that run, with their endpoints, and those that a reload removes.
 *
 *   running_proxy_new --> running_endpoint_open, for each --> running_proxy_start
 *       --> running_endpoint_start, for each
 *   running_endpoint_drain: it is no longer listened on or dialled; its connections finish
 *       what they have (drain_timeout at most), and are closed politely as `reload`
 *   running_proxy_drain: the same for a whole proxy, which is freed when that is over
 *
 * What was opened but not started has no visible effect yet, except that it holds its address.
 */
#ifndef BULKHEAD_DAEMON_RUNNING_H
#define BULKHEAD_DAEMON_RUNNING_H

#include "admin/snapshot.h"
#include "broker/broker.h"
#include "daemon/config.h"
#include "daemon/pace.h"
#include "daemon/systemd.h"
#include "net/connector.h"
#include "net/listener.h"

struct running {
	struct loop *loop;
	struct broker *broker;
	struct systemd *systemd; /* which keeps sockets over a restart */
	struct list proxies;     /* struct running_proxy */
	struct list draining_endpoints;
	struct list draining_proxies;
	struct timer timer; /* runs while one of those two is not empty */
	struct pace pace;   /* for the lines that they log at their end */
	bool more; /* one of them was not finished in this turn, and has nothing to wait for */
	uint32_t last_origin; /* the last one that was given to a listener */
};

enum { RUNNING_DRAIN_LOG_MS = 1000 }; /* between two lines that say what a drain waits for */

struct running_proxy {
	struct list node;
	struct proxy *proxy;
	struct list endpoints; /* struct running_endpoint */
	int64_t due;           /* while it drains: when that ends at the latest ... */
	int64_t log_due;       /* ... and when to log again what it waits for */
	bool started;          /* by running_proxy_start */
	bool backend_closing;  /* ... its backend is closed, or being closed */
};

struct running_endpoint {
	struct list node;
	struct running_proxy *owner;
	int side; /* PROXY_FRONTEND or PROXY_BACKEND */
	bool binds;
	bool started; /* by running_endpoint_start */
	bool marked;  /* for reload.c: the reload removes it */
	struct endpoint spec;
	struct listener *listener; /* of a bind; NULL: it no longer listens */
	struct connector *connector;
	uint32_t origin; /* conn->origin of its connections, if it binds */
	int64_t due;     /* while it drains: when that ends at the latest */
};

void running_init(
	struct running *running, struct loop *loop, struct broker *broker, struct systemd *systemd);

/* Free all of it; every connection must be gone. The broker frees the proxies. */
void running_fini(struct running *running);

/*
 * A proxy without endpoints that nobody knows yet. Free with running_proxy_discard, or start it.
 * NULL: no memory.
 */
struct running_proxy *running_proxy_new(struct running *running, const struct config_proxy *config);

/* Free one that was never started. */
void running_proxy_discard(struct running_proxy *proxy);

/*
 * The broker and `running` own it from now on; its endpoints are still to be started. Cannot fail
 * after broker_reserve.
 */
void running_proxy_start(struct running *running, struct running_proxy *proxy);

/* The proxy of this name that is not draining, or NULL. */
struct running_proxy *running_find(const struct running *running, const char *name);

/* True while a proxy of this name is draining. */
bool running_is_draining(const struct running *running, const char *name);

/*
 * Bind `spec`, or prepare to dial it. On failure returns NULL, with nothing left behind, and writes
 * the error into error[size].
 */
struct running_endpoint *running_endpoint_open(struct running *running, struct running_proxy *proxy,
	int side, bool binds, const struct endpoint *spec, char *error, size_t size);

/* A bind that will take over the socket of another endpoint. NULL: no memory. */
struct running_endpoint *running_endpoint_await(struct running *running,
	struct running_proxy *proxy, int side, const struct endpoint *spec);

/* Take over the socket of `from`, an endpoint of any proxy. */
void running_endpoint_take(struct running_endpoint *endpoint, struct running_endpoint *from);

/* Accept, or dial. */
void running_endpoint_start(struct running *running, struct running_endpoint *endpoint);

/* The options of its side were changed: give its sockets those that concern them. */
void running_endpoint_retune(struct running_endpoint *endpoint);

/* Add all endpoints that were started to the snapshot. False: no memory. */
bool running_describe(const struct running *running, struct snapshot *snapshot);

/* Free one that was never started. */
void running_endpoint_discard(struct running_endpoint *endpoint);

/*
 * Drain it: its connections finish what they have. It is freed when they are gone, after
 * `drain_timeout` ms and the second of a polite close at the latest.
 */
void running_endpoint_drain(
	struct running *running, struct running_endpoint *endpoint, int64_t drain_timeout);

/*
 * Stop listening or dialling. For an endpoint whose proxy is about to be drained, which would do
 * that for all of its endpoints in one turn.
 */
void running_endpoint_close(struct running *running, struct running_endpoint *endpoint);

/* running_endpoint_drain for a whole proxy. */
void
running_proxy_drain(struct running *running, struct running_proxy *proxy, int64_t drain_timeout);

/* The daemon stops: stop listening and dialling; the caller closes the connections. */
void running_stop(struct running *running);

#endif
