/* SPDX-License-Identifier: MIT */
#include "net/sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <linux/tcp.h> /* netinet/tcp.h does not have all members of TCP_INFO */
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/un.h>
#include <unistd.h>

ssize_t
sys_readv(int fd, const struct iovec *iov, int count)
{
	ssize_t n;

	do
		n = count == 1 ? recv(fd, iov->iov_base, iov->iov_len, MSG_DONTWAIT)
			       : readv(fd, iov, count);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static inline ssize_t
send_all(int fd, const struct iovec *iov, int count, int flags)
{
	/* sendmsg, not writev: MSG_NOSIGNAL */
	struct msghdr msg = {
		.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)count};
	ssize_t n;

	/*
	 * the plain calls where possible: for a small message, the kernel spends a tenth of its
	 * cost on the vectors
	 */
	do
		n = count == 1 ? send(fd, iov->iov_base, iov->iov_len, flags)
			       : sendmsg(fd, &msg, flags);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t
sys_writev(int fd, const struct iovec *iov, int count)
{
	return send_all(fd, iov, count, MSG_NOSIGNAL | MSG_DONTWAIT);
}

ssize_t
sys_writev_last(int fd, const struct iovec *iov, int count)
{
	return send_all(fd, iov, count, MSG_NOSIGNAL | MSG_DONTWAIT | MSG_MORE);
}

size_t
sys_pending(int fd)
{
	int n = 0;

	return ioctl(fd, FIONREAD, &n) == 0 && n > 0 ? (size_t)n : 0;
}

bool
sys_has_ended(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

int
sys_shutdown_write(int fd)
{
	return shutdown(fd, SHUT_WR) < 0 ? -errno : 0;
}

void
sys_close(int fd)
{
	close(fd);
}

int
sys_accept(int fd, struct sockaddr_storage *addr, socklen_t *len)
{
	int got;

	*len = sizeof(*addr);
	do
		got = accept4(fd, (struct sockaddr *)addr, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

static void
set_int(int fd, int level, int name, int value)
{
	/* a tuning option that is refused is no reason to refuse the peer */
	(void)setsockopt(fd, level, name, &value, sizeof(value));
}

int
sys_socket(int family, const struct side_opts *opts)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	/* before listen and connect: the window scale is fixed there; accepted sockets inherit */
	if (opts->send_buffer > 0)
		set_int(fd, SOL_SOCKET, SO_SNDBUF, (int)opts->send_buffer);
	if (opts->receive_buffer > 0)
		set_int(fd, SOL_SOCKET, SO_RCVBUF, (int)opts->receive_buffer);
	return fd;
}

/*
 * If nobody listens on the port, the kernel may pick the very same port for us: then TCP connects
 * the socket to itself, and we would talk to ourselves.
 */
static int
refuse_ourselves(int fd)
{
	struct sockaddr_storage ours = {.ss_family = AF_UNSPEC}, theirs;
	socklen_t ours_len = sizeof(ours), theirs_len = sizeof(theirs);

	if (getsockname(fd, (struct sockaddr *)&ours, &ours_len) < 0 ||
		(ours.ss_family != AF_INET && ours.ss_family != AF_INET6))
		return 0;
	if (getpeername(fd, (struct sockaddr *)&theirs, &theirs_len) < 0)
		return 0;
	return ours_len == theirs_len && memcmp(&ours, &theirs, ours_len) == 0 ? -ECONNREFUSED : 0;
}

int
sys_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return connect(fd, addr, len) < 0 ? -errno : refuse_ourselves(fd);
}

int
sys_connect_result(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return -errno;
	return error != 0 ? -error : refuse_ourselves(fd);
}

int
sys_listen(int fd, const struct sockaddr *addr, socklen_t len, int backlog)
{
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (addr->sa_family == AF_INET6) /* whatever net.ipv6.bindv6only says */
		set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	if (bind(fd, addr, len) < 0 || listen(fd, backlog) < 0)
		return -errno;
	return 0;
}

static int
seconds(int64_t ms)
{
	return ms < 1000 ? 1 : (int)(ms / 1000);
}

void
sys_tune(int fd, int family, const struct side_opts *opts)
{
	if (family != AF_INET && family != AF_INET6)
		return;
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (!opts->tcp_keepalive)
		return;
	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, seconds(opts->tcp_keepalive_idle));
	set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, seconds(opts->tcp_keepalive_interval));
	set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, (int)opts->tcp_keepalive_count);
}

bool
sys_set_patience(int fd, int64_t ms)
{
	unsigned value = ms > INT_MAX ? INT_MAX : (unsigned)ms;

	return setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, sizeof(value)) == 0;
}

bool
sys_ask_about_peer(int fd, struct sys_peer *out)
{
	struct tcp_info info = {.tcpi_snd_wnd = 1}; /* a kernel before 5.4 does not say */
	socklen_t len = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return false;
	*out = (struct sys_peer){
		.window_closed = (info.tcpi_unacked == 0 && info.tcpi_notsent_bytes > 0) ||
			(info.tcpi_unacked > 0 && info.tcpi_snd_wnd == 0),
		.sends_again = info.tcpi_unacked > 0 && info.tcpi_retransmits > 1,
		.silent_ms = info.tcpi_last_ack_recv,
	};
	return true;
}

static const char *
unix_text(const struct sockaddr_un *un, socklen_t len, char *out, size_t size)
{
	size_t n = len > offsetof(struct sockaddr_un, sun_path)
		? len - offsetof(struct sockaddr_un, sun_path)
		: 0;

	if (n == 0)
		snprintf(out, size, "ipc://"); /* an unnamed client */
	else if (un->sun_path[0] == '\0')
		snprintf(out, size, "ipc://@%.*s", (int)n - 1, un->sun_path + 1);
	else
		snprintf(out, size, "ipc://%.*s", (int)strnlen(un->sun_path, n), un->sun_path);
	return out;
}

const char *
sys_address_text(const struct sockaddr *addr, socklen_t len, char *out, size_t size)
{
	char host[INET6_ADDRSTRLEN] = "?";
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;

	switch (addr->sa_family) {
	case AF_INET:
		memcpy(&in, addr, sizeof(in));
		inet_ntop(AF_INET, &in.sin_addr, host, sizeof(host));
		snprintf(out, size, "tcp://%s:%u", host, ntohs(in.sin_port));
		return out;
	case AF_INET6:
		memcpy(&in6, addr, sizeof(in6));
		inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof(host));
		if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr)) /* 1.2.3.4 on a socket for both */
			snprintf(out, size, "tcp://%s:%u", strrchr(host, ':') + 1,
				ntohs(in6.sin6_port));
		else
			snprintf(out, size, "tcp://[%s]:%u", host, ntohs(in6.sin6_port));
		return out;
	case AF_UNIX:
		memset(&un, 0, sizeof(un));
		memcpy(&un, addr, len < sizeof(un) ? len : sizeof(un));
		return unix_text(&un, len, out, size);
	default:
		snprintf(out, size, "unknown");
		return out;
	}
}

const char *
sys_peer_text(int fd, const struct sockaddr *addr, socklen_t len, char *out, size_t size)
{
	struct ucred who;
	socklen_t who_len = sizeof(who);

	if (addr->sa_family == AF_UNIX && len <= offsetof(struct sockaddr_un, sun_path) &&
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &who_len) == 0) {
		snprintf(out, size, "ipc://pid:%ld,uid:%lu", (long)who.pid, (unsigned long)who.uid);
		return out;
	}
	return sys_address_text(addr, len, out, size);
}
