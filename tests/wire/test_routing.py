# SPDX-License-Identifier: MIT
"""Which peer gets which message: routing ids, balance, waiting, late workers, order, counters."""

import collections
import struct
import threading

import zmtp
from harness import DEADLINE, Case
from zmtp import message, ready, greeting


class RoutingIds(Case):
    def test_takeover(self):
        d = self.daemon()                        # takeover is the default
        w = self.worker(d)
        old = self.client(d, identity=b"dup")
        old.send_message([b"", b"first"])
        self.assertEqual(w.recv_message(), [b"dup", b"", b"first"])
        new = self.client(d, identity=b"dup")
        self.assertEqual(old.expect_closed(), b"", "the old one is closed silently")
        d.wait_event("peer_closed", reason="duplicate_routing_id")
        w.send_message([b"dup", b"", b"for the new one"])
        self.assertEqual(new.recv_message(), [b"", b"for the new one"])
        self.exchange(new, w)
        s = d.stats()
        self.assertEqual(s.frontend["closed_duplicate_routing_id"], 1)
        self.assertEqual(s.frontend["peers"], 1)

    def test_takeover_again_and_again(self):
        d = self.daemon()
        w = self.worker(d)
        peer = self.client(d, identity=b"dup")
        for i in range(1, 3):
            following = self.client(d, identity=b"dup")
            peer.expect_closed()
            peer = following
            self.exchange(peer, w)
        self.assertEqual(d.stats().frontend["closed_duplicate_routing_id"], 2)

    def test_requests_of_the_old_one_still_count(self):
        d = self.daemon()
        old = self.client(d, identity=b"dup")
        for i in range(10):
            old.send_message([b"", b"%d" % i])
        d.wait_stats(lambda s: s.backend["received"] == 10)
        new = self.client(d, identity=b"dup")
        old.expect_closed()
        w = self.worker(d)
        for i in range(10):
            self.assertEqual(w.recv_message(), [b"dup", b"", b"%d" % i])
            w.send_message([b"dup", b"", b"r%d" % i])
        for i in range(10):
            self.assertEqual(new.recv_message(), [b"", b"r%d" % i])

    def test_reject(self):
        d = self.daemon(frontend={"duplicate_routing_id": "reject"})
        w = self.worker(d)
        first = self.client(d, identity=b"dup")
        p = self.peer(d.frontend)
        p.send(greeting() + ready(b"DEALER", b"dup"))
        rest = p.expect_closed()
        self.assertNotIn(b"ERROR", rest, "the newcomer is closed silently")
        s = d.wait_stats(lambda s: s.frontend["closed_duplicate_routing_id"] == 1)
        self.assertEqual(s.frontend["peers"], 1)
        self.exchange(first, w)
        # Free again when its owner leaves.
        first.close()
        d.wait_event("peer_closed", reason="peer_closed")
        self.assertEqual(self.exchange(self.client(d, identity=b"dup"), w), b"dup")

    def test_two_sides_do_not_share_ids(self):
        d = self.daemon(defaults={"duplicate_routing_id": "reject"})
        w = self.worker(d, identity=b"same")
        c = self.client(d, identity=b"same")
        self.exchange(c, w)

    def test_workers_with_the_same_identity_are_all_served(self):
        """A DEALER does not route by id: libzmq lets them all in."""
        for identity in (b"", b"same"):
            with self.subTest(identity=identity):
                d = self.daemon()
                workers = [self.worker(d, identity=identity) for _ in range(3)]
                c = self.client(d)
                for i in range(3):
                    c.send_message([b"", b"%d" % i])
                self.assertEqual(sorted(w.recv_message()[2] for w in workers),
                                 [b"0", b"1", b"2"])


