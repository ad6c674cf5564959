# SPDX-License-Identifier: MIT
"""A raw ZMTP peer: the bytes of the protocol, one function per thing on the wire.

Nothing here checks what it sends: a test builds exactly the bytes it wants,
right or wrong.  The daemon's bytes are read strictly, because the daemon has
to be strict in what it sends.
"""

import os
import socket
import struct
import time

# The daemon runs under valgrind's memcheck, many times slower.
VALGRIND = os.environ.get("BULKHEAD_VALGRIND", "0") not in ("", "0")
DEADLINE = float(os.environ.get("BULKHEAD_TEST_DEADLINE", "180" if VALGRIND else "30"))

MORE = 0x01
LONG = 0x02
COMMAND = 0x04

SIGNATURE = b"\xff" + b"\0" * 8 + b"\x7f"


class Closed(Exception):
    """The connection ended; .data holds the bytes read so far."""

    def __init__(self, data=b"", reset=False):
        super().__init__("connection %s after %d byte(s) of what was expected"
                         % ("reset" if reset else "closed", len(data)))
        self.data = data
        self.reset = reset


class Timeout(AssertionError):
    """Nothing came before the deadline."""


# --- building bytes -----------------------------------------------------------

def greeting(major=3, minor=1, mechanism=b"NULL", as_server=0, padding=b"\0" * 8,
             filler=b"\0" * 31):
    assert len(padding) == 8 and len(filler) == 31
    return (b"\xff" + padding + b"\x7f" + bytes([major, minor]) +
            mechanism.ljust(20, b"\0") + bytes([as_server]) + filler)


def frame(body, more=False, flags=None, long=None):
    """One frame.  `flags` replaces everything but LONG; `long` forces the encoding."""
    if flags is None:
        flags = MORE if more else 0
    if long is None:
        long = len(body) > 255
    if long:
        return bytes([flags | LONG]) + struct.pack(">Q", len(body)) + body
    return bytes([flags, len(body)]) + body


def frame_header(length, flags=0):
    """A long header that announces `length` bytes, none of which follow."""
    return bytes([flags | LONG]) + struct.pack(">Q", length)


def message(parts, long=None):
    return b"".join(frame(p, more=i + 1 < len(parts), long=long) for i, p in enumerate(parts))


def command(name, data=b"", flags=COMMAND, long=None):
    return frame(bytes([len(name)]) + name + data, flags=flags, long=long)


def prop(name, value):
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


def metadata(pairs):
    return b"".join(prop(n, v) for n, v in pairs)


def ready(socktype=b"DEALER", identity=None, extra=()):
    pairs = []
    if socktype is not None:
        pairs.append((b"Socket-Type", socktype))
    if identity is not None:
        pairs.append((b"Identity", identity))
    return command(b"READY", metadata(pairs + list(extra)))


def ping(ttl=0, context=b""):
    return command(b"PING", struct.pack(">H", ttl) + context)


def pong(context=b""):
    return command(b"PONG", context)


def parse_command(body):
    n = body[0]
    return body[1:1 + n], body[1 + n:]


def parse_metadata(data):
    out = {}
    while data:
        n = data[0]
        name, data = data[1:1 + n], data[1 + n:]
        assert len(name) == n and len(data) >= 4, "metadata cut short"
        size, data = struct.unpack(">I", data[:4])[0], data[4:]
        value, data = data[:size], data[size:]
        assert len(value) == size, "metadata value cut short"
        assert name not in out, "property %r twice" % name
        out[name] = value
    return out


# --- a connection -------------------------------------------------------------

def split_endpoint(endpoint):
    """'tcp://host:port', 'ipc:///path', 'ipc://@name' -> (family, address)."""
    scheme, rest = endpoint.split("://", 1)
    if scheme == "tcp":
        host, port = rest.rsplit(":", 1)
        if host.startswith("["):
            return socket.AF_INET6, (host[1:-1], int(port))
        return socket.AF_INET, (host, int(port))
    assert scheme == "ipc", endpoint
    if rest.startswith("@"):
        return socket.AF_UNIX, "\0" + rest[1:]
    return socket.AF_UNIX, rest


