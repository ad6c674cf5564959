# SPDX-License-Identifier: MIT
"""The rounds: each a world of its own and a random course of events, from a seed."""

import os
import resource
import shutil
import stat
import time

import harness
import link
from world import Failure

LOCAL = "tcp://127.0.0.1:*"
CLIENTS = ("REQ", "DEALER", "DEALER", "ROUTER")
WORKERS = ("REP", "DEALER", "ROUTER")
# Short, so that every one of them runs out in a round of a few seconds.
SHORT = {"send_timeout": "700ms", "receive_timeout": "1500ms", "receive_deadline": "4s",
         "handshake_timeout": "2s", "heartbeat_interval": "400ms", "heartbeat_timeout": "2500ms",
         # finds a half-open peer that speaks ZMTP 3.0, and so has no heartbeat
         "tcp_keepalive_idle": "1s", "tcp_keepalive_interval": "1s", "tcp_keepalive_count": 4}


class Round:
    name = "?"
    defaults = SHORT
    clients, workers = 5, 4
    rate = 60.0

    def __init__(self, world, seconds):
        self.w, self.rng, self.seconds = world, world.rng, seconds

    # -- the set-up

    def frontend(self):
        return {"bind": [LOCAL], "routing_id": "broker",
                "when_full": self.rng.choice(("drop", "pause"))}

    def backend(self):
        return {"bind": [LOCAL]}

    def broker(self):
        return {}

    def sections(self):
        return {"broker": self.broker(), "defaults": dict(self.defaults),
                "frontend": self.frontend(), "backend": self.backend()}

    def daemon(self):
        return self.w.start_daemon(self.sections())

    def options(self):
        return {}

    def client(self, **more):
        spec = dict(endpoint=self.w.d.frontend, type=self.rng.choice(CLIENTS),
                    identity=self.rng.random() < 0.7, rate=self.rng.uniform(0.3, 1) * self.rate,
                    window=self.rng.choice((1, 4, 16, 64)), options=self.options())
        spec.update(more)
        return self.w.start("client", **spec)

    def worker(self, **more):
        spec = dict(endpoint=self.w.d.backend, type=self.rng.choice(WORKERS),
                    identity=self.rng.random() < 0.7, pace=self.rng.choice((0, 0, 0.01, 0.05)),
                    options=self.options())
        spec.update(more)
        return self.w.start("worker", **spec)

    def raw(self, role, *menu, **more):
        side = self.w.d.frontend if role == "rawclient" else self.w.d.backend
        return self.w.start(role, **dict(dict(endpoint=side, menu=menu), **more))

    def people(self):
        for _ in range(self.workers):
            self.worker()
        for _ in range(self.clients):
            self.client()

    # -- the course

    def run(self):
        self.daemon()
        self.people()
        self.play()
        self.w.finish()

    def play(self):
        """Faults at random moments, until the time is over."""
        until = time.monotonic() + self.seconds
        while time.monotonic() < until:
            time.sleep(min(self.rng.expovariate(1 / self.pause), 2))
            self.event()

    pause = 0.4

    def event(self):
        pass

    def some(self, *roles, spare=0):
        """One of the running peers of these roles, if `spare` others keep running."""
        found = self.w.running(*roles)
        return self.rng.choice(found) if len(found) > spare else None


class Calm(Round):
    """No faults at all: not one message may be missing anywhere."""

    name = "calm"
    defaults = {}
    rate = 100.0

    def sections(self):
        out = super().sections()
        out["frontend"]["bind"].append("ipc://%s/f" % self.w.dir)
        out["backend"]["bind"].append("ipc://%s/b" % self.w.dir)
        return out

    def people(self):
        super().people()
        self.client(endpoint="ipc://%s/f" % self.w.dir)
        self.worker(endpoint="ipc://%s/b" % self.w.dir)
        self.raw("rawclient", "plain", "plain")
        self.raw("rawworker", "plain")

    def run(self):
        super().run()
        s = self.w.final[-1]
        numbers = {s.backend[x] for x in ("received", "sent")} | \
            {s.frontend[x] for x in ("received", "sent")}
        if len(numbers) != 1 or s.backend["dropped"] or s.frontend["dropped"]:
            raise Failure("calm, but not everything went through: %s" % s.sides)


