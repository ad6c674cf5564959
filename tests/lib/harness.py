# SPDX-License-Identifier: MIT
"""Runs the real daemon for a test: configuration, log, counters, a clean end.

A test waits for an event in the log (Daemon.wait_event) or for a counter
(Daemon.wait_stats), never for time to pass.  Every wait has a deadline that is
only there to make a failure finite.
"""

import atexit
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import zmtp

DEADLINE = zmtp.DEADLINE
VALGRIND = zmtp.VALGRIND
TEST_LIMIT = int(os.environ.get("BULKHEAD_TEST_LIMIT", "1440" if VALGRIND else "240"))

BINARY = os.path.abspath(os.environ.get("BULKHEAD", "./bulkhead"))
CTL = os.path.abspath(os.environ.get(
    "BULKHEADCTL", os.path.join(os.path.dirname(BINARY), "bulkheadctl")))
SUPPRESSIONS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "valgrind.supp")

SANITIZER = re.compile(r"AddressSanitizer|LeakSanitizer|UndefinedBehaviorSanitizer|"
                       r"runtime error:|ThreadSanitizer|Assertion .* failed|: Assertion")
TOKEN = re.compile(r'([A-Za-z0-9_.-]+)=("(?:[^"\\]|\\.)*"|\S*)')


# Crowds of peers do not fit into the 1,024 descriptors of an ordinary login.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))


def _instrumented():
    """Is the daemon's memory not its own alone: under memcheck or a sanitizer?"""
    try:
        with open(BINARY, "rb") as f:
            image = f.read()
    except OSError:
        return False
    return bool(VALGRIND) or b"__asan_" in image or b"__tsan_" in image


INSTRUMENTED = _instrumented()
_running = set()


def _kill_leftovers():
    for daemon in list(_running):
        daemon.kill()


atexit.register(_kill_leftovers)


def environment():
    env = dict(os.environ)
    env.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0:exitcode=99")
    env.setdefault("UBSAN_OPTIONS", "halt_on_error=1:exitcode=99:print_stacktrace=1")
    env.pop("NOTIFY_SOCKET", None)
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"):
        env.pop(name, None)
    return env


def memcheck(report):
    """The words before the daemon's command line when it runs under memcheck.

    Quiet, so that `report` stays empty unless there is an error or a leak; not on stderr, which
    is the daemon's log and in some tests closed.
    """
    if not VALGRIND:
        return []
    kinds = "definite,indirect,possible"
    return ["valgrind", "-q", "--leak-check=full", "--show-leak-kinds=" + kinds,
            "--errors-for-leak-kinds=" + kinds, "--error-exitcode=99", "--trace-children=no",
            "--num-callers=24", "--suppressions=" + SUPPRESSIONS, "--log-file=" + report]


def read_report(path):
    """The output of memcheck; a daemon without a stderr may have its log there as well."""
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return "".join(line for line in f if line.startswith("=="))
    except FileNotFoundError:
        return ""


def parse_line(line):
    """One log line -> dict of its key=value fields (quotes taken off), or None."""
    fields = {}
    for key, value in TOKEN.findall(re.sub(r"^<\d>", "", line)):
        if value.startswith('"') and value.endswith('"') and len(value) >= 2:
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        if key not in fields:
            fields[key] = value
    return fields if "event" in fields else None


def without_control(sections):
    """No control socket, unless the test configures one: its default path is the machine's."""
    return {**sections, "broker": {"control": "", **sections.get("broker", {})}}


def make_ini(sections):
    """{section: {key: value or [values]}} -> the text of an ini file."""
    out = []
    for name, keys in without_control(sections).items():
        out.append("[%s]" % name)
        for key, value in keys.items():
            for one in value if isinstance(value, (list, tuple)) else [value]:
                out.append("%s = %s" % (key, one))
        out.append("")
    return "\n".join(out)


def matches(fields, want):
    for key, value in want.items():
        got = fields.get(key)
        if callable(value):
            if got is None or not value(got):
                return False
        elif isinstance(value, re.Pattern):
            if got is None or not value.search(got):
                return False
        elif got != str(value):
            return False
    return True


class SideStats(dict):
    """The counters of one side; one that was not printed is 0."""

    def __missing__(self, key):
        return 0


