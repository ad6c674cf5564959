# SPDX-License-Identifier: MIT
"""Requests in flight, message by message; tests/flight sends them in great numbers."""

import signal

import zmtp
from harness import Case

REDELIVER = {"redeliver": "yes"}
LIMITED = {"max_outstanding": 1}


class Flight(Case):
    def late(self, d, count=1):
        return d.wait_stats(lambda s: s.frontend["drop_late_reply"] == count, "%d late" % count)

    def empty(self, d):
        """No request is in flight any more, and none is recorded."""
        s = d.wait_stats(lambda s: s.backend["kept_bytes"] == 0, "an end of what is kept")
        self.assertEqual((s.backend["outstanding"], s.backend["queued"]), (0, 0))
        return s

    def nothing_for(self, d, *peers):
        """No message has arrived for these peers, and none is on its way."""
        d.sync()
        for peer in peers:
            self.assertEqual(peer.readable_now(), b"")


class TakenBack(Flight):
    def test_its_worker_closes_and_another_is_idle(self):
        d = self.daemon(backend=REDELIVER)
        first, second = self.worker(d), self.worker(d)
        c = self.client(d, identity=b"c")
        c.send_message([b"", b"x"])
        self.assertEqual(first.recv_message(), [b"c", b"", b"x"])
        first.close()
        self.assertEqual(second.recv_message(), [b"c", b"", b"x"])
        second.send_message([b"c", b"", b"y"])
        self.assertEqual(c.recv_message(), [b"", b"y"])
        self.assertEqual(self.empty(d).backend["redelivered"], 1)

    def test_its_worker_is_late(self):
        """Another worker gets it at answer_timeout; the late reply only reinstates its worker."""
        d = self.daemon(backend=dict(REDELIVER, answer_timeout="300ms"))
        slow = self.worker(d)
        c = self.client(d, identity=b"c")
        c.send_message([b"1", b"", b"x"])
        self.assertEqual(slow.recv_message(), [b"c", b"1", b"", b"x"])
        d.wait_event("worker_suspect")
        quick = self.worker(d)
        for w in (quick, slow):
            if w is quick:
                self.assertEqual(w.recv_message(), [b"c", b"1", b"", b"x"])
            w.send_message([b"c", b"1", b"", b"y"])
        self.assertEqual(c.recv_message(), [b"1", b"", b"y"])
        d.wait_event("worker_returned")
        self.late(d)
        self.nothing_for(d, c)
        self.empty(d)
        for i in range(2):
            c.send_message([b"2", b"", b"%d" % i])
        self.assertEqual({w.recv_message()[3] for w in (slow, quick)}, {b"0", b"1"})

    def test_the_late_reply_is_the_first(self):
        """The worker that had the request first answers first after all."""
        d = self.daemon(backend=dict(REDELIVER, answer_timeout="300ms"))
        slow = self.worker(d)
        c = self.client(d, identity=b"c")
        c.send_message([b"1", b"", b"x"])
        slow.recv_message()
        d.wait_event("worker_suspect")
        other = self.worker(d)
        other.recv_message()
        slow.send_message([b"c", b"1", b"", b"first"])
        self.assertEqual(c.recv_message(), [b"1", b"", b"first"])
        other.send_message([b"c", b"1", b"", b"second"])
        self.late(d)
        self.nothing_for(d, c)
        self.empty(d)

    def test_it_is_answered_while_it_waits(self):
        """No other worker came: the late reply is delivered, and the request is not sent again."""
        d = self.daemon(backend=dict(REDELIVER, answer_timeout="300ms"))
        slow = self.worker(d)
        c = self.client(d, identity=b"c")
        c.send_message([b"", b"x"])
        slow.recv_message()
        d.wait_event("worker_suspect")
        slow.send_message([b"c", b"", b"y"])
        self.assertEqual(c.recv_message(), [b"", b"y"])
        s = self.empty(d)
        self.assertEqual((s.backend["received"], s.backend["sent"]), (1, 1))
        other = self.worker(d)
        self.nothing_for(d, slow, other)

    def test_it_is_left_to_who_can_answer_it(self):
        """A REP discards a request without a delimiter: a pending one is not sent there."""
        d = self.daemon(backend=dict(REDELIVER, answer_timeout="300ms"))
        slow = self.worker(d)
        c = self.client(d, identity=b"c")
        c.send_message([b"x"])
        self.assertEqual(slow.recv_message(), [b"c", b"x"])
        rep = self.worker(d, b"REP")
        s = d.wait_stats(lambda s: s.backend["drop_malformed"] == 1, "a request that no REP takes")
        self.assertEqual((s.backend["sent"], s.backend["outstanding"]), (1, 0))
        self.nothing_for(d, rep)
        slow.send_message([b"c", b"y"])
        self.assertEqual(c.recv_message(), [b"y"])
        slow.send_message([b"c", b"z"])
        self.late(d)
        self.nothing_for(d, c)
        self.empty(d)

    def test_large_requests_are_kept_as_well(self):
        d = self.daemon(backend=REDELIVER)
        body = bytes(range(256)) * 4096
        first, second = self.worker(d), self.worker(d)
        c = self.client(d, identity=b"c")
        c.send_message([b"", body])
        self.assertEqual(first.recv_message(), [b"c", b"", body])
        self.assertGreater(d.stats().backend["kept_bytes"], len(body))
        first.reset()
        self.assertEqual(second.recv_message(), [b"c", b"", body])
        second.send_message([b"c", b"", b"y"])
        self.assertEqual(c.recv_message(), [b"", b"y"])
        self.empty(d)

    def test_the_limit(self):
        """redeliver_limit workers may die of a request; then it is dropped."""
        for limit in (1, 2):
            with self.subTest(limit):
                d = self.daemon(backend=dict(REDELIVER, redeliver_limit=limit))
                c = self.client(d, identity=b"c")
                c.send_message([b"", b"bad"])
                for _ in range(limit):
                    w = self.worker(d)
                    self.assertEqual(w.recv_message(), [b"c", b"", b"bad"])
                    w.close()
                d.wait_stats(lambda s: s.backend["drop_undeliverable"] == 1)
                self.empty(d)
                w = self.worker(d)
                self.exchange(c, w)

    def test_those_behind_it_are_not_to_blame(self):
        """Only the oldest of a worker that works in order is counted against its limit."""
        d = self.daemon(backend=dict(REDELIVER, redeliver_limit=1))
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        for i in range(5):
            c.send_message([b"", b"%d" % i])
        for i in range(5):
            w.recv_message()
        w.close()
        d.wait_stats(lambda s: s.backend["drop_undeliverable"] == 1)
        w = self.worker(d)
        for i in range(1, 5):
            self.assertEqual(w.recv_message(), [b"c", b"", b"%d" % i])
            w.send_message([b"c", b"", b"%d" % i])
            self.assertEqual(c.recv_message(), [b"", b"%d" % i])
        s = self.empty(d)
        self.assertEqual((s.backend["redelivered"], s.backend["dropped"]), (5, 1))

    def test_its_client_is_gone(self):
        """Neither its pending requests nor those that wait for a worker are sent again."""
        d = self.daemon(backend=dict(REDELIVER, max_outstanding=1))
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        for i in range(3):
            c.send_message([b"", b"%d" % i])
        self.assertEqual(w.recv_message(), [b"c", b"", b"0"])
        d.wait_stats(lambda s: s.backend["queued"] == 2)
        c.close()
        d.wait_stats(lambda s: s.backend["drop_peer_gone"] == 2)
        w.close()
        d.wait_stats(lambda s: s.backend["drop_peer_gone"] == 3)
        self.empty(d)
        w = self.worker(d)
        self.exchange(self.client(d), w)

    def test_a_client_that_comes_back_has_its_reply(self):
        """A client that returns with its routing id counts as if it had stayed."""
        d = self.daemon(backend=REDELIVER)
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        c.send_message([b"1", b"", b"x"])
        w.recv_message()
        c.close()
        d.wait_event("peer_closed", side="frontend")
        mark = d.mark()
        c = self.client(d, identity=b"c")
        d.wait_event("peer_ready", after=mark, side="frontend")
        mark = d.mark()
        w.close()
        w = self.worker(d)
        self.assertEqual(w.recv_message(), [b"c", b"1", b"", b"x"])
        w.send_message([b"c", b"1", b"", b"y"])
        self.assertEqual(c.recv_message(), [b"1", b"", b"y"])
        self.empty(d)


