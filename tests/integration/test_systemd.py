# SPDX-License-Identifier: MIT
"""The messages between systemd and the daemon, with the test in systemd's place.

tests/systemd uses the real one.
"""

import array
import os
import signal
import socket
import sys
import threading
import time

import zmq

import zmtp
from harness import DEADLINE
from test_reload import ReloadCase

# Moves the sockets to 3, 4, ..., and executes the daemon: the pid is the same.
HAND_OVER = """
import fcntl, os, sys
fds = [fcntl.fcntl(int(n), fcntl.F_DUPFD, 100) for n in sys.argv[1].split(",") if n]
for i, fd in enumerate(fds):
    os.dup2(fd, 3 + i)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid() + int(sys.argv[3])), LISTEN_FDS=str(len(fds)),
                  LISTEN_FDNAMES=sys.argv[2], WATCHDOG_PID=str(os.getpid() + int(sys.argv[3])))
os.execvp(sys.argv[4], sys.argv[4:])
"""


class Systemd:
    """The notification socket, and the descriptor store."""

    def __init__(self, where):
        self.path = os.path.join(where, "notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.cond = threading.Condition()
        self.messages = []
        self.store = {}
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        while True:
            data, control, _, _ = self.sock.recvmsg(4096, socket.CMSG_SPACE(64))
            if data == b"end":
                return
            fields = dict(line.split("=", 1) for line in data.decode().splitlines())
            fds = array.array("i")
            for level, kind, payload in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(payload)
            with self.cond:
                name = fields.get("FDNAME")
                if "FDSTORE" in fields:
                    if name in self.store:
                        os.close(fds[0])
                    else:
                        self.store[name] = fds[0]
                if "FDSTOREREMOVE" in fields and name in self.store:
                    os.close(self.store.pop(name))
                self.messages.append(fields)
                self.cond.notify_all()

    def mark(self):
        with self.cond:
            return len(self.messages)

    def wait(self, after=0, **want):
        until = time.monotonic() + DEADLINE
        with self.cond:
            while True:
                for m in self.messages[after:]:
                    if all(k in m and (v is None or (v(m[k]) if callable(v) else m[k] == v))
                           for k, v in want.items()):
                        return m
                left = until - time.monotonic()
                if left <= 0:
                    raise AssertionError("systemd was not told %s: %s" % (want, self.messages[-20:]))
                self.cond.wait(left)

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b"end", self.path)
        self.thread.join(DEADLINE)
        self.sock.close()
        for fd in self.store.values():
            os.close(fd)


class SystemdCase(ReloadCase):
    def systemd(self):
        return self.closing(Systemd(self.temp_dir()))

    def start(self, sections, systemd=None, sockets=(), other_pid=0, watchdog_ms=0, **kw):
        """A daemon that gets `sockets`, pairs of a name and a descriptor."""
        env = {}
        if systemd:
            env["NOTIFY_SOCKET"] = systemd.path
        if watchdog_ms:
            env["WATCHDOG_USEC"] = str(watchdog_ms * 1000)
        under = [sys.executable, "-c", HAND_OVER, ",".join(str(fd) for _, fd in sockets),
                 ":".join(name for name, _ in sockets), str(other_pid)]
        return self.daemon(sections=sections, env=env, under=under,
                           pass_fds=[fd for _, fd in sockets], **kw)

    def listening(self, address=("127.0.0.1", 0), listen=True):
        s = self.closing(socket.socket())
        s.bind(address)
        if listen:
            s.listen(16)
        return s, "tcp://127.0.0.1:%d" % s.getsockname()[1]


