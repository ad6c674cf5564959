# SPDX-License-Identifier: MIT
"""The peers of the chaos test: each a process, each with a journal on disk.

Started as a server (`peers.py FD`) that forks one process per peer on demand,
because starting Python and libzmq for each costs more than its traffic.

A journal line is TIME KIND FIELD...; what is sent is written before it is
sent, what was received after that, one write(2) each: SIGKILL loses nothing.

    S stream n size parts crc       a request is about to be sent
    R me stream n wstream wseq      `me` has the right reply to request n of `stream`
    G wstream stream n              a worker has a request, whole and right
    A wstream wseq stream n         its reply is about to be sent
    U stream n                      that message (S or A) was not sent after all
    T stream n                      no reply for a long time; one may still come
    L stream address kind           a raw connection has this address, and this kind
    E stream how                    a raw connection ended like this
    Z seconds                       this process was not scheduled for that long
    X text                          something that must never happen
"""

import ctypes
import errno
import hashlib
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import time
import traceback
import zlib

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))

import zmq  # noqa: E402

import link  # noqa: E402
import zmtp  # noqa: E402

PATIENCE = 3.0           # after this time a pending request makes room in the window
STARVED = 0.4            # a turn of the loop that takes longer is recorded
LATE = 2.5               # longer than send_timeout twice
QUIET = 0.2              # idle: nothing received for that long
POOL = 512 << 10
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


# --- messages -----------------------------------------------------------------

def checksum(parts):
    crc = 0
    for p in parts:
        crc = zlib.crc32(p, zlib.crc32(b"%d:" % len(p), crc))
    return crc


def answer(kind, parts):
    """A worker's reply to a request's parts; the client can predict it."""
    if kind == b"r":
        return [p[::-1] for p in reversed(parts)]
    if kind in (b"b", b"h"):
        return [p * (3 if kind == b"b" else 12) for p in parts]
    return [hashlib.sha1(b"|".join(parts)).digest()]


class Maker:
    """Makes requests: mostly small, sometimes 256 KiB, 1 to 5 frames with the header."""

    def __init__(self, rng, big):
        self.rng, self.big = rng, big
        self.pool = rng.randbytes(POOL)

    def size(self):
        roll = self.rng.random()
        if roll < 0.1:
            return 0
        for limit, top in ((0.6, 255), (0.8, 2 << 10), (1 - 2 * self.big, 16 << 10),
                           (1 - self.big / 2, 64 << 10)):
            if roll < limit:
                return self.rng.randrange(top + 1)
        return self.rng.randrange((256 << 10) + 1)

    def parts(self):
        rng, left = self.rng, self.size()
        out = []
        for i in range(rng.choice((0, 1, 1, 1, 2, 3, 4)) - 1, -1, -1):
            n = rng.randrange(left + 1) if i else left
            start = rng.randrange(POOL - n + 1)
            out.append(self.pool[start:start + n])
            left -= n
        return out


def request(stream, n, kind, parts):
    head = b"Q %s %d %d %d %d %s" % (stream.encode(), n, len(parts), sum(map(len, parts)),
                                     checksum(parts), kind)
    return [head] + parts


class Wrong(Exception):
    pass


def check(head, parts, count, total, crc):
    if len(parts) != int(count) or sum(map(len, parts)) != int(total):
        raise Wrong("%r came with %d frames, %d bytes" % (head, len(parts), sum(map(len, parts))))
    if checksum(parts) != int(crc):
        raise Wrong("%r came corrupted" % head)


def read_request(frames):
    """-> stream, n, kind, parts"""
    try:
        q, stream, n, count, total, crc, kind = frames[0].split(b" ")
        assert q == b"Q"
    except (ValueError, IndexError, AssertionError):
        raise Wrong("not a request: %r" % [f[:60] for f in frames]) from None
    check(frames[0], frames[1:], count, total, crc)
    return stream.decode(), int(n), kind, frames[1:]


def reply(wstream, wseq, stream, n, parts):
    head = b"A %s %d %s %d %d %d %d" % (wstream.encode(), wseq, stream.encode(), n, len(parts),
                                        sum(map(len, parts)), checksum(parts))
    return [head] + parts


