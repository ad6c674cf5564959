# SPDX-License-Identifier: MIT
"""A host that disappears: nothing comes from it any more, not even acknowledgements."""

import ctypes
import os
import shutil
import subprocess
import threading
import unittest

import zmtp
from harness import Case

CLONE_NEWNET = 0x40000000
OURS, THEIRS = "10.118.%d.1", "10.118.%d.2"


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


class Host:
    """Another host: a network namespace at the end of a veth pair. Needs root."""

    def __init__(self):
        self.number = os.getpid() % 250 + 1
        self.name = "bhdead%d" % os.getpid()
        self.ours, self.theirs = OURS % self.number, THEIRS % self.number
        run("ip", "netns", "add", self.name)
        try:
            near, far = "bhd%da" % self.number, "bhd%db" % self.number
            run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", self.name)
            run("ip", "address", "add", self.ours + "/24", "dev", near)
            run("ip", "link", "set", near, "up")
            run("ip", "-n", self.name, "address", "add", self.theirs + "/24", "dev", far)
            run("ip", "-n", self.name, "link", "set", far, "up")
        except BaseException:
            self.remove()
            raise

    def remove(self):
        subprocess.run(["ip", "netns", "delete", self.name], check=False)

    def vanish(self):
        """Everything it sends from now on, acknowledgements included, is lost."""
        run("ip", "-n", self.name, "route", "add", "blackhole", self.ours)

    def connect(self, endpoint, minor):
        """A worker of that host after its handshake."""
        got = []

        def inside():
            fd = os.open("/run/netns/" + self.name, os.O_RDONLY)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(fd)
            got.append(zmtp.connect(endpoint, b"DEALER", minor=minor))

        t = threading.Thread(target=inside)
        t.start()
        t.join()
        return got[0]


class DeadHost(Case):
    def setUp(self):
        super().setUp()
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise unittest.SkipTest("needs root and ip, for another host")
        try:
            self.host = Host()
        except (OSError, subprocess.CalledProcessError) as e:
            raise unittest.SkipTest("no network namespace here: %s" % e) from None
        self.addCleanup(self.host.remove)

    def start(self, minor, **options):
        d = self.daemon(frontend={"heartbeat_interval": 0},
                        backend=dict({"bind": "tcp://%s:*" % self.host.ours,
                                      "heartbeat_interval": "200ms",
                                      "heartbeat_timeout": "500ms"}, **options))
        w = self.closing(self.host.connect(d.backend, minor))
        d.wait_event("peer_ready", side="backend")
        return d, w

    def test_a_silent_one_is_found_by_a_ping(self):
        d, w = self.start(1)
        w.recv_command(b"PING")
        self.host.vanish()
        e = d.wait_event("peer_closed", side="backend")
        self.assertIn(e["reason"], ("heartbeat_timeout", "io_error"))

    def test_one_of_zmtp_3_0_is_found_when_something_is_sent_to_it(self):
        """A 3.0 peer gets no PING. Without TCP_USER_TIMEOUT the kernel retries for 15 minutes."""
        d, w = self.start(0)
        c = self.client(d)
        self.exchange(c, w)
        self.host.vanish()
        c.send_message([b"", b"for nobody"])
        e = d.wait_event("peer_closed", side="backend")
        self.assertEqual((e["reason"], e["detail"]), ("io_error", "Connection timed out"))

    def test_without_heartbeats_keepalive_says_how_long(self):
        d, w = self.start(0, heartbeat_interval=0, tcp_keepalive_idle="1s",
                          tcp_keepalive_interval="1s", tcp_keepalive_count=1)
        c = self.client(d)
        self.exchange(c, w)
        self.host.vanish()
        c.send_message([b"", b"for nobody"])
        d.wait_event("peer_closed", side="backend", reason="io_error")
