# SPDX-License-Identifier: MIT
"""bulkheadctl: every command, its answer, its exit status."""

import json
import os
import shutil
import socket
import subprocess
import threading
import unittest

import harness
import zmtp
from admin import Admin
from ctlcase import ControlCase, DONE, NO_DAEMON, REFUSED
from harness import CTL, DEADLINE


class Views(ControlCase):
    def test_status(self):
        d = self.start()
        self.assertIn("not ready:\n  proxy default: no backend peer is ready\n    Requests wait. ",
                      self.done("status"))
        self.worker(d)
        self.api.wait(lambda: self.done("status"), lambda out: ", ready\n" in out)
        out = self.done("status")
        self.assertIn(d.frontend, out)
        status = json.loads(self.done("status", "--json"))
        self.assertEqual(status["pid"], d.pid)
        self.assertEqual((status["state"], status["ready"]), ("running", True))
        self.assertEqual(status["proxies"][0]["backend"]["connections"]["ready"], 1)
        self.assertEqual([e["endpoint"] for e in status["proxies"][0]["endpoints"]],
                         [d.frontend, d.backend])

    def test_status_counts_silent_workers(self):
        d = self.start(backend={"silent_after": "100ms"})
        w, c = self.worker(d), self.client(d)

        def column():
            head, *rows = (line.split() for line in self.done("status").splitlines()
                           if line.startswith(("PROXY  ", "default  ")))
            at = head.index("SILENT")
            return [row[at] for row in rows if row[2] in ("frontend", "backend")]
        self.assertEqual(column(), ["0", "0"])
        c.send_message([b"", b"x"])
        got = w.recv_message()
        self.api.wait(column, lambda silent: silent == ["0", "1"])
        w.send_message(got)
        self.api.wait(column, lambda silent: silent == ["0", "0"])

    def test_two_clients_with_one_routing_id(self):
        d = self.start()
        self.worker(d)
        self.client(d, identity=b"alone")
        d.wait_event("peer_ready", side="frontend")
        self.assertNotIn("routing id", self.done("status"))
        for _ in range(2):
            self.client(d, identity=b"shop 1")
        self.api.wait(lambda: self.done("status"), lambda out: "default: clients take the routing id "
                      "0x73686f702031 from each other\n    Two clients use the same id" in out)

    def test_a_suspect_is_not_ready(self):
        d = self.start(broker={"http": "tcp://127.0.0.1:*"}, backend={"answer_timeout": "100ms"})
        w, c = self.worker(d), self.client(d)
        c.send_message([b"", b"x"])
        got = w.recv_message()

        def states():
            backend = self.api.api("status")["proxies"][0]["backend"]["connections"]
            return backend["ready"], backend["suspect"]
        self.api.wait(states, lambda s: s == (0, 1))
        self.assertIn("no backend peer is ready, 1 is suspect (past answer_timeout)", self.done("status"))
        # the id of the peer, as kick takes it
        peer, = (p["id"] for p in self.api.api("peers")["peers"] if p["side"] == "backend")
        self.assertRegex(self.done("status"), r"1 worker is suspect \(past answer_timeout\): peer %d\s" % peer)
        self.assertEqual([t["peers"] for t in self.api.api("status")["troubles"]
                          if t["kind"] in ("no_worker", "suspect")], [[], [peer]])
        self.assertEqual(self.api.get("/readyz").status, 503)
        self.assertRegex(self.done("status"), r"(?m)^PROXY +STATE +SIDE +READY +SUSPECT ")
        self.assertRegex(self.done("status"), r"(?m)^default +running +backend +0 +1 ")
        self.assertIn('side="backend",state="ready"} 0\n', self.api.get("/metrics").text)
        self.assertIn('side="backend",state="suspect"} 1\n', self.api.get("/metrics").text)
        other = self.worker(d)
        self.api.wait(states, lambda s: s == (1, 1))
        self.assertEqual(self.api.get("/readyz").status, 200)
        self.assertRegex(self.done("status"), r", ready; but:\n  proxy default: 1 worker is suspect "
                         r"\(past answer_timeout\): peer \d+\n    The worker hangs, ")
        w.send_message(got)
        self.api.wait(states, lambda s: s == (2, 0))
        self.assertIn(", ready\nconnections", self.done("status"))
        other.close()

    def test_a_worker_that_drains_is_not_ready(self):
        """Either an operator drains it, or it sent DRAINING itself."""
        d = self.start(broker={"http": "tcp://127.0.0.1:*", "drain_timeout": "60s"})
        drained, told = self.worker(d), self.worker(d)
        c = self.client(d)
        for _ in range(2):
            c.send_message([b"", b"x"])
        got = drained.recv_message(), told.recv_message()

        def states():
            backend = self.api.api("status")["proxies"][0]["backend"]["connections"]
            return backend["ready"], backend["draining"]
        self.api.wait(states, lambda s: s == (2, 0))
        self.assertEqual(self.api.post("/api/drain/" + self.peer_id(d, "backend", 0)).status, 200)
        self.api.wait(states, lambda s: s == (1, 1))
        self.assertEqual(self.api.get("/readyz").status, 200)
        told.send(zmtp.command(b"DRAINING"))
        self.api.wait(states, lambda s: s == (0, 2))
        self.assertIn("no backend peer is ready, 2 are draining\n", self.done("status"))
        self.assertEqual(self.api.get("/readyz").status, 503)
        # READY, SUSPECT, STALLED, SILENT, OTHER
        self.assertRegex(self.done("status"), r"(?m)^default +running +backend +0 +0 +0 +0 +2 ")
        for state, count in ("ready", 0), ("draining", 2), ("suspect", 0):
            self.assertIn('bulkhead_peers{proxy="default",side="backend",state="%s"} %d\n' % (state, count),
                          self.api.get("/metrics").text)
        other = self.worker(d)
        self.api.wait(states, lambda s: s == (1, 2))
        self.assertEqual(self.api.get("/readyz").status, 200)
        for w, m in zip((drained, told), got):
            w.send_message(m)
        drained.expect_closed()
        told.close()
        self.api.wait(states, lambda s: s == (1, 0))
        other.close()

    def test_requests_and_replies(self):
        """Requests came from clients and went to workers; replies went the other way."""
        d = self.start()
        client, worker = self.client(d), self.worker(d)
        for _ in range(3):
            self.exchange(client, worker)
        self.worker(d, rcvbuf=4096).close()
        client.send_message([b"", b"q"])
        worker.recv_message()
        self.api.wait(lambda: self.peers(side="backend"), lambda p: len(p) == 1 and p[0]["messages_out"] == 4)

        def numbers(command, *titles):
            rows = [line.split() for line in self.done(command).replace("ROUTING ID", "ID").splitlines()]
            at = next(i for i, row in enumerate(rows) if "REQUESTS" in row)
            return {row[rows[at].index("SIDE")]: [row[rows[at].index(t)] for t in titles]
                    for row in rows[at + 1:at + 3]}
        want = {"frontend": ["4", "3"], "backend": ["4", "3"]}
        self.assertEqual(numbers("status", "REQUESTS", "REPLIES"), want)
        self.assertEqual(numbers("peers", "REQUESTS", "REPLIES"), want)
        self.assertRegex(self.done("stats"), "(?m)^COUNTER +FRONTEND, REPLIES +BACKEND, REQUESTS$")

    def test_status_of_dialled_endpoints(self):
        where = self.temp_dir() + "/w"
        d = self.start(backend={"bind": None, "connect": "ipc://" + where,
                                "reconnect_min": "1h", "reconnect_max": "1h"})
        d.wait_event("reconnecting")

        def endpoint():
            return [e for e in self.api.api("status")["proxies"][0]["endpoints"]
                    if e["kind"] == "connect"][0]

        e = self.api.wait(endpoint, lambda e: e["state"] == "waiting")
        self.assertGreater(e["wait_ms"], 60000)
        self.assertIn("next attempt in ", self.done("status"))

    def test_peers(self):
        d = self.start()
        client = self.client(d, identity=b"it'sme", socktype=b"REQ")
        self.worker(d)
        silent = self.peer(d.frontend)
        p = self.api.wait(lambda: self.peers(), lambda p: len(p) == 3)
        by_state = {(x["side"], x["state"]): x for x in p}
        me = by_state[("frontend", "ready")]
        self.assertEqual(me["routing_id"], "it'sme")
        self.assertEqual((me["socket_type"], me["zmtp"], me["poison"]), ("REQ", "3.1", "clean"))
        self.assertEqual(str(me["id"]), self.peer_id(d, "frontend"))
        self.assertIn(("frontend", "handshake"), by_state)
        self.assertIsNone(by_state[("frontend", "handshake")]["socket_type"])
        client.send_message([b"", b"q"])
        self.api.wait(lambda: self.peers(side="backend"),
                      lambda p: (p[0]["outstanding"], p[0]["messages_out"]) == (1, 1))
        out = self.done("peers")
        self.assertEqual(len(out.splitlines()), 4)
        self.assertRegex(out, "(?m)^ *ID +PROXY +SIDE +ROUTING ID +ADDRESS +TYPE +STATE +POISON +QUEUED +"
                              "BYTES +WAITING +UNANSWERED +REQUESTS +REPLIES +AGE +IDLE$")
        self.assertRegex(out, r"(?m)^ *\d+ +default +frontend +it'sme +127\.0\.0\.1:\d+ +REQ +ready ")
        self.assertEqual(len(json.loads(self.done("peers", "--json"))["peers"]), 3)
        silent.close()
        self.api.wait(lambda: self.peers(), lambda p: len(p) == 2)

    def test_routing_ids_are_the_same_everywhere(self):
        d = self.start()
        for i, (raw, shown) in enumerate(((b"client-1", "client-1"), (b"\x01a", "0x0161"),
                                          (b"0x61", "0x30783631"), (b'a="b"', 'a="b"'),
                                          (b"two words", "0x74776f20776f726473"),
                                          (b"i" * 40, "i" * 40), (b"j" * 41, "j" * 41),
                                          (b"\xff" * 255, "0x" + "ff" * 255))):
            self.client(d, identity=raw)
            self.assertEqual(d.wait_event("peer_ready", count=i + 1)["routing_id"], shown)
            self.api.wait(lambda: {p["routing_id"] for p in self.peers()}, lambda ids: shown in ids)
            # tables cut values that would make every line as long
            fits = shown if len(shown) <= 40 else shown[:39] + "~"
            self.assertIn("  %s  " % fits, self.done("peers"))
            self.assertIn("  %s  " % fits, self.done("top"))

    def test_stats_are_the_counters(self):
        d = self.start()
        client, worker = self.client(d), self.worker(d)
        for _ in range(9):
            self.exchange(client, worker)
        s = self.api.wait(lambda: self.api.api("stats")["proxies"][0],
                          lambda s: s["frontend"]["sent"] == 9)
        stats = d.stats()
        for side in ("frontend", "backend"):
            for key in ("received", "sent", "queued", "dropped", "bytes_received", "bytes_sent",
                        "accepted", "closed", "peers"):
                self.assertEqual(s[side][key], stats.side(side)[key], (side, key))
            self.assertEqual(s[side]["forward_seconds"]["count"], 9)
            self.assertEqual(sum(b["count"] for b in s[side]["forward_seconds"]["buckets"]), 9)
        self.assertRegex(self.done("stats"), r"(?m)^sent +9 +9$")
        self.assertRegex(self.done("stats"), r"(?m)^forward p99 +<= ")

    def test_config_is_what_dump_config_prints(self):
        d = self.start()
        status, out, _ = harness.run_command("--dump-config", "-c", d.config)
        self.assertEqual(status, 0)
        self.assertEqual(self.done("config"), out)
        self.assertEqual(json.loads(self.done("config", "-j"))["config"], out)

    def test_version(self):
        self.start()
        _, out, _ = harness.run_command("-V")
        self.assertIn(out, self.done("version"))
        self.assertEqual("bulkhead " + self.api.api("version")["version"] + "\n", out)

    @unittest.skipUnless(shutil.which("curl"), "curl is missing (Debian: curl)")
    def test_curl(self):
        self.start()
        out = subprocess.run(["curl", "-sS", "--unix-socket", self.path, "http://b/api/status"],
                             stdout=subprocess.PIPE, check=True).stdout
        self.assertEqual(json.loads(out)["state"], "running")

    def test_a_crowd(self):
        """More peers than fit one read: the answer is whole."""
        d = self.start()
        peers = [self.client(d, identity=b"p%d" % i) for i in range(300)]
        self.api.wait(lambda: self.peers(), lambda p: len(p) == 300)
        rows = json.loads(self.done("peers", "-j"))["peers"]
        self.assertEqual({r["routing_id"] for r in rows},
                         {"p%d" % i for i in range(300)})
        self.assertEqual(len(self.done("peers").splitlines()), 301)
        for p in peers:
            p.close()


