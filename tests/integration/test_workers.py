# SPDX-License-Identifier: MIT
"""Workers that come late, die, stop, return."""

import os
import signal

import zmq

from zmqcase import WAIT_MS, ZmqCase


class Late(ZmqCase):
    def test_requests_wait_for_the_first_worker(self):
        d = self.daemon()
        clients = [self.socket(zmq.REQ, d.frontend) for _ in range(20)]
        for i, s in enumerate(clients):
            s.send(b"%d" % i)
        d.wait_stats(lambda s: s.backend["queued"] == 20)
        self.echo(d.backend, zmq.REP, b"!")
        for i, s in enumerate(clients):
            self.assertEqual(s.recv(), b"%d!" % i)

    def test_clients_are_there_before_the_daemon(self):
        """Both sides dial a daemon that has not started yet."""
        path = self.temp_dir()
        front, back = "ipc://%s/f" % path, "ipc://%s/b" % path
        s = self.socket(zmq.REQ, front)
        self.echo(back, zmq.REP, b"!")
        s.send(b"early")
        self.daemon(frontend={"bind": front}, backend={"bind": back})
        self.assertEqual(s.recv(), b"early!")

    def test_a_client_that_sent_and_left(self):
        d = self.daemon()
        count = 500
        s = self.socket(zmq.DEALER, d.frontend, identity=b"gone")
        for i in range(count):
            s.send_multipart([b"", b"%d" % i])
        s.close(linger=-1)                       # libzmq sends all of it, then closes
        d.wait_event("peer_closed", side="frontend", reason="peer_closed")
        w = self.socket(zmq.DEALER, d.backend)
        for i in range(count):
            self.assertEqual(w.recv_multipart(), [b"gone", b"", b"%d" % i])

    def test_heartbeats_while_requests_wait(self):
        """libzmq's heartbeats are answered; no peer is closed and nothing sent twice."""
        d = self.daemon()
        opts = {"HEARTBEAT_IVL": 50, "HEARTBEAT_TIMEOUT": 3000, "HEARTBEAT_TTL": 3000}
        s = self.socket(zmq.DEALER, d.frontend, **opts)
        for i in range(100):
            s.send_multipart([b"", b"%d" % i])
        st = d.wait_stats(lambda s: s.backend["queued"] == 100)
        # Twenty PINGs of seven bytes and more later ...
        d.wait_stats(lambda now: now.frontend["bytes_received"] >=
                     st.frontend["bytes_received"] + 20 * 9)
        self.echo(d.backend, zmq.REP, b"!", **opts)
        for i in range(100):
            self.assertEqual(s.recv_multipart(), [b"", b"%d!" % i])
        st = d.stats()
        self.assertEqual((st.frontend["accepted"], st.backend["accepted"]), (1, 1))
        self.assertEqual(st.frontend["closed"] + st.backend["closed"], 0)

    def test_heartbeats_of_the_daemon(self):
        d = self.daemon(defaults={"heartbeat_interval": "50ms", "heartbeat_timeout": "5s"})
        self.echo(d.backend, zmq.REP)
        s = self.socket(zmq.REQ, d.frontend)
        self.assertEqual(self.ask(s, b"a"), [b"a"])
        st = d.stats()
        # libzmq answers each with a PONG.
        d.wait_stats(lambda now: now.frontend["bytes_received"] >=
                     st.frontend["bytes_received"] + 10 * 7)
        self.assertEqual(self.ask(s, b"b"), [b"b"])
        st = d.stats()
        self.assertEqual(st.frontend["closed"] + st.backend["closed"], 0)


