# SPDX-License-Identifier: MIT
"""A lossy, slow link between two network namespaces.

With sch_netem: a veth pair, each end with `tc qdisc ... netem`.  Without it:
two TUN devices and a process (Wire) between them that delays, drops, doubles
and reorders packets.  For TCP both are the same.
"""

import ctypes
import fcntl
import heapq
import os
import re
import select
import shutil
import struct
import subprocess
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 1, 0x1000
DELAY, JITTER, LOSS, DOUBLE = 0.005, 0.003, 0.02, 0.01
LIBC = ctypes.CDLL(None, use_errno=True)
PREFIX = "bhchaos"
DAEMON_IP = "10.117.0.1"


class NoLink(Exception):
    """This machine cannot do it; the text says why."""


def enter(name):
    """Move this thread into a network namespace."""
    fd = os.open("/run/netns/" + name, os.O_RDONLY)
    try:
        if LIBC.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(fd)


class Wire:
    """Both ends in one loop.  `ends`: [(namespace, device), ...]"""

    def __init__(self, ends, rng):
        self.rng, self.fds, self.heap, self.count = rng, [], [], 0
        for name, device in ends:
            enter(name)
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(fd, TUNSETIFF,
                        struct.pack("16sH14x", device.encode(), IFF_TUN | IFF_NO_PI))
            self.fds.append(fd)
        self.poll = select.poll()
        for fd in self.fds:
            self.poll.register(fd, select.POLLIN)

    def run(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            wait = self.heap[0][0] - time.monotonic() if self.heap else 0.02
            for fd, _ in self.poll.poll(max(0, int(wait * 1000) + (wait > 0))):
                self.take(fd)
            self.give()

    def take(self, fd):
        other = self.fds[1 - self.fds.index(fd)]
        for _ in range(64):
            try:
                packet = os.read(fd, 1 << 16)
            except (BlockingIOError, OSError):
                return
            for _ in range(1 + (self.rng.random() < DOUBLE)):
                if self.rng.random() >= LOSS and len(self.heap) < 2000:
                    self.count += 1
                    due = time.monotonic() + DELAY + self.rng.uniform(-JITTER, JITTER)
                    heapq.heappush(self.heap, (due, self.count, other, packet))

    def give(self):
        now = time.monotonic()
        while self.heap and self.heap[0][0] <= now:
            _, _, fd, packet = heapq.heappop(self.heap)
            try:
                os.write(fd, packet)
            except OSError:
                pass               # that end is down


def ip(*args):
    done = subprocess.run(["ip"] + list(args), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False)
    if done.returncode != 0:
        raise NoLink("ip %s: %s" % (" ".join(args), done.stdout.decode().strip()))


def sweep():
    """Remove the namespaces of runs that were killed and could not clean up."""
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else ():
        found = re.fullmatch(PREFIX + r"(\d+)[dp]", name)
        if found and not os.path.exists("/proc/" + found[1]):
            ip("netns", "del", name)


class Namespaces:
    """Two namespaces, `daemon` and `peers`, and the link between them."""

    def __init__(self, start_wire, addresses):
        if not shutil.which("ip") or not shutil.which("tc"):
            raise NoLink("no ip and tc (package iproute2)")
        if os.geteuid() != 0:
            raise NoLink("only root can make network namespaces")
        sweep()
        base = PREFIX + str(os.getpid())
        self.daemon, self.peers = base + "d", base + "p"
        self.ends = [(self.daemon, "bh0"), (self.peers, "bh1")]
        self.wire = None
        self.kind = "netem"
        try:
            for name, device in self.ends:
                ip("netns", "add", name)
                ip("-n", name, "link", "set", "lo", "up")
            if not self._netem():
                self.kind = "tun"
                self._tun(start_wire)
            ip("-n", self.daemon, "addr", "add", DAEMON_IP + "/24", "dev", "bh0")
            for a in addresses:
                ip("-n", self.peers, "addr", "add", a + "/24", "dev", "bh1")
            self.up()
        except BaseException:
            self.close()
            raise

    def _netem(self):
        ip("-n", self.daemon, "link", "add", "bh0", "type", "veth", "peer", "name", "bh1",
           "netns", self.peers)
        for name, device in self.ends:
            done = subprocess.run(
                ["tc", "-n", name, "qdisc", "add", "dev", device, "root", "netem",
                 "delay", "%dms" % (DELAY * 1000), "%dms" % (JITTER * 1000),
                 "loss", "%d%%" % (LOSS * 100), "duplicate", "%d%%" % (DOUBLE * 100)],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            if done.returncode != 0:
                ip("-n", self.daemon, "link", "del", "bh0")
                return False
        return True

    def _tun(self, start_wire):
        if not os.path.exists("/dev/net/tun"):
            raise NoLink("neither sch_netem nor /dev/net/tun")
        self.wire = start_wire(self.ends)

    def up(self):
        for name, device in self.ends:
            ip("-n", name, "link", "set", device, "up")

    def down(self, end):
        """Take end 0 or 1 down: its sends fail at once, packets of the other end are lost."""
        name, device = self.ends[end]
        ip("-n", name, "link", "set", device, "down")

    def forget(self, address):
        """Drop all packets of this address from now on."""
        ip("-n", self.peers, "addr", "del", address + "/24", "dev", "bh1")

    def close(self):
        for name, _ in self.ends:
            subprocess.run(["ip", "netns", "del", name], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False)