class Peer:
    """One raw connection to (or, with listen_raw, from) the daemon."""

    def __init__(self, sock, deadline=DEADLINE):
        self.sock = sock
        self.deadline = deadline
        self.buf = bytearray()
        self.pings = []          # (ttl, context) of every PING that came
        self.commands = []       # (name, data) of every other command that came
        self.answer_pings = True
        self.sent_ready = None
        self.their_ready = None
        self.sock.settimeout(deadline)
        if sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def connect(cls, endpoint, rcvbuf=None, sndbuf=None, deadline=DEADLINE):
        family, address = split_endpoint(endpoint)
        sock = socket.socket(family, socket.SOCK_STREAM)
        if rcvbuf:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if sndbuf:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        sock.settimeout(deadline)
        try:
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return cls(sock, deadline)

    # -- lifetime

    def close(self):
        self.sock.close()

    def reset(self):
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    @property
    def local(self):
        """Our own address as the daemon logs it (tcp only)."""
        name = self.sock.getsockname()
        return "tcp://%s:%d" % (("[%s]" if self.sock.family == socket.AF_INET6 else "%s")
                                % name[0], name[1])

    # -- bytes

    def send(self, data):
        self.sock.sendall(data)

    def send_quietly(self, data):
        """Send to a peer that may hang up meanwhile; True if everything was sent."""
        try:
            self.sock.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def send_bytewise(self, data):
        for i in range(len(data)):
            self.sock.sendall(data[i:i + 1])

    def _fill(self, until):
        left = until - time.monotonic()
        if left <= 0:
            raise Timeout("nothing came for %g s (have %r)" % (self.deadline, bytes(self.buf[:80])))
        self.sock.settimeout(left)
        try:
            got = self.sock.recv(1 << 18)
        except socket.timeout:
            raise Timeout("nothing came for %g s (have %r)"
                          % (self.deadline, bytes(self.buf[:80]))) from None
        except ConnectionResetError:
            data = bytes(self.buf)
            self.buf.clear()
            raise Closed(data, reset=True) from None
        finally:
            self.sock.settimeout(self.deadline)
        if not got:
            data = bytes(self.buf)
            self.buf.clear()
            raise Closed(data)
        self.buf += got

    def recv_exact(self, n):
        until = time.monotonic() + self.deadline
        while len(self.buf) < n:
            self._fill(until)
        out = bytes(self.buf[:n])
        del self.buf[:n]
        return out

    def readable_now(self):
        """The bytes that have already arrived (taken into the buffer); does not wait."""
        self.sock.setblocking(False)
        try:
            while True:
                got = self.sock.recv(1 << 16)
                if not got:
                    break
                self.buf += got
        except (BlockingIOError, ConnectionResetError):
            pass
        finally:
            self.sock.settimeout(self.deadline)
        return bytes(self.buf)

    def read_to_end(self):
        """Everything until the daemon closes; (bytes, was it a reset)."""
        out = bytearray(self.buf)
        self.buf.clear()
        until = time.monotonic() + self.deadline
        while True:
            try:
                self._fill(until)
            except Closed as end:
                return bytes(out + end.data), end.reset
            out += self.buf
            self.buf.clear()

    def drain(self):
        """Everything that the kernel has, and what arrives while it is read."""
        out = bytearray()
        while True:
            more = self.readable_now()
            if not more:
                return bytes(out)
            out += self.recv_exact(len(more))

    def expect_closed(self):
        """The daemon closes, and sends no message any more.  Returns the bytes before it."""
        return self.read_to_end()[0]

    # -- frames

    def recv_frame(self):
        """-> (flags without LONG, body)"""
        head = self.recv_exact(2)
        flags = head[0]
        assert not flags & ~(MORE | LONG | COMMAND), "reserved bit in flags %#x" % flags
        if flags & LONG:
            rest = self.recv_exact(7)
            size = struct.unpack(">Q", head[1:] + rest)[0]
        else:
            size = head[1]
        assert size < 1 << 63
        if flags & COMMAND:
            assert not flags & MORE, "MORE on a command"
            assert size > 0, "empty command"
        return flags & ~LONG, self.recv_exact(size)

    def _command(self, body):
        name, data = parse_command(body)
        if name == b"PING":
            assert len(data) >= 2, "PING without a TTL"
            assert len(data) <= 18, "PING context over 16 bytes"
            ttl = struct.unpack(">H", data[:2])[0]
            assert ttl <= 655, "TTL %d wraps in libzmq" % ttl
            self.pings.append((ttl, data[2:]))
            if self.answer_pings:
                self.send_quietly(pong(data[2:]))
        else:
            self.commands.append((name, data))
        return name, data

    def recv_message(self):
        """The next message as a list of frames; commands on the way are noted."""
        parts = []
        while True:
            flags, body = self.recv_frame()
            if flags & COMMAND:
                self._command(body)
                continue
            parts.append(body)
            if not flags & MORE:
                return parts

    def recv_command(self, name):
        """The next command `name`; a message before it is a failure."""
        while True:
            flags, body = self.recv_frame()
            assert flags & COMMAND, "a message came before %r: %r" % (name, body[:80])
            got = self._command(body)
            if got[0] == name:
                return got[1]

    def send_message(self, parts, long=None):
        self.send(message(parts, long))

    # -- the handshake

    def recv_greeting(self):
        data = self.recv_exact(64)
        assert data[0] == 0xff and data[9] == 0x7f, "bad signature %r" % data[:10]
        assert data[10] == 3 and data[11] in (0, 1), "version %d.%d" % (data[10], data[11])
        assert data[33:] == b"\0" * 31, "filler is not zero"
        return data

    def recv_ready(self):
        flags, body = self.recv_frame()
        assert flags & COMMAND, "a message before READY"
        name, data = parse_command(body)
        assert name == b"READY", "expected READY, got %r" % name
        self.their_ready = parse_metadata(data)
        return self.their_ready

    def handshake(self, socktype=b"DEALER", identity=None, minor=1, extra=()):
        self.send(greeting(minor=minor))
        self.recv_greeting()
        self.send(ready(socktype, identity, extra))
        self.recv_ready()
        return self


class Listener:
    """A raw listening socket that the daemon dials."""

    def __init__(self, family=socket.AF_INET, address=("127.0.0.1", 0), backlog=64, rcvbuf=None,
                 listen=True):
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.bind(address)
        if listen:
            self.sock.listen(backlog)
        self.sock.settimeout(DEADLINE)

    @property
    def port(self):
        return self.sock.getsockname()[1]

    @property
    def endpoint(self):
        if self.sock.family == socket.AF_UNIX:
            return "ipc://" + self.sock.getsockname()
        return "tcp://127.0.0.1:%d" % self.port

    def accept(self):
        try:
            sock, _ = self.sock.accept()
        except socket.timeout:
            raise Timeout("the daemon did not dial") from None
        return Peer(sock)

    def close(self):
        self.sock.close()


def connect(endpoint, socktype=b"DEALER", identity=None, minor=1, **kw):
    """A connected peer after its handshake."""
    peer = Peer.connect(endpoint, **kw)
    try:
        return peer.handshake(socktype, identity, minor)
    except BaseException:
        peer.close()
        raise
