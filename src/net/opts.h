/* SPDX-License-Identifier: MIT */
/*
 * The settings of one side (frontend or backend) of a proxy, as plain data.
 *
 * daemon/config fills it; net/ reads it and never looks further. What only the broker reads is in
 * broker/opts.h.
 * Durations are milliseconds and sizes are bytes; 0 means "off" or "no limit"
 * where the comment says so.
 */
#ifndef BULKHEAD_NET_OPTS_H
#define BULKHEAD_NET_OPTS_H

#include <stdbool.h>
#include <stdint.h>

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
	int64_t ipc_mode; /* permission bits */
	bool tcp_keepalive;
	uint8_t routing_id_len; /* 0: none */
	char routing_id[256];   /* NUL terminated for printing */
};

#endif
