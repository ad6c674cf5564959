/* SPDX-License-Identifier: MIT */
/*
 * One ZMTP connection, sans I/O: bytes go in, events come out. No socket, no
 * clock, no log. Feeding it byte by byte or all at once gives the same events,
 * except that the pieces of a message are cut at other places.
 *
 *      greeting --> handshake --> traffic
 *          \____________\___________\____> bad (final)
 *
 * Usage: call session_pull on a buffer, handle the event, drop the `used` bytes
 * from the buffer's front, and repeat until SESSION_MORE.
 *
 * Messages are not decoded: they come out as their wire image, whole frames with
 * their headers, because the same bytes leave on the other side. Commands
 * between two frames are cut out; reserved flag bits are cleared in place.
 */
#ifndef BULKHEAD_ZMTP_SESSION_H
#define BULKHEAD_ZMTP_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/reasons.h"
#include "zmtp/frame.h"
#include "zmtp/greeting.h"
#include "zmtp/mechanism.h"
#include "zmtp/socktype.h"
#include "zmtp/wire.h"

/* Shared by all sessions of one side; outlives them. */
struct session_config {
	const struct mechanism *mechanism;
	enum socktype type; /* ours */
	unsigned accepts;   /* bit (1 << enum socktype) per type that may connect */
	bool as_server;
	bool untyped_is_dealer;  /* accept a READY without Socket-Type, as libzmtp sends it */
	const uint8_t *identity; /* the identity that we present; identity_len 0-255 */
	size_t identity_len;
	uint64_t max_message_size; /* bodies of all frames of a message */
	uint32_t max_message_parts;
	/*
	 * Messages from the peer begin with a routing id that we put there before: its frame counts
	 * for no limit. A message over a limit is discarded instead of refused.
	 */
	bool enveloped;
	bool hears_draining; /* our READY says that we understand DRAINING: see wire.h */
};

enum session_event_kind {
	SESSION_MORE,      /* all bytes were used; there is no other event */
	SESSION_SEND,      /* data[len] must be sent, a unit of its own */
	SESSION_READY,     /* the handshake is over: peer_type, peer identity are known */
	SESSION_PART,      /* data[len] belongs to the message under way */
	SESSION_MESSAGE,   /* data[len] completes the message under way */
	SESSION_DISCARD,   /* data[len] belongs to a message over a limit, as do the parts before */
	SESSION_DISCARDED, /* the same, and it is complete; `detail` names the limit's option */
	SESSION_COMMAND,   /* a command came and was handled */
	/* DRAINING came: the peer is about to leave, and wants no messages */
	SESSION_DRAINING,
	SESSION_BYE, /* BYE came: the peer got our DRAINING, and sends no message after this */
	SESSION_BAD  /* close with `reason`; the session takes no more bytes */
};

struct session_event {
	const uint8_t *data; /* SEND, PART, MESSAGE, DISCARD: valid until the next pull */
	size_t len;
	size_t used;              /* bytes taken from the buffer, for every kind */
	enum close_reason reason; /* BAD */
	const char *detail;       /* BAD, DISCARDED: static text, or text in the session */
};

/* The limit that the message under way exceeds. */
enum session_limit { SESSION_NO_LIMIT, SESSION_SIZE_LIMIT, SESSION_PARTS_LIMIT };

enum session_phase { SESSION_GREETING, SESSION_HANDSHAKE, SESSION_TRAFFIC, SESSION_CLOSED };

/* One for each connection, so every byte counts. Members that a message needs come first. */
struct session {
	const struct session_config *config;
	enum session_phase phase;

	/*
	 * Message and frame under way. If size and body_left were neighbours, gcc would store them
	 * as a vector, which takes more instructions than two stores.
	 */
	uint32_t parts;
	uint64_t size;
	uint8_t header_len;
	bool frame_more;
	bool in_command;
	bool ready_pending;
	uint32_t ping_ttl;                /* the last PING's TTL in ms; 0: none */
	uint64_t body_left;               /* of the frame */
	uint8_t header[WIRE_LONG_HEADER]; /* the part of a header that has come so far */

	struct greeting greeting;

