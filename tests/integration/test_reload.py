# SPDX-License-Identifier: MIT
"""Reload: all or nothing, and only the difference."""

import os
import signal
import socket
import struct
import threading
import time

import zmq

import zmtp
from admin import Admin
from harness import DEADLINE, VALGRIND, Daemon, make_ini, without_control
from zmqcase import ZmqCase


def backlog_of(port):
    """The listen(2) backlog of the IPv4 socket at this port, as ss shows it; None: unknown."""
    dump, by_family, listens = 0x301, 20, 1 << 10
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as s:
            asked = struct.pack("=BBBxI48x", socket.AF_INET, socket.IPPROTO_TCP, 0, listens)
            s.send(struct.pack("=IHHII", 16 + len(asked), by_family, dump, 1, 0) + asked)
            while True:
                data = s.recv(65536)
                while data:
                    size, kind = struct.unpack_from("=IH", data)
                    if kind != by_family:
                        return None
                    if struct.unpack_from("!H", data, 20)[0] == port:
                        return struct.unpack_from("=I", data, 76)[0]
                    data = data[(size + 3) & ~3:]
    except OSError:
        return None


class ReloadCase(ZmqCase):
    def ipc(self, name):
        """An endpoint that only this test uses."""
        if not hasattr(self, "_dir"):
            self._dir = self.temp_dir()
        return "ipc://%s/%s" % (self._dir, name)

    def write(self, d, sections=None, text=None):
        with open(d.config + ".new", "w", encoding="utf-8") as f:
            f.write(text if text is not None else make_ini(without_control(sections)))
        os.rename(d.config + ".new", d.config)

    def reload(self, d, sections=None, text=None, good=True):
        """Reload; return the changes, or the errors, from the log."""
        if sections is not None or text is not None:
            self.write(d, sections, text)
        mark = d.mark()
        d.send_signal(signal.SIGHUP)
        if good:
            done = d.wait_event("reloaded", after=mark)
            changes = [e["change"] for e in d.find_events("reload_change", after=mark)]
            self.assertEqual(int(done["changes"]), len(changes))
            return changes
        failed = d.wait_event("reload_failed", after=mark)
        errors = [e for e in d.find_events("config_error", after=mark)]
        self.assertEqual(d.find_events("reloaded", after=mark), [])
        return int(failed["errors"]), errors

    def closed(self, d, side, proxy="default", **want):
        return d.wait_event("peer_closed", proxy=proxy, side=side, **want)


    def more(self, **broker):
        return self.sections(broker=broker,
                             **{"frontend b": {"bind": self.ipc("f")},
                                "backend b": {"bind": self.ipc("b")}})

    def pair(self, d):
        return self.client(d, endpoint=self.ipc("f"), identity=b"c"), \
            self.worker(d, endpoint=self.ipc("b"))