class Kick(ControlCase):
    def test_a_client(self):
        d = self.start()
        client, worker = self.client(d), self.worker(d)
        self.exchange(client, worker)
        peer = self.peer_id(d, "frontend")
        self.assertEqual(self.done("kick", peer), "done\n")
        client.expect_closed()
        client.close()
        d.wait_event("peer_closed", side="frontend", peer=peer, reason="admin")
        self.assertIn("no such peer", self.refused("kick", peer))
        self.assertEqual(d.stats().frontend["closed_admin"], 1)
        d.wait_event("admin", command="kick", argument=peer, result="done", uid=os.getuid())

    def test_what_a_worker_had_queued_goes_to_others(self):
        d = self.start(backend={"send_buffer": "8KiB"})
        deaf = self.worker(d, rcvbuf=4096)
        client = self.client(d)
        sent = self.fill(d, client, self.peer_id(d, "backend"))
        other = self.worker(d)
        self.done("kick", self.peer_id(d, "backend"))
        d.wait_event("peer_closed", side="backend", reason="admin")
        rerouted = d.stats().backend["rerouted"]
        self.assertGreater(rerouted, 0)
        for _ in range(rerouted):
            self.assertEqual(other.recv_message()[2], b"q" * 65536)
        stats = d.stats()
        self.assertEqual((stats.backend["received"], stats.backend["dropped"]), (sent, 0))
        deaf.close()

    def test_a_client_that_waits_for_its_reply(self):
        """It gets the reply, if that comes soon, and is then closed."""
        d = self.start()
        worker = self.worker(d)
        for _ in range(20):                         # a machine that pauses now and then
            client = self.client(d)
            client.send_message([b"", b"q"])
            request = worker.recv_message()
            self.done("kick", self.peer_id(d, "frontend"))
            worker.send_message(request)
            got = client.expect_closed()
            client.close()
            if got:
                break
        self.assertEqual(got, zmtp.message([b"", b"q"]))

    def test_a_client_that_waits_in_vain(self):
        d = self.start()
        client, worker = self.client(d), self.worker(d)
        client.send_message([b"", b"q"])
        worker.recv_message()
        self.done("kick", self.peer_id(d, "frontend"))
        client.expect_closed()
        client.close()
        d.wait_event("peer_closed", side="frontend", reason="admin", detail="kicked")

    def test_nobody(self):
        self.start()
        for who in ("0", "99", "x", "1x", "99999999999999999999", "a b", "%", "\xff"):
            self.refused("kick", who)