class Sockets(SystemdCase):
    def test_a_connection_from_before_the_start(self):
        front, front_at = self.listening()
        back = self.closing(socket.socket(socket.AF_UNIX))
        back.bind(self.temp_dir() + "/b")
        back.listen(4)
        early = self.closing(zmtp.Peer.connect(front_at))
        early.send(zmtp.greeting())
        d = self.start(self.sections(frontend={"bind": "fd://front"},
                                     backend={"bind": ["fd://back", "tcp://127.0.0.1:*"]}),
                       sockets=[("back", back.fileno()), ("front", front.fileno())])
        e = d.wait_event("listening", side="frontend")
        self.assertEqual((e["endpoint"], e["socket"]), (front_at, "fd://front"))
        early.recv_greeting()
        early.send(zmtp.ready(b"DEALER"))
        early.recv_ready()
        w = self.worker(d, endpoint="ipc://" + back.getsockname())
        self.exchange(early, w)
        self.exchange(self.client(d, endpoint=front_at), w)

    def test_what_is_wrong_with_them(self):
        good, _ = self.listening()
        deaf, _ = self.listening(listen=False)
        for sockets, text in (((), "no socket of this name"),
                              ([("f", good)], "no socket of this name"),
                              ([("front", good), ("front", deaf)], "several sockets"),
                              ([("front", deaf)], "not a listening stream socket")):
            d = self.start(self.sections(frontend={"bind": "fd://front"}), wait=False,
                           sockets=[(name, s.fileno()) for name, s in sockets])
            self.assertEqual(d.wait(), 2)
            self.assertIn(text, d.find_events("bind_failed")[0]["error"])

    def test_meant_for_another_process(self):
        good, _ = self.listening()
        d = self.start(self.sections(frontend={"bind": "fd://front"}), wait=False, other_pid=1,
                       sockets=[("front", good.fileno())])
        self.assertEqual(d.wait(), 2)

    def test_one_that_nobody_wants(self):
        front, at = self.listening()
        more, more_at = self.listening()
        both = [("front", front.fileno()), ("more", more.fileno())]
        d = self.start(self.sections(frontend={"bind": "fd://front"}), sockets=both)
        self.assertEqual(d.wait_event("socket_unused")["name"], "more")
        # a reload may use it, stop using it, and use it again
        for _ in range(2):
            mark = d.mark()
            self.reload(d, self.sections(frontend={"bind": ["fd://front", "fd://more"]}))
            d.wait_event("listening", after=mark, socket="fd://more")
            c = self.client(d, endpoint=more_at)
            self.reload(d, self.sections(frontend={"bind": "fd://front"}))
            self.assertEqual(c.expect_closed(), b"")
            c.close()
            d.wait_event("endpoint_removed", after=mark, endpoint="fd://more")
        self.client(d, endpoint=at)