class Pressure(Round):
    """Every peer stops now and then, buffers are tiny, and none is closed for it: all messages
    wait, keep their order, and arrive.
    """

    name = "pressure"
    defaults = {"send_timeout": "0", "heartbeat_interval": "0", "send_buffer": 8192,
                "receive_buffer": 8192, "send_hwm_bytes": "40KiB", "receive_hwm_bytes": "32KiB"}
    rate = 150.0
    pause = 0.15

    def frontend(self):
        return dict(super().frontend(), when_full="pause")

    def options(self):
        return {"RCVHWM": 2, "RCVBUF": 8192}

    def client(self, **more):
        return super().client(window=64, **more)

    def people(self):
        super().people()
        self.raw("rawclient", "plain", "plain")

    def event(self):
        roll = self.rng.random()
        if roll < 0.1:
            for h in self.w.running("worker"):
                self.w.stop(h)
        elif roll < 0.6:
            h = self.some("client", "worker")
            if h:
                self.w.stop(h)
        else:
            for h in self.w.living():
                if h.stopped and self.rng.random() < 0.5:
                    h.cont()

    def run(self):
        super().run()
        s = self.w.final[-1]
        if s.backend["received"] != s.backend["sent"] or \
                s.frontend["received"] != s.frontend["sent"]:
            raise Failure("nobody left, and not everything went through: %s" % s.sides)


class Kills(Round):
    """Peers are stopped, continued, killed and restarted, some under their old name."""

    name = "kills"
    clients, workers = 6, 5
    pause = 0.2

    def people(self):
        super().people()
        self.bystanders = {self.worker().name, self.client().name}

    def event(self):
        w, roll = self.w, self.rng.random()
        h = self.some("client", "worker", spare=3)
        stopped = [x for x in w.living() if x.stopped]
        if roll < 0.35 and h and h.name not in self.bystanders:
            w.stop(h)
        elif roll < 0.6 and stopped:
            self.rng.choice(stopped).cont()
        elif roll < 0.85 and h and h.name not in self.bystanders:
            if self.rng.random() < 0.3:
                w.stop(h)
                time.sleep(self.rng.random() * 0.3)
            w.kill(h)
            time.sleep(self.rng.choice((0, 0, 0.2)))
            w.again(h)


class Flight(Kills):
    """The same, and no request of a client that stays is lost with its worker."""

    name = "flight"
    clients, workers = 6, 5

    def backend(self):
        rng = self.rng
        return dict(super().backend(), redeliver="yes", redeliver_limit=100,
                    answer_timeout=rng.choice(("300ms", "1s")),
                    balance=rng.choice(("round_robin", "least_outstanding")),
                    max_outstanding=rng.choice((0, 0, 1, 8)))

    def daemon(self):
        self.w.redeliver = True
        self.w.fault("redeliver")
        return super().daemon()

    def client(self, **more):
        # request ids: a worker that reconnects answers its old requests
        return super().client(ids=True, **more)

    def people(self):
        super().people()
        self.raw("rawclient", "plain", "plain", ids=True)
        self.raw("rawworker", "plain", "reset", "cut", "half_close")

    def event(self):
        super().event()
        # clients come and go in the round before; here most of them stay
        h = self.some("worker", spare=2)
        if h and h.name not in self.bystanders and self.rng.random() < 0.5:
            self.w.kill(h)
            self.w.again(h)


