# SPDX-License-Identifier: MIT
"""Peers that break the protocol, each at the cost of its own connection and nothing else.

Every test here keeps a well-behaved client and worker in the same daemon, and
requires one whole exchange between them after each attack.
"""

import os
import socket
import struct

import zmtp
from harness import Case
from zmtp import command, frame, frame_header, greeting, message, ping, prop, ready

FRONT_OK = (b"REQ", b"DEALER", b"ROUTER")
BACK_OK = (b"REP", b"DEALER", b"ROUTER")
TYPES = (b"PAIR", b"PUB", b"SUB", b"REQ", b"REP", b"DEALER", b"ROUTER", b"PULL", b"PUSH", b"XPUB",
         b"XSUB", b"CLIENT", b"SERVER", b"RADIO", b"DISH", b"SCATTER", b"GATHER", b"PEER", b"CHANNEL")


class Hostile(Case):
    def start(self, **kw):
        self.d = self.daemon(**kw)
        self.w = self.worker(self.d)
        self.c = self.client(self.d, identity=b"witness")
        return self.d

    def witness(self):
        """The well-behaved pair is served.  (Another worker may be ready: it must not answer.)"""
        self.exchange(self.c, self.w)

    def refuse(self, data, reason, side="frontend", tag=None, then=None):
        """Send raw `data` on a new connection; it must be closed and counted as `reason`."""
        d = self.d
        key = "closed_" + reason
        before = d.stats().side(side)[key]
        p = self.peer(d.endpoint(side))
        p.send_quietly(data)
        out = p.expect_closed()
        p.close()
        s = d.wait_stats(lambda s: s.side(side)[key] > before, "%s of %s" % (key, tag))
        self.assertEqual(s.side(side)[key], before + 1, tag)
        self.witness()
        return out

    def greet(self, p, socktype=b"DEALER", identity=None):
        return p.handshake(socktype, identity)


HELLO = greeting() + ready(b"DEALER")


