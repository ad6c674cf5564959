# SPDX-License-Identifier: MIT
"""No request is lost with its worker, under an open-loop load.

player.c plays the clients, and each worker is a process of its own, so that it can be stopped and
killed.  Whatever happens to the workers, every request gets exactly one reply; and the daemon's
counters agree with the players'.
"""

import json
import os
import signal
import subprocess
import threading
import time

import harness
from harness import Case, DEADLINE

PLAYER = os.environ.get("PLAYER") or os.path.join(os.path.dirname(harness.BINARY),
                                                  "tests", "flight", "player")
RATE = int(os.environ.get("FLIGHT_RATE", "20000"))
TYPES = ("DEALER", "REP", "ROUTER")
REQUEST_ID = 1           # player.c: all requests can be told from each other
NOTHING = 2              # no delimiter: a REP cannot answer these
BIG = {"size": 100000, "rcvbuf": 8192, "rate": 200}    # larger than both kernels' buffers
SMALL_BUFFER = {"send_buffer": "8192"}
ANSWER_TIMEOUT = {"redeliver": "yes", "answer_timeout": "1s"}


class Player:
    """One process of the player; its output is kept by line."""

    def __init__(self, role, endpoint, **options):
        argv = [PLAYER, role, endpoint.split("//")[1]]
        argv += ["%s=%s" % item for item in options.items()]
        self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = []
        self.over = False
        self.cond = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        with self.proc.stdout as out:
            for line in out:
                with self.cond:
                    self.lines.append(line.rstrip("\n"))
                    self.cond.notify_all()
        with self.cond:
            self.over = True
            self.cond.notify_all()

    def wait_line(self, text, count=1):
        until = time.monotonic() + 2 * DEADLINE
        with self.cond:
            while self.lines.count(text) < count:
                left = until - time.monotonic()
                if self.over or left <= 0:
                    raise AssertionError("a player never said %r: %s" % (text, self.lines[-5:]))
                self.cond.wait(left)

    def tell(self, text):
        self.proc.stdin.write(text + "\n")
        self.proc.stdin.flush()

    def signal(self, number):
        self.proc.send_signal(number)

    def end(self):
        """The counts, once everything that was on its way has arrived."""
        self.proc.stdin.close()
        status = self.proc.wait(DEADLINE)
        self.reader.join(DEADLINE)
        assert status == 0, "a player ended with status %d" % status
        return json.loads(self.lines[-1])

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        self.reader.join(DEADLINE)
        if not self.proc.stdin.closed:
            self.proc.stdin.close()


