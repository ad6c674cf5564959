# SPDX-License-Identifier: MIT
"""Peers that the daemon dials: connect, fail, back off, come back."""

import os
import socket
import subprocess

import zmtp
from harness import Case
from zmtp import Listener, command, greeting, ping, ready


class Dial(Case):
    def start(self, endpoint, **backend):
        keys = {"bind": None, "connect": endpoint, "reconnect_min": "20ms",
                "reconnect_max": "200ms"}
        keys.update(backend)
        return self.daemon(backend=keys)

    def test_daemon_dials_a_worker(self):
        l = self.closing(Listener())
        d = self.start(l.endpoint)
        w = self.closing(l.accept()).handshake(b"REP")
        e = d.wait_event("peer_ready", side="backend")
        self.assertEqual((e["direction"], e["type"]), ("dialled", "REP"))
        self.assertEqual(w.their_ready[b"Socket-Type"], b"DEALER")
        self.exchange(self.client(d), w)

    def test_daemon_dials_a_client(self):
        l = self.closing(Listener())
        d = self.daemon(frontend={"bind": None, "connect": l.endpoint, "routing_id": "front"})
        c = self.closing(l.accept()).handshake(b"DEALER", b"bound")
        self.assertEqual(c.their_ready[b"Identity"], b"front")
        w = self.worker(d)
        self.assertEqual(self.exchange(c, w), b"bound")

    def test_bind_and_connect_on_one_side(self):
        l = self.closing(Listener())
        d = self.daemon(backend={"connect": l.endpoint})
        dialled = self.closing(l.accept()).handshake(b"REP")
        d.wait_event("peer_ready", side="backend")
        accepted = self.worker(d)
        c = self.client(d)
        for i in range(10):
            c.send_message([b"", b"%d" % i])
        self.assertEqual([dialled.recv_message()[2] for _ in range(5)] +
                         [accepted.recv_message()[2] for _ in range(5)],
                         [b"0", b"2", b"4", b"6", b"8", b"1", b"3", b"5", b"7", b"9"])

    def test_dialled_byte_by_byte(self):
        l = self.closing(Listener())
        d = self.start(l.endpoint)
        w = self.closing(l.accept())
        w.send_bytewise(greeting() + ready(b"REP"))
        w.recv_greeting()
        w.recv_ready()
        d.wait_event("peer_ready", side="backend")
        self.exchange(self.client(d), w)

    def test_ready_goes_first_and_no_message_before_the_peers(self):
        l = self.closing(Listener())
        d = self.start(l.endpoint)
        c = self.client(d, identity=b"c")
        c.send_message([b"", b"waits"])
        d.wait_stats(lambda s: s.backend["queued"] == 1)
        w = self.closing(l.accept())
        w.send(greeting())
        w.recv_greeting()
        self.assertEqual(w.recv_ready()[b"Socket-Type"], b"DEALER")
        d.sync()
        self.assertEqual(w.readable_now(), b"")
        w.send(ready(b"REP"))
        self.assertEqual(w.recv_message(), [b"c", b"", b"waits"])

    def test_reconnects_after_each_way_of_ending(self):
        l = self.closing(Listener())
        d = self.start(l.endpoint)
        c = self.client(d)
        for i, end in enumerate(("close", "reset", "half_close", "garbage", "close")):
            w = self.closing(l.accept()).handshake(b"REP")
            d.wait_event("peer_ready", side="backend", count=i + 1)
            self.exchange(c, w)
            if end == "garbage":
                w.send(zmtp.frame_header(1 << 63))
                w.expect_closed()
            else:
                getattr(w, end)()
            d.wait_event("reconnecting", side="backend", count=i + 1)
        w = self.closing(l.accept()).handshake(b"REP")
        self.exchange(c, w)
        s = d.stats()
        self.assertEqual(s.backend["reconnects"], 5)
        self.assertGreaterEqual(s.backend["connect_attempts"], 6)

    def test_reconnects_after_a_failed_heartbeat(self):
        l = self.closing(Listener())
        d = self.start(l.endpoint, heartbeat_interval="0")
        w = self.closing(l.accept()).handshake(b"REP")
        w.send(ping(1))                          # ... and then it is silent for 0.1 s
        w.expect_closed()
        d.wait_event("reconnecting", side="backend", reason="heartbeat_timeout")
        w = self.closing(l.accept()).handshake(b"REP")
        self.exchange(self.client(d), w)

    def test_who_refuses_with_error_is_dialled_again(self):
        """The peer's configuration may be corrected later, and nothing else would dial it."""
        l = self.closing(Listener())
        d = self.start(l.endpoint)
        p = self.closing(l.accept())
        p.send(greeting() + command(b"ERROR", b"\3not"))
        p.expect_closed()
        e = d.wait_event("handshake_failed", side="backend", reason="peer_closed")
        self.assertEqual(e["detail"], "peer sent ERROR: not")
        w = self.closing(l.accept()).handshake(b"REP")
        self.exchange(self.client(d), w)

    def test_requests_wait_for_the_dialled_worker(self):
        l = self.closing(Listener())
        d = self.start(l.endpoint)
        c = self.client(d, identity=b"c")
        for i in range(100):
            c.send_message([b"", b"%d" % i])
        d.wait_stats(lambda s: s.backend["queued"] == 100)
        w = self.closing(l.accept()).handshake(b"REP")
        for i in range(100):
            self.assertEqual(w.recv_message(), [b"c", b"", b"%d" % i])

    def test_connect_failed(self):
        """A port that is bound but not listening refuses connections; later it accepts them."""
        l = self.closing(Listener(listen=False))
        d = self.start(l.endpoint)
        for i in range(1, 6):
            e = d.wait_event("reconnecting", side="backend", count=i)
            self.assertEqual(e["reason"], "connect_failed")
            self.assertEqual(e["endpoint"], l.endpoint)
        s = d.wait_stats(lambda s: s.backend["closed_connect_failed"] >= 5)
        self.assertGreaterEqual(s.backend["connect_attempts"], 5)
        l.sock.listen(10)
        w = self.closing(l.accept()).handshake(b"REP")
        self.exchange(self.client(d), w)

    def test_connect_failed_of_an_ipc_path(self):
        path = os.path.join(self.temp_dir(), "w")
        d = self.start("ipc://" + path)
        d.wait_event("reconnecting", side="backend", reason="connect_failed")
        l = self.closing(Listener(socket.AF_UNIX, path))
        w = self.closing(l.accept()).handshake(b"REP")
        self.exchange(self.client(d), w)

    def test_backoff_grows_and_is_reset(self):
        l = self.closing(Listener(listen=False))
        d = self.start(l.endpoint, reconnect_min="10ms", reconnect_max="160ms",
                       reconnect_jitter=0)
        delays = [int(d.wait_event("reconnecting", count=i)["delay_ms"]) for i in range(1, 8)]
        self.assertEqual(delays, [10, 20, 40, 80, 160, 160, 160])
        l.sock.listen(10)
        mark = d.mark()
        w = self.closing(l.accept()).handshake(b"REP")
        d.wait_event("peer_ready", after=mark)
        mark = d.mark()
        w.close()
        e = d.wait_event("reconnecting", after=mark)
        self.assertEqual(int(e["delay_ms"]), 10, "reset by a completed handshake")

    def test_backoff_is_not_reset_by_a_failed_handshake(self):
        l = self.closing(Listener())
        d = self.start(l.endpoint, reconnect_min="10ms", reconnect_max="80ms",
                       reconnect_jitter=0)
        for _ in range(4):
            self.closing(l.accept()).send_quietly(b"garbage!" * 10)
        delays = [int(d.wait_event("reconnecting", count=i)["delay_ms"]) for i in range(1, 5)]
        self.assertEqual(delays, [10, 20, 40, 80])
        s = d.stats()
        self.assertGreaterEqual(s.backend["closed_protocol_error"], 4)
        self.assertGreaterEqual(s.backend["handshakes_failed"], 4)
        self.assertEqual(s.backend["reconnects"], 0)

    def test_jitter_stays_in_its_bounds(self):
        l = self.closing(Listener(listen=False))
        d = self.start(l.endpoint, reconnect_min="40ms", reconnect_max="40ms",
                       reconnect_jitter=25)
        delays = [int(d.wait_event("reconnecting", count=i)["delay_ms"]) for i in range(1, 21)]
        self.assertGreaterEqual(min(delays), 30)
        self.assertLessEqual(max(delays), 50)
        self.assertGreater(len(set(delays)), 1)

    def test_handshake_timeout_of_a_dialled_peer(self):
        l = self.closing(Listener())
        d = self.start(l.endpoint, handshake_timeout="200ms")
        mute = self.closing(l.accept())
        self.assertEqual(mute.recv_exact(10), zmtp.SIGNATURE)
        mute.expect_closed()
        d.wait_event("reconnecting", reason="handshake_timeout")
        w = self.closing(l.accept()).handshake(b"REP")
        self.exchange(self.client(d), w)
        s = d.stats()
        self.assertEqual(s.backend["closed_handshake_timeout"], 1)
        self.assertEqual(s.backend["handshakes_failed"], 1)

    def test_incompatible_peer_is_told_and_dialled_again(self):
        l = self.closing(Listener())
        d = self.start(l.endpoint)
        p = self.closing(l.accept())
        p.send(greeting() + ready(b"PUB"))
        p.recv_greeting()
        self.assertIn(b"\5ERROR", p.expect_closed())
        d.wait_event("reconnecting", reason="incompatible_socket_type")
        w = self.closing(l.accept()).handshake(b"REP")
        self.exchange(self.client(d), w)

    def test_connect_timeout(self):
        """A listener with a full backlog leaves the SYN waiting, here without any network."""
        l = self.closing(Listener(backlog=0))
        fillers = []
        for _ in range(8):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", l.port))
            fillers.append(self.closing(s))
        probe = self.closing(socket.socket())
        probe.settimeout(0.5)
        try:
            probe.connect(("127.0.0.1", l.port))
        except socket.timeout:
            pass
        else:
            self.skipTest("this kernel takes connections beyond the backlog")
        d = self.start(l.endpoint, connect_timeout="200ms")
        e = d.wait_event("reconnecting", side="backend")
        self.assertEqual(e["reason"], "connect_timeout")
        s = d.wait_stats(lambda s: s.backend["closed_connect_timeout"] >= 2)
        self.assertGreaterEqual(s.backend["connect_attempts"], 2)

    def test_one_dead_endpoint_does_not_hold_up_the_others(self):
        dead = self.closing(Listener(listen=False))
        live = self.closing(Listener())
        d = self.start([dead.endpoint, live.endpoint])
        w = self.closing(live.accept()).handshake(b"REP")
        d.wait_event("reconnecting", count=3)
        self.exchange(self.client(d), w)

    def test_a_name_is_resolved_and_all_its_addresses_are_tried(self):
        try:
            infos = socket.getaddrinfo("localhost", 0, socket.AF_INET, socket.SOCK_STREAM)
        except socket.gaierror:
            self.skipTest("no localhost here")
        self.assertTrue(infos)
        l = self.closing(Listener())
        d = self.start("tcp://localhost:%d" % l.port)
        w = self.closing(l.accept()).handshake(b"REP")
        self.exchange(self.client(d), w)
        w.close()
        w = self.closing(l.accept()).handshake(b"REP")
        self.exchange(self.client(d), w)

    def test_a_name_that_does_not_resolve(self):
        l = self.closing(Listener())
        d = self.start(["tcp://no-such-host.invalid:5555", l.endpoint])
        w = self.closing(l.accept()).handshake(b"REP")
        self.exchange(self.client(d), w)         # the loop is not blocked meanwhile
        d.stop()

    def namespace(self, setup, arg=""):
        """The command that runs the daemon with its own mounts and network, set up by `setup`."""
        under = ["unshare", "--user", "--map-root-user", "--mount", "--net", "/bin/sh", "-c",
                 setup + ' && exec "$@"', arg]
        if subprocess.run(under + ["true"], stderr=subprocess.DEVNULL, check=False).returncode:
            self.skipTest("no namespaces here")
        return under

    def test_never_connected_to_itself(self):
        """Without a listener, TCP may connect a socket with itself."""
        under = self.namespace(
            "ip link set lo up && echo 40000 40003 > /proc/sys/net/ipv4/ip_local_port_range")
        d = self.daemon(sections=self.sections(
            frontend={"bind": "ipc://" + os.path.join(self.temp_dir(), "front")},
            backend={"bind": None, "reconnect_min": "1ms", "reconnect_max": "1ms",
                     "connect": "tcp://127.0.0.1:40000"}), under=under)
        d.wait_event("reconnecting", count=300)
        self.assertEqual(d.find_events("peer_ready"), [])

    def test_a_resolv_conf_without_a_server(self):
        """As during boot: the lookup must end, or the daemon would never dial again."""
        empty = os.path.join(self.temp_dir(), "resolv.conf")
        open(empty, "w", encoding="ascii").close()
        under = self.namespace('if [ -e /etc/resolv.conf ]; then'
                               ' mount --bind "$0" /etc/resolv.conf; fi', empty)
        d = self.daemon(sections=self.sections(
            frontend={"bind": "ipc://" + os.path.join(self.temp_dir(), "front")},
            backend={"bind": None, "connect": "tcp://no-such-host.invalid:5555"}), under=under)
        d.wait_event("resolve_failed")
        d.wait_event("reconnecting", reason="resolve_failed")

    def test_dialled_worker_with_requests_queued_leaves(self):
        l = self.closing(Listener(rcvbuf=4096))
        d = self.start(l.endpoint, send_buffer=8192, send_timeout="0")
        w = self.closing(l.accept()).handshake(b"REP")
        d.wait_event("peer_ready", side="backend")
        c = self.client(d, identity=b"c")
        count = 100
        for i in range(count):
            c.send_message([b"", b"%d" % i, b"q" * 20000])
        d.wait_stats(lambda s: s.backend["received"] == count and s.backend["queued"] > 0)
        first = int(w.recv_message()[2])
        self.assertEqual(first, 0)
        w.close()
        d.wait_event("peer_closed", side="backend")
        w = self.closing(l.accept()).handshake(b"REP")
        got = []
        while not got or got[-1] != count - 1:
            got.append(int(w.recv_message()[2]))
        self.assertEqual(got, list(range(count - len(got), count)))
        self.assertGreater(d.stats().backend["rerouted"], 0)
