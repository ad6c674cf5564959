# SPDX-License-Identifier: MIT
"""Memory, descriptors and numbers of connections: bounded, and the service goes on."""

import os
import resource
import signal
import threading
import time

import harness
import zmtp
from harness import Case


def send_what_fits(peer, data):
    """Send as much of `data` as the kernels take."""
    peer.sock.setblocking(False)
    try:
        peer.sock.send(data)
    except BlockingIOError:
        pass


class Memory(Case):
    def test_over_limit_closes_the_client_that_holds_most(self):
        d = self.daemon(broker={"memory_limit": "8MiB"},
                        frontend={"send_hwm_bytes": "1GiB", "send_timeout": "0",
                                  "send_buffer": 8192})
        w = self.worker(d)
        self.client(d, identity=b"hog", rcvbuf=4096)
        good = self.client(d, identity=b"good")
        body = b"h" * 65536
        for i in range(400):
            w.send_message([b"hog", b"", body])
        e = d.wait_event("peer_closed", side="frontend")
        self.assertEqual(e["reason"], "over_limit")
        s = d.wait_stats(lambda s: s.frontend["received"] == 400)
        self.assertEqual(s.frontend["closed_over_limit"], 1)
        self.assertGreater(s.frontend["drop_peer_gone"], 0)
        self.exchange(good, w)

    def test_over_limit_closes_the_worker_that_holds_most(self):
        d = self.daemon(broker={"memory_limit": "8MiB"},
                        frontend={"handshake_timeout": "1500ms"},
                        backend={"send_hwm_bytes": "1GiB", "send_timeout": "0",
                                 "send_buffer": 65536})
        hog = self.worker(d, rcvbuf=4096)
        c = self.client(d, identity=b"c")
        body = b"h" * 65536
        count = 300
        sender = threading.Thread(
            target=lambda: [c.send_message([b"", b"%d" % i, body]) for i in range(count)],
            daemon=True)
        sender.start()
        d.wait_event("memory_limit", action="pause_reading", side="frontend")
        # no worker can take over its queue: closing it would free nothing
        self.peer(d.frontend)
        d.wait_event("handshake_failed", reason="handshake_timeout")
        self.assertEqual(d.find_events("peer_closed"), [])
        w = self.worker(d)
        e = d.wait_event("peer_closed", side="backend")
        self.assertEqual(e["reason"], "over_limit")
        self.assertGreater(int(e["rerouted"]), 0)
        got = []
        while not got or got[-1] != count - 1:
            got.append(int(w.recv_message()[2]))
        self.assertEqual(got, list(range(count - len(got), count)), "rerouted in order")
        sender.join(c.deadline)
        rest, _ = hog.read_to_end()
        self.assertLessEqual(len(rest) // len(body) + len(got), count, "one came twice")
        s = d.stats()
        self.assertEqual(s.backend["closed_over_limit"], 1)
        self.assertEqual(s.backend["dropped"], 0)
        self.assertEqual(s.backend["sent"], count)

    def test_reading_pauses_when_nobody_is_stalled(self):
        """Requests that wait for a worker fill the memory; all of them are delivered."""
        d = self.daemon(broker={"memory_limit": "4MiB"},
                        frontend={"receive_hwm_bytes": "64MiB"})
        clients = [self.client(d, identity=b"c%d" % i) for i in range(4)]
        body = b"m" * 65536
        count = 60
        threads = [threading.Thread(
            target=lambda c=c: [c.send_message([b"", b"%d" % i, body]) for i in range(count)],
            daemon=True) for c in clients]
        for t in threads:
            t.start()
        s = d.wait_stats(lambda s: s.backend["queued_bytes"] > 3 << 20)
        for _ in range(10):
            s = d.stats()
            self.assertLess(s.backend["queued_bytes"], 8 << 20)
        w = self.worker(d)
        got = {}
        for _ in range(4 * count):
            parts = w.recv_message()
            got.setdefault(parts[0], []).append(int(parts[2]))
        for c in range(4):
            self.assertEqual(got[b"c%d" % c], list(range(count)))
        for t in threads:
            t.join(30)
        self.assertEqual(d.stats().backend["dropped"], 0)

    def test_closing_one_after_the_other_is_not_enough(self):
        """Many stalled clients hold little each; what is read meanwhile is bounded nevertheless."""
        d = self.daemon(broker={"memory_limit": "4MiB"},
                        frontend={"send_timeout": "0", "send_buffer": 8192,
                                  "receive_hwm_bytes": "1GiB", "handshake_timeout": "1s"})
        w = self.worker(d)
        ids = [b"c%d" % i for i in range(30)]
        for one in ids:
            self.client(d, identity=one, rcvbuf=4096)
        d.wait_event("peer_ready", side="frontend", count=len(ids))
        for one in ids:
            w.send_message([one, b"", b"s" * 100000])
        d.wait_stats(lambda s: s.frontend["received"] == len(ids))
        hog = self.client(d)
        w.close()
        d.wait_event("peer_closed", side="backend")
        # by the end of this all of them have been stalled for long enough to be closed
        self.peer(d.frontend)
        d.wait_event("handshake_failed", reason="handshake_timeout")
        body = b"m" * 65536

        def flood():
            try:
                for _ in range(2000):
                    hog.send_message([b"", body])
            except OSError:
                pass

        sender = threading.Thread(target=flood, daemon=True)
        sender.start()
        d.wait_event("memory_limit", action="pause_reading")
        for _ in range(30):
            self.assertLess(int(d.stats().end["memory_bytes"]), 7 << 20)
        hog.half_close()
        sender.join(hog.deadline)

    def test_what_one_turn_brings_in_is_bounded(self):
        """Many clients have much to read at the same time: the limit is checked in time."""
        d = self.daemon(broker={"memory_limit": "4MiB"},
                        frontend={"receive_hwm_bytes": "1GiB", "receive_buffer": 1 << 20})
        clients = [self.client(d) for _ in range(30)]
        data = zmtp.message([b"", b"m" * 30000]) * 70
        d.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, d.proc.pid, os.WSTOPPED)
        try:
            for c in clients:
                send_what_fits(c, data)
        finally:
            d.send_signal(signal.SIGCONT)
        e = d.wait_event("memory_limit", action="pause_reading", side="frontend")
        # one read of 64 KiB each beyond the limit
        self.assertLess(int(e["memory_bytes"]), 7 << 20)
        self.assertLess(int(d.stats().end["memory_bytes"]), 7 << 20)

    def test_what_the_gone_left_behind_is_bounded_too(self):
        """A peer that hung up is read to its end, paused or not; all of them together are not."""
        d = self.daemon(broker={"memory_limit": "4MiB"},
                        frontend={"receive_hwm_bytes": "1GiB"})
        clients = [self.client(d) for _ in range(150)]
        data = zmtp.message([b"", b"m" * 65536]) * 4
        hog = clients[0]
        hog.send_message([b"", b"m" * (4 << 20)])
        d.wait_event("memory_limit", action="pause_reading", side="frontend")
        for c in clients:
            send_what_fits(c, data)
        for c in clients[1:]:
            c.reset()
        s = d.wait_stats(lambda s: s.frontend["peers"] == 1)
        # the hog's message may cost a third more than its size: it comes in pieces
        self.assertLess(int(s.end["memory_bytes"]), 6 << 20)
        self.assertGreater(s.frontend["closed_over_limit"], 0)

    def test_a_message_cut_by_our_own_pause_costs_nobody(self):
        """Waiting requests fill the memory; a client that is not read meanwhile stays."""
        d = self.daemon(broker={"memory_limit": "4MiB"},
                        frontend={"receive_hwm_bytes": "64MiB", "handshake_timeout": "2500ms"})
        hog, midway = self.client(d), self.client(d, identity=b"midway")
        body = b"m" * 65536
        count = 100
        for i in range(55):
            hog.send_message([b"", b"%d" % i, body])
        d.wait_stats(lambda s: s.backend["received"] == 55)
        midway.send(zmtp.frame(b"", more=True) + zmtp.frame_header(100000) + b"p" * 50000)
        sender = threading.Thread(
            target=lambda: [hog.send_message([b"", b"%d" % i, body]) for i in range(55, count)],
            daemon=True)
        # it sends all the time, though it is not always read
        rest = threading.Thread(
            target=lambda: [(midway.send(b"p" * 500), time.sleep(0.02)) for _ in range(100)],
            daemon=True)
        rest.start()
        sender.start()
        d.wait_event("memory_limit", action="pause_reading")
        # when this client is served, the first would have been closed
        self.peer(d.frontend)
        d.wait_event("handshake_failed", reason="handshake_timeout")
        rest.join(midway.deadline)
        d.sync()
        self.assertEqual(d.find_events("peer_closed"), [])
        w = self.worker(d)
        got = [w.recv_message() for _ in range(count + 1)]
        self.assertEqual([m[1:] for m in got if m[0] == b"midway"], [[b"", b"p" * 100000]])
        self.assertEqual([m[2] for m in got if m[0] != b"midway"],
                         [b"%d" % i for i in range(count)])
        sender.join(hog.deadline)
        self.assertEqual(d.stats().backend["dropped"], 0)

    def test_part_messages_do_not_stop_the_service(self):
        """Peers that stop inside large messages hold the memory: they are closed, and no others."""
        d = self.daemon(broker={"memory_limit": "4MiB"})
        w = self.worker(d)
        good = self.client(d, identity=b"good")
        self.exchange(good, w)
        for count in (5, 4, 4, 3):
            for _ in range(count):
                p = self.client(d)
                p.send(zmtp.frame_header(2 << 20) + b"p" * 900000)
            d.sync()
            self.exchange(good, w)
        self.exchange(self.client(d), w)

    def test_a_proxy_at_the_limit_does_not_stop_the_others(self):
        """One proxy's requests fill the memory for good; another's peers do not notice."""
        d = self.daemon(sections={
            "broker": {"memory_limit": "4MiB", "log_level": "debug", "drain_timeout": "300ms"},
            "frontend full": {"bind": "tcp://127.0.0.1:*", "receive_hwm_bytes": "64MiB"},
            "backend full": {"bind": "tcp://127.0.0.1:*"},
            "frontend well": {"bind": "tcp://127.0.0.1:*", "handshake_timeout": "1500ms",
                              "send_buffer": 8192},
            "backend well": {"bind": "tcp://127.0.0.1:*"}})
        w = self.worker(d, endpoint=d.endpoint("backend", "well"))
        c = self.client(d, endpoint=d.endpoint("frontend", "well"))
        self.exchange(c, w)
        slow = self.client(d, identity=b"slow", endpoint=d.endpoint("frontend", "well"),
                           rcvbuf=4096)
        slow.send_message([b"", b"ask"])
        w.recv_message()
        w.send_message([b"slow", b"", b"s" * 150000])
        hog = self.client(d, endpoint=d.endpoint("frontend", "full"))
        body = b"m" * 65536
        count = 150
        sender = threading.Thread(
            target=lambda: [hog.send_message([b"", b"%d" % i, body]) for i in range(count)],
            daemon=True)
        sender.start()
        d.wait_event("memory_limit", action="pause_reading", proxy="full", side="frontend")
        # many checks of the limit, all of which find it exceeded
        self.peer(d.endpoint("frontend", "well"))
        d.wait_event("handshake_failed", reason="handshake_timeout")
        self.exchange(c, w)
        self.assertEqual(d.find_events("memory_limit", proxy="well"), [])
        self.assertEqual(slow.recv_message(), [b"", b"s" * 150000])
        self.exchange(c, w, b"l" * (3 << 20))    # larger than any share
        self.assertEqual(d.find_events("peer_closed"), [])
        w = self.worker(d, endpoint=d.endpoint("backend", "full"))
        for i in range(count):
            self.assertEqual(int(w.recv_message()[2]), i)
        sender.join(hog.deadline)

    def size(self, d, name):
        """A line of /proc/PID/status, in bytes."""
        with open("/proc/%d/status" % d.pid) as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith(name + ":"))

    def test_what_is_announced_costs_nothing(self):
        """600 peers announce 60 MiB each and send a few bytes: a small multiple of them is held."""
        d = self.daemon(broker={"memory_limit": "128MiB"})
        w = self.worker(d)
        c = self.client(d)
        self.exchange(c, w)
        before = self.size(d, "VmData")
        peers = [self.client(d) for _ in range(300)] + [self.worker(d) for _ in range(300)]
        for p in peers:
            p.send(zmtp.frame(b"id", more=True) + zmtp.frame_header(60 << 20) + b"x")
        d.sync()
        for p in peers:
            p.send(b"y")
        d.sync()
        if not harness._instrumented():
            self.assertLess(self.size(d, "VmData") - before, 16 << 20)
        used = int(d.stats().end["memory_bytes"])
        self.assertGreater(used, 600 * 256)       # each has a block
        self.assertLess(used, 600 * 4096)
        self.exchange(c, w)

    def test_small_messages_count_with_their_bookkeeping(self):
        """Replies of two bytes to a client that does not read: memory stays near the limit."""
        limit = 48 << 20
        d = self.daemon(broker={"memory_limit": limit},
                        frontend={"send_hwm_bytes": "1GiB", "send_timeout": "0",
                                  "send_buffer": 8192})
        w = self.worker(d)
        self.client(d, identity=b"hog", rcvbuf=4096)
        some = zmtp.message([b"hog", b""]) * 20000

        def flood():
            try:
                for _ in range(1200):
                    w.send(some)
            except (OSError, zmtp.Timeout):
                pass

        sender = threading.Thread(target=flood, daemon=True)
        sender.start()
        d.wait_event("peer_closed", side="frontend", reason="over_limit")
        if not harness._instrumented():
            self.assertLess(self.size(d, "VmHWM"), limit + limit // 8 + (48 << 20))
        sender.join(w.deadline)

    def test_a_worker_that_stands_does_not_stop_the_others(self):
        """A stalled worker holds three quarters of the memory; a healthy one is served."""
        d = self.daemon(broker={"memory_limit": "16MiB"},
                        frontend={"receive_hwm_bytes": "64MiB"},
                        backend={"send_hwm_bytes": "13MiB", "send_timeout": "0",
                                 "send_buffer": 65536})
        standing = self.worker(d, rcvbuf=4096)
        hog = self.client(d)
        body = b"m" * 65536
        stop = threading.Event()

        def crawl():            # until reading is paused: the client is not closed for that
            while not stop.wait(0.02):
                standing.sock.recv(1024)

        def flood():
            try:
                for i in range(400):
                    hog.send_message([b"", body])
            except OSError:
                pass

        crawler = threading.Thread(target=crawl, daemon=True)
        sender = threading.Thread(target=flood, daemon=True)
        sender.start()
        d.wait_stats(lambda s: s.backend["queued_bytes"] > 12 << 20)
        crawler.start()
        healthy = self.worker(d, rcvbuf=4096)
        d.wait_event("memory_limit", action="pause_reading", side="frontend")
        stop.set()
        crawler.join()
        done = threading.Event()

        def serve():
            while not done.is_set():
                try:
                    got = healthy.recv_message()
                    healthy.send_message(got[:-1] + [got[-1][:10]])
                except (OSError, zmtp.Closed, zmtp.Timeout):
                    return

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        c = self.client(d)
        for i in range(20):
            c.send_message([b"", b"%d" % i])
            self.assertEqual(c.recv_message(), [b"", b"%d" % i])
        done.set()
        self.assertEqual(d.find_events("peer_closed", side="frontend"), [])
        self.assertEqual(d.stats().backend["dropped"], 0)
        hog.reset()
        sender.join(hog.deadline)

    def test_busy_workers_are_not_closed(self):
        """Each worker is blocked for over a second at a time; no other could take its queue."""
        d = self.daemon(broker={"memory_limit": "64MiB"},
                        frontend={"receive_hwm_bytes": "64MiB"},
                        backend={"send_timeout": "10s", "send_buffer": 65536})
        workers = [self.worker(d, socktype=b"REP", rcvbuf=4096) for _ in range(8)]
        clients = [self.client(d, identity=b"c%d" % i) for i in range(4)]
        jobs, body = 75, b"j" * 524288

        def work(w):
            pause = threading.Event()            # the first jobs take long; the others do not
            try:
                for i in range(len(clients) * jobs):
                    got = w.recv_message()
                    pause.wait(1.2 if i < 4 else 0)
                    w.send_message(got[:-1] + [b"done"])
            except (OSError, zmtp.Closed, zmtp.Timeout):
                pass

        threads = [threading.Thread(target=work, args=(w,), daemon=True) for w in workers] + [
            threading.Thread(target=lambda c=c: [c.send_message([b"", body]) for _ in range(jobs)],
                             daemon=True) for c in clients]
        for t in threads:
            t.start()
        for c in clients:
            for _ in range(jobs):
                self.assertEqual(c.recv_message(), [b"", b"done"])
        self.assertTrue(d.find_events("memory_limit", action="pause_reading"))
        self.assertEqual(d.find_events("peer_closed"), [])
        s = d.stats()
        self.assertEqual((s.backend["received"], s.backend["sent"], s.backend["dropped"]),
                         (4 * jobs, 4 * jobs, 0))
        for p in workers:
            p.half_close()

    def test_clients_that_drip_do_not_hold_up_the_others(self):
        """Messages that continue byte by byte are paused when memory is short."""
        d = self.daemon(broker={"memory_limit": "32MiB"})
        w = self.worker(d)
        c = self.client(d, identity=b"good")
        self.exchange(c, w)
        drips = [self.client(d) for _ in range(8)]
        stop = threading.Event()

        def start(p):
            p.send_quietly(zmtp.frame_header(6 << 20) + b"d" * ((6 << 20) - 1000))

        def drip():
            while not stop.wait(0.5):
                for p in drips:
                    p.send_quietly(b"d")

        threads = [threading.Thread(target=start, args=(p,), daemon=True) for p in drips]
        for t in threads:
            t.start()
        dripper = threading.Thread(target=drip, daemon=True)
        dripper.start()
        d.wait_event("peer_closed", side="frontend", reason="over_limit", count=2)
        for i in range(100):
            self.exchange(c, w, b"x" * 20000)
        stop.set()
        dripper.join()
        s = d.stats()
        self.assertEqual(s.backend["dropped"], 0)
        self.assertEqual(s.frontend["closed"], s.frontend["closed_over_limit"])
        for t in threads:
            t.join(c.deadline)

    def test_drips_that_dial_again_pause_nobody(self):
        """However often the drips reconnect, large messages wait for memory and small ones pass."""
        d = self.daemon(broker={"memory_limit": "16MiB"})
        w = self.worker(d)
        c = self.client(d, identity=b"good")
        self.exchange(c, w)
        size, stop = 4 << 20, threading.Event()

        def drip():
            while not stop.is_set():
                p = self.client(d)
                try:
                    p.sock.sendall(zmtp.frame_header(size) + b"d" * (size - 1000))
                    while not stop.wait(0.5):
                        p.sock.sendall(b"d")
                except OSError:
                    pass
                finally:
                    p.sock.close()

        threads = [threading.Thread(target=drip, daemon=True) for _ in range(10)]
        for t in threads:
            t.start()
        for closed in range(1, 21):              # each of them twice, if it is their turn
            self.exchange(c, w, b"x" * 20000)
            d.wait_event("peer_closed", side="frontend", reason="over_limit", count=closed)
        for _ in range(100):
            self.exchange(c, w, b"x" * 20000)
        stop.set()
        for t in threads:
            t.join(c.deadline)
        self.assertTrue(d.find_events("memory_limit", action="hold_large_messages"))
        self.assertEqual(d.find_events("memory_limit", action="pause_reading"), [])
        self.assertEqual(d.stats().backend["dropped"], 0)

    def test_who_would_need_minutes_goes(self):
        """Slow senders at the limit are never silent for long; their bytes wait while paused."""
        d = self.daemon(broker={"memory_limit": "16MiB"})
        size, most, stop = 6 << 20, 5 << 20, threading.Event()
        slow = [self.client(d) for _ in range(4)]

        def crawl(p):
            p.send_quietly(zmtp.frame_header(size) + b"s" * most)
            while not stop.wait(0.1):
                p.send_quietly(b"s" * 1000)

        threads = [threading.Thread(target=crawl, args=(p,), daemon=True) for p in slow]
        for t in threads:
            t.start()
        d.wait_event("peer_closed", side="frontend", reason="over_limit", detail="memory_limit")
        stop.set()
        for t in threads:
            t.join(slow[0].deadline)

    def test_uploads_that_wait_are_judged_once_they_are_read(self):
        """Some of six stopped senders of large messages are closed; an honest client is not."""
        d = self.daemon(broker={"memory_limit": "16MiB"})
        w = self.worker(d)
        size = 6 << 20
        standing = [self.client(d) for _ in range(6)]
        threads = [threading.Thread(target=p.send_quietly, daemon=True,
                                    args=(zmtp.frame_header(size) + b"s" * (size - 1000),))
                   for p in standing]
        for t in threads:
            t.start()
        d.wait_event("memory_limit", action="hold_large_messages", side="frontend")
        c = self.client(d, identity=b"good")
        body = b"u" * size
        for _ in range(3):
            upload = threading.Thread(target=c.send_message, args=([b"", body],), daemon=True)
            upload.start()
            got = w.recv_message()
            self.assertEqual((got[0], got[2]), (b"good", body))
            w.send_message([b"good", b"", b"done"])
            self.assertEqual(c.recv_message(), [b"", b"done"])
            upload.join(c.deadline)
        for t in threads:
            t.join(c.deadline)
        closed = d.find_events("peer_closed", side="frontend")
        self.assertTrue(closed)
        self.assertEqual({e["detail"] for e in closed}, {"memory_limit"})
        self.assertLess(len(closed), 7)          # c is not among them

    def test_drips_go_and_requests_that_wait_stay(self):
        """A worker's queue fills over half of the memory, twenty dripping clients the rest."""
        d = self.daemon(broker={"memory_limit": "16MiB"},
                        frontend={"receive_hwm_bytes": "64MiB"}, backend={"max_outstanding": 1})
        w = self.worker(d)
        hog, c = self.client(d, identity=b"hog"), self.client(d, identity=b"good")
        count, more, body, size = 125, 60, b"m" * 65536, 300000
        for i in range(count):
            hog.send_message([b"", body])
        drips = [self.client(d) for _ in range(20)]
        for p in drips:
            p.send(zmtp.frame_header(size) + b"d" * (size - 1000))
        d.wait_stats(lambda s: s.frontend["bytes_received"] >
                     count * len(body) + len(drips) * (size - 1000))
        stop = threading.Event()

        def drip():
            while not stop.wait(0.5):
                for p in drips:
                    p.send_quietly(b"d")

        threads = [threading.Thread(target=drip, daemon=True), threading.Thread(
            target=lambda: [hog.send_message([b"", body]) for _ in range(more)], daemon=True)]
        for t in threads:
            t.start()
        d.wait_event("memory_limit", action="hold_large_messages", side="frontend")
        # the worker has one request, and all others wait: nothing moves until a drip is closed
        d.wait_event("peer_closed", side="frontend", reason="over_limit")
        c.send_message([b"", b"x"])
        seen = set()
        for _ in range(count + more + 1):
            who = w.recv_message()[0]
            seen.add(who)
            w.send_message([who, b"", b"done"])
            if who == b"good":
                self.assertEqual(c.recv_message(), [b"", b"done"])
            else:
                self.assertEqual(hog.recv_message(), [b"", b"done"])
        self.assertEqual(seen, {b"hog", b"good"})
        stop.set()
        for t in threads:
            t.join(c.deadline)
        s = d.stats()
        self.assertEqual((s.backend["dropped"], s.frontend["dropped"]), (0, 0))
        self.assertEqual(s.frontend["closed"], s.frontend["closed_over_limit"])

    def test_small_replies_pass_beside_slow_readers(self):
        """Ten clients request 8 MiB each and read next to nothing; no worker is paused for them."""
        d = self.daemon(broker={"memory_limit": "16MiB"}, frontend={"send_buffer": 65536})
        workers = [self.worker(d) for _ in range(2)]
        big, stop = zmtp.frame(b"", more=True) + zmtp.frame(b"B" * (1 << 20)), threading.Event()

        def serve(w):
            w.deadline = harness.DEADLINE
            try:
                while True:
                    who, _, what = w.recv_message()
                    body = big if what == b"big" else zmtp.frame(b"", more=True) + zmtp.frame(what)
                    w.send(zmtp.frame(who, more=True) + body)
            except (OSError, zmtp.Closed, zmtp.Timeout):
                pass

        def read(_):
            while not stop.is_set():
                p = self.client(d, rcvbuf=4096)
                p.send_quietly(zmtp.message([b"", b"big"]) * 8)
                try:
                    for _ in range(4):
                        stop.wait(0.5)
                        p.sock.recv(500)
                except OSError:
                    pass
                p.sock.close()

        threads = [threading.Thread(target=serve, args=(w,), daemon=True) for w in workers]
        c = self.client(d, identity=b"good")
        readers = [threading.Thread(target=read, args=(i,), daemon=True) for i in range(10)]
        for t in threads + readers:
            t.start()
        d.wait_event("memory_limit", action="ration_requests", side="frontend")
        for i in range(200):
            c.send_message([b"", b"%d" % i])
            self.assertEqual(c.recv_message(), [b"", b"%d" % i])
        stop.set()
        for t in readers:
            t.join(c.deadline)
        self.assertEqual(d.find_events("memory_limit", action="pause_reading"), [])
        self.assertEqual(d.find_events("peer_closed", side="backend"), [])
        self.assertEqual(d.stats().backend["dropped"], 0)

    def test_memory_is_given_back(self):
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d)
        self.exchange(c, w)
        for _ in range(20):
            self.exchange(c, w, b"x" * (1 << 20))
        d.wait_stats(lambda s: int(s.end["memory_bytes"]) < 1 << 20)