class Options(ReloadCase):
    def test_nothing_changed(self):
        d = self.daemon()
        self.assertEqual(self.reload(d), [])
        self.write(d, text="; a comment\n" + open(d.config, encoding="utf-8").read())
        self.assertEqual(self.reload(d), [])

    def test_the_answer_names_what_changed(self):
        d = self.daemon()
        changes = self.reload(d, self.sections(
            broker={"drain_timeout": "2s", "max_connections": 100},
            frontend={"send_timeout": "7s", "when_full": "pause", "routing_id": "x"}))
        self.assertEqual(changes, [
            "[broker] drain_timeout: 300ms -> 2s",
            "[broker] max_connections: 0 -> 100",
            "[frontend default] send_timeout: 10s -> 7s",
            "[frontend default] when_full: drop -> pause",
            "[frontend default] routing_id: (none) -> x (for new connections)"])
        self.assertEqual(self.reload(d), [])

    def test_max_outstanding_below_what_is_out(self):
        """The worker keeps its requests, and gets none until it has fewer than the limit."""
        def sections(limit):
            return self.sections(frontend={"bind": self.ipc("f")},
                                 backend={"bind": self.ipc("b"), "max_outstanding": limit})
        d = self.daemon(sections=sections(5))
        full = self.worker(d, endpoint=self.ipc("b"))
        c = self.client(d, identity=b"c", endpoint=self.ipc("f"))
        for i in range(12):
            c.send_message([b"%d" % i, b"", b"x"])
        got = [full.recv_message() for _ in range(5)]
        self.assertEqual(self.reload(d, sections(2)), [
            "[backend default] max_outstanding: 5 -> 2"])
        other = self.worker(d, endpoint=self.ipc("b"))
        theirs = [other.recv_message() for _ in range(2)]
        for _ in range(3):                       # 4, 3, 2 are no fewer than the limit
            full.send_message(got.pop(0)[:3] + [b"y"])
        self.assertEqual([c.recv_message()[0] for _ in range(3)], [b"0", b"1", b"2"])
        d.sync()
        self.assertEqual((full.readable_now(), other.readable_now()), (b"", b""))
        full.send_message(got.pop(0)[:3] + [b"y"])
        got.append(full.recv_message())
        self.assertEqual(got[-1][1], b"7")
        self.reload(d, sections(0))
        rest = [full.recv_message() for _ in range(2)] + [other.recv_message() for _ in range(2)]
        self.assertEqual({m[1] for m in rest}, {b"8", b"9", b"10", b"11"})
        for w, m in [(full, m) for m in got + rest[:2]] + [(other, m) for m in theirs + rest[2:]]:
            w.send_message(m[:3] + [b"y"])
        self.assertEqual({c.recv_message()[0] for _ in range(9)},
                         {b"%d" % i for i in range(3, 12)})
        s = d.wait_stats(lambda s: s.backend["outstanding"] == 0)
        self.assertEqual((s.backend["dropped"], s.frontend["dropped"]), (0, 0))

    def test_what_needs_a_restart_is_told_again(self):
        d = self.daemon()
        sections = self.sections(broker={"user": "nobody"}, backend={"send_buffer": "64KiB"})
        told = ["[broker] user: (none) -> nobody (needs a restart)",
                "[backend default] send_buffer: 0 -> 64KiB (needs a restart)"]
        self.assertEqual(self.reload(d, sections), told)
        self.assertEqual(d.find_events("reloaded")[-1]["need_restart"], "2")
        self.assertEqual(self.reload(d), told)

    def test_message_size_of_a_connection_that_is_there(self):
        d = self.daemon()
        w, c = self.worker(d), self.client(d)
        self.exchange(c, w, b"x" * 1000)
        self.reload(d, self.sections(frontend={"max_message_size": 500}))
        self.exchange(c, w, b"x" * 400)
        c.send_message([b"", b"x" * 1000])
        self.closed(d, "frontend", reason="message_too_big")
        self.reload(d, self.sections())
        self.exchange(self.client(d), w, b"x" * 1000)

    def test_heartbeat_of_a_connection_that_is_there(self):
        d = self.daemon(frontend={"heartbeat_interval": 0})
        c = self.client(d)
        d.sync()
        self.assertEqual(c.readable_now(), b"")
        self.reload(d, self.sections(frontend={"heartbeat_interval": "50ms",
                                               "heartbeat_timeout": "100ms"}))
        for _ in range(5):
            c.recv_command(b"PING")

    def test_send_timeout_of_a_peer_that_is_stuck_already(self):
        d = self.daemon(backend={"send_timeout": 0, "send_buffer": 4096})
        w = self.worker(d, rcvbuf=4096)
        c = self.client(d)
        c.send_message([b"", b"x" * 5000000])       # cut: more than the two kernels take
        d.wait_stats(lambda s: s.backend["queued"] == 1 and s.backend["bytes_sent"] > 5000)
        self.reload(d, self.sections(backend={"send_timeout": "50ms", "send_buffer": 4096}))
        self.closed(d, "backend", reason="send_timeout")
        w.close()

    def test_max_connections_lets_one_in_that_waits(self):
        d = self.daemon(frontend={"max_connections": 1})
        w = self.worker(d)
        first = self.client(d)
        second = self.peer(d.frontend)
        d.wait_event("accept_paused", reason="max_connections")
        self.reload(d, self.sections(frontend={"max_connections": 2}))
        second.handshake()
        self.exchange(second, w)
        self.reload(d, self.sections(frontend={"max_connections": 1}))
        self.exchange(first, w)                     # no peer is closed for it
        self.exchange(second, w)

    def test_receive_hwm_of_a_client_that_waits(self):
        d = self.daemon(frontend={"receive_hwm_bytes": 1000, "receive_buffer": 4096})
        c = self.client(d)
        for _ in range(2):
            c.send_message([b"", b"x" * 900])
        d.wait_stats(lambda s: s.backend["queued"] == 2)
        c.send_message([b"", b"third"])
        self.assertEqual(d.sync().backend["queued"], 2)
        self.reload(d, self.sections(frontend={"receive_hwm_bytes": 10000,
                                               "receive_buffer": 4096}))
        d.wait_stats(lambda s: s.backend["queued"] == 3)

    def test_send_hwm_of_a_worker_that_is_full(self):
        d = self.daemon(backend={"send_hwm": 2, "send_buffer": 4096, "send_timeout": 0})
        w = self.worker(d, rcvbuf=4096)
        c = self.client(d)
        sizes = [3000000] + [10] * 9
        for n in sizes:
            c.send_message([b"", b"x" * n])
        d.wait_stats(lambda s: s.backend["received"] == 10 and
                     s.backend["bytes_sent"] > 5000)
        self.reload(d, self.sections(backend={"send_hwm": 100, "send_buffer": 4096,
                                              "send_timeout": 0}))
        # the worker has read all of it, so another one gets its share of the next requests
        other = self.worker(d)
        c.send_message([b"", b"next"])
        c.send_message([b"", b"next"])
        self.assertEqual(other.recv_message()[-1], b"next")
        self.assertEqual([len(w.recv_message()[-1]) for _ in sizes], sizes)
        self.assertEqual(w.recv_message()[-1], b"next")

    def test_routing_id_of_new_connections(self):
        d = self.daemon(backend={"routing_id": "old"})
        first = self.worker(d)
        self.assertEqual(first.their_ready[b"Identity"], b"old")
        self.reload(d, self.sections(backend={"routing_id": "newer"}))
        self.assertEqual(self.worker(d).their_ready[b"Identity"], b"newer")
        self.exchange(self.client(d), first)

    def test_log_level(self):
        d = self.daemon(broker={"log_level": "notice"})
        mark = d.mark()
        self.client(d)
        d.sync()
        self.reload(d, self.sections(broker={"log_level": "info"}))
        self.client(d)
        d.wait_event("peer_ready", after=mark)
        self.assertEqual(len(d.find_events("peer_ready", after=mark)), 1)

    def test_mode_of_a_socket_file_and_backlog(self):
        d = self.daemon(frontend={"bind": self.ipc("f"), "ipc_mode": "0600"})
        path = self.ipc("f")[6:]
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.reload(d, self.sections(frontend={"bind": self.ipc("f"), "ipc_mode": "0666",
                                               "backlog": 7}))
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o666)
        self.client(d)


    def test_backlog_of_tcp(self):
        """It is changed on listening sockets, at every address, without any privilege."""
        for user in (None, "nobody") if os.getuid() == 0 else (None,):
            d = self.daemon(frontend={"backlog": 5}, backend={"backlog": 6}, broker={"user": user})
            os.chmod(d.dir, 0o755)      # that user reads the configuration, too
            ports = [int(e.rsplit(":", 1)[1]) for e in (d.frontend, d.backend)]
            if backlog_of(ports[0]) is None:
                self.skipTest("this kernel does not tell")
            self.assertEqual([backlog_of(p) for p in ports], [5, 6])
            self.assertEqual(self.reload(d, self.sections(frontend={"backlog": 50}, backend={"backlog": 6},
                                                          broker={"user": user})),
                             ["[frontend default] backlog: 5 -> 50"])
            self.assertEqual([backlog_of(p) for p in ports], [50, 6])
            self.assertEqual(d.find_events("retune_failed"), [])
            self.exchange(self.client(d), self.worker(d))


