# SPDX-License-Identifier: MIT
"""A pyzmq worker as a process: worker.py ENDPOINT [bind] [mute] [tag=TEXT] [type=REP] [die=TEXT]

Says "up" on stdout, then "got N" for the Nth request.  `mute`: takes requests
and never answers.  `die`: does not survive a request that is TEXT.  Ends when
its standard input is closed.
"""

import os
import sys

sys.dont_write_bytecode = True

import zmq  # noqa: E402


def main():
    endpoint, args = sys.argv[1], sys.argv[2:]
    words = dict(a.split("=", 1) for a in args if "=" in a)
    tag = words.get("tag", "").encode()
    ctx = zmq.Context()
    s = ctx.socket(getattr(zmq, words.get("type", "REP")))
    s.setsockopt(zmq.LINGER, 0)
    if "bind" in args:
        s.bind(endpoint)
    else:
        s.connect(endpoint)
    print("up", flush=True)
    poller = zmq.Poller()
    poller.register(s, zmq.POLLIN)
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    count = 0
    while True:
        ready = dict(poller.poll())
        if sys.stdin.fileno() in ready:
            break
        parts = s.recv_multipart()
        count += 1
        print("got %d" % count, flush=True)
        if parts[-1].decode("latin-1") == words.get("die"):
            os._exit(1)
        if "mute" in args and s.type == zmq.REP:
            while not dict(poller.poll()).get(sys.stdin.fileno()):
                pass
            break
        if "mute" not in args:
            s.send_multipart(parts[:-1] + [parts[-1] + tag])
    ctx.destroy(0)


main()