class ProtocolErrors(Hostile):
    # Bytes from the start of the connection, up to the mistake.
    BEFORE_READY = {
        "not FF": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + b" " * 64,
        "zeros": b"\0" * 64,
        "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x55" * 60,
        "second half of the signature": b"\xff" + b"\0" * 8 + b"\x7e" + greeting()[10:],
        "message before READY": greeting() + message([b"", b"x"]),
        "frame of a message before READY": greeting() + frame(b"", more=True),
        "READY without the COMMAND flag": greeting() + frame(
            b"\5READY" + prop(b"Socket-Type", b"DEALER")),
        "trailing byte in READY": greeting() + command(
            b"READY", prop(b"Socket-Type", b"DEALER") + b"\0"),
        "property name cut": greeting() + command(
            b"READY", prop(b"Socket-Type", b"DEALER") + b"\x20abc"),
        "value length cut": greeting() + command(
            b"READY", prop(b"Socket-Type", b"DEALER") + b"\x01a\0\0"),
        "value longer than the command": greeting() + command(
            b"READY", prop(b"Socket-Type", b"DEALER") + b"\x01a\0\0\0\x05abcd"),
        "value of 2^31": greeting() + command(
            b"READY", prop(b"Socket-Type", b"DEALER") + b"\x01a\x80\0\0\0"),
        "value of 2^32 - 1": greeting() + command(
            b"READY", b"\x0bSocket-Type\xff\xff\xff\xffDEALER"),
        "PING before READY": greeting() + ping(),
        "PLAIN's HELLO to NULL": greeting() + command(b"HELLO", b"\1u\1p"),
        "unknown command before READY": greeting() + command(b"NOSUCH"),
        "empty command before READY": greeting() + frame(b"", flags=zmtp.COMMAND),
        "command name longer than the command": greeting() + frame(
            b"\x20READY", flags=zmtp.COMMAND),
        "frame length 2^63 before READY": greeting() + frame_header(1 << 63, zmtp.COMMAND),
    }
    AFTER_READY = {
        "second READY": ready(b"DEALER"),
        "PING without a TTL": command(b"PING"),
        "PING with half a TTL": command(b"PING", b"\0"),
        "frame length 2^63": frame_header(1 << 63),
        "frame length 2^64 - 1": frame_header((1 << 64) - 1),
        "command length 2^63": frame_header(1 << 63, zmtp.COMMAND),
        "frame length 2^63 in the middle of a message":
            frame(b"", more=True) + frame_header((1 << 63) + 5),
        "second READY in the middle of a message": frame(b"", more=True) + ready(b"DEALER"),
        "PING without a TTL in the middle of a message": frame(b"", more=True) + command(b"PING"),
    }

    def test_before_ready(self):
        self.start()
        for name, data in self.BEFORE_READY.items():
            for side in ("frontend", "backend"):
                with self.subTest(name, side=side):
                    out = self.refuse(data, "protocol_error", side, name)
                    self.assertNotIn(b"\5ERROR", out, "ERROR is not for this")
        s = self.d.stats()
        for side in (s.frontend, s.backend):
            self.assertEqual(side["closed_protocol_error"], len(self.BEFORE_READY))
            self.assertEqual(side["handshakes_failed"], len(self.BEFORE_READY))
            self.assertEqual(side["peers"], 1)

    def test_after_ready(self):
        self.start()
        for name, data in self.AFTER_READY.items():
            with self.subTest(name):
                mark = self.d.mark()
                p = self.client(self.d)
                p.send(data)
                self.assertEqual(p.expect_closed(), b"", "closed silently")
                e = self.d.wait_event("peer_closed", after=mark, side="frontend")
                self.assertEqual(e["reason"], "protocol_error", e)
                self.witness()
        s = self.d.stats()
        self.assertEqual(s.frontend["closed_protocol_error"], len(self.AFTER_READY))
        self.assertEqual(s.frontend["handshakes_failed"], 0)

    def test_after_ready_on_the_backend(self):
        self.start()
        for name, data in self.AFTER_READY.items():
            with self.subTest(name):
                mark = self.d.mark()
                p = self.worker(self.d)
                p.send(data)
                p.expect_closed()
                e = self.d.wait_event("peer_closed", after=mark, side="backend")
                self.assertEqual(e["reason"], "protocol_error", e)
                self.witness()

    def test_everything_at_once_with_a_mistake_at_the_end(self):
        """Messages that were complete before the mistake still count."""
        self.start()
        d = self.d
        p = self.peer(d.frontend)
        p.send(greeting() + ready(b"DEALER", b"liar") + message([b"", b"good"]) +
               command(b"PING") + message([b"", b"bad"]))
        p.expect_closed()
        d.wait_event("peer_closed", reason="protocol_error")
        self.assertEqual(self.w.recv_message(), [b"liar", b"", b"good"])
        self.witness()
        self.assertEqual(d.stats().backend["received"], 2)

    def test_a_part_message_is_never_forwarded(self):
        self.start()
        for cut in (frame(b"", more=True), frame(b"", more=True) + frame(b"part", more=True),
                    frame(b"", more=True) + b"\x00\x14AAAAA", b"\x01", b"\x02\0\0\0"):
            with self.subTest(cut):
                mark = self.d.mark()
                p = self.client(self.d)
                p.send(cut)
                p.close()
                self.d.wait_event("peer_closed", after=mark, side="frontend")
                self.witness()
        self.assertEqual(self.d.stats().backend["received"], 5)

    def test_an_error_command_ends_the_handshake(self):
        self.start()
        before = self.d.stats().frontend["closed"]
        p = self.peer(self.d.frontend)
        p.send(greeting() + command(b"ERROR", b"\x03400"))
        p.expect_closed()
        self.d.wait_stats(lambda s: s.frontend["closed"] == before + 1)
        self.witness()

    def test_huge_metadata_is_refused_before_it_is_taken(self):
        """Announces a READY of 1 GiB and sends only its head."""
        self.start()
        rss = self.d.rss()
        for size in (1 << 20, 1 << 30, (1 << 62)):
            with self.subTest(size=size):
                before = self.d.stats().frontend["closed"]
                p = self.peer(self.d.frontend)
                p.send_quietly(greeting() + frame_header(size, zmtp.COMMAND) + b"\5READY")
                p.expect_closed()
                self.d.wait_stats(lambda s: s.frontend["closed"] == before + 1)
                self.witness()
        self.assertLess(self.d.rss() - rss, 64 << 20)

    def test_huge_command_after_the_handshake(self):
        self.start()
        for size in (1 << 27, 1 << 40):
            with self.subTest(size=size):
                mark = self.d.mark()
                p = self.client(self.d)
                p.send(frame_header(size, zmtp.COMMAND) + b"\7UNKNOWN")
                p.expect_closed()
                e = self.d.wait_event("peer_closed", after=mark, side="frontend")
                self.assertIn(e["reason"], ("protocol_error", "message_too_big"))
                self.witness()


