# SPDX-License-Identifier: MIT
"""Raw peers that act at random, from a seed.

Whatever happens: no message is cut, mixed or delivered twice, replies reach
only their own client, the counters add up, and a well-behaved pair is served
in the end.  BULKHEAD_TEST_SEED chooses another sequence of events.
"""

import os
import random
import socket
import struct
import zlib

import zmtp
from harness import Case
from zmtp import Peer, frame, greeting, message, ping, pong, ready

SEED = int(os.environ.get("BULKHEAD_TEST_SEED", "1"))


class Wild:
    """A peer that never blocks: what does not go out now waits, or never goes out."""

    def __init__(self, endpoint, rng, kind, identity, minor):
        small = rng.random() < 0.5
        self.peer = Peer.connect(endpoint, rcvbuf=4096 if small else None)
        self.peer.sock.setblocking(False)
        self.rng, self.kind = rng, kind
        self.identity = identity
        self.out = bytearray(greeting(minor=minor) + ready(b"DEALER", identity))
        self.inp = bytearray()
        self.parts = []
        self.greeted = self.readied = False
        self.open = True

    def push(self, limit=None):
        """Write some of the bytes that wait."""
        if not self.open or not self.out:
            return
        try:
            n = self.peer.sock.send(self.out[:limit])
            del self.out[:n]
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def pull(self):
        """Read what has arrived; return the messages that are complete."""
        if not self.open:
            return []
        end = False
        try:
            while True:
                got = self.peer.sock.recv(1 << 16)
                if not got:
                    end = True
                    break
                self.inp += got
        except BlockingIOError:
            pass
        except OSError:
            end = True
        messages = self.parse()
        if end:
            self.close()
        return messages

    def parse(self):
        out = []
        if not self.greeted:
            if len(self.inp) < 64:
                return out
            assert self.inp[:10] == zmtp.SIGNATURE, bytes(self.inp[:10])
            del self.inp[:64]
            self.greeted = True
        while len(self.inp) >= 2:
            flags = self.inp[0]
            assert not flags & ~7, "flags %#x" % flags
            head = 9 if flags & zmtp.LONG else 2
            if len(self.inp) < head:
                break
            size = struct.unpack(">Q", self.inp[1:9])[0] if head == 9 else self.inp[1]
            assert size < 1 << 21, "a frame of %d bytes" % size
            if len(self.inp) < head + size:
                break
            body = bytes(self.inp[head:head + size])
            del self.inp[:head + size]
            if flags & zmtp.COMMAND:
                name, data = zmtp.parse_command(body)
                assert name in (b"READY", b"PING", b"PONG"), name
                assert (name == b"READY") != self.readied, name
                self.readied = True
                if name == b"PING" and self.rng.random() < 0.9:
                    self.out += pong(data[2:])
                continue
            assert self.readied, "a message before READY"
            self.parts.append(body)
            if not flags & zmtp.MORE:
                out.append(self.parts)
                self.parts = []
        return out

    def close(self, how="close"):
        if self.open:
            self.open = False
            getattr(self.peer, how)()


