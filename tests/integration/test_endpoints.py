# SPDX-License-Identifier: MIT
"""tcp, IPv6, ipc, abstract; several binds, several proxies; what cannot be bound."""

import os
import socket
import stat

import zmq

import harness
from zmqcase import ZmqCase


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


class Transports(ZmqCase):
    def served(self, d, front=None, back=None, **options):
        self.echo(back or d.backend, zmq.REP, b"!", **options)
        s = self.socket(zmq.REQ, front or d.frontend, **options)
        self.assertEqual(self.ask(s, b"x" * 1000), [b"x" * 1000 + b"!"])

    def test_ipc(self):
        path = self.temp_dir()
        d = self.daemon(frontend={"bind": "ipc://%s/f" % path},
                        backend={"bind": "ipc://%s/b" % path})
        self.assertEqual(d.frontend, "ipc://%s/f" % path)
        self.served(d)

    def test_abstract(self):
        name = "bulkhead-test-%d" % os.getpid()
        d = self.daemon(frontend={"bind": "ipc://@%s-f" % name},
                        backend={"bind": "ipc://@%s-b" % name})
        self.served(d)

    def test_interface_name(self):
        d = self.daemon(frontend={"bind": "tcp://lo:*"})
        self.assertTrue(d.frontend.startswith("tcp://127.0.0.1:"), d.frontend)
        self.served(d)

    def test_any_host(self):
        d = self.daemon(frontend={"bind": "tcp://*:*"})
        port = d.frontend.rsplit(":", 1)[1]
        self.served(d, front="tcp://127.0.0.1:" + port)

    def test_two_binds_on_one_side(self):
        path = self.temp_dir()
        d = self.daemon(frontend={"bind": ["tcp://127.0.0.1:*", "ipc://%s/f" % path]})
        self.echo(d.backend, zmq.REP, b"!")
        fronts = [d.endpoint("frontend", index=0), d.endpoint("frontend", index=1)]
        self.assertEqual(sorted(f.split(":")[0] for f in fronts), ["ipc", "tcp"])
        for f in fronts:
            self.assertEqual(self.ask(self.socket(zmq.REQ, f), b"x"), [b"x!"])

    def test_two_proxies(self):
        d = self.daemon(sections={
            "broker": {"log_level": "debug", "drain_timeout": "300ms"},
            "frontend one": {"bind": "tcp://127.0.0.1:*"},
            "backend one": {"bind": "tcp://127.0.0.1:*"},
            "proxy two.b-2_": {"mode": "queue"},
            "frontend two.b-2_": {"bind": "tcp://127.0.0.1:*"},
            "backend two.b-2_": {"bind": "tcp://127.0.0.1:*"}})
        self.assertEqual(d.wait_event("started")["proxies"], "2")
        for i, name in enumerate(("one", "two.b-2_")):
            self.echo(d.endpoint("backend", name), zmq.REP, b"%d" % i)
        clients = [self.socket(zmq.REQ, d.endpoint("frontend", name), identity=b"same id")
                   for name in ("one", "two.b-2_")]
        for n in range(20):
            for i, s in enumerate(clients):
                self.assertEqual(self.ask(s, b"q"), [b"q%d" % i])
        st = d.stats()
        for name in ("one", "two.b-2_"):
            self.assertEqual(st.side("backend", name)["sent"], 20)
            self.assertEqual(st.side("frontend", name)["sent"], 20)
            self.assertEqual(st.side("frontend", name)["peers"], 1)

    def test_one_proxy_stuck_the_other_not(self):
        d = self.daemon(sections={
            "broker": {"log_level": "debug", "drain_timeout": "300ms"},
            "frontend a": {"bind": "tcp://127.0.0.1:*"},
            "backend a": {"bind": "tcp://127.0.0.1:*"},
            "frontend b": {"bind": "tcp://127.0.0.1:*"},
            "backend b": {"bind": "tcp://127.0.0.1:*"}})
        flood = self.socket(zmq.DEALER, d.endpoint("frontend", "a"), SNDHWM=0)
        for i in range(3000):
            flood.send_multipart([b"", b"f" * 2000])
        d.wait_stats(lambda s: s.side("backend", "a")["queued"] > 100)
        self.echo(d.endpoint("backend", "b"), zmq.REP)
        s = self.socket(zmq.REQ, d.endpoint("frontend", "b"))
        for i in range(50):
            self.assertEqual(self.ask(s, b"%d" % i), [b"%d" % i])


class IPv6(ZmqCase):
    def setUp(self):
        super().setUp()
        if not has_ipv6():
            self.skipTest("no IPv6 loopback here")

    def test_ipv6(self):
        d = self.daemon(defaults={}, frontend={"bind": "tcp://[::1]:*"},
                        backend={"bind": "tcp://[::1]:*"})
        self.assertTrue(d.frontend.startswith("tcp://[::1]:"), d.frontend)
        self.echo(d.backend, zmq.REP, b"!", IPV6=1)
        s = self.socket(zmq.REQ, None, IPV6=1)
        s.connect(d.frontend)
        self.assertEqual(self.ask(s, b"six"), [b"six!"])
        e = d.wait_event("peer_ready", side="frontend")
        self.assertIn("[::1]", e["address"])

    def test_dialled_over_ipv6(self):
        w = self.echo("tcp://[::1]:*", zmq.REP, b"!", bind=True, IPV6=1)
        d = self.daemon(backend={"bind": None, "connect": w.endpoint})
        self.assertEqual(self.ask(self.socket(zmq.REQ, d.frontend), b"x"), [b"x!"])