class OlderVersions(Hostile):
    def attempt(self, data, side="frontend"):
        self.start()
        p = self.peer(self.d.endpoint(side))
        p.send(data)
        p.expect_closed()
        e = self.d.wait_event("handshake_failed", side=side)
        self.assertEqual(e["reason"], "protocol_error")
        self.assertEqual(self.d.stats().side(side)["closed_protocol_error"], 1)
        self.witness()
        return e["detail"]

    def test_zmtp_1_anonymous(self):
        self.assertIn("1.0", self.attempt(b"\x01\x00"))

    def test_zmtp_1_with_an_identity_and_a_message(self):
        self.assertIn("1.0", self.attempt(b"\x06\x00ident" + b"\x06\x00hello"))

    def test_zmtp_1_with_a_long_identity(self):
        """FF and a length whose last byte's lowest bit, at offset 9 the flags, is 0."""
        self.assertIn("1.0", self.attempt(b"\xff" + struct.pack(">Q", 300) + b"\0" + b"i" * 299))

    def test_zmtp_1_on_the_backend(self):
        self.assertIn("1.0", self.attempt(b"\x01\x00", "backend"))

    def test_zmtp_2(self):
        self.assertIn("2.0", self.attempt(zmtp.SIGNATURE + b"\x01\x05" + b"\0\0"))

    def test_zmtp_2_stops_at_the_revision(self):
        """A ZMTP 2.0 peer waits for our greeting; the revision alone must be enough."""
        self.assertIn("2.0", self.attempt(zmtp.SIGNATURE + b"\x01"))

    def test_zmtp_2_on_the_backend(self):
        self.assertIn("2.0", self.attempt(zmtp.SIGNATURE + b"\x01\x04" + b"\0\0", "backend"))