class Broken(ReloadCase):
    def test_every_error_and_nothing_changes(self):
        d = self.daemon()
        w, c = self.worker(d), self.client(d)
        text = open(d.config, encoding="utf-8").read()
        count, errors = self.reload(d, good=False, text=text + (
            "send_timeout = soon\nsend_hwm = 1\nnosuch = 1\n"
            "[frontend more]\nbind = " + self.ipc("more") + "\n"))
        lines = text.count("\n")
        self.assertEqual(count, 3)
        self.assertEqual([int(e["line"]) for e in errors], [lines + 1, lines + 3, lines + 4])
        self.assertEqual({e["file"] for e in errors}, {d.config})
        self.assertIn("not a duration", errors[0]["error"])
        self.assertFalse(os.path.exists(self.ipc("more")[6:]))
        self.exchange(c, w)
        self.reload(d, text=text)
        self.assertEqual(d.find_events("reload_change"), [])

    def test_more_errors_than_are_told(self):
        d = self.daemon()
        text = open(d.config, encoding="utf-8").read()
        count, errors = self.reload(d, good=False, text=text + "nosuch = 1\n" * 150)
        self.assertEqual(count, 150)
        first = text.count("\n") + 1
        self.assertEqual([int(e["line"]) for e in errors], [*range(first, first + 100), 0])
        self.assertEqual(errors[-1]["error"], "and 50 more errors")
        self.exchange(self.client(d), self.worker(d))

    def test_no_file_and_half_a_file(self):
        d = self.daemon()
        text = open(d.config, encoding="utf-8").read()
        os.unlink(d.config)
        count, errors = self.reload(d, good=False)
        self.assertEqual((count, errors[0]["line"]), (1, "0"))
        self.assertEqual(errors[0]["error"], "No such file or directory")
        self.reload(d, good=False, text=text[:text.index("[backend]")])
        self.reload(d, good=False, text="")
        self.exchange(self.client(d), self.worker(d))

    def test_a_bind_that_fails(self):
        d = self.daemon()
        w, c = self.worker(d), self.client(d)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen(1)
            bad = "tcp://127.0.0.1:%d" % taken.getsockname()[1]
            sections = self.sections(
                frontend={"bind": ["tcp://127.0.0.1:*", self.ipc("one"), bad],
                          "send_timeout": "1s", "max_message_size": 3},
                **{"frontend b": {"bind": self.ipc("two")},
                   "backend b": {"connect": "tcp://127.0.0.1:9"}})
            mark = d.mark()
            self.assertEqual(self.reload(d, sections, good=False), (1, []))
            e = d.wait_event("bind_failed", after=mark, endpoint=bad)
            self.assertEqual((e["proxy"], e["side"]), ("default", "frontend"))
            self.assertEqual(d.find_events("listening", after=mark), [])
            for name in ("one", "two"):
                self.assertFalse(os.path.exists(self.ipc(name)[6:]))
            self.exchange(c, w, b"longer than three")
            self.assertEqual(d.stats().frontend["connect_attempts"], 0)
        changes = self.reload(d)                    # the port is free now
        self.assertEqual(len(changes), 7)

    def test_a_clash_with_what_goes(self):
        """The old socket still exists when the new one is bound: the error says what to do."""
        control = {"control": self.temp_dir() + "/control.sock"}
        d = self.daemon(broker=control)
        port = d.frontend.rpartition(":")[2]

        def sections(address):
            return self.sections(broker=control, frontend={
                "bind": ["tcp://127.0.0.1:*", "tcp://%s:%s" % (address, port)]})
        self.reload(d, sections("127.0.0.9"))
        self.write(d, sections("0.0.0.0"))
        answer = Admin(control["control"]).post("/api/reload")
        self.assertEqual(answer.status, 409)
        self.assertRegex(answer.json["error"],
                         r"bind tcp://0\.0\.0\.0:%s: .*; it clashes with an endpoint that this "
                         r"reload removes: tcp://127\.0\.0\.9:%s; restart the broker instead" % (port, port))
        self.client(d, endpoint="tcp://127.0.0.9:" + port)


