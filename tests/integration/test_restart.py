# SPDX-License-Identifier: MIT
"""Plain REQ loops over restarts: no time-outs, no request is sent again."""

import os
import signal
import threading
import time

import zmq

from harness import DEADLINE
from zmqcase import ZmqCase

CLIENTS = int(os.environ.get("BULKHEAD_RESTART_CLIENTS", "100"))
CHAIN = 20
THREADS = 20
ROUNDS = int(os.environ.get("BULKHEAD_RESTARTS", "10"))


class Loops:
    """REQ clients that send, wait for the reply, and send again, until finish()."""

    def __init__(self, case, endpoint, count):
        self.case, self.endpoint = case, endpoint
        self.poller = zmq.Poller()
        self.waiting = {}                        # socket -> the reply it waits for
        self.replies = {}                        # socket -> how many it got
        for _ in range(count):
            self.add()

    def add(self):
        ctx = zmq.Context()                      # an I/O thread of its own, as in a process
        self.case.addCleanup(ctx.destroy, 0)
        s = self.case.socket(zmq.REQ, self.endpoint, ctx=ctx)
        self.poller.register(s, zmq.POLLIN)
        self.replies[s] = 0
        self.send(s)

    def send(self, s):
        self.waiting[s] = b"%d" % self.replies[s]
        s.send(self.waiting[s])                  # waits in the socket while there is no connection

    def run(self, until):
        """Continue until the predicate is true; False at the deadline."""
        end = time.monotonic() + DEADLINE
        while not until():
            if time.monotonic() > end:
                return False
            for s, _ in self.poller.poll(50):
                self.case.assertEqual(s.recv(), self.waiting[s] + b"!")
                self.replies[s] += 1
                self.send(s)
        return True

    def rest(self, count):
        """Let that many clients get their reply without reading it; the others continue."""
        self.resting = list(self.waiting)[:count]
        for s in self.resting:
            self.poller.unregister(s)
        return self.run(lambda: sum(s.poll(0) != 0 for s in self.resting) >= count - 1)

    def wake(self):
        """Let these clients read and continue. Returns how many had their reply."""
        for s in self.resting:
            self.poller.register(s, zmq.POLLIN)
        return sum(s.poll(0) != 0 for s in self.resting)

    def replace(self, s):
        self.poller.unregister(s)
        del self.waiting[s], self.replies[s]
        s.close(0)
        self.add()


class Threads:
    """The same in one process: one context, so one I/O thread for all of them."""

    def __init__(self, case, endpoint, count):
        self.case, self.endpoint, self.ctx = case, endpoint, zmq.Context()
        self.given_up, self.threads, self.replies = set(), [], {}
        case.addCleanup(self.end)
        for _ in range(count):
            self.add()

    def add(self):
        i = len(self.threads)
        self.replies[i] = 0
        self.threads.append(threading.Thread(target=self.loop, args=(i,), daemon=True))
        self.threads[i].start()

    def loop(self, i):
        s = self.ctx.socket(zmq.REQ)
        s.connect(self.endpoint)
        while i not in self.given_up:
            s.send(b"hello")
            while not s.poll(50):
                if i in self.given_up:
                    break
            else:
                s.recv()
                self.replies[i] += 1
        s.close(0)

    def run(self, until):
        end = time.monotonic() + DEADLINE
        while not until():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def replace(self, i):
        self.given_up.add(i)
        self.threads[i].join(DEADLINE)
        del self.replies[i]
        self.add()

    def end(self):
        self.given_up.update(range(len(self.threads)))
        for t in self.threads:
            t.join(DEADLINE)
        self.ctx.term()