class Handshakes(Hostile):
    def test_mechanism_mismatch(self):
        self.start()
        for mechanism in (b"PLAIN", b"CURVE", b"NUL", b"NULLX", b"NULL\0X", b"null", b"",
                          b"NULL" + b"\0" * 15 + b"\x01", b"A" * 20, b"GSSAPI", b"\xff" * 20):
            for side in ("frontend", "backend"):
                with self.subTest(mechanism=mechanism, side=side):
                    out = self.refuse(greeting(mechanism=mechanism), "mechanism_mismatch", side)
                    # The whole greeting, so that the peer can report the mismatch, and no more.
                    self.assertEqual(out, greeting())

    def test_incompatible_socket_type(self):
        self.start()
        for side, good in (("frontend", FRONT_OK), ("backend", BACK_OK)):
            for kind in TYPES:
                if kind in good:
                    continue
                with self.subTest(side=side, kind=kind):
                    out = self.refuse(greeting() + ready(kind), "incompatible_socket_type", side)
                    self.assertEqual(out[:1], b"\xff")
                    self.check_error(out[64:])

    def check_error(self, data):
        """The last frame before the end is a well-formed ERROR command."""
        name = body = None
        while data:
            self.assertTrue(data[0] & zmtp.COMMAND and not data[0] & zmtp.LONG, data[:40])
            body, data = data[2:2 + data[1]], data[2 + data[1]:]
            name, rest = zmtp.parse_command(body)
        self.assertEqual(name, b"ERROR")
        self.assertEqual(rest[0], len(rest) - 1)
        self.assertGreater(rest[0], 0, "an ERROR without a word")

    def test_unknown_socket_type(self):
        self.start()
        for kind in (b"NOSUCH", b"", b"dealer", b"DEALER\0", b"DEALERX", b"REQ ", b"R" * 200):
            with self.subTest(kind=kind):
                before = self.d.stats().frontend
                p = self.peer(self.d.frontend)
                p.send(greeting() + ready(kind))
                p.expect_closed()
                p.close()
                s = self.d.wait_stats(lambda s: s.frontend["closed"] == before["closed"] + 1)
                s = s.frontend
                bad = (s["closed_incompatible_socket_type"] + s["closed_protocol_error"] -
                       before["closed_incompatible_socket_type"] - before["closed_protocol_error"])
                self.assertEqual(bad, 1)
                self.witness()

    def test_bad_routing_id(self):
        self.start()
        for identity in (b"\0\0\0\0\1", b"\0abcd", b"x" * 256, b"x" * 1000, b"\0" * 256):
            with self.subTest(length=len(identity)):
                out = self.refuse(greeting() + ready(b"DEALER", identity), "bad_routing_id")
                self.assertNotIn(b"\5ERROR", out)
        with self.subTest("made-up ids cannot be impersonated"):
            victim = self.client(self.d)
            theirs = self.exchange(victim, self.w)
            self.assertEqual(theirs[0], 0)
            self.refuse(greeting() + ready(b"DEALER", theirs), "bad_routing_id")
            self.exchange(victim, self.w)

    def test_ids_that_begin_with_zero(self):
        """One of 256 random ids does; only the form that Bulkhead generates is refused."""
        self.start()
        for identity in (b"\0", b"\0abc", b"\0abcde", b"\0" * 16, b"\0" + b"x" * 254):
            with self.subTest(identity=identity[:8]):
                c = self.client(self.d, identity=identity)
                self.assertEqual(self.exchange(c, self.w), identity)

    def test_failures_are_logged_at_a_limited_rate(self):
        self.start()
        count = 300
        for _ in range(count):
            p = self.peer(self.d.frontend)
            p.send_quietly(b"GET / HTTP/1.0\r\n\r\n")
            p.expect_closed()
            p.close()
        s = self.d.wait_stats(lambda s: s.frontend["closed_protocol_error"] == count)
        self.assertEqual(s.frontend["handshakes_failed"], count)
        self.witness()

        def told():
            return (len(self.d.find_events("handshake_failed")) +
                    sum(int(e["count"])
                        for e in self.d.find_events("handshake_failed_suppressed")))

        self.assertLess(len(self.d.find_events("handshake_failed")), count)
        # Failures that were not logged are summed up at the next one.
        while told() < count:
            p = self.peer(self.d.frontend)
            p.send_quietly(b"GET / HTTP/1.0\r\n\r\n")
            p.expect_closed()
            p.close()
            count += 1
            self.d.wait_stats(lambda s: s.frontend["closed_protocol_error"] == count)
        self.assertEqual(told(), count)
        self.assertTrue(self.d.find_events("handshake_failed_suppressed", side="frontend"))


