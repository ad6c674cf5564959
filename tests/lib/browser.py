# SPDX-License-Identifier: MIT
"""Drives a headless Chromium over its debugging pipe, as far as the status page's test needs it."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
import unittest

from harness import DEADLINE

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find():
    """The browser's path, or that in CHROMIUM. Skips the test when there is none."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not path:
        raise unittest.SkipTest("there is no Chromium (Debian: chromium)")
    return path


class Browser:
    """One page. Its errors and warnings are in .complaints."""

    def __init__(self):
        binary = find()
        self.complaints = []
        self.loads = 0
        self.answers = {}
        self.number = 0
        self.buffer = b""
        self.session = None
        self.dir = tempfile.mkdtemp(prefix="bulkhead-test-")
        theirs_in, self.ours_out = os.pipe()
        self.ours_in, theirs_out = os.pipe()

        def place():
            # Chromium reads from 3 and writes to 4
            ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (theirs_in, theirs_out)]
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        argv = [binary, "--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu",
                "--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking",
                "--disable-component-update", "--hide-scrollbars", "--user-data-dir=" + self.dir]
        if os.geteuid() == 0:
            argv.append("--no-sandbox")      # Chromium refuses to run as root with one
        self.log = open(os.path.join(self.dir, "stderr"), "w+b")
        self.proc = subprocess.Popen(argv + ["about:blank"], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=self.log,
                                     pass_fds=(3, 4), preexec_fn=place)
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            target = self.command("Target.createTarget", url="about:blank")["targetId"]
            self.session = self.command("Target.attachToTarget", targetId=target,
                                        flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.command(domain + ".enable")
        except BaseException:
            self.close()
            raise

    # -- the pipe: JSON, a zero byte after each

    def _read(self, until):
        while b"\0" not in self.buffer:
            left = until - time.monotonic()
            assert left > 0, "the browser does not answer"
            poll = select.poll()             # not select(): a test may have thousands of sockets
            poll.register(self.ours_in, select.POLLIN)
            if not poll.poll(left * 1000):
                continue
            more = os.read(self.ours_in, 1 << 20)
            assert more, "the browser has ended: " + self._stderr()
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(line)

    def _stderr(self):
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace")[-2000:]

    def command(self, method, **params):
        self.number += 1
        number, message = self.number, {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.ours_out, data):]
        until = time.monotonic() + DEADLINE
        while number not in self.answers:
            self._take(self._read(until))
        got = self.answers.pop(number)
        assert "error" not in got, (method, got.get("error"))
        return got["result"]

    def _take(self, got):
        if "id" in got:
            self.answers[got["id"]] = got
        else:
            self._on_event(got["method"], got["params"])

    def _on_event(self, method, params):
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or
                                   details["text"])
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append("console." + params["type"] + ": " + str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("warning", "error"):
            self.complaints.append(params["entry"]["text"])
        elif method == "Page.loadEventFired":
            self.loads += 1
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append("dialog: " + params["message"])

    # -- for tests

    def size(self, width, height, dark=False, mobile=False, scale=1):
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height,
                     deviceScaleFactor=scale, mobile=mobile)
        self.command("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, url):
        before, until = self.loads, time.monotonic() + DEADLINE
        answer = self.command("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        while self.loads == before:
            self._take(self._read(until))

    def run(self, expression):
        """The value of a JavaScript expression; of a promise, its result."""
        answer = self.command("Runtime.evaluate", expression=expression, awaitPromise=True,
                              returnByValue=True)
        assert "exceptionDetails" not in answer, (expression, answer["exceptionDetails"])
        return answer["result"].get("value")

    def wait(self, expression):
        """Wait until the expression is true; it is evaluated whenever the document has changed."""
        what = "new Promise(done => { const look = () => { if (document.body && (%s)) " \
               "{ watch.disconnect(); done(true); } }; const watch = new MutationObserver(look); " \
               "watch.observe(document, {subtree: true, childList: true, characterData: true, " \
               "attributes: true}); look(); })" % expression
        try:
            self.run(what)
        except AssertionError as e:
            raise AssertionError("%s never came true: %s" % (expression, e)) from None

    def text(self, selector):
        return self.run("document.querySelector(%s).innerText" % json.dumps(selector))

    def screenshot(self, path, whole=False):
        data = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        with open(path, "wb") as f:
            f.write(base64.b64decode(data["data"]))

    def close(self):
        if self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        for fd in (self.ours_in, self.ours_out):
            os.close(fd)
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)
