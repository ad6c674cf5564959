# SPDX-License-Identifier: MIT
"""Requests in flight, with real clients and workers of each kind."""

import os
import select
import signal

import zmq

from harness import DEADLINE
from zmqcase import ZmqCase

CLIENTS = ("REQ", "DEALER", "DEALER with ids", "ROUTER")
WORKERS = ("REP", "DEALER", "ROUTER")
REDELIVER = {"redeliver": "yes", "answer_timeout": "500ms"}


class Client:
    """A client that numbers its requests; each reply is matched to its request."""

    def __init__(self, case, d, kind):
        self.kind = kind
        self.socket = case.socket(getattr(zmq, kind.split()[0]), d.frontend)
        self.unsent, self.waits, self.got = [], [], []
        if kind == "ROUTER":
            # before the handshake it has no peer to send to
            self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)

    def send(self, body):
        if self.kind == "REQ":
            if self.waits:
                self.unsent.append(body)
                return
            self.socket.send(body)
        elif self.kind == "DEALER":
            self.socket.send_multipart([b"", body])
        elif self.kind == "ROUTER":
            self.to_the_broker([b"", body])
        else:
            self.socket.send_multipart([b"id " + body, b"", body])
        self.waits.append(body)

    def to_the_broker(self, parts):
        for _ in range(500):
            try:
                return self.socket.send_multipart([b"broker"] + parts)
            except zmq.ZMQError as e:
                if e.errno != zmq.EHOSTUNREACH:
                    raise
                self.socket.poll(10)
        raise AssertionError("the broker never came")

    def recv(self):
        parts = self.socket.recv_multipart()
        body = parts[-1]
        assert body in self.waits, "%s: %r is no reply to %r" % (self.kind, parts, self.waits)
        want = {"REQ": [body], "DEALER": [b"", body], "ROUTER": [b"broker", b"", body],
                "DEALER with ids": [b"id " + body, b"", body]}[self.kind]
        assert parts == want, "%s: %r" % (self.kind, parts)
        self.waits.remove(body)
        self.got.append(body)
        if self.unsent:
            self.send(self.unsent.pop(0))


class Kinds(ZmqCase):
    COUNT = 20

    def play(self, worker, disturb, **backend):
        """All kinds of clients, a worker of this kind that is disturbed, and a healthy one."""
        d = self.daemon(frontend={"routing_id": "broker"}, backend=dict(REDELIVER, **backend))
        victim = self.process(d.backend, "type=" + worker, "mute")
        victim.wait_line("up")
        self.ready(d, "backend")
        clients = [Client(self, d, kind) for kind in CLIENTS]
        for i in range(self.COUNT):
            for c in clients:
                c.send(b"%s %d" % (c.kind.encode(), i))
        victim.wait_line("got 1")
        disturb(d, victim)
        self.echo(d.backend, getattr(zmq, worker))
        for c in clients:
            for _ in range(self.COUNT):
                c.recv()
            self.assertEqual((c.waits, c.unsent), ([], []))
        victim.kill()
        s = d.wait_stats(lambda s: s.backend["kept_bytes"] == 0)
        self.assertEqual([c.socket.poll(0) for c in clients], [0] * len(clients))
        self.assertEqual(s.frontend["sent"], self.COUNT * len(CLIENTS))
        self.assertEqual(s.backend["dropped"], 0)
        # a machine that pauses makes the other worker late as well
        self.assertEqual(s.frontend["dropped"], s.frontend["drop_late_reply"])
        self.assertGreater(s.backend["redelivered"], 0)

    def test_killed(self):
        for kind in WORKERS:
            with self.subTest(kind):
                self.play(kind, lambda d, victim: victim.kill())

    def test_never_answers(self):
        for kind in WORKERS:
            with self.subTest(kind):
                self.play(kind, lambda d, victim: d.wait_event("worker_suspect"))

    def test_killed_with_a_limit(self):
        """max_outstanding = 1: the worker has one request, and never had the others."""
        for kind in WORKERS:
            with self.subTest(kind):
                self.play(kind, lambda d, victim: victim.kill(), max_outstanding=1,
                          balance="least_outstanding")


