# SPDX-License-Identifier: MIT
"""Every kind of client with every kind of worker, every size, every shape."""

import hashlib
import random

import zmq

from zmqcase import ZmqCase

CLIENTS = {"REQ": zmq.REQ, "DEALER": zmq.DEALER, "ROUTER": zmq.ROUTER}
WORKERS = {"REP": zmq.REP, "DEALER": zmq.DEALER, "ROUTER": zmq.ROUTER}

SIZES = [0, 1, 2, 10, 127, 128, 253, 254, 255, 256, 257, 1000, 4095, 4096, 8191, 8192, 8193,
         65535 - 64, 65534, 65535, 65536, 65537, 100000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1]
LARGE = [4 << 20, (16 << 20) - 1, 16 << 20]


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


class Pairs(ZmqCase):
    def client_socket(self, d, kind):
        s = self.socket(CLIENTS[kind], d.frontend)
        if kind == "ROUTER":
            s.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.ready(d, "frontend")
        return s

    def request(self, s, kind, parts):
        """One exchange, as an application of that socket type does it."""
        if kind == "REQ":
            s.send_multipart(parts)
            return s.recv_multipart()
        if kind == "DEALER":
            s.send_multipart([b""] + parts)
            got = s.recv_multipart()
            self.assertEqual(got[0], b"")
            return got[1:]
        while True:
            try:
                s.send_multipart([b"broker", b""] + parts)
                break
            except zmq.ZMQError as e:
                # Its own side of the handshake is still on the way.
                if e.errno != zmq.EHOSTUNREACH:
                    raise
                s.poll(5)
        got = s.recv_multipart()
        self.assertEqual(got[:2], [b"broker", b""])
        return got[2:]

    def pair(self, client, worker, sizes):
        d = self.daemon(frontend={"routing_id": "broker"})
        w = self.echo(d.backend, WORKERS[worker], b"!")
        self.ready(d, "backend")
        s = self.client_socket(d, client)
        for size in sizes:
            body = noise(size)
            got = self.request(s, client, [body])
            self.assertEqual(len(got), 1)
            self.assertEqual(len(got[0]), size + 1, "size %d" % size)
            self.assertTrue(got[0][:-1] == body and got[0].endswith(b"!"), "size %d" % size)
        for parts in ([b"", b"x"], [b"x", b""], [b"", b""], [b"", b"", b""], [b"a", b"", b"b"],
                      [b"1"] * 100, [b"", b"y" * 300, b"", b"z" * 70000, b""]):
            self.assertEqual(self.request(s, client, parts), parts[:-1] + [parts[-1] + b"!"])
        st = d.stats()
        self.assertEqual(st.backend["dropped"], 0)
        self.assertEqual(st.frontend["dropped"], 0)
        self.assertEqual(st.frontend["sent"], w.handled)
        self.assertEqual(st.frontend["closed"] + st.backend["closed"], 0)

    def test_req_rep(self):
        self.pair("REQ", "REP", SIZES)

    def test_req_dealer(self):
        self.pair("REQ", "DEALER", SIZES)

    def test_req_router(self):
        self.pair("REQ", "ROUTER", SIZES)

    def test_dealer_rep(self):
        self.pair("DEALER", "REP", SIZES)

    def test_dealer_dealer(self):
        self.pair("DEALER", "DEALER", SIZES)

    def test_dealer_router(self):
        self.pair("DEALER", "ROUTER", SIZES)

    def test_router_rep(self):
        self.pair("ROUTER", "REP", SIZES)

    def test_router_dealer(self):
        self.pair("ROUTER", "DEALER", SIZES)

    def test_router_router(self):
        self.pair("ROUTER", "ROUTER", SIZES)

    def test_large(self):
        self.pair("REQ", "REP", LARGE)

    def test_large_dealer_router(self):
        self.pair("DEALER", "ROUTER", LARGE)


