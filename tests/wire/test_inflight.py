"""Requests in flight (SPEC section 8), message by message; tests/flight has them in great numbers."""

import signal

import zmtp
from harness import Case
from zmtp import Closed

REDELIVER = {"redeliver": "yes"}
LIMITED = {"max_outstanding": 1}


class Flight(Case):
    def late(self, d, count=1):
        return d.wait_stats(lambda s: s.frontend["drop_late_reply"] == count, "%d late" % count)

    def empty(self, d):
        """Nothing is in flight any more, and nothing is remembered."""
        s = d.wait_stats(lambda s: s.backend["kept_bytes"] == 0, "an end of what is kept")
        self.assertEqual((s.backend["outstanding"], s.backend["queued"]), (0, 0))
        return s

    def nothing_for(self, d, *peers):
        """Nothing has come for them, and nothing is on its way."""
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