def read_reply(frames):
    """-> wstream, wseq, stream, n, crc"""
    try:
        a, wstream, wseq, stream, n, count, total, crc = frames[0].split(b" ")
        assert a == b"A"
    except (ValueError, IndexError, AssertionError):
        raise Wrong("not a reply: %r" % [f[:60] for f in frames]) from None
    check(frames[0], frames[1:], count, total, crc)
    return wstream.decode(), int(wseq), stream.decode(), int(n), int(crc)


def split(frames):
    """The frames up to and including the empty frame, and those after it."""
    try:
        at = frames.index(b"") + 1
    except ValueError:
        raise Wrong("no empty frame: %r" % [f[:60] for f in frames]) from None
    return frames[:at], frames[at:]


def owner(stream):
    """Streams of one routing id share the part before the dot."""
    return stream.split(".")[0]


# --- common to all peers ------------------------------------------------------

class Peer:
    def __init__(self, spec, control):
        self.spec = spec
        self.rng = random.Random(spec["seed"])
        self.fd = os.open(spec["journal"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.control = control
        self.control.setblocking(False)
        self.quiet = not spec.get("go", True)
        self.slow = 0.0
        self.running = True
        self.asked_idle = False
        self.last = self.turn_at = time.monotonic()

    def note(self, kind, *fields):
        line = "%.3f %s %s\n" % (time.monotonic(), kind, " ".join(map(str, fields)))
        os.write(self.fd, line.encode())

    def wrong(self, text):
        self.note("X", self.spec["name"], str(text).replace("\n", "\\n"))

    def tell(self, text):
        try:
            self.control.send(text.encode())
        except (BlockingIOError, OSError):
            pass

    def turn(self):
        """Called once in each turn of the loop."""
        now = time.monotonic()
        if now - self.turn_at > STARVED:
            self.note("Z", "%.1f" % (now - self.turn_at))
        self.turn_at = now
        try:
            command = self.control.recv(4096)
        except BlockingIOError:
            command = None
        if command is not None:
            self.command(command.decode().split())
        if self.asked_idle and now - self.last > QUIET and self.settled():
            self.asked_idle = False
            self.tell("idle %d" % self.live())
        return now

    def command(self, words):
        if not words or words[0] == "quit":      # the driver has ended, or tells us to
            self.running = False
        elif words[0] == "quiet":
            self.quiet = True
        elif words[0] == "go":
            self.quiet = False
        elif words[0] == "slow":
            self.slow = float(words[1])
        elif words[0] == "idle":
            self.asked_idle = True
            self.last = time.monotonic()
        elif words[0] == "fresh":
            self.fresh(int(words[1]))

    def settled(self):
        return True

    def live(self):
        return 1

    def fresh(self, count):
        pass


class Asker:
    """One client stream: its requests, and whether their replies are right."""

    def __init__(self, peer, stream, maker):
        self.peer, self.stream, self.maker = peer, stream, maker
        self.n = 0
        self.waiting = {}        # n -> when it was sent
        self.expected = {}       # n -> checksum of the reply
        self.kinds = peer.spec.get("kinds", "rrrsb")
        self.first_id = peer.rng.getrandbits(32)

    def make(self):
        kind = self.peer.rng.choice(self.kinds).encode()
        parts = self.maker.parts()
        self.n += 1
        self.expected[self.n] = checksum(answer(kind, parts))
        self.waiting[self.n] = time.monotonic()
        self.peer.note("S", self.stream, self.n, sum(map(len, parts)), len(parts), checksum(parts))
        return request(self.stream, self.n, kind, parts)

    def request_id(self):
        """Four bytes, as a REQ has it; of the request that was made last."""
        return struct.pack(">I", (self.first_id + self.n) & 0xffffffff)

    def unsent(self):
        self.peer.note("U", self.stream, self.n)
        del self.expected[self.n], self.waiting[self.n]

    def give_up(self, now):
        while self.waiting:
            n = next(iter(self.waiting))
            if now - self.waiting[n] < PATIENCE:
                return
            self.peer.note("T", self.stream, n)
            del self.waiting[n]

    def take(self, frames):
        peer = self.peer
        peer.last = time.monotonic()
        try:
            wstream, wseq, stream, n, crc = read_reply(frames)
        except Wrong as e:
            peer.wrong(e)
            return
        if stream != self.stream:
            # A routing id that was used before may get replies to its predecessor.
            if "." not in stream or owner(stream) != owner(self.stream):
                peer.wrong("%s got a reply to %s %d of %s" % (self.stream, stream, n, wstream))
                return
        elif n not in self.expected:
            peer.wrong("%s got a reply to %d that it does not wait for, from %s %d"
                       % (self.stream, n, wstream, wseq))
        elif self.expected.pop(n) != crc:
            peer.wrong("%s got a wrong reply to %d, from %s %d" % (self.stream, n, wstream, wseq))
        self.waiting.pop(n, None)
        peer.note("R", self.stream, stream, n, wstream, wseq)


class Answerer:
    """One worker stream."""

    def __init__(self, peer, stream):
        self.peer, self.stream, self.seq = peer, stream, 0

    def take(self, frames):
        """Check a request; return its reply's frames after the envelope, or None."""
        peer = self.peer
        peer.last = time.monotonic()
        try:
            stream, n, kind, parts = read_request(frames)
        except Wrong as e:
            peer.wrong(e)
            return None
        peer.note("G", self.stream, stream, n)
        self.seq += 1
        peer.note("A", self.stream, self.seq, stream, n)
        return reply(self.stream, self.seq, stream, n, answer(kind, parts))


# --- libzmq -------------------------------------------------------------------

class ZmqPeer(Peer):
    def __init__(self, spec, control):
        super().__init__(spec, control)
        self.ctx = zmq.Context()
        self.type = spec["type"]
        s = self.socket = self.ctx.socket(getattr(zmq, self.type))
        s.setsockopt(zmq.LINGER, 0)
        s.setsockopt(zmq.SNDHWM, 0)
        s.setsockopt(zmq.RECONNECT_IVL, 50)
        s.setsockopt(zmq.RECONNECT_IVL_MAX, 400)
        if spec.get("identity"):
            s.setsockopt(zmq.IDENTITY, spec["identity"].encode())
        for name, value in spec.get("options", {}).items():
            s.setsockopt(getattr(zmq, name), value)
        if self.type == "REQ":
            s.setsockopt(zmq.REQ_RELAXED, 1)
            s.setsockopt(zmq.REQ_CORRELATE, 1)
        if self.type == "ROUTER" and spec["role"] == "client":
            s.setsockopt(zmq.ROUTER_MANDATORY, 1)
        s.connect(spec["endpoint"])
        self.poller = zmq.Poller()
        self.poller.register(s, zmq.POLLIN)
        self.poller.register(control.fileno(), zmq.POLLIN)

    def receive(self):
        try:
            return self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.ZMQError as e:
            if e.errno in (zmq.EAGAIN, zmq.EFSM):    # EFSM: a REQ without a request
                return None
            raise

    def run(self):
        while self.running:
            now = self.turn()
            got = self.receive()
            if got is not None:
                self.on_message(got)
                if self.slow:
                    time.sleep(self.slow)
                continue
            wait = self.work(now)
            self.poller.poll(max(1, int(wait * 1000)))
        self.socket.close(0)
        self.ctx.term()


class Client(ZmqPeer):
    def __init__(self, spec, control):
        super().__init__(spec, control)
        self.asker = Asker(self, spec["stream"], Maker(self.rng, spec.get("big", 0.03)))
        self.window = 1 if self.type == "REQ" else spec.get("window", 16)
        self.rate = spec.get("rate", 100.0)
        self.next = time.monotonic()
        self.fresh_left = 0
        self.fresh_n = None

    def on_message(self, frames):
        if self.type == "ROUTER":
            frames = frames[1:]
        if self.type != "REQ":
            try:
                frames = split(frames)[1]
            except Wrong as e:
                self.wrong(e)
                return
        self.asker.take(frames)

    def ask(self):
        frames = self.asker.make()
        if self.type != "REQ":
            extra = [[], [], [b"\x80\x00\x00\x01"], [b"more", b"envelope"]]
            if self.spec.get("ids"):
                extra = [[self.asker.request_id()]]
            frames = self.rng.choice(extra) + [b""] + frames
        if self.type == "ROUTER":
            frames = [b"broker"] + frames
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.ZMQError as e:
            if e.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            self.asker.unsent()
            return False
        return True

    def work(self, now):
        a = self.asker
        a.give_up(now)
        if self.fresh_left:
            if self.fresh_n is None or self.fresh_n not in a.expected:
                if self.fresh_n is not None:
                    self.fresh_left -= 1
                    self.fresh_n = None
                if not self.fresh_left:
                    self.tell("fresh ok")
                elif self.ask():
                    self.fresh_n = a.n
                    return 0.001
            return 0.05
        if self.quiet or len(a.waiting) >= self.window:
            return 0.2
        if now < self.next:
            return self.next - now
        self.next = max(self.next + self.rng.expovariate(self.rate), now - 0.5)
        if not self.ask():
            return 0.05
        return 0.0

    def fresh(self, count):
        self.fresh_left, self.fresh_n = count, None


class Worker(ZmqPeer):
    def __init__(self, spec, control):
        super().__init__(spec, control)
        self.answerer = Answerer(self, spec["stream"])

    def on_message(self, frames):
        envelope = []
        if self.type != "REP":
            try:
                envelope, frames = split(frames)
            except Wrong as e:
                self.wrong(e)
                return
        out = self.answerer.take(frames)
        if out is None:
            out = [b"?"]
        if self.spec.get("pace") and self.rng.random() < 0.2:
            time.sleep(self.rng.random() * self.spec["pace"])
        try:
            self.socket.send_multipart(envelope + out, zmq.NOBLOCK)
        except zmq.ZMQError as e:
            if e.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            self.note("U", self.answerer.stream, self.answerer.seq)

    def work(self, now):
        return 0.2


# --- raw ----------------------------------------------------------------------

class Raw:
    """One raw connection; `kind` says how it misbehaves and how it ends."""

    def __init__(self, peer, stream, kind, identity):
        self.peer, self.stream, self.kind = peer, stream, kind
        rng = self.rng = peer.rng
        spec = peer.spec
        self.client = spec["role"] == "rawclient"
        self.out, self.inp, self.parts = bytearray(), bytearray(), []
        self.connecting, self.greeted, self.readied = True, False, False
        self.open, self.shut = True, False
        self.held = False                      # never reads again
        self.pause = 0                         # reads nothing until then
        self.said_all = False
        self.pongs = kind != "pingless"
        self.left = rng.choice((0, 1, 5, 20, 100, 300))  # messages before it ends
        self.born = time.monotonic()
        self.until = self.born + rng.choice((0.3, 1.0, 3.0))
        if self.client:
            self.asker = Asker(peer, stream, peer.maker)
            self.window = spec.get("window") or rng.choice((1, 8, 50))
            self.next = self.born
            if kind in ("slow", "deaf", "late"):
                self.window, self.until = 400, self.born + 60
                self.asker.kinds = "rb"
        else:
            self.answerer = Answerer(peer, stream)
            if kind in ("slow", "deaf", "late"):
                self.until = self.born + 60
        if kind == "pingless":
            self.until = self.born + 60
        self.fresh_left, self.fresh_n = 0, None
        family, address = zmtp.split_endpoint(spec["endpoint"])
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        if kind in ("slow", "deaf", "late") or spec.get("tiny") or rng.random() < 0.2:
            # With less than 4096 the kernel makes every peer too slow for the timeouts.
            sizes = (1, 4096, 20000) if kind in ("slow", "deaf", "late") \
                else (4096, 20000)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rng.choice(sizes))
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, rng.choice(sizes))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.bind((spec.get("source", "127.0.0.1"), 0))
        self.sock.setblocking(False)
        peer.note("L", stream, "tcp://%s:%d" % self.sock.getsockname(), kind)
        socktype = rng.choice((b"DEALER", b"REQ", b"ROUTER") if self.client else
                              (b"DEALER", b"REP", b"ROUTER"))
        if kind != "silent":
            self.out += zmtp.greeting(minor=rng.choice((0, 1, 1))) + zmtp.ready(socktype, identity)
            self.req = socktype == b"REQ"
        error = self.sock.connect_ex(address)
        if error not in (0, errno.EINPROGRESS):
            self.end("refused")

    # -- the end

    def end(self, how):
        if not self.open:
            return
        self.open = False
        self.peer.note("E", self.stream, how)
        if how == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def finish(self):
        """End as its kind does; half-sent messages stay half-sent."""
        kind = self.kind
        if kind == "half_close":
            if self.readied and not self.shut and not self.connecting:
                # the last bytes and the end at once, so that they arrive together
                if self.client and not self.said_all:
                    for _ in range(self.rng.choice((0, 3, 30))):
                        self.ask()
                self.said_all = True
                if not self.flush():
                    return
                try:
                    self.sock.shutdown(socket.SHUT_WR)
                except OSError:
                    self.end("error")
                    return
                self.shut = True
                self.peer.note("E", self.stream, "half_close")
            elif not self.readied and time.monotonic() > self.until + 2:
                self.end("close")
        elif kind in ("cut", "stuck") and self.readied and not self.out and not self.held:
            head = zmtp.frame_header(100000, zmtp.MORE) + b"half of a message"
            try:
                self.sock.send(head[:self.rng.randrange(1, len(head))])
            except OSError:
                pass
            if kind == "stuck":                # and nothing more, until it is closed
                self.held = True
                self.until = time.monotonic() + 20
            else:
                self.end(self.rng.choice(("close", "reset")))
        elif kind in ("reset", "slow", "deaf", "stuck", "late"):
            self.end("reset")
        elif self.rng.random() < 0.5 or time.monotonic() > self.until + 2:
            self.end("close")

    # -- bytes

    def wants(self):
        """-> (reads, writes)"""
        return (not self.connecting and not self.held and time.monotonic() >= self.pause,
                self.connecting or bool(self.out) and not self.shut)

    def writable(self):
        if self.connecting:
            error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self.end("refused")
                return
            self.connecting = False
        self.push(self.rng.choice((1 << 18, 1 << 18, 1 << 18, 100)))

    def push(self, limit):
        try:
            n = self.sock.send(self.out[:limit])
            del self.out[:n]
        except BlockingIOError:
            return False
        except OSError:
            self.end("error")
            return False
        return True

    def flush(self):
        """True when the kernel has all of it."""
        while self.out and self.push(1 << 18):
            pass
        return self.open and not self.out

    def readable(self):
        slow = self.kind == "slow"
        if slow:
            self.pause = time.monotonic() + 0.01
        try:
            got = self.sock.recv(700 if slow else 1 << 18)
        except BlockingIOError:
            return
        except OSError:
            self.end("error")
            return
        if not got:
            self.end("eof")
            return
        self.inp += got
        try:
            self.parse()
        except (Wrong, AssertionError) as e:
            self.peer.wrong("%s: %s" % (self.stream, e))
            self.end("reset")

    def parse(self):
        """Parse strictly: the daemon must be strict in what it sends."""
        if not self.greeted:
            if len(self.inp) < 64:
                return
            if self.inp[:10] != zmtp.SIGNATURE:
                raise Wrong("signature %r" % bytes(self.inp[:10]))
            del self.inp[:64]
            self.greeted = True
        at, inp = 0, self.inp
        while len(inp) - at >= 2:
            flags = inp[at]
            if flags & ~7:
                raise Wrong("flags %#x" % flags)
            head = 9 if flags & zmtp.LONG else 2
            if len(inp) - at < head:
                break
            size = struct.unpack_from(">Q", inp, at + 1)[0] if head == 9 else inp[at + 1]
            if size > 1 << 20:
                raise Wrong("a frame of %d bytes" % size)
            if len(inp) - at < head + size:
                break
            body = bytes(inp[at + head:at + head + size])
            at += head + size
            self.on_frame(flags, body)
            if not self.open:
                return
        del inp[:at]

    def on_frame(self, flags, body):
        if flags & zmtp.COMMAND:
            name, data = zmtp.parse_command(body)
            if name not in (b"READY", b"PING", b"PONG") or (name == b"READY") == self.readied:
                raise Wrong("command %r" % name)
            if name == b"READY":
                self.readied = True
            elif name == b"PING" and self.pongs and not self.shut:
                self.out += zmtp.pong(data[2:])
            return
        if not self.readied:
            raise Wrong("a message before READY")
        self.parts.append(body)
        if not flags & zmtp.MORE:
            frames, self.parts = self.parts, []
            self.on_message(frames)

    def on_message(self, frames):
        envelope, frames = split(frames)
        if self.client:
            self.asker.take(frames)
        else:
            out = self.answerer.take(frames)
            self.left -= 1
            if out is not None and not self.shut:
                self.out += zmtp.message(envelope + out)
            elif out is not None:
                self.peer.note("U", self.stream, self.answerer.seq)

    # -- its actions

    def ask(self):
        frames = [b""] + self.asker.make()
        if self.peer.spec.get("ids"):
            frames.insert(0, self.asker.request_id())
        self.out += zmtp.message(frames)

    def step(self, now):
        if self.client:
            self.asker.give_up(now)
        if self.fresh_left:
            a = self.asker
            if self.fresh_n is None or self.fresh_n not in a.expected:
                if self.fresh_n is not None:
                    self.fresh_left -= 1
                    self.fresh_n = None
                if self.fresh_left and self.readied:
                    self.ask()
                    self.fresh_n = a.n
            return
        if self.kind == "plain":
            if self.client and not self.peer.quiet:
                self.chat(now)
            return
        if self.kind == "silent":
            if now > self.born + 30 or self.peer.quiet:
                self.end("close")
            return
        ends = now >= self.until or self.left <= 0 or self.peer.quiet
        if ends and (self.kind != "late" or not self.readied):
            if not self.shut:
                self.finish()
        elif self.client and self.readied and not (self.held and self.kind in ("stuck", "late")):
            self.chat(now)
        if self.kind == "deaf" and self.readied and now > self.born + 0.3:
            self.held = True
        elif self.kind == "late" and self.readied and now > self.born + 0.3:
            # Reads nothing until the daemon must have hung up, and then everything that it sent.
            self.held = now < self.born + LATE
            self.shut = not self.held
            if now > self.born + LATE + 4:     # the daemon never sent enough to notice
                self.end("reset")

    def chat(self, now):
        if len(self.asker.waiting) >= self.window or len(self.out) > 1 << 20 or now < self.next:
            return
        rate = self.peer.spec.get("rate", 60.0) * (4 if self.window == 400 else 1)
        self.next = max(self.next + self.rng.expovariate(rate), now - 0.3)
        self.left -= 1
        self.ask()


