# SPDX-License-Identifier: MIT
"""Peers that send as much as they can of the input that costs most to read.

No clock is read: the amount of a flood that the daemon has read by the time that another peer is
served shows how long that peer waited.
"""

import signal

import zmtp
from harness import Case
from zmtp import frame, message

FLOODERS = 100
ROUND_TRIPS = 20
NOTHING = frame(b"", flags=zmtp.COMMAND)


class Flood(Case):
    """Many clients of one proxy have filled their sockets while the daemon was stopped."""

    def start(self):
        sections = self.sections()
        sections.update({"frontend other": {"bind": "tcp://127.0.0.1:*"},
                         "backend other": {"bind": "tcp://127.0.0.1:*"}})
        self.d = d = self.daemon(sections=sections)
        self.w = self.worker(d, endpoint=d.endpoint("backend", "other"))
        self.c = self.client(d, endpoint=d.endpoint("frontend", "other"))
        self.exchange(self.c, self.w)

    def fill(self, unit, side):
        """Stop the daemon and send as much of `unit` as the kernel takes. Returns its bytes."""
        flooders = [self.client(self.d, endpoint=self.d.endpoint(side)) for _ in range(FLOODERS)]
        self.d.wait_stats(lambda s: s.side(side)["peers"] == FLOODERS)
        self.before = self.d.stats().side(side)["bytes_received"]
        chunk = unit * (65536 // len(unit))
        there = 0
        self.d.send_signal(signal.SIGSTOP)
        for f in flooders:
            f.sock.setblocking(False)
            rest = chunk
            try:
                while rest:
                    n = f.sock.send(rest)
                    there += n
                    rest = rest[n:] or chunk
            except BlockingIOError:
                pass
        return there

    def passes_by(self, unit, side="frontend"):
        self.start()
        there = self.fill(unit, side)
        self.c.send_message([b"", b"first"])
        self.d.send_signal(signal.SIGCONT)
        got = self.w.recv_message()
        self.w.send_message([got[0], b"", b"first!"])
        self.assertEqual(self.c.recv_message(), [b"", b"first!"])
        for i in range(ROUND_TRIPS):
            self.exchange(self.c, self.w, b"%d" % i)
        read = self.d.stats().side(side)["bytes_received"] - self.before
        self.assertLess(read, there // 2)

    def test_commands(self):
        """The smallest commands, 130,000 of them in one read of the daemon."""
        self.passes_by(NOTHING)

    def test_pings(self):
        """Commands that each require an answer."""
        self.passes_by(zmtp.ping())

    def test_frames(self):
        """Messages of a thousand empty frames each."""
        self.passes_by(message([b"nobody"] + [b""] * 999), "backend")

    def test_replies(self):
        """The same from workers: replies that answer no request."""
        self.passes_by(message([b"nobody", b"", b"x"]), "backend")
