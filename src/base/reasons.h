/* SPDX-License-Identifier: MIT */
/*
 * Why a connection closed and why a message was dropped. One table each: the
 * enum, the log text and the metric label all come from the same row.
 */
#ifndef BULKHEAD_BASE_REASONS_H
#define BULKHEAD_BASE_REASONS_H

#include <stdbool.h>

#define CLOSE_REASONS(X) \
	X(PEER_CLOSED, peer_closed) \
	X(SEND_TIMEOUT, send_timeout) \
	X(RECEIVE_TIMEOUT, receive_timeout) \
	X(HANDSHAKE_TIMEOUT, handshake_timeout) \
	X(HEARTBEAT_TIMEOUT, heartbeat_timeout) \
	X(PROTOCOL_ERROR, protocol_error) \
	X(MECHANISM_MISMATCH, mechanism_mismatch) \
	X(AUTH_FAILED, auth_failed) \
	X(INCOMPATIBLE_SOCKET_TYPE, incompatible_socket_type) \
	X(MESSAGE_TOO_BIG, message_too_big) \
	X(TOO_MANY_PARTS, too_many_parts) \
	X(BAD_ROUTING_ID, bad_routing_id) \
	X(DUPLICATE_ROUTING_ID, duplicate_routing_id) \
	X(CONNECT_FAILED, connect_failed) \
	X(CONNECT_TIMEOUT, connect_timeout) \
	X(IO_ERROR, io_error) \
	X(OVER_LIMIT, over_limit) \
	X(NO_MEMORY, no_memory) \
	X(ADMIN, admin) \
	X(RELOAD, reload) \
	X(SHUTDOWN, shutdown)

#define DROP_REASONS(X) \
	X(UNROUTABLE, unroutable) \
	X(QUEUE_FULL, queue_full) \
	X(PEER_GONE, peer_gone) \
	X(MALFORMED, malformed) \
	X(UNDELIVERABLE, undeliverable) \
	X(LATE_REPLY, late_reply) \
	X(TOO_BIG, too_big) \
	X(NO_SUBSCRIBER, no_subscriber) \
	X(SHUTDOWN, shutdown)

#define CLOSE_ENUM(upper, lower) CLOSE_##upper,
#define DROP_ENUM(upper, lower) DROP_##upper,
enum close_reason { CLOSE_REASONS(CLOSE_ENUM) CLOSE_REASON_COUNT };
enum drop_reason { DROP_REASONS(DROP_ENUM) DROP_REASON_COUNT };
#undef CLOSE_ENUM
#undef DROP_ENUM

/* The reason's name as logs and metrics spell it; static text. */
const char *close_reason_name(enum close_reason reason);
const char *drop_reason_name(enum drop_reason reason);

/*
 * Did a limit of ours close the peer? Then *option is the option that sets the limit, or NULL when
 * there are several and the detail says which one (static text).
 */
bool close_reason_is_limit(enum close_reason reason, const char **option);

#endif