class Sizes(Hostile):
    def test_message_too_big_by_its_header(self):
        """Closed at the header: no byte of the body is sent or waited for."""
        self.start(frontend={"max_message_size": 1000})
        for name, data in {
            "short frames": frame(b"", more=True) + frame(b"x" * 200, more=True) * 5 + b"\0\xff",
            "one frame": frame_header(1001),
            "one frame, by far": frame_header((1 << 63) - 1),
            "after the delimiter": frame(b"", more=True) + frame_header(1001),
            "two frames": frame(b"x" * 600, more=True) + frame_header(401),
            "MORE": frame_header(1001, zmtp.MORE),
            "sum that wraps": frame(b"x" * 600, more=True) + frame_header((1 << 63) - 1),
        }.items():
            with self.subTest(name):
                mark = self.d.mark()
                p = self.client(self.d)
                p.send(data)
                self.assertEqual(p.expect_closed(), b"", "closed silently")
                e = self.d.wait_event("peer_closed", after=mark, side="frontend")
                self.assertEqual(e["reason"], "message_too_big")
                self.witness()
        self.assertEqual(self.d.stats().frontend["closed_message_too_big"], 7)

    def test_the_largest_message(self):
        self.start(frontend={"max_message_size": 1000})
        c = self.client(self.d)
        for parts in ([b"x" * 1000], [b"", b"x" * 1000], [b"x" * 500, b"y" * 500],
                      [b"x" * 200] * 5 + [b""]):
            c.send_message(parts)
            self.assertEqual(self.w.recv_message()[1:], parts)

    def test_a_reply_that_never_ends(self):
        """A reply over the limit is read, for receive_deadline at most, and not stored."""
        self.start(backend={"max_message_size": 1000, "receive_deadline": "1s"})
        w = self.worker(self.d)
        w.send(frame(b"witness", more=True) + frame(b"", more=True) + frame_header(1 << 40))
        try:
            while True:
                w.send(b"x" * 65536)
        except OSError:
            pass
        e = self.d.wait_event("peer_closed", side="backend")
        self.assertEqual(e["reason"], "receive_timeout")
        self.witness()

    def test_default_limit(self):
        self.start()
        p = self.client(self.d)
        p.send(frame_header((64 << 20) + 1))
        p.expect_closed()
        self.d.wait_event("peer_closed", reason="message_too_big")
        self.witness()

    def test_too_many_parts(self):
        self.start(frontend={"max_message_parts": 4})
        c = self.client(self.d)
        c.send_message([b"1", b"2", b"3", b"4"])
        self.assertEqual(self.w.recv_message()[1:], [b"1", b"2", b"3", b"4"])
        for name, data in {"five": message([b""] * 5),
                           "a flood of empty ones": frame(b"", more=True) * 100000,
                           "the fifth's header alone": frame(b"", more=True) * 4 + b"\0\5"}.items():
            with self.subTest(name):
                mark = self.d.mark()
                p = self.client(self.d)
                p.send_quietly(data)
                p.expect_closed()
                e = self.d.wait_event("peer_closed", after=mark, side="frontend")
                self.assertEqual(e["reason"], "too_many_parts")
                self.witness()
        self.assertEqual(self.d.stats().frontend["closed_too_many_parts"], 3)

    def test_default_number_of_parts(self):
        self.start()
        c = self.client(self.d)
        c.send_message([b"p"] * 1024)
        self.assertEqual(len(self.w.recv_message()), 1025)
        c.send_quietly(message([b"p"] * 1025))
        c.expect_closed()
        self.d.wait_event("peer_closed", reason="too_many_parts")
        self.witness()

    def test_claims_take_no_memory(self):
        """60 peers each announce the largest message and send a byte of it."""
        self.start()
        rss = self.d.rss()
        for _ in range(60):
            p = self.client(self.d)
            p.send(frame_header(64 << 20) + b"x")
        self.d.sync()
        self.witness()
        self.assertLess(self.d.rss() - rss, 200 << 20)
        self.assertEqual(self.d.find_events("peer_closed"), [])


class Crowds(Hostile):
    def test_a_thousand_half_open_connections(self):
        self.start(broker={"max_connections": 5000})
        stages = [b"", b"\xff", greeting()[:10], greeting()[:11], greeting()[:40], greeting(),
                  greeting() + ready(b"DEALER")[:5], b"\x01", b"GET /", b"\0" * 9,
                  greeting() + ready(b"DEALER", b"crowd") + b"\x01",
                  greeting(mechanism=b"CURVE")]
        crowd = []
        for i in range(1200):
            p = self.peer(self.d.endpoint("frontend" if i % 3 else "backend"))
            p.send_quietly(stages[i % len(stages)])
            crowd.append(p)
        good = self.client(self.d, identity=b"late")
        self.witness_with(good)
        for i, p in enumerate(crowd):
            if i % 2:
                p.reset()
            else:
                p.close()
        self.d.wait_stats(lambda s: s.frontend["closed"] + s.backend["closed"] == 1200)
        self.witness()
        self.witness_with(good)
        s = self.d.stats()
        self.assertEqual(s.frontend["peers"], 2)
        self.assertEqual(s.backend["peers"], 1)

    def witness_with(self, client):
        # Half-ready workers take no part in the balance.
        self.exchange(client, self.w)

    def test_connect_and_leave(self):
        """Peers that are accepted and already closed, in every way."""
        self.start()
        fds = self.d.fds()
        for i in range(300):
            p = self.peer(self.d.endpoint("frontend" if i % 2 else "backend"))
            if i % 3 == 0:
                p.reset()
            elif i % 3 == 1:
                p.close()
            else:
                p.send_quietly(HELLO)
                p.reset()
        self.d.wait_stats(lambda s: s.frontend["accepted"] + s.backend["accepted"] == 302 and
                          s.frontend["closed"] + s.backend["closed"] == 300)
        self.d.wait_stats(lambda s: self.d.fds() <= fds, "descriptors given back")
        self.witness()

    def test_random_bytes(self):
        import random
        rng = random.Random(20240229)
        self.start()
        for i in range(150):
            side = rng.choice(("frontend", "backend"))
            p = self.peer(self.d.endpoint(side))
            stage = rng.randrange(4)
            data = bytearray(greeting() + ready(b"DEALER"))
            if stage == 0:
                data = rng.randbytes(rng.randrange(1, 400))
            elif stage == 1:
                data = greeting() + rng.randbytes(rng.randrange(1, 400))
            elif stage == 2:
                # Bits flipped within the handshake.
                for _ in range(3):
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            else:
                data = greeting() + ready(b"DEALER") + rng.randbytes(rng.randrange(1, 400))
            p.send_quietly(bytes(data))
            p.close()
        # Some of the bytes may be messages, which a worker gets: drain them.
        d = self.d
        d.wait_stats(lambda s: s.frontend["accepted"] + s.backend["accepted"] == 152 and
                     s.frontend["peers"] == 1 and s.backend["peers"] == 1)
        self.c.send_message([b"", b"still here"])
        while True:
            got = self.w.recv_message()
            if got == [b"witness", b"", b"still here"]:
                break