class Replies(Case):
    """Limits count a message as the client has it; a reply over one is dropped alone."""

    def echo(self, c, w, parts):
        c.send_message(parts)
        got = w.recv_message()
        self.assertEqual(got[1:], parts)
        w.send_message(got)
        self.assertEqual(c.recv_message(), parts)

    def test_a_request_at_the_limits_comes_back(self):
        limits = {"max_message_size": 100000, "max_message_parts": 1024}
        for socktype, identity in ((b"REP", None), (b"DEALER", b"i" * 255)):
            with self.subTest(socktype=socktype):
                d = self.daemon(frontend=limits, backend=limits)
                w = self.worker(d, socktype=socktype)
                c = self.client(d, identity=identity)
                self.echo(c, w, [b""] + [b"p"] * 1022)
                self.echo(c, w, [b""] + [b"p"] * 1023)
                self.echo(c, w, [b"", b"x" * 100000])
                self.echo(c, w, [b"x" * 50000, b"", b"y" * 50000])
                s = d.stats()
                self.assertEqual((s.backend["sent"], s.frontend["sent"]), (4, 4))
                self.assertEqual(d.find_events("peer_closed"), [])

    def too_big(self, backend, **fields):
        d = self.daemon(backend=dict({"max_message_size": 40000, "max_message_parts": 8}, **backend))
        w = self.worker(d, socktype=b"REP")
        c = self.client(d, identity=b"me")
        front = zmtp.frame(b"me", more=True) + zmtp.frame(b"", more=True)
        replies = (front + zmtp.frame(b"x" * 40001),
                   front + zmtp.frame(b"x" * 39999, more=True) + zmtp.frame(b"yy"),
                   front + zmtp.frame(b"x" * 30000, more=True) + zmtp.frame(b"y" * 3000000),
                   front + zmtp.frame(b"", more=True) * 7 + zmtp.frame(b""),
                   front + zmtp.frame(b"", more=True) * 5000 + zmtp.frame(b"end"),
                   zmtp.frame(b"me", more=True, long=True) + zmtp.frame(b"", more=True, long=True) +
                   zmtp.frame(b"x" * 50000))
        for i, reply in enumerate(replies):
            c.send_message([b"", b"ask"])
            w.recv_message()
            if i == 1:
                w.send_bytewise(reply[:30])
                reply = reply[30:]
            w.send(reply)
            d.wait_stats(lambda s: s.frontend["drop_too_big"] == i + 1)
            self.exchange(c, w)                   # the worker stays, and gets more requests
        s = d.stats()
        self.assertEqual(s.frontend["received"], 2 * len(replies))
        self.assertEqual(s.backend["outstanding"], 0)
        self.assertEqual(s.backend["redelivered"], 0)
        self.assertEqual(d.find_events("peer_closed"), [])
        e = d.wait_event("reply_too_big", side="backend")
        self.assertEqual(e["option"], "max_message_size")

    def test_too_big(self):
        self.too_big({})

    def test_too_big_answers_its_request(self):
        """The only request that the worker may hold; it is not sent again either."""
        self.too_big({"max_outstanding": 1, "redeliver": "yes", "answer_timeout": "10s"})

    def test_commands_inside_are_answered(self):
        """PINGs inside a discarded message are answered, and it takes no memory."""
        d = self.daemon(backend={"max_message_size": 1 << 20})
        w = self.worker(d)
        c = self.client(d, identity=b"me")
        w.send(zmtp.frame(b"me", more=True) + zmtp.frame(b"", more=True) +
               zmtp.frame(b"x" * 1000000, more=True))
        d.wait_stats(lambda s: int(s.end["memory_bytes"]) > 1000000)
        for i in range(5):
            w.send(zmtp.frame(b"x" * 1000000, more=True) + zmtp.ping(context=b"%d" % i))
            self.assertEqual(w.recv_command(b"PONG"), b"%d" % i)
            self.assertLess(int(d.stats().end["memory_bytes"]), 65536)
        self.assertEqual(d.stats().frontend["received"], 0)
        w.send(zmtp.frame(b""))
        d.wait_stats(lambda s: s.frontend["drop_too_big"] == 1)
        self.exchange(c, w)
        self.assertEqual(int(d.stats().end["memory_bytes"]), 0)

    def test_a_worker_that_leaves_inside_one(self):
        d = self.daemon(backend={"max_message_size": 1000})
        c = self.client(d, identity=b"me")
        w = self.worker(d)
        w.send(zmtp.frame(b"me", more=True) + zmtp.frame_header(5000) + b"x" * 2000)
        d.sync()
        w.half_close()
        e = d.wait_event("peer_closed", side="backend", reason="peer_closed")
        self.assertEqual(e["messages_in"], "0")
        self.assertEqual(d.stats().frontend["received"], 0)
        self.exchange(c, self.worker(d))


