# SPDX-License-Identifier: MIT
"""The admin process: whatever happens to it may cost a page, and never a message."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import unittest

import harness
import zmtp
from admin import Admin
from harness import CTL, DEADLINE

CONNECTIONS = 32    # HTTP_CONNECTIONS of admin/http.h
FUZZED = int(os.environ.get("BULKHEAD_FUZZED", "2600"))
BATCH = 50


class Traffic:
    """A client and a worker that never pause; every reply is the one to its request."""

    def __init__(self, case, d):
        self.client, self.worker = case.client(d), case.worker(d)
        self.count, self.error, self.over = 0, None, threading.Event()
        self.threads = [threading.Thread(target=self.guard, args=(f,), daemon=True)
                        for f in (self.ask, self.echo)]
        for t in self.threads:
            t.start()

    def guard(self, run):
        try:
            run()
        except Exception as e:  # pylint: disable=broad-except # finish() reports it
            if not self.over.is_set():
                self.error = e

    def ask(self):
        while not self.over.is_set():
            bodies = [b"%d" % (self.count + i) for i in range(BATCH)]
            for body in bodies:
                self.client.send_message([b"", body])
            for body in bodies:
                got = self.client.recv_message()
                assert got == [b"", body], "%r is no answer to %r" % (got, body)
            self.count += BATCH
        self.client.close()

    def echo(self):
        while True:
            self.worker.send_message(self.worker.recv_message())

    def goes_on(self, case, n=20 * BATCH):
        """Wait until that many more requests were answered."""
        want, pause = self.count + n, threading.Event()
        for _ in range(int(DEADLINE * 100)):
            if self.count >= want or self.error:
                break
            pause.wait(0.01)
        case.assertIsNone(self.error)
        case.assertGreaterEqual(self.count, want)

    def finish(self, case):
        self.over.set()
        self.threads[0].join(DEADLINE)
        case.assertFalse(self.threads[0].is_alive())
        case.assertIsNone(self.error)


class AdminCase(harness.Case):
    def start(self, **kw):
        self.path = self.temp_dir() + "/control.sock"
        broker = {"http": "tcp://127.0.0.1:*", "control": self.path, **kw.pop("broker", {})}
        if "more" in kw:
            kw["sections"] = self.sections(broker=broker, **kw.pop("more"))
        d = self.daemon(broker=broker, **kw)
        self.control = Admin(self.path)
        self.http = Admin(d.wait_event("http_listening")["endpoint"])
        return d

    def again(self, d, old, **want):
        """Wait until the log reports the end of process `old`, and another one serves."""
        d.wait_event("admin_ended", pid=old, **want)
        d.wait_event("admin_started", pid=lambda pid: int(pid) != old)
        for admin in (self.http, self.control):
            self.assertEqual(admin.get("/healthz").status, 200)
        return d.admin_pid

    def say(self, admin, data, shut=True):
        """Send `data`; return everything that is received until the other side closes."""
        with admin.raw() as sock:
            sock.settimeout(DEADLINE)
            got = b""
            try:
                sock.sendall(data)
                if shut:
                    sock.shutdown(socket.SHUT_WR)
                while True:
                    more = sock.recv(65536)
                    if not more:
                        return got
                    got += more
            except ConnectionError:
                return got


class Lives(AdminCase):
    def test_two_processes_with_names(self):
        d = self.start()
        self.assertEqual(self.http.get("/healthz").status, 200)
        with open("/proc/%d/cmdline" % d.admin_pid, "rb") as f:
            self.assertEqual(f.read(), b"bulkhead: admin\0")
        with open("/proc/%d/stat" % d.admin_pid, encoding="ascii") as f:
            name, rest = f.read().rsplit(")", 1)
        self.assertEqual(name.split("(", 1)[1], "bulkhead-admin")
        self.assertEqual(int(rest.split()[1]), d.pid)
        self.assertEqual(len(os.listdir("/proc/%d/task" % d.pid)), 1)

    def test_what_it_gave_up(self):
        d = self.start()
        self.assertEqual(self.http.get("/healthz").status, 200)
        with open("/proc/%d/status" % d.admin_pid, encoding="ascii") as f:
            status = dict(line.split(":", 1) for line in f.read().splitlines())
        self.assertEqual(status["NoNewPrivs"].strip(), "1")
        for which in ("CapEff", "CapPrm", "CapInh"):
            self.assertEqual(int(status[which], 16), 0, which)
        if not harness.INSTRUMENTED:
            self.assertEqual(status["Seccomp"].strip(), "2")
        self.assertEqual(int(open("/proc/%d/oom_score_adj" % d.admin_pid).read()), 500)

    @unittest.skipUnless(os.getuid() == 0, "only root can look")
    def test_it_has_no_descriptor_of_a_peer(self):
        d = self.start()
        traffic = Traffic(self, d)
        old = d.admin_pid
        os.kill(old, signal.SIGKILL)
        new = self.again(d, old, reason="signal", status=signal.SIGKILL)
        peers = set()
        with open("/proc/net/tcp", encoding="ascii") as f:
            for line in f.readlines()[1:]:
                words = line.split()
                if words[3] == "01":    # ESTABLISHED
                    peers.add("socket:[%s]" % words[9])
        held = {os.readlink("/proc/%d/fd/%s" % (new, fd)) for fd in os.listdir("/proc/%d/fd" % new)}
        self.assertEqual(held & peers, set())
        mine = {os.readlink("/proc/%d/fd/%s" % (d.pid, fd))
                for fd in os.listdir("/proc/%d/fd" % d.pid)}
        self.assertEqual(len(mine & peers), 2)
        traffic.finish(self)

    def test_killed_again_and_again_beside_traffic(self):
        d = self.start()
        traffic = Traffic(self, d)
        pid = d.admin_pid
        for _ in range(4):
            os.kill(pid, signal.SIGKILL)
            pid = self.again(d, pid, reason="signal", status=signal.SIGKILL)
        traffic.goes_on(self)
        traffic.finish(self)
        self.assertEqual(self.http.metrics().get("bulkhead_admin_starts_total"), 5)
        self.assertTrue(self.http.metrics().conserved())

    def test_a_killed_one_is_started_later_each_time(self):
        d = self.start()
        pid, waits = d.admin_pid, []
        for _ in range(3):
            os.kill(pid, signal.SIGKILL)
            waits.append(int(d.wait_event("admin_ended", pid=pid)["restart_ms"]))
            pid = self.again(d, pid)
        self.assertEqual(waits, [100, 200, 400])

    def test_one_that_stands_still_is_ended(self):
        d = self.start()
        traffic = Traffic(self, d)
        old = d.admin_pid
        os.kill(old, signal.SIGSTOP)
        traffic.goes_on(self)
        self.again(d, old, reason="not responding")
        traffic.goes_on(self)
        traffic.finish(self)

    def test_a_message_process_that_stood_still_does_not_end_it(self):
        """The admin process was silent only because the message process did not read."""
        d = self.start()
        pid = d.admin_pid
        d.send_signal(signal.SIGSTOP)
        self.http.wait(lambda: self.http.get("/healthz"), lambda a: a.status == 503)
        d.send_signal(signal.SIGCONT)
        self.http.wait(lambda: self.http.get("/healthz"), lambda a: a.status == 200)
        self.assertEqual(d.admin_pid, pid)

    def test_it_ends_with_the_message_process(self):
        d = self.start()
        with open("/proc/%d/stat" % d.admin_pid, encoding="ascii"):
            pid = d.admin_pid
        d.kill()
        self.http.wait(lambda: is_gone(pid), bool)

    def test_signals_are_for_the_other(self):
        d = self.start()
        pid = d.admin_pid
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT):
            os.kill(pid, number)
        for admin in (self.http, self.control):
            self.assertEqual(admin.get("/healthz").status, 200)
        self.assertEqual(d.admin_pid, pid)

    def test_it_can_be_started_after_an_upgrade(self):
        """The program's file is replaced, as by a package: the old version is executed again."""
        copy = self.temp_dir() + "/bulkhead"
        subprocess.run(["cp", harness.BINARY, copy], check=True)
        if harness.VALGRIND:
            self.skipTest("memcheck knows the program by its name alone")
        d = self.start(binary=copy)
        os.unlink(copy)
        with open(copy, "w", encoding="ascii") as f:
            f.write("#!/bin/false\n")
        pid = d.admin_pid
        os.kill(pid, signal.SIGKILL)
        self.again(d, pid)

    def test_nobody_becomes_it_by_hand(self):
        """Running the program under that name is not enough."""
        done = subprocess.run(["bulkhead: admin"], executable=harness.BINARY, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=DEADLINE)
        self.assertEqual(done.returncode, 1)

    def test_it_has_no_part_in_what_systemd_says(self):
        if os.getuid() != 0:
            self.skipTest("only root can look")
        d = self.start(env={"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "99999999999"})
        with open("/proc/%d/environ" % d.admin_pid, "rb") as f:
            text = f.read()
        self.assertNotIn(b"NOTIFY_SOCKET", text)
        self.assertNotIn(b"WATCHDOG", text)

    def test_without_doors_there_is_none(self):
        d = self.daemon()
        self.exchange(self.client(d), self.worker(d))
        self.assertEqual(d.find_events("admin_started"), [])


def is_gone(pid):
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


class Hostile(AdminCase):
    def doors(self):
        return (("http", self.http), ("control", self.control))

    def burst(self, admin, n):
        """Open that many connections, less those that a full backlog refuses."""
        socks = []
        for _ in range(n):
            try:
                socks.append(self.closing(admin.raw()))
            except BlockingIOError:
                pass
        self.assertTrue(socks)
        return socks

    def test_a_chunk_size_that_never_ends(self):
        """evhttp spun on it indefinitely."""
        d = self.start()
        pid = d.admin_pid
        for name, admin in self.doors():
            got = self.say(admin, b"POST /metrics HTTP/1.1\r\nHost: localhost\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 30000, shut=False)
            self.assertTrue(got.startswith(b"HTTP/1.1 411 "), (name, got[:100]))
            self.assertEqual(admin.get("/healthz").status, 200)
        before = self.cpu(pid)
        for _, admin in self.doors():
            for _ in range(3):
                self.assertEqual(admin.get("/healthz").status, 200)
        self.assertLess(self.cpu(pid) - before, 50)     # ticks: a spinning core would use more
        self.assertEqual(d.admin_pid, pid)

    @staticmethod
    def cpu(pid):
        with open("/proc/%d/stat" % pid, encoding="ascii") as f:
            rest = f.read().rsplit(")", 1)[1].split()
        return int(rest[11]) + int(rest[12])

    @staticmethod
    def ready(metrics):
        return metrics.total("bulkhead_peers", state="ready")

    def test_descriptors_of_the_message_process_run_out(self):
        """Bursts of 100 at both sockets while idle peers hold the places: evhttp crashed when
        accept failed, and it accepted all pending connections in one go."""
        own = {"bind": "tcp://127.0.0.1:*"}
        d = self.start(nofile=1024, more={"frontend crowd": own, "backend crowd": own})
        traffic = Traffic(self, d)
        hello = zmtp.greeting() + zmtp.ready(b"DEALER")
        # every place except those kept for workers of the proxy with the traffic
        crowd = [self.peer(endpoint) for endpoint, n in (
            (d.endpoint("frontend", "crowd"), 450), (d.endpoint("backend", "crowd"), 450),
            (d.frontend, 28)) for _ in range(n)]
        for p in crowd:
            p.send(hello)
        self.http.wait_metrics(lambda m: self.ready(m) >= 895)
        held = d.fds()
        for _ in range(20):
            for _, admin in self.doors():
                socks = self.burst(admin, 100)
                for sock in socks[::2]:
                    try:
                        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    except ConnectionError:
                        pass
                # the message process keeps its descriptors: HTTP connections use none
                self.assertLess(d.fds(), held + 32)
                self.assertLessEqual(d.admin_fds(), 128)
                for sock in socks:
                    sock.close()
        for _, admin in self.doors():
            self.assertEqual(admin.get("/healthz").status, 200)
        traffic.goes_on(self)
        traffic.finish(self)
        self.assertEqual(d.find_events("admin_ended"), [])
        self.assertGreaterEqual(self.ready(self.http.metrics()), 895)

    def test_its_own_descriptors_run_out(self):
        """With a limit of 90 both processes lack descriptors: logged, and service continues."""
        d = self.start(nofile=90)
        socks = []
        for _ in range(3):
            for _, admin in self.doors():
                socks += self.burst(admin, CONNECTIONS)
        for sock in socks:
            sock.close()
        for name, admin in self.doors():
            self.assertEqual(admin.get("/healthz").status, 200, name)
        self.exchange(self.client(d), self.worker(d))
        self.assertEqual(d.find_events("admin_ended"), [])

    def test_a_flood_of_requests_beside_traffic(self):
        d = self.start()
        traffic = Traffic(self, d)
        before = d.admin_rss()
        over = threading.Event()

        def flood():
            while not over.is_set():
                try:
                    for _, admin in self.doors():
                        with admin.raw() as sock:
                            sock.sendall(b"GET /api/peers HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
                except OSError:
                    pass

        threads = [threading.Thread(target=flood, daemon=True) for _ in range(4)]
        for t in threads:
            t.start()
        traffic.goes_on(self, 200 * BATCH)
        over.set()
        for t in threads:
            t.join()
        traffic.finish(self)
        for _, admin in self.doors():
            self.assertEqual(admin.get("/healthz").status, 200)
        if not harness.INSTRUMENTED:
            self.assertLess(d.admin_rss() - before, 32 << 20)
        self.assertEqual(d.find_events("admin_ended"), [])

    def test_one_that_has_no_memory(self):
        """Its limit is lowered while it runs: pages fail, it is restarted; messages pass."""
        d = self.start()
        traffic = Traffic(self, d)
        self.assertEqual(self.http.get("/healthz").status, 200)
        if harness.INSTRUMENTED:
            self.skipTest("an allocator that has its memory already")
        crowd = [self.client(d) for _ in range(300)]
        self.addCleanup(lambda: [c.close() for c in crowd])
        with open("/proc/%d/statm" % d.admin_pid, encoding="ascii") as f:
            size = int(f.read().split()[0]) * os.sysconf("SC_PAGESIZE")
        done = subprocess.run(["prlimit", "--pid", str(d.admin_pid), "--as=%d" % (size + (64 << 10))],
                              check=False, stderr=subprocess.PIPE)
        if done.returncode != 0:
            self.skipTest("prlimit: %s" % done.stderr)
        seen = set()
        for _ in range(30):
            try:
                seen.add(self.control.get("/api/peers").status)
            except OSError:
                seen.add(None)
        self.assertTrue(seen & {500, 503, None}, seen)
        traffic.goes_on(self)
        traffic.finish(self)
        # whether or not that one survived, one serves
        os.kill(d.admin_pid, signal.SIGKILL)
        self.control.wait(lambda: self.status_of(self.control), lambda s: s == 200)

    @staticmethod
    def status_of(admin):
        try:
            return admin.get("/api/peers").status
        except OSError:
            return None

    def test_fuzzed_connections(self):
        """BULKHEAD_FUZZED connections to both sockets: broken requests, in pieces, many in one."""
        d = self.start()
        seed = random.randrange(1 << 32)
        r = random.Random(seed)
        pid = d.admin_pid
        for i in range(FUZZED):
            name, admin = self.doors()[i % 2]
            try:
                with admin.raw() as sock:
                    sock.settimeout(DEADLINE)
                    data = broken(r)
                    cut = r.randrange(len(data) + 1)
                    sock.sendall(data[:cut])
                    sock.sendall(data[cut:])
                    if r.random() < 0.5:
                        sock.shutdown(socket.SHUT_WR)
                        sock.recv(65536)
            except OSError:
                pass
            if i % 500 == 0:
                self.assertEqual(admin.get("/healthz").status, 200, (name, seed))
        for name, admin in self.doors():
            self.assertEqual(admin.get("/healthz").status, 200, (name, seed))
        self.assertEqual(d.admin_pid, pid, seed)
        self.assertEqual(d.find_events("admin_ended"), [], seed)
        self.exchange(self.client(d), self.worker(d))


PIECES = [b"GET ", b"POST ", b"HEAD ", b"/metrics", b"/api/peers", b"/api/kick/1", b"/", b"http://x/",
          b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n", b"\r\n\r\n", b"Host: localhost\r\n",
          b"Content-Length: 5\r\n", b"Content-Length: 99999\r\n", b"Content-Length: -1\r\n",
          b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n",
          b": \r\n", b" ", b"\0", b"\xff" * 10, b"1;", b"0\r\n\r\n", b"x" * 9000, b"%2e%2e", b"?", b"#"]


def broken(r):
    whole = b"GET /api/peers HTTP/1.1\r\nHost: localhost\r\nX: y\r\n\r\n"
    kind = r.randrange(4)
    if kind == 0:
        return b"".join(r.choice(PIECES) for _ in range(r.randrange(1, 12)))
    if kind == 1:
        return bytes(r.randrange(256) for _ in range(r.randrange(200)))
    data = bytearray(whole * r.randrange(1, 4))
    for _ in range(r.randrange(1, 4)):
        at = r.randrange(len(data))
        data[at:at + r.randrange(3)] = r.choice(PIECES) if kind == 2 else bytes([r.randrange(256)])
    return bytes(data)


class Names(AdminCase):
    """DNS rebinding: a page from any other host name must not read what is served here."""

    def status(self, host, admin=None, line=b"GET /api/peers HTTP/1.1"):
        field = b"" if host is None else b"Host: %s\r\n" % host.encode()
        got = self.say(admin or self.http, line + b"\r\n" + field + b"Connection: close\r\n\r\n")
        return int(got.split(b" ", 2)[1])

    def test_its_own_and_no_other(self):
        d = self.start(broker={"http_hosts": ["broker.example.org", "other third.example"]})
        port = self.http.where.rsplit(":", 1)[1]
        for host in ("localhost", "LOCALHOST:" + port, "localhost.", "127.0.0.1", "127.0.0.1:" + port,
                     "127.0.0.1:1", "broker.example.org", "Broker.Example.org.:80", "other",
                     "third.example"):
            self.assertEqual(self.status(host), 200, host)
        for host in ("evil.example", "localhost.evil.example", "evil.example:" + port, "xlocalhost",
                     "example.org", "broker.example.org.evil", "127.0.0.1.evil", "127.0.0.2", "[::1]",
                     "8.8.8.8", "127.1", "2130706433", "", ":80", "[::1", "localhost:x", "a b"):
            self.assertEqual(self.status(host), 421, host)
        # the absolute URI counts, not the Host field
        for target, status in ((b"http://evil.example/api/peers", 421),
                               (b"http://localhost/api/peers", 200)):
            self.assertEqual(self.status("localhost" if status != 200 else "evil.example",
                                         line=b"GET " + target + b" HTTP/1.1"), status)
        self.assertIn(b"missing header: Host", self.say(self.http, b"GET / HTTP/1.1\r\n\r\n"))
        self.assertIn(b"host name not allowed (Host); add it to http_hosts", self.say(
            self.http, b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n"))
        self.assertEqual(self.status(None), 400)
        self.assertEqual(self.status(None, line=b"GET /healthz HTTP/1.0"), 200)
        self.assertEqual(self.status("evil.example", line=b"GET /healthz HTTP/1.0"), 421)
        answer = self.say(self.http, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        self.assertIn(b"http_hosts", answer)
        self.assertEqual(self.status("bulkhead", admin=self.control), 200)
        self.assertEqual(d.find_events("http_exposed"), [])

    def test_bound_to_all(self):
        d = self.start(broker={"http": "tcp://*:*"})
        exposed = d.wait_event("http_exposed", endpoint=self.http.where)
        self.assertIn("anyone who can reach it sees peers", exposed["detail"])
        port = self.http.where.rsplit(":", 1)[1]
        self.http = Admin("tcp://127.0.0.1:" + port)
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
            self.assertEqual(self.status(host), 200, host)
        for host in ("8.8.8.8", "[2001:db8::1]", "evil.example"):
            self.assertEqual(self.status(host), 421, host)
        addresses = subprocess.run(["hostname", "-I"], stdout=subprocess.PIPE, check=False, text=True)
        for address in addresses.stdout.split():
            host = "[%s]" % address if ":" in address else address
            self.assertEqual(self.status(host), 200, host)

    def test_ipv6(self):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            self.skipTest("no IPv6 here")
        d = self.start(broker={"http": "tcp://[::1]:*"})
        for host in ("[::1]", "[0:0:0:0:0:0:0:1]:80", "localhost"):
            self.assertEqual(self.status(host), 200, host)
        self.assertEqual(self.status("127.0.0.1"), 421)
        self.assertEqual(d.find_events("http_exposed"), [])

    def test_a_reload_changes_them(self):
        d = self.start(broker={"http": "tcp://0.0.0.0:*", "http_hosts": "old"})
        self.assertEqual((self.status("old"), self.status("new")), (200, 421))
        with open(d.config, encoding="utf-8") as f:
            text = f.read()
        with open(d.config, "w", encoding="utf-8") as f:
            f.write(text.replace("http_hosts = old", "http_hosts = new"))
        mark = d.mark()
        d.send_signal(signal.SIGHUP)
        d.wait_event("reloaded", after=mark)
        d.wait_event("http_exposed", after=mark)
        self.http.wait(lambda: self.status("new"), lambda s: s == 200)
        self.assertEqual(self.status("old"), 421)
        pid = d.admin_pid
        os.kill(pid, signal.SIGKILL)
        d.wait_event("admin_ended", pid=pid)
        self.http.wait(lambda: self.status("new"), lambda s: s == 200)

    def test_bad_names_are_errors(self):
        text = harness.make_ini(self.sections(broker={"http_hosts": "a:80"}))
        path = self.temp_dir() + "/x.ini"
        with open(path, "w", encoding="ascii") as f:
            f.write(text)
        status, _, err = harness.run_command("-t", "-c", path)
        self.assertEqual(status, 1)
        self.assertIn("is not the name of a host", err)


class Groups(AdminCase):
    @unittest.skipUnless(os.getuid() == 0, "only root can be somebody else")
    def test_a_member_of_many_groups(self):
        d = self.start()
        os.chmod(os.path.dirname(self.path), 0o755)
        os.chown(self.path, -1, 4242)
        pid = d.admin_pid       # the next line reports it
        os.kill(pid, signal.SIGKILL)
        self.again(d, pid)
        ask = ("import os, socket, sys\n"
               "os.setgroups([int(g) for g in sys.argv[2:]]); os.setgid(65534); os.setuid(65534)\n"
               "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
               "s.sendall(b'GET /api/version HTTP/1.0\\r\\n\\r\\n')\n"
               "sys.stdout.write(s.makefile().read())\n")

        def as_nobody(*groups):
            return subprocess.run([sys.executable, "-c", ask, self.path, *map(str, groups)],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  timeout=DEADLINE, check=False)

        many = list(range(10000, 10300))
        self.assertIn("200 OK", as_nobody(*many, 4242).stdout)
        self.assertIn("PermissionError", as_nobody(*many).stderr)
        os.chmod(self.path, 0o666)
        self.assertIn("403 Forbidden", as_nobody(*many).stdout)


class Text(AdminCase):
    def test_an_endpoint_that_is_not_utf8(self):
        """Once, JSON could not be made, and status printed an empty table and exited with 0."""
        where = self.temp_dir()
        path = where.encode() + b"/\xff\xe4"
        self.path = where + "/control.sock"
        text = (b"[broker]\ncontrol = %s\n[frontend]\nbind = ipc://%s\n"
                b"[backend]\nbind = tcp://127.0.0.1:*\n" % (self.path.encode(), path))
        config = where + "/b.ini"
        with open(config, "wb") as f:
            f.write(text)
        d = self.daemon(text="", wait=False, args=["-c", config])
        d.wait_event("started")
        done = subprocess.run([CTL, "-s", self.path, "status"], stdout=subprocess.PIPE, check=False,
                              stderr=subprocess.PIPE, timeout=DEADLINE, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("ipc://%s/\\xff\\xe4" % where, done.stdout)
        status = Admin(self.path).api("status")
        self.assertEqual(len(status["proxies"][0]["endpoints"]), 2)


if __name__ == "__main__":
    unittest.main()