class Frozen(ZmqCase):
    def test_one_of_three_is_stopped(self):
        """Only clients whose requests the worker holds wait; the others continue."""
        d = self.daemon()
        workers = [self.process(d.backend) for _ in range(3)]
        for w in workers:
            w.wait_line("up")
        self.ready(d, "backend", count=3)
        clients = [self.socket(zmq.REQ, d.frontend) for _ in range(5)]
        answered = [0] * len(clients)
        poller = zmq.Poller()
        for s in clients:
            poller.register(s, zmq.POLLIN)
            s.send(b"x")

        def go_on(until):
            while not until():
                ready = dict(poller.poll(WAIT_MS))
                self.assertTrue(ready, "nobody is answered any more")
                for i, s in enumerate(clients):
                    if s in ready:
                        s.recv()
                        answered[i] += 1
                        s.send(b"x")

        go_on(lambda: sum(answered) >= 100)
        workers[0].send_signal(signal.SIGSTOP)
        st = d.stats()
        total = sum(answered)
        go_on(lambda: sum(answered) >= total + 200)
        before = list(answered)
        go_on(lambda: sum(answered) >= total + 1200)
        waiting = [i for i in range(len(clients)) if answered[i] == before[i]]
        self.assertLess(len(waiting), 4)         # 5 requests over 3 workers
        self.assertEqual(d.stats().backend["closed"], st.backend["closed"])
        workers[0].send_signal(signal.SIGCONT)
        go_on(lambda: all(answered[i] > before[i] for i in waiting))


class Unanswerable(ZmqCase):
    """A REP discards a request without a delimiter: it must not count as pending."""

    BOOKS = ({"max_outstanding": 1}, {"redeliver": "yes", "answer_timeout": "300ms"},
             {"answer_timeout": "300ms"}, {})

    def spoil(self, d, probe):
        if probe:
            for _ in range(4):
                self.socket(zmq.DEALER, d.frontend, PROBE_ROUTER=1)
        else:
            s = self.socket(zmq.DEALER, d.frontend)
            for _ in range(4):
                s.send(b"x")
        d.wait_stats(lambda s: s.backend["sent"] == 4)

    def test_others_are_served(self):
        for options in self.BOOKS:
            for probe in (False, True):
                with self.subTest(options=options, probe=probe):
                    d = self.daemon(backend=options)
                    for _ in range(2):
                        self.echo(d.backend, zmq.REP)
                    self.ready(d, "backend", count=2)
                    self.spoil(d, probe)
                    s = d.stats()
                    self.assertEqual((s.backend["outstanding"], s.backend["kept_bytes"]), (0, 0))
                    c = self.socket(zmq.REQ, d.frontend)
                    for i in range(20):
                        self.assertEqual(self.ask(c, b"%d" % i), [b"%d" % i])
                    self.assertEqual(d.find_events("worker_suspect"), [])