class Endpoints(ReloadCase):
    def test_a_bind_is_added(self):
        d = self.daemon()
        w, c = self.worker(d), self.client(d)
        self.reload(d, self.sections(frontend={"bind": ["tcp://127.0.0.1:*", self.ipc("f")]},
                                     backend={"bind": ["tcp://127.0.0.1:*", self.ipc("b")]}))
        self.exchange(c, w)
        w.close()
        self.closed(d, "backend")
        self.exchange(self.client(d, endpoint=self.ipc("f")), self.worker(d, endpoint=self.ipc("b")))

    def test_a_bind_of_the_frontend_is_removed(self):
        """Its connections get their replies and are then closed; others notice nothing."""
        d = self.daemon(frontend={"bind": ["tcp://127.0.0.1:*", self.ipc("f")]},
                        broker={"drain_timeout": "1h"})
        w, stays = self.worker(d), self.client(d)
        goes = self.client(d, endpoint=self.ipc("f"), identity=b"g")
        idle = self.client(d, endpoint=self.ipc("f"))
        raw = self.peer(self.ipc("f"))              # without a handshake
        goes.send_message([b"", b"1"])
        goes.send_message([b"", b"2"])
        for _ in range(2):
            self.assertEqual(w.recv_message()[0], b"g")
        changes = self.reload(d, self.sections(broker={"drain_timeout": "1h"}))
        self.assertEqual(changes, ["[frontend default] bind %s: removed, draining" % self.ipc("f")])
        self.assertFalse(os.path.exists(self.ipc("f")[6:]))
        self.assertEqual(idle.expect_closed(), b"")
        raw.expect_closed()
        self.exchange(stays, w)
        w.send_message([b"g", b"", b"1!"])
        self.exchange(stays, w)
        self.assertEqual(d.find_events("endpoint_removed"), [])
        self.assertEqual(goes.readable_now(), b"")  # with the last reply, and the end
        w.send_message([b"g", b"", b"2!"])
        self.assertEqual(goes.recv_message(), [b"", b"1!"])
        self.assertEqual(goes.recv_message(), [b"", b"2!"])
        self.assertEqual(goes.expect_closed(), b"")
        goes.send_message([b"", b"too late"])
        d.wait_stats(lambda s: s.backend["drop_shutdown"] == 1)
        goes.close(), idle.close(), raw.close()
        d.wait_event("endpoint_removed", endpoint=self.ipc("f"))
        s = d.stats()
        self.assertEqual(s.frontend["closed_reload"], 3)
        self.assertEqual(s.frontend["closed"], 3)
        self.assertEqual(s.backend["drop_shutdown"], 1)
        self.exchange(stays, w)

    def test_a_bind_of_the_backend_is_removed(self):
        d = self.daemon(backend={"bind": ["tcp://127.0.0.1:*", self.ipc("b")]},
                        broker={"drain_timeout": "1h"})
        goes = self.worker(d, endpoint=self.ipc("b"))
        c = self.client(d, identity=b"c")
        c.send_message([b"", b"first"])
        self.assertEqual(goes.recv_message(), [b"c", b"", b"first"])
        self.reload(d, self.sections(broker={"drain_timeout": "1h"}))
        for i in range(3):                          # waits: the worker gets nothing new
            c.send_message([b"", b"%d" % i])
        d.wait_stats(lambda s: s.backend["queued"] == 3)
        self.assertEqual(goes.readable_now(), b"")
        goes.send_message([b"c", b"", b"first!"])
        self.assertEqual(c.recv_message(), [b"", b"first!"])
        self.assertEqual(goes.expect_closed(), b"")
        goes.close()
        self.closed(d, "backend", reason="reload")
        d.wait_event("endpoint_removed")
        w = self.worker(d)
        for i in range(3):
            self.assertEqual(w.recv_message(), [b"c", b"", b"%d" % i])
        self.assertEqual(d.stats().backend["drop_shutdown"], 0)

    def test_drain_timeout_of_a_removed_endpoint(self):
        """A worker that never answers; a client that is never answered."""
        d = self.daemon(frontend={"bind": ["tcp://127.0.0.1:*", self.ipc("f")]},
                        backend={"bind": ["tcp://127.0.0.1:*", self.ipc("b")]},
                        broker={"drain_timeout": "100ms"})
        w = self.worker(d, endpoint=self.ipc("b"))
        c = self.client(d, endpoint=self.ipc("f"))
        c.send_message([b"", b"x"])
        w.recv_message()
        self.reload(d, self.sections(broker={"drain_timeout": "100ms"}))
        for peer, side in ((w, "backend"), (c, "frontend")):
            self.assertEqual(peer.expect_closed(), b"")
            peer.close()
            self.closed(d, side, reason="reload")
        d.wait_event("endpoint_removed", count=2)

    def test_what_a_removed_worker_kept_goes_to_others(self):
        def sections(*bind):
            return self.sections(backend={"bind": list(bind), "redeliver": "yes"},
                                 broker={"drain_timeout": "100ms"})

        d = self.daemon(sections=sections(self.ipc("b"), "tcp://127.0.0.1:*"))
        goes = self.worker(d, endpoint=self.ipc("b"))
        c = self.client(d, identity=b"c")
        c.send_message([b"", b"x"])
        self.assertEqual(goes.recv_message(), [b"c", b"", b"x"])
        stays = self.worker(d, endpoint=d.endpoint("backend", index=1))
        self.reload(d, sections("tcp://127.0.0.1:*"))
        self.assertEqual(goes.expect_closed(), b"")
        goes.close()
        self.assertEqual(stays.recv_message(), [b"c", b"", b"x"])
        stays.send_message([b"c", b"", b"y"])
        self.assertEqual(c.recv_message(), [b"", b"y"])

    def test_a_connect_is_added_and_removed(self):
        d = self.daemon()
        listener = self.closing(zmtp.Listener())
        more = self.sections(backend={"connect": listener.endpoint})
        self.reload(d, more)
        w = self.closing(listener.accept())
        w.handshake()
        self.ready(d, "backend")
        c = self.client(d, identity=b"c")
        c.send_message([b"", b"x"])
        self.assertEqual(w.recv_message(), [b"c", b"", b"x"])
        self.reload(d, self.sections(broker={"drain_timeout": "1h"}))
        d.sync()
        w.send_message([b"c", b"", b"y"])
        self.assertEqual(c.recv_message(), [b"", b"y"])
        self.assertEqual(w.expect_closed(), b"")
        w.close()
        d.wait_event("endpoint_removed", endpoint=listener.endpoint)
        s = d.stats()
        self.assertEqual((s.backend["connect_attempts"], s.backend["closed_reload"]), (1, 1))
        # a client without a reply is closed, too
        listener.close()
        self.reload(d, more)
        d.wait_event("reconnecting")
        self.reload(d, self.sections())
        d.wait_event("endpoint_removed", count=2)

    def test_added_again_while_the_old_connections_drain(self):
        both = {"bind": ["tcp://127.0.0.1:*", self.ipc("f")]}
        d = self.daemon(frontend=both, broker={"drain_timeout": "1h"})
        w = self.worker(d)
        old = self.client(d, endpoint=self.ipc("f"), identity=b"old")
        old.send_message([b"", b"x"])
        w.recv_message()
        self.reload(d, self.sections(broker={"drain_timeout": "1h"}))
        self.reload(d, self.sections(frontend=both, broker={"drain_timeout": "1h"}))
        new = self.client(d, endpoint=self.ipc("f"))
        self.exchange(new, w)
        w.send_message([b"old", b"", b"y"])
        self.assertEqual(old.recv_message(), [b"", b"y"])
        self.assertEqual(old.expect_closed(), b"")
        self.exchange(new, w)

    def test_swapped_endpoints_keep_their_sockets(self):
        """A connection that waits in the backlog is not lost on the way."""
        one, two = self.ipc("one"), self.ipc("two")

        def sections(a, b, **frontend):
            return self.sections(frontend=dict(frontend, bind=a),
                                 backend={"bind": self.ipc("b-default")},
                                 **{"frontend b": {"bind": b},
                                    "backend b": {"bind": self.ipc("b-b")}})

        d = self.daemon(sections=sections(one, two, max_connections=1))
        w = self.worker(d, endpoint=self.ipc("b-default"))
        wb = self.worker(d, endpoint=self.ipc("b-b"))
        first = self.client(d, endpoint=one)
        waiting = self.peer(one)
        d.wait_event("accept_paused")
        inode = os.stat(one[6:]).st_ino
        mark = d.mark()
        self.reload(d, sections(two, one, max_connections=1))
        self.assertEqual(os.stat(one[6:]).st_ino, inode)
        self.assertEqual(len(d.find_events("listening", after=mark)), 2)
        waiting.handshake()
        self.exchange(waiting, wb)
        self.assertEqual(first.expect_closed(), b"")
        first.close()
        d.wait_event("endpoint_removed", count=2)
        self.exchange(self.client(d, endpoint=two), w)


