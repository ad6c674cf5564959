/* SPDX-License-Identifier: MIT */
/*
 * The way of a connection from nothing to ready.
 */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "zmtp/frame.h"
#include "zmtp/metadata.h"
#include "zmtp/socktype.h"

static const char mechanism[WIRE_MECHANISM_SIZE] = "NULL";

/* ZMTP 3.1: the greeting, and READY with the socket type. */
static size_t
put_hello(uint8_t *out)
{
	static const char name[] = "\x05READY";
	uint8_t body[64], *at = out + WIRE_GREETING_SIZE;
	size_t len = sizeof(name) - 1;

	greeting_encode(out, mechanism, false);
	memcpy(body, name, len);
	len += metadata_put(body + len, "Socket-Type", "DEALER", strlen("DEALER"));
	at += frame_encode(at, WIRE_FLAG_COMMAND, len);
	memcpy(at, body, len);
	return (size_t)(at + len - out);
}

/* Both at once: a peer that speaks 3.x waits for nothing in between. */
static void
say_hello(struct run *run, struct peer *peer)
{
	uint8_t hello[WIRE_GREETING_SIZE + 128];
	size_t len = put_hello(hello);
	ssize_t n = send(peer->fd, hello, len, MSG_NOSIGNAL);

	if (n < 0) {
		peer_fail_errno(run, peer);
		return;
	}
	if ((size_t)n < len) {
		peer_fail(run, peer, RUN_ERROR_FAILED, "the greeting was not taken");
		return;
	}
	peer->state = PEER_GREETING;
	peer->reads = true;
	peer->wants_write = false;
}

static void
fail_to_connect(struct run *run, struct peer *peer, int error)
{
	bool refused = error == ECONNREFUSED || error == ENOENT;

	if (refused)
		peer_fail(run, peer, RUN_ERROR_REFUSED,
			"nothing listens there (%s); is the broker running?", strerror(error));
	else
		peer_fail(run, peer, RUN_ERROR_FAILED, "%s", strerror(error));
}

void
peer_connect(struct run *run, struct peer *peer)
{
	const struct sockaddr *addr = (const struct sockaddr *)&peer->target->addr;
	int one = 1;

	greeting_init(&peer->greeting);
	memset(&peer->command, 0, sizeof(peer->command));
	memset(&peer->stream, 0, sizeof(peer->stream));
	peer->reader = (struct image_reader){.routed = peer->worker && !run->paired};
	peer->state = PEER_CONNECTING;
	peer->reads = false;
	peer->wants_write = true;
	peer->fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (peer->fd < 0) {
		peer_fail(run, peer, RUN_ERROR_FAILED, "socket: %s", strerror(errno));
		return;
	}
	if (addr->sa_family != AF_UNIX) {
		setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (fcntl(peer->fd, F_SETFL, O_NONBLOCK) != 0) {
			peer_fail(run, peer, RUN_ERROR_FAILED, "O_NONBLOCK: %s", strerror(errno));
			return;
		}
	}
	/* that of a Unix socket takes as long as its listener's queue is full, and no longer */
	if (connect(peer->fd, addr, peer->target->len) == 0)
		say_hello(run, peer);
	else if (errno != EINPROGRESS)
		fail_to_connect(run, peer, errno);
	if (peer->fd >= 0)
		peer_watch(run, peer, EPOLL_CTL_ADD);
}

void
peer_connected(struct run *run, struct peer *peer)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(peer->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error != 0) {
		fail_to_connect(run, peer, error);
		return;
	}
	say_hello(run, peer);
	if (peer->fd >= 0)
		peer_watch(run, peer, EPOLL_CTL_MOD);
}

/* A client talks to what has clients, a worker to what has workers; the two sides look alike. */
static bool
check_type(struct run *run, struct peer *peer, const struct command *ready)
{
	struct metadata metadata;
	enum socktype type;

	if (run->paired || metadata_parse(&metadata, ready->data, ready->len) != NULL ||
		metadata.socket_type == NULL ||
		!socktype_parse(
			&type, (const char *)metadata.socket_type, metadata.socket_type_len))
		return true;
	if (!peer->worker && type != SOCKTYPE_ROUTER && type != SOCKTYPE_REP) {
		peer_fail(run, peer, RUN_ERROR_FAILED,
			"a %s listens there, which does not serve clients%s", socktype_name(type),
			type == SOCKTYPE_DEALER ? "; is it a backend?" : "");
		return false;
	}
	if (peer->worker && type != SOCKTYPE_DEALER && type != SOCKTYPE_REQ) {
		peer_fail(run, peer, RUN_ERROR_FAILED,
			"a %s listens there, which does not give workers requests%s",
			socktype_name(type), type == SOCKTYPE_ROUTER ? "; is it a frontend?" : "");
		return false;
	}
	return true;
}

/* The first command is whole. */
static void
on_first_command(struct run *run, struct peer *peer)
{
	const struct frame_reader *frame = &peer->command;
	struct command command = command_parse(frame->kept, frame->kept_len);

	if (command.kind == COMMAND_ERROR) {
		int len = command.len > 0 && command.data[0] < command.len ? command.data[0] : 0;

		peer_fail(run, peer, RUN_ERROR_FAILED, "the other side refuses: %.*s", len,
			(const char *)command.data + 1);
		return;
	}
	if (command.kind != COMMAND_READY) {
		peer_fail(run, peer, RUN_ERROR_FAILED, "the first command is no READY");
		return;
	}
	/* one that was not kept whole says enough by being there */
	if (frame->length == frame->kept_len && !check_type(run, peer, &command))
		return;
	peer->state = PEER_READY;
	run->n_ready++;
}

static const char *
greeting_words(enum greeting_result result)
{
	switch (result) {
	case GREETING_BAD_MECHANISM:
		return "it has another security mechanism than NULL";
	case GREETING_VERSION_1:
	case GREETING_VERSION_2:
		return "it speaks an older ZMTP than 3.0";
	default:
		return "it does not speak ZMTP";
	}
}

size_t
peer_handshake(struct run *run, struct peer *peer, const uint8_t *data, size_t len)
{
	size_t used = 0;

	if (peer->state == PEER_GREETING) {
		enum greeting_result result =
			greeting_read(&peer->greeting, data, len, mechanism, &used);

		if (result == GREETING_MORE)
			return used;
		if (result != GREETING_DONE) {
			peer_fail(run, peer, RUN_ERROR_FAILED, "%s", greeting_words(result));
			return used;
		}
		peer->state = PEER_HANDSHAKE;
	}
	if (used == len)
		return used;
	if (!frame_reader_is_inside(&peer->command) && !(data[used] & WIRE_FLAG_COMMAND)) {
		peer_fail(run, peer, RUN_ERROR_FAILED, "what follows its greeting is no command");
		return used;
	}
	if (command_read(&peer->command, data + used, len - used, &used))
		on_first_command(run, peer);
	return used;
}
