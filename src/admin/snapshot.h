/* SPDX-License-Identifier: MIT */
/*
 * What the broker looks like at the end of one turn, as plain data: the message process fills it,
 * the admin process gets it as a blob and makes text of it. Nothing in it points back.
 */
#ifndef BULKHEAD_ADMIN_SNAPSHOT_H
#define BULKHEAD_ADMIN_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "admin/blob.h"
#include "base/log.h"
#include "broker/broker.h"
#include "net/connector.h"
#include "net/endpoint.h"
#include "net/listener.h"

enum {
	SNAPSHOT_COUNTERS_MS = 100, /* so long one is shown ... */
	SNAPSHOT_PEERS_MS = 500,    /* ... and one with all connections, which costs more */
	SNAPSHOT_STATE_MAX = 16,
	SNAPSHOT_FILE_MAX = 256,
	SNAPSHOT_INSTANCE_MAX = 64,
	SNAPSHOT_NAMED = 3 /* peers of a side that are named as ill */
};

/* What a peer may be that somebody has to look at. */
enum snapshot_ill { SNAPSHOT_SUSPECT, SNAPSHOT_STALLED, SNAPSHOT_SILENT, SNAPSHOT_ILLS };

enum snapshot_poison { SNAPSHOT_CLEAN, SNAPSHOT_ARMED, SNAPSHOT_POISONED };

struct snapshot_side {
	struct counters counters;
	/* connections by enum conn_state; these two are not ready: */
	uint32_t in_state[SIDE_STATES];
	uint32_t suspects; /* workers that would be, and let answer_timeout pass */
	uint32_t leaving;  /* peers that would be, and drain */
	uint64_t named[SNAPSHOT_ILLS]
		      [SNAPSHOT_NAMED]; /* ids of the first that are ill; 0: no more */
	struct histogram forward;
};

struct snapshot_proxy {
	char name[64];
	bool paused; /* by an operator */
	bool draining;
	char contested_id[PROXY_CONTESTED_MAX]; /* that two clients had a while ago; empty: none */
	struct histogram answers; /* of workers; empty where requests are not tracked */
	struct snapshot_side side[PROXY_SIDES];
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

/* One connection. */
struct snapshot_peer {
	uint64_t id;
	uint32_t proxy; /* index */
	uint8_t side;
	uint8_t state;    /* enum conn_state */
	uint8_t socktype; /* valid once it was ready */
	uint8_t zmtp_minor;
	bool was_ready, dialled, reading, leaving;
	bool suspect;   /* a worker that let answer_timeout pass */
	bool silent;    /* a worker that holds requests and has sent nothing for silent_after */
	uint8_t poison; /* enum snapshot_poison */
	uint64_t queued, queued_bytes;   /* for it */
	uint64_t waiting, waiting_bytes; /* of it, for a receiver */
	uint64_t part_bytes;             /* of a message that it has not finished */
	uint64_t outstanding;            /* requests that a worker holds */
	uint64_t messages_in, messages_out, bytes_in, bytes_out;
	int64_t age_ms, idle_ms;      /* since it came; since its last byte */
	int64_t blocked_ms;           /* for so long its kernel took nothing; 0: it does */
	uint32_t address, routing_id; /* where in texts */
	uint16_t address_len, routing_id_len;
};

struct snapshot {
	char state[SNAPSHOT_STATE_MAX];       /* running, draining, stopping */
	char instance[SNAPSHOT_INSTANCE_MAX]; /* which of several brokers on this machine */
	pid_t pid;                            /* of the message process */
	enum log_level log_level;
	int64_t uptime_ms;
	uint64_t max_fds;      /* descriptors that it may have */
	uint64_t admin_starts; /* of the admin process */
	/* 1: it runs with the last good configuration, as its file has mistakes */
	uint64_t last_good;
	char file[SNAPSHOT_FILE_MAX]; /* then: which */
	int wrong_line;               /* ... and the first mistake's line; 0: it cannot be read */
	int64_t taken_ms;             /* on the clock of base/clock.h */
	uint64_t memory_bytes, memory_limit;
	uint32_t connections, max_connections;
	uint64_t turns;
	struct histogram lag;
	struct snapshot_proxy *proxies;
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
 * Fill an empty one (all zero) from the broker, on its thread, when nothing is under way; with
 * `peers`, with every connection, too. False without memory: then it may be freed, no more.
 */
bool snapshot_take(struct snapshot *s, struct broker *broker, bool peers);

/* Add an endpoint. False without memory. */
bool snapshot_add_listener(struct snapshot *s, const struct listener *listener);
bool snapshot_add_connector(struct snapshot *s, const struct connector *connector);

/* As a blob's descriptor, the caller's to close; -1: no memory, or no descriptor. */
int snapshot_share(const struct snapshot *s);

/* The snapshot behind a descriptor, which stays the caller's. NULL: no memory, or it is none. */
struct snapshot *snapshot_map(int fd);

/* One that was taken, or mapped. NULL is fine. */
void snapshot_free(struct snapshot *s);

/* clean, armed, poisoned */
const char *snapshot_poison_name(int poison);

#endif
