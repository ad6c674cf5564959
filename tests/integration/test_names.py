# SPDX-License-Identifier: MIT
"""Names and interfaces to bind: all of their addresses, on one port, or none."""

import os
import shutil
import socket
import subprocess
import unittest

import harness
import zmtp
from admin import Admin
from harness import Case



def mounts():
    """Can the daemon have mounts of its own? Not in a bare chroot below a mount."""
    return os.getuid() == 0 and shutil.which("unshare") is not None and subprocess.call(
        ["unshare", "-m", "true"], stderr=subprocess.DEVNULL) == 0


CAN = unittest.skipUnless(mounts(), "only root can have another /etc/hosts, and only where / is a mount")


@CAN
class Names(Case):
    HOSTS = "127.0.0.1 localhost two.test\n127.0.0.2 two.test\n192.0.2.77 away.test\n127.0.0.3 away.test\n"

    def under(self):
        """Another /etc/hosts, for the daemon alone."""
        where = self.temp_dir()
        with open(where + "/hosts", "w", encoding="utf-8") as f:
            f.write(self.HOSTS)
        return ["unshare", "-m", "sh", "-c", 'mount --bind "$0/hosts" /etc/hosts && exec "$@"', where]

    def start(self, bind, **kw):
        d = self.daemon(frontend={"bind": bind}, under=self.under(), **kw)
        found = [e["endpoint"] for e in d.find_events("listening", side="frontend")]
        return d, sorted(found)

    def serve(self, d, endpoints):
        w = self.worker(d)
        for endpoint in endpoints:
            self.exchange(self.client(d, endpoint=endpoint), w)
        mark = d.mark()
        w.close()
        d.wait_event("peer_closed", after=mark, side="backend")

    def test_every_address_of_a_name(self):
        d, found = self.start("tcp://two.test:*")
        ports = {e.rsplit(":", 1)[1] for e in found}
        self.assertEqual(len(ports), 1)
        port = ports.pop()
        self.assertEqual(found, ["tcp://127.0.0.1:" + port, "tcp://127.0.0.2:" + port])
        self.serve(d, found)

    def test_all_or_nothing(self):
        with socket.socket() as s:
            s.bind(("127.0.0.2", 0))
            s.listen(1)
            port = s.getsockname()[1]
            d = harness.Daemon(self.sections(frontend={"bind": "tcp://two.test:%d" % port}),
                               under=self.under(), wait=False)
            self.addCleanup(d.kill)
            self.assertEqual(d.wait(), 2)
            e = d.find_events("bind_failed")[0]
            self.assertEqual(e["error"], "tcp://127.0.0.2:%d: Address already in use" % port)

    def test_an_address_that_is_not_here(self):
        """For example ::1 of localhost without IPv6."""
        _, found = self.start("tcp://away.test:*")
        self.assertRegex(found[0], r"^tcp://127\.0\.0\.3:\d+$")
        self.assertEqual(len(found), 1)

    def test_a_reload_knows_them(self):
        """The same name: untouched. Moved to the other side: all sockets. Removed: none is left."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        name = "tcp://two.test:%d" % port
        d, found = self.start(name)
        self.serve(d, found)
        self.reload(d, frontend={"bind": [name, "tcp://127.0.0.1:*"], "backlog": 77})
        self.serve(d, found)
        self.reload(d, frontend={"bind": "tcp://127.0.0.1:*"},
                    backend={"bind": ["tcp://127.0.0.1:*", name]})
        for endpoint in found:
            mark = d.mark()
            w = self.client(d, endpoint=endpoint, socktype=b"REP")
            d.wait_event("peer_ready", after=mark, side="backend")
            w.close()
        self.reload(d, frontend={"bind": "tcp://127.0.0.1:*"})
        for endpoint in found:
            with self.assertRaises(ConnectionRefusedError):
                zmtp.Peer.connect(endpoint)

    def reload(self, d, **sections):
        mark = d.mark()
        with open(d.config, "w", encoding="utf-8") as f:
            f.write(harness.make_ini(self.sections(**sections)))
        d.send_signal(harness.signal.SIGHUP)
        d.wait_event("reloaded", after=mark)

    def test_http_at_every_address(self):
        """Each address is logged, served, and, beyond loopback, warned about."""
        d = self.daemon(broker={"http": "tcp://two.test:*"}, under=self.under())
        found = sorted(e["endpoint"] for e in d.find_events("http_listening"))
        port = found[0].rsplit(":", 1)[1]
        self.assertEqual(found, ["tcp://127.0.0.1:" + port, "tcp://127.0.0.2:" + port])
        for endpoint in found:
            self.assertEqual(Admin(endpoint).get("/healthz").status, 200)
        self.assertEqual(d.find_events("http_exposed"), [])

    def test_http_with_more_addresses_than_are_served(self):
        self.HOSTS = "127.0.0.1 localhost\n" + "".join("127.0.1.%d many.test\n" % i
                                                       for i in range(1, 18))
        d = harness.Daemon(self.sections(broker={"http": "tcp://many.test:*"}), under=self.under(),
                           wait=False)
        self.addCleanup(d.kill)
        self.assertEqual(d.wait(), 2)
        self.assertIn("17, and at most 16", d.find_events("bind_failed", option="http")[0]["error"])

    def test_an_interface(self):
        want = ["127.0.0.1"] + (["[::1]"] if self.has_ipv6() else [])
        d, found = self.start("tcp://lo:*")
        self.assertEqual(sorted(e.split("://")[1].rsplit(":", 1)[0] for e in found
                                if "[fe80" not in e), want)
        self.serve(d, found)

    @staticmethod
    def has_ipv6():
        try:
            with socket.socket(socket.AF_INET6) as s:
                s.bind(("::1", 0))
            return True
        except OSError:
            return False
