# SPDX-License-Identifier: MIT
"""Connections to a port: strangers, load balancer probes, peers of the wrong type; and limits."""

import os
import resource
import selectors
import socket
import threading

import zmtp
from harness import Case
from zmtp import command, greeting, prop, ready

STRANGERS = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x55" * 60,
    "a PROXY protocol line (version 1)": b"PROXY TCP4 192.0.2.1 192.0.2.2 5555 5555\r\n",
    "a PROXY protocol header (version 2)":
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 1, 192, 0, 2, 2]) + b"\x15\xb3" * 2,
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "RDP": b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\1\0\x08\0\3\0\0\0",
    "redis": b"*1\r\n$4\r\nPING\r\n",
    "SMTP": b"EHLO example.org\r\n",
    "MQTT": b"\x10\x0c\0\4MQTT\4\2\0\x3c\0\0",
    "AMQP": b"AMQP\0\0\x09\x01",
    "PostgreSQL": b"\0\0\0\x08\x04\xd2\x16\x2f",
    "SMB": b"\0\0\0\x85\xffSMB\x72" + b"\0" * 40,
}


class Strangers(Case):
    def test_they_are_named(self):
        """At most ten such lines are logged per second and side: a daemon for each few."""
        names = sorted(STRANGERS)
        for some in (names[:9], names[9:]):
            for kind in ("tcp", "ipc"):
                bind = "tcp://127.0.0.1:*" if kind == "tcp" else "ipc://%s/" % self.temp_dir()
                d = self.daemon(frontend={"bind": bind + "f" if kind == "ipc" else bind},
                                backend={"bind": bind + "b" if kind == "ipc" else bind})
                for side in ("frontend", "backend"):
                    for name in some:
                        self.check_name(d, side, name)

    def check_name(self, d, side, name):
        mark = d.mark()
        p = self.peer(d.endpoint(side))
        p.send_quietly(STRANGERS[name])
        p.expect_closed()
        p.close()
        e = d.wait_event("handshake_failed", after=mark, side=side, reason="protocol_error")
        self.assertEqual(e["detail"], "not ZMTP: looks like " + name)

    def test_where_we_dial_too(self):
        l = self.closing(zmtp.Listener())
        d = self.daemon(backend={"bind": None, "connect": l.endpoint, "reconnect_min": "10ms"})
        for name, banner in (("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"), ("SMTP or FTP", b"220 x ESMTP\r\n"),
                             ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n")):
            mark = d.mark()
            l.accept().send_quietly(banner)
            e = d.wait_event("handshake_failed", after=mark, side="backend")
            self.assertEqual(e["detail"], "not ZMTP: looks like " + name)

    def test_the_rest_is_not(self):
        d = self.daemon()
        for data, detail in ((b"\0" * 64, "not a ZMTP greeting"), (b"xyz", "not a ZMTP greeting"),
                             (b"\x05\0hello", "peer speaks ZMTP 1.0, not supported yet")):
            mark = d.mark()
            p = self.peer(d.frontend)
            p.send_quietly(data)
            p.expect_closed()
            self.assertEqual(d.wait_event("handshake_failed", after=mark)["detail"], detail)


class Unused(Case):
    def test_a_probe_of_the_port_is_no_failed_handshake(self):
        """Load balancers connect and close, or reset; neither is logged as a warning."""
        path = os.path.join(self.temp_dir(), "f")
        d = self.daemon(frontend={"bind": ["tcp://127.0.0.1:*", "ipc://" + path]})
        for i in range(5):
            self.peer(d.endpoint("frontend")).close()
            self.peer(d.endpoint("frontend")).reset()
            self.peer("ipc://" + path).close()
            self.peer(d.backend).close()
        s = d.wait_stats(lambda s: s.frontend["unused"] == 15 and s.backend["unused"] == 5)
        for side in (s.frontend, s.backend):
            self.assertEqual(side["handshakes_failed"], 0)
            self.assertEqual(side["closed"], side["unused"])
        self.assertEqual(d.find_events("handshake_failed"), [])

    def test_one_byte_is_a_try(self):
        d = self.daemon()
        p = self.peer(d.frontend)
        p.send(b"\xff")
        p.close()
        s = d.wait_stats(lambda s: s.frontend["handshakes_failed"] == 1)
        self.assertEqual(s.frontend["unused"], 0)
        # a reset, if our greeting was there by then
        self.assertIn(d.wait_event("handshake_failed")["reason"], ("peer_closed", "io_error"))

    def test_where_we_dial_it_is_a_failure(self):
        l = self.closing(zmtp.Listener())
        d = self.daemon(backend={"bind": None, "connect": l.endpoint})
        l.accept().close()
        d.wait_event("handshake_failed", side="backend")
        self.assertEqual(d.stats().backend["unused"], 0)


class Types(Case):
    def test_a_ready_without_a_type_is_a_dealers(self):
        """libzmtp sends none, and libzmq accepts it."""
        for minor in (0, 1):
            d = self.daemon()
            c, w = self.peer(d.frontend), self.peer(d.backend)
            for p, name in ((c, b"me"), (w, None)):
                p.send(greeting(minor=minor) + command(
                    b"READY", prop(b"Identity", name) if name else b""))
                p.recv_greeting()
                p.recv_ready()
            d.wait_event("peer_ready", side="frontend", type="DEALER", routing_id="me")
            d.wait_event("peer_ready", side="backend", type="DEALER")
            self.exchange(c, w)

    def test_the_wrong_type_is_told_with_the_right_ones(self):
        d = self.daemon()
        for side, takes in (("frontend", "REQ, DEALER, ROUTER"), ("backend", "REP, DEALER, ROUTER")):
            p = self.peer(d.endpoint(side))
            p.send_quietly(greeting() + ready(b"PUB"))
            p.expect_closed()
            e = d.wait_event("handshake_failed", side=side, reason="incompatible_socket_type")
            self.assertEqual(e["detail"], "peer is a PUB; this side takes " + takes)

    def test_who_closes_on_our_ready_gets_a_hint(self):
        """libzmq does so for another type, and its own READY may never come."""
        d = self.daemon()
        for side, takes in (("frontend", "REQ, DEALER, ROUTER"), ("backend", "REP, DEALER, ROUTER")):
            p = self.peer(d.endpoint(side))
            p.send(greeting())
            p.recv_greeting()
            p.recv_ready()
            p.close()
            e = d.wait_event("handshake_failed", side=side, reason="peer_closed")
            self.assertEqual(e["detail"], "closed on our READY, usually for its socket type; "
                                          "this side takes " + takes)


class Awaited(Case):
    """Where a request waits and no worker is ready, dialling does not back off to seconds."""

    def start(self):
        with socket.socket() as s:               # a port without a listener
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        return self.daemon(backend={"bind": None, "connect": "tcp://127.0.0.1:%d" % self.port,
                                    "reconnect_min": "100ms", "reconnect_max": "1h",
                                    "reconnect_jitter": 0})

    def delays(self, d, after, count):
        d.wait_event("reconnecting", after=after, count=count)
        return [int(e["delay_ms"]) for e in d.find_events("reconnecting", after=after)]

    def test_a_request_waits(self):
        d = self.start()
        c = self.client(d)
        c.send_message([b"", b"x"])
        d.wait_stats(lambda s: s.backend["queued"] == 1)
        self.assertLessEqual(max(self.delays(d, d.mark(), 6)), 500)
        l = self.closing(zmtp.Listener(address=("127.0.0.1", self.port)))
        w = self.closing(l.accept()).handshake(b"REP")
        got = w.recv_message()
        w.send_message([got[0], b"", b"y"])
        self.assertEqual(c.recv_message(), [b"", b"y"])

    def test_a_request_comes_late(self):
        d = self.start()
        d.wait_event("reconnecting", delay_ms="3200")
        mark = d.mark()
        self.client(d).send_message([b"", b"x"])
        self.assertLessEqual(max(self.delays(d, mark, 3)), 500)

    def test_nobody_waits(self):
        d = self.start()
        self.client(d)
        self.assertEqual(self.delays(d, 0, 5), [100, 200, 400, 800, 1600])


class OurLimits(Case):
    def test_they_are_warnings_with_the_option(self):
        d = self.daemon(frontend={"max_message_size": 1000, "max_message_parts": 4,
                                  "receive_timeout": "50ms"})
        for data, reason, option in (
                (zmtp.message([b"x" * 2000]), "message_too_big", "max_message_size"),
                (zmtp.message([b"x"] * 6), "too_many_parts", "max_message_parts"),
                (zmtp.message([b"x" * 900])[:-1], "receive_timeout", "receive_timeout")):
            mark = d.mark()
            c = self.client(d)
            c.send_quietly(data)
            e = d.wait_event("peer_closed", after=mark, side="frontend", reason=reason)
            self.assertEqual((e["level"], e["option"]), ("warning", option))
            c.close()
        mark = d.mark()
        self.worker(d).close()
        e = d.wait_event("peer_closed", after=mark, reason="peer_closed")
        self.assertEqual((e["level"], e.get("option")), ("info", None))


class UnixPeers(Case):
    def test_they_are_processes(self):
        path = os.path.join(self.temp_dir(), "f")
        d = self.daemon(frontend={"bind": "ipc://" + path})
        want = "ipc://pid:%d,uid:%d" % (os.getpid(), os.getuid())
        c = self.client(d)
        self.assertEqual(d.wait_event("peer_ready", side="frontend")["address"], want)
        c.close()
        self.assertEqual(d.wait_event("peer_closed", side="frontend")["address"], want)


class Crowd:
    """Strangers that connect, send nothing or half a greeting, and reconnect when closed."""

    def __init__(self, endpoint, count, data=b"", source=None):
        family, address = zmtp.split_endpoint(endpoint)
        self.stopping = False
        self.dialled = 0
        self.data = data
        self.selector = selectors.DefaultSelector()
        self.dial = lambda: self.connect(family, address, source)
        for _ in range(count):
            self.dial()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def connect(self, family, address, source):
        s = socket.socket(family, socket.SOCK_STREAM)
        if source:
            s.bind((source, 0))
        s.setblocking(False)
        try:
            s.connect(address)
        except BlockingIOError:
            pass
        self.dialled += 1
        self.selector.register(s, selectors.EVENT_READ | (selectors.EVENT_WRITE if self.data else 0))

    def on_event(self, key, events):
        try:
            if events & selectors.EVENT_WRITE:
                key.fileobj.send(self.data)
                self.selector.modify(key.fileobj, selectors.EVENT_READ)
            if not events & selectors.EVENT_READ or key.fileobj.recv(4096):
                return
        except OSError:
            pass
        self.selector.unregister(key.fileobj)
        key.fileobj.close()
        self.dial()

    def run(self):
        while not self.stopping:
            for key, events in self.selector.select(0.05):
                self.on_event(key, events)

    def close(self):
        self.stopping = True
        self.thread.join(zmtp.DEADLINE)
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()


LONG = {"handshake_timeout": "1h", "heartbeat_interval": "0"}


class Slots(Case):
    """At a limit, connections in their handshake make room.  No handshake_timeout ends here."""

    def crowd(self, endpoint, count=100, **kw):
        return self.closing(Crowd(endpoint, count, **kw))

    def client_again(self, d, attempts=20):
        """A client that dials again, as a library does, while a busy machine makes it too slow."""
        for _ in range(attempts - 1):
            try:
                return self.client(d)
            except (zmtp.Closed, BrokenPipeError, ConnectionResetError):
                pass
        return self.client(d)

    def serve(self, d, rounds=5):
        """Workers and clients connect one after the other, and are served."""
        for _ in range(rounds):
            for attempt in range(20):
                peers = []
                try:
                    peers.append(self.worker(d))
                    peers.append(self.client(d))
                    self.exchange(peers[1], peers[0])
                    served = True
                except (zmtp.Closed, BrokenPipeError, ConnectionResetError):
                    served = False
                for peer in peers:
                    peer.close()
                if served:
                    break
                # slower with its handshake than the grace, on a busy machine: a library dials again
                self.assertLess(attempt, 19)

    def check(self, d, side="frontend"):
        s = d.wait_stats(lambda s: s.side(side)["closed_over_limit"] > 0)
        self.assertEqual(s.side(side)["closed"], s.side(side)["handshakes_failed"] +
                         len(d.find_events("peer_closed", side=side)))
        self.assertEqual(d.find_events("peer_closed", reason="over_limit"), [])

    def test_silent_peers_keep_nobody_out(self):
        d = self.daemon(broker={"max_connections": 50}, defaults=LONG)
        self.crowd(d.frontend)
        d.wait_stats(lambda s: s.frontend["accepted"] > 40)
        self.serve(d)
        self.check(d)

    def test_neither_do_those_with_half_a_greeting(self):
        d = self.daemon(broker={"max_connections": 50}, defaults=LONG)
        self.crowd(d.frontend, data=greeting()[:10])
        self.crowd(d.backend, data=greeting())
        d.wait_stats(lambda s: s.frontend["accepted"] + s.backend["accepted"] > 45)
        self.serve(d)
        self.check(d)

    def test_of_one_side(self):
        d = self.daemon(frontend={"max_connections": 20}, defaults=LONG)
        self.crowd(d.frontend)
        d.wait_stats(lambda s: s.frontend["accepted"] > 19)
        self.serve(d)
        self.check(d)

    def test_of_descriptors(self):
        d = self.daemon(nofile=100, defaults=LONG)
        self.crowd(d.frontend, 200)
        d.wait_stats(lambda s: s.frontend["accepted"] > 40)
        self.serve(d)
        self.check(d)

    def test_when_accept_fails(self):
        """The kernel has no descriptor left, whatever our limit says."""
        d = self.daemon(defaults=LONG)
        resource.prlimit(d.pid, resource.RLIMIT_NOFILE,
                         (d.fds() + 20, resource.prlimit(d.pid, resource.RLIMIT_NOFILE)[1]))
        self.crowd(d.frontend)
        d.wait_stats(lambda s: s.frontend["closed_over_limit"] > 0)
        self.serve(d)
        self.check(d)

    def test_over_a_unix_socket(self):
        path = os.path.join(self.temp_dir(), "f")
        d = self.daemon(frontend={"bind": "ipc://" + path, "backlog": 200},
                        broker={"max_connections": 30}, defaults=LONG)
        self.crowd(d.frontend)
        d.wait_stats(lambda s: s.frontend["accepted"] > 20)
        self.serve(d)
        self.check(d)

    def test_the_ready_stay(self):
        d = self.daemon(frontend={"max_connections": 10}, defaults=LONG)
        w = self.worker(d)
        clients = [self.client(d) for _ in range(9)]
        self.crowd(d.frontend)
        d.wait_stats(lambda s: s.frontend["closed_over_limit"] > 20)
        clients.append(self.client_again(d))     # the last place, which was a stranger's
        mark = d.mark()
        d.wait_event("accept_paused", after=mark, reason="max_connections")
        for c in clients:
            self.exchange(c, w)
        self.assertEqual(d.stats().frontend["peers"], 10)
        self.assertEqual(d.find_events("peer_closed"), [])

    def test_the_address_with_most_goes_first(self):
        """Slow peers from elsewhere keep their places, though they were there before all others."""
        d = self.daemon(frontend={"bind": "tcp://0.0.0.0:*", "max_connections": 30}, defaults=LONG)
        endpoint = d.frontend.replace("0.0.0.0", "127.0.0.1")
        slow = []
        for i in range(4):
            s = socket.socket()
            s.bind(("127.0.0.%d" % (100 + i), 0))
            s.connect(zmtp.split_endpoint(endpoint)[1])
            slow.append(self.closing(zmtp.Peer(s)))
        d.wait_stats(lambda s: s.frontend["accepted"] == 4)
        self.crowd(endpoint)
        d.wait_stats(lambda s: s.frontend["closed_over_limit"] > 100)
        done = 0
        for p in slow:                           # one or two may share the strangers' bucket
            try:
                p.handshake()
                done += 1
            except (zmtp.Closed, OSError):
                pass
        self.assertGreaterEqual(done, 1)
        self.assertEqual(d.wait_stats(lambda s: s.frontend["peers"] >= done).frontend["peers"], done)


class Shares(Case):
    """Each side of each proxy keeps a share of the process-wide limit."""

    def sections_for(self, limit):
        both = {"bind": "tcp://127.0.0.1:*"}
        return {"broker": {"max_connections": limit, "log_level": "debug", "drain_timeout": "300ms"},
                "defaults": LONG,
                "frontend a": both, "backend a": both, "frontend b": both, "backend b": both}

    def fill(self, d, endpoint, count):
        out = []
        for _ in range(count):
            p = self.peer(endpoint)
            p.send_quietly(greeting() + ready())
            out.append(p)
        d.wait_event("accept_paused", reason="max_connections")
        return out

    def test_idle_clients_of_one_proxy(self):
        d = self.daemon(sections=self.sections_for(64))
        self.fill(d, d.endpoint("frontend", proxy="a"), 80)
        s = d.wait_stats(lambda s: s.side("frontend", proxy="a")["peers"] == 52)
        self.assertEqual(s.side("frontend", proxy="a")["accepted"], 52)   # 64 - 3 x 64 / 16
        for proxy in ("a", "b"):
            for side in ("frontend", "backend"):
                if (proxy, side) == ("a", "frontend"):
                    continue
                for _ in range(4):
                    self.client(d, endpoint=d.endpoint(side, proxy=proxy))
        self.assertEqual(d.find_events("peer_closed"), [])
        d.wait_stats(lambda s: sum(x["peers"] for x in s.sides.values()) == 64)

    def test_strangers_of_one_side(self):
        """Strangers never take the other sides' last places, and make room for everybody."""
        d = self.daemon(sections=self.sections_for(64))
        self.closing(Crowd(d.endpoint("backend", proxy="b"), 100))
        d.wait_stats(lambda s: s.side("backend", proxy="b")["closed_over_limit"] > 10)
        for _ in range(10):
            for proxy in ("a", "b"):
                for side in ("frontend", "backend"):
                    self.client(d, endpoint=d.endpoint(side, proxy=proxy))
        s = d.wait_stats(lambda s: sum(x["peers"] for x in s.sides.values()) == 40)
        for (proxy, side), x in s.sides.items():
            if (proxy, side) != ("b", "backend"):
                self.assertEqual(x["closed_over_limit"], 0)

    def test_a_limit_that_is_too_low_for_shares(self):
        d = self.daemon(sections=self.sections_for(2))
        for side in ("frontend", "backend"):
            self.client(d, endpoint=d.endpoint(side, proxy="a"))