class Balance(Case):
    def test_round_robin(self):
        d = self.daemon()
        workers = [self.worker(d) for _ in range(4)]
        c = self.client(d)
        for i in range(40):
            c.send_message([b"", b"%d" % i])
        d.wait_stats(lambda s: s.backend["sent"] == 40)
        for w in workers:
            got = [int(w.recv_message()[2]) for _ in range(10)]
            self.assertEqual([b - a for a, b in zip(got, got[1:])], [4] * 9)

    def test_waiting_requests_are_served_fairly(self):
        """A waiting flood of one client does not delay another client's request."""
        d = self.daemon()
        flood, small = self.client(d, identity=b"flood"), self.client(d, identity=b"small")
        flood.send(b"".join(message([b"", b"%d" % i]) for i in range(2000)))
        d.wait_stats(lambda s: s.backend["queued"] == 2000)
        small.send(b"".join(message([b"", b"%d" % i]) for i in range(5)))
        d.wait_stats(lambda s: s.backend["queued"] == 2005)
        w = self.worker(d)
        seen = collections.defaultdict(list)
        order = []
        for _ in range(2005):
            got = w.recv_message()
            seen[got[0]].append(int(got[2]))
            order.append(got[0])
        self.assertEqual(seen[b"flood"], list(range(2000)))
        self.assertEqual(seen[b"small"], list(range(5)))
        last_small = max(i for i, who in enumerate(order) if who == b"small")
        self.assertLess(last_small, 1000, "the small client waited for the flood")

    def test_order_from_one_client_to_one_worker(self):
        d = self.daemon()
        clients = [self.client(d, identity=b"c%d" % i) for i in range(5)]
        for i in range(200):
            for c in clients:
                c.send_message([b"", struct.pack(">I", i)])
        w = self.worker(d)
        seen = collections.defaultdict(list)
        for _ in range(1000):
            got = w.recv_message()
            seen[got[0]].append(struct.unpack(">I", got[2])[0])
            w.send_message(got)
        for name, got in seen.items():
            self.assertEqual(got, list(range(200)), name)
        for c in clients:
            self.assertEqual([struct.unpack(">I", c.recv_message()[1])[0] for _ in range(200)],
                             list(range(200)))


class Queues(Case):
    """Messages from a peer are received although its outgoing queue is full."""

    def test_a_worker_that_reads_nothing(self):
        d = self.daemon(backend={"send_buffer": 4096, "send_timeout": "0", "send_hwm": 2})
        w = self.worker(d, rcvbuf=2048)
        c = self.client(d, identity=b"c")
        for _ in range(50):
            c.send_message([b"", b"q" * 10000])
        d.wait_stats(lambda s: s.backend["received"] == 50 and s.backend["queued"] > 2)
        w.send_message([b"c", b"", b"heard"])
        self.assertEqual(c.recv_message(), [b"", b"heard"])
        self.assertGreater(d.stats().backend["queued"], 2)

    def test_a_client_that_reads_nothing(self):
        d = self.daemon(frontend={"send_buffer": 4096, "send_timeout": "0", "send_hwm": 2})
        w = self.worker(d)
        c = self.client(d, identity=b"c", rcvbuf=2048)
        for _ in range(50):
            w.send_message([b"c", b"", b"r" * 10000])
        d.wait_stats(lambda s: s.frontend["received"] == 50 and s.frontend["drop_queue_full"] > 0)
        c.send_message([b"", b"heard"])
        self.assertEqual(w.recv_message(), [b"c", b"", b"heard"])
        self.assertGreater(d.stats().frontend["queued"], 0)


