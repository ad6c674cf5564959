/* SPDX-License-Identifier: MIT */
#include "daemon/config.h"
#include "daemon/options.h"

#define MS INT64_C(1)
#define SECOND (1000 * MS)
#define MONTH (SECOND * 3600 * 24 * 30)
#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/*
 * Where an option stands in the file, and where its value is stored. The two go together: which
 * struct an offset belongs to follows from the section, see options.h.
 */
#define BROKER(field) .sections = SECTION_BROKER, .offset = offsetof(struct config_broker, field)
#define PROXY(field) .sections = SECTION_PROXY, .offset = offsetof(struct config_proxy_opts, field)
#define SIDES (SECTION_SIDES | SECTION_DEFAULTS)
#define SIDE(field) .sections = SIDES, .offset = offsetof(struct proxy_opts, side.field)
#define QUEUE(field) .sections = SIDES, .offset = offsetof(struct proxy_opts, queue.field)
#define QUEUE_BACKEND(field) \
	.sections = SECTION_BACKEND, .offset = offsetof(struct proxy_opts, queue.field)

const struct option_row option_table[] = {
	{
		.name = "log_level",
		BROKER(log_level),
		.type = OPTION_CHOICE,
		.choices = "error|warning|notice|info|debug",
		.initial = "info",
		.help = "Log events of this level, and worse ones.",
	},
	{
		.name = "control",
		BROKER(control),
		.type = OPTION_SOCKET,
		.initial = RUNSTATEDIR "/bulkhead/control.sock",
		.reload = RELOAD_RESTART,
		.help = "Listen for bulkheadctl on this Unix socket; empty: do not.",
	},
	{
		.name = "http",
		BROKER(http),
		.type = OPTION_HTTP,
		.initial = "",
		.reload = RELOAD_RESTART,
		.help = "Serve metrics, health and the status page, read-only, on this tcp "
			"endpoint; empty: do not.",
	},
	{
		.name = "http_hosts",
		BROKER(http_hosts),
		.type = OPTION_HOSTS,
		.initial = "",
		.help = "Serve HTTP under these host names, besides addresses and localhost; "
			"may be repeated.",
	},
	{
		.name = "drain_timeout",
		BROKER(drain_timeout),
		.type = OPTION_DURATION,
		.min = MS,
		.max = MONTH,
		.or_zero = true,
		.initial = "10s",
		.help = "Let a stop wait this long for replies to requests that were accepted.",
	},
	{
		.name = "memory_limit",
		BROKER(memory_limit),
		.type = OPTION_SIZE,
		.min = MIB,
		.max = GIB * 1024 * 1024,
		.initial = "1GiB",
		.help = "Hold at most this much in all queued messages together, with their "
			"bookkeeping.",
	},
	{
		.name = "max_connections",
		BROKER(max_connections),
		.type = OPTION_INT,
		.min = 1,
		.max = 1000000,
		.or_zero = true,
		.initial = "0",
		.help = "Allow this many connections over all sides; 0: as many as "
			"RLIMIT_NOFILE allows.",
	},
	{
		.name = "user",
		BROKER(user),
		.type = OPTION_USER,
		.initial = "",
		.reload = RELOAD_RESTART,
		.help = "Become this user after binding, if started as root; empty: stay the same.",
	},
	{
		.name = "group",
		BROKER(group),
		.type = OPTION_GROUP,
		.initial = "",
		.reload = RELOAD_RESTART,
		.help = "Become this group after binding, if started as root; empty: the "
			"user's own.",
	},

	/* [proxy] */
	{
		.name = "mode",
		PROXY(mode),
		.type = OPTION_CHOICE,
		.choices = "queue|forwarder|streamer",
		.available = 1,
		.initial = "queue",
		.reload = RELOAD_RESTART,
		.help = "Pass messages on in this mode: queue (forwarder and streamer are not "
			"available yet).",
	},

	/* [frontend], [backend] and [defaults] */
	{
		.name = "bind",
		.sections = SECTION_SIDES,
		.type = OPTION_ENDPOINT,
		.help = "Listen on this endpoint; may be repeated.",
	},
	{
		.name = "connect",
		.sections = SECTION_SIDES,
		.type = OPTION_ENDPOINT,
		.help = "Connect to this endpoint, and again when the connection ends; may be "
			"repeated.",
	},
	{
		.name = "send_timeout",
		SIDE(send_timeout),
		.type = OPTION_DURATION,
		.min = MS,
		.max = MONTH,
		.or_zero = true,
		.initial = "10s",
		.help = "Cancel a message that the peer does not take for this long; 0: never.",
	},
	{
		.name = "receive_timeout",
		SIDE(receive_timeout),
		.type = OPTION_DURATION,
		.min = MS,
		.max = MONTH,
		.or_zero = true,
		.initial = "30s",
		.help = "Close a peer that is silent for this long inside a message; 0: never.",
	},
	{
		.name = "receive_deadline",
		SIDE(receive_deadline),
		.type = OPTION_DURATION,
		.min = MS,
		.max = MONTH,
		.or_zero = true,
		.initial = "5m",
		.help = "Close a peer that takes longer than this to send one message; 0: never.",
	},
	{
		.name = "receive_hwm_bytes",
		SIDE(receive_hwm_bytes),
		.type = OPTION_SIZE,
		.min = 1,
		.max = GIB,
		.initial = "1MiB",
		.help = "Read this far ahead from one peer while the other side has no room.",
	},
	{
		.name = "handshake_timeout",
		SIDE(handshake_timeout),
		.type = OPTION_DURATION,
		.min = MS,
		.max = MONTH,
		.initial = "10s",
		.reload = RELOAD_NEXT,
		.help = "Close a connection that is not ready this long after accept or connect.",
	},
	{
		.name = "heartbeat_interval",
		SIDE(heartbeat_interval),
		.type = OPTION_DURATION,
		.min = MS,
		.max = MONTH,
		.or_zero = true,
		.initial = "10s",
		.help = "Send PING to a peer (ZMTP 3.1 or later) after this much silence; 0: "
			"never.",
	},
	{
		.name = "heartbeat_timeout",
		SIDE(heartbeat_timeout),
		.type = OPTION_DURATION,
		.min = MS,
		.max = MONTH,
		.initial = "30s",
		.help = "Close a peer this long after a PING if no byte comes and its host "
			"acknowledges nothing.",
	},
	{
		.name = "send_hwm",
		SIDE(send_hwm),
		.type = OPTION_INT,
		.min = 1,
		.max = INT32_MAX,
		.or_zero = true,
		.initial = "0",
		.help = "Queue at most this many messages for one peer; 0: send_hwm_bytes "
			"alone limits them.",
	},
	{
		.name = "send_hwm_bytes",
		SIDE(send_hwm_bytes),
		.type = OPTION_SIZE,
		.min = 1,
		.max = 64 * GIB,
		.initial = "16MiB",
		.help = "Queue at most this many bytes for one peer; one message always fits.",
	},
	{
		.name = "when_full",
		QUEUE(when_full),
		.type = OPTION_CHOICE,
		.choices = "drop|pause|close",
		.initial = "drop",
		.help = "If a client's queue is full, drop the reply, pause the client's "
			"requests, or close the client.",
	},
	{
		.name = "max_message_size",
		SIDE(max_message_size),
		.type = OPTION_SIZE,
		.min = 1,
		.max = GIB,
		.initial = "64MiB",
		.help = "Accept messages of at most this size, all frames together.",
	},
	{
		.name = "max_message_parts",
		SIDE(max_message_parts),
		.type = OPTION_INT,
		.min = 1,
		.max = 1000000,
		.initial = "1024",
		.help = "Accept messages of at most this many frames.",
	},
	{
		.name = "max_connections",
		SIDE(max_connections),
		.type = OPTION_INT,
		.min = 1,
		.max = 1000000,
		.or_zero = true,
		.initial = "0",
		.help = "Allow this many connections on this side; 0: [broker] max_connections "
			"alone limits them.",
	},
	{
		.name = "reconnect_min",
		SIDE(reconnect_min),
		.type = OPTION_DURATION,
		.min = MS,
		.max = MONTH,
		.initial = "100ms",
		.help = "Wait this long before connecting again; each failure doubles the delay.",
	},
	{
		.name = "reconnect_max",
		SIDE(reconnect_max),
		.type = OPTION_DURATION,
		.min = MS,
		.max = MONTH,
		.initial = "30s",
		.help = "Wait at most this long before connecting again.",
	},
	{
		.name = "reconnect_jitter",
		SIDE(reconnect_jitter),
		.type = OPTION_INT,
		.min = 1,
		.max = 100,
		.or_zero = true,
		.initial = "25",
		.help = "Vary the delay before connecting again by this many percent, both ways.",
	},
	{
		.name = "connect_timeout",
		SIDE(connect_timeout),
		.type = OPTION_DURATION,
		.min = MS,
		.max = MONTH,
		.initial = "5s",
		.reload = RELOAD_NEXT,
		.help = "Give up an attempt to connect to one address after this long.",
	},
	{
		.name = "duplicate_routing_id",
		QUEUE(duplicate_routing_id),
		.type = OPTION_CHOICE,
		.choices = "reject|takeover",
		.initial = "takeover",
		.help = "Reject a second client with the same routing id, or let it take over.",
	},
	{
		.name = "routing_id",
		.sections = SECTION_SIDES | SECTION_DEFAULTS,
		.type = OPTION_ROUTING_ID,
		.initial = "",
		.reload = RELOAD_NEXT,
		.help = "Present this routing id (the Identity property) to peers; empty: none.",
	},
	{
		.name = "tcp_keepalive",
		SIDE(tcp_keepalive),
		.type = OPTION_BOOL,
		.initial = "yes",
		.reload = RELOAD_NEXT,
		.help = "Probe silent TCP connections (SO_KEEPALIVE): yes or no.",
	},
	{
		.name = "tcp_keepalive_idle",
		SIDE(tcp_keepalive_idle),
		.type = OPTION_DURATION,
		.min = SECOND,
		.max = 32767 * SECOND,
		.initial = "1m",
		.reload = RELOAD_NEXT,
		.help = "Send the first probe after this much silence, in whole seconds "
			"(TCP_KEEPIDLE).",
	},
	{
		.name = "tcp_keepalive_interval",
		SIDE(tcp_keepalive_interval),
		.type = OPTION_DURATION,
		.min = SECOND,
		.max = 32767 * SECOND,
		.initial = "10s",
		.reload = RELOAD_NEXT,
		.help = "Wait this long between two probes, in whole seconds (TCP_KEEPINTVL).",
	},
	{
		.name = "tcp_keepalive_count",
		SIDE(tcp_keepalive_count),
		.type = OPTION_INT,
		.min = 1,
		.max = 127,
		.initial = "5",
		.reload = RELOAD_NEXT,
		.help = "Give a connection up after this many probes without an answer "
			"(TCP_KEEPCNT).",
	},
	{
		.name = "send_buffer",
		SIDE(send_buffer),
		.type = OPTION_SIZE,
		.min = 1,
		.max = GIB,
		.or_zero = true,
		.initial = "0",
		.reload = RELOAD_RESTART,
		.help = "Set the size of the socket's send buffer (SO_SNDBUF); 0: the kernel "
			"chooses it.",
	},
	{
		.name = "receive_buffer",
		SIDE(receive_buffer),
		.type = OPTION_SIZE,
		.min = 1,
		.max = GIB,
		.or_zero = true,
		.initial = "0",
		.reload = RELOAD_RESTART,
		.help = "Set the size of the socket's receive buffer (SO_RCVBUF); 0: the "
			"kernel chooses it.",
	},
	{
		.name = "backlog",
		SIDE(backlog),
		.type = OPTION_INT,
		.min = 1,
		.max = 65535,
		.initial = "1024",
		.help = "Let this many connections wait to be accepted (see listen(2)).",
	},
	{
		.name = "ipc_mode",
		SIDE(ipc_mode),
		.type = OPTION_OCTAL,
		.max = 0777,
		.initial = "0660",
		.help = "Give the file of an ipc:// socket these permissions, in octal.",
	},
	{
		.name = "mechanism",
		.sections = SECTION_SIDES | SECTION_DEFAULTS,
		.type = OPTION_LATER,
		.initial = "null",
		.help = "Use this security mechanism: null (plain and curve are not available "
			"yet).",
	},
	{
		.name = "plain_file",
		.sections = SECTION_SIDES | SECTION_DEFAULTS,
		.type = OPTION_LATER,
		.initial = "",
		.help = "This option is not available yet.",
	},
	{
		.name = "curve_secret_key_file",
		.sections = SECTION_SIDES | SECTION_DEFAULTS,
		.type = OPTION_LATER,
		.initial = "",
		.help = "This option is not available yet.",
	},
	{
		.name = "curve_authorized_keys_file",
		.sections = SECTION_SIDES | SECTION_DEFAULTS,
		.type = OPTION_LATER,
		.initial = "",
		.help = "This option is not available yet.",
	},
	{
		.name = "curve_server_key",
		.sections = SECTION_SIDES | SECTION_DEFAULTS,
		.type = OPTION_LATER,
		.initial = "",
		.help = "This option is not available yet.",
	},
	{
		.name = "allow",
		.sections = SECTION_SIDES | SECTION_DEFAULTS,
		.type = OPTION_LATER,
		.initial = "",
		.help = "This option is not available yet.",
	},
	{
		.name = "deny",
		.sections = SECTION_SIDES | SECTION_DEFAULTS,
		.type = OPTION_LATER,
		.initial = "",
		.help = "This option is not available yet.",
	},

	/* [backend] */
	{
		.name = "balance",
		QUEUE_BACKEND(balance),
		.type = OPTION_CHOICE,
		.choices = "round_robin|least_outstanding",
		.initial = "least_outstanding",
		.help = "Give a request to the ready worker with the fewest unanswered ones, "
			"or to each in turn.",
	},
	{
		.name = "replies",
		QUEUE_BACKEND(replies),
		.type = OPTION_BOOL,
		.initial = "yes",
		.help = "Expect replies; no: traffic is one-way, and a request is finished with "
			"once it is sent.",
	},
	{
		.name = "max_outstanding",
		QUEUE_BACKEND(max_outstanding),
		.type = OPTION_INT,
		.min = 1,
		.max = INT32_MAX,
		.or_zero = true,
		.initial = "0",
		.help = "Let one worker hold at most this many unanswered requests; 0: any number.",
	},
	{
		.name = "redeliver",
		QUEUE_BACKEND(redeliver),
		.type = OPTION_BOOL,
		.initial = "no",
		.help = "Keep each request until its reply has passed; if its worker is gone, "
			"send it to another.",
	},
	{
		.name = "answer_timeout",
		QUEUE_BACKEND(answer_timeout),
		.type = OPTION_DURATION,
		.min = MS,
		.max = MONTH,
		.or_zero = true,
		.initial = "0",
		.help = "Give a worker that holds a request for longer than this no more "
			"until it answers; 0: never.",
	},
	{
		.name = "silent_after",
		QUEUE_BACKEND(silent_after),
		.type = OPTION_DURATION,
		.min = MS,
		.max = MONTH,
		.or_zero = true,
		.initial = "5s",
		.help = "Show a worker as silent if it holds requests and sends nothing for "
			"longer than this; 0: never.",
	},
	{
		.name = "redeliver_limit",
		QUEUE_BACKEND(redeliver_limit),
		.type = OPTION_INT,
		.min = 1,
		.max = 1000,
		.initial = "3",
		.help = "Drop a request that was delivered this many times without a reply.",
	},
};

const size_t option_count = sizeof(option_table) / sizeof(option_table[0]);