class Buffers(Round):
    """Slow readers, tiny buffers, resets, half-closes, messages that are cut, silence."""

    name = "buffers"
    clients, workers = 3, 3
    pause = 0.8

    def sections(self):
        out = super().sections()
        if self.rng.random() < 0.5:
            out["defaults"]["send_buffer"] = 8192
            out["defaults"]["receive_buffer"] = 8192
        if self.rng.random() < 0.5:
            out["frontend"]["send_hwm"] = self.rng.choice((5, 50))
            out["backend"]["send_hwm"] = self.rng.choice((5, 50))
        if self.rng.random() < 0.5:
            out["defaults"]["send_hwm_bytes"] = "64KiB"
            out["defaults"]["receive_hwm_bytes"] = "32KiB"
        # A client at its own limit may lose replies without a fault of its own.
        self.limited = "send_hwm" in out["frontend"] or "send_hwm_bytes" in out["defaults"]
        return out

    def people(self):
        super().people()
        if self.limited:
            self.w.fault("low_limit")
        self.raw("rawclient", "plain", "slow", "reset", "cut", big=0.1)
        self.raw("rawclient", "half_close", "half_close", "reset", "silent", "stuck")
        self.raw("rawclient", "deaf", "late", "pingless", "close", "close", big=0.1)
        self.raw("rawworker", "plain", "reset", "cut", "half_close")
        self.raw("rawworker", "slow", "deaf", "late", "late", "pingless", "stuck")

    def event(self):
        h = self.some("client", "worker")
        if h and self.rng.random() < 0.3:
            self.w.fault("slow", h)
            h.tell("slow", self.rng.choice((0.01, 0.1)))
        elif h and self.rng.random() < 0.3:
            h.tell("slow", 0)


class Link(Round):
    """A lossy, slow link between namespaces; it goes down and up; for some peers it dies."""

    name = "link"
    clients, workers = 4, 3
    rate = 25.0
    pause = 1.0

    def options(self):
        return {"HEARTBEAT_IVL": 500, "HEARTBEAT_TIMEOUT": 2000, "HEARTBEAT_TTL": 5000}

    def frontend(self):
        return dict(super().frontend(), bind=["tcp://%s:*" % link.DAEMON_IP])

    def backend(self):
        return {"bind": ["tcp://%s:*" % link.DAEMON_IP]}

    def source(self, endpoint, address):
        """libzmq connects from this address of ours."""
        return endpoint.replace("tcp://", "tcp://%s:0;" % address)

    def wire(self, ends):
        h = self.w.start("link", ends=ends)
        try:
            h.hear("wired")
        except Failure:
            raise link.NoLink("no sch_netem, and no TUN device can be made") from None
        return h

    def daemon(self):
        w = self.w
        self.lonely = ["10.117.0.%d" % i for i in range(20, 24)]
        w.netns = link.Namespaces(self.wire, ["10.117.0.2"] + self.lonely)
        w.notes.append("link by %s" % w.netns.kind)
        w.peer_netns = w.netns.peers
        binary = os.path.join(w.dir, "in-netns")
        with open(binary, "w", encoding="utf-8") as f:
            f.write('#!/bin/sh\nexec "%s" netns exec %s "%s" "$@"\n'
                    % (shutil.which("ip"), w.netns.daemon, harness.BINARY))
        os.chmod(binary, os.stat(binary).st_mode | stat.S_IXUSR)
        w.start_daemon(self.sections(), binary=binary)

    def people(self):
        super().people()
        self.raw("rawclient", "plain", "reset", "half_close", source="10.117.0.2", rate=10)
        self.raw("rawworker", "plain", source="10.117.0.2")
        self.doomed = []
        for i, address in enumerate(self.lonely):
            start, end = ((self.client, self.w.d.frontend), (self.worker, self.w.d.backend))[i % 2]
            self.doomed.append((address, start(endpoint=self.source(end, address))))
        self.w.fault("link")

    def event(self):
        roll = self.rng.random()
        if roll < 0.35:
            end = self.rng.randrange(2)
            self.w.counts["link down"] += 1
            self.w.netns.down(end)
            time.sleep(self.rng.choice((0.1, 0.5, 1.5)))
            self.w.netns.up()
        elif roll < 0.7 and self.doomed:
            address, h = self.doomed.pop(self.rng.randrange(len(self.doomed)))
            self.w.fault("dead_link", h)
            self.w.netns.forget(address)
            h.kill()