class Slow(threading.Thread):
    """A worker that echoes everything, except one request that it holds until release."""

    def __init__(self, ctx, endpoint):
        super().__init__(daemon=True)
        self.socket = ctx.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 10)
        self.socket.connect(endpoint)
        self.wanted, self.ended = threading.Event(), threading.Event()
        self.held = None
        self.start()

    def hold(self):
        self.wanted.set()

    def holds(self):
        return self.held is not None

    def go_on(self):
        self.wanted.clear()

    def run(self):
        while not self.ended.is_set():
            if self.held is not None and not self.wanted.is_set():
                self.socket.send_multipart(self.held)
                self.held = None
            if not self.socket.poll(20):
                continue
            parts = self.socket.recv_multipart()
            parts[-1] += b"!"
            if self.wanted.is_set() and self.held is None:
                self.held = parts
            else:
                self.socket.send_multipart(parts)
        self.socket.close(0)

    def stop(self):
        self.ended.set()
        self.join(DEADLINE)


class Held(threading.Thread):
    """A worker that reads requests, and answers all of them when asked to."""

    def __init__(self, ctx, endpoint):
        super().__init__(daemon=True)
        self.socket = ctx.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)
        self.answers, self.ended = threading.Event(), threading.Event()
        self.held = []
        self.start()

    def run(self):
        while not self.ended.is_set():
            if self.socket.poll(20):
                self.held.append(self.socket.recv_multipart())
            while self.held and self.answers.is_set():
                self.socket.send_multipart(self.held.pop(0))
        self.socket.close(0)

    def stop(self):
        self.ended.set()
        self.join(DEADLINE)


class Chain(ZmqCase):
    def test_requests_in_flight_outlive_the_second_broker(self):
        """Four clients with a hundred requests each -> first -> second, which stops -> workers."""
        second = self.daemon(broker={"drain_timeout": "20s"})
        first = self.daemon(backend={"bind": None, "connect": second.frontend,
                                     "reconnect_min": "10ms", "reconnect_max": "20ms"})
        workers = [Held(self.ctx, second.backend) for _ in range(4)]
        for w in workers:
            self.addCleanup(w.stop)
        self.ready(second, "backend", len(workers))
        self.ready(first, "backend")
        clients = [self.socket(zmq.DEALER, first.frontend) for _ in range(4)]
        for c in clients:
            for i in range(100):
                c.send_multipart([b"", b"%d" % i])
        second.wait_stats(lambda s: s.backend["sent"] == 400)
        front, back = second.frontend, second.backend
        second.send_signal(signal.SIGTERM)
        second.wait_event("draining")
        for c in clients:                            # from now on for the second's successor
            c.send_multipart([b"", b"late"])
        for w in workers:
            w.answers.set()
        self.assertEqual(second.wait(), 0)
        e = second.find_events("drained")[0]
        self.assertEqual(e["given_up"], "0")
        lost = int(second.find_events("stopped")[0].get("unserved_requests", 0))
        second = self.daemon(frontend={"bind": front}, backend={"bind": back})
        successor = Held(self.ctx, second.backend)
        self.addCleanup(successor.stop)
        successor.answers.set()
        got = [[] for _ in clients]                  # except those on the wire when it left
        until = time.monotonic() + DEADLINE
        while sum(map(len, got)) < 404 - lost and time.monotonic() < until:
            for c, replies in zip(clients, got):
                if c.poll(20):
                    replies.append(c.recv_multipart()[1])
        for replies in got:
            self.assertEqual(sorted(int(r) for r in replies if r != b"late"), list(range(100)))
        self.assertEqual(sum(r.count(b"late") for r in got), 4 - lost)
        self.assertEqual(first.stats().backend["dropped"], 0)
        first.stop()
        second.stop()