class LateWorkers(Case):
    def check(self, leave, count=100, size=1000, **frontend):
        d = self.daemon(frontend=frontend)
        c = self.client(d, identity=b"gone", sndbuf=1 << 20)
        for i in range(count):
            c.send_message([b"", b"%d" % i, b"x" * size])
        d.sync()                                 # read as far as it will be, paused by now
        leave(c)
        w = self.worker(d)
        for i in range(count):
            self.assertEqual(w.recv_message(), [b"gone", b"", b"%d" % i, b"x" * size])
        s = d.stats()
        self.assertEqual(s.backend["received"], count)
        self.assertEqual(s.backend["sent"], count)
        return d, c, w

    def test_sent_and_closed_before_any_worker(self):
        d, _, w = self.check(lambda c: c.close())
        d.wait_event("peer_closed", side="frontend", reason="peer_closed", messages_in=100)
        w.send_message([b"gone", b"", b"too late"])
        d.wait_stats(lambda s: s.frontend["drop_unroutable"] == 1)

    def test_sent_and_closed_while_its_reading_is_paused(self):
        """More than receive_hwm_bytes: the rest is in the kernel when the peer disconnects."""
        self.check(lambda c: c.close(), receive_hwm_bytes="16KiB")

    def test_much_sent_and_closed_while_paused(self):
        """More than one read takes: hung up, with no further event to come from the kernel."""
        path = self.temp_dir()
        for how in ("close", "half_close"):
            with self.subTest(how):
                self.check(lambda c: getattr(c, how)(), count=15, size=16000,
                           receive_hwm_bytes="16KiB", bind="ipc://%s/%s" % (path, how))

    def test_sent_and_half_closed(self):
        self.check(lambda c: c.half_close())

    def test_sent_and_half_closed_while_paused(self):
        self.check(lambda c: c.half_close(), receive_hwm_bytes="16KiB")

    def test_many_that_send_one_and_close(self):
        d = self.daemon()
        for i in range(200):
            c = zmtp.connect(d.frontend, identity=b"c%d" % i)
            c.send_message([b"", b"%d" % i])
            c.close()
        w = self.worker(d)
        got = sorted(int(w.recv_message()[2]) for _ in range(200))
        self.assertEqual(got, list(range(200)))

    def test_everything_in_one_write_then_closed(self):
        """Greeting, READY and request go out at once, and the peer is gone."""
        d = self.daemon()
        p = self.peer(d.frontend)
        p.send(greeting() + ready(b"DEALER", b"quick") + message([b"", b"hi"]))
        p.half_close()
        w = self.worker(d)
        self.assertEqual(w.recv_message(), [b"quick", b"", b"hi"])

    def test_a_worker_that_replies_and_half_closes(self):
        d = self.daemon()
        c = self.client(d, identity=b"c")
        w = self.worker(d)
        for i in range(50):
            c.send_message([b"", b"%d" % i])
        for i in range(50):
            w.recv_message()
            w.send_message([b"c", b"", b"%d" % i])
        w.half_close()
        for i in range(50):
            self.assertEqual(c.recv_message(), [b"", b"%d" % i])
        w.expect_closed()
        d.wait_event("peer_closed", side="backend", reason="peer_closed", messages_in=50,
                     messages_out=50)

    def test_read_ahead_is_bounded(self):
        """Past receive_hwm_bytes the peer is not read; nothing is lost."""
        d = self.daemon(frontend={"receive_hwm_bytes": "64KiB"})
        c = self.client(d)
        sent = 0
        c.sock.setblocking(False)
        data = message([b"", b"y" * 1000])
        pending = b""
        # Until the kernel accepts no more and the daemon has stopped reading.
        quiet = 0
        while quiet < 3:
            try:
                pending = pending or data
                n = c.sock.send(pending)
                pending = pending[n:]
                sent += not pending
                quiet = 0
            except BlockingIOError:
                d.sync()
                quiet += 1
        s = d.stats()
        self.assertLess(s.backend["queued"], sent)
        self.assertLess(s.backend["queued_bytes"], 512 * 1024)
        w = self.worker(d)
        c.sock.settimeout(c.deadline)
        for _ in range(sent):
            self.assertEqual(w.recv_message()[2], b"y" * 1000)
        if pending:
            c.send(pending)
            w.recv_message()

    def test_one_message_always_fits(self):
        d = self.daemon(defaults={"receive_hwm_bytes": "1KiB", "send_hwm_bytes": "1KiB"})
        c = self.client(d)
        c.send_message([b"", b"b" * 300000])
        c.send_message([b"", b"c" * 300000])
        w = self.worker(d)
        got = w.recv_message()
        self.assertEqual(got[2], b"b" * 300000)
        self.assertEqual(w.recv_message()[2], b"c" * 300000)
        w.send_message([got[0], b"", b"d" * 300000])
        self.assertEqual(c.recv_message(), [b"", b"d" * 300000])


