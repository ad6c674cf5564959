/* SPDX-License-Identifier: MIT */
/*
 * The settings of one side (frontend or backend) of a proxy, as plain data.
 *
 * daemon/config fills it; net/ and broker/ read it and never look further.
 * Durations are milliseconds and sizes are bytes; 0 means "off" or "no limit"
 * where the comment says so.
 */
#ifndef BULKHEAD_NET_OPTS_H
#define BULKHEAD_NET_OPTS_H

#include <stdbool.h>
#include <stdint.h>

enum when_full { WHEN_FULL_DROP, WHEN_FULL_PAUSE, WHEN_FULL_CLOSE };
enum balance_policy { BALANCE_ROUND_ROBIN, BALANCE_LEAST_OUTSTANDING };
enum duplicate_policy { DUPLICATE_REJECT, DUPLICATE_TAKEOVER };

struct side_opts {
	int64_t send_timeout;       /* 0: never */
	int64_t receive_timeout;    /* 0: never */
	int64_t receive_deadline;   /* 0: never */
	int64_t handshake_timeout;  /* never 0 */
	int64_t heartbeat_interval; /* 0: off */
	int64_t heartbeat_timeout;
	int64_t connect_timeout;
	int64_t reconnect_min;
	int64_t reconnect_max;
	int64_t tcp_keepalive_idle;     /* whole seconds when applied */
	int64_t tcp_keepalive_interval; /* whole seconds when applied */
	int64_t tcp_keepalive_count;    /* probes */
	int64_t reconnect_jitter;       /* percent, both ways */
	int64_t receive_hwm_bytes;
	int64_t send_hwm; /* messages; 0: the byte limit alone */
	int64_t send_hwm_bytes;
	int64_t max_message_size; /* all frames of one message, at most 1 GiB */
	int64_t max_message_parts;
	int64_t max_connections; /* 0: no limit of its own */
	int64_t send_buffer;     /* SO_SNDBUF; 0: the kernel's */
	int64_t receive_buffer;  /* SO_RCVBUF; 0: the kernel's */
	int64_t backlog;
	int64_t ipc_mode;             /* permission bits */
	int64_t when_full;            /* enum when_full */
	int64_t duplicate_routing_id; /* enum duplicate_policy */
	/* of the backend only */
	int64_t balance;         /* enum balance_policy */
	int64_t max_outstanding; /* requests one worker may hold; 0: no limit */
	int64_t answer_timeout;  /* 0: never */
	int64_t redeliver_limit;
	int64_t silent_after; /* 0: never */
	bool redeliver;
	bool replies; /* false: a request is done once it is sent */

	bool tcp_keepalive;
	uint8_t routing_id_len; /* 0: none */
	char routing_id[256];   /* NUL terminated for printing */
};

#endif