class Stats:
    def __init__(self, lines, end):
        self.sides = {}
        self.end = end
        for fields in lines:
            side = SideStats()
            for key, value in fields.items():
                if re.fullmatch(r"-?\d+", value):
                    side[key] = int(value)
            self.sides[(fields.get("proxy"), fields.get("side"))] = side

    def side(self, side, proxy="default"):
        return self.sides[(proxy, side)]

    @property
    def frontend(self):
        return self.side("frontend")

    @property
    def backend(self):
        return self.side("backend")

    def check(self):
        """The conservation law: received == sent + dropped + queued, for each proxy and
        direction; a request that is requeued from its worker counts as received again."""
        assert self.sides, "no event=stats line"
        assert self.end.get("conserved") == "yes", "conserved=%s" % self.end.get("conserved")
        for key, s in self.sides.items():
            for name in ("received", "sent", "dropped", "queued"):
                assert name in s, "event=stats of %s/%s lacks %s" % (key + (name,))
                assert s[name] >= 0, "%s/%s: %s is negative" % (key + (name,))
            assert s["received"] + s["redelivered"] == s["sent"] + s["dropped"] + s["queued"], \
                "%s/%s: received=%d redelivered=%d sent=%d dropped=%d queued=%d" % (
                    key + (s["received"], s["redelivered"], s["sent"], s["dropped"], s["queued"]))
            reasons = sum(v for k, v in s.items() if k.startswith("drop_"))
            assert s["dropped"] == reasons, \
                "%s/%s: dropped=%d but the reasons add up to %d" % (key + (s["dropped"], reasons))
            closed = sum(v for k, v in s.items() if k.startswith("closed_"))
            assert s["closed"] == closed, \
                "%s/%s: closed=%d but the reasons add up to %d" % (key + (s["closed"], closed))
        return self


