#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""One of three workers is frozen (SIGSTOP). Who waits for it?

Six REQ clients ask twenty requests each. The same three times:

1. Through zmq_proxy. It gives each worker one request in turn, so sooner or later every client
   waits for the frozen one.
2. Through Bulkhead as it is installed. Only those wait whose request the frozen worker had been
   given before it held more than the others. When it is killed, these requests are lost.
3. Through Bulkhead with two more lines in [backend]. Everybody is answered. The frozen worker is
   woken up then, and works on what another worker has done already: that is the price.
"""
import os
import select
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import zmq
from demo import LIMIT, Broker, verdict

CLIENTS, REQUESTS = 6, 20
QUIET = 2  # seconds without any reply, after which those who wait are taken to wait indefinitely

PROXY = """
import zmq
context = zmq.Context()
frontend, backend = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
print(frontend.bind_to_random_port("tcp://127.0.0.1"),
      backend.bind_to_random_port("tcp://127.0.0.1"), flush=True)
zmq.proxy(frontend, backend)
"""

# It says on stdout what it works on.
WORKER = """
import sys, zmq
socket = zmq.Context().socket(zmq.REP)
socket.connect(sys.argv[1])
while True:
    request = socket.recv()
    print(request.decode(), flush=True)
    socket.send(b"done: " + request)
