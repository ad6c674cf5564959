# SPDX-License-Identifier: MIT
"""bulkheadctl top, on a terminal and without one."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import termios
import time
import unittest

import harness
from ctlcase import ControlCase, NO_DAEMON
from harness import CTL, DEADLINE


class Terminal:
    """A command on a pseudo terminal."""

    def __init__(self, argv, columns=80, lines=24, env=None):
        try:
            self.pid, self.fd = pty.fork()
        except OSError as e:
            # as where no devpts is mounted at /dev/pts
            raise unittest.SkipTest("no pseudo terminals here: %s" % e) from None
        if self.pid == 0:
            self.fd = 0     # before it reads the size
            self.resize(columns, lines)
            os.execve(argv[0], argv, dict(dict(harness.environment(), TERM="xterm"), **env or {}))
        self.text = ""
        self.status = None

    def resize(self, columns, lines):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read_until(self, what):
        """Read until `what` appears; None: to the end."""
        until = time.monotonic() + DEADLINE
        while what is None or what not in self.text:
            left = until - time.monotonic()
            assert left > 0, "never said %r: %r" % (what, self.text[-2000:])
            if not select.select([self.fd], [], [], left)[0]:
                continue
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            if not data:
                assert what is None, "ended without %r: %r" % (what, self.text[-2000:])
                break
            self.text += data.decode()
        text, self.text = self.text, ""
        return text

    def end(self):
        text = self.read_until(None)
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return text

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.fd)


class Top(ControlCase):
    def start_top(self, *args, **kw):
        return self.closing(Terminal([CTL, "-s", self.path, "top", *args], **kw))

    def test_once_without_a_terminal(self):
        d = self.start()
        self.client(d)
        out = self.done("top")
        self.assertNotIn("\033", out)
        self.assertIn("1 connection,", out)
        self.assertNotIn("quits", out)
        self.assertEqual(len(json.loads(self.done("top", "-j"))["peers"]), 1)

    def test_it_redraws_until_q(self):
        d = self.start()
        self.client(d)
        t = self.start_top("-i", "0.1")
        self.assertIn("\033[?1049h", t.read_until("1 connection,"))
        self.client(d)
        t.read_until("2 connections")
        os.write(t.fd, b"q")
        text = t.end()
        self.assertTrue(text.endswith("\033[?25h\033[?1049l"), text)
        self.assertEqual(t.status, 0)

    def test_it_ends_on_an_interrupt(self):
        self.start()
        t = self.start_top()
        t.read_until("0 connections")
        os.write(t.fd, b"\x03")
        self.assertIn("\033[?1049l", t.end())
        self.assertEqual(t.status, 0)

    def test_the_broker_goes(self):
        d = self.start()
        t = self.start_top("-i", "0.1")
        t.read_until("0 connections")
        d.stop()
        self.assertIn("bulkheadctl: ", t.end())
        self.assertEqual(t.status, NO_DAEMON)

    def test_it_fits_the_terminal(self):
        d = self.start()
        crowd = [self.client(d) for _ in range(30)]
        t = self.start_top("-i", "0.1", columns=60, lines=10)
        t.read_until("30 connections")
        t.resize(60, 10)
        for _ in range(3):
            t.read_until("\033[H")
        frame = t.read_until("\033[J")
        lines = re.sub("\033\\[[0-9]*[mHJK]", "", frame).split("\r\n")
        self.assertLessEqual(len(lines), 10, frame)
        for line in lines:
            self.assertLessEqual(len(line), 60, line)
        os.write(t.fd, b"q")
        t.end()
        for c in crowd:
            c.close()

    def frame(self, t, until):
        """Read until a whole frame has all patterns; return its lines, with their colours."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            for text in t.read_until("\033[J").replace("\033[K", "").split("\033[H")[1:]:
                if "\033[J" in text and all(re.search(u, text) for u in until):
                    return text.partition("\033[J")[0].split("\r\n")
        raise AssertionError("no frame had %r: %r" % (until, text))

    def a_frozen_worker(self, clients):
        """A broker with a worker that answers and a suspect one. Returns the ports of both."""
        d = self.start(backend={"answer_timeout": "100ms"})
        good, bad = self.worker(d), self.worker(d)
        crowd = [self.client(d, identity=b"client-%d" % i) for i in range(clients)]
        for _ in range(2):
            crowd[0].send_message([b"", b"q"])
        good.send_message(good.recv_message())
        crowd[0].recv_message()
        self.api.wait(self.peers, lambda peers: any(p["state"] == "suspect" for p in peers))
        return d, crowd, good, bad

    def test_what_a_screen_shows(self):
        """At 80 and 120 columns, few and many peers: port, state, unanswered; head; keys."""
        d, crowd, good, bad = self.a_frozen_worker(1)
        ports = [c.local.rpartition(":")[2] for c in (bad, good, crowd[0])]
        for count in (3, 50):
            crowd += [self.client(d, identity=b"more-%d" % i) for i in range(count - 2 - len(crowd))]
            self.api.wait(self.peers, lambda p: len(p) == count)
            for columns in (80, 120):
                t = self.start_top("-i", "0.1", "--color=never", columns=columns)
                t.resize(columns, 24)
                lines = self.frame(t, ["%d connections" % count, r" 0 dropped \(0/s\)"])
                os.write(t.fd, b"q")
                t.end()
                self.assertLessEqual(max(map(len, lines)), columns)
                self.assertLessEqual(len(lines), 24)
                self.assertRegex(lines[0], "^bulkhead .*, running .*, ready$")
                self.assertRegex(lines[1], "^[0-9.k]+ requests/s, [0-9.k]+ replies/s; "
                                           "p99: in the broker .*, at workers ")
                self.assertRegex(lines[2], "^%d clients?, 1 worker ready, 1 suspect; 1 unanswered, 0 dropped "
                                           r"\(0/s\)$" % (count - 2))
                titles = lines[5].split()
                self.assertEqual(titles[-1 if columns == 120 else 0], "IDLE" if columns == 120 else "ID")
                for title in ("ADDRESS", "STATE", "UNANSWERED", "REQ/S", "REPLY/S"):
                    self.assertIn(title, titles)
                # the suspect is the first row, with its port, state and unanswered requests
                self.assertRegex(lines[6], r"^ *\d+ .*backend +127\.0\.0\.1:%s .*suspect +1 " % ports[0])
                text = "\n".join(lines)
                if count == 3:
                    for port in ports:
                        self.assertIn(":%s " % port, text)
                    self.assertEqual(" client-0 " in text, columns == 120)
                    self.assertNotIn(" more\n", text)
                else:
                    shown = sum(":" in line for line in lines[6:-2])
                    self.assertIn("and %d more" % (50 - shown), lines)
                    self.assertGreaterEqual(shown, 14)
                self.assertIn("q quits", text)

    def test_a_worker_that_drains_is_not_counted_as_ready(self):
        d = self.start(broker={"drain_timeout": "60s"})
        w, _, c = self.worker(d), self.worker(d), self.client(d)
        c.send_message([b"", b"x"])
        w.recv_message()
        self.done("drain", self.peer_id(d, "backend"))
        t = self.start_top("-i", "0.1", "--color=never", columns=120)
        self.frame(t, [r"1 client, 1 worker ready, 1 draining; 1 unanswered, "])
        os.write(t.fd, b"q")
        t.end()

    def test_what_tables_show(self):
        """At 80 and 120 columns, beside a suspect."""
        d, crowd, good, bad = self.a_frozen_worker(1)
        port = bad.local.rpartition(":")[2]
        for columns in (80, 120):
            for command, titles, row in (
                    ("status", ("READY", "SUSPECT", "QUEUED", "REQUESTS", "REPLIES"),
                     "default +running +backend +1 +1 "),
                    ("peers", ("ADDRESS", "STATE", "UNANSWERED", "REQUESTS", "REPLIES"),
                     r" *\d+ .*backend .*127\.0\.0\.1:%s .*suspect +.*1 +1 +0\b" % port)):
                t = self.closing(Terminal([CTL, "-s", self.path, "--color=never", command], columns=columns))
                lines = t.end().split("\r\n")
                self.assertLessEqual(max(map(len, lines)), columns, lines)
                head = next(line for line in lines if "REQUESTS" in line)
                for title in titles:
                    self.assertIn(title, head)
                self.assertTrue(any(re.match(row, line) for line in lines), lines)
                if command == "status":          # wrapped, and no word is lost
                    self.assertIn("It gets only trial requests, one at a time; bulkheadctl kick PEER closes "
                                  "its connection.",
                                  " ".join(line.strip() for line in lines))
        d.stop()

    def test_rates(self):
        """Rates count the messages between two samples, by the broker's clock."""
        d = self.start()
        client, worker = self.client(d), self.worker(d)
        t = self.start_top("-i", "3600", columns=100)
        self.frame(t, ["\n- requests/s, - replies/s; p99: in the broker -, at workers -"])
        at = self.api.api("stats")["clock_ms"]
        for _ in range(20):
            self.exchange(client, worker)
        self.api.wait(lambda: self.api.api("stats"), lambda s: s["clock_ms"] > at and
                      s["proxies"][0]["frontend"]["sent"] == 20)
        os.write(t.fd, b" ")
        self.frame(t, ["\n[1-9][0-9.k]* requests/s, [1-9][0-9.k]* replies/s; p99: in the broker <= "])
        for _ in range(2):      # a snapshot is sent to all requests within 100 ms
            at = self.api.api("stats")["clock_ms"]
            self.api.wait(lambda: self.api.api("stats"), lambda s: s["clock_ms"] > at)
            os.write(t.fd, b" ")
            t.read_until("\033[J")
        os.write(t.fd, b" ")
        self.frame(t, ["\n0 requests/s, 0 replies/s; p99: in the broker -, at workers -"])

    def test_space_looks_again(self):
        d = self.start()
        t = self.start_top("-i", "3600")
        t.read_until("0 connections")
        self.client(d)
        self.api.wait(lambda: self.peers(), len)
        t.text = ""
        os.write(t.fd, b" ")
        t.read_until("1 connection,")

    def test_colours(self):
        """Colours depend on the terminal, the environment and --color."""
        self.a_frozen_worker(1)
        red, plain = "\033[31m", "\033[0m"

        def has_color(*args, **env):
            t = self.start_top("-i", "0.1", *args, columns=80, env=env)
            lines = self.frame(t, ["suspect", "quits"])
            os.write(t.fd, b"q")
            t.end()
            row = next(line for line in lines if "backend" in line and "suspect" in line)
            self.assertEqual(row.startswith(red), row.endswith(plain))
            self.assertEqual(any("\033[" in line for line in lines), row.startswith(red))
            return row.startswith(red)
        self.assertTrue(has_color())
        self.assertTrue(has_color(NO_COLOR=""))
        self.assertFalse(has_color(NO_COLOR="1"))
        self.assertTrue(has_color("--color", NO_COLOR="1"))
        self.assertTrue(has_color("--color=always", NO_COLOR="1"))
        self.assertFalse(has_color("--color=never"))
        self.assertFalse(has_color(TERM="dumb"))
        for command in ("status", "peers", "top", "events"):
            self.assertNotIn("\033", self.done(command))
            self.assertIn("\033[3", self.done(command, "--color=always"))

    def test_the_one_in_trouble_comes_first(self):
        d = self.start(backend={"send_buffer": "8KiB", "send_timeout": "0"})
        client = self.client(d)
        self.worker(d)
        deaf = self.worker(d, rcvbuf=4096)
        peer = self.peer_id(d, "backend", 1)
        self.fill(d, client, peer)
        rows = self.done("top").splitlines()
        first = [r.split()[0] for r in rows[rows.index("") + 2:]][:2]
        self.assertIn("ADDRESS", rows[rows.index("") + 1])
        self.assertIn(peer, first)
        self.assertNotIn(self.peer_id(d, "frontend"), first)
        deaf.close()


if __name__ == "__main__":
    unittest.main()