class Daemon:
    """One running daemon.  Use Case.daemon() rather than this directly."""

    def __init__(self, sections=None, text=None, args=(), nofile=None, wait=True, env=None,
                 stderr="pipe", binary=None, under=(), pass_fds=()):
        self.dir = tempfile.mkdtemp(prefix="bulkhead-test-")
        self.config = os.path.join(self.dir, "bulkhead.ini")
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(text if text is not None else make_ini(sections))
        self.lock = threading.Condition()
        self.lines = []          # every line of stderr
        self.events = []         # the parsed ones
        self.eof = False
        self.finished = False
        self.report = os.path.join(self.dir, "memcheck.log")
        self.memcheck = ""       # memcheck's report, once the daemon has ended
        argv = memcheck(self.report) + [binary or BINARY, "-c", self.config] + list(args)
        if nofile:
            argv = ["/bin/sh", "-c", 'ulimit -n %d && exec "$@"' % nofile, "sh"] + argv
        argv = list(under) + argv
        if stderr == "closed":
            argv = ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh"] + argv
        environ = environment()
        environ.update(env or {})
        full = open("/dev/full", "w") if stderr == "full" else None
        try:
            self.proc = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environ,
                stderr=full if full else subprocess.PIPE, cwd=self.dir, pass_fds=pass_fds)
        finally:
            if full:
                full.close()
        _running.add(self)
        self.reader = None
        self.blind = stderr != "pipe"        # the log cannot be read
        if self.proc.stderr and stderr != "unread":
            self.reader = threading.Thread(target=self._read, daemon=True)
            self.reader.start()
        if wait:
            try:
                self.wait_event("started")
            except BaseException:
                self.kill()
                raise

    # -- the log

    def _read(self):
        with self.proc.stderr as stream:
            for raw in stream:
                line = raw.decode("utf-8", "replace").rstrip("\n")
                fields = parse_line(line)
                with self.lock:
                    self.lines.append(line)
                    if fields:
                        self.events.append(fields)
                    self.lock.notify_all()
        with self.lock:
            self.eof = True
            self.lock.notify_all()

    @property
    def pid(self):
        return self.proc.pid

    def log_tail(self, count=60):
        with self.lock:
            return "\n".join("    | " + line for line in self.lines[-count:])

    def mark(self):
        """A place in the log, for wait_event(after=...)."""
        with self.lock:
            return len(self.events)

    def find_events(self, name, after=0, **want):
        with self.lock:
            return [e for e in self.events[after:] if e["event"] == name and matches(e, want)]

    def wait_event(self, name, after=0, count=1, deadline=None, **want):
        """The `count`th event `name` after `after` whose fields match; fails at the deadline."""
        until = time.monotonic() + (deadline or DEADLINE)
        with self.lock:
            at, seen = after, 0
            while True:
                while at < len(self.events):
                    fields = self.events[at]
                    at += 1
                    if fields["event"] == name and matches(fields, want):
                        seen += 1
                        if seen == count:
                            return fields
                left = until - time.monotonic()
                if self.eof or left <= 0:
                    raise AssertionError(
                        "no event=%s %s (%d of %d seen) %s\n%s" % (
                            name, want or "", seen, count,
                            "before the daemon ended" if self.eof else "before the deadline",
                            "\n".join("    | " + line for line in self.lines[-40:])))
                self.lock.wait(left)

    def endpoint(self, side, proxy="default", index=0):
        """The endpoint that the daemon listens on, from its log."""
        return self.wait_event("listening", count=index + 1, proxy=proxy, side=side)["endpoint"]

    @property
    def frontend(self):
        return self.endpoint("frontend")

    @property
    def backend(self):
        return self.endpoint("backend")

    def close_log(self):
        """End the reader of the log of a daemon that was started with stderr="unread"."""
        self.proc.stderr.close()

    # -- counters

    def send_signal(self, number):
        self.proc.send_signal(number)

    def stats(self):
        """Ask for the counters (SIGUSR1), check the conservation law, return them."""
        mark = self.mark()
        self.send_signal(signal.SIGUSR1)
        self.wait_event("stats_end", after=mark)
        return self._stats_after(mark).check()

    def _stats_after(self, mark):
        lines, end = [], None
        with self.lock:
            for fields in self.events[mark:]:
                if fields["event"] == "stats":
                    lines.append(fields)
                elif fields["event"] == "stats_end":
                    end = fields
                    break
        assert end is not None, "no event=stats_end"
        return Stats(lines, end)

    def wait_stats(self, predicate, what="the counters"):
        """Ask for the counters repeatedly until predicate(stats) is true."""
        until = time.monotonic() + DEADLINE
        pause = threading.Event()
        while True:
            stats = self.stats()
            if predicate(stats):
                return stats
            if time.monotonic() > until:
                raise AssertionError("%s never came true; last: %s\n%s"
                                     % (what, stats.sides, self.log_tail(6)))
            pause.wait(0.02)

    def sync(self):
        """Everything that had arrived in the daemon's sockets before this has been handled."""
        self.stats()
        return self.stats()

    # -- the process

    def cpu(self):
        """(utime + stime in ticks, voluntary context switches)"""
        with open("/proc/%d/stat" % self.pid, encoding="ascii") as f:
            rest = f.read().rsplit(")", 1)[1].split()
        ticks = int(rest[11]) + int(rest[12])
        with open("/proc/%d/status" % self.pid, encoding="ascii") as f:
            switches = int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", f.read(), re.M)[1])
        return ticks, switches

    def rss(self, pid=None):
        with open("/proc/%d/status" % (pid or self.pid), encoding="ascii") as f:
            return int(re.search(r"^VmRSS:\s*(\d+) kB", f.read(), re.M)[1]) * 1024

    def fds(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))

    @property
    def admin_pid(self):
        """The admin process that was started last."""
        self.wait_event("admin_started")
        return int(self.find_events("admin_started")[-1]["pid"])

    def admin_rss(self):
        return self.rss(self.admin_pid)

    def admin_fds(self):
        """The admin process's descriptors: only root may read them; none for others."""
        try:
            return len(os.listdir("/proc/%d/fd" % self.admin_pid))
        except PermissionError:
            return 0

    def alive(self):
        return self.proc.poll() is None

    def wait(self, deadline=None):
        """The exit status; the daemon must end by itself."""
        try:
            status = self.proc.wait(deadline or DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError("the daemon did not end\n" + self.log_tail()) from None
        if self.reader:
            self.reader.join(DEADLINE)
        self._finish()
        self.check_memcheck()
        return status

    def _finish(self):
        if self.finished:
            return
        self.finished = True
        _running.discard(self)
        self.memcheck = read_report(self.report)
        shutil.rmtree(self.dir, ignore_errors=True)

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        if self.reader:
            self.reader.join(5)
        elif self.proc.stderr:
            self.proc.stderr.close()
        self._finish()

    def check_sanitizers(self):
        bad = [line for line in self.lines if SANITIZER.search(line)]
        assert not bad, "sanitizer or assertion output:\n" + self.log_tail(200)

    def check_memcheck(self):
        assert not self.memcheck, "memcheck:\n" + self.memcheck

    def stop(self, number=signal.SIGTERM):
        """Ask the daemon to stop; it must end cleanly, and its counters must add up."""
        if self.finished:
            return None
        mark = self.mark()
        if self.proc.poll() is None:
            self.send_signal(number)
        status = self.wait(DEADLINE * 2)
        self.check_sanitizers()
        assert status == 0, "exit status %s\n%s" % (status, self.log_tail(100))
        if self.blind:
            return None
        assert self.find_events("stopped", after=mark), "no event=stopped\n" + self.log_tail()
        return self._stats_after(mark).check()


class Case(unittest.TestCase):
    """A test that runs daemons.  Each is stopped, and its end checked, after the test."""

    maxDiff = 2000

    def run(self, result=None):
        self._daemons = []
        bad = len(result.failures) + len(result.errors) if result is not None else 0
        previous = signal.signal(signal.SIGALRM, self._expired)
        signal.alarm(TEST_LIMIT)
        try:
            super().run(result)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, previous)
        if result is not None and len(result.failures) + len(result.errors) > bad:
            for d in self._daemons:
                print("\n---- %s: log of the daemon\n%s" % (self.id(), d.log_tail()),
                      file=sys.stderr)

    def _expired(self, *_):
        raise AssertionError("the test took longer than %d s" % TEST_LIMIT)

    @staticmethod
    def sections(frontend=None, backend=None, broker=None, defaults=None, **more):
        """The usual proxy on ports that the system picks; None as a value removes a key."""
        out = {"broker": {"log_level": "debug", "drain_timeout": "300ms"},
               "defaults": {},
               "frontend": {"bind": "tcp://127.0.0.1:*"},
               "backend": {"bind": "tcp://127.0.0.1:*"}}
        for name, keys in (("broker", broker), ("defaults", defaults), ("frontend", frontend),
                           ("backend", backend)):
            out[name].update(keys or {})
        out.update(more)
        return {name: {k: v for k, v in keys.items() if v is not None}
                for name, keys in out.items() if keys or name not in ("broker", "defaults")}

    def daemon(self, frontend=None, backend=None, broker=None, defaults=None, sections=None,
               **kw):
        if sections is None and "text" not in kw:
            sections = self.sections(frontend, backend, broker, defaults)
        d = Daemon(sections, **kw)
        self._daemons.append(d)
        self.addCleanup(self._end, d)
        return d

    @staticmethod
    def _end(d):
        try:
            d.stop()
        except BaseException:
            d.kill()
            raise

    def closing(self, thing):
        """Close `thing` after the test, before its daemon is stopped."""
        self.addCleanup(thing.close)
        return thing

    def temp_dir(self):
        path = tempfile.mkdtemp(prefix="bulkhead-test-")
        self.addCleanup(shutil.rmtree, path, ignore_errors=True)
        return path

    # -- raw peers

    def peer(self, endpoint, **kw):
        """A raw connection that has sent nothing yet."""
        return self.closing(zmtp.Peer.connect(endpoint, **kw))

    def client(self, d, socktype=b"DEALER", identity=None, minor=1, endpoint=None, **kw):
        return self.closing(zmtp.connect(endpoint or d.frontend, socktype, identity, minor, **kw))

    def worker(self, d, socktype=b"DEALER", identity=None, minor=1, endpoint=None, **kw):
        """A raw worker; returns when the daemon has it ready for requests."""
        mark = d.mark()
        peer = self.closing(zmtp.connect(endpoint or d.backend, socktype, identity, minor, **kw))
        d.wait_event("peer_ready", after=mark, side="backend")
        return peer

    def exchange(self, client, worker, body=b"hello", reply=None):
        """One request and its reply, both whole."""
        client.send_message([b"", body])
        got = worker.recv_message()
        self.assertEqual(got[1:], [b"", body])
        reply = body + b"!" if reply is None else reply
        worker.send_message([got[0], b"", reply])
        self.assertEqual(client.recv_message(), [b"", reply])
        return got[0]


def run_command(*args, stdin=None, env=None, timeout=None):
    """Run the daemon's binary to its end: (status, stdout, stderr)."""
    environ = environment()
    environ.update(env or {})
    with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as where:
        report = os.path.join(where, "memcheck.log")
        done = subprocess.run(memcheck(report) + [BINARY] + list(args), input=stdin, env=environ,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=timeout or DEADLINE, check=False)
        found = read_report(report)
        assert not found, "memcheck:\n" + found
    out, err = done.stdout.decode(), done.stderr.decode("utf-8", "replace")
    assert not SANITIZER.search(err), err
    return done.returncode, out, err