class Proxies(ReloadCase):
    def test_added_and_removed(self):
        d = self.daemon(broker={"drain_timeout": "1h"})
        stays = self.client(d), self.worker(d)
        changes = self.reload(d, self.more(drain_timeout="1h"))
        self.assertEqual(changes, ["[proxy b] added",
                                   "[frontend b] bind %s: added" % self.ipc("f"),
                                   "[backend b] bind %s: added" % self.ipc("b")])
        c, w = self.pair(d)
        self.exchange(c, w)
        for i in range(5):
            c.send_message([b"", b"%d" % i])
        d.wait_stats(lambda s: s.side("backend", "b")["received"] == 6)
        changes = self.reload(d, self.sections(broker={"drain_timeout": "1h"}))
        self.assertEqual(changes[0], "[proxy b] removed, draining")
        self.exchange(*stays)
        # while the proxy drains, its name is in use
        self.assertEqual(self.reload(d, self.more(drain_timeout="1h"), good=False), (1, []))
        self.reload(d, self.sections(broker={"drain_timeout": "1h"}))
        for i in range(5):
            self.assertEqual(w.recv_message(), [b"c", b"", b"%d" % i])
            w.send_message([b"c", b"", b"%d!" % i])
        for i in range(5):
            self.assertEqual(c.recv_message(), [b"", b"%d!" % i])
        e = d.wait_event("proxy_drained", proxy="b")
        self.assertEqual((e["answered"], e["given_up"]), ("5", "0"))
        for peer, side in ((w, "backend"), (c, "frontend")):
            self.assertEqual(peer.expect_closed(), b"")
            peer.close()
            self.closed(d, side, proxy="b", reason="reload")
        e = d.wait_event("proxy_removed", proxy="b", conserved="yes")
        self.assertNotIn(("b", "frontend"), d.stats().sides)
        self.exchange(*stays)
        self.assertEqual(d.stats().frontend["closed"], 0)
        # now it can be added again
        self.reload(d, self.more(drain_timeout="1h"))
        self.exchange(*self.pair(d))

    def test_added_again_while_it_drains(self):
        broker = {"control": self.temp_dir() + "/control.sock", "drain_timeout": "1h"}
        d = self.daemon(sections=self.more(**broker))
        c, w = self.pair(d)
        c.send_message([b"", b"kept"])
        self.assertEqual(w.recv_message(), [b"c", b"", b"kept"])
        self.reload(d, self.sections(broker=broker))
        self.write(d, self.more(**broker))
        answer = Admin(broker["control"]).post("/api/reload")
        self.assertEqual(answer.status, 409)
        self.assertEqual(answer.json["error"],
                         "proxy b is still draining after its removal; try again later\n")
        w.send_message([b"c", b"", b"done"])
        self.assertEqual(c.recv_message(), [b"", b"done"])

    def test_given_up(self):
        d = self.daemon(sections=self.more(drain_timeout="100ms"))
        c, w = self.pair(d)
        c.send_message([b"", b"never answered"])
        w.recv_message()
        w.close()
        self.closed(d, "backend", proxy="b")
        for _ in range(3):
            c.send_message([b"", b"waits"])
        d.wait_stats(lambda s: s.side("backend", "b")["queued"] == 3)
        mark = d.mark()
        self.reload(d, self.sections(broker={"drain_timeout": "100ms"}))
        e = d.wait_event("proxy_drained", proxy="b")
        self.assertEqual((e["answered"], e["given_up"]), ("0", "3"))
        self.assertEqual(c.expect_closed(), b"")
        c.close()
        d.wait_event("proxy_removed", proxy="b", conserved="yes")
        e = d.find_events("stats", after=mark, proxy="b", side="backend")[-1]
        self.assertEqual(e["drop_shutdown"], "3")

    def test_stop_while_one_drains(self):
        d = self.daemon(sections=self.more(drain_timeout="1h"))
        c, w = self.pair(d)
        c.send_message([b"", b"x"])
        w.recv_message()
        self.reload(d, self.sections(broker={"drain_timeout": "1h"}))
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")
        d.send_signal(signal.SIGHUP)                # too late for that
        w.send_message([b"c", b"", b"y"])
        self.assertEqual(c.recv_message(), [b"", b"y"])
        self.assertEqual(c.expect_closed(), b"")
        c.close(), w.close()
        d.stop()
        self.assertEqual(len(d.find_events("reloaded")), 1)

    def test_stop_with_draining_endpoints(self):
        d = self.daemon(backend={"bind": ["tcp://127.0.0.1:*", self.ipc("b")],
                                 "connect": "tcp://127.0.0.1:9"}, broker={"drain_timeout": "1h"})
        w, c = self.worker(d, endpoint=self.ipc("b")), self.client(d)
        c.send_message([b"", b"x"])
        w.recv_message()
        self.reload(d, self.sections(broker={"drain_timeout": "1h"}))
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")
        d.stop()


