# SPDX-License-Identifier: MIT
"""libzmq peers with busy applications: their library stops reading, and they stay connected."""

import threading
import time

import zmq

from harness import DEADLINE
from zmqcase import ZmqCase

COUNT = 200
BODY = b"j" * 2000
SHORT = {"heartbeat_interval": "500ms", "heartbeat_timeout": "1s"}
SMALL = {"RCVHWM": 10, "RCVBUF": 4096}


class Computing(threading.Thread):
    """A REP that has one long job among many short ones."""

    def __init__(self, case, endpoint, job, seconds):
        super().__init__(daemon=True)
        self.socket = case.socket(zmq.REP, endpoint, **SMALL)
        self.job, self.seconds = job, seconds
        self.start()

    def run(self):
        for _ in range(COUNT):
            parts = self.socket.recv_multipart()
            if parts[0] == self.job:
                time.sleep(self.seconds)             # without reading the socket
            self.socket.send_multipart(parts[:1])


class Busy(ZmqCase):
    def test_a_rep_that_computes(self):
        """Busy for longer than both heartbeat times, with more to read than it has room for."""
        d = self.daemon(defaults=dict(SHORT, send_buffer=16384))
        w = Computing(self, d.backend, b"50", 5)
        self.ready(d, "backend")
        c = self.socket(zmq.DEALER, d.frontend)
        for i in range(COUNT):
            c.send_multipart([b"", b"%d" % i, BODY])
        self.assertEqual([c.recv_multipart()[1] for _ in range(COUNT)],
                         [b"%d" % i for i in range(COUNT)])
        w.join(DEADLINE)
        self.assertEqual(d.find_events("peer_closed"), [])

    def test_a_client_that_reads_late(self):
        d = self.daemon(defaults=dict(SHORT, send_buffer=16384))
        self.echo(d.backend)
        self.ready(d, "backend")
        c = self.socket(zmq.DEALER, d.frontend, **SMALL)
        clock = self.client(d)                       # 8 of its PINGs are longer than both
        for i in range(COUNT):
            c.send_multipart([b"", b"%d" % i, BODY])
        d.wait_stats(lambda s: s.frontend["received"] == COUNT)
        for _ in range(8):
            clock.recv_command(b"PING")
        self.assertEqual([c.recv_multipart()[1] for _ in range(COUNT)],
                         [b"%d" % i for i in range(COUNT)])
        self.assertEqual(d.find_events("peer_closed"), [])
