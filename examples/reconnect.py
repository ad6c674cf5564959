#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Workers are killed and restarted; requests keep being answered.

Bulkhead dials two workers that bind. One after the other is killed with SIGKILL
and started again on its port, while a client goes on asking. Bulkhead notices,
serves from the other one, and reconnects with backoff.
"""
import os
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import zmq
from demo import LIMIT, Broker, verdict

WORKER = """
import sys, zmq
socket = zmq.Context().socket(zmq.REP)
socket.bind(sys.argv[1])
print("up", flush=True)
while True:
    socket.send(b"%s: %s" % (sys.argv[2].encode(), socket.recv()))
"""


class Worker:
    def __init__(self, name, port):
        self.name, self.endpoint = name, f"tcp://127.0.0.1:{port}"
        self.start()

    def start(self):
        self.process = subprocess.Popen([sys.executable, "-c", WORKER, self.endpoint, self.name],
                                        stdout=subprocess.PIPE)
        self.process.stdout.readline()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


def free_ports(context, count):
    sockets = [context.socket(zmq.REP) for _ in range(count)]
    ports = [s.bind_to_random_port("tcp://127.0.0.1") for s in sockets]
    for s in sockets:
        s.close(0)
    return ports


def ask(client, names, count, counted):
    for i in range(count):
        client.send(b"request %d" % i)
        name = client.recv().split(b":")[0].decode()
        if name not in names:
            verdict(False, f"{name} answered, who should be down")
        counted[name] = counted.get(name, 0) + 1


def main():
    context = zmq.Context()
    ports = free_ports(context, 2)
    workers = [Worker("one", ports[0]), Worker("two", ports[1])]
    ini = ("[frontend]\nbind = tcp://127.0.0.1:*\n[backend]\n"
           "reconnect_min = 20ms\nreconnect_max = 200ms\n"
           + "".join(f"connect = {w.endpoint}\n" for w in workers))
    answers = {}
    try:
        with Broker(ini) as broker:
            broker.wait("peer_ready", 2, side="backend")
            client = context.socket(zmq.REQ)
            client.linger = 0
            client.rcvtimeo = LIMIT * 1000
            client.connect(f"tcp://127.0.0.1:{broker.port('frontend')}")
            ask(client, ("one", "two"), 20, answers)
            for round_, (down, up) in enumerate(((0, 1), (1, 0)), 1):
                workers[down].kill()
                broker.wait("peer_closed", round_, side="backend")
                print(f"worker {workers[down].name} killed: the other one serves")
                ask(client, (workers[up].name,), 20, answers)
                workers[down].start()
                broker.wait("peer_ready", 2 + round_, side="backend")
                print(f"worker {workers[down].name} restarted: both serve")
                ask(client, ("one", "two"), 20, answers)
            client.close(0)
    except zmq.Again:
        verdict(False, f"a request was not answered within {LIMIT} s")
    finally:
        for w in workers:
            w.kill()
    print("answers:", answers)
    verdict(sum(answers.values()) == 100 and len(answers) == 2,
            "100 of 100 requests answered over two kills and restarts")


if __name__ == "__main__":
    main()
