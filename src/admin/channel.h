/* SPDX-License-Identifier: MIT */
/*
 * The messages between the two processes: all of one size, over a socketpair (SOCK_SEQPACKET). Bulk
 * data and open sockets are sent along as descriptors, only from the message process to the admin
 * process. Neither side waits: what cannot be sent at once is not sent.
 *
 * The message process trusts nothing that it receives: see channel_is_request.
 */
#ifndef BULKHEAD_ADMIN_CHANNEL_H
#define BULKHEAD_ADMIN_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CHANNEL_VERSION = 1,
	CHANNEL_ARGUMENT_MAX = 128,
	CHANNEL_SOCKETS_MAX = 16, /* listening sockets of one endpoint */
	CHANNEL_FDS_MAX = 3 + 2 * CHANNEL_SOCKETS_MAX
};

/* What the admin process serves. */
enum channel_endpoint { CHANNEL_CONTROL, CHANNEL_HTTP, CHANNEL_ENDPOINTS };

/* What a snapshot holds: counters, or counters and every connection. */
enum channel_snapshot { CHANNEL_COUNTERS, CHANNEL_PEERS, CHANNEL_SNAPSHOTS };

enum channel_kind {
	/*
	 * To the admin process. Descriptors of HELLO: the last events (recent_attach), stat and
	 * fd of the message process in /proc, if it `has_proc`, and the listening sockets of each
	 * endpoint
	 */
	CHANNEL_HELLO,
	CHANNEL_CONFIG,   /* descriptors: the configuration as text; the names of `http_hosts` */
	CHANNEL_SNAPSHOT, /* `snapshot`; a descriptor, or none: no memory */
	CHANNEL_ANSWER,   /* to the command `number`: `done`, and a text's descriptor, or none */
	CHANNEL_ENDPOINT, /* descriptors: the sockets of an endpoint that HELLO had none of */

	/* from the admin process */
	CHANNEL_ALIVE,   /* once a second */
	CHANNEL_ASK,     /* asks for the snapshot `snapshot` */
	CHANNEL_COMMAND, /* `number` (its own), `command`, `argument`; `uid` and `pid` asked for it
			  */
	CHANNEL_NOTE,    /* for the log: `note`, with `uid` and `pid` or `error` */
	CHANNEL_KINDS
};

/* Events that the message process logs for it. */
enum channel_note { CHANNEL_REFUSED, CHANNEL_ACCEPT_PAUSED, CHANNEL_NOTES };

struct channel_message {
	uint32_t version; /* set by channel_send */
	uint32_t kind;
	uint32_t snapshot; /* enum channel_snapshot */
	uint32_t command;  /* enum command */
	uint64_t number;
	uint32_t note;
	int32_t error; /* an errno */
	int64_t uid, pid;
	uint32_t done;
	uint32_t has_proc;
	uint32_t sockets[CHANNEL_ENDPOINTS]; /* of each endpoint in HELLO, of one in ENDPOINT */
	uint64_t group[CHANNEL_ENDPOINTS];   /* whose members may use each endpoint */
	char argument[CHANNEL_ARGUMENT_MAX];
};

/*
 * Send a message, with `count` descriptors, which stay the caller's. False: the other side is gone
 * or does not read.
 */
bool channel_send(int fd, const struct channel_message *m, const int *fds, size_t count);

enum channel_result {
	CHANNEL_GOT,
	CHANNEL_NOTHING, /* nothing is there */
	CHANNEL_ENDED,   /* the other side is gone */
	CHANNEL_BROKEN   /* what came is not a message of this version */
};

/*
 * Receive a message. With `fds` (room for CHANNEL_FDS_MAX), its descriptors, *count of them, become
 * the caller's, closed on exec; without `fds` they are discarded.
 */
enum channel_result channel_receive(int fd, struct channel_message *m, int *fds, size_t *count);

/*
 * True for a message that the admin process may send: every field that its kind uses is in range,
 * and every text is terminated.
 */
bool channel_is_request(const struct channel_message *m);

#endif