class ReqLoops(ZmqCase):
    def restart(self, d, loops):
        """Start a new daemon on the same ports while the clients continue. Returns it, and how many
        clients may hang, by the last line of the old one's log."""
        front, back = d.frontend, d.backend
        d.send_signal(signal.SIGTERM)
        self.assertTrue(loops.run(lambda: d.find_events("stopped")), d.log_tail())
        self.assertEqual(d.wait(), 0)
        e = d.find_events("stopped")[0]
        self.assertIn("event=stopped", d.lines[-1])
        return (self.daemon(frontend={"bind": front}, backend={"bind": back},
                            broker={"drain_timeout": "20s", "log_level": "notice"}),
                int(e["unserved_clients"]))

    def test_the_second_of_two_brokers_restarts(self):
        """Clients -> first -> second -> workers; a slow job is under way when the second stops.

        Half of the others have their reply by then, and send another request during the drain: the
        first broker, which got DRAINING, keeps it for the second's successor.
        """
        second = self.daemon(broker={"drain_timeout": "20s", "log_level": "notice"})
        first = self.daemon(backend={"bind": None, "connect": second.frontend,
                                     "reconnect_min": "10ms", "reconnect_max": "20ms"})
        slow = Slow(self.ctx, second.backend)
        self.addCleanup(slow.stop)
        loops = Loops(self, first.frontend, CHAIN)
        self.assertTrue(loops.run(lambda: all(n > 2 for n in loops.replies.values())))
        lost = 0
        for stops in range(3):
            slow.hold()                          # one request waits until the stop is under way
            self.assertTrue(loops.run(slow.holds))
            self.assertTrue(loops.rest(CHAIN // 2), "no replies to be read later")
            front, back = second.frontend, second.backend
            second.send_signal(signal.SIGTERM)
            second.wait_event("drain_waits")
            first.wait_event("peer_draining", side="backend", count=stops + 1)
            waiting = loops.wake()
            self.assertTrue(loops.run(lambda: first.stats().backend["queued"] >= waiting),
                            second.log_tail())
            slow.go_on()
            self.assertTrue(loops.run(lambda: second.find_events("stopped")), second.log_tail())
            self.assertEqual(second.wait(), 0)
            e = second.find_events("drained")[0]
            self.assertEqual(e["given_up"], "0")
            lost += int(second.find_events("stopped")[0]["unserved_requests"])
            second = self.daemon(frontend={"bind": front}, backend={"bind": back},
                                 broker={"drain_timeout": "20s", "log_level": "notice"})
            before = dict(loops.replies)
            self.assertTrue(loops.run(lambda: sum(n == before[s] for s, n in loops.replies.items())
                                      <= lost), "more hang than the log says")
        print("%d requests lost over 3 stops of the second broker, %d loops" % (lost, CHAIN),
              flush=True)
        self.assertEqual(lost, 0)
        second.stop()                            # while its worker is there

    def over_restarts(self, d, loops, rounds):
        """Returns how many clients hung, of how many that met a restart."""
        hung = 0
        for i in range(rounds):
            before = dict(loops.replies)
            self.assertTrue(loops.run(lambda: all(n > before[s] for s, n in loops.replies.items())),
                            "a client hangs though nothing happened")
            d, told = self.restart(d, loops)
            before = dict(loops.replies)

            def behind():
                return [s for s, n in loops.replies.items() if n < before[s] + 2]
            self.assertTrue(loops.run(lambda: len(behind()) <= told),
                            "%d clients hang, the log says %d" % (len(behind()), told))
            hung += told
            if told:                             # those without replies by then do
                loops.run(lambda: sum(loops.replies.values()) >
                          sum(before.values()) + 20 * len(before))
            for s in behind():
                loops.replace(s)
        return d, hung

    def test_a_plain_loop_survives_a_restart(self):
        d = self.daemon(broker={"drain_timeout": "20s", "log_level": "notice"})
        for _ in range(2):
            self.echo(d.backend, zmq.REP, b"!")
        loops = Loops(self, d.frontend, CLIENTS)
        d, hung = self.over_restarts(d, loops, ROUNDS)
        print("%d of %d REQ loops hang" % (hung, CLIENTS * ROUNDS), flush=True)
        self.assertLessEqual(hung, max(1, CLIENTS * ROUNDS * 2 // 100))

    def test_a_program_of_many_threads_survives_a_restart(self):
        """The replies and ends of its connections must not all come in one moment."""
        d = self.daemon(broker={"drain_timeout": "20s", "log_level": "notice"})
        for _ in range(2):
            self.echo(d.backend, zmq.REP, b"!")
        loops, rounds = Threads(self, d.frontend, THREADS), (ROUNDS + 1) // 2
        d, hung = self.over_restarts(d, loops, rounds)
        print("%d of %d REQ loops hang" % (hung, THREADS * rounds), flush=True)
        self.assertLessEqual(hung, THREADS * rounds // 10)
