# SPDX-License-Identifier: MIT
"""The control socket: who may use it, when it is bound and removed, and bad input."""

import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import unittest

import harness
from admin import Admin
from ctlcase import ControlCase
from harness import DEADLINE


class Socket(ControlCase):
    def test_its_mode_and_its_end(self):
        d = self.start()
        mode = os.stat(self.path).st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(stat.S_IMODE(mode), 0o660)
        d.stop()
        self.assertFalse(os.path.exists(self.path))

    def test_a_stale_one_is_replaced(self):
        d = self.start()
        d.kill()
        self.assertTrue(os.path.exists(self.path))
        again = self.daemon(broker={"control": self.path})
        self.assertEqual(self.api.api("status")["pid"], again.pid)

    def test_another_brokers(self):
        first = self.start()
        second = self.daemon(broker={"control": self.path})
        off = second.wait_event("control_off", socket=self.path)
        self.assertEqual(off["detail"], "will be retried")
        self.assertIn("another process", off["error"])
        self.exchange(self.client(second), self.worker(second))
        second.stop()
        self.assertEqual(self.api.api("status")["pid"], first.pid)

    def test_another_brokers_until_it_ends(self):
        first = self.start()
        second = self.daemon(broker={"control": self.path, "http": "tcp://127.0.0.1:*"})
        second.wait_event("control_off", socket=self.path)
        first.stop()
        second.wait_event("control_listening", socket=self.path)
        self.assertEqual(self.api.api("status")["pid"], second.pid)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o660)
        self.assertEqual(len(second.find_events("admin_started")), 1)
        self.assertEqual(len(second.find_events("control_off")), 1)
        self.done("log-level", "info")
        second.stop()
        self.assertFalse(os.path.exists(self.path))

    def test_no_directory(self):
        path = self.temp_dir() + "/none/control.sock"
        d = self.daemon(broker={"control": path})
        d.wait_event("control_off")
        self.exchange(self.client(d), self.worker(d))
        self.assertEqual(d.find_events("admin_started"), [])
        os.mkdir(os.path.dirname(path))
        d.wait_event("control_listening", socket=path)
        self.assertEqual(Admin(path).api("status")["pid"], d.pid)
        self.assertEqual(len(d.find_events("control_off")), 1)
        self.assertIn("bind = ", Admin(path).get("/api/config").text)

    def test_it_comes_up_for_the_next_admin_process(self):
        """Another process has it at the start, and no admin process runs when it becomes free."""
        path = self.temp_dir() + "/control.sock"
        holder = socket.socket(socket.AF_UNIX)
        self.closing(holder)
        holder.bind(path)
        holder.listen(5)
        d = self.daemon(broker={"control": path, "http": "tcp://127.0.0.1:*"})
        self.assertIn("another process listens", d.wait_event("control_off")["error"])
        os.kill(d.admin_pid, signal.SIGKILL)
        holder.close()
        d.wait_event("control_listening")
        d.wait_event("admin_started", count=2)
        self.assertEqual(Admin(path).api("status")["pid"], d.pid)
        self.assertEqual(Admin(d.wait_event("http_listening")["endpoint"]).api("status")["pid"], d.pid)

    def test_a_directory_that_another_process_keeps_locked(self):
        path = self.temp_dir() + "/control.sock"
        directory = os.open(os.path.dirname(path), os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        d = self.daemon(broker={"control": path})
        self.assertIn("locked", d.wait_event("control_off")["error"])
        self.exchange(self.client(d), self.worker(d))
        os.close(directory)
        d.wait_event("control_listening")
        self.assertEqual(Admin(path).api("status")["pid"], d.pid)
        self.assertEqual(len(d.find_events("control_off")), 1)

    def test_killed_and_started_again(self):
        """The admin process of a killed daemon keeps both sockets until it has ended."""
        path = self.temp_dir() + "/control.sock"
        with socket.create_server(("127.0.0.1", 0)) as s:
            port = s.getsockname()[1]
        broker = {"control": path, "http": "tcp://127.0.0.1:%d" % port}
        for _ in range(10):
            d = harness.Daemon(self.sections(broker=broker))
            self.addCleanup(d.kill)
            d.wait_event("control_listening")
            for where in (path, "tcp://127.0.0.1:%d" % port):
                self.assertEqual(Admin(where).api("status")["pid"], d.pid)
            d.proc.kill()
            d.proc.wait()

    def test_the_http_port_beside_it(self):
        d = self.start(broker={"http": "tcp://127.0.0.1:*"})
        http = Admin(d.wait_event("http_listening")["endpoint"])
        self.assertEqual(http.api("status")["pid"], d.pid)
        self.assertEqual(self.api.get("/metrics").status, 200)
        self.assertEqual(self.api.get("/healthz").status, 200)

    @unittest.skipUnless(os.getuid() == 0, "only root can be somebody else")
    def test_another_user(self):
        """A socket with too open permissions still accepts only its users."""
        d = self.start()
        os.chmod(os.path.dirname(self.path), 0o755)
        ask = ("import os, socket, sys\n"
               "os.setgroups([int(g) for g in sys.argv[3:]]); os.setgid(65534); os.setuid(65534)\n"
               "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
               "s.sendall(b'GET /api/%s HTTP/1.0\\r\\n\\r\\n' % sys.argv[2].encode())\n"
               "sys.stdout.write(s.makefile().read())\n")

        def as_nobody(*groups):
            return subprocess.run([sys.executable, "-c", ask, self.path, "version", *groups],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  timeout=DEADLINE, check=False)

        self.assertIn("PermissionError", as_nobody().stderr)
        os.chmod(self.path, 0o666)
        refused = as_nobody().stdout
        self.assertIn("403 Forbidden", refused)
        self.assertIn("permission denied: only root, the broker's user and members of the socket's "
                      "group may use the socket", refused)
        d.wait_event("control_refused", uid=65534)
        os.chmod(self.path, 0o660)
        os.chown(self.path, -1, 0)
        self.assertIn("200 OK", as_nobody("0").stdout)

    @unittest.skipUnless(os.getuid() == 0, "only root can become somebody else")
    def test_it_belongs_to_the_daemons_user(self):
        self.start(broker={"user": "nobody"})
        self.assertEqual(os.stat(self.path).st_uid, 65534)
        self.assertEqual(self.api.api("status")["state"], "running")


class BadInput(ControlCase):
    def test_a_loop_that_stands_still(self):
        """Some commands wait for the loop, others are refused, and none waits indefinitely."""
        d = self.start()
        d.send_signal(signal.SIGSTOP)
        self.addCleanup(d.send_signal, signal.SIGCONT)
        socks = [self.closing(self.api.raw()) for _ in range(17)]
        for sock in socks:
            sock.sendall(b"POST /api/pause/default HTTP/1.1\r\nConnection: close\r\nHost: a\r\n\r\n")
        answers = [sock.makefile("rb").read() for sock in socks]
        self.assertEqual(sum(b"too many commands pending" in a for a in answers), 1)
        self.assertEqual(sum(b"timed out waiting for the message loop; the command may still be "
                             b"executed" in a for a in answers), 16)

    def test_requests(self):
        d = self.start()
        for answer, status, why in (
                (self.api.get("/api"), 404, "no such page\n"),
                (self.api.get("/api/kick/1"), 405, "method not allowed: use POST"),
                (self.api.post("/api/status"), 405, "method not allowed: use GET"),
                (self.api.post("/api/kick"), 400, "missing argument: use PATH/ARGUMENT"),
                (self.api.post("/api/kick/"), 400, "missing argument: use PATH/ARGUMENT"),
                (self.api.post("/api/kick/" + "1" * 200), 400, "argument too long")):
            self.assertEqual(answer.status, status)
            self.assertEqual(answer.text if status == 404 else answer.json["error"], why)
        self.assertEqual(self.api.post("/api/kick/1/2").status, 409)
        self.assertEqual(self.api.post("/api/pause/%2e%2e").status, 409)
        self.assertEqual(self.api.post("/api/reload/now").status, 404)
        self.assertEqual(self.api.post("/api/statusx").status, 404)
        for data in (b"\0\0\0\0", b"x" * 100000, b"POST /api/kick/1 HTTP/1.1\r\n" + b"a: b\r\n" * 9999):
            sock = self.closing(self.api.raw())
            try:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            with sock.makefile("rb") as f:
                try:
                    self.assertNotIn(b" 200 ", f.read())
                except ConnectionError:
                    pass
        self.exchange(self.client(d), self.worker(d))

    def test_one_that_never_reads(self):
        """It requests all peers repeatedly: its share of memory is bounded, and it is closed."""
        d = self.start()
        client, worker = self.client(d), self.worker(d)
        crowd = [self.client(d) for _ in range(100)]
        before = d.admin_rss()
        deaf = self.closing(self.api.raw())
        deaf.settimeout(0.5)
        asked = 0
        try:
            while asked < 8000:
                deaf.sendall(b"GET /api/peers HTTP/1.1\r\nX: %s\r\n\r\n" % (b"x" * 8000))
                asked += 1
        except OSError:
            pass
        self.assertLess(asked, 8000)
        if not harness.INSTRUMENTED:
            self.assertLess(d.admin_rss() - before, 16 << 20)
        self.assertEqual(len(self.peers()), 102)
        self.exchange(client, worker)
        for c in crowd:
            c.close()

    def test_it_goes_before_it_has_its_answer(self):
        d = self.start()
        for _ in range(50):
            sock = self.api.raw()
            sock.sendall(b"GET /api/peers HTTP/1.1\r\n\r\n")
            sock.close()
        # while there are more than 32 of them, a new one may be closed
        end = time.monotonic() + harness.DEADLINE
        status = None
        while status is None and time.monotonic() < end:
            try:
                status = self.api.api("status")
            except ConnectionError:
                pass
        self.assertEqual(status["pid"], d.pid)