class RawPeer(Peer):
    """Some raw connections in one process; one that ended is followed by another."""

    def __init__(self, spec, control):
        super().__init__(spec, control)
        self.maker = Maker(self.rng, spec.get("big", 0.03))
        self.count = 0
        self.ids = 0
        self.fresh_asked = False
        self.slots = [self.start(kind) for kind in spec["menu"]]

    def start(self, kind):
        self.count += 1
        # anonymous; or a routing id of its own; or one that was used before
        roll = self.rng.random()
        identity = None
        stream = "%sx%d" % (self.spec["name"], self.count)
        if self.spec["role"] == "rawclient" and roll < 0.7 and kind != "silent":
            if roll < 0.5 or not self.ids or kind == "plain":
                self.ids += 1
                one = self.ids
                self.ids_free = getattr(self, "ids_free", [])
            else:
                one = self.rng.choice(self.ids_free) if self.ids_free else None
            if one is not None:
                if kind != "plain":
                    self.ids_free = getattr(self, "ids_free", []) + [one]
                stream = "%si%d.%d" % (self.spec["name"], one, self.count)
                identity = owner(stream).encode()
        return Raw(self, stream, kind, identity)

    def live(self):
        return sum(1 for r in self.slots if r.open and r.readied)

    def settled(self):
        return all(r.open and r.readied and not r.out if r.kind == "plain" else not r.open
                   for r in self.slots)

    def fresh(self, count):
        self.fresh_asked = True
        for r in self.slots:
            if r.open and r.client:
                r.fresh_left = count

    def run(self):
        while self.running:
            now = self.turn()
            for i, r in enumerate(self.slots):
                if r.open:
                    r.step(now)
                elif (not self.quiet or r.kind == "plain") and now > r.born + 0.1:
                    self.slots[i] = self.start(r.kind)
            if self.fresh_asked and all(not r.open or not r.fresh_left for r in self.slots):
                self.fresh_asked = False
                self.tell("fresh ok")
            poll = select.poll()
            poll.register(self.control, select.POLLIN)
            found = {}
            for r in self.slots:
                if r.open:
                    reads, writes = r.wants()
                    events = (select.POLLIN if reads else 0) | (select.POLLOUT if writes else 0)
                    if not events:
                        continue
                    poll.register(r.sock, events)
                    found[r.sock.fileno()] = r
            if self.spec.get("nap") and not self.quiet:
                time.sleep(self.spec["nap"])
            for fd, events in poll.poll(5 if not self.quiet else 50):
                r = found.get(fd)
                if r is None:
                    continue
                if events & (select.POLLOUT | select.POLLERR) and r.open and r.wants()[1]:
                    r.writable()
                if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and r.open:
                    r.readable()
        for r in self.slots:
            r.end("close")


