# SPDX-License-Identifier: MIT
"""The commands in docs/, with the endpoints of a daemon of this test."""

import os
import re
import shutil
import subprocess
import unittest

import harness
from harness import DEADLINE

DOCS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "docs")
CTL = os.path.abspath(os.environ.get(
    "BULKHEADCTL", os.path.join(os.path.dirname(harness.BINARY), "bulkheadctl")))


class Operating(harness.Case):
    @unittest.skipIf(shutil.which("curl") is None, "no curl here")
    def test_seen_to_work(self):
        """The example ends, and prints what its comments say."""
        with open(os.path.join(DOCS, "operating.md"), encoding="utf-8") as f:
            pasted = re.search(r"^### 2\. .*?^```sh\n(.*?)^```$", f.read(), re.M | re.S).group(1)
        control = self.temp_dir() + "/control.sock"
        d = self.daemon(broker={"control": control, "http": "tcp://127.0.0.1:*"})
        page = d.wait_event("http_listening")["endpoint"]
        for said, meant in (("tcp://127.0.0.1:5555", d.frontend), ("tcp://127.0.0.1:5556", d.backend),
                            ("http://127.0.0.1:9464", page.replace("tcp", "http")),
                            ("sudo bulkheadctl", "%s -s %s" % (CTL, control)),
                            ("/usr/bin/python3", "timeout %d /usr/bin/python3" % DEADLINE)):
            self.assertIn(said, pasted)
            pasted = pasted.replace(said, meant)
        # jobs, as in a terminal; the shell waits for the worker, which the last line has ended
        done = subprocess.run(["bash", "-c", "set -m\n" + pasted + "\nwait"], check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=DEADLINE, text=True,
                              env=harness.environment())
        lines = [line for line in done.stdout.splitlines() if not line.startswith("[")]
        self.assertEqual(lines[:2], ["503", "b'you said hello'"], done.stdout)
        self.assertRegex(lines[2], "^ID ")
        self.assertRegex(lines[3], " backend .* REP +ready ")
        self.assertEqual(lines[4], "200", done.stdout)


if __name__ == "__main__":
    unittest.main()
