/* SPDX-License-Identifier: MIT */
/*
 * A proxy and its peers as plain data, to be shown to an operator: nothing in a view points back
 * into the broker, and its numbers are of one moment.
 */
#ifndef BULKHEAD_BROKER_DESCRIBE_H
#define BULKHEAD_BROKER_DESCRIBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/counters.h"
#include "base/histogram.h"
#include "broker/proxy.h"
#include "net/conn.h"

/* Faults of a peer that an operator has to look at. */
enum peer_fault { PEER_SUSPECT, PEER_STALLED, PEER_SILENT, PEER_FAULTS };

enum peer_poison { PEER_CLEAN, PEER_ARMED, PEER_POISONED };

enum { SIDE_NAMED_PEERS = 3 }; /* peers of a side that are named for each fault */

struct side_view {
	struct counters counters;
	/* connections by enum conn_state; suspect and draining peers are not counted as ready: */
	uint32_t in_state[CONN_STATES];
	uint32_t suspects; /* workers that let answer_timeout pass */
	uint32_t draining; /* peers that get nothing new */
	/* ids of the first peers with each fault; 0: no more */
	uint64_t named[PEER_FAULTS][SIDE_NAMED_PEERS];
	struct histogram forward; /* from a message's last byte in to its last byte out */
};

struct proxy_view {
	char name[64];
	bool paused; /* by an operator */
	bool draining;
	char contested_id[PROXY_CONTESTED_MAX]; /* that two clients had lately; "": none */
	struct histogram answers; /* how long workers took; empty if requests are not tracked */
	struct side_view side[PROXY_SIDES];
};

/* One connection. */
struct peer_view {
	uint64_t id;
	uint8_t side;     /* PROXY_FRONTEND or PROXY_BACKEND */
	uint8_t state;    /* enum conn_state */
	uint8_t poison;   /* enum peer_poison */
	uint8_t socktype; /* enum socktype; valid if was_ready, like zmtp_minor */
	uint8_t zmtp_minor;
	bool was_ready, dialled, reading, draining;
	bool suspect; /* a worker that let answer_timeout pass */
	bool silent;  /* a worker that holds requests and has sent nothing for silent_after */
	uint64_t queued, queued_bytes;   /* for the peer */
	uint64_t waiting, waiting_bytes; /* from the peer, for a receiver */
	uint64_t part_bytes;             /* of a message that the peer has not finished */
	uint64_t outstanding;            /* requests that a worker holds */
	uint64_t messages_in, messages_out, bytes_in, bytes_out;
	int64_t age_ms, idle_ms; /* since it connected; since its last byte */
	int64_t blocked_ms;      /* for how long the kernel has taken nothing; 0: not blocked */
};

/* Texts of a peer, which do not fit into a view. Valid during the call of `see`. */
struct peer_text {
	const char *address;
	const uint8_t *routing_id; /* NULL: the peer has none */
	size_t routing_id_len;
};

/* Fill in the view of a proxy. Looks at a few thousand peers at most, if any has a fault. */
void proxy_describe(const struct proxy *proxy, struct proxy_view *view);

/* Call `see` for each connection of a side, ready or not. */
void proxy_describe_peers(const struct proxy *proxy, int side,
	void (*see)(void *arg, const struct peer_view *view, const struct peer_text *text),
	void *arg);

#endif