class DeafSystemd:
    """A notification socket that nobody reads until read_all()."""

    def __init__(self, where):
        self.path = os.path.join(where, "notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.fillers = []

    def fill(self):
        """Fill it until even a new socket cannot send: no sender's own buffer is the reason."""
        while True:
            s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            s.setblocking(False)
            self.fillers.append(s)
            try:
                s.sendto(b"FILL=1", self.path)
            except BlockingIOError:
                return
            try:
                while True:
                    s.sendto(b"FILL=1", self.path)
            except BlockingIOError:
                pass

    def read_until(self, last):
        """The first lines of the messages, without the filling, up to `last`."""
        self.sock.settimeout(DEADLINE)
        found = []
        while not found or found[-1] != last:
            text = self.sock.recv(4096).decode().split("\n")[0]
            if text != "FILL=1" and not text.startswith(("STATUS=", "WATCHDOG=")):
                found.append(text)
        return found

    def close(self):
        for s in self.fillers + [self.sock]:
            s.close()


class Deaf(SystemdCase):
    """Nothing waits for a systemd that does not read."""

    def started(self):
        systemd = self.closing(DeafSystemd(self.temp_dir()))
        systemd.fill()
        d = self.start(self.sections(), systemd=systemd)
        d.wait_event("started")
        return systemd, d

    def test_reloads_go_on(self):
        systemd, d = self.started()
        c, w = self.client(d), self.worker(d)
        for _ in range(5):
            mark = d.mark()
            d.proc.send_signal(signal.SIGHUP)
            d.wait_event("reloaded", after=mark)
            self.exchange(c, w)
        # the last reload counts for all of them, and completes
        found = [text for text in systemd.read_until("READY=1") if not text.startswith("FDSTORE")]
        self.assertEqual(found, ["RELOADING=1", "READY=1"])

    def test_it_stops(self):
        systemd, d = self.started()
        d.proc.send_signal(signal.SIGTERM)
        self.assertEqual(d.wait(), 0)

    def test_it_hears_all_in_order_when_it_reads(self):
        systemd, d = self.started()
        found = systemd.read_until("READY=1")
        self.assertNotIn("RELOADING=1", found)
        d.proc.send_signal(signal.SIGHUP)
        found = systemd.read_until("READY=1")
        self.assertEqual(found, ["RELOADING=1", "READY=1"])


class Notify(SystemdCase):
    def test_a_stop_in_the_middle_of_a_reload(self):
        """A reload that has begun ends first."""
        s = self.systemd()
        d = self.start(self.sections(), s)
        s.wait(READY="1")
        sections = self.sections()
        for i in range(2000):
            sections["frontend p%d" % i] = sections["backend p%d" % i] = {"connect": "ipc://@nobody"}
        self.write(d, sections)
        mark = s.mark()
        d.send_signal(signal.SIGHUP)
        s.wait(mark, RELOADING="1")
        d.send_signal(signal.SIGTERM)
        s.wait(mark, STOPPING="1")
        states = [key for m in s.messages[mark:] for key in m
                  if key in ("RELOADING", "READY", "STOPPING")]
        self.assertEqual(states, ["RELOADING", "READY", "STOPPING"])
        self.assertEqual(d.wait(), 0)

    def test_states(self):
        s = self.systemd()
        d = self.start(self.sections(), s)
        s.wait(READY="1")
        s.wait(STATUS="0 frontend peers, 0 backend peers, 0 msg/s")
        w, c = self.worker(d), self.client(d)
        s.wait(STATUS=lambda text: text.startswith("1 frontend peer, 1 backend peer, "))
        mark = s.mark()
        self.exchange(c, w)
        s.wait(mark, STATUS=lambda text: not text.endswith(" 0 msg/s"))
        mark = s.mark()
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.reload(d)
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        m = s.wait(mark, RELOADING="1")
        self.assertTrue(before <= int(m["MONOTONIC_USEC"]) <= after)
        s.wait(mark, READY="1")
        mark = s.mark()
        self.reload(d, text="rubbish", good=False)
        s.wait(mark, RELOADING="1")
        s.wait(mark, STATUS=lambda text: text.endswith("; the last reload failed, see the log"))
        s.wait(mark, READY="1")
        mark = s.mark()
        self.reload(d, self.sections())
        s.wait(mark, STATUS=lambda text: "reload failed" not in text)
        d.send_signal(signal.SIGTERM)
        m = s.wait(STOPPING="1")
        self.assertGreater(int(m["EXTEND_TIMEOUT_USEC"]), 300000)
        d.stop()

    def test_not_ready_before_it_is(self):
        s = self.systemd()
        taken, at = self.listening()
        d = self.start(self.sections(frontend={"bind": at}), s, wait=False)
        self.assertEqual(d.wait(), 2)
        self.assertEqual(s.messages, [])

    def test_signs_of_life(self):
        s = self.systemd()
        self.start(self.sections(), s, watchdog_ms=90)
        for _ in range(3):
            s.wait(s.mark(), WATCHDOG="1")

    def test_watchdog_of_another_process(self):
        s = self.systemd()
        d = self.start(self.sections(), s, watchdog_ms=3, other_pid=1)
        s.wait(STATUS=None)
        self.client(d)
        s.wait(STATUS=lambda text: text.startswith("1 frontend peer,"))
        self.assertFalse([m for m in s.messages if "WATCHDOG" in m])


class Restart(SystemdCase):
    def sections_at(self, *front, **more):
        return self.sections(frontend={"bind": list(front)},
                             backend={"bind": self.ipc("b")}, **more)

    def test_kept_sockets(self):
        """A run, a restart, and a client that connects in between."""
        s = self.systemd()
        taken, at = self.listening()
        taken.close()
        sections = self.sections_at(at, "ipc://@bulkhead-kept-%d" % os.getpid())
        d = self.start(sections, s)
        self.client(d, endpoint=at).close()
        # three endpoints with an address of their own
        s.wait(FDNAME=lambda name: "/b" in name)
        inode = os.stat(self.ipc("b")[6:]).st_ino
        self.assertEqual(len(s.store), 3)
        d.stop()
        self.assertEqual(os.stat(self.ipc("b")[6:]).st_ino, inode)
        early = self.closing(zmtp.Peer.connect(at))
        worker = self.closing(zmtp.Peer.connect(self.ipc("b")))
        d = self.start(sections, s, sockets=list(s.store.items()))
        early.handshake(), worker.handshake()
        self.ready(d, "backend")
        self.exchange(early, worker)
        self.assertEqual(os.stat(self.ipc("b")[6:]).st_ino, inode)
        self.assertEqual(len(s.store), 3)
        self.assertEqual(d.find_events("socket_unused"), [])

    def test_what_a_reload_removes_is_not_kept(self):
        s = self.systemd()
        (one, one_at), (two, two_at) = self.listening(), self.listening()
        one.close(), two.close()
        d = self.start(self.sections_at(one_at, two_at), s)
        self.client(d, endpoint=two_at).close()
        s.wait(FDNAME=lambda name: "/b" in name)
        self.reload(d, self.sections_at(one_at))
        with self.assertRaises(ConnectionRefusedError):
            zmtp.Peer.connect(two_at)
        s.wait(FDSTOREREMOVE="1")
        self.assertEqual(len(s.store), 2)
        self.client(d, endpoint=one_at)

    def test_what_the_next_life_does_not_want(self):
        s = self.systemd()
        (one, one_at), (two, two_at) = self.listening(), self.listening()
        one.close(), two.close()
        d = self.start(self.sections_at(one_at, two_at), s)
        s.wait(FDNAME=lambda name: "/b" in name)
        d.stop()
        waits = self.closing(zmtp.Peer.connect(two_at))
        d = self.start(self.sections_at(one_at), s, sockets=list(s.store.items()))
        s.wait(FDSTOREREMOVE="1")
        waits.expect_closed()
        with self.assertRaises(ConnectionRefusedError):
            zmtp.Peer.connect(two_at)
        d.wait_event("socket_unused")
        self.client(d, endpoint=one_at)

    def test_a_kept_socket_makes_way(self):
        """The next run listens on every address of the port, or on one of them."""
        s = self.systemd()
        taken, one = self.listening()
        taken.close()
        every = one.replace("127.0.0.1", "*")
        d = self.start(self.sections_at(one), s)
        s.wait(FDNAME=lambda name: "/b" in name)
        d.stop()
        for at in every, one:
            (name,) = (n for n in s.store if "/b" not in n)
            waits = self.closing(zmtp.Peer.connect(one))
            mark = s.mark()
            d = self.start(self.sections_at(at), s, sockets=list(s.store.items()))
            self.assertEqual(d.wait_event("socket_unused")["name"], name)
            s.wait(after=mark, FDSTOREREMOVE="1", FDNAME=name)
            waits.expect_closed()
            self.client(d, endpoint=one)
            s.wait(after=mark, FDSTORE="1", FDNAME=lambda n: n.startswith("kept-tcp") and n != name)
            self.assertEqual(len(s.store), 2)
            d.stop()

    def test_restarts_under_load(self):
        """Plain REQ loops see no refusal in five restarts; losses are in the last log line."""
        s = self.systemd()
        taken, at = self.listening()
        taken.close()
        sections = self.sections_at(at, broker={"drain_timeout": "10s"})
        d = self.start(sections, s)
        worker = self.echo(self.ipc("b"), tag=b"!")
        refused, connected, answered, stop = [], [0], [0] * 8, threading.Event()
        self.addCleanup(stop.set)

        def connect_again_and_again():
            while not stop.is_set():
                try:
                    zmtp.connect(at).close()
                    connected[0] += 1
                except ConnectionRefusedError as e:
                    refused.append(e)
                except (OSError, zmtp.Closed):
                    pass                            # it came in the last moments of a run

        def ask_and_wait(i):
            with self.ctx.socket(zmq.REQ) as c:
                c.setsockopt(zmq.LINGER, 0)
                c.setsockopt(zmq.RECONNECT_IVL, 10)
                c.setsockopt(zmq.SNDTIMEO, 1000 * int(DEADLINE))
                c.connect(at)
                while not stop.is_set():
                    c.send(b"%d" % answered[i])
                    while not c.poll(100):          # no client sends again
                        if stop.is_set():
                            return
                    assert c.recv() == b"%d!" % answered[i]
                    answered[i] += 1

        threads = [threading.Thread(target=connect_again_and_again, daemon=True)] + [
            threading.Thread(target=ask_and_wait, args=(i,), daemon=True)
            for i in range(len(answered))]
        for t in threads:
            t.start()
        lost = 0
        for _ in range(5):
            d.wait_stats(lambda stats: stats.frontend["sent"] > 99 and stats.frontend["accepted"] > 9)
            d.stop()
            lost += int(d.wait_event("stopped", deadline=1)["unserved_clients"])
            d = self.start(sections, s, sockets=list(s.store.items()))
        before = list(answered)
        d.wait_stats(lambda stats: sum(now == b for now, b in zip(answered, before)) <= lost)
        stop.set()
        for t in threads:
            t.join(DEADLINE)
        self.assertEqual(refused, [])
        self.assertGreater(connected[0], 0)
        self.assertGreaterEqual(worker.handled, sum(answered))
        self.assertLess(lost, len(answered))