class Descriptors(Round):
    """No descriptors are left: connected peers are served, the others connect later."""

    name = "descriptors"
    clients, workers = 4, 3
    pause = 0.5

    def daemon(self):
        self.w.start_daemon(self.sections(), nofile=72)

    def people(self):
        super().people()
        self.storm = self.w.start("storm", go=False,
                                  endpoint=self.rng.choice((self.w.d.frontend, self.w.d.backend)),
                                  connections=120)

    def limit(self, count):
        """RLIMIT_NOFILE of the running daemon."""
        resource.prlimit(self.w.d.pid, resource.RLIMIT_NOFILE, (count, 72))

    def calm_down(self):
        """Wait until only our peers are connected."""
        self.storm.tell("quiet")
        self.w.d.wait_stats(lambda s: int(s.end["connections"]) ==
                            s.frontend["peers"] + s.backend["peers"], "the end of the storm")

    def served(self):
        """Peers that are connected are served meanwhile."""
        before = self.w.d.stats().frontend["sent"]
        self.w.d.wait_stats(lambda s: s.frontend["sent"] > before + 50, "replies in a storm")

    def play(self):
        w = self.w
        w.fault("storm")
        self.storm.tell("go")
        # silent connections make room for later ones
        w.d.wait_stats(lambda s: s.frontend["closed_over_limit"] + s.backend["closed_over_limit"] > 0,
                       "strangers that make room")
        self.served()
        super().play()
        # now the real limit: the kernel has no descriptor left
        self.calm_down()
        w.fault("no_descriptors")
        mark = w.d.mark()
        taken = set(map(int, os.listdir("/proc/%d/fd" % w.d.pid)))
        self.limit(min(set(range(len(taken) + 1)) - taken))
        self.storm.tell("go")
        w.d.wait_event("accept_paused", after=mark, reason="Too many open files")
        self.served()
        self.limit(72)
        self.storm.tell("quiet")

    def event(self):
        # clients and workers that connect meanwhile
        if len(self.w.living("client", "worker")) < 12:
            self.rng.choice((self.client, self.worker))()


