# SPDX-License-Identifier: MIT
"""An operator's work with bulkhead.service."""

import re
import signal
import socket
import sys
import threading
import unittest

import zmq

import zmqcase
import zmtp
from machine import DEADLINE, wait_for

FRONT, BACK = "tcp://127.0.0.1:5555", "tcp://127.0.0.1:5556"     # of the sample file
DROP_IN = "/run/systemd/system/bulkhead.service.d"

there = None    # the Machine
where = None    # the paths in it


def install(machine, args):
    """As the README says, except that the files are ready."""
    global there, where
    there, where = machine, args
    # clients in a loop log more than the journal accepts from one service by default
    there.run("mkdir", "-p", "/run/systemd/journald.conf.d")
    there.write("/run/systemd/journald.conf.d/test.conf", "[Journal]\nRateLimitIntervalSec=0\n")
    there.run("systemctl", "restart", "systemd-journald")
    there.run("cp", "-a", "/run/host/stage/.", "/")
    there.run("systemd-sysusers")
    there.run("systemd-tmpfiles", "--create")
    there.run("systemctl", "daemon-reload")


class Knocker(threading.Thread):
    """Connects repeatedly, and counts accepted and refused connections."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.over = port, threading.Event()
        self.refused = self.accepted = 0
        self.start()

    def run(self):
        while not self.over.wait(0.005):
            try:
                socket.create_connection(("127.0.0.1", self.port), DEADLINE).close()
                self.accepted += 1
            except ConnectionRefusedError:
                self.refused += 1
            except OSError:
                pass                # accepted, and closed with the old daemon

    def end(self):
        self.over.set()
        self.join(DEADLINE)


class Unit(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.ctx = zmq.Context()
        self.addCleanup(self.ctx.destroy, 0)
        self.sample = self.base = there.run("cat", where.config)
        self.cursor = self.journal_end()
        self.addCleanup(self.tidy)
        self.stop_loops = threading.Event()
        self.addCleanup(self.stop_loops.set)

    def tidy(self):
        if self._outcome.result.failures or self._outcome.result.errors:
            print("\n---- the journal\n" + "\n".join(self.journal()[-40:]), file=sys.stderr)
        there.run("systemctl", "stop", "bulkhead.socket", "bulkhead.service", check=False)
        there.run("rm", "-rf", DROP_IN, "/run/systemd/system/bulkhead.socket", "/var/lib/bulkhead")
        there.run("chmod", "644", where.config)
        there.write(where.config, self.sample)
        there.run("systemctl", "daemon-reload")
        there.run("systemctl", "reset-failed", "bulkhead.service", check=False)

    # -- systemd and the journal

    def systemctl(self, *args, **kw):
        return there.run("systemctl", *args, **kw)

    def show(self, name):
        return self.systemctl("show", "bulkhead.service", "--value", "-p", name).strip()

    def pid(self):
        return int(self.show("MainPID"))

    def signal(self, number, pid=None):
        there.run("/bin/sh", "-c", "kill -%d %d" % (number, pid or self.pid()))

    def journal_end(self):
        there.run("journalctl", "--sync")
        text = there.run("journalctl", "-n", "0", "--show-cursor", "-q")
        return re.search(r"cursor: (\S+)", text)[1]

    def journal(self, unit="bulkhead.service", cursor=None):
        there.run("journalctl", "--sync")
        return there.run("journalctl", "-q", "-o", "cat", "--after-cursor", cursor or self.cursor,
                         "-u", unit).splitlines()

    def wait_journal(self, text, cursor=None):
        return wait_for(lambda: [line for line in self.journal(cursor=cursor) if text in line],
                        "%r in the journal" % text)

    def wait_state(self, want, name="ActiveState"):
        return wait_for(lambda: self.show(name) == want, "%s=%s" % (name, want))

    def drop_in(self, text):
        there.run("mkdir", "-p", DROP_IN)
        there.write(DROP_IN + "/test.conf", text)
        self.systemctl("daemon-reload")

    def configure(self, text):
        there.write(where.config, text)

    def break_file(self):
        """Put an error into the file; return its message."""
        self.configure(self.base + "\nnosuch = 1\n")
        return '%s:%d: unknown key "nosuch"' % (where.config, self.base.count("\n") + 2)

    # -- peers

    def worker(self):
        w = zmqcase.Echo(self.ctx, BACK, tag=b"!", options={"RECONNECT_IVL": 10})
        self.addCleanup(w.stop)
        return w

    def client(self):
        c = self.ctx.socket(zmq.REQ)
        for name, value in (("LINGER", 0), ("RCVTIMEO", DEADLINE * 1000), ("REQ_RELAXED", 1),
                            ("SNDTIMEO", DEADLINE * 1000), ("REQ_CORRELATE", 1),
                            ("RECONNECT_IVL", 10)):
            c.setsockopt(getattr(zmq, name), value)
        c.connect(FRONT)
        self.addCleanup(c.close, 0)
        return c

    def ask(self, c, text=b"hello"):
        """Repeat until it is answered: requests of a killed broker are sent again."""
        def answered():
            c.send(text)
            return c.poll(1000)
        wait_for(answered, "an answer")
        self.assertEqual(c.recv(), text + b"!")

    # -- the tests

    def test_start(self):
        self.systemctl("start", "bulkhead")
        self.assertEqual(self.show("ActiveState"), "active")
        self.wait_journal("event=started")
        self.worker()
        self.ask(self.client())
        wait_for(lambda: re.match(r"1 frontend peer, 1 backend peer, \S+ msg/s$",
                                  self.show("StatusText")), "a fresh StatusText")
        self.assertNotRegex(" ".join(self.journal()), r"level=|<\d>")  # the journal has those
        # the sandbox, as the kernel reports it
        status = there.run("cat", "/proc/%d/status" % self.pid())
        self.assertRegex(status, r"NoNewPrivs:\s*1")
        self.assertRegex(status, r"CapEff:\s*0+\n")
        self.assertRegex(status, r"Seccomp:\s*2")
        uid = there.run("id", "-u", "bulkhead").strip()
        self.assertRegex(status, r"Uid:\s*%s\s" % uid)
        self.assertNotEqual(uid, "0")
        self.assertEqual(self.show("LimitNOFILE"), "262144")
        self.assertIn("/run/bulkhead/control.sock", there.run("cat", "/proc/net/unix"))

    def test_the_admin_process_dies(self):
        """By a signal, as from the OOM killer: the unit continues, with the same process."""
        self.systemctl("start", "bulkhead")
        self.worker()
        c, pid = self.client(), self.pid()
        self.ask(c)
        line = self.wait_journal("event=admin_started")[-1]
        for command in ("status", "peers"):     # it runs in the sandbox, too
            there.run("bulkheadctl", "-s", "/run/bulkhead/control.sock", command)
        self.assertFalse([l for l in self.journal() if "event=admin_ended" in l])
        self.signal(signal.SIGKILL, int(re.search(r"pid=(\d+)", line)[1]))
        self.wait_journal("event=admin_ended")
        wait_for(lambda: len([l for l in self.journal() if "event=admin_started" in l]) == 2,
                 "another one")
        self.ask(c)
        there.run("bulkheadctl", "-s", "/run/bulkhead/control.sock", "status")
        self.assertEqual((self.pid(), self.show("ActiveState"), self.show("NRestarts")),
                         (pid, "active", "0"))
        self.assertEqual(self.show("OOMPolicy"), "continue")

    def refuses_reload(self, why):
        status, text = self.systemctl("reload", "bulkhead", check=False)
        self.assertEqual(status, 1, text)
        self.wait_journal(why)
        self.assertEqual((self.show("ActiveState"), self.show("ReloadResult")),
                         ("active", "exit-code"))

    def test_reload(self):
        self.systemctl("start", "bulkhead")
        worker, c = self.worker(), self.client()
        self.ask(c)
        pid = self.pid()
        self.configure(self.sample + "\n[frontend two]\nbind = tcp://127.0.0.1:5600\n"
                                     "[backend two]\nbind = tcp://127.0.0.1:5601\n")
        self.systemctl("reload", "bulkhead")
        self.wait_journal("event=reloaded changes=3 need_restart=0")
        self.wait_state("active")
        zmtp.connect("tcp://127.0.0.1:5600").close()
        self.ask(c)
        complaint = self.break_file()
        self.refuses_reload(complaint)
        self.assertIn(complaint, self.systemctl("status", "bulkhead"))
        self.ask(c)
        # the broker's user does the check, so it must be able to read the file
        self.configure(self.sample)
        there.run("chmod", "600", where.config)
        self.refuses_reload(where.config + ": Permission denied")
        there.run("chmod", "644", where.config)
        self.ask(c)
        # the broker did not get a reload
        self.assertNotRegex("\n".join(self.journal()), "event=(config_error|reload_failed)")
        # an error that a check cannot find: the broker gets the reload and refuses it
        self.configure(self.sample + "\n[frontend two]\nbind = tcp://192.0.2.1:5600\n"
                                     "[backend two]\nbind = tcp://127.0.0.1:5601\n")
        self.systemctl("reload", "bulkhead")
        self.wait_journal("event=reload_failed errors=1")
        self.wait_state("active")
        wait_for(lambda: "reload failed" in self.show("StatusText"), "StatusText")
        self.ask(c)
        self.configure(self.sample)
        self.systemctl("reload", "bulkhead")
        wait_for(lambda: "\n".join(self.journal()).count("event=reloaded changes=3") == 2,
                 "the second reload")
        self.assertEqual(self.pid(), pid)
        self.assertEqual([line for line in self.journal() if "peer_closed" in line and
                          "proxy=default" in line], [])
        self.assertGreaterEqual(worker.handled, 3)

    def test_stop(self):
        self.systemctl("start", "bulkhead")
        self.worker()
        self.ask(self.client())
        self.systemctl("stop", "bulkhead")
        self.assertEqual((self.show("ActiveState"), self.show("Result"),
                          self.show("ExecMainStatus")), ("inactive", "success", "0"))
        self.wait_journal("event=draining")
        self.wait_journal("event=stopped")
        with self.assertRaises(ConnectionRefusedError):
            zmtp.Peer.connect(FRONT)

    def test_a_stop_that_takes_its_time(self):
        """drain_timeout is longer than TimeoutStopSec: the broker asks for more."""
        self.drop_in("[Service]\nTimeoutStopSec=1\n")
        self.configure(self.sample.replace(";drain_timeout = 10s", "drain_timeout = 3s"))
        self.systemctl("start", "bulkhead")
        worker = zmtp.connect(BACK)
        self.addCleanup(worker.close)
        self.client().send(b"never answered")
        self.assertEqual(worker.recv_message()[-1], b"never answered")
        self.systemctl("stop", "bulkhead")
        self.assertEqual(self.show("Result"), "success")
        self.wait_journal("event=drained answered=0 given_up=1")

    def fails_for_good(self):
        status, _ = self.systemctl("start", "bulkhead", check=False)
        self.assertEqual(status, 1)
        self.assertEqual((self.show("ExecMainStatus"), self.show("NRestarts")), ("1", "0"))
        self.assertEqual(self.show("ActiveState"), "failed")

    def test_a_first_start_with_mistakes(self):
        """Nothing to fall back to: it logs the reason, and is not restarted."""
        complaint = self.break_file()
        self.fails_for_good()
        self.wait_journal(complaint)
        self.wait_journal("there is no last good configuration yet")
        self.assertIn(complaint, self.systemctl("status", "bulkhead", check=False)[1])

    def test_a_file_that_is_gone_is_no_mistake(self):
        self.systemctl("start", "bulkhead")
        self.systemctl("stop", "bulkhead")
        there.run("mv", where.config, where.config + ".away")
        self.fails_for_good()
        there.run("mv", where.config + ".away", where.config)

    def restart_with_mistakes(self):
        """It fails with the reason, and returns as it was; new connections wait meanwhile."""
        pid, cursor = self.pid(), self.journal_end()
        complaint = self.break_file()
        status, text = self.systemctl("restart", "bulkhead", check=False)
        self.assertEqual(status, 1, text)
        self.wait_journal(complaint, cursor)
        self.wait_journal("event=last_good_in_use file=%s line=%s" % (
            where.config, complaint.split(":")[1]), cursor)
        self.wait_state("active")
        self.assertNotIn(self.pid(), (0, pid))
        wait_for(lambda: "runs on the last good configuration" in self.show("StatusText"),
                 "StatusText")
        self.assertIn("%s has errors" % complaint.split(": ")[0],
                      there.run("bulkheadctl", "-s", "/run/bulkhead/control.sock", "status"))
        return complaint

    def test_restart_with_mistakes(self):
        self.configure(self.sample + "\n[frontend two]\nbind = tcp://127.0.0.1:5600\n"
                                     "[backend two]\nbind = tcp://127.0.0.1:5601\n")
        self.systemctl("start", "bulkhead")
        copy = "/var/lib/bulkhead/bulkhead.last-good"
        self.assertEqual(there.run("stat", "-c", "%U %a", copy), "bulkhead 600\n")
        self.assertEqual(there.run("cat", copy), there.run("cat", where.config))
        worker, c = self.worker(), self.client()
        self.ask(c)
        knocker = Knocker(5555)
        self.addCleanup(knocker.end)
        # the reloaded configuration is kept
        self.configure(self.sample + "; the last good one\n")
        self.systemctl("reload", "bulkhead")
        self.wait_journal("event=reloaded changes=3")
        complaint = self.restart_with_mistakes()
        self.ask(c)
        self.assertTrue(there.run("cat", copy).endswith("; the last good one\n"))
        self.assertFalse([line for line in self.journal(cursor=self.journal_end()) if
                          "proxy=two" in line])
        # neither a crash nor the next restart may keep it down
        self.signal(signal.SIGKILL)
        wait_for(lambda: "\n".join(self.journal()).count("event=last_good_in_use") == 2,
                 "another life")
        self.ask(c)
        self.restart_with_mistakes()
        self.refuses_reload(complaint)
        self.assertIn("on the last good", self.show("StatusText"))
        self.ask(c)
        # corrected: a reload is enough, and so is a restart
        self.configure(self.sample + "; corrected\n")
        self.systemctl("reload", "bulkhead")
        self.wait_journal("event=last_good_over")
        wait_for(lambda: "last good" not in self.show("StatusText"), "StatusText")
        self.assertTrue(there.run("cat", copy).endswith("; corrected\n"))
        self.restart_with_mistakes()
        self.configure(self.sample + "; corrected again\n")
        cursor = self.journal_end()
        self.systemctl("restart", "bulkhead")
        self.ask(c)
        self.assertNotIn("last_good", " ".join(self.journal(cursor=cursor)))
        self.assertTrue(there.run("cat", copy).endswith("; corrected again\n"))
        so_far = knocker.accepted
        wait_for(lambda: knocker.accepted > so_far, "a connection")
        knocker.end()
        self.assertEqual(knocker.refused, 0)
        self.assertGreater(worker.handled, 0)
        self.assertEqual(there.run("ls", "-A", "/var/lib/bulkhead"), "bulkhead.last-good\n")

    def test_restart_with_mistakes_and_a_socket_unit(self):
        there.run("cp", where.examples + "/bulkhead.socket", "/run/systemd/system/")
        self.base = re.sub(r"(?m)^bind = tcp://\S*:5555$", "bind = fd://frontend", self.sample)
        self.configure(self.base)
        self.systemctl("daemon-reload")
        self.systemctl("start", "bulkhead.socket", "bulkhead.service")
        self.worker()
        c = self.client()
        self.ask(c)
        knocker = Knocker(5555)
        self.addCleanup(knocker.end)
        wait_for(lambda: knocker.accepted > 0, "a connection")
        self.restart_with_mistakes()
        self.ask(c)
        knocker.end()
        self.assertEqual(knocker.refused, 0)
        self.assertEqual(self.systemctl("is-active", "bulkhead.socket").strip(), "active")

    def test_kill(self):
        """It returns, and its peers reconnect."""
        self.systemctl("start", "bulkhead")
        self.worker()
        c = self.client()
        self.ask(c)
        pid = self.pid()
        self.signal(signal.SIGKILL, pid)
        wait_for(lambda: self.show("NRestarts") == "1" and self.show("ActiveState") == "active",
                 "another life")
        self.assertNotIn(self.pid(), (0, pid))
        self.ask(c)

    def test_watchdog(self):
        """A loop that does not turn any more."""
        self.drop_in("[Service]\nWatchdogSec=1\nTimeoutStopSec=1\n")
        self.systemctl("start", "bulkhead")
        self.worker()
        c = self.client()
        self.ask(c)
        pid = self.pid()
        self.signal(signal.SIGSTOP, pid)
        self.wait_journal("event=started", self.journal_end())
        self.assertNotIn(self.pid(), (0, pid))
        self.assertEqual(self.show("NRestarts"), "1")
        self.assertIn("Watchdog timeout", " ".join(self.journal()))
        self.ask(c)

    def test_socket_activation(self):
        """A connection made before the daemon runs is served; and one made between two runs."""
        there.run("cp", where.examples + "/bulkhead.socket", "/run/systemd/system/")
        self.configure(re.sub(r"(?m)^bind = tcp://\S*:5555$", "bind = fd://frontend", self.sample))
        self.systemctl("daemon-reload")
        self.systemctl("start", "bulkhead.socket")
        self.assertEqual(self.show("ActiveState"), "inactive")
        worker = self.worker()
        for _ in range(2):
            peer = zmtp.connect(FRONT)              # this starts it, and it answers
            self.addCleanup(peer.close)
            self.wait_state("active")
            wait_for(lambda: "1 backend peer" in self.show("StatusText"), "the worker")
            peer.send_message([b"", b"early"])
            self.assertEqual(peer.recv_message(), [b"", b"early!"])
            self.systemctl("stop", "bulkhead.service")
            self.assertEqual(self.show("ActiveState"), "inactive")
            peer.close()
        self.assertEqual(worker.handled, 2)
        self.assertIn("socket=fd://frontend", " ".join(self.journal()))

    def restart_under_load(self):
        worker, refused, served, answered = self.worker(), [], [0], [0] * 8

        def connect_again_and_again():
            while not self.stop_loops.is_set():
                try:
                    zmtp.connect(FRONT).close()
                    served[0] += 1
                except ConnectionRefusedError as e:
                    refused.append(e)
                except (OSError, zmtp.Closed):
                    pass                            # the last moments of a run

        def ask_and_wait(c, i):
            while not self.stop_loops.is_set():
                c.send(b"%d" % answered[i])
                while not c.poll(100):              # no client sends again
                    if self.stop_loops.is_set():
                        return
                self.assertEqual(c.recv(), b"%d!" % answered[i])
                answered[i] += 1

        threads = [threading.Thread(target=connect_again_and_again)] + [
            threading.Thread(target=ask_and_wait, args=[self.client(), i])
            for i in range(len(answered))]
        for t in threads:
            t.daemon = True
            t.start()
        pids = set()
        for _ in range(5):
            before = served[0], sum(answered)
            wait_for(lambda: served[0] > before[0] + 20 and sum(answered) > before[1] + 20, "traffic")
            pids.add(self.pid())
            self.systemctl("reset-failed", "bulkhead")
            self.systemctl("restart", "bulkhead")
        lost = sum(int(n) for n in re.findall(r"unserved_clients=(\d+)", "\n".join(self.journal())))
        before = served[0], list(answered)
        wait_for(lambda: served[0] > before[0] and
                 sum(now == b for now, b in zip(answered, before[1])) <= lost,
                 "all loops but those that the log says are lost")
        self.stop_loops.set()
        for t in threads:
            t.join(DEADLINE)
            self.assertFalse(t.is_alive())
        self.assertEqual(len(pids), 5)
        self.assertEqual(refused, [])
        self.assertGreaterEqual(worker.handled, sum(answered))
        self.assertLess(lost, len(answered))
        print("%d connections and %d answers over 5 restarts, none refused, %d of %d loops lost" % (
            served[0], sum(answered), lost, len(answered)), flush=True)

    def test_restart_with_kept_sockets(self):
        self.systemctl("start", "bulkhead")
        self.restart_under_load()
        self.assertEqual(self.show("NFileDescriptorStore"), "2")
        # a socket that a reload removes is not kept
        self.configure(self.sample.replace(":5555", ":5655"))
        self.systemctl("reload", "bulkhead")
        self.wait_journal("event=endpoint_removed")
        wait_for(lambda: self.show("NFileDescriptorStore") == "2", "the store")
        with self.assertRaises(ConnectionRefusedError):
            zmtp.Peer.connect(FRONT)

    def test_restart_on_every_address(self):
        """As the sample file says; systemd still holds the earlier socket."""
        self.systemctl("start", "bulkhead")
        self.configure(self.sample.replace("tcp://127.0.0.1:5555", "tcp://*:5555"))
        self.systemctl("restart", "bulkhead")
        self.wait_journal("endpoint=tcp://[::]:5555")
        zmtp.Peer.connect(FRONT).close()
        wait_for(lambda: self.show("NFileDescriptorStore") == "2", "the store")

    def test_restart_with_a_socket_unit(self):
        there.run("cp", where.examples + "/bulkhead.socket", "/run/systemd/system/")
        self.configure(re.sub(r"(?m)^bind = tcp://\S*:5555$", "bind = fd://frontend", self.sample))
        self.systemctl("daemon-reload")
        self.systemctl("start", "bulkhead.socket", "bulkhead.service")
        self.restart_under_load()