class Drain(ControlCase):
    def test_a_worker_finishes_what_it_has(self):
        d = self.start(broker={"drain_timeout": "60s"})
        client, first, second = self.client(d), self.worker(d), self.worker(d)
        client.send_message([b"", b"for the first"])
        request = first.recv_message()
        self.done("drain", self.peer_id(d, "backend"))
        self.assertEqual(self.api.wait(lambda: self.peers(state="draining"), len)[0]["outstanding"], 1)
        for i in range(4):
            client.send_message([b"", b"%d" % i])
            self.assertEqual(second.recv_message()[2], b"%d" % i)
        self.assertIn("already", self.refused("drain", self.peer_id(d, "backend")))
        first.send_message(request)
        self.assertEqual(client.recv_message(), [b"", b"for the first"])
        first.expect_closed()
        first.close()
        d.wait_event("peer_closed", side="backend", reason="admin", detail="drained")

    def test_an_idle_one_goes_at_once(self):
        d = self.start(broker={"drain_timeout": "60s"})
        worker = self.worker(d)
        self.done("drain", self.peer_id(d, "backend"))
        worker.expect_closed()

    def test_there_is_an_end_to_waiting(self):
        d = self.start(broker={"drain_timeout": "50ms"})
        client, worker = self.client(d), self.worker(d)
        client.send_message([b"", b"never answered"])
        worker.recv_message()
        self.done("drain", self.peer_id(d, "backend"))
        worker.expect_closed()
        worker.close()
        d.wait_event("peer_closed", side="backend", reason="admin", detail="drained, unfinished")

    def test_a_client_gets_its_replies(self):
        d = self.start(broker={"drain_timeout": "60s"})
        client, worker = self.client(d), self.worker(d)
        client.send_message([b"", b"before"])
        request = worker.recv_message()
        self.done("drain", self.peer_id(d, "frontend"))
        self.assertEqual(self.api.wait(lambda: self.peers(state="draining"), len)[0]["side"], "frontend")
        worker.send_message(request)
        self.assertEqual(client.recv_message(), [b"", b"before"])
        client.expect_closed()
        client.close()
        d.wait_event("peer_closed", side="frontend", reason="admin", detail="drained")

    def test_an_idle_client_goes_at_once(self):
        d = self.start(broker={"drain_timeout": "60s"})
        client = self.client(d)
        self.done("drain", self.peer_id(d, "frontend"))
        client.expect_closed()
        client.send_message([b"", b"too late"])     # a request that cannot be answered is counted
        d.wait_stats(lambda s: s.backend["drop_shutdown"] == 1)
        client.close()
        d.wait_event("peer_closed", side="frontend", reason="admin", dropped="1")

    def test_it_disconnects_while_it_drains(self):
        d = self.start(broker={"drain_timeout": "60s"})
        client, worker = self.client(d), self.worker(d)
        client.send_message([b"", b"q"])
        worker.recv_message()
        self.done("drain", self.peer_id(d, "backend"))
        worker.close()
        d.wait_event("peer_closed", side="backend", reason="peer_closed")
        self.exchange(client, self.worker(d))

    def test_one_that_is_not_ready(self):
        d = self.start(broker={"drain_timeout": "60s"})
        self.peer(d.frontend)
        p = self.api.wait(lambda: self.peers(state="handshake"), len)[0]
        self.assertIn("peer is not ready; use kick", self.refused("drain", str(p["id"])))


