# SPDX-License-Identifier: MIT
"""The HTTP port: its numbers are right, and no request does harm."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest
import urllib.parse
import urllib.request

import harness
from admin import Admin, Metrics
from harness import DEADLINE

CONNECTIONS = 32    # HTTP_CONNECTIONS of admin/http.h
ASKED = 8000        # requests of 8 KB: more than any kernel keeps for a socket


class MetricsCase(harness.Case):
    def start(self, **kw):
        broker = dict({"http": "tcp://127.0.0.1:*"}, **kw.pop("broker", {}))
        d = self.daemon(broker=broker, **kw)
        return d, Admin(d.wait_event("http_listening")["endpoint"])

    def raw(self, admin):
        return self.closing(admin.raw())

    def read_to_end(self, sock):
        """Everything that is received until the other side closes, or resets."""
        sock.settimeout(DEADLINE)
        data = b""
        try:
            while True:
                more = sock.recv(65536)
                if not more:
                    return data
                data += more
        except ConnectionError:
            return data


class Health(MetricsCase):
    def test_healthz(self):
        _, admin = self.start()
        answer = admin.get("/healthz")
        self.assertEqual((answer.status, answer.text), (200, "ok\n"))

    def test_a_loop_that_stands_still_is_not_healthy(self):
        """The message process is stopped: the admin process answers."""
        d, admin = self.start()
        self.assertEqual(admin.get("/healthz").status, 200)
        d.send_signal(signal.SIGSTOP)
        self.addCleanup(d.send_signal, signal.SIGCONT)
        answer = admin.wait(lambda: admin.get("/healthz"), lambda a: a.status != 200)
        self.assertEqual(answer.status, 503)
        self.assertIn("has not responded", answer.text)
        self.assertEqual(admin.get("/metrics").status, 503)
        self.assertEqual(admin.get("/api/events").status, 200)
        d.send_signal(signal.SIGCONT)
        admin.wait(lambda: admin.get("/healthz"), lambda a: a.status == 200)
        self.exchange(self.client(d), self.worker(d))

    def test_readyz_says_what_is_missing(self):
        d, admin = self.start()
        answer = admin.get("/readyz")
        self.assertEqual(answer.status, 503)
        self.assertEqual(answer.text, "proxy default: no backend peer is ready\n")
        worker = self.worker(d)
        admin.wait(lambda: admin.get("/readyz"), lambda a: a.status == 200)
        worker.close()
        admin.wait(lambda: admin.get("/readyz"), lambda a: a.status == 503)

    def test_readyz_while_draining(self):
        d, admin = self.start(broker={"drain_timeout": "60s"})
        client, worker = self.client(d), self.worker(d)
        client.send_message([b"", b"question"])
        request = worker.recv_message()
        d.send_signal(signal.SIGTERM)
        answer = admin.wait(lambda: admin.get("/readyz"), lambda a: "draining" in a.text)
        self.assertEqual(answer.status, 503)
        self.assertEqual(admin.get("/healthz").status, 200)
        worker.send_message(request)
        d.wait_event("drained")

    def test_readyz_of_a_listener_that_accepts_nobody(self):
        d, admin = self.start(frontend={"max_connections": "1"})
        self.worker(d)
        admin.wait(lambda: admin.get("/readyz"), lambda a: a.status == 200)
        self.client(d)
        self.peer(d.frontend)
        answer = admin.wait(lambda: admin.get("/readyz"), lambda a: a.status == 503)
        self.assertRegex(answer.text, "default: frontend tcp://127.0.0.1:[0-9]+ accepts no")


class Figures(MetricsCase):
    def test_they_are_what_was_sent(self):
        d, admin = self.start()
        client, worker = self.client(d), self.worker(d)
        for i in range(40):
            self.exchange(client, worker, b"x" * i)
        worker.send_message([b"nobody", b"", b"lost"])
        m = admin.wait_metrics(
            lambda m: m.side("messages_received_total", "frontend") == 41 and
            m.side("messages_sent_total", "frontend") == 40)
        self.assertTrue(m.conserved())
        self.assertEqual(m.side("messages_received_total", "backend"), 40)
        self.assertEqual(m.side("messages_sent_total", "backend"), 40)
        self.assertEqual(m.side("messages_dropped_total", "frontend", reason="unroutable"), 1)
        self.assertEqual(m.total("bulkhead_messages_dropped_total"), 1)
        self.assertEqual(m.side("peers", "frontend", state="ready"), 1)
        self.assertEqual(m.side("peers", "backend", state="ready"), 1)
        self.assertEqual(m.total("bulkhead_peers"), 2)
        self.assertEqual(m.side("connections_accepted_total", "frontend"), 1)
        self.assertEqual(m.side("forward_seconds_count", "frontend"), 40)
        self.assertEqual(m.side("forward_seconds_count", "backend"), 40)
        self.assertEqual(m.get("bulkhead_memory_bytes"), 0)
        client.close()
        m = admin.wait_metrics(
            lambda m: m.side("connections_closed_total", "frontend", reason="peer_closed") == 1)
        self.assertEqual(m.side("peers", "frontend", state="ready"), 0)
        stats = d.stats()
        for side in ("frontend", "backend"):
            for metric, field in (("bytes_received_total", "bytes_received"),
                                  ("bytes_sent_total", "bytes_sent"),
                                  ("messages_received_total", "received"),
                                  ("messages_sent_total", "sent")):
                self.assertEqual(m.side(metric, side), stats.side(side)[field], (metric, side))

    def test_what_waits_is_queued_and_the_law_holds(self):
        d, admin = self.start()
        client = self.client(d)
        for i in range(7):
            client.send_message([b"", b"wait"])
        m = admin.wait_metrics(lambda m: m.side("queue_messages", "backend") == 7)
        self.assertTrue(m.conserved())
        self.assertGreater(m.side("queue_bytes", "backend"), 0)
        # with what keeps them
        self.assertGreater(m.get("bulkhead_memory_bytes"), m.side("queue_bytes", "backend"))
        self.assertEqual(m.side("forward_seconds_count", "backend"), 0)
        worker = self.worker(d)
        for i in range(7):
            worker.recv_message()
        m = admin.wait_metrics(lambda m: m.side("messages_sent_total", "backend") == 7)
        self.assertEqual(m.side("forward_seconds_count", "backend"), 7)
        self.assertTrue(m.conserved())

    def test_buffers_that_became_free_are_counted(self):
        d, admin = self.start()
        before = admin.metrics().get("bulkhead_free_buffer_bytes")
        client = self.client(d)
        client.send_message([b"", bytes(100000)])
        m = admin.wait_metrics(lambda m: m.side("queue_messages", "backend") == 1)
        worker = self.worker(d)
        worker.recv_message()
        m = admin.wait_metrics(lambda m: m.get("bulkhead_memory_bytes") == 0)
        free = m.get("bulkhead_free_buffer_bytes")
        self.assertGreater(free, before + 100000)
        self.assertLess(free, 20 << 20)
        self.assertEqual(int(d.stats().end["free_buffer_bytes"]), free)

    def test_a_message_that_waited_counts_its_wait(self):
        """Until the worker comes, the broker is asked for its counters ten times: ten turns."""
        d, admin = self.start()
        client = self.client(d)
        client.send_message([b"", b"wait"])
        admin.wait_metrics(lambda m: m.side("queue_messages", "backend") == 1)
        before = time.monotonic()
        for _ in range(10):
            d.stats()
        waited = time.monotonic() - before
        self.worker(d).recv_message()
        m = admin.wait_metrics(lambda m: m.side("forward_seconds_count", "backend") == 1)
        self.assertGreaterEqual(m.side("forward_seconds_sum", "backend"), waited)

    def test_histograms_add_up(self):
        d, admin = self.start()
        client, worker = self.client(d), self.worker(d)
        for i in range(20):
            self.exchange(client, worker)
        m = admin.wait_metrics(lambda m: m.side("forward_seconds_count", "frontend") == 20)
        for name, labels in (("bulkhead_loop_lag_seconds", {}),
                             ("bulkhead_forward_seconds", {"proxy": "default", "side": "backend"})):
            buckets = sorted((float(dict(l)["le"]), v) for (n, l), v in m.items()
                             if n == name + "_bucket" and set(labels.items()) <= l)
            values = [v for _, v in buckets]
            self.assertEqual(values, sorted(values))
            self.assertEqual(buckets[-1][0], float("inf"))
            self.assertEqual(values[-1], m.get(name + "_count", **labels))
            self.assertGreater(m.get(name + "_sum", **labels), 0)

    def test_the_process(self):
        d, admin = self.start()
        m = admin.metrics()
        self.assertEqual(m.get("process_max_fds") > 0, True)
        self.assertLess(abs(m.get("process_start_time_seconds") - time.time()), 3600)
        self.assertGreater(m.get("process_resident_memory_bytes"), 1 << 20)
        self.assertGreater(m.get("process_virtual_memory_bytes"),
                           m.get("process_resident_memory_bytes"))
        self.assertLess(abs(m.get("process_open_fds") - d.fds()), 5)

    def test_reconnects_are_counted(self):
        where = "ipc://" + self.temp_dir() + "/w"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(where[6:])
        listener.listen()
        listener.settimeout(DEADLINE)
        self.closing(listener)
        _, admin = self.start(backend={"bind": None, "connect": where, "reconnect_min": "1ms",
                                       "reconnect_max": "1ms"})
        for _ in range(3):
            listener.accept()[0].close()
        m = admin.wait_metrics(lambda m: m.side("connect_attempts_total", "backend") >= 3)
        self.assertGreaterEqual(m.side("handshakes_failed_total", "backend"), 2)
        self.assertEqual(m.side("reconnects_total", "backend"), 0)


class Format(MetricsCase):
    def test_every_metric_says_what_it_is(self):
        _, admin = self.start()
        answer = admin.get("/metrics")
        self.assertEqual(answer.headers["Content-Type"],
                         "text/plain; version=0.0.4; charset=utf-8")
        lines = answer.text.splitlines()
        helped = [line.split()[2] for line in lines if line.startswith("# HELP ")]
        typed = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
        self.assertEqual(helped, typed)
        self.assertEqual(len(set(typed)), len(typed))
        names = {n for n, _ in Metrics(answer.text)}
        for suffix in ("_bucket", "_sum", "_count"):
            names = {n[:-len(suffix)] if n.endswith(suffix) and n[:-len(suffix)] in typed else n
                     for n in names}
        self.assertEqual(names, set(typed))

    @unittest.skipUnless(shutil.which("promtool"), "promtool is missing (Debian: prometheus)")
    def test_promtool_has_no_complaint(self):
        d, admin = self.start()
        self.exchange(self.client(d), self.worker(d))
        done = subprocess.run(["promtool", "check", "metrics"], input=admin.get("/metrics").body,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, b""))

    @unittest.skipUnless(shutil.which("prometheus"), "prometheus is missing (Debian: prometheus)")
    def test_a_real_prometheus_scrapes_it(self):
        d, admin = self.start()
        client, worker = self.client(d), self.worker(d)
        for _ in range(5):
            self.exchange(client, worker)
        where = self.temp_dir()
        with socket.create_server(("127.0.0.1", 0)) as s:
            port = s.getsockname()[1]
        with open(where + "/p.yml", "w", encoding="ascii") as f:
            f.write("global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
                    "scrape_configs:\n- job_name: bulkhead\n  static_configs:\n"
                    "  - targets: ['%s']\n" % urllib.parse.urlsplit(admin.where).netloc)
        with open(where + "/log", "wb") as log:
            server = subprocess.Popen(
                ["prometheus", "--config.file=" + where + "/p.yml",
                 "--storage.tsdb.path=" + where + "/data",
                 "--web.listen-address=127.0.0.1:%d" % port], stdout=log, stderr=log)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)

        def query(what):
            if server.poll() is not None:
                with open(where + "/log", encoding="utf-8") as f:
                    self.fail("prometheus ended:\n" + f.read()[-2000:])
            try:
                with urllib.request.urlopen(
                        "http://127.0.0.1:%d/api/v1/query?query=%s"
                        % (port, urllib.parse.quote(what)), timeout=DEADLINE) as answer:
                    return json.load(answer)["data"]["result"]
            except OSError:
                return []

        def value(what):
            result = query(what)
            return float(result[0]["value"][1]) if len(result) == 1 else None

        admin.wait(lambda: value("up"), lambda v: v == 1)
        self.assertEqual(
            admin.wait(lambda: value('bulkhead_messages_sent_total{side="backend"}'),
                       lambda v: v is not None), 5)
        self.assertEqual(value("sum(bulkhead_peers{state='ready'})"), 2)
        self.assertIsNotNone(value(
            'histogram_quantile(0.99, bulkhead_forward_seconds_bucket{side="backend"})'))


class ReadOnly(MetricsCase):
    def test_nothing_can_be_changed(self):
        d, admin = self.start()
        self.client(d)
        for what in ("kick/1", "drain/1", "pause/default", "resume/default", "reload",
                     "log-level/error"):
            answer = admin.post("/api/" + what)
            self.assertEqual(answer.status, 403, what)
            self.assertEqual(answer.json["error"],
                             "permission denied: only available over the control socket")
        self.assertEqual(admin.get("/api/config").status, 403)
        # may be a moment old at first: history was just sampled
        admin.wait_metrics(lambda m: m.side("peers", "frontend", state="ready") == 1)

    def test_methods_and_pages(self):
        _, admin = self.start()
        self.assertEqual(admin.get("/nothing").status, 404)
        self.assertEqual(admin.get("/metricsx").status, 404)
        answer = admin.post("/metrics")
        self.assertEqual((answer.status, answer.headers["Allow"]), (405, "GET, HEAD"))
        head = admin.ask("/metrics", "HEAD")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertGreater(int(head.headers["Content-Length"]), 1000)
        self.assertGreaterEqual(admin.ask("/metrics", "DELETE").status, 400)
        self.assertEqual(admin.get("/metrics?x=y").status, 200)

    def test_one_connection_serves_many(self):
        _, admin = self.start()
        connection = admin.connection()
        self.closing(connection)
        for path, status in (("/healthz", 200), ("/nothing", 404), ("/metrics", 200)) * 5:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            self.assertEqual(response.status, status)

    def test_a_port_that_is_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as s:
            d = harness.Daemon(self.sections(
                broker={"http": "tcp://127.0.0.1:%d" % s.getsockname()[1]}), wait=False)
            self.addCleanup(d.kill)
            self.assertEqual(d.wait(), 2)
            failed, waits = d.wait_event("bind_failed"), d.find_events("http_waits")
            self.assertEqual((failed["option"], failed["error"]), ("http", "Address already in use"))
            self.assertEqual([e["detail"] for e in waits], ["for at most 3 s"])

    def test_a_port_that_is_taken_for_a_moment(self):
        with socket.create_server(("127.0.0.1", 0)) as s:
            endpoint = "tcp://127.0.0.1:%d" % s.getsockname()[1]
            d = harness.Daemon(self.sections(broker={"http": endpoint}), wait=False)
            self.addCleanup(d.kill)
            d.wait_event("http_waits", endpoint=endpoint)
        d.wait_event("started")
        self.assertEqual(Admin(endpoint).api("status")["pid"], d.pid)
        d.stop()


class BadInput(MetricsCase):
    def traffic_goes_on(self, d):
        client, worker = self.client(d), self.worker(d)
        self.exchange(client, worker)
        client.close()
        worker.close()

    def test_garbage(self):
        d, admin = self.start()
        for data in (b"\0" * 100, b"\xff" * 5000, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                     b"GET /" + b"\x01" * 50 + b" HTTP/1.1\r\n\r\n", b"\r\n" * 2000,
                     b"POST /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                     b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzzzz\r\n",
                     b"GET http://[::1 HTTP/1.1\r\n\r\n", b"\xff" + bytes(8) + b"\x7f\x03\x01NULL"):
            sock = self.raw(admin)
            try:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass        # closed before all of it was sent
            self.assertNotIn(b" 200 ", self.read_to_end(sock), data[:40])
        self.assertEqual(admin.get("/healthz").status, 200)
        self.traffic_goes_on(d)

    def test_oversize(self):
        d, admin = self.start()
        before = d.admin_rss()
        for head, body in ((b"GET /metrics HTTP/1.1\r\nX: ", b"x" * (8 << 20)),
                           (b"GET /", b"y" * (8 << 20)),
                           (b"POST /metrics HTTP/1.1\r\nContent-Length: 8388608\r\n\r\n",
                            b"z" * (8 << 20)),
                           (b"GET / HTTP/1.1\r\n", b"A: b\r\n" * (1 << 20))):
            sock = self.raw(admin)
            try:
                sock.sendall(head + body)
            except OSError:
                pass
            self.assertNotIn(b" 200 ", self.read_to_end(sock))
        self.assertEqual(admin.get("/healthz").status, 200)
        if not harness.INSTRUMENTED:
            self.assertLess(d.admin_rss() - before, 8 << 20)
        self.traffic_goes_on(d)

    def test_slow_ones_are_closed(self):
        """Idle, dripping, in the middle of a body, and not reading: each has ten seconds."""
        d, admin = self.start()
        self.assertEqual(admin.get("/healthz").status, 200)
        before = d.admin_fds()
        idle, dripping, waiting, deaf = (self.raw(admin) for _ in range(4))
        waiting.sendall(b"POST /metrics HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")
        stop = threading.Event()

        def drip():
            try:
                while not stop.wait(0.2):
                    dripping.send(b"G")
            except OSError:
                pass

        dripper = threading.Thread(target=drip, daemon=True)
        dripper.start()
        asked, rss = 0, d.admin_rss()
        deaf.settimeout(0.5)
        try:
            while asked < ASKED:
                deaf.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n" % (b"x" * 8000))
                asked += 1
        except OSError:
            pass        # it sent no more, since nothing was read
        self.assertLess(asked, ASKED)
        if not harness.INSTRUMENTED:
            self.assertLess(d.admin_rss() - rss, 8 << 20)
        for sock in (idle, dripping, waiting):
            self.read_to_end(sock)
        stop.set()
        dripper.join()
        admin.wait(d.admin_fds, lambda n: n <= before)
        self.traffic_goes_on(d)

    def test_too_many_connections(self):
        """The connection that is idle for longest makes room."""
        d, admin = self.start()
        socks = [self.raw(admin) for _ in range(CONNECTIONS * 3)]
        for sock in socks[:CONNECTIONS * 2]:
            self.read_to_end(sock)
        self.assertEqual(admin.get("/healthz").status, 200)
        socks[-1].sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        self.assertIn(b"200 OK", self.read_to_end(socks[-1]))
        self.traffic_goes_on(d)

    def test_many_scrapes_share_what_was_looked_up(self):
        d, admin = self.start()
        client, worker = self.client(d), self.worker(d)
        bodies, begin = [], time.monotonic()
        lock = threading.Lock()

        def scrape():
            connection = admin.connection()
            for _ in range(250):
                connection.request("GET", "/metrics")
                response = connection.getresponse()
                body = response.read()
                with lock:
                    bodies.append((response.status, body))
            connection.close()

        threads = [threading.Thread(target=scrape, daemon=True) for _ in range(4)]
        for t in threads:
            t.start()
        while any(t.is_alive() for t in threads):
            self.exchange(client, worker)
        for t in threads:
            t.join()
        took = time.monotonic() - begin
        self.assertEqual(len(bodies), 1000)
        self.assertEqual({status for status, _ in bodies}, {200})
        self.assertLessEqual(len({body for _, body in bodies}), took / 0.1 + 2)
        for _, body in bodies[::100]:
            self.assertTrue(Metrics(body.decode()).conserved())


if __name__ == "__main__":
    unittest.main()
