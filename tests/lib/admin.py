# SPDX-License-Identifier: MIT
"""Talks HTTP to the daemon: to its port, and to its control socket."""

import http.client
import json
import re
import socket
import threading
import time
import urllib.parse

from harness import DEADLINE

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)')
LABEL = re.compile(r'([a-zA-Z_]+)="([^"]*)"(?:,|$)')


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("bulkhead", timeout=DEADLINE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(self.path)


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)


class Metrics(dict):
    """{(name, label values in the order of their names): value}"""

    def __init__(self, text):
        super().__init__()
        for line in text.splitlines():
            if line.startswith("#"):
                continue
            found = SAMPLE.fullmatch(line)
            assert found, line
            labels = dict(LABEL.findall(found[2] or ""))
            self[(found[1], frozenset(labels.items()))] = float(found[3])

    def get(self, name, **labels):
        return self[(name, frozenset(labels.items()))]

    def total(self, name, **labels):
        """The sum over all values of the labels that are not given."""
        return sum(v for (n, l), v in self.items() if n == name and set(labels.items()) <= l)

    def side(self, name, side, proxy="default", **labels):
        return self.get("bulkhead_" + name, side=side, proxy=proxy, **labels)

    def conserved(self, proxy="default"):
        """The conservation law: received + redelivered == sent + dropped + queued, on both sides."""
        return all(self.side("messages_received_total", s, proxy) +
                   self.side("messages_redelivered_total", s, proxy) ==
                   self.side("messages_sent_total", s, proxy) +
                   self.total("bulkhead_messages_dropped_total", side=s, proxy=proxy) +
                   self.side("queue_messages", s, proxy) for s in ("frontend", "backend"))


class Admin:
    """`where`: tcp://HOST:PORT, or the path of a Unix socket. A connection for each request."""

    def __init__(self, where):
        self.where = where

    def connection(self):
        if self.where.startswith("/"):
            return UnixConnection(self.where)
        parts = urllib.parse.urlsplit(self.where)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=DEADLINE)

    def raw(self):
        """A connected socket."""
        connection = self.connection()
        connection.connect()
        return connection.sock

    def ask(self, path, method="GET", body=None):
        connection = self.connection()
        try:
            connection.request(method, path, body=body)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path):
        return self.ask(path)

    def post(self, path):
        return self.ask(path, "POST")

    def api(self, what):
        answer = self.get("/api/" + what)
        assert answer.status == 200, (answer.status, answer.text)
        return answer.json

    def metrics(self):
        answer = self.get("/metrics")
        assert answer.status == 200, (answer.status, answer.text)
        return Metrics(answer.text)

    def wait(self, what, predicate):
        """Call what() repeatedly until the predicate of its result is true."""
        until = time.monotonic() + DEADLINE
        pause = threading.Event()
        while True:
            result = what()
            if predicate(result):
                return result
            assert time.monotonic() < until, "never came true; last: %s" % (result,)
            pause.wait(0.05)

    def wait_metrics(self, predicate):
        return self.wait(self.metrics, predicate)