class Killed(ZmqCase):
    def test_worker_killed_with_requests_queued(self):
        """Messages that its kernel did not take go to the next worker; all are counted."""
        d = self.daemon(backend={"send_buffer": 8192, "receive_buffer": 8192})
        victim = self.process(d.backend, "mute", "type=REP")
        victim.wait_line("up")
        self.ready(d, "backend")
        s = self.socket(zmq.DEALER, d.frontend, SNDHWM=0)
        # Stopped, it takes only what the buffers of libzmq and the kernel hold.
        s.send_multipart([b"", b"first"])
        victim.wait_line("got 1")
        victim.send_signal(signal.SIGSTOP)
        count = 400
        body = b"k" * 50000
        for i in range(count):
            s.send_multipart([b"", b"%d" % i, body])
        d.wait_stats(lambda st: st.backend["queued"] > 20)
        os.kill(victim.pid, signal.SIGKILL)
        victim.proc.wait()
        e = d.wait_event("peer_closed", side="backend")
        self.assertGreater(int(e["rerouted"]), 0)
        self.echo(d.backend, zmq.REP)
        got = []
        while not got or got[-1] != count - 1:
            parts = s.recv_multipart()
            self.assertEqual((parts[0], parts[2]), (b"", body))
            got.append(int(parts[1]))
        self.assertEqual(got, list(range(count - len(got), count)))
        st = d.stats()
        self.assertEqual(st.backend["sent"], count + 1)
        self.assertEqual(st.backend["dropped"], 0)
        self.assertGreaterEqual(len(got), st.backend["rerouted"])

    def test_kill_and_restart_at_will(self):
        """Workers are killed under load; each request is answered or was with a dead worker."""
        d = self.daemon()
        steady = self.echo(d.backend, zmq.REP)
        self.ready(d, "backend")
        s = self.socket(zmq.DEALER, d.frontend)
        sent = 0
        answered = 0
        for round_ in range(5):
            mark = d.mark()
            w = self.process(d.backend)
            w.wait_line("up")
            self.ready(d, "backend", after=mark)
            for _ in range(200):
                s.send_multipart([b"", b"%d" % sent])
                sent += 1
            w.wait_line("got 5")
            w.kill()
            d.wait_event("peer_closed", after=mark, side="backend")
            while s.poll(0):
                s.recv_multipart()
                answered += 1
        # The last request goes to the only worker left, after all its others.
        s.send_multipart([b"", b"last"])
        sent += 1
        while True:
            got = s.recv_multipart()
            answered += 1
            if got[1] == b"last":
                break
        st = d.stats()
        self.assertEqual(st.backend["received"], sent)
        self.assertEqual(st.backend["sent"], sent)
        self.assertEqual(st.backend["queued"], 0)
        self.assertLessEqual(answered, sent)
        self.assertGreaterEqual(answered, steady.handled)

    def test_stopped_worker_and_send_timeout(self):
        """SIGSTOP: the worker is closed, its queue rerouted; SIGCONT: it returns."""
        d = self.daemon(backend={"send_timeout": "400ms", "send_buffer": 8192})
        w = self.process(d.backend, "tag=w")
        w.wait_line("up")
        self.ready(d, "backend")
        s = self.socket(zmq.DEALER, d.frontend, SNDHWM=0)
        s.send_multipart([b"", b"x"])
        self.assertEqual(s.recv_multipart(), [b"", b"xw"])
        w.send_signal(signal.SIGSTOP)
        try:
            for i in range(300):
                s.send_multipart([b"", b"%d" % i, b"p" * 50000])
            e = d.wait_event("peer_closed", side="backend")
            self.assertEqual(e["reason"], "send_timeout")
            self.assertGreater(int(e["rerouted"]), 0)
            mark = d.mark()
            self.echo(d.backend, zmq.REP, b"e")
            self.ready(d, "backend", after=mark)
            while True:
                parts = s.recv_multipart()
                if parts[1] == b"299":
                    break
        finally:
            mark = d.mark()
            w.send_signal(signal.SIGCONT)
        # libzmq dials again after a silent close.
        self.ready(d, "backend", after=mark)
        for i in range(10):
            s.send_multipart([b"", b"again%d" % i])
        tags = set()
        while tags < {b"e", b"w"}:
            parts = s.recv_multipart()
            if parts[1].startswith(b"again"):
                tags.add(parts[1][-1:])

    def test_client_that_stops_reading(self):
        """Replies to the client are dropped or poisoned; other clients are served."""
        d = self.daemon(frontend={"send_timeout": "500ms", "send_buffer": 8192, "send_hwm": 5})
        self.echo(d.backend, zmq.DEALER)
        stuck = self.socket(zmq.DEALER, d.frontend, identity=b"stuck", RCVHWM=1, RCVBUF=4096)
        good = self.socket(zmq.REQ, d.frontend)
        for i in range(100):
            stuck.send_multipart([b"", b"s" * 50000])
            if i % 10 == 0:
                self.assertEqual(self.ask(good, b"%d" % i), [b"%d" % i])
        d.wait_event("peer_closed", side="frontend", reason="send_timeout")
        self.assertEqual(self.ask(good, b"still"), [b"still"])
        d.wait_stats(lambda s: s.frontend["received"] == s.backend["received"])