class Shapes(ZmqCase):
    def test_frames_are_kept_apart(self):
        d = self.daemon()
        self.echo(d.backend, zmq.DEALER)
        s = self.socket(zmq.DEALER, d.frontend)
        rng = random.Random(7)
        for _ in range(300):
            parts = [rng.randbytes(rng.choice((0, 0, 1, 5, 254, 255, 256, 3000)))
                     for _ in range(rng.randrange(1, 20))]
            self.assertEqual(self.ask(s, *parts), parts)

    def test_pipelined_requests_keep_their_order(self):
        d = self.daemon()
        self.echo(d.backend, zmq.DEALER)
        s = self.socket(zmq.DEALER, d.frontend, SNDHWM=0, RCVHWM=0)
        count = 20000
        for i in range(count):
            s.send_multipart([b"", b"%d" % i])
        for i in range(count):
            self.assertEqual(s.recv_multipart(), [b"", b"%d" % i])
        st = d.stats()
        self.assertEqual((st.backend["sent"], st.frontend["sent"]), (count, count))

    def test_many_large_ones_at_once(self):
        d = self.daemon()
        for _ in range(3):
            self.echo(d.backend, zmq.DEALER, SNDHWM=0, RCVHWM=0)
        s = self.socket(zmq.DEALER, d.frontend)
        bodies = {b"%d" % i: noise(1 << 20, i) for i in range(24)}
        for key, body in bodies.items():
            s.send_multipart([key, body])
        for _ in range(24):
            key, body = s.recv_multipart()
            self.assertEqual(hashlib.sha256(body).digest(),
                             hashlib.sha256(bodies.pop(key)).digest())
        self.assertEqual(bodies, {})

    def test_req_relaxed_and_correlate(self):
        """A request id before the delimiter passes untouched."""
        d = self.daemon()
        self.echo(d.backend, zmq.REP, b"!")
        s = self.socket(zmq.REQ, d.frontend, REQ_CORRELATE=1, REQ_RELAXED=1)
        for i in range(50):
            self.assertEqual(self.ask(s, b"%d" % i), [b"%d!" % i])

    def test_router_client_with_an_id_of_the_broker_that_is_made_up(self):
        """Without routing_id a ROUTER client learns the daemon's id from what it is sent."""
        d = self.daemon()
        w = self.socket(zmq.DEALER, d.backend)
        s = self.socket(zmq.ROUTER, d.frontend, identity=b"R")
        self.ready(d, "frontend")
        self.ready(d, "backend")
        w.send_multipart([b"R", b"", b"unasked"])
        got = s.recv_multipart()
        self.assertEqual(got[1:], [b"", b"unasked"])
        s.send_multipart([got[0], b"", b"question"])
        self.assertEqual(w.recv_multipart(), [b"R", b"", b"question"])

    def test_wrong_kinds_of_sockets_are_refused(self):
        d = self.daemon()
        for kind in (zmq.SUB, zmq.PUSH, zmq.PULL, zmq.PAIR, zmq.REP, zmq.XPUB):
            self.socket(kind, d.frontend)
        for kind in (zmq.PUB, zmq.REQ, zmq.PULL):
            self.socket(kind, d.backend)
        # Both find out; the first to do so hangs up.
        d.wait_stats(lambda s: s.frontend["closed"] == 6 and s.backend["closed"] == 3)
        self.assertEqual(d.find_events("peer_ready"), [])
        self.echo(d.backend, zmq.REP)
        self.assertEqual(self.ask(self.socket(zmq.REQ, d.frontend), b"x"), [b"x"])
        # libzmq does not dial again after that.
        st = d.stats()
        self.assertEqual((st.frontend["accepted"], st.backend["accepted"]), (7, 4))

    def test_req_is_never_given_something_that_kills_it(self):
        """A REQ with a routing id stays usable after its first reply."""
        d = self.daemon()
        self.echo(d.backend, zmq.REP, b"!")
        self.ready(d, "backend")
        s = self.socket(zmq.REQ, d.frontend, identity=b"req")
        self.assertEqual(self.ask(s, b"1"), [b"1!"])
        self.assertEqual(self.ask(s, b"2"), [b"2!"])


class Crowd(ZmqCase):
    def crowd(self, clients, workers, rounds, worker_kind=zmq.REP):
        d = self.daemon()
        for i in range(workers):
            self.echo(d.backend, worker_kind)
        poller = zmq.Poller()
        sockets = {}
        for i in range(clients):
            s = self.socket(zmq.REQ, d.frontend)
            sockets[s] = [b"client-%d" % i, 0]
            poller.register(s, zmq.POLLIN)
        for s, state in sockets.items():
            s.send_multipart([state[0], b"0"])
        open_ = clients
        while open_:
            ready = poller.poll(30000)
            self.assertTrue(ready, "no reply came")
            for s, _ in ready:
                state = sockets[s]
                self.assertEqual(s.recv_multipart(), [state[0], b"%d" % state[1]])
                state[1] += 1
                if state[1] < rounds:
                    s.send_multipart([state[0], b"%d" % state[1]])
                else:
                    open_ -= 1
        st = d.stats()
        self.assertEqual(st.backend["sent"], clients * rounds)
        self.assertEqual(st.frontend["sent"], clients * rounds)
        self.assertEqual(st.frontend["peers"], clients)
        self.assertEqual(st.backend["peers"], workers)

    def test_60_clients_20_workers(self):
        self.crowd(60, 20, 50)

    def test_20_clients_60_workers(self):
        self.crowd(20, 60, 20, zmq.DEALER)

    def test_clients_come_and_go(self):
        d = self.daemon()
        for _ in range(4):
            self.echo(d.backend, zmq.REP)
        for i in range(150):
            s = self.socket(zmq.REQ, d.frontend)
            self.assertEqual(self.ask(s, b"%d" % i), [b"%d" % i])
            s.close(0)
        d.wait_stats(lambda s: s.frontend["peers"] == 0)
        self.assertEqual(d.stats().frontend["accepted"], 150)

    def test_same_identity_coming_back(self):
        d = self.daemon()
        self.echo(d.backend, zmq.REP)
        for i in range(50):
            s = self.socket(zmq.REQ, d.frontend, identity=b"always me")
            self.assertEqual(self.ask(s, b"%d" % i), [b"%d" % i])
            s.close(0)