"""

INI = """
[frontend]
bind = tcp://127.0.0.1:*
[backend]
bind = tcp://127.0.0.1:*
silent_after = 1s
"""

TWO_LINES = """
redeliver = yes
answer_timeout = 1s
"""


class Worker:
    def __init__(self, port):
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, f"tcp://127.0.0.1:{port}"],
            stdout=subprocess.PIPE, bufsize=0)
        self.text = b""

    def worked_on(self, expected=0):
        """Everything that it has worked on so far, as soon as that is `expected` requests."""
        end = time.monotonic() + LIMIT
        while True:
            ready = select.select([self.process.stdout], [], [], 0)[0]
            if not ready and self.text.count(b"\n") >= expected:
                return self.text.decode().split("\n")[:-1]
            if not ready and not select.select([self.process.stdout], [], [],
                                               max(0, end - time.monotonic()))[0]:
                verdict(False, f"a worker did not work on {expected} requests within {LIMIT} s")
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                verdict(False, "a worker ended by itself")
            self.text += piece

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def wake(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Clients:
    """REQ sockets, each of which asks, waits for its reply, and asks again."""

    def __init__(self, context, port):
        self.poller = zmq.Poller()
        self.replies = {}
        self.sockets = []
        for i in range(CLIENTS):
            client = context.socket(zmq.REQ)
            client.linger = 0
            client.connect(f"tcp://127.0.0.1:{port}")
            self.poller.register(client, zmq.POLLIN)
            self.sockets.append(client)
            self.replies[client] = 0

    def _ask(self, client):
        number = self.sockets.index(client)
        client.send(b"client %d request %d" % (number, self.replies[client]))

    def begin(self):
        for client in self.sockets:
            self._ask(client)

    def run(self, most):
        """Until all are served, or nobody has got a reply for a while, and `most` or fewer wait. Who
        waits then? (More than `most` are told after LIMIT: a machine may have other things to do.)"""
        end = time.monotonic() + LIMIT
        while self.waiting():
            ready = self.poller.poll(QUIET * 1000)
            if not ready and (len(self.waiting()) <= most or time.monotonic() > end):
                break
            for client, _ in ready:
                number = self.sockets.index(client)
                expected = b"done: client %d request %d" % (number, self.replies[client])
                if client.recv() != expected:
                    verdict(False, f"client {number} did not get {expected.decode()}")
                self.replies[client] += 1
                if self.replies[client] < REQUESTS:
                    self._ask(client)
        return self.waiting()

    def waiting(self):
        return [i for i, c in enumerate(self.sockets) if self.replies[c] < REQUESTS]

    def close(self):
        for client in self.sockets:
            client.close(0)


def tell(title, waiting):
    served = CLIENTS - len(waiting)
    print(f"{title}\n   served to the end: {served} of {CLIENTS} clients;"
          f" still waiting: {len(waiting)}", flush=True)


def through_zmq_proxy(context):
    proxy = subprocess.Popen([sys.executable, "-c", PROXY], stdout=subprocess.PIPE, text=True)
    workers, clients = [], None
    try:
        front, back = proxy.stdout.readline().split()
        workers = [Worker(back) for _ in range(3)]
        introduce(context, front, workers)
        workers[1].freeze()
        clients = Clients(context, front)
        clients.begin()
        waiting = clients.run(CLIENTS)
        tell("1. zmq_proxy", waiting)
        return waiting
    finally:
        finish(clients, workers)
        proxy.kill()
        proxy.wait()
        proxy.stdout.close()


def introduce(context, port, workers):
    """Ask until each worker has answered once: then all of them are connected."""
    with context.socket(zmq.REQ) as client:
        client.linger = 0
        client.rcvtimeo = LIMIT * 1000
        client.connect(f"tcp://127.0.0.1:{port}")
        end = time.monotonic() + LIMIT
        while not all(w.worked_on() for w in workers):
            if time.monotonic() > end:
                verdict(False, f"not every worker was given a request within {LIMIT} s")
            client.send(b"hello")
            client.recv()


def finish(clients, workers):
    if clients:
        clients.close()
    for worker in workers:
        worker.kill()


def through_bulkhead(context, title, ini, redelivered):
    """Who waits at the end; and how many requests were worked on twice."""
    workers, clients = [], None
    with Broker(ini) as broker:
        try:
            workers = [Worker(broker.port("backend")) for _ in range(3)]
            introduce(context, broker.port("frontend"), workers)
            before = len(workers[1].worked_on())
            workers[1].freeze()
            clients = Clients(context, broker.port("frontend"))
            clients.begin()
            waiting = clients.run(0 if redelivered else 2)
            tell(title, waiting)
            if redelivered and waiting:
                return waiting, 0
            if redelivered:
                suspect = broker.wait("worker_suspect", side="backend")
                print(f"   the broker's log: event={suspect['event']} peer={suspect['peer']}"
                      f" outstanding={suspect['outstanding']}")
                workers[1].wake()
                late = workers[1].worked_on(before + 1)[before:]
                others = workers[0].worked_on() + workers[2].worked_on()
                return waiting, len([r for r in late if r in others])
            silent = broker.wait("worker_silent", side="backend")
            print(f"   the broker's log: event={silent['event']} peer={silent['peer']}"
                  f" outstanding={silent['outstanding']}")
            workers[1].kill()
            broker.wait("peer_closed", side="backend")
            waiting = clients.run(2)
            print(f"   the frozen worker is killed: {len(waiting)} wait indefinitely,"
                  " unless they have a timeout of their own")
            return waiting, 0
        finally:
            finish(clients, workers)


def main():
    context = zmq.Context()
    proxy = through_zmq_proxy(context)
    before, _ = through_bulkhead(context, "2. Bulkhead, without an option", INI, False)
    after, twice = through_bulkhead(
        context, "3. Bulkhead, redeliver = yes, answer_timeout = 1s", INI + TWO_LINES, True)
    print(f"   the frozen worker wakes up: {twice} of the requests are worked on twice,"
          " each client got one reply")
    context.term()
    if len(proxy) != CLIENTS:
        verdict(False, "zmq_proxy served a client to the end; has libzmq changed?")
    if not 1 <= len(before) <= 2:
        verdict(False, f"{len(before)} clients waited for one frozen worker of three, not 1 or 2")
    if after:
        verdict(False, f"{len(after)} clients were not served, in spite of redeliver")
    if twice < 1:
        verdict(False, "the frozen worker worked on nothing twice; was it given a request at all?")
    verdict(True, f"a frozen worker stops {len(proxy)} of {CLIENTS} clients of zmq_proxy,"
                  f" {len(before)} of Bulkhead's, and none with two lines of ini")


if __name__ == "__main__":
    main()