class Limit(Flight):
    def test_no_more_than_max_outstanding(self):
        for limit in (1, 3):
            with self.subTest(limit):
                d = self.daemon(backend={"max_outstanding": limit})
                w = self.worker(d)
                c = self.client(d, identity=b"c")
                for i in range(10):
                    c.send_message([b"%d" % i, b"", b"x"])
                d.wait_stats(lambda s, n=limit: s.backend["queued"] == 10 - n)
                got = [w.recv_message() for _ in range(limit)]
                self.nothing_for(d, w)
                for i in range(limit, 10):
                    w.send_message(got.pop(0)[:3] + [b"y"])
                    got.append(w.recv_message())
                    self.nothing_for(d, w)
                for one in got:
                    w.send_message(one[:3] + [b"y"])
                self.assertEqual([c.recv_message()[0] for _ in range(10)],
                                 [b"%d" % i for i in range(10)])
                self.empty(d)

    def test_the_next_goes_to_who_has_room(self):
        d = self.daemon(backend=LIMITED)
        workers = [self.worker(d) for _ in range(3)]
        c = self.client(d, identity=b"c")
        for i in range(4):
            c.send_message([b"%d" % i, b"", b"x"])
        got = [w.recv_message() for w in workers]
        workers[1].send_message(got[1])
        self.assertEqual(workers[1].recv_message(), [b"c", b"3", b"", b"x"])
        self.nothing_for(d, workers[0], workers[2])

    def test_least_outstanding(self):
        d = self.daemon(backend={"balance": "least_outstanding"})
        busy, idle = self.worker(d), self.worker(d)
        c = self.client(d, identity=b"c")
        for i in range(4):
            c.send_message([b"%d" % i, b"", b"x"])
        got = [[w.recv_message() for _ in range(2)] for w in (busy, idle)]
        for one in got[1]:
            idle.send_message(one)
            c.recv_message()
        for i in range(2):
            c.send_message([b"%d" % i, b"", b"z"])
        for i in range(2):
            self.assertEqual(idle.recv_message(), [b"c", b"%d" % i, b"", b"z"])
        self.nothing_for(d, busy)

    def test_a_late_worker_is_given_nothing(self):
        """Without redeliver, a worker keeps its requests, and its late reply passes."""
        d = self.daemon(backend={"answer_timeout": "300ms"})
        slow = self.worker(d)
        c = self.client(d, identity=b"c")
        c.send_message([b"1", b"", b"x"])
        slow.recv_message()
        d.wait_event("worker_suspect")
        self.assertEqual(d.stats().backend["outstanding"], 1)
        c.send_message([b"2", b"", b"x"])
        d.wait_stats(lambda s: s.backend["queued"] == 1)
        self.nothing_for(d, slow)
        slow.send_message([b"c", b"1", b"", b"y"])
        self.assertEqual(c.recv_message(), [b"1", b"", b"y"])
        self.assertEqual(slow.recv_message(), [b"c", b"2", b"", b"x"])
        slow.send_message([b"c", b"2", b"", b"y"])
        self.assertEqual(c.recv_message(), [b"2", b"", b"y"])
        self.empty(d)

    def test_a_late_worker_that_is_back(self):
        """Requests that the worker still holds count against max_outstanding."""
        d = self.daemon(backend={"answer_timeout": "2s", "max_outstanding": 3})
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        for i in range(8):
            c.send_message([b"%d" % i, b"", b"x"])
        got = [w.recv_message() for _ in range(3)]
        d.wait_event("worker_suspect")
        w.send_message(got.pop(0))
        c.recv_message()
        d.wait_event("worker_returned")
        got.append(w.recv_message())
        self.nothing_for(d, w)
        self.assertEqual(d.stats().backend["outstanding"], 3)

    def test_a_late_worker_that_has_room_again(self):
        """A worker that reads its queue and answers nothing is assigned nothing."""
        d = self.daemon(backend={"answer_timeout": "300ms", "send_buffer": 8192,
                                 "send_hwm_bytes": "64KiB"})
        w = self.worker(d, rcvbuf=4096)
        c = self.client(d, identity=b"c")
        for i in range(40):
            c.send_message([b"%d" % i, b"", b"b" * 10000])
        d.wait_stats(lambda s: s.backend["received"] == 40)
        d.wait_event("worker_suspect")
        given = d.stats().backend["outstanding"]
        self.assertLess(given, 40)
        got = [w.recv_message() for _ in range(given)]
        self.nothing_for(d, w)
        s = d.stats()
        self.assertEqual((s.backend["outstanding"], s.backend["queued"]), (given, 40 - given))
        for i in range(40):
            parts = got.pop(0) if got else w.recv_message()
            w.send_message(parts)
            self.assertEqual(c.recv_message()[0], b"%d" % i)
        self.empty(d)


