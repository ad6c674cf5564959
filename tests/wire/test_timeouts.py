# SPDX-License-Identifier: MIT
"""Every wait for a peer has an end."""

import signal
import threading

from harness import Case
from zmtp import frame, frame_header, greeting, message, ping, pong, ready


def pace(seconds):
    """The pace at which a slow peer sends; nothing is waited for here."""
    threading.Event().wait(seconds)


def drip(p, data, step=0.02):
    """Send byte after byte until the daemon hangs up; returns the number of bytes sent."""
    for i in range(len(data)):
        if not p.send_quietly(data[i:i + 1]):
            return i
        p.sock.setblocking(False)
        try:
            got = p.sock.recv(65536)
            if not got:
                return i + 1
            p.buf += got
        except BlockingIOError:
            pass
        except ConnectionResetError:
            return i + 1
        finally:
            p.sock.settimeout(p.deadline)
        pace(step)
    return len(data)


class Handshake(Case):
    def test_handshake_timeout(self):
        d = self.daemon(defaults={"handshake_timeout": "300ms"})
        w = self.worker(d)
        c = self.client(d)
        stages = [b"", b"\xff", greeting()[:10], greeting()[:12], greeting()[:63], greeting(),
                  greeting() + ready()[:1], greeting() + ready()[:-1]]
        for side in ("frontend", "backend"):
            peers = []
            for data in stages:
                p = self.peer(d.endpoint(side))
                p.send(data)
                peers.append(p)
            for p in peers:
                p.expect_closed()
            s = d.wait_stats(
                lambda s: s.side(side)["closed_handshake_timeout"] == len(stages))
            self.assertEqual(s.side(side)["handshakes_failed"], len(stages))
            d.wait_event("handshake_failed", side=side, reason="handshake_timeout")
        self.exchange(c, w)

    def test_it_is_the_total(self):
        """Dripping bytes does not prolong it."""
        d = self.daemon(frontend={"handshake_timeout": "300ms"})
        p = self.peer(d.frontend)
        data = greeting() + ready(b"DEALER", extra=[(b"X-Long", b"x" * 200)]) * 20
        self.assertLess(drip(p, data), 300)
        d.wait_stats(lambda s: s.frontend["closed_handshake_timeout"] == 1)

    def test_it_ends_with_the_handshake(self):
        d = self.daemon(frontend={"handshake_timeout": "300ms"})
        w = self.worker(d)
        c = self.client(d)
        p = self.peer(d.frontend)                # closed later than c would have been
        p.expect_closed()
        self.exchange(c, w)