class Memory(Round):
    """All peers of one side have stopped, and the others continue."""

    name = "memory"
    clients, workers = 3, 4
    limit = 4 << 20
    pause = 0.3

    def broker(self):
        return {"memory_limit": self.limit}

    def sections(self):
        out = super().sections()
        out["defaults"].update(receive_hwm_bytes="4MiB", send_hwm_bytes="64MiB")
        return out

    def people(self):
        super().people()
        self.w.fault("memory_limit")
        self.raw("rawclient", "deaf", "slow", big=0.5, rate=200)
        self.bulk = [self.client(type="DEALER", big=0.5, window=300, rate=300) for _ in range(2)]
        self.most = self.over = 0

    def look(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.most = max(self.most, self.w.d.rss())
            memory = int(self.w.d.stats().end["memory_bytes"])
            self.over = max(self.over, memory)
            time.sleep(0.05)

    def event(self):
        w, roll = self.w, self.rng.random()
        if roll < 0.3:
            # requests pile up
            for h in w.running("worker"):
                w.stop(h)
        elif roll < 0.6:
            # replies pile up
            h = self.some("client")
            if h:
                w.stop(h)
        elif roll < 0.8:
            for h in w.living():
                if h.stopped:
                    h.cont()
        self.look(self.rng.random())

    def play(self):
        for h in self.w.running("worker"):
            self.w.stop(h)
        self.look(2)
        super().play()

    def run(self):
        self.daemon()
        base = self.w.d.rss()
        self.people()
        self.play()
        reached = len(self.w.d.find_events("memory_limit")) + \
            len(self.w.d.find_events("peer_closed", reason="over_limit"))
        self.w.facts["times that memory_limit acted"] += reached
        self.w.notes.append("memory at most %.1f MiB, rss %.1f MiB more than at the start" % (
            self.over / 2**20, (self.most - base) / 2**20))
        # an eighth, and then one read of each connection
        if self.over > 2 * self.limit:
            raise Failure("memory_bytes=%d with a memory_limit of %d" % (self.over, self.limit))
        if not self.w.sanitized() and self.most > base + 4 * self.limit:
            raise Failure("resident %d bytes more than at the start, with a memory_limit of %d"
                          % (self.most - base, self.limit))
        self.w.finish()


class Term(Round):
    """SIGTERM in mid-traffic, and a new daemon on the same ports, repeatedly."""

    name = "term"
    clients, workers = 5, 4
    rate = 100.0

    def broker(self):
        return {"drain_timeout": "1500ms"}

    def worker(self, **more):
        # slow enough to have pending requests whenever the signal comes
        return super().worker(pace=0.15, **more)

    def daemon(self):
        self.again = self.sections()
        d = self.w.start_daemon(self.again)
        self.again["frontend"]["bind"] = [d.frontend]
        self.again["backend"]["bind"] = [d.backend]

    def people(self):
        super().people()
        # clients with replies to read and requests on the way whenever the stop comes, but no
        # more of them than can be read in the second that the daemon waits
        self.raw("rawclient", "plain", "plain", rate=100, nap=0.01, tiny=True, big=0, window=4,
                 kinds="h")

    def term(self, stuck):
        """One stop.  The line `drained` must agree with the counts from outside."""
        w = self.w
        w.fault("term")
        mark = w.d.mark()
        before = w.d.stats()
        drained = w.stop_daemon()
        answered, given_up = int(drained["answered"]), int(drained["given_up"])
        w.facts["answered in a drain"] += answered
        w.facts["given up in a drain"] += given_up
        f, b = w.final[-1].frontend, w.final[-1].backend
        if answered > f["received"] - before.frontend["received"]:
            raise Failure("drained: answered=%d, but only %d replies came since"
                          % (answered, f["received"] - before.frontend["received"]))
        if given_up == 0 and not stuck:
            # Every accepted request was answered; only those that came after the drain are
            # dropped.  (A worker that had stopped may answer requests of an earlier daemon.)
            accepted, replies = b["received"] - b["dropped"], f["sent"] + f["dropped"]
            if b["dropped"] != b["drop_shutdown"] or accepted > replies or \
                    accepted < replies and not w.counts["stop"]:
                raise Failure("drained: nothing given up, but %s %s" % (b, f))
        if not stuck and given_up and not w.d.find_events("peer_closed", after=mark,
                                                          reason="send_timeout"):
            raise Failure("drained: %d given up, and every worker was well" % given_up)
        if stuck and given_up + answered == 0 and before.backend["queued"]:
            raise Failure("drained: %s, with a worker that had stopped" % drained)

    def play(self):
        until = time.monotonic() + self.seconds
        while time.monotonic() < until:
            time.sleep(self.rng.uniform(0.3, 1.5))
            h = self.some("worker") if self.rng.random() < 0.4 else None
            if h:
                self.w.stop(h)
                time.sleep(self.rng.random() * 0.3)
            self.term(h is not None)
            if h:
                h.cont()
            self.w.start_daemon(self.again)


class Everything(Kills):
    """All of these at once."""

    name = "everything"
    clients, workers = 3, 3

    def broker(self):
        return {"drain_timeout": "1s", "memory_limit": "8MiB"}

    def daemon(self):
        self.again = self.sections()
        self.again["frontend"]["send_hwm"] = 200
        d = self.w.start_daemon(self.again, nofile=96)
        self.again["frontend"]["bind"] = [d.frontend]
        self.again["backend"]["bind"] = [d.backend]

    def people(self):
        super().people()
        self.w.fault("memory_limit")
        self.w.fault("low_limit")
        self.raw("rawclient", "plain", "slow", "reset", "cut", "half_close", big=0.1)
        self.raw("rawworker", "plain", "slow", "reset", "half_close", "pingless", "late")
        self.storm = self.w.start("storm", endpoint=self.w.d.frontend, connections=100, go=False)
        self.raging = False

    def event(self):
        roll = self.rng.random()
        if roll < 0.7:
            super().event()
        elif roll < 0.85:
            self.raging = not self.raging
            if self.raging:
                self.w.fault("storm")
            self.storm.tell("go" if self.raging else "quiet")
        elif roll < 0.9:
            self.w.fault("term")
            self.w.stop_daemon()
            self.w.start_daemon(self.again, nofile=96)
        else:
            h = self.some("client", "worker")
            if h:
                self.w.fault("slow", h)
                h.tell("slow", 0.02)


ROUNDS = (Calm, Pressure, Kills, Flight, Buffers, Link, Descriptors, Memory, Term, Everything)