class OtherProtocols(Flight):
    """Workers whose protocol is not request and reply."""

    READY = ([b"READY"], [b"", b"READY"], [b"nobody", b"", b"HEARTBEAT"])

    def own_words(self, w):
        for parts in self.READY:
            w.send_message(list(parts))

    def several(self, d):
        """A request, the worker's own messages, and three replies to it."""
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        self.own_words(w)
        c.send_message([b"1", b"", b"x"])
        self.assertEqual(w.recv_message(), [b"c", b"1", b"", b"x"])
        self.own_words(w)
        for part in (b"a", b"b", b"c"):
            w.send_message([b"c", b"1", b"", part])
        self.own_words(w)
        s = d.wait_stats(lambda s: s.frontend["received"] == 12)
        self.assertEqual(s.frontend["drop_malformed"] + s.frontend["drop_unroutable"], 9)
        self.assertEqual(s.backend["outstanding"], 0)
        return c, w, s

    def test_untouched_without_the_options(self):
        d = self.daemon()
        c, w, s = self.several(d)
        for part in (b"a", b"b", b"c"):
            self.assertEqual(c.recv_message(), [b"1", b"", part])
        self.assertEqual(s.frontend["drop_late_reply"], 0)
        w.send_message([b"c", b"", b"NEWS"])         # it answers no request, and passes
        self.assertEqual(c.recv_message(), [b"", b"NEWS"])

    def test_max_outstanding_lets_all_of_it_pass(self):
        """The first reply makes room; a message that answers no request passes, and makes none."""
        d = self.daemon(backend=LIMITED)
        c, w, s = self.several(d)
        for part in (b"a", b"b", b"c"):
            self.assertEqual(c.recv_message(), [b"1", b"", part])
        for i in range(2):
            c.send_message([b"%d" % i, b"", b"x"])
        self.assertEqual(w.recv_message(), [b"c", b"0", b"", b"x"])
        w.send_message([b"c", b"", b"NEWS"])
        self.own_words(w)
        self.assertEqual(c.recv_message(), [b"", b"NEWS"])
        self.nothing_for(d, w)
        s = d.stats()
        self.assertEqual((s.backend["outstanding"], s.backend["queued"]), (1, 1))
        w.send_message([b"c", b"0", b"", b"y"])
        self.assertEqual(w.recv_message(), [b"c", b"1", b"", b"x"])

    def test_redeliver_passes_the_first_reply_only(self):
        d = self.daemon(backend=REDELIVER)
        c, w, _ = self.several(d)
        self.assertEqual(c.recv_message(), [b"1", b"", b"a"])
        self.late(d, 2)
        w.send_message([b"c", b"", b"NEWS"])
        self.late(d, 3)
        self.nothing_for(d, c)
        self.empty(d)

    def test_own_heartbeats_do_not_answer(self):
        """A worker that sends only keep-alive messages is suspect nevertheless."""
        d = self.daemon(backend=dict(REDELIVER, answer_timeout="300ms"))
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        c.send_message([b"1", b"", b"x"])
        w.recv_message()
        self.own_words(w)
        w.send_message([b"c", b"2", b"", b"still busy"])
        d.wait_event("worker_suspect")
        self.late(d)
        other = self.worker(d)
        self.assertEqual(other.recv_message(), [b"c", b"1", b"", b"x"])
        self.own_words(w)
        d.wait_stats(lambda s: s.frontend["received"] == 7)
        self.assertEqual(d.find_events("worker_returned"), [])

    def test_a_worker_that_only_takes(self):
        """One-way requests: with redeliver they are unanswered, and so sent repeatedly."""
        d = self.daemon(backend=dict(REDELIVER, answer_timeout="300ms", redeliver_limit=2))
        workers = [self.worker(d) for _ in range(2)]
        c = self.client(d, identity=b"c")
        c.send_message([b"log this"])
        for w in workers:
            self.assertEqual(w.recv_message(), [b"c", b"log this"])
        d.wait_stats(lambda s: s.backend["drop_undeliverable"] == 1)
        self.assertEqual(d.stats().backend["suspects"], 2)
        other = self.client(d, b"REQ", identity=b"o")
        other.send_message([b"", b"answer this"])
        e = d.wait_event("worker_trial")
        w = workers[int(e["peer"]) - int(d.find_events("peer_ready", side="backend")[0]["peer"])]
        w.send_message(w.recv_message())
        self.assertEqual(other.recv_message(), [b"", b"answer this"])
        d.wait_event("worker_returned")
        for w in workers:
            w.close()
        self.empty(d)

    def test_a_suspect_is_tried_again(self):
        """One request per trial, after longer and longer waits, kept or not; a reply clears it."""
        for options in (REDELIVER, {}, LIMITED):
            with self.subTest(options):
                d = self.daemon(backend=dict(options, answer_timeout="200ms", redeliver_limit=9))
                w = self.worker(d)
                c = self.client(d, identity=b"c")
                c.send_message([b"0", b"", b"x"])
                w.recv_message()
                d.wait_event("worker_suspect")
                for i in range(1, 5):
                    c.send_message([b"%d" % i, b"", b"x"])
                d.wait_event("worker_trial", count=2)
                got = [w.recv_message() for _ in range(2)]
                w.send_message(got[-1])
                self.assertEqual(c.recv_message(), got[-1][1:])
                d.wait_event("worker_returned")

    def test_one_way_traffic_that_says_so(self):
        """replies = no: no request is pending or kept; senders may leave at once."""
        d = self.daemon(backend=dict(REDELIVER, replies="no", answer_timeout="100ms",
                                     max_outstanding=1))
        c = self.client(d)
        for i in range(500):
            c.send_message([b"", b"%d" % i])
        c.close()
        d.wait_event("peer_closed", side="frontend")
        workers = [self.worker(d) for _ in range(2)]
        d.wait_stats(lambda s: s.backend["sent"] == 500)
        s = self.empty(d)
        self.assertEqual((s.backend["dropped"], s.backend["suspects"]), (0, 0))
        got = [w.recv_message()[2] for w in workers for _ in range(len(w.readable_now()) and 1)]
        self.assertTrue(got)
        c = self.client(d, identity=b"c")            # replies pass nevertheless
        workers[0].send_message([b"c", b"", b"news"])
        self.assertEqual(c.recv_message(), [b"", b"news"])

    def test_replies_are_not_expected_any_more(self):
        """A reload turns tracking off: pending requests are forgotten, and kept ones freed."""
        d = self.daemon(backend=dict(REDELIVER, answer_timeout="1h"))
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        for i in range(3):
            c.send_message([b"%d" % i, b"", b"x"])
        self.assertEqual([w.recv_message()[1] for _ in range(3)], [b"0", b"1", b"2"])
        self.assertEqual(d.stats().backend["outstanding"], 3)
        with open(d.config, encoding="utf-8") as f:
            text = f.read()
        with open(d.config, "w", encoding="utf-8") as f:
            f.write(text.replace("answer_timeout = 1h", "answer_timeout = 1h\nreplies = no"))
        d.send_signal(signal.SIGHUP)
        d.wait_event("reloaded")
        self.empty(d)
        c.send_message([b"3", b"", b"x"])
        got = w.recv_message()
        w.send_message(got)
        self.assertEqual(c.recv_message(), got[1:])
        self.empty(d)


