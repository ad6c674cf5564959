# SPDX-License-Identifier: MIT
"""Common client habits, with each way to end a connection: nobody waits for what cannot come.

Each habit is a client or a worker; each end is a stop, a restart, a reload that removes an
endpoint, a drain or a kick of the client. Afterwards the habit continues over a new connection.
"""

import signal
import struct

import zmtp
from admin import Admin
from harness import Case, make_ini
from zmtp import frame


class Habits(Case):
    def setUp(self):
        super().setUp()
        self.where = self.temp_dir()

    def ipc(self, name):
        return "ipc://%s/%s.sock" % (self.where, name)

    def config(self, drain="20s", ends=True):
        """Clients connect to `goes`, which the reload removes, and to `stays`."""
        bind = [self.ipc("stays")] + ([self.ipc("goes")] if ends else [])
        return self.sections(frontend={"bind": bind}, backend={"bind": self.ipc("workers")},
                             broker={"drain_timeout": drain, "control": self.where + "/control"})

    def start(self, **kw):
        return self.daemon(sections=self.config(**kw))

    def worker(self, d, **kw):
        return super().worker(d, endpoint=self.ipc("workers"), **kw)

    def client(self, d, name="goes", **kw):
        mark = d.mark()
        c = super().client(d, endpoint=self.ipc(name), **kw)
        self.client_id = d.wait_event("peer_ready", after=mark, side="frontend")["peer"]
        return c

    # -- the ends; each function starts one, and returns before it is complete

    def stop(self, d):
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")

    restart = stop

    def reload(self, d):
        with open(d.config, "w", encoding="utf-8") as f:
            f.write(make_ini(self.config(ends=False)))
        d.send_signal(signal.SIGHUP)
        d.wait_event("reloaded")

    def drain(self, d):
        self.assertEqual(Admin(self.where + "/control").post("/api/drain/" + self.client_id).status, 200)

    def kick(self, d):
        self.assertEqual(Admin(self.where + "/control").post("/api/kick/" + self.client_id).status, 200)

    def ends(self, but=()):
        for end in (self.stop, self.restart, self.reload, self.drain, self.kick):
            if end.__name__ in but:
                continue
            with self.subTest(end=end.__name__):
                d = self.start()
                yield d, end
                if end == self.stop:
                    d.stop()
                    continue
                if end == self.restart:
                    d.wait()
                    d = self.start()
                # the habit continues over a connection that did not end
                self.exchange(self.client(d, "stays"), self.worker(d))
                d.stop()

    # -- the habits

    def test_a_req_loop(self):
        """The reply and the end arrive together; the next request uses the next connection. Another
        client's job continues meanwhile."""
        for d, end in self.ends(but=["kick"]):
            w, other = self.worker(d), self.client(d, "stays", socktype=b"REQ")
            c = self.client(d, socktype=b"REQ")
            for _ in range(3):
                self.exchange(c, w)
            other.send_message([b"", b"job"])
            job = w.recv_message()
            c.send_message([b"", b"last"])
            request = w.recv_message()
            end(d)
            w.send_message(request)
            self.assertEqual(c.recv_message(), [b"", b"last"])
            self.assertEqual(c.expect_closed(), b"")
            w.send_message(job)
            self.assertEqual(other.recv_message(), [b"", b"job"])
            c.close(), other.close(), w.close()

    def test_a_loop_that_is_about_to_ask(self):
        """A client that got its reply is not closed at once: its next request may come."""
        for d, end in self.ends():
            w, c = self.worker(d), self.client(d, socktype=b"REQ")
            self.exchange(c, w)
            end(d)
            c.expect_closed()                    # it sent no request
            c.close(), w.close()

    def begin_a_request(self, d, asked=False):
        """A worker; a client with half a request sent and another pending; the other half."""
        w, c = self.worker(d), self.client(d)
        self.exchange(c, w)
        if asked:
            c.send_message([b"", b"before"])
            d.wait_stats(lambda s: s.backend["sent"] == 2)
        before = d.stats().frontend["bytes_received"]
        whole = zmtp.message([b"", b"x" * 100000])
        c.send(whole[:50000])
        d.wait_stats(lambda s: s.frontend["bytes_received"] == before + 50000)
        return w, c, whole[50000:]

    def test_a_request_under_way(self):
        """Half a request had arrived when the drain began: it is answered, and the end comes after
        that reply, not after the reply to an earlier request."""
        for d, end in self.ends(but=["kick"]):
            w, c, rest = self.begin_a_request(d, asked=True)
            end(d)
            w.send_message(w.recv_message())
            self.assertEqual(c.recv_message(), [b"", b"before"])
            c.send(rest)
            request = w.recv_message()
            self.assertEqual(request[2], b"x" * 100000)
            w.send_message(request[:2] + [b"answer"])
            self.assertEqual(c.recv_message(), [b"", b"answer"])
            self.assertEqual(c.expect_closed(), b"")
            c.close(), w.close()

    def test_a_request_under_way_and_a_kick(self):
        """The request has a second, and so has its reply: retried on a slower machine."""
        answer = zmtp.message([b"", b"answer"])
        for _ in range(5):
            d = self.start()
            w, c, rest = self.begin_a_request(d)
            self.kick(d)
            c.send_quietly(rest)
            s = d.wait_stats(lambda s: s.backend["received"] == 2 or s.frontend["closed"] > 0)
            if s.backend["drop_shutdown"] == 0 and s.frontend["closed"] == 0:
                request = w.recv_message()
                w.send_message(request[:2] + [b"answer"])
            got = c.expect_closed()
            c.close(), w.close()
            d.stop()
            if got == answer:
                return
            self.assertEqual(got, b"")
        self.fail("no request under way was answered")

    def test_a_request_that_never_ends_and_a_kick(self):
        d = self.start()
        w, c, _ = self.begin_a_request(d)
        self.kick(d)
        self.assertEqual(c.expect_closed(), b"")
        e = d.wait_event("peer_closed", side="frontend")
        self.assertEqual((e["reason"], e["detail"]), ("admin", "kicked"))
        self.assertEqual(w.readable_now(), b"")
        c.close()
        self.exchange(self.client(d), w)
        d.stop()

    def test_a_worker_that_hangs(self):
        """No reply comes: the client is closed at drain_timeout, or a second after the kick."""
        for end in ("stop", "kick"):
            d = self.start(drain="200ms")
            w, c = self.worker(d), self.client(d, socktype=b"REQ")
            c.send_message([b"", b"q"])
            w.recv_message()
            getattr(self, end)(d)
            self.assertEqual(c.expect_closed(), b"")
            c.close()
            if end == "stop":
                self.assertEqual(d.wait_event("drained")["given_up"], "1")
            w.close()
            d.stop()

    def test_a_rep_that_computes(self):
        """A reply that comes late in the drain reaches its client; another worker's does, too."""
        for d, end in self.ends(but=["kick"]):
            slow, quick = self.worker(d, socktype=b"REP"), self.worker(d, socktype=b"REP")
            c = self.client(d)
            for i in range(2):
                c.send_message([b"", b"%d" % i])
            job, request = slow.recv_message(), quick.recv_message()
            end(d)
            quick.send_message(request)
            d.wait_stats(lambda s: s.frontend["received"] == 1)
            slow.send_message(job)
            self.assertEqual(sorted(c.recv_message()[1] for _ in range(2)), [b"0", b"1"])
            self.assertEqual(c.expect_closed(), b"")
            c.close(), slow.close(), quick.close()

    def test_an_id_used_twice(self):
        """The client that took over the id gets the reply, and then the end."""
        for d, end in self.ends(but=["kick"]):
            w, old = self.worker(d), self.client(d, identity=b"me")
            old.send_message([b"", b"q"])
            request = w.recv_message()
            new = self.client(d, identity=b"me")
            old.expect_closed()
            old.close()
            end(d)
            w.send_message(request)
            self.assertEqual(new.recv_message(), [b"", b"q"])
            self.assertEqual(new.expect_closed(), b"")
            new.close(), w.close()

    def waits_for_nobody(self, d, end):
        """The worker is still connected and answers nothing: the drain ends nevertheless."""
        if end in (self.stop, self.restart):
            self.assertEqual(d.wait_event("drained")["given_up"], "0")

    def test_a_probe(self):
        """A message without an answer, as ZMQ_PROBE_ROUTER sends; its client disconnects again."""
        for d, end in self.ends(but=["drain", "kick"]):
            w, c = self.worker(d), self.client(d)
            c.send(frame(b""))
            self.assertEqual(w.recv_message()[1:], [b""])
            c.close()
            d.wait_event("peer_closed", side="frontend")
            end(d)
            self.waits_for_nobody(d, end)
            w.close()

    def test_one_way_traffic(self):
        """All messages arrive, and a sender that disconnected is not waited for."""
        for d, end in self.ends(but=["drain", "kick"]):
            w, c = self.worker(d), self.client(d)
            for i in range(100):
                c.send_message([struct.pack(">I", i)])
            c.close()
            end(d)
            for i in range(100):
                self.assertEqual(w.recv_message()[1], struct.pack(">I", i))
            self.waits_for_nobody(d, end)
            w.close()
