# SPDX-License-Identifier: MIT
"""Well-behaved raw peers: greeting, READY, frames and commands in every lawful shape."""

import collections
import struct

import zmtp
from harness import Case
from zmtp import command, frame, greeting, message, ping, pong, ready


class Greeting(Case):
    def test_daemon_speaks_first_and_in_stages(self):
        d = self.daemon()
        for endpoint in (d.frontend, d.backend):
            with self.subTest(endpoint=endpoint):
                p = self.peer(endpoint)
                self.assertEqual(p.recv_exact(10), zmtp.SIGNATURE)
                d.sync()
                # Nothing more until it knows what the peer speaks: an older one
                # would misread the rest.
                self.assertEqual(p.readable_now(), b"")
                p.send(greeting()[:10])
                self.assertEqual(p.recv_exact(1), b"\x03")
                p.send(greeting()[10:11])
                rest = p.recv_exact(53)
                self.assertEqual(rest[0], 1)
                self.assertEqual(rest[1:21], b"NULL".ljust(20, b"\0"))
                self.assertEqual(rest[21:], b"\0" * 32)

    def test_no_ready_before_the_peers_greeting_is_whole(self):
        d = self.daemon()
        p = self.peer(d.frontend)
        p.send(greeting()[:63])
        p.recv_greeting()
        d.sync()
        self.assertEqual(p.readable_now(), b"")
        p.send(greeting()[63:])
        p.send(ready())
        p.recv_ready()

    def test_ready_of_the_daemon(self):
        d = self.daemon(frontend={"routing_id": "front"})
        c = self.client(d)
        w = self.worker(d)
        self.assertEqual(c.their_ready[b"Socket-Type"], b"ROUTER")
        self.assertEqual(c.their_ready[b"Identity"], b"front")
        self.assertEqual(w.their_ready[b"Socket-Type"], b"DEALER")
        self.assertEqual(w.their_ready.get(b"Identity", b""), b"")

    def test_padding_and_as_server_are_ignored(self):
        d = self.daemon()
        w = self.worker(d)
        variants = {
            "libzmq's length": greeting(padding=struct.pack(">Q", 6)),
            "noise": greeting(padding=b"\x01\xff\x7f\x80\x00\x55\xaa\x03"),
            "as-server": greeting(as_server=1),
            "as-server 255": greeting(as_server=255),
            "filler": greeting(filler=b"\xa5" * 31),
        }
        for name, greet in variants.items():
            with self.subTest(name):
                p = self.peer(d.frontend)
                p.send(greet)
                p.recv_greeting()
                p.send(ready())
                p.recv_ready()
                self.exchange(p, w)

    def test_versions(self):
        """ZMTP 2.0 peers announce 1, and no known peer announces 2: taken as 3.1, as in libzmq."""
        d = self.daemon()
        w = self.worker(d)
        for major, minor, said in ((3, 0, "3.0"), (3, 1, "3.1"), (3, 2, None), (3, 255, None),
                                   (4, 0, None), (255, 255, None), (2, 0, None)):
            with self.subTest(major=major, minor=minor):
                mark = d.mark()
                p = self.peer(d.frontend)
                p.send(greeting(major=major, minor=minor))
                p.recv_greeting()
                p.send(ready())
                p.recv_ready()
                e = d.wait_event("peer_ready", after=mark, side="frontend")
                if said:
                    self.assertEqual(e["zmtp"], said)
                self.exchange(p, w)

    def test_peer_ready_event(self):
        d = self.daemon()
        c = self.client(d, b"REQ", identity=b"\x01abc")
        e = d.wait_event("peer_ready", side="frontend")
        self.assertEqual(e["proxy"], "default")
        self.assertEqual(e["direction"], "accepted")
        self.assertEqual(e["zmtp"], "3.1")
        self.assertEqual(e["type"], "REQ")
        self.assertEqual(e["routing_id"], "0x01616263")
        self.assertIn(c.local.split("//")[1], e["address"])


