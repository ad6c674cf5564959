# SPDX-License-Identifier: MIT
"""One round's world: the daemon, its peers, the faults, and how it comes to rest."""

import collections
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import harness
from harness import Daemon

HERE = os.path.dirname(os.path.realpath(__file__))
REST = 90.0              # seconds until a world that does not come to rest is a failure
FRESH = 5                # exchanges of each client at the end
IDLE_CPU = 0.2           # processor time of one second, for an idle daemon
ASAN = "__asan_init"


class Failure(Exception):
    """The round failed; the reason has already been printed."""


class Zygote:
    """The process that forks peers (see peers.py)."""

    def __init__(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock = ours
        self.proc = subprocess.Popen(
            ["/usr/bin/python3", os.path.join(HERE, "peers.py"), str(theirs.fileno())],
            stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()
        ours.settimeout(60)

    def start(self, spec):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(self.sock, [json.dumps({"do": "start", "spec": spec}).encode()],
                        [theirs.fileno()])
        theirs.close()
        ours.settimeout(60)
        return int(self.sock.recv(100)), ours

    def wait(self, pid, block):
        """The exit status, or None while it runs."""
        self.sock.send(json.dumps({"do": "wait", "pid": pid, "block": block}).encode())
        got, status = self.sock.recv(100).split()
        return os.waitstatus_to_exitcode(int(status)) if int(got) else None

    def close(self):
        self.sock.close()
        self.proc.kill()
        self.proc.wait()


class Handle:
    """One peer process.  Its pid is not used again until we have waited, by the zygote."""

    def __init__(self, world, spec):
        self.world, self.spec, self.name = world, spec, spec["name"]
        self.pid, self.control = world.zygote.start(spec)
        self.alive, self.stopped = True, False
        self.hear("up")

    def hear(self, word):
        """The answer that begins with `word`; others before it are old."""
        until = time.monotonic() + REST
        while True:
            ready = select.select([self.control], [], [], max(0, until - time.monotonic()))[0]
            if not ready:
                raise Failure("%s did not say %r for %d s" % (self.name, word, REST))
            try:
                got = self.control.recv(4096).decode().split()
            except ConnectionResetError:
                got = None
            if not got:
                raise Failure("%s ended by itself" % self.name)
            if got[0] == word:
                return got[1:]

    def tell(self, *words):
        try:
            self.control.send(" ".join(map(str, words)).encode())
        except OSError:
            pass

    def stop(self):
        os.kill(self.pid, signal.SIGSTOP)
        self.stopped = True

    def cont(self):
        os.kill(self.pid, signal.SIGCONT)
        self.stopped = False

    def kill(self):
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
            self.world.zygote.wait(self.pid, True)
            self.gone()

    def gone(self):
        self.alive = False
        self.control.close()


class World:
    def __init__(self, zygote, rng):
        self.zygote, self.rng = zygote, rng
        self.dir = tempfile.mkdtemp(prefix="bulkhead-chaos-")
        self.daemons = []
        self.final = []              # the last counters of each daemon
        self.settled_at = None       # the place in the last daemon's log where it was at rest
        self.handles = []
        self.faults = []             # (time, kind, name of the peer or "all")
        self.counts = collections.Counter()      # of faults
        self.facts = collections.Counter()       # worth a line in the table
        self.serial = collections.Counter()
        self.base_fds = None
        self.netns = None
        self.peer_netns = None
        self.notes = []
        self.redeliver = False       # no request is lost with its worker

    # -- the daemon

    def start_daemon(self, sections, nofile=None, binary=None):
        d = Daemon(sections, nofile=nofile, binary=binary)
        self.daemons.append(d)
        if self.base_fds is None:        # later ones may have peers already
            self.base_fds = d.fds()
        return d

    @property
    def d(self):
        return self.daemons[-1]

    def stop_daemon(self):
        """SIGTERM; the end must be clean.  Keeps the last counters."""
        d = self.d
        self.final.append(d.stop())
        drained = d.find_events("drained")
        if len(drained) != 1:
            raise Failure("%d lines event=drained" % len(drained))
        return drained[0]

    # -- peers

    def start(self, role, name=None, **spec):
        """Start a peer process.  With the name of an ended one: the same routing id again."""
        if name is None:
            letter = {"client": "c", "worker": "w", "rawclient": "rc", "rawworker": "rw"}.get(
                role, role)
            self.serial[letter] += 1
            name = "%s%d" % (letter, self.serial[letter])
        self.serial[name] += 1
        spec.update(role=role, name=name, seed=self.rng.getrandbits(48),
                    journal=os.path.join(self.dir, "%s.%d" % (name, self.serial[name])))
        if spec.get("identity") and spec.get("type") != "REP":    # a REP announces no id
            spec["identity"] = name
            spec["stream"] = "%s.%d" % (name, self.serial[name])
        else:
            spec["identity"] = None
            spec["stream"] = "%s-%d" % (name, self.serial[name])
        if self.peer_netns and role != "link":
            spec["netns"] = self.peer_netns
        h = Handle(self, spec)
        self.handles.append(h)
        return h

    def again(self, h, **changes):
        """A new process in place of one that was killed."""
        spec = dict(h.spec, **changes)
        for key in ("seed", "journal", "stream"):
            spec.pop(key)
        role, name = spec.pop("role"), spec.pop("name")
        return self.start(role, name=name if spec.get("identity") else None, **spec)

    def living(self, *roles):
        return [h for h in self.handles if h.alive and (not roles or h.spec["role"] in roles)]

    def running(self, *roles):
        return [h for h in self.living(*roles) if not h.stopped]

    def fault(self, kind, h=None):
        self.faults.append((time.monotonic(), kind, h.name if h else "all"))
        self.counts[kind] += 1

    def stop(self, h):
        self.fault("stop", h)
        h.stop()

    def kill(self, h):
        self.fault("kill", h)
        h.kill()

    # -- rest

    def heal(self):
        for h in self.living():
            if h.stopped:
                h.cont()
            h.tell("slow", 0)
            h.tell("quiet")

    def at_rest(self):
        """How many peers are alive on each side, once no peer receives anything any more."""
        sides = {"frontend": 0, "backend": 0}
        peers = self.living("client", "rawclient", "worker", "rawworker")
        for h in peers:
            h.tell("idle")
        for h in peers:
            side = "frontend" if h.spec["role"].endswith("client") else "backend"
            sides[side] += int(h.hear("idle")[0])
        return sides

    def settle(self):
        """Wait until every message has arrived and none is left in the daemon."""
        until = time.monotonic() + REST
        before = None
        while True:
            live = self.at_rest()
            s = self.d.stats()
            now = [(side, s.side(side)["received"], s.side(side)["sent"], s.side(side)["dropped"])
                   for side in live]
            if (now == before and all(s.side(x)["queued"] == 0 for x in live) and
                    not (self.redeliver and s.backend["outstanding"]) and
                    all(s.side(x)["peers"] == live[x] for x in live)):
                return live
            before = now
            if time.monotonic() > until:
                raise Failure("never at rest: peers alive %s, counters %s" % (live, s.sides))

    def fresh(self):
        clients = self.living("client", "rawclient")
        for h in clients:
            h.tell("fresh", FRESH)
        for h in clients:
            h.hear("fresh")

    def check_idle(self, live):
        tick = os.sysconf("SC_CLK_TCK")
        used = []
        for _ in range(3):
            before = self.d.cpu()[0]
            time.sleep(1)
            used.append((self.d.cpu()[0] - before) / tick)
            if used[-1] <= IDLE_CPU:
                break
        else:
            raise Failure("an idle daemon used %s s of CPU time in a second" % used)
        fds = self.d.fds()
        if fds != self.base_fds + sum(live.values()):
            raise Failure("%d descriptors open: %d at the start, and %s peers"
                          % (fds, self.base_fds, live))

    def finish(self):
        """End all faults; from here on everything must work.  Stops the daemon at the end."""
        times = [time.monotonic()]
        self.heal()
        self.settle()
        times.append(time.monotonic())
        self.settled_at = self.d.mark()
        self.fresh()
        times.append(time.monotonic())
        live = self.settle()
        if times[-1] - times[0] > 10:
            self.notes.append("at rest after %.1f s, fresh exchanges in %.1f s"
                              % (times[1] - times[0], times[2] - times[1]))
        self.check_idle(live)
        closed = self.d.find_events("peer_closed", after=self.settled_at)
        if self.peer_netns:
            # a peer whose end was lost with the link looks alive until its heartbeats fail
            closed = [e for e in closed if e.get("detail") != "its host does not answer"
                      or int(e["age_ms"]) < (time.monotonic() - times[0]) * 1000]
        if closed:
            raise Failure("closed after all faults had ended: %s" % closed[:3])
        self.retire()
        self.d.wait_stats(lambda s: not s.frontend["peers"] and not s.backend["peers"],
                          "no peer left")
        self.stop_daemon()

    def retire(self):
        for h in self.living():
            if h.spec["role"] != "link":
                h.tell("quit")
        for h in self.living():
            if h.spec["role"] != "link":
                status = self.zygote.wait(h.pid, True)
                h.gone()
                if status != 0:
                    raise Failure("%s ended with status %s" % (h.name, status))

    def close(self):
        """Remove everything of this world, except its directory, whatever happened."""
        try:
            for h in self.handles:
                h.kill()
        except (ValueError, OSError):
            pass                 # interrupted between question and answer: they end with the zygote
        for d in self.daemons:
            d.kill()
        if self.netns:
            self.netns.close()

    def forget(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    # -- more

    def sanitized(self):
        with open(harness.BINARY, "rb") as f:
            return ASAN.encode() in f.read()
