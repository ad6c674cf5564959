# SPDX-License-Identifier: MIT
"""What the demonstrations share: a broker of their own on ports that the system picks."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

LIMIT = 60  # seconds after which a demonstration gives up
TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir)


def find_daemon():
    """The one that BULKHEAD names; of this folder; that scripts/quickstart or scripts/test built; or
    that is installed, also where only root's PATH leads."""
    named = os.environ.get("BULKHEAD")
    built = ["./bulkhead"] + [os.path.join(TOP, "build", name, "bulkhead")
                              for name in ("quickstart", "test")]
    for path in [named] if named else built:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.abspath(path)
    path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/local/sbin:/usr/sbin"
    found = None if named else shutil.which("bulkhead", path=path)
    if found is None:
        raise SystemExit(f"there is no daemon at {named}" if named else
                         "found no daemon: run scripts/quickstart, or name one in BULKHEAD")
    return found


class Broker:
    """The daemon with this configuration. Use as a context manager."""

    def __init__(self, ini):
        daemon = find_daemon()
        self.events = []
        self.changed = threading.Condition()
        self.dir = tempfile.mkdtemp(prefix="bulkhead-demo-")
        path = os.path.join(self.dir, "demo.ini")
        with open(path, "w") as f:
            f.write(ini)
        self.process = subprocess.Popen(
            [daemon, "-c", path], stderr=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()
        self.wait("started")

    def _read(self):
        for line in self.process.stderr:
            pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)', line)
            with self.changed:
                self.events.append({k: v.strip('"') for k, v in pairs})
                self.changed.notify_all()

    def find(self, event, **match):
        return [e for e in list(self.events) if e.get("event") == event
                and all(e.get(k) == v for k, v in match.items())]

    def wait(self, event, count=1, **match):
        """The `count`th such event of the daemon's log, when it has come."""
        with self.changed:
            if not self.changed.wait_for(
                    lambda: len(self.find(event, **match)) >= count, LIMIT):
                raise SystemExit(f"no event {event} {match} within {LIMIT} s")
            return self.find(event, **match)[count - 1]

    def port(self, side):
        endpoint = self.wait("listening", side=side)["endpoint"]
        return int(endpoint.rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.dir)


def verdict(ok, text):
    """The last line, and the exit status."""
    print(("VERDICT: " if ok else "VERDICT: FAILED: ") + text, flush=True)
    sys.exit(0 if ok else 1)
