"""Who comes to a port: strangers, probes of load balancers, peers of the wrong type; and who gets in."""

import os

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
        """At most ten such lines a second and side: a daemon for each few."""
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
        """Load balancers connect and close, or reset; neither alarms anybody."""
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
        d.wait_event("handshake_failed", reason="peer_closed")

    def test_where_we_dial_it_is_a_failure(self):
        l = self.closing(zmtp.Listener())
        d = self.daemon(backend={"bind": None, "connect": l.endpoint})
        l.accept().close()
        d.wait_event("handshake_failed", side="backend")
        self.assertEqual(d.stats().backend["unused"], 0)


class Types(Case):
    def test_a_ready_without_a_type_is_a_dealers(self):
        """libzmtp sends none, and libzmq takes it."""
        for minor in (0, 1):
            d = self.daemon()
            c, w = self.peer(d.frontend), self.peer(d.backend)
            for p, name in ((c, b"me"), (w, None)):
                p.send(greeting(minor=minor) + command(
                    b"READY", prop(b"Identity", name) if name else b""))
                p.recv_greeting()
                p.recv_ready()
            d.wait_event("peer_ready", side="frontend", type="DEALER", routing_id=b"me".hex())
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
        """libzmq of another type does, and its own READY may never come."""
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


class OurLimits(Case):
    def test_they_are_warnings_with_the_option(self):
        d = self.daemon(backend={"max_message_size": 1000, "max_message_parts": 4,
                                 "receive_timeout": "50ms"})
        for data, reason, option in (
                (zmtp.message([b"x" * 2000]), "message_too_big", "max_message_size"),
                (zmtp.message([b"x"] * 6), "too_many_parts", "max_message_parts"),
                (zmtp.message([b"x" * 900])[:-1], "receive_timeout", "receive_timeout")):
            mark = d.mark()
            w = self.worker(d)
            w.send_quietly(data)
            e = d.wait_event("peer_closed", after=mark, side="backend", reason=reason)
            self.assertEqual((e["level"], e["option"]), ("warning", option))
            w.close()
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
