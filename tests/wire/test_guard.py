# SPDX-License-Identifier: MIT
"""The poison guard: a message reaches a peer whole, or the connection ends inside it."""

import signal
import struct
import time

import zmtp
from harness import Case
from zmtp import Listener, message

BIG = 4 << 20


def pattern(size, seed):
    """Bytes that show their position in the message."""
    return b"".join(struct.pack(">II", seed, i) for i in range((size + 7) // 8))[:size]


class Stuck(Case):
    """Peers that stop reading."""

    def test_worker_stops_in_the_middle_of_a_message(self):
        d = self.daemon(backend={"send_timeout": "1s", "send_buffer": 65536},
                        frontend={"send_timeout": "0"})
        stuck = self.worker(d, rcvbuf=4096)
        c = self.client(d, identity=b"c")
        body = pattern(BIG, 1)
        c.send_message([b"", body])
        # The peer reads some of the message and then nothing more.
        head = stuck.recv_exact(5000)
        e = d.wait_event("peer_closed", side="backend")
        self.assertEqual(e["reason"], "send_timeout")
        self.assertEqual(e["poisoned"], "yes")
        self.assertGreaterEqual(int(e["rerouted"]), 1)
        good = self.worker(d)
        self.assertEqual(good.recv_message(), [b"c", b"", body])
        rest, _ = stuck.read_to_end()
        whole = message([b"c", b"", body])
        got = head + rest
        self.assertLess(len(got), len(whole), "it got the whole message after all")
        self.assertEqual(got, whole[:len(got)], "what it received is not a strict prefix")
        good.send_message([b"c", b"", b"done"])
        self.assertEqual(c.recv_message(), [b"", b"done"])
        s = d.sync()
        self.assertEqual(good.readable_now(), b"", "the message came twice")
        self.assertEqual(s.backend["poisoned"], 1)
        self.assertEqual(s.backend["send_timeouts"], 1)
        self.assertGreaterEqual(s.backend["rerouted"], 1)
        self.assertEqual(s.backend["closed_send_timeout"], 1)
        self.assertEqual((s.backend["received"], s.backend["sent"]), (1, 1))

    def test_room_that_came_while_the_daemon_was_busy_counts(self):
        """The kernel has room again and the clock has run out, both seen in one turn."""
        d = self.daemon(backend={"send_timeout": "3s", "send_buffer": 65536},
                        frontend={"send_timeout": "0"})
        w = self.worker(d, rcvbuf=65536)
        c = self.client(d, identity=b"c")
        body = pattern(280 << 10, 1)  # more than both kernels hold, but not twice as much
        c.send_message([b"", body])
        head = w.recv_exact(5000)
        d.wait_stats(lambda s: s.backend["received"] == 1)
        self.assertEqual(d.stats().backend["queued"], 1, "the kernels took all of it")
        d.send_signal(signal.SIGSTOP)
        head += w.drain()
        time.sleep(3.5)  # the daemon's clock, not the test's: nothing here can come too early
        d.send_signal(signal.SIGCONT)
        whole = message([b"c", b"", body])
        self.assertEqual(head + w.recv_exact(len(whole) - len(head)), whole)
        s = d.sync()
        self.assertEqual((s.backend["send_timeouts"], s.backend["poisoned"]), (0, 0))

    def test_what_was_queued_behind_it_moves_too(self):
        d = self.daemon(backend={"send_timeout": "1s", "send_buffer": 65536})
        stuck = self.worker(d, rcvbuf=4096)
        c = self.client(d, identity=b"c")
        bodies = [pattern(BIG, 1)] + [pattern(1000, i) for i in range(2, 30)]
        for body in bodies:
            c.send_message([b"", body])
        stuck.recv_exact(1000)
        d.wait_event("peer_closed", side="backend", reason="send_timeout", poisoned="yes")
        good = self.worker(d)
        for body in bodies:
            self.assertEqual(good.recv_message(), [b"c", b"", body], "in their order")
        s = d.stats()
        self.assertEqual(s.backend["sent"], len(bodies))
        self.assertEqual(s.backend["poisoned"], 1)

    def test_rerouted_to_one_that_is_there_already(self):
        d = self.daemon(backend={"send_timeout": "1s", "send_buffer": 65536})
        stuck = self.worker(d, rcvbuf=4096)
        good = self.worker(d)
        c = self.client(d, identity=b"c")
        body = pattern(BIG, 1)
        c.send_message([b"", body])              # to the first: round robin
        stuck.recv_exact(1000)
        self.assertEqual(good.recv_message(), [b"c", b"", body])
        rest, _ = stuck.read_to_end()
        self.assertLess(len(rest), BIG)
        self.assertEqual(d.stats().backend["poisoned"], 1)

    def test_worker_dies_in_the_middle_of_a_message(self):
        for how in ("close", "reset"):
            with self.subTest(how):
                d = self.daemon(backend={"send_timeout": "0", "send_buffer": 65536})
                dying = self.worker(d, rcvbuf=4096)
                c = self.client(d, identity=b"c")
                body = pattern(BIG, 1)
                c.send_message([b"", body])
                dying.recv_exact(5000)
                d.wait_stats(lambda s: s.backend["received"] == 1)
                getattr(dying, how)()
                e = d.wait_event("peer_closed", side="backend")
                self.assertEqual(e["poisoned"], "yes")
                good = self.worker(d)
                self.assertEqual(good.recv_message(), [b"c", b"", body])
                s = d.stats()
                self.assertEqual(s.backend["poisoned"], 1)
                self.assertEqual(s.backend["rerouted"], 1)
                self.assertEqual(s.backend["sent"], 1)

    def test_client_stops_in_the_middle_of_a_reply(self):
        d = self.daemon(frontend={"send_timeout": "1s", "send_buffer": 65536})
        w = self.worker(d)
        stuck = self.client(d, identity=b"stuck", rcvbuf=4096)
        good = self.client(d, identity=b"good")
        body = pattern(BIG, 7)
        w.send_message([b"stuck", b"", body])
        head = stuck.recv_exact(3000)
        self.exchange(good, w)                   # the others are served meanwhile
        e = d.wait_event("peer_closed", side="frontend")
        self.assertEqual((e["reason"], e["poisoned"]), ("send_timeout", "yes"))
        self.assertEqual(e["dropped"], "1")
        rest, _ = stuck.read_to_end()
        whole = message([b"", body])
        self.assertLess(len(head + rest), len(whole))
        self.assertEqual(head + rest, whole[:len(head + rest)])
        s = d.stats()
        self.assertEqual(s.frontend["poisoned"], 1)
        self.assertEqual(s.frontend["send_timeouts"], 1)
        self.assertEqual(s.frontend["drop_peer_gone"], 1)
        self.exchange(good, w)

    def test_others_are_served_while_a_client_does_not_read(self):
        d = self.daemon(frontend={"send_timeout": "0", "send_buffer": 4096})
        w = self.worker(d)
        self.client(d, identity=b"stuck", rcvbuf=2048)
        good = self.client(d, identity=b"good")
        for i in range(100):
            w.send_message([b"stuck", b"", pattern(20000, i)])
            self.exchange(good, w, b"%d" % i)
        self.assertGreater(d.stats().frontend["queued"], 0)

    def test_a_slow_reader_is_not_a_stuck_one(self):
        """send_timeout is per message: many messages may take longer together."""
        d = self.daemon(frontend={"send_timeout": "5s", "send_buffer": 8192})
        w = self.worker(d)
        slow = self.client(d, identity=b"slow", rcvbuf=4096)
        for i in range(100):
            w.send_message([b"slow", b"", pattern(20000, i)])
        d.wait_stats(lambda s: s.frontend["queued"] > 0)
        for i in range(100):
            self.assertEqual(slow.recv_message(), [b"", pattern(20000, i)])
        self.assertEqual(d.find_events("peer_closed"), [])


class Stalled(Case):
    """send_timeout at a message boundary: the stream is clean, the peer only stalls.

    Over a Unix socket the kernel takes a small message whole or not at all, so
    that requests sent one at a time stop exactly between two of them.
    """

    def setUp(self):
        self.dir = self.temp_dir()

    def start(self, timeout, **backend):
        keys = {"bind": "ipc://%s/w" % self.dir, "send_timeout": timeout, "send_buffer": 4096,
                "heartbeat_interval": "0"}
        keys.update(backend)
        return self.daemon(backend=keys)

    def fill(self, d, c, limit=2000):
        """Send requests one at a time until one stays queued; how many were sent."""
        for i in range(limit):
            c.send_message([b"", b"%d" % i, b"s" * 500])
            s = d.wait_stats(lambda s: s.backend["received"] == i + 1)
            if s.backend["queued"]:
                s = d.stats()
            if s.backend["queued"]:
                return i + 1
        self.fail("the worker's socket never filled up")

    def test_stalled_then_closed(self):
        d = self.start("300ms")
        stuck = self.worker(d)
        c = self.client(d, identity=b"c")
        count = self.fill(d, c)
        d.wait_event("peer_stalled", side="backend", level="warning")
        e = d.wait_event("peer_closed", side="backend")
        self.assertEqual((e["reason"], e["poisoned"]), ("send_timeout", "no"))
        s = d.stats()
        self.assertEqual(s.backend["poisoned"], 0)
        self.assertEqual(s.backend["closed_send_timeout"], 1)
        self.assertGreaterEqual(s.backend["send_timeouts"], 1)
        self.assertGreater(s.backend["queued"], 0)
        held = s.backend["queued"]
        good = self.worker(d)
        for i in range(count - held, count):
            self.assertEqual(good.recv_message()[2], b"%d" % i)
        # Nothing but whole messages, in order, then the end.
        for i in range(count - held):
            self.assertEqual(stuck.recv_message()[2], b"%d" % i)
        self.assertEqual(stuck.expect_closed(), b"")
        self.assertGreaterEqual(d.stats().backend["rerouted"], held)

    def test_one_that_goes_in_the_middle_of_a_message_is_a_warning(self):
        d = self.daemon(backend={"send_buffer": 65536})
        stuck = self.worker(d, rcvbuf=4096)
        self.client(d, identity=b"c").send_message([b"", pattern(BIG, 1)])
        stuck.recv_exact(1000)
        stuck.reset()
        e = d.wait_event("peer_closed", side="backend", reason="io_error", poisoned="yes")
        self.assertEqual(e["level"], "warning")

    def test_stalled_gets_nothing_while_another_is_there(self):
        d = self.start("400ms")
        stuck = self.worker(d)
        c = self.client(d, identity=b"c")
        count = self.fill(d, c)
        d.wait_event("peer_stalled", side="backend")
        good = self.worker(d)
        s = d.wait_stats(lambda s: s.backend["queued"] == 0)
        first = int(good.recv_message()[2])
        for i in range(first + 1, count):
            self.assertEqual(int(good.recv_message()[2]), i)
        for i in range(20):
            c.send_message([b"", b"more%d" % i])
            self.assertEqual(good.recv_message()[2], b"more%d" % i)
        d.wait_event("peer_closed", side="backend", reason="send_timeout", poisoned="no")
        for i in range(first):
            self.assertEqual(int(stuck.recv_message()[2]), i)
        self.assertEqual(stuck.expect_closed(), b"")
        self.assertEqual(s.backend["dropped"], 0)

    def test_stalled_then_resumed(self):
        d = self.start("1500ms")
        stuck = self.worker(d)
        c = self.client(d, identity=b"c")
        count = self.fill(d, c)
        d.wait_event("peer_stalled", side="backend")
        # It reads again: back in service, with everything, once and in order.
        got = [int(stuck.recv_message()[2]) for _ in range(count)]
        self.assertEqual(got, list(range(count)))
        d.wait_event("peer_resumed", side="backend", level="notice")
        self.exchange(c, stuck)
        s = d.stats()
        self.assertEqual(s.backend["closed"], 0)
        self.assertEqual(s.backend["poisoned"], 0)
        self.assertEqual(s.backend["sent"], count + 1)

    def test_stalled_client_keeps_its_queue(self):
        d = self.daemon(frontend={"bind": "ipc://%s/c" % self.dir, "send_timeout": "1500ms",
                                  "send_buffer": 4096, "heartbeat_interval": "0"})
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        count = 0
        while True:
            w.send_message([b"c", b"%d" % count, b"s" * 500])
            count += 1
            s = d.wait_stats(lambda s: s.frontend["received"] == count)
            if s.frontend["queued"]:
                s = d.stats()
            if s.frontend["queued"]:
                break
        d.wait_event("peer_stalled", side="frontend")
        s = d.stats()
        self.assertGreater(s.frontend["queued"], 0)
        for i in range(count):
            self.assertEqual(c.recv_message()[0], b"%d" % i)
        d.wait_event("peer_resumed", side="frontend")
        self.assertEqual(d.stats().frontend["dropped"], 0)

    def test_stalled_client_then_closed(self):
        d = self.daemon(frontend={"bind": "ipc://%s/c" % self.dir, "send_timeout": "300ms",
                                  "send_buffer": 4096, "heartbeat_interval": "0"})
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        count = 0
        while not d.find_events("peer_stalled", side="frontend"):
            w.send_message([b"c", b"%d" % count, b"s" * 500])
            count += 1
            d.wait_stats(lambda s: s.frontend["received"] == count)
            self.assertLess(count, 20000)
        e = d.wait_event("peer_closed", side="frontend")
        self.assertEqual((e["reason"], e["poisoned"]), ("send_timeout", "no"))
        s = d.stats()
        self.assertEqual(s.frontend["queued"], 0)
        self.assertGreater(s.frontend["drop_peer_gone"], 0)
        for i in range(s.frontend["sent"]):
            self.assertEqual(c.recv_message()[0], b"%d" % i)
        self.assertEqual(c.expect_closed(), b"")


class Dialled(Case):
    def test_poisoned_worker_is_dialled_again(self):
        l = self.closing(Listener(rcvbuf=4096))
        d = self.daemon(backend={"bind": None, "connect": l.endpoint, "send_timeout": "1s",
                                 "send_buffer": 8192, "reconnect_min": "50ms"})
        first = self.closing(l.accept()).handshake(b"REP")
        d.wait_event("peer_ready", side="backend", direction="dialled")
        c = self.client(d, identity=b"c")
        body = pattern(512 << 10, 3)      # there in a fraction of send_timeout
        c.send_message([b"", body])
        head = first.recv_exact(2000)
        d.wait_event("peer_closed", side="backend", reason="send_timeout", poisoned="yes")
        d.wait_event("reconnecting", side="backend", reason="send_timeout")
        second = self.closing(l.accept()).handshake(b"REP")
        self.assertEqual(second.recv_message(), [b"c", b"", body])
        rest, _ = first.read_to_end()
        whole = message([b"c", b"", body])
        self.assertEqual(head + rest, whole[:len(head + rest)])
        self.assertLess(len(head + rest), len(whole))
        s = d.stats()
        self.assertEqual(s.backend["poisoned"], 1)
        self.assertEqual(s.backend["rerouted"], 1)
        self.assertEqual(s.backend["reconnects"], 1)


class Sockets(Case):
    def test_pings_do_not_cut_a_message(self):
        """Heartbeats while a large message is on its way, read a little at a time."""
        d = self.daemon(frontend={"heartbeat_interval": "20ms", "heartbeat_timeout": "60s",
                                  "send_buffer": 8192})
        w = self.worker(d)
        c = self.client(d, identity=b"c", rcvbuf=4096)
        body = pattern(1 << 20, 9)
        w.send_message([b"c", b"", body])
        w.send_message([b"c", b"", b"next"])
        c.send(zmtp.ping(0, b"now"))
        got = bytearray()
        while len(got) < 300000:
            got += c.recv_exact(10000)
            d.stats()
        c.buf[:0] = got
        self.assertEqual(c.recv_message(), [b"", body])
        self.assertEqual(c.recv_message(), [b"", b"next"])
        while (b"PONG", b"now") not in c.commands:
            c.recv_command(b"PONG")
