# SPDX-License-Identifier: MIT
"""Which worker gets the next request, and which requests count."""

import select
import time

from harness import Case

QUIET = {"heartbeat_interval": 0}                # nothing to read but messages


class Waiting(Case):
    def waiting(self, workers):
        """Workers that have something to read."""
        buffered = [w for w in workers if w.buf]
        if buffered:
            return buffered
        ready, _, _ = select.select([w.sock for w in workers], [], [], workers[0].deadline)
        self.assertTrue(ready, "no worker gets a request")
        return [w for w in workers if w.sock in ready]


class Loops(Waiting):
    """Closed loops of clients: each asks again as soon as it has its reply."""

    def turn(self, clients, workers, asked):
        """Each worker that has a request answers it; its client asks again. Returns how many."""
        count = 0
        for w in self.waiting(workers):
            parts = w.recv_message()
            w.send_message(parts[:-1] + [b"re " + parts[-1]])
            c = clients[parts[0]]
            self.assertEqual(c.recv_message(), [b"", b"re " + parts[-1]])
            asked[parts[0]] += 1
            c.send_message([b"", b"%d" % asked[parts[0]]])
            count += 1
        return count

    def loop(self, d, count):
        clients = {b"c%d" % i: self.client(d, b"REQ", identity=b"c%d" % i) for i in range(count)}
        for c in clients.values():
            c.send_message([b"", b"0"])
        d.wait_stats(lambda s: s.backend["sent"] == count)
        return clients, dict.fromkeys(clients, 0)


class Hangs(Loops):
    def test_one_of_three_workers_hangs(self):
        """Only clients whose requests the hanging worker holds wait; the others go on."""
        d = self.daemon(defaults=QUIET)
        hangs, *healthy = [self.worker(d, b"REP") for _ in range(3)]
        clients, asked = self.loop(d, 5)
        done = 0
        while done < 300:
            done += self.turn(clients, healthy, asked)
        d.sync()
        held = []
        while hangs.readable_now():
            held.append(hangs.recv_message())
        self.assertIn(len(held), (1, 2))
        stuck = {parts[0] for parts in held}
        self.assertEqual({name for name in clients if asked[name] == 0}, stuck)
        for parts in held:                           # the worker goes on: nothing is lost
            hangs.send_message(parts)
            clients[parts[0]].recv_message()

    def test_a_newcomer_beside_busy_workers(self):
        """The newcomer gets its share of new requests, and none waits at another worker for it."""
        d = self.daemon(defaults=QUIET)
        old = [self.worker(d, b"REP") for _ in range(2)]
        clients, asked = self.loop(d, 6)
        mark = d.mark()
        new = self.worker(d, b"REP")
        d.wait_event("peer_ready", after=mark, side="backend")
        got = 0
        while got < 50:                              # one of the old ones hangs from now on
            w = self.waiting([old[0], new])[-1]
            got += w is new
            self.turn(clients, [w], asked)


class OneWay(Loops):
    def counts(self, workers):
        counts = []
        for w in workers:
            counts.append(0)
            while w.readable_now():
                w.recv_message()
                counts[-1] += 1
        return counts

    def test_each_has_as_many(self):
        """No request is ever answered; a worker that comes late gets its share from then on."""
        for socktype in (b"DEALER", b"ROUTER"):
            with self.subTest(socktype):
                d = self.daemon(defaults=QUIET)
                workers = [self.worker(d, socktype) for _ in range(3)]
                c = self.client(d)
                for i in range(300):
                    c.send_message([b"", b"%d" % i])
                d.wait_stats(lambda s: s.backend["sent"] == 300)
                self.assertEqual(self.counts(workers), [100] * 3)
                mark = d.mark()
                workers.append(self.worker(d, socktype))
                d.wait_event("peer_ready", after=mark, side="backend")
                for i in range(400):
                    c.send_message([b"", b"%d" % i])
                d.wait_stats(lambda s: s.backend["sent"] == 700)
                self.assertEqual(self.counts(workers), [100] * 4)

    def test_several_answers_and_none(self):
        """No count is ever below zero: a worker that answers twice does not get all requests."""
        d = self.daemon(defaults=QUIET)
        twice, once = self.worker(d), self.worker(d)
        c = self.client(d, identity=b"c")
        for i in range(100):
            c.send_message([b"", b"%d" % i])
            for w in self.waiting([twice, once]):
                parts = w.recv_message()
                for _ in range(2 if w is twice else 1):
                    w.send_message(parts)
                    c.recv_message()
        s = d.stats()
        self.assertEqual(s.backend["outstanding"], 0)
        for i in range(2):
            c.send_message([b"", b"%d" % i])
        d.wait_stats(lambda s: s.backend["sent"] == 102)
        self.assertEqual(self.counts([twice, once]), [1, 1])


