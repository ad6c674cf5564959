/* SPDX-License-Identifier: MIT */
/*
 * What the two processes say to each other: messages of one size over a socketpair
 * (SOCK_SEQPACKET). Bulk, and open sockets, go along as descriptors, from the message process to
 * the admin process alone. Nobody waits: what cannot be sent at once is not sent.
 *
 * The message process believes nothing that comes from the other side: channel_is_request.
 */
#ifndef BULKHEAD_ADMIN_CHANNEL_H
#define BULKHEAD_ADMIN_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CHANNEL_VERSION = 1,
	CHANNEL_ARGUMENT_MAX = 128,
	CHANNEL_DOORS_MAX = 16, /* listening sockets of one door */
	CHANNEL_FDS_MAX = 3 + 2 * CHANNEL_DOORS_MAX
};

/* Who listens where. */
enum channel_door { CHANNEL_CONTROL, CHANNEL_HTTP, CHANNEL_DOORS };

/* What a snapshot holds. */
enum channel_look { CHANNEL_COUNTERS, CHANNEL_PEERS, CHANNEL_LOOKS };

enum channel_kind {
	/*
	 * To the admin process. Descriptors of HELLO: the last events (recent_attach), stat and
	 * fd of the message process in /proc, if it `has_proc`, and the listening sockets of each
	 * door
	 */
	CHANNEL_HELLO,
	CHANNEL_CONFIG,   /* descriptors: the configuration as text; the names of `http_hosts` */
	CHANNEL_SNAPSHOT, /* `look`; a descriptor, or none: no memory */
	CHANNEL_ANSWER,   /* of the command `number`: `done`, and a text's descriptor, or none */
	CHANNEL_DOOR,     /* descriptors: the listening sockets of a door that HELLO had none of */

	/* from it */
	CHANNEL_ALIVE,   /* once a second */
	CHANNEL_LOOK,    /* asks for the snapshot `look` */
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
	uint32_t look;
	uint32_t command; /* enum command */
	uint64_t number;
	uint32_t note;
	int32_t error; /* an errno */
	int64_t uid, pid;
	uint32_t done;
	uint32_t has_proc;
	uint32_t sockets[CHANNEL_DOORS]; /* of each door in HELLO, of one in DOOR */
	uint64_t group[CHANNEL_DOORS];   /* whose members may use it */
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
	CHANNEL_BROKEN   /* what came is no message of this version */
};

/*
 * Take a message. With `fds` (room for CHANNEL_FDS_MAX), its descriptors, *count of them, are the
 * caller's, closed on exec; without, they are thrown away.
 */
enum channel_result channel_receive(int fd, struct channel_message *m, int *fds, size_t *count);

/* May the admin process send this? Every field that its kind has is in range, and is ended. */
bool channel_is_request(const struct channel_message *m);

#endif