class Dialled(ZmqCase):
    def test_daemon_dials_workers_that_restart(self):
        path = "ipc://%s/w" % self.temp_dir()
        d = self.daemon(backend={"bind": None, "connect": path, "reconnect_min": "20ms",
                                 "reconnect_max": "100ms"})
        s = self.socket(zmq.DEALER, d.frontend)
        for i in range(4):
            s.send_multipart([b"", b"before%d" % i])
            mark = d.mark()
            w = self.process(path, "bind", "tag=%d" % i)
            self.assertEqual(s.recv_multipart(), [b"", b"before%d%d" % (i, i)])
            s.send_multipart([b"", b"while"])
            self.assertEqual(s.recv_multipart(), [b"", b"while%d" % i])
            d.wait_event("peer_ready", after=mark, side="backend", direction="dialled")
            w.kill()
            d.wait_event("peer_closed", after=mark, side="backend")
        st = d.stats()
        self.assertEqual(st.backend["reconnects"], 3)
        self.assertEqual(st.backend["dropped"], 0)

    def test_tcp_worker_that_restarts_on_its_port(self):
        w = self.echo("tcp://127.0.0.1:*", zmq.REP, b"1", bind=True)
        endpoint = w.endpoint
        d = self.daemon(backend={"bind": None, "connect": endpoint, "reconnect_min": "20ms",
                                 "reconnect_max": "100ms"})
        s = self.socket(zmq.REQ, d.frontend)
        self.assertEqual(self.ask(s, b"a"), [b"a1"])
        w.stop()
        d.wait_event("peer_closed", side="backend")
        s.send(b"b")
        d.wait_stats(lambda st: st.backend["queued"] == 1)
        w = self.rebind(endpoint)
        self.assertEqual(s.recv(), b"b2")
        w.stop()

    def rebind(self, endpoint):
        for _ in range(200):
            try:
                return self.echo(endpoint, zmq.REP, b"2", bind=True)
            except zmq.ZMQError as e:
                # libzmq's reaper closes its listener in its own time.
                if e.errno != zmq.EADDRINUSE:
                    raise
                self.socket(zmq.PULL).poll(20)
        self.fail("%s was never free again" % endpoint)

    def test_daemon_dials_clients(self):
        s = self.socket(zmq.DEALER, bind="tcp://127.0.0.1:*")
        endpoint = s.getsockopt(zmq.LAST_ENDPOINT).decode().rstrip("\0")
        d = self.daemon(frontend={"bind": None, "connect": endpoint})
        self.echo(d.backend, zmq.REP, b"!")
        s.send_multipart([b"", b"x"])
        self.assertEqual(s.recv_multipart(), [b"", b"x!"])

    def test_several_workers_dialled(self):
        workers = [self.echo("tcp://127.0.0.1:*", zmq.REP, b"%d" % i, bind=True)
                   for i in range(3)]
        d = self.daemon(backend={"bind": None, "connect": [w.endpoint for w in workers],
                                 "balance": "round_robin"})
        self.ready(d, "backend", 3)
        s = self.socket(zmq.DEALER, d.frontend)
        for _ in range(30):
            s.send_multipart([b"", b""])
        tags = sorted(s.recv_multipart()[1] for _ in range(30))
        self.assertEqual(tags, [b"0"] * 10 + [b"1"] * 10 + [b"2"] * 10)

    def test_dialled_router_worker(self):
        """The daemon's routing_id lets a ROUTER worker address it."""
        s = self.socket(zmq.ROUTER, bind="tcp://127.0.0.1:*")
        endpoint = s.getsockopt(zmq.LAST_ENDPOINT).decode().rstrip("\0")
        d = self.daemon(backend={"bind": None, "connect": endpoint, "routing_id": "bh"})
        c = self.socket(zmq.REQ, d.frontend, identity=b"c")
        c.send(b"x")
        self.assertEqual(s.recv_multipart(), [b"bh", b"c", b"", b"x"])
        s.send_multipart([b"bh", b"c", b"", b"y"])
        self.assertEqual(c.recv(), b"y")