class Paths(ZmqCase):
    def config(self, front, **frontend):
        sections = self.sections(frontend=dict(frontend, bind=front))
        path = os.path.join(self.temp_dir(), "bulkhead.ini")
        with open(path, "w", encoding="utf-8") as f:
            f.write(harness.make_ini(sections))
        return path

    def refused(self, front):
        status, _, err = harness.run_command("-c", self.config(front))
        self.assertEqual(status, 2, err)
        return err

    def test_stale_socket_is_replaced(self):
        path = os.path.join(self.temp_dir(), "f")
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)
            s.listen(1)
        self.assertTrue(stat.S_ISSOCK(os.stat(path).st_mode))
        d = self.daemon(frontend={"bind": "ipc://" + path})
        self.echo(d.backend, zmq.REP)
        self.assertEqual(self.ask(self.socket(zmq.REQ, d.frontend), b"x"), [b"x"])

    def test_left_by_a_killed_daemon(self):
        path = os.path.join(self.temp_dir(), "f")
        first = harness.Daemon(self.sections(frontend={"bind": "ipc://" + path}))
        first.kill()
        self.assertTrue(os.path.exists(path))
        d = self.daemon(frontend={"bind": "ipc://" + path})
        self.echo(d.backend, zmq.REP)
        self.assertEqual(self.ask(self.socket(zmq.REQ, d.frontend), b"x"), [b"x"])

    def test_what_is_no_socket_stays(self):
        path = os.path.join(self.temp_dir(), "f")
        with open(path, "w", encoding="utf-8") as f:
            f.write("mine")
        self.assertIn("the path exists and is not a socket", self.refused("ipc://" + path))
        with open(path, encoding="utf-8") as f:
            self.assertEqual(f.read(), "mine")

    def test_live_socket_is_refused(self):
        path = os.path.join(self.temp_dir(), "f")
        d = self.daemon(frontend={"bind": "ipc://" + path})
        inode = os.stat(path).st_ino
        err = self.refused("ipc://" + path)
        self.assertIn(path, err)
        self.assertEqual(os.stat(path).st_ino, inode, "the socket file was replaced")
        self.echo(d.backend, zmq.REP)
        self.assertEqual(self.ask(self.socket(zmq.REQ, d.frontend), b"x"), [b"x"])

    def test_live_socket_with_a_full_backlog_is_refused(self):
        """The owner of a socket may be too busy to accept."""
        path = os.path.join(self.temp_dir(), "f")
        owner = self.closing(socket.socket(socket.AF_UNIX))
        owner.bind(path)
        owner.listen(0)
        for _ in range(3):
            s = self.closing(socket.socket(socket.AF_UNIX))
            s.setblocking(False)
            s.connect_ex(path)
        inode = os.stat(path).st_ino
        self.refused("ipc://" + path)
        self.assertEqual(os.stat(path).st_ino, inode)

    def test_a_file_that_is_no_socket_is_not_touched(self):
        path = os.path.join(self.temp_dir(), "f")
        with open(path, "w", encoding="utf-8") as f:
            f.write("precious")
        self.refused("ipc://" + path)
        with open(path, encoding="utf-8") as f:
            self.assertEqual(f.read(), "precious")

    def test_missing_directory(self):
        err = self.refused("ipc://%s/no/such/place" % self.temp_dir())
        self.assertIn("/no/such/place", err)

    def test_ipc_mode(self):
        old = os.umask(0o077)
        try:
            path = self.temp_dir()
            self.daemon(frontend={"bind": "ipc://%s/f" % path, "ipc_mode": "0600"},
                        backend={"bind": "ipc://%s/b" % path})
            self.assertEqual(stat.S_IMODE(os.stat(path + "/f").st_mode), 0o600)
            self.assertEqual(stat.S_IMODE(os.stat(path + "/b").st_mode), 0o660)
            os.umask(0)
            self.daemon(frontend={"bind": "ipc://%s/f2" % path, "ipc_mode": "0666"},
                        backend={"bind": "ipc://%s/b2" % path})
            self.assertEqual(stat.S_IMODE(os.stat(path + "/f2").st_mode), 0o666)
            self.assertEqual(stat.S_IMODE(os.stat(path + "/b2").st_mode), 0o660)
        finally:
            os.umask(old)

    def test_port_in_use(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen(1)
            endpoint = "tcp://127.0.0.1:%d" % s.getsockname()[1]
            self.assertIn(endpoint, self.refused(endpoint))

    def test_port_of_another_daemon(self):
        d = self.daemon()
        self.refused(d.frontend)

    def test_abstract_name_in_use(self):
        name = "bulkhead-test-%d-live" % os.getpid()
        with socket.socket(socket.AF_UNIX) as s:
            s.bind("\0" + name)
            s.listen(1)
            self.refused("ipc://@" + name)

    def test_address_that_is_not_here(self):
        self.refused("tcp://192.0.2.77:*" if not self.is_here("192.0.2.77")
                     else "tcp://192.0.2.78:*")

    @staticmethod
    def is_here(address):
        try:
            with socket.socket() as s:
                s.bind((address, 0))
            return True
        except OSError:
            return False

    def test_a_side_with_one_bad_endpoint_of_two(self):
        """The daemon does not start with a part of its endpoints."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen(1)
            self.refused(["tcp://127.0.0.1:*", "tcp://127.0.0.1:%d" % s.getsockname()[1]])