	/* the peer, known from SESSION_READY on */
	enum socktype peer_type;
	uint8_t peer_identity_len;
	enum close_reason bad_reason : 8;
	enum session_limit over : 8; /* the message is read to its end and discarded */
	/* the last command: SESSION_DRAINING, SESSION_BYE */
	enum session_event_kind said : 7;
	bool peer_hears_draining : 1;
	uint8_t *peer_identity; /* peer_identity_len bytes; freed by session_drop_identity */

	/* command under way: its first command_keep bytes */
	uint8_t *command;
	uint32_t command_len, command_keep;

	/* output of the handshake and of PINGs, until the next pull */
	uint8_t *out;
	uint32_t out_len, out_size;

	const char *bad_detail; /* with bad_reason; NULL: none */
	/* the text of bad_detail if it quotes what the peer sent, or NULL */
	char *detail_text;
};

/* A new session. Its first pull, even of no bytes, gives the first stage of the greeting. */
void session_init(struct session *s, const struct session_config *config);

/* Free what the session holds. */
void session_fini(struct session *s);

/*
 * Take bytes from buf[len] up to the next event. The buffer is written to:
 * reserved flag bits of message frames are cleared. Call again with the rest
 * until SESSION_MORE or SESSION_BAD.
 */
enum session_event_kind
session_pull(struct session *s, uint8_t *buf, size_t len, struct session_event *ev);

/* True when a frame, a command or a message has come only in part. */
static inline bool
session_midway(const struct session *s)
{
	return s->header_len > 0 || s->in_command || s->body_left > 0 || s->parts > 0;
}

/* True between two messages, when session_pull has no event left: session_whole may be called. */
static inline bool
session_between(const struct session *s)
{
	return s->phase == SESSION_TRAFFIC && !s->ready_pending && s->out_len == 0 &&
		!session_midway(s);
}

/*
 * A shortcut for most messages: the length of the message at the front of buf[len] if it is whole,
 * within the limits, and its flags are clean; 0: call session_pull. Only for a session that is
 * between messages; the session does not change.
 */
static inline size_t
session_whole(const struct session *s, const uint8_t *buf, size_t len)
{
	uint64_t left = s->config->max_message_size;
	uint32_t parts = s->config->max_message_parts;
	struct frame_header h;
	size_t at = 0;

	do {
		int size = frame_decode(&h, buf + at, len - at);

		if (size <= 0 || h.flags & (uint8_t) ~(WIRE_FLAG_MORE | WIRE_FLAG_LONG) ||
			h.length > left || h.length > len - at - (size_t)size || parts-- == 0)
			return 0;
		left -= h.length;
		at += (size_t)size + (size_t)h.length;
	} while (h.flags & WIRE_FLAG_MORE);
	return at;
}

/* How many bytes the message body under way still needs, for direct reads; 0: none is. */
static inline uint64_t
session_body_left(const struct session *s)
{
	if (s->body_left == 0 || s->phase != SESSION_TRAFFIC || s->in_command || s->over)
		return 0;
	return s->body_left;
}

/*
 * `n` bytes of the message body under way were taken by the caller directly
 * into their place; n < session_body_left().
 */
static inline void
session_took(struct session *s, size_t n)
{
	s->body_left -= n;
}

/* The peer's minor version: 0, or 1 for 3.1 and anything later. */
static inline unsigned
session_peer_minor(const struct session *s)
{
	return s->greeting.minor;
}

/*
 * Why the peer may have ended the connection at this point: a detail for the log, which lives as
 * long as the session, or NULL.
 */
const char *session_end_detail(struct session *s);

/* Free the identity that came with SESSION_READY. */
void session_drop_identity(struct session *s);

/* For mechanisms. */

/* Queue our READY command for sending. */
void session_put_ready(struct session *s);

/* Check the peer's metadata p[len] and copy the needed properties. */
enum mechanism_result session_take_metadata(struct session *s, const uint8_t *p, size_t len);

/* The peer refused us with ERROR; p[len] is the data after the name. */
enum mechanism_result session_take_error(struct session *s, const uint8_t *p, size_t len);

/* Remember why the session ends; the next event is SESSION_BAD. */
void session_fail(struct session *s, enum close_reason reason, const char *detail);

#endif