class Req(ZmqCase):
    def test_one_that_asks_again(self):
        """REQ_CORRELATE and REQ_RELAXED: a late reply is not taken for that to the next."""
        d = self.daemon(backend=REDELIVER)
        slow = self.process(d.backend, "tag=!")
        slow.wait_line("up")
        self.ready(d, "backend")
        c = self.socket(zmq.REQ, d.frontend, REQ_CORRELATE=1, REQ_RELAXED=1)
        self.assertEqual(self.ask(c, b"first"), [b"first!"])
        slow.send_signal(signal.SIGSTOP)
        try:
            c.send(b"given up")
            d.wait_event("worker_suspect")
            c.send(b"asked instead")
            self.echo(d.backend, zmq.REP, b"?")
            self.assertEqual(c.recv(), b"asked instead?")
        finally:
            slow.send_signal(signal.SIGCONT)
        d.wait_event("worker_returned")
        self.assertEqual(c.poll(0), 0)
        s = d.wait_stats(lambda s: s.backend["kept_bytes"] == 0)
        self.assertEqual(s.frontend["drop_late_reply"], 1)


class Deadly(ZmqCase):
    def test_a_request_that_kills_every_worker(self):
        """Three REP workers die of the request; all other requests are served."""
        d = self.daemon(backend=dict(REDELIVER, max_outstanding=1, redeliver_limit=3))
        workers = [self.process(d.backend, "die=poison") for _ in range(5)]
        ends = {os.pidfd_open(w.proc.pid): w for w in workers}
        for fd in ends:
            self.addCleanup(os.close, fd)
        self.ready(d, "backend", len(workers))
        clients = [self.socket(zmq.DEALER, d.frontend) for _ in range(4)]
        clients[0].send_multipart([b"bad", b"", b"poison"])
        for i in range(50):
            for c in clients:
                c.send_multipart([b"%d" % i, b"", b"x"])
        for c in clients:
            self.assertEqual({c.recv_multipart()[0] for _ in range(50)},
                             {b"%d" % i for i in range(50)})
        s = d.wait_stats(lambda s: s.backend["drop_undeliverable"] == 1 and
                         s.backend["kept_bytes"] == 0)
        self.assertEqual((s.backend["peers"], s.backend["dropped"]), (2, 1))
        self.assertEqual([c.poll(0) for c in clients], [0] * 4)
        dead = []                            # their sockets closed before they are gone
        while len(dead) < 3:
            ready = select.select(list(ends), [], [], DEADLINE)[0]
            self.assertTrue(ready, "a worker did not end")
            dead += [ends.pop(fd) for fd in ready]
        for w in dead:
            w.proc.wait(DEADLINE)
        self.assertEqual([w.proc.returncode for w in dead], [1, 1, 1])


class ClosedLoop(ZmqCase):
    def test_goes_on_with_a_stopped_worker(self):
        """Each client waits for its replies before it continues: none hangs."""
        d = self.daemon(backend=REDELIVER)
        workers = [self.process(d.backend, "type=DEALER") for _ in range(3)]
        self.ready(d, "backend", len(workers))
        clients = [self.socket(zmq.DEALER, d.frontend) for _ in range(3)]
        window, rounds = 20, 300

        def send(c, i):
            c.send_multipart([b"%d" % i, b"", b"x"])

        poller = zmq.Poller()
        sent, got = {}, {}
        for c in clients:
            poller.register(c, zmq.POLLIN)
            for i in range(window):
                send(c, i)
            sent[c], got[c] = window, set()

        def take(until):
            while any(len(got[c]) < until for c in clients):
                ready = poller.poll(30000)
                self.assertTrue(ready, "nothing moves: %s" % [len(x) for x in got.values()])
                for c, _ in ready:
                    n = int(c.recv_multipart()[0])
                    self.assertNotIn(n, got[c])
                    got[c].add(n)
                    if sent[c] < rounds:
                        send(c, sent[c])
                        sent[c] += 1

        take(50)
        workers[0].send_signal(signal.SIGSTOP)
        try:
            take(rounds)
            self.assertEqual(len(d.find_events("worker_suspect")), 1)
        finally:
            workers[0].send_signal(signal.SIGCONT)
        d.wait_event("worker_returned")
        d.wait_stats(lambda s: s.backend["kept_bytes"] == 0)
        self.assertEqual([c.poll(0) for c in clients], [0] * 3)