class Storm(Peer):
    """Opens as many connections as it can, says nothing or little, closes them again."""

    def run(self):
        family, address = zmtp.split_endpoint(self.spec["endpoint"])
        socks = []
        while self.running:
            now = self.turn()
            if self.quiet:
                for s in socks:
                    s.close()
                socks = []
                self.last = now - 1
                time.sleep(0.02)
                continue
            if len(socks) >= self.spec["connections"]:
                for s in self.rng.sample(socks, len(socks) // 3):
                    s.close()
                    socks.remove(s)
            for _ in range(8):
                s = socket.socket(family, socket.SOCK_STREAM)
                s.setblocking(False)
                s.connect_ex(address)
                if self.rng.random() < 0.5:
                    try:
                        s.send(zmtp.greeting()[:self.rng.choice((1, 20, 64))])
                    except OSError:
                        pass
                socks.append(s)
            time.sleep(0.01)
        for s in socks:
            s.close()

    def live(self):
        return 0


class Link(Peer):
    """The wire between two namespaces, where the kernel has no netem: see link.py."""

    def run(self):
        wire = link.Wire(self.spec["ends"], self.rng)
        self.tell("wired")
        while self.running:
            self.turn()
            wire.run(0.05)

    def live(self):
        return 0


# --- the server that forks ----------------------------------------------------

ROLES = {"client": Client, "worker": Worker, "rawclient": RawPeer, "rawworker": RawPeer,
         "storm": Storm, "link": Link}


def child(spec, control):
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    peer = None
    try:
        if spec.get("netns"):
            link.enter(spec["netns"])
        peer = ROLES[spec["role"]](spec, control)
        peer.tell("up")
        peer.run()
        return 0
    except BaseException:  # noqa: BLE001 - it must be found in the journal
        with open(spec["journal"], "a", encoding="utf-8") as f:
            f.write("%.3f X %s\n" % (time.monotonic(),
                                     "; ".join(traceback.format_exc().split("\n")[-6:])))
        return 1


def serve(fd):
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    sock = socket.socket(fileno=fd)
    while True:
        data, fds, _, _ = socket.recv_fds(sock, 1 << 16, 1)
        if not data:
            return
        order = json.loads(data)
        if order["do"] == "start":
            control = socket.socket(fileno=fds[0])
            pid = os.fork()
            if pid == 0:
                sock.close()
                os._exit(child(order["spec"], control))
            control.close()
            sock.send(b"%d" % pid)
        else:
            pid, status = os.waitpid(order["pid"], 0 if order["block"] else os.WNOHANG)
            sock.send(b"%d %d" % (pid, status))


if __name__ == "__main__":
    serve(int(sys.argv[1]))