class Pause(ControlCase):
    def test_pause_and_resume(self):
        d = self.start()
        client, worker = self.client(d), self.worker(d)
        self.exchange(client, worker)
        self.done("pause", "default")
        self.assertEqual(self.api.api("status")["proxies"][0]["state"], "paused")
        self.assertIn("already", self.refused("pause", "default"))
        client.send_message([b"", b"later"])
        d.sync()
        self.assertEqual(d.stats().backend["received"], 1)
        self.assertEqual(self.api.get("/readyz").status, 503)
        self.done("resume", "default")
        self.assertEqual(worker.recv_message()[2], b"later")
        self.assertIn("proxy is not paused", self.refused("resume", "default"))

    def test_replies_go_on(self):
        d = self.start()
        client, worker = self.client(d), self.worker(d)
        client.send_message([b"", b"q"])
        request = worker.recv_message()
        self.done("pause", "default")
        worker.send_message(request)
        self.assertEqual(client.recv_message(), [b"", b"q"])

    def test_one_proxy_of_two(self):
        one = {"bind": "tcp://127.0.0.1:*"}
        self.path = self.temp_dir() + "/c"
        self.api = Admin(self.path)
        d = self.daemon(sections={"broker": {"control": self.path, "log_level": "debug"},
                                  "frontend a": one, "backend a": one,
                                  "frontend b.b": one, "backend b.b": one})
        self.done("pause", "b.b")
        states = {p["name"]: p["state"] for p in self.api.api("status")["proxies"]}
        self.assertEqual(states, {"a": "running", "b.b": "paused"})
        client = self.client(d, endpoint=d.endpoint("frontend", "a"))
        self.exchange(client, self.worker(d, endpoint=d.endpoint("backend", "a")))
        self.assertIn("no such proxy", self.refused("pause", "c"))

    def test_a_stop_while_paused(self):
        d = self.start()
        client = self.client(d)
        self.done("pause", "default")
        client.send_message([b"", b"never read"])
        d.stop()


