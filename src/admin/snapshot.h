/* SPDX-License-Identifier: MIT */
/*
 * The state of the broker at the end of one turn, as plain data: the message process fills it in,
 * the admin process receives it as a blob and makes text from it. Nothing in it points back.
 */
#ifndef BULKHEAD_ADMIN_SNAPSHOT_H
#define BULKHEAD_ADMIN_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "admin/blob.h"
#include "base/log.h"
#include "broker/broker.h"
#include "broker/describe.h"
#include "net/connector.h"
#include "net/endpoint.h"
#include "net/listener.h"

enum {
	SNAPSHOT_COUNTERS_MS = 100, /* for how long a snapshot is shown ... */
	SNAPSHOT_PEERS_MS = 500,    /* ... and one with all connections, which costs more */
	SNAPSHOT_STATE_MAX = 16,
	SNAPSHOT_FILE_MAX = 256,
	SNAPSHOT_INSTANCE_MAX = 64
};

/* An endpoint that is bound or dialled. */
struct snapshot_endpoint {
	char proxy[64];
	uint8_t side;
	bool bound;                     /* otherwise dialled */
	bool works;                     /* it listens, or is connected */
	char state[SNAPSHOT_STATE_MAX]; /* listening, paused; connected, connecting, waiting */
	int64_t wait_ms;                /* until it is dialled again; 0: not waiting */
	char text[ENDPOINT_TEXT_MAX];
};

/* One connection, and where its texts are in snapshot->texts. */
struct snapshot_peer {
	struct peer_view view;
	uint32_t proxy; /* index */
	uint32_t address, routing_id;
	uint16_t address_len, routing_id_len;
};

struct snapshot {
	char state[SNAPSHOT_STATE_MAX];       /* running, draining, stopping */
	char instance[SNAPSHOT_INSTANCE_MAX]; /* which of several brokers on this machine */
	pid_t pid;                            /* of the message process */
	enum log_level log_level;
	int64_t uptime_ms;
	uint64_t max_fds;      /* descriptors that it may have */
	uint64_t admin_starts; /* starts of the admin process */
	/* 1: it runs with the last good configuration, because its file has errors */
	uint64_t last_good;
	char file[SNAPSHOT_FILE_MAX]; /* then: that file */
	int wrong_line;               /* ... and the line of its first error; 0: it is unreadable */
	int64_t taken_ms;             /* on the clock of base/clock.h */
	struct loop_view loop;
	struct proxy_view *proxies;
	size_t proxy_count;
	struct snapshot_endpoint *endpoints;
	size_t endpoint_count;
	bool with_peers;
	struct snapshot_peer *peers;
	size_t peer_count;
	char *texts; /* addresses and routing ids */
	size_t texts_len, texts_size;
	struct blob blob; /* mapped: the arrays are in it */
};

/*
 * Fill an empty one (all zero) from the broker, between two turns; with `peers`, every connection,
 * too. False without memory: then it may only be freed.
 */
bool snapshot_take(struct snapshot *s, const struct broker *broker, bool peers);

/* Add an endpoint of a side of the proxy of this name. False without memory. */
bool snapshot_add_listener(
	struct snapshot *s, const char *proxy, int side, const struct listener *listener);
bool snapshot_add_connector(
	struct snapshot *s, const char *proxy, int side, const struct connector *connector);

/* A descriptor of it as a blob, which the caller closes; -1: no memory, or no descriptor. */
int snapshot_share(const struct snapshot *s);

/*
 * Map the snapshot of a descriptor, which stays the caller's. NULL: no memory, or not a snapshot.
 */
struct snapshot *snapshot_map(int fd);

/* Free one that was taken, or mapped. NULL is fine. */
void snapshot_free(struct snapshot *s);

/* clean, armed, poisoned */
const char *snapshot_poison_name(enum peer_poison poison);

#endif
