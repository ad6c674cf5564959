/* SPDX-License-Identifier: MIT */
/*
 * A broker with one proxy, on a real loop, and raw ZMTP peers on socket pairs: what the tests of
 * broker/ share. A test program uses it as its fixture; each test has a world of its own.
 */
#ifndef BULKHEAD_TESTS_WORLD_H
#define BULKHEAD_TESTS_WORLD_H

#include "broker/broker.h"
#include "settle.h"
#include "unit.h"

extern struct loop *loop;
extern struct broker *broker;
extern struct proxy *proxy;
extern struct settle settling; /* turns `loop`, without a check */
extern uint8_t minor;          /* the version of peers that join from now on is 3.minor */

enum { HOUR_MS = 3600000 };

/* Begin with a proxy called "test" whose sides both have these options. */
void world_begin_with(const struct proxy_opts *opts);

/* ... with those that most tests use: limits of 1 MiB, and routing ids are taken over. */
void world_begin(void);

/* Close every peer and free the world; nothing may be left in it. */
void world_end(void);

/* Turn the loop until nothing happens any more; then the conservation law must hold. */
void settle(void);

/*
 * A raw peer of socket type `type` after its handshake, on a side of `proxy`; `id`, its routing id,
 * may be NULL, and more[len] are further properties of its READY. Returns its descriptor.
 */
int join_with(int side, const char *type, const char *id, const char *more, size_t len);
int join(int side, const char *type, const char *id);

/* The connection that joined last on this side. */
struct conn *last_conn(int side);

/* The client that has this routing id, or NULL. */
struct peer *client_called(const char *id);

/* Write len bytes as the peer of `fd`, and settle. */
void put(int fd, const char *bytes, size_t len);

/* The peer of `fd` has received these bytes, and no others. */
void expect(int fd, const char *bytes, size_t len);
void expect_nothing(int fd);

/* Turn until the broker has closed the connection of `fd`. */
void await_end(int fd);

#define PUT(fd, bytes) put(fd, bytes, sizeof(bytes) - 1)
#define EXPECT(fd, bytes) expect(fd, bytes, sizeof(bytes) - 1)

/* Set these options of the backend, and let them take effect. Times are in ms. */
void track(bool redeliver, int64_t max_outstanding, int64_t answer_timeout);

#endif
