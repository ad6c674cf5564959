# SPDX-License-Identifier: MIT
"""Drain and stop, seen from the wire."""

import signal

import zmtp
from admin import Admin
from harness import Case
from zmtp import Peer, command, greeting, message, ready


HEARS = (b"X-Bulkhead-Draining", b"1")


class Chain(Case):
    """Another Bulkhead as a client, or as a worker: it gets DRAINING, and loses nothing."""

    def broker(self, d):
        return self.closing(Peer.connect(d.frontend)).handshake(b"DEALER", extra=[HEARS])

    def test_who_gets_draining_loses_nothing(self):
        d = self.daemon(broker={"drain_timeout": "60s"})
        w = self.worker(d)
        first, plain = self.broker(d), self.client(d)
        first.send_message([b"", b"before"])
        plain.send_message([b"", b"plain"])
        got = [w.recv_message(), w.recv_message()]
        d.send_signal(signal.SIGTERM)
        self.assertEqual(first.recv_command(b"DRAINING"), b"")
        d.wait_event("drain_waits", count=2)             # more than a moment later
        first.send_message([b"", b"late"])               # it left before DRAINING could be sent
        got.append(w.recv_message())
        self.assertEqual(got[-1][2], b"late")
        for m in got:
            w.send_message(m[:2] + [m[2] + b"!"])
        # at once, and nothing ends yet
        self.assertEqual([first.recv_message()[1] for _ in range(2)], [b"before!", b"late!"])
        first.send_message([b"", b"last"])
        first.send(command(b"BYE"))
        m = w.recv_message()
        w.send_message(m[:2] + [b"last!"])
        self.assertEqual(first.recv_message(), [b"", b"last!"])
        self.assertEqual(first.expect_closed(), b"")
        self.assertEqual(plain.recv_message(), [b"", b"plain!"])
        self.assertEqual(plain.expect_closed(), b"")
        self.assertEqual(plain.commands, [], "nobody else is told")
        self.assertEqual(d.wait(), 0)
        self.assertEqual(d.find_events("stopped")[0]["unserved_requests"], "0")

    def test_who_gets_draining_and_waits_for_nothing_is_closed_after_its_bye(self):
        d = self.daemon(broker={"drain_timeout": "60s"})
        first, other = self.broker(d), self.client(d)
        w = self.worker(d)
        other.send_message([b"", b"held"])
        m = w.recv_message()
        d.send_signal(signal.SIGTERM)
        first.recv_command(b"DRAINING")
        first.send(command(b"BYE"))
        self.assertEqual(first.expect_closed(), b"")     # though another's request is pending
        w.send_message(m)
        self.assertEqual(d.wait(), 0)

    def test_who_does_not_answer_is_not_waited_for(self):
        d = self.daemon(broker={"drain_timeout": "1h"})
        first = self.broker(d)
        d.send_signal(signal.SIGTERM)
        first.recv_command(b"DRAINING")
        self.assertEqual(first.expect_closed(), b"")
        self.assertEqual(d.wait(), 0)

    def test_who_keeps_asking_without_bye_is_not_served_indefinitely(self):
        """A client that got DRAINING, reads its replies, and sends a new request each time."""
        d = self.daemon(broker={"drain_timeout": "1h"})
        w, first, other = self.worker(d), self.broker(d), self.client(d)
        other.send_message([b"", b"held"])
        held = w.recv_message()
        d.send_signal(signal.SIGTERM)
        first.recv_command(b"DRAINING")
        sent = 1

        def ask_again(s):
            nonlocal sent
            while sent < s.backend["sent"]:
                w.send_message(w.recv_message())
                self.assertEqual(first.recv_message(), [b"", b"again"])
                sent += 1
            first.send_quietly(message([b"", b"again"]))
            return s.backend["drop_shutdown"] > 0 or s.frontend["closed"] > 0
        d.wait_stats(ask_again)
        self.assertEqual(first.expect_closed(), b"")
        self.assertGreater(sent, 2)
        w.send_message(held)
        self.assertEqual(other.recv_message(), [b"", b"held"])
        self.assertEqual(d.wait(), 0)

    def test_who_connects_during_a_drain_gets_draining_too(self):
        d = self.daemon(broker={"drain_timeout": "60s"})
        w = self.worker(d)
        c = self.client(d)
        late = self.closing(Peer.connect(d.frontend))
        late.send(greeting())
        late.recv_greeting()
        c.send_message([b"", b"held"])
        m = w.recv_message()
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")
        late.send(ready(b"DEALER", extra=[HEARS]))
        late.recv_ready()
        late.recv_command(b"DRAINING")
        late.send(command(b"BYE"))
        self.assertEqual(late.expect_closed(), b"")
        w.send_message(m)
        self.assertEqual(d.wait(), 0)

    def test_a_worker_that_drains(self):
        """Requests after a worker's DRAINING go to another; it answers those that it has."""
        d = self.daemon()
        leaving = self.worker(d, b"ROUTER")
        self.assertEqual(leaving.their_ready.get(HEARS[0]), HEARS[1])
        c = self.client(d)
        self.assertNotIn(HEARS[0], c.their_ready)
        c.send_message([b"", b"first"])
        m = leaving.recv_message()
        leaving.send(command(b"DRAINING"))
        leaving.recv_command(b"BYE")
        d.wait_event("peer_draining", side="backend")
        for i in range(3):
            c.send_message([b"", b"%d" % i])             # there is no other worker yet
        d.wait_stats(lambda s: s.backend["queued"] == 3)
        w = self.worker(d)
        self.assertEqual([w.recv_message()[2] for _ in range(3)], [b"0", b"1", b"2"])
        leaving.send_message(m)
        self.assertEqual(c.recv_message(), [b"", b"first"])
        leaving.half_close()
        self.assertEqual(leaving.expect_closed(), b"")

    def test_words_that_nobody_waits_for(self):
        """A client sends DRAINING or BYE, a worker sends BYE, while nothing is draining."""
        d = self.daemon()
        c, w = self.client(d), self.worker(d)
        c.send(command(b"DRAINING") + command(b"BYE"))
        w.send(command(b"BYE") * 3)
        self.exchange(c, w)
        self.exchange(c, w)
        self.assertEqual(c.commands + w.commands, [])