class Flight(Case):
    def begin(self, workers=6, backend=None, size=64, rate=RATE, form=-1, **options):
        """A daemon, its workers, and clients that send."""
        settings = dict(ANSWER_TIMEOUT)
        settings.update(backend or {})
        self.rate = rate
        self.types = tuple(t for t in TYPES if form != NOTHING or t != "REP")
        self.d = self.daemon(backend=settings, broker={"log_level": "info"})
        self.workers = []
        for _ in range(workers):
            self.worker(**options)
        self.clients = self.more_clients(rate=rate, size=size, form=form)
        if workers:
            self.pass_on(rate // 4)

    def more_clients(self, **options):
        clients = Player("clients", self.d.frontend, **options)
        self.addCleanup(clients.kill)
        clients.wait_line("up")
        clients.tell("go")
        return clients

    def worker(self, delay=5, **options):
        """Add a worker, and wait until it is ready; socket types alternate."""
        mark = self.d.mark()
        w = Player("worker", self.d.backend, delay=delay,
                   type=self.types[len(self.workers) % len(self.types)], **options)
        self.addCleanup(w.kill)
        self.workers.append(w)
        self.d.wait_event("peer_ready", after=mark, side="backend")
        return w

    def pass_on(self, count):
        """Wait until that many more replies have reached the clients."""
        before = self.d.stats().frontend["sent"]
        self.d.wait_stats(lambda s: s.frontend["sent"] >= before + count, "%d replies" % count)

    def seconds_of_load(self, count):
        return int(count * self.rate)

    def stop_one(self, w):
        """Stop a worker, and wait until the daemon has noticed."""
        mark = self.d.mark()
        w.signal(signal.SIGSTOP)
        self.d.wait_event("worker_suspect", after=mark)

    def finish(self, late=False, others=False):
        """Every request has its reply, and no second one comes; the counters agree."""
        self.clients.tell("stop")
        self.clients.wait_line("answered")
        # Requests whose replies never come are forgotten with their worker, and other replies
        # are waited for: then no request is kept, and no reply can come any more.
        self.d.wait_stats(lambda s: s.backend["outstanding"] == 0 and s.backend["queued"] == 0)
        stats = self.d.wait_stats(lambda s: s.backend["kept_bytes"] == 0 and
                                  s.frontend["queued"] == 0, "an end of what is kept")
        counts = self.clients.end()
        back, front = stats.backend, stats.frontend
        self.assertEqual(counts["answered"], counts["made"])
        self.assertEqual((counts["twice"], counts["deadly_answered"]), (0, 0))
        self.assertGreater(counts["made"], 0)
        if others:               # clients that disconnected: their counts are not known exactly
            return stats
        self.assertEqual(back["received"], counts["made"] + counts["deadly"])
        self.assertEqual(front["sent"], counts["made"])
        self.assertEqual(front["dropped"], front["drop_late_reply"])
        self.assertEqual(back["drop_undeliverable"], counts["deadly"])
        self.assertEqual(back["dropped"], counts["deadly"] + back["drop_late_reply"])
        if not late and not self.d.find_events("worker_suspect"):
            self.assertEqual(front["drop_late_reply"], 0)
        return stats


class Stopped(Flight):
    """Workers that stop, and return or not."""

    def test_continued(self):
        """For five seconds' worth of requests: its late replies are dropped, and it is reinstated."""
        self.begin()
        w = self.workers[0]
        self.stop_one(w)
        self.pass_on(self.seconds_of_load(4))
        mark = self.d.mark()
        w.signal(signal.SIGCONT)
        self.d.wait_event("worker_returned", after=mark)
        s = self.finish(late=True)
        self.assertGreater(s.backend["redelivered"], 0)
        self.assertGreater(s.frontend["drop_late_reply"], 0)
        # the last worker's requests were redelivered once, and returned once more
        self.assertLessEqual(s.frontend["drop_late_reply"],
                             s.backend["redelivered"])
        self.assertEqual(s.backend["suspects"], 0)

    def test_continued_without_delimiters(self):
        """Requests that only workers without REP's rules can answer."""
        self.begin(form=NOTHING)
        w = self.workers[0]
        self.stop_one(w)
        self.pass_on(self.seconds_of_load(1))
        mark = self.d.mark()
        w.signal(signal.SIGCONT)
        self.d.wait_event("worker_returned", after=mark)
        self.assertGreater(self.finish(late=True).backend["redelivered"], 0)

    def test_killed_later(self):
        self.begin()
        w = self.workers[1]
        self.stop_one(w)
        self.pass_on(self.seconds_of_load(1))
        w.kill()
        s = self.finish()
        self.assertGreater(s.backend["redelivered"], 0)

    def test_killed_before_it_was_suspect(self):
        self.begin(backend={"answer_timeout": "60s", "silent_after": "500ms"})
        w = self.workers[2]
        w.signal(signal.SIGSTOP)
        self.d.wait_stats(lambda s: s.backend["silent"] == 1)   # it has some requests
        w.kill()
        s = self.finish()
        self.assertGreater(s.backend["redelivered"], 0)
        self.assertEqual(self.d.find_events("worker_suspect"), [])

    def test_stays_stopped(self):
        """All others continue, and do not wait for it."""
        self.begin(backend={"balance": "least_outstanding"})
        self.stop_one(self.workers[0])
        self.pass_on(self.seconds_of_load(1))
        self.clients.tell("stop")
        self.clients.wait_line("answered")
        self.assertEqual(self.d.stats().backend["suspects"], 1)
        self.workers[0].kill()
        self.finish()

    def test_all_of_them(self):
        self.begin(workers=3)
        for w in self.workers:
            w.signal(signal.SIGSTOP)
        self.d.wait_stats(lambda s: s.backend["suspects"] == 3)
        for w in self.workers:
            w.signal(signal.SIGCONT)
        self.pass_on(self.seconds_of_load(1))
        self.finish(late=True)

    def test_poisoned(self):
        """send_timeout closes it in the middle of a request; continued, it reconnects."""
        self.begin(workers=5, backend=dict(
            SMALL_BUFFER, answer_timeout="60s", send_timeout="1s"), **BIG)
        w = self.workers[0]
        mark = self.d.mark()
        w.signal(signal.SIGSTOP)
        self.d.wait_event("peer_closed", after=mark, side="backend", reason="send_timeout",
                          poisoned="yes")
        self.pass_on(self.seconds_of_load(0.5))
        w.signal(signal.SIGCONT)
        w.wait_line("up", 2)
        self.pass_on(self.seconds_of_load(0.5))
        self.finish()

    def half_written(self, send_timeout="3s"):
        """A worker that has stopped in the middle of a request, and is suspect."""
        self.begin(workers=5, backend=dict(SMALL_BUFFER, send_timeout=send_timeout), **BIG)
        w = self.workers[0]
        self.stop_one(w)
        return w

    def test_half_written_and_continued(self):
        """A request that is partly sent cannot be requeued until its worker is closed."""
        w = self.half_written(send_timeout="60s")
        w.signal(signal.SIGCONT)
        self.pass_on(self.seconds_of_load(0.5))
        self.finish(late=True)

    def test_half_written_and_cancelled(self):
        w = self.half_written()
        self.d.wait_event("peer_closed", side="backend", reason="send_timeout", poisoned="yes")
        self.pass_on(self.seconds_of_load(0.5))
        self.finish(late=True)
        self.assertIsNone(w.proc.poll())

    def test_half_written_and_killed(self):
        w = self.half_written(send_timeout="60s")
        mark = self.d.mark()
        w.kill()
        self.d.wait_event("peer_closed", after=mark, side="backend", poisoned="yes")
        self.pass_on(self.seconds_of_load(0.5))
        self.finish(late=True)


class Gone(Flight):
    """Workers whose connection ends."""

    def test_killed(self):
        """With pending requests."""
        self.begin(delay=20)
        for w in self.workers[:2]:
            w.kill()
            self.pass_on(self.seconds_of_load(0.5))
        s = self.finish()
        self.assertGreater(s.backend["redelivered"], 0)

    def test_in_the_middle_of_a_reply(self):
        self.begin(workers=4)
        cut = self.worker(mode="cut", every=500, delay=2)
        cut.wait_line("up", 4)
        s = self.finish()
        self.assertGreater(s.backend["redelivered"], 0)

    def test_restarted_every_second(self):
        self.begin(workers=4, delay=10)
        for i in range(4):
            self.workers[i].kill()
            self.worker(delay=10)
            self.pass_on(RATE)
        self.finish()

    def test_all_of_them_for_three_seconds(self):
        self.begin(workers=4, delay=10)
        before = self.d.stats().backend["received"]
        for w in self.workers:
            w.kill()
        self.d.wait_stats(lambda s: s.backend["received"] >= before + self.seconds_of_load(3),
                          "requests without workers")
        for _ in range(4):
            self.worker()
        self.finish()


class Odd(Flight):
    """Workers that misbehave."""

    def test_out_of_order(self):
        """All workers; identical requests are answered nevertheless."""
        self.begin(mode="backwards", delay=10)
        self.pass_on(self.seconds_of_load(0.5))
        self.finish()

    def test_out_of_order_and_killed(self):
        """With pending requests."""
        self.begin(mode="backwards", delay=10, form=REQUEST_ID)
        self.pass_on(self.seconds_of_load(0.5))
        self.workers[0].kill()
        self.pass_on(self.seconds_of_load(0.5))
        self.finish()

    def test_answers_twice(self):
        """Where requests look alike, its second answer is the one to the next of them: RFC 28's
        envelope says no more.  Where they do not, it is late."""
        self.begin(workers=4, form=REQUEST_ID)
        twice = self.worker(mode="twice")
        self.pass_on(self.seconds_of_load(1))
        self.assertIsNone(twice.proc.poll())
        s = self.finish(late=True)
        self.assertGreater(s.frontend["drop_late_reply"], 0)
        self.assertEqual(s.backend["redelivered"], 0)

    def test_never_answers(self):
        self.begin(workers=4)
        mark = self.d.mark()
        mute = self.worker(mode="mute")
        self.d.wait_event("worker_suspect", after=mark)
        self.pass_on(self.seconds_of_load(1))
        self.clients.tell("stop")
        self.clients.wait_line("answered")
        mute.kill()
        s = self.finish()
        self.assertGreater(s.backend["redelivered"], 0)

    def test_a_request_that_kills(self):
        """A request kills each worker that gets it: redeliver_limit of them, and no more."""
        self.begin(workers=8, mode="die", backend={"redeliver_limit": 3})
        mark = self.d.mark()
        self.clients.tell("die")
        self.d.wait_event("peer_closed", after=mark, side="backend", count=3)
        self.d.wait_stats(lambda s: s.backend["drop_undeliverable"] == 1)
        self.pass_on(self.seconds_of_load(1))
        self.finish()
        dead = [w for w in self.workers if w.proc.poll() is not None]
        self.assertEqual([w.proc.returncode for w in dead], [1, 1, 1])


class ClientsGo(Flight):
    def test_some_of_them_under_load(self):
        """Clients are killed repeatedly with requests in flight: the others notice nothing."""
        self.begin(workers=4, delay=20, rate=RATE // 2)
        for _ in range(3):
            others = self.more_clients(rate=RATE // 2, clients=5)
            self.pass_on(RATE // 2)
            others.kill()
            self.d.wait_stats(lambda s: s.frontend["peers"] == 12)
        self.workers[0].kill()
        self.pass_on(RATE // 2)
        s = self.finish(late=True, others=True)
        self.assertGreater(s.frontend["drop_unroutable"] + s.frontend["drop_peer_gone"], 0)

    def test_with_thousands_in_flight(self):
        """All clients disconnect: their requests are forgotten, and later clients are served."""
        self.begin(workers=3)
        for w in self.workers:
            w.signal(signal.SIGSTOP)
        self.d.wait_stats(lambda s: s.backend["outstanding"] > 2000 and
                          s.backend["kept_bytes"] > 2000 * 64)
        self.clients.kill()
        self.d.wait_stats(lambda s: s.frontend["peers"] == 0)
        for w in self.workers:
            w.kill()
        s = self.d.wait_stats(lambda s: s.backend["kept_bytes"] == 0)
        self.assertEqual((s.backend["outstanding"], s.backend["queued"]), (0, 0))
        self.assertGreater(s.backend["drop_peer_gone"], 2000)
        self.assertEqual(s.backend["dropped"], s.backend["drop_peer_gone"])
        self.worker()
        c = self.client(self.d)
        c.send_message([b"", b"still there?"])
        self.assertEqual(c.recv_message(), [b"", b"still there?"])