class BadInput(Flight):
    ENVELOPES = (
        [b"no delimiter"],
        [b"", b"", b""],
        [b"", b"", b"two delimiters"],
        [b"a", b"b", b"c", b"", b"hops"],
        [b"i" * 255, b"", b"the longest id"],
        [b"i" * 256, b"", b"one more"],
        [b"i" * 255, b"j" * 240, b"", b"512 bytes"],
        [b"i" * 255, b"j" * 255, b"", b"more than 512"],
        [b"x"] * 60 + [b"no delimiter at all"],
        [b"", b""],
        [b"\x01\x00", b"\x04", b"", b"looks like frames"],
        [b""],
    )

    def test_any_envelope_is_answered_once(self):
        """A redelivered request has the envelope that it came with."""
        d = self.daemon(backend=REDELIVER)
        first, second = self.worker(d), self.worker(d)
        c = self.client(d, identity=b"c")
        for long in (False, True):
            for parts in self.ENVELOPES:
                if any(len(p) > 255 for p in parts) and not long:
                    continue
                with self.subTest(parts=parts[:4], long=long):
                    c.send_message(parts, long)
                    self.assertEqual(first.recv_message(), [b"c"] + parts)
                    first.close()
                    self.assertEqual(second.recv_message(), [b"c"] + parts)
                    second.send_message([b"c"] + parts, long)
                    self.assertEqual(c.recv_message(), parts)
                    self.empty(d)
                first = second
                second = self.worker(d)

    def test_other_lengths_of_the_same(self):
        """A frame's length in one byte or in eight: the envelope is the same."""
        d = self.daemon(backend=REDELIVER)
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        c.send_message([b"1", b"", b"x"], long=True)
        self.assertEqual(w.recv_message(), [b"c", b"1", b"", b"x"])
        w.send_message([b"c", b"1", b"", b"y"], long=False)
        self.assertEqual(c.recv_message(), [b"1", b"", b"y"])
        self.empty(d)

    def test_replies_that_nobody_asked_for(self):
        d = self.daemon(backend=REDELIVER)
        w, other = self.worker(d), self.worker(d)
        c, neighbour = self.client(d, identity=b"c"), self.client(d, identity=b"n")
        c.send_message([b"1", b"", b"x"])
        self.assertEqual(w.recv_message(), [b"c", b"1", b"", b"x"])
        bad = ([b"c", b"2", b"", b"x"], [b"c", b"", b"1"], [b"c", b"1"], [b"n", b"1", b"", b"x"],
               [b"c", b"1", b"1", b"", b"x"], [b"c"] + [b"f" * 255] * 5 + [b"", b"x"],
               [b"c", b"l" * 70000])
        for parts in bad:
            w.send_message(parts)
            other.send_message(parts)
        other.send_message([b"c", b"1", b"", b"not its own"])
        self.late(d, 2 * len(bad) + 1)
        self.nothing_for(d, c, neighbour)
        self.assertEqual(d.stats().backend["outstanding"], 1)
        w.send_message([b"c", b"1", b"", b"y"])
        self.assertEqual(c.recv_message(), [b"1", b"", b"y"])
        self.empty(d)

    def test_a_client_takes_no_other_clients_reply(self):
        """Five clients use one request id; replies come in reverse: each gets its own."""
        d = self.daemon(backend=REDELIVER)
        w = self.worker(d)
        clients = [self.client(d, identity=b"c%d" % i) for i in range(5)]
        for i, c in enumerate(clients):
            c.send_message([b"1", b"", b"x%d" % i])
        got = [w.recv_message() for _ in clients]
        for parts in reversed(got):
            w.send_message(parts[:3] + [parts[3] + b"!"])
        for i, c in enumerate(clients):
            self.assertEqual(c.recv_message(), [b"1", b"", b"x%d!" % i])
        self.empty(d)

    def test_memory_limit_reached_by_kept_requests(self):
        """Reading pauses, replies make room, and all of it goes through."""
        d = self.daemon(broker={"memory_limit": "2MiB"}, backend=REDELIVER)
        w = self.worker(d)
        clients = [self.client(d, identity=b"c%d" % i) for i in range(4)]
        body, count = b"b" * 10000, 60
        data = b"".join(zmtp.message([b"%d" % i, b"", body]) for i in range(count))
        sent = [0] * len(clients)
        held = []

        def push():
            for i, c in enumerate(clients):
                c.sock.setblocking(False)
                try:
                    while sent[i] < len(data):
                        sent[i] += c.sock.send(data[sent[i]:])
                except BlockingIOError:
                    pass
                finally:
                    c.sock.settimeout(c.deadline)

        def paused():
            push()
            return d.find_events("memory_limit", action="pause_reading", side="frontend")

        # the worker reads its requests, and answers none until reading has paused
        while not paused():
            for _ in range(d.stats().backend["sent"] - len(held)):
                held.append(w.recv_message())
        s = d.stats()
        self.assertGreater(s.backend["kept_bytes"], 1 << 20)
        self.assertLess(int(s.end["memory_bytes"]), 4 << 20)
        for n in range(count * len(clients)):
            parts = held.pop(0) if held else w.recv_message()
            self.assertEqual(parts[2:], [b"", body])
            w.send_message(parts[:3] + [b"y"])
            push()
        for c in clients:
            self.assertEqual([c.recv_message() for _ in range(count)],
                             [[b"%d" % i, b"", b"y"] for i in range(count)])
        self.empty(d)

    def test_memory_limit_reached_by_expired_requests(self):
        """
A live worker that reads requests and never answers: the records of its requests fill the
        memory. It is closed for that, and the others go on.
        """
        d = self.daemon(broker={"memory_limit": "1MiB"},
                        backend=dict(REDELIVER, answer_timeout="1s", heartbeat_interval=0))
        hung = self.worker(d)
        c = self.client(d, identity=b"c")
        count = 8000
        data = b"".join(zmtp.message([b"%d" % i, b"", b"b" * 490]) for i in range(count))
        sent = [0]

        def push():
            c.sock.setblocking(False)
            try:
                while sent[0] < len(data):
                    sent[0] += c.sock.send(data[sent[0]:])
            except BlockingIOError:
                pass
            finally:
                c.sock.settimeout(c.deadline)

        push()
        d.wait_event("worker_suspect")
        d.wait_event("memory_limit", action="pause_reading", side="frontend")
        w = self.worker(d)
        for _ in range(count):
            push()
            w.send_message(w.recv_message())
            c.recv_message()
        d.wait_event("peer_closed", side="backend", reason="over_limit")
        hung.close()
        self.empty(d)


