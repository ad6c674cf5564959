# SPDX-License-Identifier: MIT
"""--last-good: a copy of what the broker last ran with, for a start with mistakes in the file."""

import os
import signal

from admin import Admin
from harness import make_ini, run_command
from zmqcase import ZmqCase

SIDE = "bind = tcp://127.0.0.1:*\n"
BROKEN = "[frontend]\n" + SIDE + "nosuch = 1\n[backend]\n" + SIDE
MISTAKE = ':3: unknown key "nosuch" in [frontend]'


class LastGood(ZmqCase):
    def setUp(self):
        super().setUp()
        self.where = self.temp_dir()
        self.file = os.path.join(self.where, "test.ini")
        self.copy = os.path.join(self.where, "copy")
        self.doors = make_ini({"broker": {"control": self.where + "/ctl",
                                          "http": "tcp://127.0.0.1:*"},
                               "frontend": {"bind": "tcp://127.0.0.1:*"},
                               "backend": {"bind": "tcp://127.0.0.1:*"}})

    def write(self, text, path=None):
        with open(path or self.file, "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())

    def read(self):
        with open(self.copy, "rb") as f:
            return f.read()

    def start(self, text=None, **kw):
        if text is not None:
            self.write(text)
        return self.daemon(args=("-c", self.file, "--last-good", self.copy), **kw)

    def fails(self, status, *args):
        """Start a daemon that ends by itself; return its log."""
        got, out, err = run_command("-c", self.file, "--last-good", self.copy, *args)
        self.assertEqual((got, out), (status, ""), err)
        return err

    def traces(self):
        return sorted(n for n in os.listdir(self.where) if n.startswith("copy"))

    def test_the_copy_has_the_files_own_lines(self):
        text = (b"\xef\xbb\xbf; a comment\r\n[frontend]\r\nbind = tcp://127.0.0.1:*   ; why\n"
                b"\n[backend]\nbind = tcp://127.0.0.1:*")
        self.write("an old one", self.copy)
        os.chmod(self.copy, 0o644)
        self.write("half a one", self.copy + ".new")
        d = self.start(text)
        self.assertEqual(self.read(), text + b"\n")
        self.assertEqual(os.stat(self.copy).st_mode & 0o7777, 0o600)
        self.assertEqual(self.traces(), ["copy"])
        d.stop()
        self.assertEqual(self.read(), text + b"\n")

    def test_a_start_with_mistakes(self):
        """The first start fails and the next one succeeds as before, every time."""
        self.start(self.doors).stop()
        self.write(BROKEN)
        for _ in range(2):
            err = self.fails(78).splitlines()
            self.assertEqual(err[0], self.file + MISTAKE)
            self.assertEqual(err[-1], "%s: not started because of these errors; the next start uses the "
                             "last good configuration, %s" % (self.file, self.copy))
            self.assertEqual(self.traces(), ["copy", "copy.use"])
            d = self.start()
            d.wait_event("last_good_in_use", level="warning", file=self.file, line="3",
                         copy=self.copy, detail="the file has mistakes; correct them, then reload")
            self.assertEqual(self.traces(), ["copy"])
            self.assertEqual(self.read().decode(), self.doors)
            self.shows(d, {"file": self.file, "wrong_line": 3})
            d.stop()
        # a valid file is used at once, whatever came before
        self.fails(78)
        d = self.start(self.doors + "; again\n")
        self.assertEqual(d.find_events("last_good_in_use"), [])
        self.assertEqual(self.traces(), ["copy"])
        self.assertTrue(self.read().endswith(b"; again\n"))
        self.shows(d, None)

    def shows(self, d, last_good):
        """Both sockets show whether the copy is in use; HTTP shows no text of the file."""
        http = Admin(d.wait_event("http_listening")["endpoint"])
        for door in Admin(self.where + "/ctl"), http:
            door.wait(lambda door=door: door.api("status")["last_good"],
                      lambda shown: shown == last_good)
        self.assertNotIn("nosuch", http.get("/api/events").text)
        http.wait_metrics(lambda m: m.get("bulkhead_last_good_config") == (last_good is not None))

    def test_a_reload(self):
        """A valid reload replaces the copy, and ends a run with the copy."""
        d = self.start(self.doors)
        self.write(self.doors + "; reloaded\n")
        d.send_signal(signal.SIGHUP)
        d.wait_event("reloaded")
        self.assertEqual(self.read().decode(), self.doors + "; reloaded\n")
        self.write(BROKEN)
        d.send_signal(signal.SIGHUP)
        d.wait_event("reload_failed")
        self.assertEqual(self.read().decode(), self.doors + "; reloaded\n")
        d.stop()
        self.fails(78)
        d = self.start()
        d.send_signal(signal.SIGHUP)
        d.wait_event("reload_failed")
        self.shows(d, {"file": self.file, "wrong_line": 3})
        mark = d.mark()
        self.write(self.doors + "; corrected\n")
        d.send_signal(signal.SIGHUP)
        d.wait_event("last_good_over", after=mark, file=self.file)
        d.wait_event("reloaded", after=mark)
        self.shows(d, None)
        self.assertEqual(self.read().decode(), self.doors + "; corrected\n")

    def test_nothing_to_fall_back_to(self):
        self.write(BROKEN)
        self.assertIn("%s: there is no last good configuration yet\n" % self.copy, self.fails(1))
        self.write(BROKEN, self.copy)
        self.assertIn(self.copy + MISTAKE + "\n", self.fails(1))
        self.assertEqual(self.traces(), ["copy"])

    def test_a_copy_that_others_may_have_written(self):
        self.start(self.doors).stop()
        self.write(BROKEN)

        def refused(why):
            self.assertIn("%s: the last good configuration is not used: %s\n" % (self.copy, why),
                          self.fails(1))
        for mode in 0o620, 0o602:
            os.chmod(self.copy, mode)
            refused("other users can write to it")
        os.chmod(self.copy, 0o600)
        os.rename(self.copy, self.copy + ".real")
        os.symlink(self.copy + ".real", self.copy)
        refused("not a regular file")
        os.remove(self.copy)
        os.rename(self.copy + ".real", self.copy)
        if os.getuid() == 0:
            os.chown(self.copy, 65534, -1)
            refused("it belongs to another user")
            os.chown(self.copy, 0, -1)
        self.fails(78)

    def test_a_file_that_is_gone_is_no_mistake(self):
        self.start(self.doors).stop()
        os.remove(self.file)
        self.assertEqual(self.fails(1), self.file + ": No such file or directory\n")
        os.mkdir(self.file)
        self.assertIn(self.file + ": Is a directory\n", self.fails(78))
        self.start().wait_event("last_good_in_use", line="0")

    def test_checks_know_nothing_of_it(self):
        self.start(self.doors).stop()
        self.write(BROKEN)
        for option in "-t", "--dump-config":
            self.assertNotIn(self.copy, self.fails(1, option))
        self.assertEqual(self.traces(), ["copy"])

    def test_where_nothing_can_be_written(self):
        """It serves nevertheless; without a mark for the next start, this one uses the copy."""
        self.copy = os.path.join(self.where, "copy" + "y" * 248)    # .new is too long
        d = self.start(self.doors)
        d.wait_event("last_good_not_kept", level="warning", error="File name too long")
        self.shows(d, None)
        d.stop()
        self.write(self.doors, self.copy)
        os.chmod(self.copy, 0o600)
        self.write(BROKEN)
        self.start().wait_event("last_good_in_use")
