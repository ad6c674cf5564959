# SPDX-License-Identifier: MIT
"""A daemon with a control socket, and bulkheadctl to query it."""

import subprocess
import time

import harness
from admin import Admin
from harness import CTL, DEADLINE

DONE, REFUSED, NO_DAEMON = 0, 1, 2   # exit statuses


class ControlCase(harness.Case):
    def start(self, **kw):
        self.path = self.temp_dir() + "/control.sock"
        broker = dict({"control": self.path}, **kw.pop("broker", {}))
        d = self.daemon(broker=broker, **kw)
        self.api = Admin(self.path)
        return d

    def ctl(self, *args, path=None):
        """(exit status, stdout, stderr)"""
        done = subprocess.run([CTL, "-s", path or self.path] + list(args), check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=DEADLINE, text=True,
                              env=harness.environment())
        self.assertNotRegex(done.stderr, harness.SANITIZER)
        return done.returncode, done.stdout, done.stderr

    def done(self, *args):
        status, out, err = self.ctl(*args)
        self.assertEqual((status, err), (DONE, ""), args)
        return out

    def refused(self, *args):
        status, out, err = self.ctl(*args)
        self.assertEqual((status, out), (REFUSED, ""), args)
        self.assertRegex(err, "^bulkheadctl: refused: .")
        return err

    def peers(self, **want):
        return [p for p in self.api.api("peers")["peers"]
                if all(p[k] == v for k, v in want.items())]

    def peer_id(self, d, side, index=0):
        return d.wait_event("peer_ready", side=side, count=index + 1)["peer"]

    def fill(self, d, client, worker_id, size=65536):
        """Send requests until some stay in this worker's queue. Returns how many were sent."""
        sent = 0
        until = time.monotonic() + DEADLINE
        while time.monotonic() < until:
            for _ in range(20):
                client.send_message([b"", b"q" * size])
                sent += 1
            if d.stats().backend["queued"] > 40:
                self.api.wait(lambda: self.peers(id=int(worker_id)), lambda p: p[0]["queued"] > 10)
                return sent
        raise AssertionError("its queue never grew")