class Silent(Waiting):
    def test_a_worker_that_hangs_is_shown(self):
        """A worker that holds a request and sends nothing is reported until it answers."""
        d = self.daemon(backend={"silent_after": "100ms"})
        w = self.worker(d)
        c = self.client(d, identity=b"c")
        c.send_message([b"", b"x"])
        got = w.recv_message()
        d.wait_event("worker_silent", outstanding="1")
        self.assertEqual(d.stats().backend["silent"], 1)
        w.send_message(got)
        d.wait_event("worker_speaks")
        self.assertEqual(d.stats().backend["silent"], 0)

    def test_who_is_frozen_does_not_speak(self):
        """Its requests are requeued repeatedly; it is reported once, until it sends a message."""
        d = self.daemon(defaults=QUIET, backend={"redeliver": "yes", "answer_timeout": "300ms",
                                                 "silent_after": "100ms"})
        frozen = self.worker(d)
        c = self.client(d, identity=b"c")
        c.send_message([b"", b"x"])
        got = frozen.recv_message()
        d.wait_event("worker_silent", outstanding="1")
        w = self.worker(d)                           # it gets what was requeued
        self.pass_on(c, w)
        trials = 0
        while trials < 2:
            c.send_message([b"", b"y"])
            who = self.waiting([frozen, w])[0]
            if who is frozen:
                trials += 1
                who.recv_message()
                who = w                              # it gets this one, too
            self.pass_on(c, who)
            time.sleep(0.02)
        self.assertEqual(len(d.find_events("worker_trial")), 2)
        self.assertEqual(len(d.find_events("worker_silent")), 1)
        self.assertEqual(d.find_events("worker_speaks"), [])
        self.assertEqual(d.stats().backend["silent"], 1)
        frozen.send_message(got)
        self.assertEqual(d.wait_event("worker_speaks")["peer"], d.find_events("worker_silent")[0]["peer"])
        self.assertEqual(d.stats().backend["silent"], 0)

    @staticmethod
    def pass_on(client, worker):
        worker.send_message(worker.recv_message())
        client.recv_message()


class Contested(Case):
    def test_two_with_one_id(self):
        """The third claim to the id of a client that is heard is refused, and logged once."""
        d = self.daemon(defaults=QUIET)
        w = self.worker(d)
        for i in range(3):
            holder = self.client(d, identity=b"one")
        d.wait_event("peer_closed", side="frontend", reason="duplicate_routing_id", count=2)
        self.exchange(holder, w)                     # it is heard
        late = self.client(d, identity=b"one")
        late.expect_closed()
        self.exchange(holder, w)
        self.assertEqual(len(d.find_events("routing_id_contested")), 1)

    def test_one_that_comes_and_goes(self):
        """A takeover from a live client is logged even if the newcomer disconnects at once."""
        d = self.daemon(defaults=QUIET)
        living = self.client(d, identity=b"one")
        late = self.client(d, identity=b"one")
        late.close()
        living.expect_closed()
        d.wait_event("routing_id_contested", newcomer="-")

    def test_one_that_comes_back(self):
        """A client's old connection ends a moment after its new one is ready, repeatedly."""
        d = self.daemon(defaults=QUIET)
        w = self.worker(d)
        old = self.client(d, identity=b"one")
        for i in range(10):
            self.exchange(old, w, b"%d" % i)
            new = self.client(d, identity=b"one")
            self.exchange(new, w, b"it has the id")
            old.close()
            old = new
