# SPDX-License-Identifier: MIT
"""Real libzmq peers for the integration tests, through pyzmq."""

import os
import subprocess
import sys
import threading
import time

import zmq

import harness
from harness import DEADLINE

WAIT_MS = int(DEADLINE * 1000)
HERE = os.path.dirname(os.path.realpath(__file__))


class ZmqCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.ctx = zmq.Context()
        # Runs after the sockets and threads of the test are gone, and before
        # that of the daemon only if the daemon was started in setUp.
        self.addCleanup(self.ctx.destroy, 0)

    def socket(self, kind, endpoint=None, bind=None, identity=None, ctx=None, **options):
        s = (ctx or self.ctx).socket(kind)
        s.setsockopt(zmq.LINGER, 0)
        s.setsockopt(zmq.RCVTIMEO, WAIT_MS)
        s.setsockopt(zmq.SNDTIMEO, WAIT_MS)
        if identity is not None:
            s.setsockopt(zmq.IDENTITY, identity)
        for name, value in options.items():
            s.setsockopt(getattr(zmq, name), value)
        self.addCleanup(s.close, 0)
        if bind:
            s.bind(bind)
        if endpoint:
            s.connect(endpoint)
        return s

    def ready(self, d, side, count=1, after=0):
        """Wait until `count` peers of `side` are ready."""
        return d.wait_event("peer_ready", after=after, side=side, count=count)

    def echo(self, endpoint, kind=zmq.REP, tag=b"", bind=False, **options):
        w = Echo(self.ctx, endpoint, kind, tag, bind, options)
        self.addCleanup(w.stop)
        return w

    def process(self, endpoint, *args):
        w = WorkerProcess(endpoint, *args)
        self.addCleanup(w.kill)
        return w

    def ask(self, s, *parts):
        s.send_multipart(list(parts))
        return s.recv_multipart()


def reply(kind, parts, tag=b""):
    """The reply of a worker of socket type `kind` to `parts`: the last frame tagged."""
    return parts[:-1] + [parts[-1] + tag]


class Echo(threading.Thread):
    """A worker in a thread: it returns each request, with `tag` appended to its last frame."""

    def __init__(self, ctx, endpoint, kind=zmq.REP, tag=b"", bind=False, options=None):
        super().__init__(daemon=True)
        self.handled = 0
        self.error = None
        self.kind, self.tag = kind, tag
        self.socket = ctx.socket(kind)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDTIMEO, WAIT_MS)
        for name, value in (options or {}).items():
            self.socket.setsockopt(getattr(zmq, name), value)
        if bind:
            self.socket.bind(endpoint)
        else:
            self.socket.connect(endpoint)
        self.endpoint = self.socket.getsockopt(zmq.LAST_ENDPOINT).decode().rstrip("\0")
        where = "inproc://echo-%x" % id(self)
        self.theirs = ctx.socket(zmq.PAIR)
        self.theirs.bind(where)
        self.ours = ctx.socket(zmq.PAIR)
        self.ours.connect(where)
        self.start()

    def run(self):
        poller = zmq.Poller()
        poller.register(self.socket, zmq.POLLIN)
        poller.register(self.theirs, zmq.POLLIN)
        try:
            while True:
                ready = dict(poller.poll())
                if self.theirs in ready:
                    break
                while True:
                    try:
                        parts = self.socket.recv_multipart(zmq.NOBLOCK)
                    except zmq.Again:
                        break
                    self.handled += 1
                    self.socket.send_multipart(reply(self.kind, parts, self.tag))
        except Exception as e:           # noqa: BLE001 - handed to the test
            self.error = e
        finally:
            self.socket.close(0)
            self.theirs.close(0)

    def stop(self):
        if not self.ours.closed:
            if self.is_alive():
                self.ours.send(b"stop")
            self.join(DEADLINE)
            self.ours.close(0)
        if self.error:
            raise self.error


class WorkerProcess:
    """A worker in a process of its own, to be killed.  See worker.py for the arguments."""

    def __init__(self, endpoint, *args):
        self.proc = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "worker.py"), endpoint] + list(args),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.lines = []
        self.cond = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        with self.proc.stdout as out:
            for line in out:
                with self.cond:
                    self.lines.append(line.decode().rstrip("\n"))
                    self.cond.notify_all()

    def wait_line(self, text, count=1):
        until = time.monotonic() + DEADLINE
        with self.cond:
            while self.lines.count(text) < count:
                left = until - time.monotonic()
                if left <= 0:
                    raise AssertionError("worker never said %r: %s" % (text, self.lines[-20:]))
                self.cond.wait(left)

    @property
    def pid(self):
        return self.proc.pid

    def send_signal(self, number):
        self.proc.send_signal(number)

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        self.proc.stdin.close()
        self.reader.join(5)