class Metadata(Case):
    def test_names_in_any_case(self):
        d = self.daemon()
        w = self.worker(d)
        for st, ident, value in ((b"socket-type", b"identity", b"low"),
                                 (b"SOCKET-TYPE", b"IDENTITY", b"high"),
                                 (b"sOcKeT-tYpE", b"iDENTITy", b"mixed")):
            with self.subTest(st):
                p = self.peer(d.frontend)
                p.send(greeting())
                p.recv_greeting()
                p.send(command(b"READY", zmtp.metadata([(ident, value), (st, b"DEALER")])))
                p.recv_ready()
                d.wait_event("peer_ready", side="frontend", routing_id=value.decode())
                self.assertEqual(self.exchange(p, w), value)

    def test_other_properties_are_ignored(self):
        d = self.daemon()
        w = self.worker(d)
        p = self.peer(d.frontend)
        p.send(greeting())
        p.recv_greeting()
        p.send(ready(b"DEALER", extra=[(b"X-Application", b"x" * 300), (b"X-Empty", b""),
                                       (b"Resource", b"system/name-service/test"),
                                       (b"n" * 255, b"longest name"), (b"User-Id", b"\0\1\2")]))
        p.recv_ready()
        self.exchange(p, w)

    def test_every_lawful_pair_of_socket_types(self):
        d = self.daemon()
        for kind in (b"REQ", b"DEALER", b"ROUTER"):
            self.client(d, kind)
            d.wait_event("peer_ready", side="frontend", type=kind.decode())
        for kind in (b"REP", b"DEALER", b"ROUTER"):
            self.worker(d, kind)
            d.wait_event("peer_ready", side="backend", type=kind.decode())

    def test_made_up_routing_ids(self):
        d = self.daemon()
        w = self.worker(d)
        ids = set()
        for identity in (None, b"", None, b""):
            ids.add(self.exchange(self.client(d, identity=identity), w))
        self.assertEqual(len(ids), 4, "ids are not unique")
        for one in ids:
            self.assertEqual(len(one), 5)
            self.assertEqual(one[0], 0)

    def test_longest_and_shortest_identity(self):
        d = self.daemon()
        w = self.worker(d)
        for identity in (b"\x01", b"\xff" * 255, b"a\0b"):
            with self.subTest(length=len(identity)):
                c = self.client(d, identity=identity)
                self.assertEqual(self.exchange(c, w), identity)


class Splits(Case):
    """The same bytes, however they are cut, are the same session."""

    def stream(self, minor):
        return (greeting(minor=minor) + ready(b"DEALER", b"") +
                message([b"", b"one"]) + ping(0, b"ctx") +
                frame(b"", more=True) + frame(b"", flags=zmtp.COMMAND) + frame(b"two" * 100))

    def check(self, client, worker, tag):
        for want in (b"one", b"two" * 100):
            got = worker.recv_message()
            self.assertEqual(got[1:], [b"", want], tag)
            worker.send_message([got[0], b"", want + b"!"])
        self.check_replies(client, tag)

    def check_replies(self, client, tag):
        client.recv_greeting()
        client.recv_ready()
        self.assertEqual(client.recv_message(), [b"", b"one!"], tag)
        self.assertEqual(client.recv_message(), [b"", b"two" * 100 + b"!"], tag)
        self.assertEqual(client.commands, [(b"PONG", b"ctx")], tag)

    def test_all_at_once(self):
        d = self.daemon()
        w = self.worker(d)
        for minor in (0, 1):
            with self.subTest(minor=minor):
                p = self.peer(d.frontend)
                p.send(self.stream(minor))
                self.check(p, w, minor)

    def test_byte_by_byte(self):
        d = self.daemon()
        w = self.worker(d)
        for minor in (0, 1):
            with self.subTest(minor=minor):
                p = self.peer(d.frontend)
                p.send_bytewise(self.stream(minor))
                self.check(p, w, minor)

    def test_byte_by_byte_each_read_on_its_own(self):
        d = self.daemon()
        w = self.worker(d)
        p = self.peer(d.frontend)
        for byte in self.stream(1):
            p.send(bytes([byte]))
            d.stats()
        self.check(p, w, "bytewise")

    def test_every_split_point(self):
        d = self.daemon()
        w = self.worker(d)
        for minor in (0, 1):
            data = self.stream(minor)
            peers = []
            for at in range(1, len(data)):
                p = self.peer(d.frontend)
                p.send(data[:at])
                peers.append((at, p))
            d.sync()
            for at, p in peers:
                p.send(data[at:])
            seen = collections.defaultdict(list)
            for _ in range(2 * len(peers)):
                got = w.recv_message()
                seen[got[0]].append(got[1:])
                w.send_message(got[:-1] + [got[-1] + b"!"])
            self.assertEqual(len(seen), len(peers))
            for got in seen.values():
                self.assertEqual(got, [[b"", b"one"], [b"", b"two" * 100]])
            for at, p in peers:
                self.check_replies(p, "3.%d split at %d" % (minor, at))
                p.close()

    def test_every_split_point_of_a_worker(self):
        d = self.daemon()
        c = self.client(d, identity=b"me")
        data = greeting() + ready(b"DEALER") + message([b"me", b"", b"reply"])
        self.splits(d, c, data, [b"", b"reply"])

    def test_every_split_point_of_a_reply_with_a_long_id(self):
        """The envelope may arrive in any number of pieces."""
        d = self.daemon()
        name = bytes(range(1, 256))
        for kind in (b"DEALER", b"REQ"):
            with self.subTest(kind):
                c = self.client(d, kind, identity=name)
                self.splits(d, c, greeting() + ready(b"DEALER") + message([name, b"", b"reply"]),
                            [b"", b"reply"])
                c.close()

    def test_replies_byte_by_byte_to_ids_of_every_length(self):
        d = self.daemon()
        w = self.worker(d)
        for size in list(range(1, 256, 10)) + [160, 170, 175, 180, 255]:
            with self.subTest(size=size):
                c = self.client(d, identity=b"i" * size)
                for byte in message([b"i" * size, b"", b"reply"]):
                    w.send(bytes([byte]))
                    d.stats()
                self.assertEqual(c.recv_message(), [b"", b"reply"])
                c.close()

    def splits(self, d, c, data, want):
        peers = []
        for at in range(1, len(data)):
            p = self.peer(d.backend)
            p.send(data[:at])
            peers.append(p)
        d.sync()
        for at, p in enumerate(peers, 1):
            p.send(data[at:])
            self.assertEqual(c.recv_message(), want, at)
            p.close()