class Drain(Case):
    def test_in_flight_request_is_answered(self):
        d = self.daemon(broker={"drain_timeout": "30s"})
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        c.send_message([b"", b"last"])
        self.assertEqual(w.recv_message(), [b"c", b"", b"last"])
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")
        w.send_message([b"c", b"", b"answer"])
        self.assertEqual(c.recv_message(), [b"", b"answer"])
        e = d.wait_event("drained")
        self.assertEqual((e["answered"], e["given_up"]), ("1", "0"))
        self.assertEqual(c.expect_closed(), b"")
        self.assertEqual(w.expect_closed(), b"")
        d.stop()

    def test_sigint_drains_too(self):
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d)
        self.exchange(c, w)
        d.stop(signal.SIGINT)
        self.assertEqual(len(d.find_events("draining")), 1)

    def test_signals_until_the_very_end(self):
        """Whenever they come: the status is 0."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1) * 2:
            d = self.daemon()
            d.send_signal(signal.SIGTERM)
            d.wait_event("stopped")
            while d.proc.poll() is None:
                d.send_signal(number)
            self.assertEqual(d.wait(), 0, signal.Signals(number).name)

    def test_requests_that_wait_are_delivered(self):
        """Requests accepted before the signal, which the worker answers after it."""
        d = self.daemon(broker={"drain_timeout": "30s"})
        c = self.client(d, identity=b"c")
        w = self.worker(d)
        for i in range(50):
            c.send_message([b"", b"%d" % i])
        d.wait_stats(lambda s: s.backend["received"] == 50)
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")
        for i in range(50):
            self.assertEqual(w.recv_message()[2], b"%d" % i)
            w.send_message([b"c", b"", b"%d" % i])
        for i in range(50):
            self.assertEqual(c.recv_message(), [b"", b"%d" % i])
        e = d.wait_event("drained")
        self.assertEqual((e["answered"], e["given_up"]), ("50", "0"))
        d.stop()

    def test_given_up(self):
        """Without a worker, the requests are counted as unserved, and dropped as shutdown."""
        d = self.daemon(broker={"drain_timeout": "200ms"})
        c = self.client(d)
        for i in range(7):
            c.send_message([b"", b"%d" % i])
        d.wait_stats(lambda s: s.backend["queued"] == 7)
        s = d.stop()
        e = d.wait_event("drained", deadline=1)
        self.assertEqual((e["answered"], e["given_up"]), ("0", "7"))
        self.assertEqual(s.backend["drop_shutdown"], 7)
        self.assertEqual(s.backend["queued"], 0)

    def test_given_up_by_a_worker_that_does_not_answer(self):
        d = self.daemon(broker={"drain_timeout": "200ms"})
        w = self.worker(d)
        c = self.client(d)
        c.send_message([b"", b"1"])
        c.send_message([b"", b"2"])
        w.recv_message()
        w.recv_message()
        d.stop()
        e = d.wait_event("drained", deadline=1)
        self.assertEqual((e["answered"], e["given_up"]), ("0", "2"))

    def test_nothing_new_while_draining(self):
        """No new connections, no new requests; PINGs are answered."""
        d = self.daemon(broker={"drain_timeout": "30s"})
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        other = self.client(d, identity=b"other")
        c.send_message([b"", b"before"])
        w.recv_message()
        frontend = d.frontend
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")
        self.assertEqual(other.expect_closed(), b"")     # idle: it is closed at once
        other.send_message([b"", b"after"])
        d.wait_stats(lambda s: s.backend["drop_shutdown"] == 1)
        c.send(zmtp.ping())
        c.recv_command(b"PONG")
        try:
            p = Peer.connect(frontend)
            self.closing(p)
            p.send_quietly(greeting() + zmtp.ready())
            self.assertNotIn(b"READY", p.expect_closed())
        except ConnectionRefusedError:
            pass
        self.assertEqual(w.readable_now(), b"")
        w.send_message([b"c", b"", b"answer"])
        self.assertEqual(c.recv_message(), [b"", b"answer"])
        self.assertEqual(c.expect_closed(), b"")
        d.stop()
        e = d.wait_event("stopped", deadline=1)
        self.assertEqual((e["unserved_requests"], e["unserved_clients"]), ("1", "1"))

    def test_all_replies_and_the_end_come_together(self):
        """A client that has its reply asks again: not into a connection that is about to end."""
        d = self.daemon(broker={"drain_timeout": "1h"})
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        for i in range(20):
            c.send_message([b"", b"%d" % i])
            w.recv_message()
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")
        for i in range(19):
            w.send_message([b"c", b"", b"%d" % i])
        d.wait_stats(lambda s: s.frontend["received"] == 19)
        c.send(zmtp.ping())
        c.recv_command(b"PONG")                          # and no reply before it
        w.send_message([b"c", b"", b"19"])
        for i in range(20):
            self.assertEqual(c.recv_message(), [b"", b"%d" % i])
        self.assertEqual(c.expect_closed(), b"")
        e = d.wait_event("drained")
        self.assertEqual((e["answered"], e["given_up"]), ("20", "0"))
        d.stop()
        self.assertEqual(d.wait_event("stopped", deadline=1)["unserved_requests"], "0")

    def test_replies_that_are_too_many_to_be_held_back(self):
        d = self.daemon(broker={"drain_timeout": "1h"}, frontend={"send_hwm_bytes": "10000"})
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        for i in range(20):
            c.send_message([b"", b"%d" % i])
            w.recv_message()
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")
        for i in range(19):
            w.send_message([b"c", b"", b"z" * 1000])
        for i in range(19):
            self.assertEqual(c.recv_message(), [b"", b"z" * 1000])
        w.send_message([b"c", b"", b"last"])
        self.assertEqual(c.recv_message(), [b"", b"last"])
        self.assertEqual(c.expect_closed(), b"")
        self.assertEqual(d.stop().frontend["dropped"], 0)

    def test_what_came_before_the_signal_is_served(self):
        """Unread, since the proxy was paused: it lies in the kernel when the client is to leave."""
        control = self.temp_dir() + "/control.sock"
        d = self.daemon(broker={"drain_timeout": "1h", "control": control})
        w = self.worker(d)
        c = self.client(d, socktype=b"REQ", identity=b"c")
        d.wait_event("peer_ready", side="frontend")
        self.assertEqual(Admin(control).post("/api/pause/default").status, 200)
        c.send_message([b"", b"unread"])
        d.sync()
        self.assertEqual(d.stats().backend["received"], 0)
        d.send_signal(signal.SIGTERM)
        self.assertEqual(w.recv_message(), [b"c", b"", b"unread"])
        w.send_message([b"c", b"", b"answer"])
        self.assertEqual(c.recv_message(), [b"", b"answer"])
        self.assertEqual(c.expect_closed(), b"")
        d.stop()
        self.assertEqual(d.wait_event("stopped", deadline=1)["unserved_requests"], "0")

    def test_a_request_under_way_is_answered(self):
        """Its first bytes came in time: the rest is waited for, also from a new client."""
        whole = zmtp.message([b"", b"x" * 100000])
        for asked in False, True:
            with self.subTest(asked=asked):
                d = self.daemon(broker={"drain_timeout": "1h"})
                w = self.worker(d)
                c = self.client(d, socktype=b"REQ", identity=b"c")
                if asked:
                    self.exchange(c, w)
                c.send(whole[:50000])
                d.wait_stats(lambda s: s.frontend["bytes_received"] > 50000)
                d.send_signal(signal.SIGTERM)
                self.assertEqual(d.wait_event("drain_waits")["may_ask"], "1")
                c.send(whole[50000:])
                self.assertEqual(w.recv_message(), [b"c", b"", b"x" * 100000])
                w.send_message([b"c", b"", b"answer"])
                self.assertEqual(c.recv_message(), [b"", b"answer"])
                self.assertEqual(c.expect_closed(), b"")
                d.stop()
                self.assertEqual(d.wait_event("stopped", deadline=1)["unserved_requests"], "0")

    def test_a_request_that_never_ends_is_told(self):
        d = self.daemon(broker={"drain_timeout": "300ms"})
        self.worker(d)
        c = self.client(d, socktype=b"REQ")
        c.send(zmtp.message([b"", b"x" * 100000])[:50000])
        d.wait_stats(lambda s: s.frontend["bytes_received"] > 50000)
        d.stop()
        e = d.wait_event("stopped", deadline=1)
        self.assertEqual((e["unserved_requests"], e["unserved_clients"]), ("1", "1"))

    def test_who_keeps_asking_is_not_served_indefinitely(self):
        d = self.daemon(broker={"drain_timeout": "1h"})
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        c.send_message([b"", b"first"])
        w.recv_message()
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")

        def ask_again(s):
            c.send_message([b"", b"again"])
            return s.backend["drop_shutdown"] > 0
        s = d.wait_stats(ask_again)
        for _ in range(s.backend["sent"] - 1):
            self.assertEqual(w.recv_message(), [b"c", b"", b"again"])
        for _ in range(s.backend["sent"]):
            w.send_message([b"c", b"", b"answer"])
        for _ in range(s.backend["sent"]):
            self.assertEqual(c.recv_message(), [b"", b"answer"])
        self.assertEqual(c.expect_closed(), b"")
        d.stop()
        self.assertEqual(d.wait_event("stopped", deadline=1)["unserved_clients"], "1")

    def test_a_request_whose_client_left_does_not_hold_up_the_drain(self):
        d = self.daemon(broker={"drain_timeout": "1h"})
        w = self.worker(d)
        c = self.client(d)
        c.send_message([b"", b"q"])
        w.recv_message()
        c.close()
        d.wait_event("peer_closed", side="frontend")
        d.stop()
        e = d.wait_event("drained", deadline=1)
        self.assertEqual((e["answered"], e["given_up"]), ("0", "0"))

    def test_a_client_that_leaves_during_the_drain_ends_it(self):
        d = self.daemon(broker={"drain_timeout": "1h"})
        w = self.worker(d)
        c = self.client(d)
        c.send_message([b"", b"q"])
        w.recv_message()
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")
        c.close()
        self.assertEqual(d.wait(), 0)

    def test_what_was_lost_with_a_worker_is_not_waited_for(self):
        """Another client's reply ends the drain; the first client is closed then, too."""
        d = self.daemon(broker={"drain_timeout": "1h"})
        dies = self.worker(d)
        lost = self.client(d, identity=b"lost")
        lost.send_message([b"", b"q"])
        dies.recv_message()
        dies.close()
        d.wait_event("peer_closed", side="backend")
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        c.send_message([b"", b"q"])
        w.recv_message()
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")
        w.send_message([b"c", b"", b"answer"])
        self.assertEqual(c.recv_message(), [b"", b"answer"])
        self.assertEqual(lost.expect_closed(), b"")
        self.assertEqual(d.wait(), 0)

    def test_one_way_traffic_is_not_waited_for(self):
        """replies = no: a sent message is settled, though its client is still connected."""
        d = self.daemon(broker={"drain_timeout": "1h"}, backend={"replies": "no"})
        w = self.worker(d)
        c = self.client(d)
        for i in range(20):
            c.send_message([b"%d" % i])
        d.send_signal(signal.SIGTERM)
        for i in range(20):
            self.assertEqual(w.recv_message()[1], b"%d" % i)
        self.assertEqual(c.expect_closed(), b"")
        self.assertEqual(d.wait(), 0)
        e = d.find_events("drained")[0]
        self.assertEqual((e["answered"], e["given_up"]), ("0", "0"))

    def test_what_a_rep_cannot_answer_is_not_waited_for(self):
        d = self.daemon(broker={"drain_timeout": "1h"})
        w = self.worker(d, socktype=b"REP")
        c = self.client(d)
        c.send_message([b"no delimiter"])
        self.assertEqual(w.recv_message()[1:], [b"no delimiter"])
        d.send_signal(signal.SIGTERM)
        self.assertEqual(c.expect_closed(), b"")
        self.assertEqual(d.wait(), 0)

    def test_what_the_replaced_asked_is_not_waited_for(self):
        """A REP discarded the request of `old`: `new`, which has its id, is closed at once."""
        d = self.daemon(broker={"drain_timeout": "60s"})
        other = self.client(d)
        old = self.client(d, identity=b"me")
        old.send_message([b"no delimiter"])
        d.wait_stats(lambda s: s.backend["queued"] == 1)
        new = self.client(d, identity=b"me")
        old.expect_closed()
        rep = self.worker(d, b"REP")
        self.assertEqual(rep.recv_message(), [b"me", b"no delimiter"])
        other.send_message([b"", b"question"])
        got = rep.recv_message()
        d.send_signal(signal.SIGTERM)
        self.assertEqual(new.expect_closed(), b"")   # though `other` has no reply yet
        rep.send_message([got[0], b"", b"answer"])
        self.assertEqual(other.recv_message(), [b"", b"answer"])
        self.assertEqual(d.wait(), 0)

    def test_it_says_what_it_waits_for(self):
        d = self.daemon(broker={"drain_timeout": "1h"})
        w = self.worker(d)
        c = self.client(d)
        for _ in range(3):
            c.send_message([b"", b"q"])
            w.recv_message()
        d.send_signal(signal.SIGTERM)
        for count in (1, 2):
            e = d.wait_event("drain_waits", proxy="default", count=count)
            self.assertEqual((e["unanswered"], e["clients"], e["workers"], e["no_worker"]),
                             ("3", "1", "1", "0"))
            self.assertEqual(e["busiest"], d.find_events("peer_ready", side="backend")[0]["address"])
        d.stop()

    def test_a_second_signal_delivers_what_is_held_back(self):
        d = self.daemon(broker={"drain_timeout": "1h"})
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        for _ in range(2):
            c.send_message([b"", b"q"])
            w.recv_message()
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")
        w.send_message([b"c", b"", b"answer"])
        d.wait_stats(lambda s: s.frontend["received"] == 1)
        d.stop()
        self.assertEqual(c.recv_message(), [b"", b"answer"])

    def test_second_signal_stops_at_once(self):
        d = self.daemon(broker={"drain_timeout": "1h"})
        w = self.worker(d)
        c = self.client(d)
        c.send_message([b"", b"never answered"])
        w.recv_message()
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")
        self.assertTrue(d.alive())
        s = d.stop()                             # the second; exit status 0 is checked
        self.assertEqual(s.backend["sent"], 1)

    def test_second_signal_with_requests_queued(self):
        d = self.daemon(broker={"drain_timeout": "1h"})
        c = self.client(d)
        for i in range(5):
            c.send_message([b"", b"%d" % i])
        d.wait_stats(lambda s: s.backend["queued"] == 5)
        d.send_signal(signal.SIGINT)
        d.wait_event("draining")
        s = d.stop(signal.SIGINT)
        self.assertEqual(s.backend["drop_shutdown"], 5)

    def test_a_client_that_leaves_does_not_hold_up_the_drain(self):
        d = self.daemon(broker={"drain_timeout": "1h"})
        w = self.worker(d)
        c = self.client(d)
        self.exchange(c, w)
        c.close()
        d.wait_event("peer_closed", side="frontend")
        d.stop()

    def test_replies_on_their_way_are_flushed(self):
        d = self.daemon(broker={"drain_timeout": "30s"}, frontend={"send_buffer": 8192})
        w = self.worker(d)
        c = self.client(d, identity=b"c", rcvbuf=4096)
        c.send_message([b"", b"big one, please"])
        w.recv_message()
        body = b"z" * (4 << 20)
        w.send_message([b"c", b"", body])
        d.wait_stats(lambda s: s.frontend["received"] == 1 and s.frontend["queued"] == 1)
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")
        self.assertEqual(c.recv_message(), [b"", body])
        self.assertEqual(c.expect_closed(), b"")
        e = d.wait_event("drained")
        self.assertEqual(e["given_up"], "0")
        d.stop()

    def test_stop_with_a_message_half_written_poisons(self):
        """A stop in the middle of a write: the connection ends inside the message."""
        d = self.daemon(broker={"drain_timeout": "200ms"},
                        frontend={"send_buffer": 8192, "send_timeout": "0"})
        w = self.worker(d)
        c = self.client(d, identity=b"c", rcvbuf=4096)
        c.send_message([b"", b"q"])
        w.recv_message()
        body = b"z" * (4 << 20)
        w.send_message([b"c", b"", body])
        d.wait_stats(lambda s: s.frontend["received"] == 1 and s.frontend["queued"] == 1)
        s = d.stop()
        e = d.wait_event("peer_closed", side="frontend", deadline=1)
        self.assertEqual((e["reason"], e["poisoned"]), ("shutdown", "yes"))
        self.assertEqual(s.frontend["poisoned"], 1)
        self.assertEqual(s.frontend["drop_shutdown"] + s.frontend["drop_peer_gone"], 1)
        got = c.expect_closed()
        whole = message([b"", body])
        self.assertLess(len(got), len(whole))
        self.assertEqual(got, whole[:len(got)])

    def test_half_open_connections_do_not_hold_up_the_stop(self):
        """Nor does one that is silent inside a message, beyond its receive_timeout."""
        d = self.daemon(broker={"drain_timeout": "1h"}, frontend={"receive_timeout": "1s"})
        for data in (b"", b"\xff", greeting(), greeting() + b"\x04"):
            p = self.peer(d.frontend)
            p.send(data)
        p = self.client(d)
        p.send(zmtp.frame(b"", more=True))
        d.sync()
        d.stop()

    def test_a_handshake_that_ends_while_it_is_closed(self):
        """READY and a message after our half-close are ignored."""
        d = self.daemon()
        p = self.peer(d.frontend)
        p.send(greeting())
        p.recv_greeting()
        p.recv_ready()
        d.send_signal(signal.SIGTERM)
        d.wait_event("drained")
        p.expect_closed()
        p.send_quietly(zmtp.ready() + message([b"", b"late"]))
        p.half_close()
        self.assertEqual(d.wait(), 0)

    def test_dialling_does_not_hold_up_the_stop(self):
        l = self.closing(zmtp.Listener(listen=False))
        d = self.daemon(backend={"bind": None, "connect": l.endpoint})
        d.wait_event("reconnecting")
        d.stop()


class Signals(Case):
    def test_sighup_and_sigpipe_and_sigusr1(self):
        d = self.daemon()
        w = self.worker(d)
        c = self.client(d)
        for i in range(3):
            mark = d.mark()
            d.send_signal(signal.SIGHUP)
            d.wait_event("reloaded", after=mark, changes="0")
            d.send_signal(signal.SIGPIPE)
            self.exchange(c, w)
            d.stats()
        self.assertTrue(d.alive())
