/* SPDX-License-Identifier: MIT */
#include "admin/channel.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/commands.h"

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)];
};

bool
channel_send(int fd, const struct channel_message *m, const int *fds, size_t count)
{
	struct channel_message copy = *m;
	struct iovec iov = {&copy, sizeof(copy)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	union control control = {0};
	struct cmsghdr *c;
	ssize_t n;

	copy.version = CHANNEL_VERSION;
	if (count > 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		c = CMSG_FIRSTHDR(&msg);
		assert(c != NULL); /* there is room for one */
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * count);
	}
	do
		n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(copy);
}

static size_t
take_descriptors(struct msghdr *msg, int *fds)
{
	size_t n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(c), n * sizeof(int));
		break; /* the kernel merges all of them into one */
	}
	return n;
}

enum channel_result
channel_receive(int fd, struct channel_message *m, int *fds, size_t *count)
{
	struct iovec iov = {m, sizeof(*m)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	union control control = {0};
	ssize_t n;

	if (fds != NULL) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
	}
	do
		n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (fds != NULL)
		*count = n > 0 ? take_descriptors(&msg, fds) : 0;
	if (n < 0)
		return errno == EAGAIN ? CHANNEL_NOTHING : CHANNEL_ENDED;
	if (n == 0)
		return CHANNEL_ENDED;
	if (n == (ssize_t)sizeof(*m) && m->version == CHANNEL_VERSION && m->kind < CHANNEL_KINDS &&
		!(msg.msg_flags & MSG_TRUNC))
		return CHANNEL_GOT;
	for (size_t i = 0; fds != NULL && i < *count; i++)
		close(fds[i]);
	return CHANNEL_BROKEN;
}

bool
channel_is_request(const struct channel_message *m)
{
	switch ((enum channel_kind)m->kind) {
	case CHANNEL_ALIVE:
		return true;
	case CHANNEL_ASK:
		return m->snapshot < CHANNEL_SNAPSHOTS;
	case CHANNEL_COMMAND:
		return m->command < COMMAND_COUNT &&
			memchr(m->argument, '\0', sizeof(m->argument)) != NULL;
	case CHANNEL_NOTE:
		return m->note < CHANNEL_NOTES;
	case CHANNEL_HELLO:
	case CHANNEL_CONFIG:
	case CHANNEL_SNAPSHOT:
	case CHANNEL_ANSWER:
	case CHANNEL_ENDPOINT:
	case CHANNEL_KINDS:
		break;
	}
	return false;
}