class Others(ControlCase):
    def test_log_level(self):
        d = self.start(broker={"log_level": "notice"})
        self.client(d)
        self.done("log-level", "info")
        self.assertEqual(self.api.api("status")["log_level"], "info")
        self.client(d)
        d.wait_event("peer_ready")
        self.assertEqual(len(d.find_events("peer_ready")), 1)
        self.assertIn("unknown log level; use error, warning", self.refused("log-level", "loud"))

    def test_reload_gives_a_report(self):
        self.start()
        self.assertEqual(self.done("reload"), "nothing changed\n")

    def test_the_event_of_a_reload_can_be_read(self):
        """Continued lines are joined, and nothing in them is escaped."""
        d = self.start()
        with open(d.config, encoding="utf-8") as f:
            text = f.read()
        self.write(d, text + "\nsend_timeout = soon\nmax_message_size = much\n")
        self.assertIn("send_timeout", self.refused("reload"))
        e = d.wait_event("admin", command="reload", result="refused")
        self.assertRegex(e["detail"], "send_timeout: 'soon' is not a duration .*; .*max_message_size: 'much'")
        self.assertNotIn("\\", self.admin_lines(d)[0])
        self.write(d, text + "\nsend_timeout = 7s\nmax_message_size = 7MiB\n")
        self.assertEqual(len(self.done("reload").splitlines()), 2)
        e = d.wait_event("admin", command="reload", result="done")
        self.assertRegex(e["detail"], "^[^;]*send_timeout[^;]*; [^;]*max_message_size[^;]*$")
        self.assertNotIn("\\", self.admin_lines(d)[1])
        self.write(d, text + "\nroutes = %s\n" % "x" * 1000)
        self.refused("reload")
        e = d.wait_event("admin", command="reload", count=3)
        self.assertTrue(e["detail"].endswith("..."), e)

    @staticmethod
    def write(d, text):
        with open(d.config, "w", encoding="utf-8") as f:
            f.write(text)

    def admin_lines(self, d):
        """These events from the log: /api/events lacks them, since they quote the file."""
        self.assertNotIn("admin", [e["event"] for e in self.api.api("events")["events"]])
        return [line for line in d.lines if " event=admin " in line]

    def test_exit_statuses(self):
        where = self.temp_dir()
        for path in (where + "/nobody", "/", where, "x" * 200):
            status, out, err = self.ctl("status", path=path)
            self.assertEqual((status, out), (NO_DAEMON, ""), path)
            self.assertTrue(err)
        self.assertEqual(self.ctl("bogus", path=where)[0], REFUSED)
        self.assertEqual(self.ctl("kick", path=where)[0], REFUSED)
        self.assertEqual(self.ctl("top", path=where)[0], NO_DAEMON)

    def fake(self, answer):
        """A socket that sends these bytes to each connection, and closes it; None: neither."""
        path = os.path.join(self.temp_dir(), "s")
        server = self.closing(socket.socket(socket.AF_UNIX))
        server.bind(path)
        server.listen()

        def serve():
            kept = []
            while True:
                try:
                    conn, _ = server.accept()
                except OSError:
                    return          # closed: the test is over
                if answer is None:
                    kept.append(conn)
                    continue
                with conn:
                    try:
                        conn.recv(65536)
                        conn.sendall(answer)
                    except ConnectionError:
                        pass

        threading.Thread(target=serve, daemon=True).start()
        self.addCleanup(server.shutdown, socket.SHUT_RDWR)
        return path

    @staticmethod
    def http(body, status=b"200 OK"):
        return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)

    ASKED = (["status"], ["peers"], ["stats"], ["top"], ["top", "-j"], ["events"], ["config"],
             ["version"], ["reload"], ["kick", "1"], ["log-level", "info"])

    def test_what_is_no_broker(self):
        self.assertIn("incomplete, or not a broker's", self.ctl("status", path=self.fake(b"HTTP/1.1 2"))[2])
        for answer in (b"", b"garbage", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nConte",
                       b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", self.http(b"{"),
                       self.http(b""), self.http(b"{}"), self.http(b"[]"), self.http(b"0"),
                       self.http(b'{"error":"no memory"}'), self.http(b'{"peers":3,"proxies":{}}'),
                       b"HTTP/1.1 x\r\nContent-Length: 2\r\n\r\n{}", b"\0" * 100000):
            path = self.fake(answer)
            for words in self.ASKED:
                status, out, err = self.ctl(*words, path=path)
                self.assertEqual((status, out), (NO_DAEMON, ""), (words, answer[:60]))
                self.assertRegex(err, "^bulkheadctl: .", (words, answer[:60]))

    def test_a_door_that_fails(self):
        """An admin process without memory: an error, never an empty table."""
        for code in (b"500 Internal Server Error", b"503 Service Unavailable"):
            for body in (b'{"error":"no memory"}', b"", b"{}", b"no memory\n", b"<html>"):
                path = self.fake(self.http(body, code))
                for words in self.ASKED:
                    status, out, err = self.ctl(*words, path=path)
                    self.assertEqual(status, REFUSED, (words, code, body))
                    if "-j" not in words:
                        self.assertEqual(out, "")
                    why = "no memory" if b"error" in body else "status " + code[:3].decode()
                    self.assertEqual(err, "bulkheadctl: refused: %s\n" % why)

    def test_a_door_that_does_not_answer(self):
        """Waiting for an answer is limited."""
        path = self.fake(None)
        asked = [subprocess.Popen([CTL, "-s", path, *words], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                 for words in self.ASKED]
        for words, p in zip(self.ASKED, asked):
            out, err = p.communicate(timeout=DEADLINE)
            self.assertEqual((p.returncode, out), (NO_DAEMON, ""), words)
            self.assertIn("the broker does not answer", err)

    def test_answers_with_nothing_in_them(self):
        """JSON that has the object asked for, but no members, is reported as such."""
        for body in (b'{"peers":[{}],"proxies":[{}],"events":[{}],"config":"","version":"","done":""}',
                     b'{"peers":[],"proxies":[3],"events":["x"],"config":"","version":"","done":""}'):
            path = self.fake(self.http(body))
            for words in self.ASKED:
                status, _, err = self.ctl(*words, path=path)
                self.assertEqual((status, err), (DONE, ""), (words, body))

    def test_numbers_have_the_digits_that_they_came_with(self):
        path = self.fake(self.http(b'{"proxies":[],"uptime_seconds":28.017,"x":0.0000000015}'))
        self.assertEqual(self.ctl("status", "-j", path=path)[1],
                         '{\n  "proxies": [],\n  "uptime_seconds": 28.017,\n  "x": 1.5e-9\n}\n')

    def test_times_past_the_last_bound(self):
        """Such a time is shown as longer than the bound, not as at most the bound."""
        times = b'{"count":2,"buckets":[{"le":0.5,"count":0},{"le":10.5,"count":1},{"le":null,"count":1}]}'
        side = b'{"forward_seconds":%s}' % times
        path = self.fake(self.http(b'{"peers":[],"clock_ms":1,"proxies":[{"frontend":%s,"backend":%s,'
                                   b'"answer_seconds":%s}]}' % (side, side, times)))
        out = self.ctl("stats", path=path)[1]
        self.assertRegex(out, "(?m)^forward p50 +<= 10500ms +<= 10500ms$")
        self.assertRegex(out, "(?m)^forward p99 +> 10500ms +> 10500ms$")
        self.assertIn("p99: in the broker > 10500ms, at workers > 10500ms\n", self.ctl("top", path=path)[1])

    def test_json_of_a_refusal(self):
        self.start()
        status, out, _ = self.ctl("kick", "77", "--json")
        self.assertEqual(status, REFUSED)
        self.assertIn("no such peer", json.loads(out)["error"])

    def test_stdout_is_full(self):
        self.start()
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run([CTL, "-s", self.path, "status"], stdout=full,
                                  stderr=subprocess.PIPE, timeout=DEADLINE, check=False)
        self.assertEqual(done.returncode, REFUSED)


class Advice(ControlCase):
    """Users who cannot run a command are told what to do."""

    def says(self, status, text, *args, path=None):
        got, out, err = self.ctl(*args, path=path)
        self.assertEqual((got, out), (status, ""), err)
        self.assertRegex(err, "^bulkheadctl: ")
        self.assertIn(text, err)
        return err

    def test_no_daemon(self):
        path = self.temp_dir() + "/control.sock"
        err = self.says(NO_DAEMON, "no broker runs with it", "status", path=path)
        self.assertIn("(installed: systemctl start bulkhead; in the source: scripts/quickstart)", err)
        self.assertRegex(err, ": no such socket: .*\n.*-s SOCKET")
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)
        err = self.says(NO_DAEMON, "its broker has ended", "top", path=path)
        self.assertIn("journalctl", err)
        self.says(NO_DAEMON, "/: not a socket", "status", path="/")
        self.says(NO_DAEMON, "at most 107 bytes", "status", path="/" + "x" * 200)

    @unittest.skipUnless(os.getuid() == 0, "only root can be somebody else")
    def test_no_permission(self):
        self.start()
        directory = os.path.dirname(self.path)
        os.chmod(directory, 0o755)
        program = directory + "/ctl"
        shutil.copy(CTL, program)

        def as_nobody():
            done = subprocess.run([program, "-s", self.path, "status"], user=65534, group=65534,
                                  extra_groups=[], stdin=subprocess.DEVNULL, check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  timeout=DEADLINE, env=harness.environment())
            self.assertEqual((done.returncode, done.stdout), (REFUSED, ""))
            return done.stderr

        os.chown(self.path, -1, 4242)
        self.assertRegex(as_nobody(), "permission denied\nRun it with sudo, or join the group: sudo usermod "
                                      "-aG 4242 ")
        os.chown(self.path, -1, 0)
        self.assertNotIn("usermod", as_nobody())
        self.assertIn("with sudo", as_nobody())
        os.chmod(self.path, 0o666)      # then the broker refuses
        self.assertIn("members of the socket's group may", as_nobody())

    def test_commands(self):
        path = self.temp_dir() + "/none"
        self.says(REFUSED, 'did you mean "status" or "stats"?', "stauts", path=path)
        self.says(REFUSED, "  status  ", path=path)
        self.says(REFUSED, "as bulkheadctl peers shows them", "kick", path=path)
        self.says(REFUSED, "the argument is too long", "kick", "x" * 3000, path=path)
        for words in (["help"], ["help", "kick"], ["kick", "--help"]):
            status, out, err = self.ctl(*words, path=path)
            self.assertEqual((status, err), (DONE, ""))
            self.assertIn("kick PEER", out)

    def test_refusals(self):
        self.start()
        self.assertIn("bulkheadctl peers shows", self.refused("kick", "99"))
        self.assertIn("bulkheadctl status shows", self.refused("pause", "nobody"))


class Completion(ControlCase):
    SCRIPT = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "contrib",
                          "completion", "bulkheadctl.bash")

    def complete(self, *words):
        env = harness.environment()
        env["PATH"] = os.path.dirname(CTL) + ":" + env["PATH"]
        out = subprocess.run(
            ["bash", "-c", 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
             '_bulkheadctl; printf "%s\\n" "${COMPREPLY[@]}"', "bash", self.SCRIPT, "bulkheadctl",
             *words], stdout=subprocess.PIPE, check=True, text=True, env=env).stdout
        return out.split()

    def test_bash(self):
        d = self.start()
        self.client(d)
        peer = self.peer_id(d, "frontend")
        self.assertEqual(self.complete("st"), ["status", "stats"])
        self.assertEqual(self.complete("-s", self.path, "kick", ""), [peer])
        self.assertEqual(self.complete("-s", self.path, "pause", ""), ["default"])
        self.assertEqual(self.complete("log-level", "w"), ["warning"])
        self.assertEqual(self.complete("--js"), ["--json"])
        self.assertEqual(self.complete("-s", self.path + "x", "kick", ""), [])
        self.assertEqual(self.complete("status", ""), [])
