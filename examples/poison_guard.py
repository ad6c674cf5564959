#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Why a half-written message must never be followed by another one.

Part 1 writes half a message to a real libzmq socket, then goes on with the next
messages on the same connection, as a program does that cancels a write and
reuses the stream. libzmq cannot know: it delivers garbage as a valid message.

Part 2 puts Bulkhead between a client and two workers. The first worker stops
reading in the middle of a large request. Bulkhead cancels the write, finds the
stream poisoned, drops it, and gives the whole request to the second worker.
"""
import os
import socket
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import zmq
from demo import LIMIT, Broker, verdict

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + b"\x00" + bytes(31)


def recv_exact(sock, n):
    data = b""
    while len(data) < n:
        piece = sock.recv(n - len(data))
        if not piece:
            raise SystemExit("connection ended in the handshake")
        data += piece
    return data


def handshake(sock, socktype):
    body = b"\x05READY\x0bSocket-Type" + len(socktype).to_bytes(4, "big") + socktype
    sock.sendall(GREETING + b"\x04" + bytes([len(body)]) + body)
    recv_exact(sock, 64)
    recv_exact(sock, recv_exact(sock, 2)[1])


def reuse_the_stream(context):
    print("1. A message of 20 bytes is cut after 5; the stream is used for two more.")
    pull = context.socket(zmq.PULL)
    pull.rcvtimeo = LIMIT * 1000
    port = pull.bind_to_random_port("tcp://127.0.0.1")
    with socket.create_connection(("127.0.0.1", port), LIMIT) as sock:
        handshake(sock, b"PUSH")
        sock.sendall(b"\x00\x14AAAAA")                  # cancelled here
        sock.sendall(b"\x00\x05hello" + b"\x00\x06world!" + b"\x00\x04next")
        got = pull.recv()
    pull.close(0)
    print(f"   sent:      {b'AAAAA...'!r} (cut), {b'hello'!r}, {b'world!'!r}")
    print(f"   delivered: {got!r}, as one valid message")
    return got


def through_bulkhead(context):
    print("2. The same through Bulkhead: a worker stops reading inside a request.")
    ini = ("[frontend]\nbind = tcp://127.0.0.1:*\n"
           "[backend]\nbind = tcp://127.0.0.1:*\nsend_timeout = 1s\n")
    request = os.urandom(16 << 20)
    with Broker(ini) as broker:
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        stuck.settimeout(LIMIT)
        stuck.connect(("127.0.0.1", broker.port("backend")))
        handshake(stuck, b"DEALER")
        broker.wait("peer_ready", side="backend")
        client = context.socket(zmq.REQ)
        client.linger = 0
        client.rcvtimeo = LIMIT * 1000
        client.connect(f"tcp://127.0.0.1:{broker.port('frontend')}")
        client.send(request)
        closed = broker.wait("peer_closed", side="backend")
        print(f"   the broker's log: reason={closed['reason']} poisoned={closed['poisoned']} "
              f"rerouted={closed['rerouted']}")
        worker = context.socket(zmq.REP)
        worker.linger = 0
        worker.rcvtimeo = LIMIT * 1000
        worker.connect(f"tcp://127.0.0.1:{broker.port('backend')}")
        whole = worker.recv() == request
        worker.send(b"done")
        answered = client.recv() == b"done"
        left = 0
        try:
            while piece := stuck.recv(1 << 16):
                left += len(piece)
        except ConnectionError:
            pass
        stuck.close()
        print(f"   the stuck worker got {left} of {len(request)} bytes, then the end: "
              "it discards the part")
        print(f"   the other worker got the request {'whole' if whole else 'DAMAGED'}, "
              f"the client {'its answer' if answered else 'NO ANSWER'}")
        worker.close(0)
        client.close(0)
        return (closed["poisoned"] == "yes" and closed["rerouted"] == "1" and whole
                and answered and left < len(request))


def main():
    context = zmq.Context()
    corrupted = reuse_the_stream(context)
    protected = through_bulkhead(context)
    context.term()
    if corrupted in (b"hello", b"world!", b"next"):
        verdict(False, "the reused stream was not corrupted; has libzmq changed?")
    verdict(protected, "a reused stream delivers garbage; Bulkhead drops it and delivers whole "
                       "messages only" if protected else "the request was not delivered as it should")


if __name__ == "__main__":
    main()