class Chaos(Case):
    def body(self, size):
        data = self.rng.randbytes(16) * (size // 16)
        return data + struct.pack(">I", zlib.crc32(data))

    def check_body(self, body):
        self.assertEqual(struct.unpack(">I", body[-4:])[0], zlib.crc32(body[:-4]), "corrupted")

    def size(self):
        return self.rng.choice((0, 16, 16, 16, 240, 256, 1000, 1000, 8192, 65536, 200000))

    # -- actions of a peer

    def ask(self, c):
        self.count += 1
        tag = b"%d" % self.count
        self.asked[tag] = c.identity
        data = message([tag, self.body(self.size())])
        middle = ping(0, b"mid") if self.rng.random() < 0.2 else b""
        c.out += frame(b"", more=True) + middle + data

    def work(self, w, answer=True):
        for parts in w.pull():
            self.assertEqual(parts[1], b"")
            tag = parts[2]
            self.assertIn(tag, self.asked)
            self.assertNotIn(tag, self.done, "delivered twice")
            self.done.add(tag)
            self.check_body(parts[3])
            if self.asked[tag]:
                self.assertEqual(parts[0], self.asked[tag])
            if answer and self.rng.random() < 0.9:
                w.out += message([parts[0], b"", tag, self.body(self.size())])
            if self.rng.random() < 0.05:
                w.out += message([b"nobody", b"", b"x"])
            if self.rng.random() < 0.02:
                w.out += message([parts[0]])

    def listen(self, c):
        for parts in c.pull():
            self.assertEqual(parts[0], b"")
            self.assertIn(parts[1], self.done, "a reply that nobody gave")
            self.assertNotIn(parts[1], self.answered, "a reply came twice")
            self.answered.add(parts[1])
            self.assertEqual(self.asked[parts[1]], c.identity, "somebody else's reply")
            self.check_body(parts[2])

    def spoil(self, p):
        p.out += self.rng.choice((
            ping(0, b"x" * 16), ping(self.rng.randrange(1, 20)), pong(), frame(b"", flags=4),
            zmtp.command(b"NOSUCH", b"z" * 300), frame(b"", more=True) + b"\0\x40part",
            ready(), zmtp.frame_header(1 << 40), b"\xff" * 30, zmtp.command(b"PING")))
        # The daemon would not understand anything after it.
        p.push()
        self.leave(p)

    def leave(self, p):
        how = self.rng.choice(("close", "reset", "half_close", "close"))
        if how == "half_close":
            try:
                p.peer.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        p.close("reset" if how == "reset" else "close")

    def step(self, d):
        rng, peers = self.rng, self.peers
        peers[:] = [p for p in peers if p.open]
        clients = [p for p in peers if p.kind == "client"]
        workers = [p for p in peers if p.kind == "worker"]
        roll = rng.random()
        if len(clients) < 3 or (roll < 0.04 and len(clients) < 12):
            self.clients += 1
            identity = rng.choice((b"c%d" % self.clients, b"c%d" % self.clients, b""))
            peers.append(Wild(d.frontend, rng, "client", identity, rng.randrange(2)))
        elif len(workers) < 2 or (roll < 0.08 and len(workers) < 8):
            peers.append(Wild(d.backend, rng, "worker", b"", rng.randrange(2)))
        elif roll < 0.45:
            c = rng.choice(clients)
            for _ in range(rng.choice((1, 1, 3, 30))):
                self.ask(c)
            c.push(rng.choice((None, None, 1, 100)))
        elif roll < 0.75:
            w = rng.choice(workers)
            self.work(w)
            w.push(rng.choice((None, None, 1, 100)))
        elif roll < 0.94:
            c = rng.choice(clients)
            self.listen(c)
            c.push()
        elif roll < 0.97:
            self.spoil(rng.choice(peers))
        else:
            self.leave(rng.choice(peers))

    def play(self, seed, steps, frontend=None, backend=None, **broker):
        self.rng = random.Random(seed)
        self.peers, self.asked, self.done, self.answered = [], {}, set(), set()
        self.count = self.clients = 0
        broker.setdefault("memory_limit", "8MiB")
        d = self.daemon(
            broker=broker,
            defaults={"send_timeout": "200ms", "receive_timeout": "300ms",
                      "receive_deadline": "600ms", "handshake_timeout": "300ms",
                      "heartbeat_interval": "60ms", "heartbeat_timeout": "200ms",
                      "max_message_size": "1MiB", "send_buffer": 8192,
                      "receive_hwm_bytes": "32KiB"},
            frontend=frontend, backend=backend)
        for i in range(steps):
            self.step(d)
            if i % 25 == 0:
                d.stats()
        for p in self.peers:
            p.close(self.rng.choice(("close", "reset")))
        # A worker that only reads, until no message is left.  (A client that is not
        # read may seem to stay until then: its end comes after what its kernel still holds.)
        w = Wild(d.backend, self.rng, "worker", b"", 0)
        self.closing(w)

        def quiet(s):
            nonlocal w
            if not w.open:  # too slow for the send_timeout above, on a busy machine
                w = Wild(d.backend, self.rng, "worker", b"", 0)
                self.closing(w)
            w.push()
            self.work(w, answer=False)
            return (w.readied and s.backend["queued"] == 0 and s.backend["peers"] == 1 and
                    s.frontend["peers"] == 0)

        s = d.wait_stats(quiet, "quiet")
        self.assertEqual(s.frontend["queued"], 0)
        self.assertLess(int(s.end["memory_bytes"]), 1 << 20)
        c = self.client(d, minor=0)
        self.asked[b"finally"] = b""
        c.send_message([b"", b"finally", self.body(16)])
        d.wait_stats(lambda s: self.work(w, answer=False) or b"finally" in self.done)
        # The peers did send messages.
        self.assertGreater(len(self.done), steps // 50)

    def test_drop(self):
        self.play(SEED, 2500, frontend={"send_hwm": 20}, backend={"send_hwm": 30})

    def test_pause(self):
        self.play(SEED + 1000, 2500, frontend={"send_hwm": 10, "when_full": "pause"},
                  backend={"send_hwm": 10})

    def test_little_memory(self):
        self.play(SEED + 2000, 2500, frontend={"send_hwm_bytes": "64MiB"},
                  backend={"send_hwm_bytes": "64MiB"}, memory_limit="1MiB")

    def test_bytes(self):
        self.play(SEED + 3000, 2500, frontend={"send_hwm_bytes": "32KiB"},
                  backend={"send_hwm_bytes": "32KiB", "when_full": "pause"})

    def test_over_unix_sockets(self):
        path = self.temp_dir()
        self.play(SEED + 4000, 2500, frontend={"bind": "ipc://%s/f" % path, "send_hwm": 20},
                  backend={"bind": "ipc://%s/b" % path, "send_hwm": 30})
