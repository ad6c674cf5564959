/* SPDX-License-Identifier: MIT */
/*
 * The system calls of connections, in one place, so that a test can replace them by a simulated
 * network or by failing calls. All return a negative errno on failure, and never raise SIGPIPE.
 */
#ifndef BULKHEAD_NET_SYS_H
#define BULKHEAD_NET_SYS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "net/opts.h"

/* Bytes read (0: the peer ended its side), or -errno; -EAGAIN when there is nothing to read. */
ssize_t sys_readv(int fd, const struct iovec *iov, int count);

/* Bytes the kernel took, or -errno; -EAGAIN when it takes none. */
ssize_t sys_writev(int fd, const struct iovec *iov, int count);

/*
 * The same for the last bytes before sys_shutdown_write: the kernel keeps what does not fill a
 * segment until then, so that our end leaves in one piece with them.
 */
ssize_t sys_writev_last(int fd, const struct iovec *iov, int count);

/* The number of bytes that can be read; 0 when the system does not say. */
size_t sys_pending(int fd);

/*
 * Has the peer ended its side, orderly or not, even if there is still something to read? Does not
 * wait.
 */
bool sys_has_ended(int fd);

/* Close our sending half. */
int sys_shutdown_write(int fd);

void sys_close(int fd);

/*
 * Accept: a non-blocking socket, with its peer's address in *addr, or -errno, which is one of three
 * kinds.
 */
int sys_accept(int fd, struct sockaddr_storage *addr, socklen_t *len);

/* It failed for want of descriptors or memory: the same connection can be accepted later. */
static inline bool
sys_accept_is_short(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM;
}

/*
 * It failed for a reason of this connection (accept(2)), which is gone now. Any other error would
 * occur again at once: a security module or a filter forbids it (EPERM, EACCES).
 */
static inline bool
sys_accept_is_over(int error)
{
	switch (-error) {
	case ECONNABORTED:
	case EPROTO:
	case ENOPROTOOPT:
	case EOPNOTSUPP:
	case ENETDOWN:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENONET:
	case ETIMEDOUT:
		return true;
	default:
		return false;
	}
}

/* A new non-blocking stream socket of this family with the options of `opts` set. */
int sys_socket(int family, const struct side_opts *opts);

/* Start to connect. 0: connected; -EINPROGRESS: under way; or another -errno. */
int sys_connect(int fd, const struct sockaddr *addr, socklen_t len);

/* The result of a connection attempt: 0 or -errno. */
int sys_connect_result(int fd);

/* Bind and listen. 0 or -errno. */
int sys_listen(int fd, const struct sockaddr *addr, socklen_t len, int backlog);

/* Set the options that a connected socket does not inherit: TCP_NODELAY, keepalive. */
void sys_tune(int fd, int family, const struct side_opts *opts);

/*
 * TCP: end the connection when bytes of ours stay unacknowledged for `ms`; 0: as the system is
 * configured. False: it is not TCP.
 */
bool sys_set_patience(int fd, int64_t ms);

/* What the kernel knows about a peer's host. */
struct sys_peer {
	bool window_closed; /* it acknowledged everything, and has no space for more */
	bool sends_again;   /* something was not acknowledged, and was sent a third time */
	int64_t silent_ms;  /* since the last acknowledgement */
};

/* False: the kernel does not say, since it is not TCP. */
bool sys_ask_about_peer(int fd, struct sys_peer *out);

/*
 * Text of the address of an accepted connection: as below, but a Unix socket's peer that has no
 * name is the process that connected (SO_PEERCRED): ipc://pid:12,uid:1000. Returns out.
 */
const char *
sys_peer_text(int fd, const struct sockaddr *addr, socklen_t len, char *out, size_t size);

/* Text of an address: tcp://1.2.3.4:5, tcp://[::1]:5, ipc:///path, ipc://@name. Returns out. */
const char *sys_address_text(const struct sockaddr *addr, socklen_t len, char *out, size_t size);

#endif