class LogInjection(Hostile):
    def test_what_a_peer_says_never_makes_a_log_line(self):
        self.start(frontend={"bind": "ipc://%s/f" % self.temp_dir()})
        evil = b"x\n2020-01-01T00:00:00Z level=error event=stopped a=\"b \x1b[31m"
        for data in (greeting() + ready(evil), greeting() + command(b"ERROR", b"\x20" + evil[:32]),
                     greeting() + ready(b"DEALER", evil), greeting(mechanism=evil[:20]),
                     greeting() + command(b"READY", prop(evil, evil))):
            p = self.peer(self.d.frontend)
            p.send_quietly(data)
            p.half_close()
            p.expect_closed()
            p.close()
        self.check()

    def test_an_address_that_a_peer_chose(self):
        """A Unix socket's name may contain any bytes; it is logged as the address."""
        self.start(frontend={"bind": "ipc://%s/f" % self.temp_dir()})
        evil = "x\n2020-01-01T00:00:00Z level=error event=stopped \x1b[31m"
        _, path = zmtp.split_endpoint(self.d.frontend)
        sock = self.closing(socket.socket(socket.AF_UNIX))
        sock.bind("\0%d %s" % (os.getpid(), evil))
        sock.connect(path)
        p = zmtp.Peer(sock)
        p.handshake()
        self.exchange(p, self.w)
        p.close()
        e = self.d.wait_event("peer_closed", side="frontend")
        self.assertEqual(e["reason"], "peer_closed")
        self.check()

    def check(self):
        self.witness()
        self.d.sync()
        self.assertEqual(self.d.find_events("stopped"), [])
        for line in self.d.lines:
            self.assertIn("event=", line)
            self.assertNotIn("\x1b", line)
            self.assertFalse(line.startswith("2020-"), line)


class EndOfConnection(Hostile):
    def test_peer_closed(self):
        self.start()
        c = self.client(self.d, identity=b"leaver")
        self.exchange(c, self.w)
        c.close()
        e = self.d.wait_event("peer_closed", side="frontend")
        self.assertEqual(e["reason"], "peer_closed")
        self.assertEqual((e["messages_in"], e["messages_out"]), ("1", "1"))
        self.assertEqual((e["poisoned"], e["rerouted"], e["dropped"]), ("no", "0", "0"))
        self.assertGreater(int(e["bytes_in"]), 64)
        self.assertGreater(int(e["bytes_out"]), 64)
        self.assertGreaterEqual(int(e["age_ms"]), 0)
        self.assertEqual(self.d.stats().frontend["closed_peer_closed"], 1)

    def test_io_error(self):
        self.start()
        for side in ("frontend", "backend"):
            p = self.client(self.d) if side == "frontend" else self.worker(self.d)
            p.reset()
            e = self.d.wait_event("peer_closed", side=side)
            self.assertEqual(e["reason"], "io_error", e)
            self.witness()
            self.assertEqual(self.d.stats().side(side)["closed_io_error"], 1)

    def test_shutdown(self):
        self.start()
        self.d.stop()
        for side in ("frontend", "backend"):
            e = self.d.wait_event("peer_closed", side=side, deadline=1)
            self.assertEqual(e["reason"], "shutdown")
        for p in (self.c, self.w):
            self.assertEqual(p.expect_closed(), b"")