class Connections(Case):
    def ready_now(self, endpoint):
        """Try to become a peer until the daemon accepts us."""
        for _ in range(2000):
            p = self.peer(endpoint)
            try:
                return p.handshake()
            except (zmtp.Closed, BrokenPipeError, ConnectionResetError):
                p.close()
        self.fail("never let in again")

    def test_max_connections_of_a_side(self):
        d = self.daemon(frontend={"max_connections": 3})
        w = self.worker(d)
        clients = [self.client(d) for _ in range(3)]
        more = [self.peer(d.frontend) for _ in range(5)]
        d.sync()
        self.assertLessEqual(d.stats().frontend["peers"], 3)
        for c in clients:
            self.exchange(c, w)
        for p in more:
            # Not greeted: closed silently, or left in the backlog.
            self.assertNotIn(b"READY", p.readable_now())
            p.close()
        clients[0].close()
        d.wait_event("peer_closed", reason="peer_closed", side="frontend")
        self.exchange(self.ready_now(d.frontend), w)
        self.worker(d)                           # the other side is not limited by it

    def test_max_connections_of_the_broker(self):
        d = self.daemon(broker={"max_connections": 4})
        w = self.worker(d)
        clients = [self.client(d) for _ in range(3)]
        more = [self.peer(d.frontend) for _ in range(5)]
        d.sync()
        for c in clients:
            self.exchange(c, w)
        for p in more:
            p.close()
        clients[0].close()
        d.wait_event("peer_closed", reason="peer_closed", side="frontend")
        self.exchange(self.ready_now(d.frontend), w)

    def limit(self, d, soft):
        """Lower the daemon's descriptor limit while it runs; returns the old limit."""
        old = resource.prlimit(d.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(d.pid, resource.RLIMIT_NOFILE, (soft, old[1]))
        return old[0]

    def crowded(self, d):
        """A hundred more clients than there is room for come, stay, and leave."""
        w = self.worker(d)
        c = self.client(d)
        self.exchange(c, w)
        if self.room is not None:
            self.limit(d, d.fds() + self.room)
        crowd = []
        for _ in range(100):
            p = self.peer(d.frontend)
            p.send_quietly(zmtp.greeting() + zmtp.ready())
            crowd.append(p)
        d.sync()
        self.assertTrue(d.alive())
        self.exchange(c, w)
        # Connections that it cannot take must not keep it awake.  An interval
        # in which nothing happens; the processor time used in it is checked.
        before = d.cpu()
        with d.lock:
            d.lock.wait(2)
        after = d.cpu()
        self.assertLess(after[0] - before[0], 60, "CPU ticks in 2 s out of descriptors")
        self.assertLess(after[1] - before[1], 400, "wake-ups in 2 s out of descriptors")
        self.exchange(c, w)
        self.assertLess(d.stats().frontend["peers"], 50)
        for p in crowd:
            p.close()
        self.exchange(self.ready_now(d.frontend), w)
        self.exchange(self.client(d), w)
        self.exchange(c, w)

    def test_few_descriptors(self):
        """max_connections = 0 keeps within RLIMIT_NOFILE, and 32 of them free."""
        self.room = None
        d = self.daemon(nofile=64, defaults={"heartbeat_interval": "0"})
        self.crowded(d)

    def test_out_of_descriptors(self):
        """accept() fails with EMFILE."""
        self.room = 10
        self.crowded(self.daemon(defaults={"heartbeat_interval": "0"}))

    def test_a_dialling_side_out_of_descriptors(self):
        """socket() fails with EMFILE; the daemon retries and succeeds."""
        l = self.closing(zmtp.Listener())
        d = self.daemon(backend={"bind": None, "connect": l.endpoint, "reconnect_min": "20ms",
                                 "reconnect_max": "100ms"})
        first = self.closing(l.accept()).handshake(b"REP")
        d.wait_event("peer_ready", side="backend")
        c = self.client(d)
        self.exchange(c, first)
        old = self.limit(d, 3)
        first.close()
        d.wait_event("reconnecting", side="backend", count=3, reason="connect_failed")
        self.limit(d, old)
        w = self.closing(l.accept()).handshake(b"REP")
        self.exchange(c, w)