class Receive(Case):
    def test_receive_timeout(self):
        d = self.daemon(defaults={"receive_timeout": "300ms"})
        w = self.worker(d)
        good = self.client(d)
        for name, part in {
            "between frames": frame(b"", more=True),
            "in a body": frame(b"", more=True) + b"\0\x14AAAAA",
            "in a header": frame(b"", more=True) + b"\x02\0\0",
            "in a long body": frame_header(100000) + b"x" * 50000,
            "at the flags": b"\0",
        }.items():
            with self.subTest(name):
                mark = d.mark()
                p = self.client(d)
                p.send(part)
                self.assertEqual(p.expect_closed(), b"", "closed silently")
                e = d.wait_event("peer_closed", after=mark, side="frontend")
                self.assertEqual(e["reason"], "receive_timeout")
                self.exchange(good, w)
        s = d.stats()
        self.assertEqual(s.frontend["closed_receive_timeout"], 5)
        self.assertEqual(s.backend["received"], 5)

    def test_receive_timeout_of_a_worker(self):
        d = self.daemon(backend={"receive_timeout": "300ms"})
        c = self.client(d, identity=b"c")
        bad = self.worker(d)
        bad.send(frame(b"c", more=True) + frame(b"", more=True) + b"\0\x14AAAAA")
        bad.expect_closed()
        d.wait_event("peer_closed", side="backend", reason="receive_timeout")
        w = self.worker(d)
        self.exchange(c, w)                      # not a byte of it has arrived

    def test_silence_between_messages_is_no_fault(self):
        d = self.daemon(frontend={"receive_timeout": "200ms", "receive_deadline": "200ms"})
        w = self.worker(d)
        quiet = self.client(d, minor=0)
        p = self.client(d)
        p.send(frame(b"", more=True))
        p.expect_closed()
        self.exchange(quiet, w)

    def test_receive_deadline(self):
        """A drip that is never silent for long."""
        d = self.daemon(frontend={"receive_timeout": "20s", "receive_deadline": "500ms"})
        w = self.worker(d)
        good = self.client(d)
        p = self.client(d)
        self.assertLess(drip(p, frame_header(100000) + b"x" * 3000), 3000)
        e = d.wait_event("peer_closed", side="frontend")
        self.assertEqual((e["reason"], e["detail"]),
                         ("receive_timeout", "message took longer than receive_deadline"))
        self.assertEqual(d.stats().frontend["closed_receive_timeout"], 1)
        self.exchange(good, w)

    def test_pings_do_not_prolong_a_message(self):
        d = self.daemon(frontend={"receive_timeout": "20s", "receive_deadline": "500ms"})
        p = self.client(d)
        p.send(frame(b"", more=True))
        drip(p, ping() * 1000)
        d.wait_event("peer_closed", side="frontend", reason="receive_timeout")

    def test_off(self):
        d = self.daemon(frontend={"receive_timeout": "0", "receive_deadline": "0"},
                        backend={"receive_timeout": "200ms"})
        slow = self.client(d)
        slow.send(frame(b"", more=True) + b"\0\5he")
        bad = self.worker(d)
        bad.send(frame(b"", more=True))
        bad.expect_closed()
        w = self.worker(d)
        slow.send(b"llo")
        self.assertEqual(w.recv_message()[1:], [b"", b"hello"])

    def test_a_peer_that_is_not_read_is_not_timed(self):
        """In the middle of a message, paused by the daemon itself."""
        d = self.daemon(frontend={"receive_hwm_bytes": "16KiB", "receive_timeout": "300ms",
                                  "receive_deadline": "300ms", "heartbeat_interval": "100ms",
                                  "heartbeat_timeout": "200ms"})
        slow = self.client(d, minor=0)
        slow.sock.setblocking(False)
        data = message([b"", b"y" * 5000])
        sent, pending = 0, b""
        quiet = 0
        while quiet < 3:
            try:
                pending = pending or data
                pending = pending[slow.sock.send(pending):]
                sent += not pending
                quiet = 0
            except BlockingIOError:
                d.sync()
                quiet += 1
        slow.sock.settimeout(slow.deadline)
        # Others time out meanwhile, one after the other.
        for _ in range(3):
            p = self.client(d)
            p.send(ping(2))
            p.expect_closed()
        w = self.worker(d)
        for _ in range(sent):
            self.assertEqual(w.recv_message()[2], b"y" * 5000)
        self.assertEqual(len(d.find_events("peer_closed", reason="heartbeat_timeout")), 3)