class Frames(Case):
    def test_lengths_around_the_encodings(self):
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d)
        for size in (0, 1, 2, 127, 128, 253, 254, 255, 256, 257, 4095, 4096, 8191, 8192, 8193,
                     65534, 65535, 65536, 65537, 200000):
            with self.subTest(size=size):
                self.exchange(c, w, b"q" * size, b"r" * size)

    def test_long_encoding_of_short_frames(self):
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d)
        for size in (0, 1, 5, 255):
            with self.subTest(size=size):
                c.send_message([b"", b"x" * size, b""], long=True)
                got = w.recv_message()
                self.assertEqual(got[1:], [b"", b"x" * size, b""])
                w.send_message([got[0], b"", b"y" * size], long=True)
                self.assertEqual(c.recv_message(), [b"", b"y" * size])

    def test_long_encoding_of_an_envelope(self):
        """A reply to a REQ, too, whose envelope the daemon reads."""
        d = self.daemon()
        w = self.worker(d)
        for kind in (b"REQ", b"DEALER", b"ROUTER"):
            with self.subTest(kind):
                c = self.client(d, kind)
                c.send_message([b"", b"question"], long=True)
                got = w.recv_message()
                w.send_message([got[0], b"", b"answer"], long=True)
                self.assertEqual(c.recv_message(), [b"", b"answer"])
                c.send_message([b"\0\0\0\x01", b"", b"question"], long=True)
                got = w.recv_message()
                w.send_message([got[0], b"\0\0\0\x01", b"", b"answer"], long=True)
                self.assertEqual(c.recv_message(), [b"\0\0\0\x01", b"", b"answer"])

    def test_long_encoding_of_commands(self):
        d = self.daemon()
        w = self.worker(d)
        p = self.peer(d.frontend)
        p.send(greeting())
        p.recv_greeting()
        p.send(command(b"READY", zmtp.prop(b"Socket-Type", b"DEALER"), long=True))
        p.recv_ready()
        p.send(command(b"PING", b"\0\0abc", long=True))
        self.assertEqual(p.recv_command(b"PONG"), b"abc")
        self.exchange(p, w)

    def test_reserved_flag_bits_are_ignored(self):
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d)
        for bits in (0x08, 0x10, 0x20, 0x40, 0x80, 0xf8):
            with self.subTest(bits=bits):
                c.send(frame(b"", flags=zmtp.MORE | bits) + frame(b"body", flags=bits))
                got = w.recv_message()          # strict: fails on a reserved bit
                self.assertEqual(got[1:], [b"", b"body"])
                w.send(frame(got[0], flags=zmtp.MORE | bits) + frame(b"", flags=zmtp.MORE | bits) +
                       frame(b"reply", flags=bits, long=True))
                self.assertEqual(c.recv_message(), [b"", b"reply"])
                c.send(command(b"PING", b"\0\0", flags=zmtp.COMMAND | bits))
                c.recv_command(b"PONG")

    def test_more_on_a_command_is_ignored(self):
        d = self.daemon()
        w = self.worker(d)
        p = self.peer(d.frontend)
        p.send(greeting())
        p.recv_greeting()
        p.send(command(b"READY", zmtp.prop(b"Socket-Type", b"DEALER"),
                       flags=zmtp.COMMAND | zmtp.MORE))
        p.recv_ready()
        p.send(command(b"PING", b"\0\0x", flags=zmtp.COMMAND | zmtp.MORE))
        self.assertEqual(p.recv_command(b"PONG"), b"x")
        p.send(command(b"PING", b"\0\0y", flags=zmtp.COMMAND | zmtp.MORE) + message([b"", b"a"]))
        got = w.recv_message()
        self.assertEqual(got[1:], [b"", b"a"])

    def test_empty_message_frames(self):
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d)
        for parts in ([b""], [b"", b""], [b"", b"", b""], [b"a", b"", b"b"], [b"", b"", b"x"],
                      [b"x", b""]):
            with self.subTest(parts=parts):
                c.send_message(parts)
                got = w.recv_message()
                self.assertEqual(got[1:], parts)
                w.send_message([got[0]] + parts)
                self.assertEqual(c.recv_message(), parts)

    def test_many_parts(self):
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d)
        parts = [b"%d" % i * (i % 7) for i in range(1000)]
        c.send_message(parts)
        got = w.recv_message()
        self.assertEqual(got[1:], parts)
        w.send_message([got[0]] + parts)
        self.assertEqual(c.recv_message(), parts)

    def test_messages_right_behind_ready(self):
        """Nothing of the daemon has been read, not even its greeting."""
        d = self.daemon()
        w = self.worker(d)
        for minor in (0, 1):
            p = self.peer(d.frontend)
            p.send(greeting(minor=minor) + ready(b"DEALER", b"early%d" % minor) +
                   b"".join(message([b"", b"%d" % i]) for i in range(50)))
            for i in range(50):
                self.assertEqual(w.recv_message(), [b"early%d" % minor, b"", b"%d" % i])

    def test_many_messages_in_one_write_keep_their_order(self):
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d)
        count = 20000
        blob = b"".join(message([b"", struct.pack(">I", i)]) for i in range(count))
        c.send(blob)
        for i in range(count):
            got = w.recv_message()
            self.assertEqual(got[2], struct.pack(">I", i))
        w.send(b"".join(message([got[0], b"", struct.pack(">I", i)]) for i in range(count)))
        for i in range(count):
            self.assertEqual(c.recv_message(), [b"", struct.pack(">I", i)])


