# SPDX-License-Identifier: MIT
"""The process: command line, exit status, signals, logs that cannot be written."""

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import unittest

import zmq

import harness
import zmtp
from harness import run_command
from zmqcase import ZmqCase

SMALLEST = "[frontend]\nbind = tcp://127.0.0.1:*\n\n[backend]\nbind = tcp://127.0.0.1:*\n"


class CommandLine(ZmqCase):
    def file(self, text, name="test.ini"):
        path = os.path.join(self.temp_dir(), name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def errors(self, text):
        """-t on a file with `text`: exit status 1; {line: [messages]}"""
        path = self.file(text)
        status, out, err = run_command("-t", "-c", path)
        self.assertEqual(status, 1, err)
        self.assertEqual(out, "")
        found = {}
        *lines, last = err.splitlines()
        self.assertEqual(last, "%s: %d error%s" % (path, len(lines), "s" * (len(lines) != 1)))
        for line in lines:
            got = re.match(re.escape(path) + r":(\d+): (\S.*)$", line)
            self.assertTrue(got, "not FILE:LINE: message: %r" % line)
            found.setdefault(int(got[1]), []).append(got[2])
        return found

    def test_check_good(self):
        path = self.file(SMALLEST)
        status, out, err = run_command("-t", "-c", path)
        self.assertEqual((status, out, err), (0, path + ": the configuration is good\n", ""))

    def test_options_without_effect_are_told(self):
        path = self.file(SMALLEST + "replies = no\nredeliver = yes\nmax_outstanding = 1\n")
        status, out, err = run_command("-t", "-c", path)
        self.assertEqual((status, out), (0, path + ": the configuration is good, with 2 warnings\n"))
        self.assertEqual(err.splitlines(), ["%s:4: warning: %s has no effect with replies = no" % (
            path, name) for name in ("redeliver", "max_outstanding")])

    def test_check_binds_nothing(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen(1)
            text = SMALLEST.replace(":*", ":%d" % s.getsockname()[1], 1)
            self.assertEqual(run_command("-t", "-c", self.file(text))[0], 0)
        path = os.path.join(self.temp_dir(), "sock")
        text = SMALLEST.replace("tcp://127.0.0.1:*", "ipc://" + path, 1)
        self.assertEqual(run_command("-t", "-c", self.file(text))[0], 0)
        self.assertFalse(os.path.exists(path))

    def test_check_reports_everything(self):
        found = self.errors("[broker]\n"                     # 1
                            "log_level = loud\n"             # 2
                            "memory_limt = 1GiB\n"           # 3
                            "[fronted]\n"                    # 4
                            "[frontend]\n"                   # 5
                            "bind = tcp://127.0.0.1:*\n"     # 6
                            "send_timeout = soon\n"          # 7
                            "max_message_size = 64QiB\n"     # 8
                            "bind = tcp://127.0.0.1:70000\n"  # 9
                            "[backend]\n"                    # 10
                            "bind = http://127.0.0.1:80\n"   # 11
                            "when_full = explode\n"          # 12
                            "ipc_mode = 9999\n"              # 13
                            "connect = tcp://127.0.0.1:*\n")  # 14
        for line in (2, 3, 4, 7, 8, 9, 11, 12, 13, 14):
            self.assertIn(line, found)
        self.assertNotIn(6, found)
        self.assertRegex(" ".join(found[3]), r'did you mean.*memory_limit')
        self.assertRegex(" ".join(found[4]), r'did you mean.*frontend')

    def test_missing_partner(self):
        found = self.errors("[frontend a]\nbind = tcp://127.0.0.1:*\n\n"
                            "[backend b]\nbind = tcp://127.0.0.1:*\n")
        self.assertEqual(sorted(found), [1, 4])

    def test_no_proxy_at_all(self):
        status, _, err = run_command("-t", "-c", self.file("[broker]\nlog_level = info\n"))
        self.assertEqual(status, 1)
        self.assertTrue(err)

    def test_a_side_without_an_endpoint(self):
        self.assertTrue(self.errors("[frontend]\nsend_hwm = 1\n[backend]\n"
                                    "bind = tcp://127.0.0.1:*\n"))

    def test_the_same_endpoint_twice(self):
        for first, second in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"),
                              ("*", "0.0.0.0"), ("[::1]", "[0::1]"), ("[::]", "[::1]")):
            found = self.errors("[frontend]\nbind = tcp://%s:5999\n"
                                "[backend]\nbind = tcp://%s:5999\n" % (first, second))
            self.assertEqual(sorted(found), [4])

    def test_two_endpoints_of_one_port(self):
        """Endpoints that are not reported as a clash can be bound."""
        d = self.daemon(text="[broker]\nlog_level = debug\n"
                             "[frontend]\nbind = tcp://127.0.0.1:*\n"
                             "[backend]\nbind = tcp://127.0.0.1:*\n")
        port = d.frontend.rpartition(":")[2]
        d.stop()
        d = self.daemon(text="[broker]\nlog_level = debug\n"
                             "[frontend]\nbind = tcp://127.0.0.1:%s\n"
                             "[backend]\nbind = tcp://127.0.0.2:%s\n" % (port, port))
        self.echo(d.backend, zmq.REP)
        self.assertEqual(self.ask(self.socket(zmq.REQ, d.frontend), b"x"), [b"x"])

    def test_not_available_yet(self):
        for text, line in (("[proxy]\nmode = forwarder\n" + SMALLEST, 2),
                           (SMALLEST + "mechanism = curve\n", 6)):
            found = self.errors(text)
            self.assertRegex(" ".join(sum(found.values(), [])), "not available yet")
            self.assertIn(line, found)

    def test_bad_names(self):
        self.assertIn(1, self.errors("[frontend a/b]\nbind = tcp://127.0.0.1:*\n"
                                     "[backend a/b]\nbind = tcp://127.0.0.1:*\n"))
        name = "n" * 64
        self.assertIn(1, self.errors("[frontend %s]\nbind = tcp://127.0.0.1:*\n"
                                     "[backend %s]\nbind = tcp://127.0.0.1:*\n" % (name, name)))

    def test_bad_configuration_does_not_start(self):
        status, _, err = run_command("-c", self.file(SMALLEST + "nosuch = 1\n"))
        self.assertEqual(status, 1)
        self.assertIn(":6: ", err)

    def test_missing_and_unreadable_file(self):
        for args in (("-t",), ()):
            path = self.temp_dir()
            status, _, err = run_command(*args, "-c", path + "/none.ini")
            self.assertEqual(status, 1, err)
            count = "{}: 1 error\n" if args else ""
            self.assertEqual(err, path + "/none.ini: No such file or directory\n" +
                             count.format(path + "/none.ini"))
            status, _, err = run_command(*args, "-c", path)
            self.assertEqual(status, 1, err)
            self.assertEqual(err, path + ": Is a directory\n" + count.format(path))

    def test_comments_and_spaces(self):
        text = ("# comment\n; another\n[frontend] ; here\n"
                "bind = tcp://127.0.0.1:*   # any\n\n  \n[backend]\n"
                "bind=tcp://127.0.0.1:* ; any\nsend_hwm_bytes = 1MiB # one\n")
        status, _, err = run_command("-t", "-c", self.file(text))
        self.assertEqual(status, 0, err)

    def test_binary_rubbish(self):
        path = os.path.join(self.temp_dir(), "x.ini")
        with open(path, "wb") as f:
            f.write(bytes(range(256)) * 50)
        self.assertEqual(run_command("-t", "-c", path)[0], 1)
        with open(path, "wb") as f:
            f.write(b"[frontend]\nbind = " + b"x" * 100000 + b"\n")
        status, _, err = run_command("-t", "-c", path)
        self.assertEqual(status, 1)
        self.assertIn(path + ":2: line too long", err)

    def test_errors_are_safe_to_show(self):
        """Control characters are printed as text."""
        odd = "\x1b" + "".join(map(chr, range(11, 32))) + "\x7f\u009b\xe4"
        found = self.errors("[%s]\n[frontend]\n%s = 1\nsend_timeout = 1%s2\nbind = ipc:///a%sz\n"
                            "[backend]\nbind = ipc:///a%sz\nbind = tcp://%sz:1\n"
                            % ((odd,) * 6))
        self.assertEqual(sorted(found), [1, 3, 4, 7, 8])
        for message in sum(found.values(), []):
            self.assertRegex(message, r"^[ -~]*\\x1b[ -~]*$")

    def test_long_values(self):
        """The longest host name and routing id survive printing and reading again."""
        host, identity = ".".join(["h" * 60] * 4)[:240], "i" * 255
        text = SMALLEST + "routing_id = %s\nconnect = tcp://%s:5 # there\n" % (identity, host)
        status, out, err = run_command("--dump-config", "-c", self.file(text))
        self.assertEqual(status, 0, err)
        self.assertIn("\nconnect = tcp://%s:5\n" % host, out)
        self.assertIn("\nrouting_id = %s\n" % identity, out)
        self.assertEqual(run_command("--dump-config", "-c", self.file(out)), (0, out, ""))

    def test_unknown_option(self):
        for args in (("--nosuch",), ("-x",), ("-c",), ("extra",)):
            status, out, err = run_command(*args)
            self.assertEqual(status, 1, (args, err))
            self.assertTrue(err)

    def test_version_and_help(self):
        status, out, _ = run_command("-V")
        self.assertEqual(status, 0)
        self.assertRegex(out, r"bulkhead\b.*\d+\.\d+")
        status, out, _ = run_command("-h")
        self.assertEqual(status, 0)
        for option in ("-c", "-t", "--dump-config", "-v", "-V", "-h"):
            self.assertIn(option, out)

    def test_dump_config_round_trip(self):
        text = ("[broker]\nlog_level = debug\ndrain_timeout = 90s\nmemory_limit = 96MiB\n"
                "[defaults]\nsend_timeout = 1500ms\nmax_message_size = 1000\n"
                "[frontend]\nbind = tcp://127.0.0.1:*\nbind = ipc:///tmp/x.sock\n"
                "when_full = pause\nrouting_id = me\nipc_mode = 0600\n"
                "[backend]\nconnect = tcp://127.0.0.1:5999\nreconnect_max = 2m\n"
                "tcp_keepalive = no\nduplicate_routing_id = reject\n"
                "[frontend z]\nbind = tcp://[::1]:*\n[backend z]\nbind = ipc://@abstract\n")
        status, first, err = run_command("--dump-config", "-c", self.file(text))
        self.assertEqual(status, 0, err)
        again = self.file(first)
        self.assertEqual(run_command("-t", "-c", again)[0], 0)
        status, second, err = run_command("--dump-config", "-c", again)
        self.assertEqual(status, 0, err)
        self.assertEqual(first, second)
        for key in ("send_timeout", "receive_deadline", "heartbeat_interval", "memory_limit",
                    "max_message_parts", "backlog", "reconnect_jitter"):
            self.assertRegex(first, r"(?m)^%s\s*=" % key)
        self.assertRegex(first, r"(?m)^\s*[#;]")
        self.assertIn("ipc:///tmp/x.sock", first)

    def test_dump_of_the_smallest_file_runs(self):
        status, dump, err = run_command("--dump-config", "-c", self.file(SMALLEST))
        self.assertEqual(status, 0, err)
        d = self.daemon(text=dump)
        self.echo(d.backend, zmq.REP)
        self.assertEqual(self.ask(self.socket(zmq.REQ, d.frontend), b"x"), [b"x"])

    def test_dump_of_a_bad_file(self):
        self.assertEqual(run_command("--dump-config", "-c", self.file("[x]\n"))[0], 1)

    def test_stdout_is_full(self):
        """The configuration is longer than the stdio buffer: what is lost first is told, too."""
        config = self.file(SMALLEST)
        for option, said in (("--dump-config", "not all of it was written"),
                             ("--help", "No space left on device")):
            with open("/dev/full", "w", encoding="ascii") as full:
                done = subprocess.run([harness.BINARY, "-c", config, option], stdout=full,
                                      stderr=subprocess.PIPE, timeout=harness.DEADLINE, text=True,
                                      check=False)
            self.assertEqual((done.returncode, done.stderr), (1, "bulkhead: stdout: %s\n" % said))


class Accounts(ZmqCase):
    def test_of_a_broker_that_root_did_not_start(self):
        """The test may be root's: the broker is started by nobody, from a folder that nobody reads."""
        where = self.temp_dir()
        os.chmod(where, 0o755)
        program, config = where + "/bulkhead", where + "/bulkhead.ini"
        shutil.copy(harness.BINARY, program)
        with open(config, "w", encoding="ascii") as f:
            f.write("[broker]\ncontrol =\nuser = nobody\n" + SMALLEST)
        other = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
        with subprocess.Popen([program, "-c", config], stderr=subprocess.PIPE, text=True,
                              env=harness.environment(), **other) as broker:
            try:
                log = ""
                while "event=started" not in log:
                    line = broker.stderr.readline()
                    self.assertNotEqual(line, "", log)
                    log += line
            finally:
                broker.terminate()
                broker.stderr.read()
        self.assertRegex(log, '(?m)event=user_ignored .*detail="not started as root')
        self.assertEqual(broker.returncode, 0)


class Descriptors(ZmqCase):
    """A limit is an error that names a sufficient one, or the limit of a broker that serves."""

    def start(self, nofile):
        broker = {"control": self.temp_dir() + "/c", "http": "tcp://127.0.0.1:*"}
        return self.daemon(broker=broker, nofile=nofile, wait=False)

    def serves(self, nofile):
        d = self.start(nofile)
        d.wait_event("started")
        self.exchange(self.client(d), self.worker(d))
        return d

    def test_too_few(self):
        for nofile in (24, 33):
            d = self.start(nofile)
            self.assertEqual(d.wait(), 2)
            errors = d.find_events("start_failed") + d.find_events("bind_failed")
            self.assertTrue(errors)
        error = errors[0]["error"]
        self.assertIn("too few descriptors to serve a client and a worker: RLIMIT_NOFILE is 33, and must be ",
                      error)
        self.serves(int(re.search(r"must be (\d+) or more", error)[1]))

    def test_enough(self):
        self.serves(64)


class Logs(ZmqCase):
    def quiet_daemon(self, stderr):
        """A daemon whose log cannot be read; it is ready when the paths that it binds exist."""
        path = self.temp_dir()
        front, back = path + "/f", path + "/b"
        d = self.daemon(frontend={"bind": "ipc://" + front}, backend={"bind": "ipc://" + back},
                        wait=False, stderr=stderr)
        # libzmq dials until the daemon listens.
        self.echo("ipc://" + back, zmq.REP, b"!")
        return d, self.socket(zmq.REQ, "ipc://" + front)

    def check(self, stderr):
        d, s = self.quiet_daemon(stderr)
        for i in range(20):
            self.assertEqual(self.ask(s, b"%d" % i), [b"%d!" % i])
        d.send_signal(signal.SIGUSR1)
        d.send_signal(signal.SIGHUP)
        self.assertEqual(self.ask(s, b"x"), [b"x!"])
        self.assertTrue(d.alive())
        s.close(0)
        d.send_signal(signal.SIGTERM)
        self.assertEqual(d.wait(), 0)

    def test_stderr_closed(self):
        self.check("closed")

    def test_stderr_full(self):
        self.check("full")

    def test_stderr_closed_does_not_leak_log_into_a_peer(self):
        """Descriptor 2 must not be given to a socket that then gets the log."""
        d, s = self.quiet_daemon("closed")
        for i in range(5):
            self.assertEqual(self.ask(s, b"%d" % i), [b"%d!" % i])
            d.send_signal(signal.SIGUSR1)
        target = os.readlink("/proc/%d/fd/2" % d.pid) if os.path.exists(
            "/proc/%d/fd/2" % d.pid) else ""
        self.assertNotIn("socket:", target)

    def test_stderr_reader_goes_away(self):
        """EPIPE on the log: SIGPIPE must not end the daemon."""
        path = self.temp_dir()
        d = harness.Daemon(self.sections(frontend={"bind": "ipc://%s/f" % path},
                                         backend={"bind": "ipc://%s/b" % path}),
                           wait=False, stderr="unread")
        self.addCleanup(d.kill)
        self.echo("ipc://%s/b" % path, zmq.REP, b"!")
        s = self.socket(zmq.REQ, "ipc://%s/f" % path)
        self.assertEqual(self.ask(s, b"x"), [b"x!"])
        d.close_log()
        for _ in range(3):
            d.send_signal(signal.SIGHUP)
            self.assertEqual(self.ask(s, b"x"), [b"x!"])
        self.assertTrue(d.alive())
        d.send_signal(signal.SIGTERM)
        self.assertEqual(d.wait(), 0)

    def unread_daemon(self):
        """A daemon whose log is a pipe that holds 4 KiB, and a client and a worker of it."""
        path = self.temp_dir()
        d = harness.Daemon(self.sections(frontend={"bind": "ipc://%s/f" % path},
                                         backend={"bind": "ipc://%s/b" % path}),
                           wait=False, stderr="unread")
        self.addCleanup(d.kill)
        fcntl.fcntl(d.proc.stderr, fcntl.F_SETPIPE_SZ, 4096)
        self.echo("ipc://%s/b" % path, zmq.REP, b"!")
        s = self.socket(zmq.REQ, "ipc://%s/f" % path)
        self.assertEqual(self.ask(s, b"x"), [b"x!"])
        return d, s, "ipc://%s/f" % path

    def fill_log(self, endpoint, connections):
        """Connect and disconnect peers, which writes some lines to the log."""
        for i in range(connections):
            zmtp.connect(endpoint, b"DEALER", b"log-%d" % i).close()

    def read_from_now_on(self, d):
        d.blind = False
        d.reader = threading.Thread(target=d._read, daemon=True)
        d.reader.start()

    def test_a_log_reader_that_hangs(self):
        """Nothing waits for the reader: messages pass, signals are handled, the daemon can end."""
        d, s, endpoint = self.unread_daemon()
        self.fill_log(endpoint, 400)
        for i in range(50):
            self.assertEqual(self.ask(s, b"%d" % i), [b"%d!" % i])
        for number in (signal.SIGUSR1, signal.SIGHUP):
            d.send_signal(number)
            self.assertEqual(self.ask(s, b"x"), [b"x!"])
        s.close(0)
        d.send_signal(signal.SIGTERM)
        self.assertEqual(d.wait(), 0)
        d.proc.stderr.close()

    def test_a_log_reader_that_hung_is_told_what_it_missed(self):
        d, s, endpoint = self.unread_daemon()
        self.fill_log(endpoint, 1500)
        self.assertEqual(self.ask(s, b"x"), [b"x!"])
        self.read_from_now_on(d)
        lost = int(d.wait_event("log_lost")["lines"])
        self.assertGreater(lost, 0)
        d.sync()
        ready = len(d.find_events("peer_ready", side="frontend"))
        self.assertGreater(ready, 0)             # what the ring held
        self.assertGreaterEqual(ready + lost, 1500)
        for line in d.lines:                     # no line is cut, or has another's end
            self.assertRegex(line, r"^\S+ level=[a-z]+ event=[a-z0-9_]+( [^=]+=.*)?$")
            self.assertEqual(line.count("event="), 1)
        d.stop()

    def test_a_log_reader_that_is_slow(self):
        """It reads a KiB now and then, and messages do not wait for the next one."""
        d, s, endpoint = self.unread_daemon()
        for i in range(10):
            self.fill_log(endpoint, 50)
            for j in range(50):
                self.assertEqual(self.ask(s, b"%d" % j), [b"%d!" % j])
            self.assertTrue(os.read(d.proc.stderr.fileno(), 1024))
        self.read_from_now_on(d)
        d.stop()

    def test_counters_of_many_proxies(self):
        """All are logged in slices, once; and once more for the signals that come meanwhile."""
        path = self.temp_dir()
        many = {}
        for i in range(700):
            many["frontend p%d" % i] = {"bind": "ipc://%s/f%d" % (path, i)}
            many["backend p%d" % i] = {"bind": "ipc://%s/b%d" % (path, i)}
        d = self.daemon(sections=many)
        stats = d.stats()
        self.assertEqual(len(stats.sides), 1400)
        self.assertGreaterEqual(int(stats.end["slices"]), 4)     # of 200 proxies at most
        mark = d.mark()
        for _ in range(3):
            d.send_signal(signal.SIGUSR1)
            d.wait_event("stats", after=mark, proxy="p0")
        d.wait_event("stats_end", after=mark)
        d.send_signal(signal.SIGUSR1)
        d.wait_event("stats_end", after=mark, count=2)
        told = len(d.find_events("stats", after=mark))
        self.assertGreaterEqual(told, 2800)
        self.assertEqual(d.find_events("log_lost"), [])

    def run_limited(self, argv, blocks):
        """Run it with output to a file of at most that many blocks of 512 bytes: (status, the
        file's content, stderr)."""
        out = os.path.join(self.temp_dir(), "out")
        done = subprocess.run(["/bin/sh", "-c", 'ulimit -f %s; exec "$@" >%s' % (blocks, out), "sh"]
                              + argv, env=harness.environment(), stdin=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, timeout=harness.DEADLINE, check=False)
        with open(out, "rb") as f:
            return done.returncode, f.read(), done.stderr.decode()

    def test_an_answer_into_a_file_at_its_limit(self):
        """A reported error of the command, and not its death by SIGXFSZ."""
        path = os.path.join(self.temp_dir(), "good.ini")
        with open(path, "w", encoding="utf-8") as f:
            f.write("[frontend]\nbind = tcp://*:5555\n[backend]\nbind = tcp://*:5556\n")
        control = os.path.join(self.temp_dir(), "control")
        self.daemon(broker={"control": control})
        commands = [[harness.BINARY, "-h"], [harness.BINARY, "-c", path, "--dump-config"],
                    [harness.BINARY, "-c", path, "-t"], [harness.BINARY, "-V"],
                    [harness.CTL, "--help"], [harness.CTL, "-V"]]
        commands += [[harness.CTL, "-s", control] + words.split() for words in (
            "status", "peers", "stats", "top", "config", "version", "events", "-j stats",
            "log-level debug")]
        for argv in commands:
            whole = self.run_limited(argv, "unlimited")
            self.assertEqual((whole[0], whole[2]), (0, ""), argv)
            for blocks in (0, 1, 8, 16):
                status, written, err = self.run_limited(argv, blocks)
                if len(whole[1]) <= blocks * 512 - 64:      # figures may have grown meanwhile
                    self.assertEqual((status, err), (0, ""), (argv, blocks))
                elif blocks == 0 or len(whole[1]) > blocks * 512 + 64:
                    self.assertLessEqual(len(written), blocks * 512)
                    self.assertEqual(status, 1, (argv, blocks, err))
                    self.assertRegex(err, r"\Abulkhead(ctl)?: stdout: [^\n]+\n\Z", (argv, blocks))

    def test_errors_into_a_file_at_its_limit(self):
        """-t cannot write its errors: the exit status shows them."""
        path = os.path.join(self.temp_dir(), "bad.ini")
        with open(path, "w", encoding="utf-8") as f:
            f.write("nonsense = 1\n" * 200)
        for argv in ([harness.BINARY, "-c", path, "-t"], [harness.BINARY, "-c", path],
                     [harness.CTL, "-s", path, "status"], [harness.CTL, "nonsense"]):
            want = 2 if "status" in argv else 1
            for blocks in (0, 1):
                done = subprocess.run(
                    ["/bin/sh", "-c", 'ulimit -f %d; exec "$@" 2>%s.err' % (blocks, path), "sh"]
                    + argv, env=harness.environment(), stdin=subprocess.DEVNULL,
                    timeout=harness.DEADLINE, check=False)
                self.assertEqual(done.returncode, want, (argv, blocks))

    def test_a_log_file_at_its_limit(self):
        """SIGXFSZ does not end the daemon; the lost lines are counted when there is room again."""
        path = self.temp_dir()
        log = os.path.join(path, "log")
        d = self.daemon(frontend={"bind": "ipc://%s/f" % path},
                        backend={"bind": "ipc://%s/b" % path}, wait=False,
                        under=["/bin/sh", "-c", 'ulimit -f 16; exec "$@" 2>>%s' % log, "sh"])
        self.echo("ipc://%s/b" % path, zmq.REP, b"!")
        s = self.socket(zmq.REQ, "ipc://%s/f" % path)
        self.assertEqual(self.ask(s, b"x"), [b"x!"])
        self.fill_log("ipc://%s/f" % path, 100)
        self.assertEqual(self.ask(s, b"x"), [b"x!"])
        os.truncate(log, 0)
        self.fill_log("ipc://%s/f" % path, 1)
        self.assertEqual(self.ask(s, b"x"), [b"x!"])
        with open(log, encoding="utf-8") as f:
            self.assertRegex(f.read(), r"\n\S+ level=warning event=log_lost lines=[1-9][0-9]* ")
        s.close(0)
        d.send_signal(signal.SIGTERM)
        self.assertEqual(d.wait(), 0)

    def test_a_limit_of_files_too_low_for_the_doors(self):
        """Snapshots go through memory that counts as a file: a limit is reported at the start."""
        for blocks in (0, 2):
            d = self.daemon(broker={"http": "tcp://127.0.0.1:*"}, wait=False,
                            under=["/bin/sh", "-c", 'ulimit -f %d; exec "$@"' % blocks, "sh"])
            self.assertEqual(d.wait(), 2)
            error = d.find_events("start_failed")[0]["error"]
            self.assertEqual(error, "no shared memory: File too large (RLIMIT_FSIZE is too low)")

    def test_a_socket_as_log(self):
        """A socket that nobody reads, as the journal's may be."""
        ours, its = socket.socketpair()
        self.addCleanup(ours.close)
        path = self.temp_dir()
        d = self.daemon(frontend={"bind": "ipc://%s/f" % path},
                        backend={"bind": "ipc://%s/b" % path}, wait=False,
                        under=["/bin/sh", "-c", 'exec "$@" 2>&%d' % its.fileno(), "sh"],
                        pass_fds=[its.fileno()])
        its.close()
        self.echo("ipc://%s/b" % path, zmq.REP, b"!")
        s = self.socket(zmq.REQ, "ipc://%s/f" % path)
        self.assertEqual(self.ask(s, b"x"), [b"x!"])
        self.fill_log("ipc://%s/f" % path, 1000)
        self.assertEqual(self.ask(s, b"x"), [b"x!"])
        s.close(0)
        d.send_signal(signal.SIGTERM)
        self.assertEqual(d.wait(), 0)

    def test_the_shells_description_stays_as_it_is(self):
        """O_NONBLOCK on a shared file description would break other processes."""
        theirs, ours = os.pipe()
        self.addCleanup(os.close, theirs)
        self.addCleanup(os.close, ours)
        d = self.daemon(wait=False, under=["/bin/sh", "-c", 'exec "$@" 2>&%d' % ours, "sh"],
                        pass_fds=[ours])
        with os.fdopen(os.dup(theirs)) as f:
            while "event=started" not in f.readline():
                pass
        self.assertTrue(os.get_blocking(ours))
        d.send_signal(signal.SIGTERM)
        self.assertEqual(d.wait(), 0)

    def test_default_level_tells_the_essentials(self):
        d = self.daemon(broker={"log_level": None})
        w = self.echo(d.backend, zmq.REP)
        s = self.socket(zmq.REQ, d.frontend)
        self.assertEqual(self.ask(s, b"x"), [b"x"])
        s.close(0)
        d.wait_event("peer_closed", side="frontend", reason="peer_closed")
        w.stop()
        d.wait_event("peer_closed", side="backend")
        d.stop()
        for name in ("listening", "started", "peer_ready", "peer_closed", "draining", "drained",
                     "stats", "stopped"):
            self.assertTrue(d.find_events(name), name)
        for line in d.lines:
            self.assertRegex(line, r"^\S+ level=(error|warning|notice|info) event=[a-z0-9_]+")

    def test_verbose(self):
        """-v logs no less than the level in the file."""
        d = self.daemon(broker={"log_level": None}, args=["-v"])
        self.echo(d.backend, zmq.REP)
        self.assertEqual(self.ask(self.socket(zmq.REQ, d.frontend), b"x"), [b"x"])
        d.wait_event("peer_ready")

    def test_errors_only(self):
        path = self.temp_dir()
        d = self.daemon(broker={"log_level": "error"}, wait=False,
                        frontend={"bind": "ipc://%s/f" % path},
                        backend={"bind": "ipc://%s/b" % path})
        self.echo("ipc://%s/b" % path, zmq.REP, b"!")
        s = self.socket(zmq.REQ, "ipc://%s/f" % path)
        self.assertEqual(self.ask(s, b"x"), [b"x!"])
        d.send_signal(signal.SIGTERM)
        self.assertEqual(d.wait(), 0)
        d.check_sanitizers()
        self.assertEqual([e for e in d.events if e.get("level") != "error"], [])

    def test_no_log_line_per_message(self):
        d = self.daemon()
        self.echo(d.backend, zmq.REP)
        s = self.socket(zmq.REQ, d.frontend)
        self.ask(s, b"x")
        d.sync()
        before = len(d.lines)
        for i in range(500):
            self.ask(s, b"x")
        self.assertLess(len(d.lines) - before, 50)

    def test_hostile_text_is_quoted(self):
        """An identity that looks like a log line does not make one."""
        d = self.daemon()
        self.echo(d.backend, zmq.REP)
        s = self.socket(zmq.REQ, d.frontend, identity=b"x\nlevel=error event=stopped \x1b[31m")
        self.assertEqual(self.ask(s, b"x"), [b"x"])
        self.assertEqual(d.find_events("stopped"), [])
        for line in d.lines:
            self.assertNotIn("\x1b", line)


class Lifecycle(ZmqCase):
    def test_drain_with_real_peers(self):
        """SIGTERM with requests in flight: each is answered before the daemon ends."""
        d = self.daemon(broker={"drain_timeout": "30s"})
        w = self.socket(zmq.DEALER, d.backend)
        self.ready(d, "backend")
        clients = [self.socket(zmq.REQ, d.frontend) for _ in range(10)]
        for i, s in enumerate(clients):
            s.send(b"%d" % i)
        got = [w.recv_multipart() for _ in clients]
        d.send_signal(signal.SIGTERM)
        d.wait_event("draining")
        for parts in got:
            w.send_multipart(parts[:-1] + [parts[-1] + b"!"])
        for i, s in enumerate(clients):
            self.assertEqual(s.recv(), b"%d!" % i)
        e = d.wait_event("drained")
        self.assertEqual((e["answered"], e["given_up"]), ("10", "0"))
        d.stop()

    def test_restart_under_the_peers(self):
        """The daemon is restarted; libzmq reconnects by itself."""
        path = self.temp_dir()
        keys = {"frontend": {"bind": "ipc://%s/f" % path}, "backend": {"bind": "ipc://%s/b" % path}}
        self.echo("ipc://%s/b" % path, zmq.REP, b"!")
        s = self.socket(zmq.REQ, "ipc://%s/f" % path, REQ_RELAXED=1, REQ_CORRELATE=1)
        for i in range(3):
            d = self.daemon(**keys)
            self.ready(d, "frontend")
            self.ready(d, "backend")
            self.assertEqual(self.ask(s, b"%d" % i), [b"%d!" % i])
            d.stop()

    def test_killed_and_restarted_on_its_port(self):
        """TIME_WAIT does not prevent binding the port again."""
        d = self.daemon()
        front, back = d.frontend, d.backend
        self.echo(back, zmq.REP, b"!")
        s = self.socket(zmq.REQ, front, REQ_RELAXED=1, REQ_CORRELATE=1)
        self.assertEqual(self.ask(s, b"a"), [b"a!"])
        d.kill()
        d = self.daemon(frontend={"bind": front}, backend={"bind": back})
        self.ready(d, "frontend")
        self.ready(d, "backend")
        self.assertEqual(self.ask(s, b"b"), [b"b!"])

    def test_signals_before_it_is_up(self):
        """SIGTERM at any moment: a clean end."""
        for _ in range(10):
            d = harness.Daemon(self.sections(), wait=False)
            self.addCleanup(d.kill)
            d.wait_event("listening")
            d.send_signal(signal.SIGTERM)
            self.assertEqual(d.wait(), 0, d.log_tail())

    def test_descriptors_do_not_grow(self):
        d = self.daemon()
        self.echo(d.backend, zmq.REP)
        s = self.socket(zmq.REQ, d.frontend)
        self.ask(s, b"x")
        s.close(0)
        d.wait_stats(lambda s: s.frontend["peers"] == 0)
        before = d.fds()
        for i in range(50):
            s = self.socket(zmq.REQ, d.frontend)
            self.ask(s, b"x")
            s.close(0)
        d.wait_stats(lambda s: s.frontend["peers"] == 0 and s.frontend["closed"] == 51)
        self.assertLessEqual(d.fds(), before)

    def test_an_idle_daemon_holds_few_descriptors(self):
        self.assertLess(self.daemon().fds(), 24)