class Heartbeat(Case):
    def test_an_answer_that_came_while_the_daemon_stood_still_counts(self):
        d = self.daemon(frontend={"heartbeat_interval": "1s", "heartbeat_timeout": "2s"})
        c = self.client(d)
        c.recv_command(b"PING")
        d.send_signal(signal.SIGSTOP)
        c.send(pong())
        pace(2.5)
        mark = d.mark()
        d.send_signal(signal.SIGCONT)
        d.sync()
        self.assertEqual(d.find_events("peer_closed", after=mark), [])

    def test_a_busy_peer_stays(self):
        """The peer does nothing, only its kernel acknowledges: a long job without an I/O thread."""
        d = self.daemon(defaults={"heartbeat_interval": "50ms", "heartbeat_timeout": "100ms"})
        c, w = self.client(d), self.worker(d)
        for p in (c, w):
            p.answer_pings = False
            for _ in range(12):              # four times what it has
                ttl = p.recv_command(b"PING")[:2]
                self.assertLessEqual(int.from_bytes(ttl, "big"), 655)
        self.exchange(c, w)
        self.assertEqual(d.find_events("peer_closed"), [])

    def test_a_peer_with_a_full_receive_window_stays(self):
        """The kernel does not give up either, though TCP_USER_TIMEOUT applies there as well."""
        for side in ("backend", "frontend"):
            with self.subTest(side):
                d = self.daemon(defaults={"heartbeat_interval": "50ms", "heartbeat_timeout": "100ms",
                                          "send_timeout": 0})
                clock = self.client(d)       # 12 of its PINGs are four times the other's interval
                c = self.client(d, identity=b"c", rcvbuf=4096)
                w = self.worker(d, rcvbuf=4096)
                body = b"j" * 2000
                sender, receiver = (c, w) if side == "backend" else (w, c)
                receiver.answer_pings = False
                for i in range(200):
                    parts = [b"", b"%d" % i, body]
                    sender.send_message(parts if side == "backend" else [b"c"] + parts)
                for _ in range(40):
                    clock.recv_command(b"PING")
                for i in range(200):
                    self.assertEqual(receiver.recv_message()[-2:], [b"%d" % i, body])
                self.assertEqual(d.find_events("peer_closed"), [])

    def test_any_byte_is_a_sign_of_life(self):
        d = self.daemon(frontend={"heartbeat_interval": "200ms", "heartbeat_timeout": "1s"})
        w = self.worker(d)
        talker = self.client(d)
        talker.answer_pings = False
        silent = self.client(d)
        silent.send(ping(12))                    # its TTL: without a byte for 1.2 s it is dead
        talker.send(ping(12))
        while not d.find_events("peer_closed"):
            talker.send_message([b"", b"busy"])
            self.assertEqual(w.recv_message()[2], b"busy")
            pace(0.02)
        self.exchange(talker, w)
        self.assertEqual(d.stats().frontend["closed_heartbeat_timeout"], 1)

    def test_ttl_of_the_peer_is_honoured(self):
        d = self.daemon(defaults={"heartbeat_interval": "0"})
        w = self.worker(d)
        c = self.client(d)
        none = self.client(d)
        none.send(ping(0))
        none.recv_command(b"PONG")
        p = self.client(d)
        p.send(ping(2, b"bye"))
        self.assertEqual(p.recv_command(b"PONG"), b"bye")
        p.expect_closed()
        e = d.wait_event("peer_closed", side="frontend")
        self.assertEqual((e["reason"], e["detail"]),
                         ("heartbeat_timeout", "silent for longer than its own TTL"))
        self.exchange(c, w)
        self.exchange(none, w)                   # a TTL of 0 asks for nothing

    def test_who_ends_its_connection_on_the_first_ping_gets_no_more(self):
        """As chumak does. Only its host and its socket type get no more PINGs; logged once."""
        d = self.daemon(defaults={"heartbeat_interval": "50ms", "heartbeat_timeout": "60s"})
        for _ in range(2):
            first = self.client(d, socktype=b"ROUTER")
            first.answer_pings = False
            if not d.find_events("ping_refused"):
                first.recv_command(b"PING")
            first.close()
            d.wait_event("ping_refused", type="ROUTER", address=lambda a: a.startswith("tcp://"),
                         detail="it ended its connection on the first PING: such peers of this host "
                         "get none")
        again = self.client(d, socktype=b"ROUTER")
        other = self.client(d, socktype=b"DEALER")
        for _ in range(5):
            other.recv_command(b"PING")
        d.sync()
        self.assertEqual(again.readable_now(), b"")
        self.assertEqual(len(d.find_events("ping_refused")), 1)
        self.exchange(again, self.worker(d))

    def test_who_answered_once_and_leaves_later_is_pinged_again(self):
        d = self.daemon(defaults={"heartbeat_interval": "50ms", "heartbeat_timeout": "60s"})
        p = self.client(d)
        p.recv_command(b"PING")
        p.recv_command(b"PING")
        p.close()
        d.wait_event("peer_closed")
        again = self.client(d)
        again.recv_command(b"PING")
        self.assertEqual(d.find_events("ping_refused"), [])