class Ready(ReloadCase):
    @staticmethod
    def wait_readyz(d, admin, status):
        """Wait for this answer of /readyz, which may be a moment old."""
        d.wait_stats(lambda _: admin.get("/readyz").status == status, "/readyz: %d" % status)

    def test_a_proxy_that_drains_makes_nobody_unready(self):
        broker = {"drain_timeout": "1h", "http": "tcp://127.0.0.1:*"}
        d = self.daemon(sections=self.more(**broker))
        admin = Admin(d.wait_event("http_listening")["endpoint"])
        self.worker(d)
        c, w = self.pair(d)
        self.exchange(c, w)
        self.wait_readyz(d, admin, 200)
        w.close()
        self.closed(d, "backend", proxy="b")
        self.wait_readyz(d, admin, 503)
        c.send_message([b"", b"keeps it draining"])
        d.wait_stats(lambda s: s.side("backend", "b")["queued"] == 1)
        self.reload(d, self.sections(broker=broker))
        self.wait_readyz(d, admin, 200)
        self.assertEqual(d.find_events("proxy_drained"), [])
        d.send_signal(signal.SIGTERM)               # no worker is left: logged twice
        d.wait_event("draining")


class Load(ReloadCase):
    ROUNDS = 200

    class Asker(threading.Thread):
        """A DEALER with several requests in flight; each must be answered."""

        def __init__(self, s, number, stop):
            super().__init__(daemon=True)
            self.s, self.number, self.stop = s, number, stop
            self.sent = self.got = 0
            self.error = None
            self.waits = set()

        def run(self):
            try:
                while not self.stop.is_set() or self.got < self.sent:
                    while self.sent - self.got < 20 and not self.stop.is_set():
                        tag = b"%d %d" % (self.number, self.sent)
                        self.s.send_multipart([tag, b"", b"q"])
                        self.waits.add(tag)
                        self.sent += 1
                    tag, _, body = self.s.recv_multipart()
                    assert body == b"qa", body
                    self.waits.remove(tag)          # each once; several workers: in any order
                    self.got += 1
            except Exception as e:                  # noqa: BLE001 - handed to the test
                self.error = e

    def variants(self, busy):
        """Each kind of change, on and off, around a proxy whose endpoints stay."""
        def sections(frontend=None, more=None, b=True, backend=None, **options):
            out = self.sections(
                broker={"drain_timeout": "5s", "log_level": "info"},
                frontend=dict({"bind": [busy + "-f"] + (more or [])}, **(frontend or {})),
                backend=dict({"bind": [busy + "-b"] + ([self.ipc("more-b")] if more else [])},
                             **(backend or {})),
                defaults=options)
            if b:
                out.update({"frontend b": {"bind": self.ipc("b-f")},
                            "backend b": {"bind": self.ipc("b-b"),
                                          "connect": "tcp://127.0.0.1:9"}})
            return out

        return [sections(), sections(b=False), sections(more=[self.ipc("more-f")]),
                sections(send_hwm=3), sections({"when_full": "pause"}),
                sections({"receive_hwm_bytes": 1}), sections(heartbeat_interval="20ms"),
                sections(max_message_size="1KiB", send_timeout="1s"),
                sections(backend={"redeliver": "yes"}),
                sections(backend={"balance": "least_outstanding", "answer_timeout": "10s"}),
                sections(backend={"max_outstanding": 2}),
                sections({"send_hwm_bytes": 1}, receive_timeout="1s", backlog=3)]

    def test_200_reloads(self):
        busy = self.ipc("busy")
        variants = self.variants(busy)
        d = self.daemon(sections=variants[0])
        workers = [self.echo(busy + "-b", zmq.REP if i % 2 else zmq.DEALER, tag=b"a")
                   for i in range(3)]
        self.ready(d, "backend", 3)
        stop = threading.Event()
        self.addCleanup(stop.set)
        askers = []
        for i in range(4):
            askers.append(self.Asker(self.socket(zmq.DEALER, busy + "-f"), i, stop))
        for a in askers:
            a.s.setsockopt(zmq.RCVTIMEO, 60000)
        raw = self.client(d, endpoint=busy + "-f")
        for a in askers:
            a.start()
        removed = 0
        for i in range(self.ROUNDS):
            now = variants[i % len(variants)]
            mark = d.mark()
            changes = self.reload(d, now)
            if "[proxy b] removed, draining" in changes:
                removed += 1
                d.wait_event("proxy_removed", after=mark, proxy="b", conserved="yes")
            raw.send_message([b"", b"r%d" % i])
            self.assertEqual(raw.recv_message(), [b"", b"r%da" % i])
            self.assertTrue(all(a.is_alive() for a in askers), [a.error for a in askers])
        stop.set()
        for a in askers:
            a.join(60)
            self.assertIsNone(a.error)
            self.assertEqual(a.got, a.sent)
            self.assertGreater(a.sent, 0)
        total = sum(a.sent for a in askers) + self.ROUNDS
        s = d.stats()
        self.assertGreater(removed, self.ROUNDS // len(variants) - 2)
        for side, peers in ((s.frontend, 5), (s.backend, 3)):
            self.assertEqual(side["accepted"], peers)
            self.assertEqual(side["closed"], 0)
            self.assertEqual((side["received"], side["sent"], side["dropped"]), (total, total, 0))
        self.assertEqual(sum(w.handled for w in workers), total)
        self.assertEqual(d.find_events("reload_failed"), [])


class Slices(ReloadCase):
    """A long reload: messages pass between its slices, and events can come in the middle of it."""
    MANY = 400 if VALGRIND else 2000
    TRIES = 10

    def few(self, **broker):
        return self.sections(frontend={"bind": self.ipc("f")}, backend={"bind": self.ipc("b")},
                             broker=dict({"log_level": "notice", "control": self.control}, **broker))

    def many(self, hwm=1000):
        """Add many proxies; the first one's log line shows that the reload is being applied."""
        sections = self.few()
        nobody = {"connect": "ipc://@nobody", "reconnect_min": "1h", "reconnect_max": "1h"}
        for i in range(self.MANY):
            sections["frontend p%d" % i] = {"bind": self.ipc("p")} if i == 0 else \
                dict(nobody, send_hwm=hwm)
            sections["backend p%d" % i] = nobody
        return sections

    def start(self, **kw):
        self.control = self.temp_dir() + "/control.sock"
        self.ipc("f")
        d = self.daemon(sections=self.few(), **kw)
        return d, zmtp.connect(self.ipc("f"), b"DEALER"), zmtp.connect(self.ipc("b"), b"DEALER")

    def write(self, d, sections=None, text=None):
        super().write(d, text=text if text is not None else make_ini(sections))

    def begin(self, d):
        """Start a reload that adds many. Returns its pending answer, and a mark before it."""
        self.write(d, self.many())
        mark, answer = d.mark(), Asked(self.control)
        d.wait_event("listening", after=mark, proxy="p0")
        return answer, mark

    def test_many_proxies(self):
        """Messages pass meanwhile; every change is logged, more than the log can buffer."""
        d, c, w = self.start()
        answer, mark = self.begin(d)
        self.exchange(c, w)
        self.assertEqual(answer.wait(), 200)
        self.exchange(c, w)
        self.assertEqual(len(answer.lines), 3 * self.MANY)
        self.assertGreater(int(d.wait_event("reloaded", after=mark)["slices"]), self.MANY // 10)
        self.assertEqual(len(d.find_events("reload_change", after=mark)), 3 * self.MANY)
        self.assertEqual(len(self.reload(d, self.many(hwm=7))), self.MANY - 1)
        self.assertGreater(int(d.find_events("reloaded")[-1]["slices"]), self.MANY // 40)
        mark = d.mark()
        self.assertEqual(len(self.reload(d, self.few())), 3 * self.MANY)
        d.wait_event("proxy_removed", after=mark, count=self.MANY, conserved="yes")
        self.assertEqual(d.find_events("log_lost"), [])
        self.exchange(c, w)

    def test_asked_for_in_the_middle(self):
        """One reload follows for all requests meanwhile, and reads the file as it is then."""
        d, c, w = self.start()
        for _ in range(self.TRIES):
            first, mark = self.begin(d)
            self.write(d, self.few(drain_timeout="7s"))
            others = [Asked(self.control) for _ in range(3)]
            d.send_signal(signal.SIGHUP)
            admin = Admin(self.control)
            self.assertEqual(admin.post("/api/pause/default").status, 200)
            self.assertEqual(admin.post("/api/resume/default").status, 200)
            in_the_middle = not d.find_events("reloaded", after=mark)
            self.assertEqual([a.wait() for a in [first] + others], [200] * 4)
            self.assertIn("[proxy p0] added", first.lines)
            self.assertEqual(len(first.lines), 3 * self.MANY)
            self.exchange(c, w)
            if in_the_middle:
                break
            d.wait_event("proxy_removed", after=mark, count=self.MANY)
            self.reload(d, self.few())
        self.assertTrue(in_the_middle)
        for other in others:
            self.assertEqual(len(other.lines), 3 * self.MANY + 1)
            self.assertIn("[broker] drain_timeout: 300ms -> 7s", other.lines)
        d.wait_event("reloaded", after=mark, count=2)
        d.wait_event("proxy_removed", after=mark, count=self.MANY)
        d.sync()
        self.assertEqual(len(d.find_events("reloaded", after=mark)), 2)
        self.assertIn("drain_timeout = 7s", Admin(self.control).api("config")["config"])

    def test_nobody_reads_the_log(self):
        """The reload stops waiting for the log's reader after a while."""
        self.control = self.temp_dir() + "/control.sock"
        self.ipc("f")
        d = Daemon(self.few(), wait=False, stderr="unread")
        self.addCleanup(d.kill)
        self.wait_for(lambda: os.path.exists(self.control))
        self.write(d, self.many())
        answer = Asked(self.control)
        c, w = zmtp.connect(self.ipc("f"), b"DEALER"), zmtp.connect(self.ipc("b"), b"DEALER")
        self.exchange(c, w)
        self.assertEqual(answer.wait(), 200)
        self.assertEqual(len(answer.lines), 3 * self.MANY)
        self.exchange(c, w)
        c.close()
        w.close()
        d.send_signal(signal.SIGTERM)
        self.assertEqual(d.wait(), 0)
        d.proc.stderr.close()

    def wait_for(self, is_so):
        until = time.monotonic() + DEADLINE
        while not is_so():
            self.assertLess(time.monotonic(), until)
            time.sleep(0.01)

    def test_stop_in_the_middle(self):
        """Applied changes end with the daemon, others are undone, and the caller gets an error."""
        for _ in range(self.TRIES):
            d, c, w = self.start()
            c.send_message([b"", b"asked"])
            got = w.recv_message()
            answer, mark = self.begin(d)
            again = Asked(self.control)
            d.send_signal(signal.SIGTERM)
            status = answer.wait(), again.wait()
            w.send_message(got)
            self.assertEqual(c.recv_message(), [b"", b"asked"])
            c.close()
            w.close()
            d.stop()
            if d.find_events("reload_failed", after=mark, reason="interrupted by a stop"):
                self.assertEqual(status, (409, 409))
                self.assertEqual(answer.lines, ["the daemon is stopping"])
                self.assertEqual(d.find_events("reloaded"), [])
                return
            self.assertEqual(status[0], 200)
        self.fail("never in the middle")


class Asked(threading.Thread):
    """Asks for a reload, and waits for its end."""

    def __init__(self, control):
        super().__init__(daemon=True)
        self.control = control
        self.status = self.lines = None
        self.start()

    def run(self):
        answer = Admin(self.control).post("/api/reload")
        self.status = answer.status
        self.lines = (answer.json.get("done") or answer.json["error"]).splitlines()

    def wait(self):
        """The status."""
        self.join(60)
        return self.status