class Waiting(Case):
    def test_waiting_costs_no_cpu(self):
        """Requests wait for a worker; clients are paused; the daemon sleeps.

        Looks at counters over an interval in which nothing happens.  The
        interval is not a wait: what is checked is what was used in it.
        """
        d = self.daemon(frontend={"receive_hwm_bytes": "16KiB"},
                        defaults={"heartbeat_interval": "0"})
        clients = [self.client(d) for _ in range(10)]
        for c in clients:
            c.sock.setblocking(False)
            try:
                while True:
                    c.sock.send(message([b"", b"w" * 1000]))
            except BlockingIOError:
                pass
        half = self.client(d)                    # one that half-closed while it waits
        half.send_message([b"", b"half"])
        half.half_close()
        gone = self.client(d)                    # one that is gone while paused
        gone.send(b"".join(message([b"", b"g" * 1000]) for _ in range(40)))
        gone.close()
        d.sync()
        d.sync()
        before = d.cpu()
        with d.lock:
            d.lock.wait(2)
        after = d.cpu()
        self.assertLess(after[0] - before[0], 50, "CPU ticks used in 2 s of waiting")
        self.assertLess(after[1] - before[1], 200, "wake-ups in 2 s of waiting")

    def test_idle_costs_no_cpu(self):
        d = self.daemon()
        self.client(d)
        self.worker(d)
        d.sync()
        before = d.cpu()
        with d.lock:
            d.lock.wait(2)
        after = d.cpu()
        self.assertLess(after[0] - before[0], 50)
        self.assertLess(after[1] - before[1], 200)