class Commands(Case):
    def test_unknown_and_empty_commands_are_ignored(self):
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d)
        for one in (command(b"NOSUCH", b"data"), command(b"X"), frame(b"", flags=zmtp.COMMAND),
                    frame(b"", flags=zmtp.COMMAND, long=True), frame(b"\0", flags=zmtp.COMMAND),
                    command(b"PONG", b""), command(b"PONG", b"\0" * 16),
                    command(b"ping", b""), command(b"LARGE", b"z" * 200)):
            with self.subTest(one=one):
                c.send(one)
                self.exchange(c, w)
                w.send(one)
                self.exchange(c, w)
        self.assertEqual(c.commands, [])
        self.assertEqual(w.commands, [])

    def test_subscribe_and_cancel_are_not_messages(self):
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d)
        for name in (b"SUBSCRIBE", b"CANCEL"):
            c.send(command(name, b"topic"))
            w.send(command(name, b"topic"))
            c.send(command(name))
        self.exchange(c, w)
        s = d.stats()
        self.assertEqual(s.backend["received"], 1)
        self.assertEqual(s.frontend["received"], 1)

    def test_ping_is_answered(self):
        d = self.daemon()
        for minor in (0, 1):
            c = self.client(d, minor=minor)
            for context in (b"", b"\0", b"a", b"0123456789abcdef"):
                with self.subTest(minor=minor, context=context):
                    c.send(ping(0, context))
                    self.assertEqual(c.recv_command(b"PONG"), context)

    def test_context_is_echoed_up_to_16_bytes(self):
        d = self.daemon()
        c = self.client(d)
        c.send(ping(0, b"0123456789abcdefXYZ"))
        self.assertEqual(c.recv_command(b"PONG"), b"0123456789abcdef")
        c.send(ping(0, b"q" * 200))
        self.assertEqual(c.recv_command(b"PONG"), b"q" * 16)

    def test_ping_is_answered_on_the_backend(self):
        d = self.daemon()
        w = self.worker(d)
        w.send(ping(0, b"w"))
        self.assertEqual(w.recv_command(b"PONG"), b"w")

    def test_ping_between_the_frames_of_a_message(self):
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d)
        c.send(frame(b"", more=True) + frame(b"one", more=True))
        c.send(ping(0, b"mid"))
        # Answered while the message is still open.
        self.assertEqual(c.recv_command(b"PONG"), b"mid")
        c.send(command(b"NOSUCH", b"xxx") + frame(b"", flags=zmtp.COMMAND) + frame(b"two"))
        got = w.recv_message()
        self.assertEqual(got[1:], [b"", b"one", b"two"])
        self.assertEqual(w.commands, [])

    def test_ping_while_requests_wait(self):
        """No worker yet: the client's PING is handled nevertheless."""
        d = self.daemon()
        c = self.client(d)
        for i in range(20):
            c.send_message([b"", b"%d" % i])
        c.send(ping(0, b"there?"))
        self.assertEqual(c.recv_command(b"PONG"), b"there?")
        w = self.worker(d)
        for i in range(20):
            self.assertEqual(w.recv_message()[2], b"%d" % i)

    def test_pong_unasked(self):
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d)
        c.send(pong(b"") + pong(b"x" * 16) + pong(b"x" * 100))
        self.exchange(c, w)