class Drain(Flight):
    """The counts in `drained` are exact."""

    def start(self, count=5, **backend):
        d = self.daemon(broker={"drain_timeout": "60s"}, backend=dict(REDELIVER, **backend))
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        for i in range(count):
            c.send_message([b"%d" % i, b"", b"x"])
        d.wait_stats(lambda s: s.backend["received"] == count)
        return d, w, c

    def term(self, d):
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")

    def drained(self, d, answered, given_up):
        e = d.wait_event("drained")
        self.assertEqual((int(e["answered"]), int(e["given_up"])), (answered, given_up))

    def test_answered_before_and_after(self):
        d, w, c = self.start()
        got = [w.recv_message() for _ in range(5)]
        for parts in got[:2]:
            w.send_message(parts)
        d.wait_stats(lambda s: s.backend["outstanding"] == 3)
        self.term(d)
        for parts in got[2:] + got[2:]:              # each of these twice
            w.send_message(parts)
        for parts in got:
            self.assertEqual(c.recv_message(), parts[1:])
        self.drained(d, 3, 0)
        self.assertEqual(c.expect_closed(), b"")

    def test_a_worker_dies_in_it(self):
        """Another worker answers the requests of the dead one."""
        d, w, c = self.start()
        other = self.worker(d)
        for _ in range(5):
            w.recv_message()
        self.term(d)
        w.close()
        for _ in range(5):
            other.send_message(other.recv_message())
        self.assertEqual({c.recv_message()[0] for _ in range(5)}, {b"%d" % i for i in range(5)})
        self.drained(d, 5, 0)

    def test_a_late_worker_without_redeliver(self):
        """Its requests stay its own, and are unanswered until it answers them."""
        d = self.daemon(broker={"drain_timeout": "60s"}, backend={"answer_timeout": "300ms"})
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        for i in range(3):
            c.send_message([b"%d" % i, b"", b"x"])
        got = [w.recv_message() for _ in range(3)]
        d.wait_event("worker_suspect")
        self.term(d)
        for parts in got[:2]:
            w.send_message(parts)
        d.wait_stats(lambda s: s.frontend["received"] == 2)
        w.close()
        for parts in got[:2]:                        # not the last: no reply comes
            self.assertEqual(c.recv_message(), parts[1:])
        self.drained(d, 2, 1)

    def test_what_waits_for_room(self):
        d, w, c = self.start(max_outstanding=2)
        self.assertEqual(d.stats().backend["queued"], 3)
        self.term(d)
        for _ in range(5):
            w.send_message(w.recv_message())
        self.assertEqual([c.recv_message()[0] for _ in range(5)], [b"%d" % i for i in range(5)])
        self.drained(d, 5, 0)

    def test_the_last_worker_dies(self):
        """Some requests are answered; the others wait for a worker that never comes."""
        d = self.daemon(broker={"drain_timeout": "3s"}, backend=REDELIVER)
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        for i in range(5):
            c.send_message([b"%d" % i, b"", b"x"])
        got = [w.recv_message() for _ in range(5)]
        self.term(d)
        for parts in got[:2]:
            w.send_message(parts)
        d.wait_stats(lambda s: s.frontend["received"] == 2)
        w.close()
        self.drained(d, 2, 3)
        for parts in got[:2]:
            self.assertEqual(c.recv_message(), parts[1:])
        s = d.stop()
        self.assertEqual((s.backend["outstanding"], s.backend["queued"], s.backend["kept_bytes"]),
                         (0, 0, 0))

    def test_the_client_leaves(self):
        """Waiting requests are dropped; a worker may answer its requests, and is not waited for."""
        d, w, c = self.start(max_outstanding=2)
        got = [w.recv_message() for _ in range(2)]
        self.term(d)
        c.close()
        d.wait_stats(lambda s: s.backend["drop_peer_gone"] == 3)
        for parts in got:
            if not w.send_quietly(zmtp.message(parts)):
                break
        e = d.wait_event("drained")
        self.assertEqual(e["given_up"], "3")
        self.assertIn(e["answered"], ("0", "1", "2"))

    def test_nobody_is_left(self):
        """No worker and no client is left: before the drain, and during it."""
        d, w, c = self.start()
        other = self.client(d, identity=b"other")
        for _ in range(5):
            w.recv_message()
        other.send_message([b"", b"x"])
        w.recv_message()
        w.close()
        d.wait_event("peer_closed", side="backend")
        c.close()
        d.wait_event("peer_closed", side="frontend")
        self.term(d)
        d.wait_stats(lambda s: s.backend["drop_peer_gone"] == 5)
        other.close()
        self.drained(d, 0, 6)

    def test_a_suspect_worker(self):
        """The only worker is suspect: its late replies are the first."""
        d, w, c = self.start(answer_timeout="300ms")
        got = [w.recv_message() for _ in range(5)]
        d.wait_event("worker_suspect")
        self.term(d)
        for parts in got:                
            w.send_message(parts)
        self.assertEqual({c.recv_message()[0] for _ in range(5)}, {b"%d" % i for i in range(5)})
        self.drained(d, 5, 0)

    def test_given_up(self):
        d = self.daemon(broker={"drain_timeout": "500ms"},
                        backend=dict(REDELIVER, max_outstanding=2))
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        for i in range(5):
            c.send_message([b"%d" % i, b"", b"x"])
        w.send_message(w.recv_message())
        c.recv_message()
        d.wait_stats(lambda s: s.backend["outstanding"] == 2 and s.backend["queued"] == 2)
        self.term(d)
        self.drained(d, 0, 4)
        s = d.stop()
        self.assertEqual((s.backend["drop_shutdown"], s.backend["kept_bytes"]), (2, 0))