class Replies(Case):
    def test_unroutable(self):
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d)
        w.send_message([b"nobody", b"", b"x"])
        w.send_message([b"\0\0\0\0\x7f", b"", b"x"])
        self.exchange(c, w)
        s = d.stats()
        self.assertEqual(s.frontend["drop_unroutable"], 2)
        self.assertEqual(s.frontend["received"], 3)
        self.assertEqual(s.frontend["sent"], 1)

    def test_the_id_of_no_slot(self):
        """No generated id names slot 0; uninitialised memory there must not be taken for a client.

        The padded READYs leave blocks of about the table's first size on the heap.
        """
        d = self.daemon()
        w = self.worker(d)
        for size in range(1000, 1040, 8):
            p = self.peer(d.frontend)
            data = greeting() + ready(b"REP", extra=[(b"X-Pad", b"x" * (size - 37))])
            p.send(data[:-1])
            d.sync()
            p.send(data[-1:])
            p.expect_closed()
        c = self.client(d)                       # its slot is the table's first
        w.send(b"".join(message([struct.pack(">BI", 0, i << 20), b"", b"x"])
                        for i in range(4096)))
        self.exchange(c, w)
        self.assertEqual(d.stats().frontend["drop_unroutable"], 4096)

    def test_malformed(self):
        """A reply that is a routing id and nothing after it."""
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d, identity=b"me")
        w.send_message([b"me"])
        w.send_message([b""])
        self.exchange(c, w)
        s = d.stats()
        self.assertEqual(s.frontend["dropped"], 2)
        self.assertGreaterEqual(s.frontend["drop_malformed"], 1)
        self.assertEqual(d.find_events("peer_closed"), [])

    def test_a_reply_that_would_end_a_req(self):
        """A bad byte is never sent: libzmq's REQ takes [id]? [empty] body, or never recovers."""
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d, b"REQ", identity=b"req")
        bad = [[b"req", b"no delimiter"], [b"req", b""], [b"req", b"x", b""],
               [b"req", b"id of 4?", b"", b"body"], [b"req", b"1234", b"x", b"body"]]
        for parts in bad:
            w.send_message(parts)
        self.exchange(c, w)
        w.send_message([b"req", b"1234", b"", b"with an id"])
        self.assertEqual(c.recv_message(), [b"1234", b"", b"with an id"])
        s = d.stats()
        self.assertEqual(s.frontend["drop_malformed"], len(bad))

    def test_reply_of_empty_frames(self):
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d, identity=b"me")
        w.send_message([b"me", b""])
        self.assertEqual(c.recv_message(), [b""])

    def test_peer_gone(self):
        """Replies that were queued for a client that disconnects."""
        d = self.daemon(frontend={"send_buffer": 4096, "send_timeout": "0"})
        w = self.worker(d)
        c = self.client(d, identity=b"slow", rcvbuf=2048)
        for i in range(200):
            w.send_message([b"slow", b"", b"r" * 10000])
        d.wait_stats(lambda s: s.frontend["received"] == 200 and s.frontend["queued"] > 0)
        c.close()
        e = d.wait_event("peer_closed", side="frontend")
        s = d.stats()
        self.assertEqual(s.frontend["queued"], 0)
        self.assertGreater(s.frontend["drop_peer_gone"], 0)
        self.assertEqual(s.frontend["sent"] + s.frontend["drop_peer_gone"], 200)
        self.assertEqual(int(e["dropped"]), s.frontend["drop_peer_gone"])

    def test_queue_full(self):
        d = self.daemon(frontend={"send_buffer": 4096, "send_timeout": "0", "send_hwm": 10})
        w = self.worker(d)
        slow = self.client(d, identity=b"slow", rcvbuf=2048)
        good = self.client(d, identity=b"good")
        for i in range(300):
            w.send_message([b"slow", b"", b"%d" % i, b"r" * 10000])
        s = d.wait_stats(lambda s: s.frontend["received"] == 300)
        self.assertGreater(s.frontend["drop_queue_full"], 0)
        self.assertGreater(s.frontend["queued"], 0)
        self.assertLessEqual(s.frontend["queued"], 11)
        self.exchange(good, w)                   # the worker was not made to wait
        kept = s.frontend["sent"] + s.frontend["queued"]
        got = []
        while len(got) < kept:
            parts = slow.recv_message()
            self.assertEqual(parts[2], b"r" * 10000)
            got.append(int(parts[1]))
        self.assertEqual(got, sorted(got), "kept replies keep their order")
        self.assertEqual(got[0], 0)

    def test_queue_full_in_bytes(self):
        d = self.daemon(frontend={"send_buffer": 4096, "send_timeout": "0",
                                  "send_hwm_bytes": "64KiB"})
        w = self.worker(d)
        self.client(d, identity=b"slow", rcvbuf=2048)
        for i in range(300):
            w.send_message([b"slow", b"", b"r" * 10000])
        s = d.wait_stats(lambda s: s.frontend["received"] == 300)
        self.assertGreater(s.frontend["drop_queue_full"], 0)
        self.assertLess(s.frontend["queued_bytes"], 64 * 1024 + 20000)

    def test_pause_is_lossless(self):
        self.lossless(b"slow", b"r" * 1000, 2000)

    def test_pause_is_lossless_with_small_messages(self):
        self.lossless(b"slow", b"", 20000)

    def test_pause_is_lossless_with_long_ids(self):
        self.lossless(b"s" * 255, b"r" * 37, 4000)

    def test_pause_stops_the_slow_client_alone(self):
        """Others are answered while the slow client's requests wait; it gets all replies later."""
        small = {"send_hwm_bytes": "256KiB", "send_buffer": 8192, "receive_buffer": 8192,
                 "receive_hwm_bytes": "1KiB", "send_timeout": "0"}
        d = self.daemon(frontend=dict(small, when_full="pause"),
                        backend=dict(small, send_hwm_bytes="64KiB"))
        workers = [self.worker(d, rcvbuf=8192), self.worker(d, rcvbuf=8192)]
        slow = self.client(d, identity=b"slow", rcvbuf=4096)
        stop = threading.Event()

        def echo(w):
            try:
                while True:
                    w.send_message(w.recv_message())
            except (zmtp.Closed, OSError):
                pass

        def ask(count):
            for i in range(count):
                slow.send_message([b"", struct.pack(">I", i), b"q" * 60000])
        threads = [threading.Thread(target=echo, args=(w,), daemon=True) for w in workers]
        threads.append(threading.Thread(target=ask, args=(60,), daemon=True))
        for t in threads:
            t.start()
        # its queue is full and more replies wait; its requests are not read any more
        d.wait_stats(lambda s: s.frontend["queued_bytes"] > 256 * 1024)
        other = self.client(d, identity=b"other")
        for i in range(50):
            other.send_message([b"", b"%d" % i])
            self.assertEqual(other.recv_message(), [b"", b"%d" % i])
        s = d.stats()
        self.assertLess(s.backend["received"], 110)     # the slow one's stand still ...
        self.assertLessEqual(s.frontend["queued_bytes"], 2 * 256 * 1024 + 120000)
        got = set()                                     # ... and nothing of them is lost
        for _ in range(60):
            got.add(slow.recv_message()[1])
        self.assertEqual(len(got), 60)
        self.assertEqual(d.stats().frontend["dropped"], 0)
        threads[-1].join(DEADLINE)
        for w in workers:
            w.close()

    def test_close_ends_the_slow_client_alone(self):
        """A client that loses a reply is closed; when it is back, it is served, as others are."""
        d = self.daemon(frontend={"send_hwm_bytes": "16KiB", "send_buffer": 8192, "send_timeout": "0",
                                  "when_full": "close"})
        w = self.worker(d)
        slow = self.client(d, identity=b"slow", rcvbuf=4096)
        other = self.client(d, identity=b"other")
        blob = message([b"slow", b"", b"r" * 4000])
        count = 0
        while not d.find_events("peer_closed", side="frontend"):
            w.send(blob)
            count += 1
            other.send_message([b"", b"%d" % count])
            w.send_message(w.recv_message())
            self.assertEqual(other.recv_message(), [b"", b"%d" % count])
            self.assertLess(count, 1000)
        e = d.wait_event("peer_closed", side="frontend", reason="over_limit", level="warning")
        self.assertIn("when_full", e["detail"])
        got = 0
        try:
            while True:
                self.assertEqual(slow.recv_message(), [b"", b"r" * 4000])
                got += 1
        except (zmtp.Closed, OSError):
            pass
        s = d.stats()
        self.assertEqual(s.frontend["closed_over_limit"], 1)
        self.assertEqual(s.frontend["drop_queue_full"], 1)
        self.assertEqual(s.frontend["received"], 2 * count)
        self.assertGreaterEqual(s.frontend["drop_peer_gone"], 1)
        self.assertLess(got, count)
        again = self.client(d, identity=b"slow")
        again.send_message([b"", b"back"])
        w.send_message(w.recv_message())
        self.assertEqual(again.recv_message(), [b"", b"back"])

    def test_without_it_the_slow_client_stays(self):
        d = self.daemon(frontend={"send_hwm_bytes": "16KiB", "send_buffer": 8192, "send_timeout": "0"})
        w = self.worker(d)
        slow = self.client(d, identity=b"slow", rcvbuf=4096)
        for _ in range(100):
            w.send(message([b"slow", b"", b"r" * 4000]))
        s = d.wait_stats(lambda s: s.frontend["received"] == 100)
        self.assertGreater(s.frontend["drop_queue_full"], 1)
        self.assertEqual(s.frontend["closed"], 0)
        for _ in range(100 - s.frontend["drop_queue_full"]):
            self.assertEqual(slow.recv_message(), [b"", b"r" * 4000])

    def lossless(self, name, body, count):
        d = self.daemon(frontend={"send_buffer": 4096, "send_timeout": "0", "send_hwm": 10,
                                  "when_full": "pause"})
        w = self.worker(d)
        slow = self.client(d, identity=name, rcvbuf=4096)
        blob = b"".join(message([name, b"", struct.pack(">I", i), body]) for i in range(count))
        view = memoryview(blob)
        sent = got = 0
        w.sock.setblocking(False)
        while got < count:
            try:
                while sent < len(blob):
                    sent += w.sock.send(view[sent:sent + 65536])
            except BlockingIOError:
                pass
            parts = slow.recv_message()
            self.assertEqual(parts[1], struct.pack(">I", got))
            got += 1
        s = d.stats()
        self.assertEqual(s.frontend["dropped"], 0)
        self.assertEqual(s.frontend["sent"], count)

    def test_a_healthy_client_with_many_outstanding_loses_nothing(self):
        """At the limit the queue is written before a message is refused."""
        d = self.daemon(frontend={"send_hwm": 10})
        w = self.worker(d)
        c = self.client(d)
        count = 5000
        c.send(b"".join(message([b"", struct.pack(">I", i)]) for i in range(count)))
        out = bytearray()
        for i in range(count):
            got = w.recv_message()
            out += message(got)
        w.send(out)
        for i in range(count):
            self.assertEqual(c.recv_message(), [b"", struct.pack(">I", i)])
        self.assertEqual(d.stats().frontend["dropped"], 0)