class Heartbeats(Case):
    def test_pings_go_to_3_1_and_not_to_3_0(self):
        d = self.daemon(defaults={"heartbeat_interval": "50ms", "heartbeat_timeout": "60s"})
        old = self.client(d, minor=0)
        new = self.client(d, minor=1)
        w = self.worker(d)
        for _ in range(5):
            new.recv_command(b"PING")
        for _ in range(5):
            w.recv_command(b"PING")
        d.sync()
        self.assertEqual(old.readable_now(), b"")

    def test_none_when_off(self):
        d = self.daemon(frontend={"heartbeat_interval": "0"},
                        backend={"heartbeat_interval": "50ms"})
        quiet = self.client(d)
        w = self.worker(d)
        for _ in range(5):
            w.recv_command(b"PING")
        d.sync()
        self.assertEqual(quiet.readable_now(), b"")

    def test_a_peer_that_answers_stays(self):
        d = self.daemon(frontend={"heartbeat_interval": "100ms", "heartbeat_timeout": "2s"})
        w = self.worker(d)
        c = self.client(d)
        for _ in range(25):
            c.recv_command(b"PING")
        self.exchange(c, w)
        self.assertEqual(d.find_events("peer_closed"), [])

    def test_silent_3_0_peer_outlives_a_silent_3_1_peer(self):
        d = self.daemon(frontend={"heartbeat_interval": "100ms", "heartbeat_timeout": "200ms"})
        w = self.worker(d)
        old = self.client(d, minor=0)
        for _ in range(3):
            mark = d.mark()
            new = self.client(d, minor=1)
            new.send(ping(2))
            new.expect_closed()
            d.wait_event("peer_closed", after=mark, reason="heartbeat_timeout")
        self.exchange(old, w)

    def test_a_large_message_that_still_arrives_is_a_sign_of_life(self):
        """libzmq issue 2709: the sender of a large message must not be taken for dead."""
        d = self.daemon(frontend={"heartbeat_interval": "400ms", "heartbeat_timeout": "1200ms"})
        w = self.worker(d)
        slow = self.client(d)
        silent = self.client(d)
        for p in (slow, silent):
            p.send(ping(12))                     # without a byte for 1.2 s it is dead
        body = b"z" * 4000
        data = message([b"", body])
        sent = 0
        while not d.find_events("peer_closed", reason="heartbeat_timeout"):
            self.assertLess(sent, len(data) - 1, "the silent peer was never closed")
            slow.send(data[sent:sent + 1])
            sent += 1
            d.stats()
            # The pace of a slow line; only bytes, and no PONG, come from it.
            with d.lock:
                d.lock.wait(0.02)
        slow.send(data[sent:])
        self.assertEqual(w.recv_message()[1:], [b"", body])
        silent.expect_closed()
        self.assertEqual(d.stats().frontend["closed"], 1)
