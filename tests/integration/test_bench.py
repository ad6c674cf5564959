# SPDX-License-Identifier: MIT
"""bulkhead-bench against the daemon, and against peers that misbehave: its counts, its output,
its exit status."""

import json
import os
import signal
import subprocess
import threading
import time
import unittest

import harness
import zmtp
from harness import DEADLINE

BENCH = os.path.abspath(os.environ.get(
    "BULKHEAD_BENCH", os.path.join(os.path.dirname(harness.BINARY), "bulkhead-bench")))
DONE, ERRORS, USAGE, NO_CONNECTION = 0, 1, 2, 3
KINDS = ["refused", "closed", "failed", "wrong", "timeout", "lost", "unexpected"]


class Running:
    """A bulkhead-bench in the background; its lines can be waited for."""

    def __init__(self, *args):
        self.proc = subprocess.Popen([BENCH] + list(args), stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                     env=harness.environment())
        self.lines = []
        self.lock = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.proc.stderr:
            with self.lock:
                self.lines.append(line)
                self.lock.notify_all()

    def wait_line(self, wanted):
        """A line for which wanted(line) is true; how many lines there were by then."""
        until = time.monotonic() + DEADLINE
        with self.lock:
            at = 0
            while True:
                while at < len(self.lines):
                    at += 1
                    if wanted(self.lines[at - 1]):
                        return at
                left = until - time.monotonic()
                if left <= 0:
                    raise AssertionError("no such line in: " + "".join(self.lines))
                self.lock.wait(left)

    def end(self, number=signal.SIGINT):
        """(exit status, stdout)"""
        if number is not None:
            self.proc.send_signal(number)
        status = self.proc.wait(DEADLINE)
        self.reader.join(DEADLINE)
        return status, self.proc.stdout.read()

    def close(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        self.reader.join(DEADLINE)
        self.proc.stdout.close()
        self.proc.stderr.close()


class BenchCase(harness.Case):
    def bench(self, *args):
        """(exit status, stdout, stderr)"""
        done = subprocess.run([BENCH] + list(args), check=False, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=DEADLINE,
                              text=True, env=harness.environment())
        self.assertNotRegex(done.stderr, harness.SANITIZER)
        return done.returncode, done.stdout, done.stderr

    def running(self, *args):
        return self.closing(Running(*args))

    def parsed(self, text):
        """The one object that --json prints, whose counts add up."""
        got = json.loads(text)
        self.assertEqual(list(got["errors"]), KINDS)
        self.assertEqual(got["requests"], got["replies"] + got["errors"]["timeout"]
                         + got["errors"]["lost"] + got["in_flight"])
        return got

    def measured(self, *args, status=DONE):
        code, out, err = self.bench("--json", "--quiet", *args)
        self.assertEqual((code, err), (status, ""), out)
        return self.parsed(out)

    @staticmethod
    def both(d):
        return ["-f", d.frontend, "-b", d.backend]

    def no_errors(self, got):
        self.assertEqual(set(got["errors"].values()), {0}, got)


class WithTheDaemon(BenchCase):
    def test_every_request_is_counted_here_and_there(self):
        d = self.daemon()
        asked = 0
        for args in ([], ["-s", "0"], ["-s", "300", "-p", "3"], ["-s", "1M", "-c", "2", "-i", "1"],
                     ["--bare"], ["-r", "5000"], ["-c", "1", "-w", "1", "-i", "1"]):
            with self.subTest(args=args):
                got = self.measured("-n", "200", *args, *self.both(d))
                asked += 200
                self.assertEqual((got["requests"], got["replies"], got["messages"]),
                                 (200, 200, 200))
                self.assertEqual(got["mode"], "open" if "-r" in args else "closed")
                self.assertEqual((got["late_replies"], got["interrupted"]), (0, False))
                self.no_errors(got)
                latency = got["latency_us"]
                self.assertTrue(0 < latency["p50"] <= latency["p99"] <= latency["p999"]
                                <= latency["max"], latency)
                stats = d.stats()
                self.assertEqual((stats.frontend["received"], stats.backend["received"]),
                                 (asked, asked))

    def test_unix_sockets(self):
        where = self.temp_dir()
        d = self.daemon(frontend={"bind": "ipc://%s/f" % where},
                        backend={"bind": "ipc://@%s" % where.strip("/").replace("/", "-")})
        got = self.measured("-n", "50", *self.both(d))
        self.assertEqual((got["frontends"], got["backends"]), ([d.frontend], [d.backend]))
        self.no_errors(got)

    def test_a_name(self):
        d = self.daemon()
        self.measured("-n", "1", *[word.replace("127.0.0.1", "localhost") for word in self.both(d)])

    def test_summary_for_people(self):
        d = self.daemon()
        status, out, err = self.bench("-n", "1000", *self.both(d))
        self.assertEqual(status, DONE)
        self.assertRegex(out, r"\A10 clients at %s, 10 workers at %s\nrate +[\d,]+/s: 1,000 round "
                         r"trips in .*\nlatency +p50 .* p99 .* p99\.9 .* max .*\nerrors +none\n"
                         % (d.frontend, d.backend))
        self.assertIn("10 in flight each, 1000 requests\n", err)

    def test_duration(self):
        d = self.daemon()
        got = self.measured("-d", "0.3", "--warmup", "0.1", *self.both(d))
        self.assertGreaterEqual(got["seconds"], 0.3)
        self.assertGreaterEqual(got["replies"], got["messages"])
        self.assertEqual(got["in_flight"], 0)
        self.no_errors(got)

    def test_a_line_each_second_and_an_interrupt(self):
        d = self.daemon()
        b = self.running("--json", "-d", "0", *self.both(d))
        b.wait_line(lambda line: " 2 s " in line and " p99 " in line)
        status, out = b.end()
        got = self.parsed(out)
        self.assertEqual(status, DONE)
        self.assertTrue(got["interrupted"])
        self.no_errors(got)

    def test_sides_in_processes_of_their_own(self):
        d = self.daemon()
        workers = self.running("--json", "-b", d.backend)
        d.wait_event("peer_ready", side="backend", count=10)
        got = self.measured("-n", "300", "--echo", "-f", d.frontend)
        self.assertEqual((got["replies"], got["workers"]), (300, 0))
        status, out = workers.end()
        served = json.loads(out)
        self.assertEqual((status, served["mode"], served["messages"]), (DONE, "serve", 300))
        self.no_errors(served)

    def test_a_worker_that_goes_away(self):
        d = self.daemon()
        workers = self.running("-w", "1", "-b", d.backend)
        d.wait_event("peer_ready", side="backend")
        clients = self.running("--json", "-c", "2", "-i", "2", "-t", "0.3", "-d", "0",
                               "-f", d.frontend)
        d.wait_stats(lambda s: s.backend["received"] > 0)
        workers.end(signal.SIGKILL)
        clients.wait_line(lambda line: "   timeout " in line)
        status, out = clients.end()
        got = self.parsed(out)
        self.assertEqual(status, ERRORS)
        self.assertGreater(got["replies"], 0)
        self.assertGreater(got["errors"]["timeout"], 0)

    def test_a_broker_that_goes_away_and_comes_back(self):
        where = self.temp_dir()
        binds = dict(frontend={"bind": "ipc://%s/f" % where}, backend={"bind": "ipc://%s/b" % where})
        d = self.daemon(**binds)
        b = self.running("--json", "-c", "2", "-w", "2", "-d", "0", *self.both(d))
        d.wait_stats(lambda s: s.backend["received"] > 0)
        d.kill()
        b.wait_line(lambda line: "   refused " in line and "   closed " not in line)
        again = self.daemon(**binds)
        again.wait_stats(lambda s: s.backend["received"] > 0)
        status, out = b.end()
        got = self.parsed(out)
        self.assertEqual(status, ERRORS)
        self.assertEqual(got["errors"]["closed"], 4)
        self.assertGreaterEqual(got["errors"]["refused"], 4)
        self.assertEqual(got["errors"]["wrong"], 0)

    def test_somebody_else_has_a_worker_there(self):
        """Another worker answers with other content, as README.md's: not the broker's fault."""
        note = "\nnote      somebody else's worker answered: stop it, or leave out -b\n"
        d = self.daemon()
        other = self.worker(d)
        b = self.running("-c", "1", "-w", "1", "-i", "2", "-n", "2", *self.both(d))
        ident, key, empty, body = other.recv_message()
        other.send_message([ident, key, empty, b"you said " + body])
        status, out = b.end(None)
        self.assertEqual(status, ERRORS)
        self.assertIn(note, out)
        other.close()
        d.wait_event("peer_closed", side="backend")
        status, out, _ = self.bench("-n", "10", *self.both(d))
        self.assertEqual((status, "note" in out), (DONE, False))

    def test_the_wrong_side(self):
        d = self.daemon()
        for args, said in ((["-f", d.backend], "a DEALER listens there, .*; is it a backend[?]"),
                           (["-b", d.frontend], "a ROUTER listens there, .*; is it a frontend[?]")):
            with self.subTest(args=args):
                status, out, err = self.bench(*args)
                self.assertEqual((status, out), (NO_CONNECTION, ""))
                self.assertRegex(err, r"\Abulkhead-bench: %s: %s\n\Z" % (args[1], said))


class WithOthers(BenchCase):
    """The test is the listener: one connection, a ROUTER."""

    def start(self, *args):
        self.listener = self.closing(zmtp.Listener())
        b = self.running("--json", "--quiet", "-c", "1", "-i", "1", *args,
                         "-f", self.listener.endpoint)
        peer = self.closing(self.listener.accept())
        peer.handshake(b"ROUTER")
        return b, peer

    def ended(self, b, status):
        code, out = b.end(None)
        self.assertEqual((code, "".join(b.lines)), (status, ""))
        return self.parsed(out)

    def test_any_reply_with_the_envelope_will_do(self):
        b, peer = self.start("-n", "2")
        for answer in ([b"any"], [b"x" * 300, b"", b"y"]):
            ident, empty, body = peer.recv_message()
            self.assertEqual((len(ident), empty, len(body)), (16, b"", 64))
            peer.send_message([ident, b""] + answer)
        got = self.ended(b, DONE)
        self.assertEqual(got["replies"], 2)

    def test_wrong_bytes(self):
        b, peer = self.start("-n", "1", "--echo")
        ident, empty, body = peer.recv_message()
        peer.send_message([ident, empty, body[:-1] + b"!"])
        got = self.ended(b, ERRORS)
        self.assertEqual((got["errors"]["wrong"], got["errors"]["lost"]), (1, 1))

    def test_a_reply_that_names_no_request(self):
        b, peer = self.start("-n", "1")
        peer.recv_message()
        peer.send_message([b"", b"what REP sends to a REQ"])
        got = self.ended(b, ERRORS)
        self.assertEqual((got["errors"]["wrong"], got["errors"]["lost"]), (1, 1))

    def test_two_replies(self):
        b, peer = self.start("-n", "2")
        request = peer.recv_message()
        peer.send_message(request)
        peer.send_message(request)
        peer.send_message(peer.recv_message())
        got = self.ended(b, ERRORS)
        self.assertEqual((got["replies"], got["errors"]["unexpected"]), (2, 1))

    def test_no_reply(self):
        b, peer = self.start("-n", "2", "-t", "0.1")
        peer.recv_message()
        peer.recv_message()
        got = self.ended(b, ERRORS)
        self.assertEqual((got["replies"], got["errors"]["timeout"]), (0, 2))

    def test_a_late_reply(self):
        b, peer = self.start("-d", "0", "-t", "0.2")
        first = peer.recv_message()
        peer.recv_message()         # so the first has failed
        peer.send_message(first)
        peer.send(zmtp.ping(context=b"read?"))
        while (b"PONG", b"read?") not in peer.commands:
            flags, body = peer.recv_frame()
            if flags & zmtp.COMMAND:
                peer.commands.append(zmtp.parse_command(body))
        got = self.parsed(b.end()[1])
        self.assertEqual((got["late_replies"], got["replies"]), (1, 0))

    def test_requests_are_lost_with_their_connection(self):
        b, peer = self.start("-n", "1")
        peer.recv_message()
        peer.close()
        got = self.ended(b, ERRORS)
        self.assertEqual((got["errors"]["closed"], got["errors"]["lost"]), (1, 1))

    def test_a_count_that_cannot_be_reached(self):
        b, peer = self.start("-n", "2", "-t", "0.2")
        peer.recv_message()
        self.listener.close()
        peer.close()
        got = self.ended(b, ERRORS)
        self.assertEqual((got["requests"], got["errors"]["closed"], got["errors"]["lost"]), (1, 1, 1))

    def test_pings_are_answered(self):
        for args in ([], ["--echo"], ["--idle"]):
            with self.subTest(args=args):
                b, peer = self.start("-d", "0", *args)
                if "--idle" not in args:
                    peer.recv_message()
                peer.send_bytewise(zmtp.ping(ttl=5, context=b"context"))
                self.assertEqual(peer.recv_command(b"PONG"), b"context")
                b.end()

    def test_a_ping_in_the_middle_of_a_request(self):
        b, peer = self.start("-d", "0", "-s", "32M")
        head = [peer.recv_frame() for _ in range(2)]
        peer.send(zmtp.ping(context=b"now"))
        flags, body = peer.recv_frame()
        self.assertEqual((len(head[0][1]), head[1][1], flags, len(body)), (16, b"", 0, 32 << 20))
        self.assertEqual(peer.recv_command(b"PONG"), b"now")
        b.end()

    def test_a_worker_answers_pings_between_its_replies(self):
        listener = self.closing(zmtp.Listener())
        b = self.running("--quiet", "-w", "1", "-b", listener.endpoint)
        peer = self.closing(listener.accept())
        peer.handshake(b"DEALER")
        requests = [[b"id", b"", b"x" * size] for size in (0, 10, 300)]
        sent = zmtp.message(requests[0]) + zmtp.ping(context=b"1") + zmtp.message(requests[1]) + \
            zmtp.message(requests[2]) + zmtp.ping(context=b"2")
        for send in (peer.send, peer.send_bytewise):
            send(sent)
            self.assertEqual(peer.recv_message(), requests[0])
            self.assertEqual(peer.recv_command(b"PONG"), b"1")
            self.assertEqual(peer.recv_message(), requests[1])
            self.assertEqual(peer.recv_message(), requests[2])
            self.assertEqual(peer.recv_command(b"PONG"), b"2")
        self.assertEqual(b.end()[0], DONE)

    def test_latencies_count_from_when_a_request_was_due(self):
        """20 requests, one each 10 ms, of which the first is held for 300 ms: all others were due
        before it was answered, and could not be sent, since one may be in flight."""
        b, peer = self.start("-n", "20", "-r", "100")
        request = peer.recv_message()
        threading.Event().wait(0.3)
        for _ in range(19):
            peer.send_message(request)
            request = peer.recv_message()
        peer.send_message(request)
        got = self.ended(b, DONE)
        self.assertEqual(got["replies"], 20)
        self.assertGreaterEqual(got["latency_us"]["max"], 300000)
        self.assertGreaterEqual(got["latency_us"]["p50"], 100000)

    def test_what_is_no_zmtp(self):
        listener = self.closing(zmtp.Listener())
        b = self.running("-f", listener.endpoint, "-c", "1")
        peer = self.closing(listener.accept())
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assertEqual(b.end(None), (NO_CONNECTION, ""))
        self.assertEqual("".join(b.lines), "bulkhead-bench: %s: it does not speak ZMTP\n"
                         % listener.endpoint)

    def test_one_that_refuses(self):
        listener = self.closing(zmtp.Listener())
        b = self.running("-f", listener.endpoint, "-c", "1")
        peer = self.closing(listener.accept())
        peer.send(zmtp.greeting() + zmtp.command(b"ERROR", b"\x08no place"))
        self.assertEqual(b.end(None), (NO_CONNECTION, ""))
        self.assertIn("the other side refuses: no place\n", b.lines[0])


class CommandLine(BenchCase):
    def test_nothing_listens(self):
        bound = self.closing(zmtp.Listener(listen=False))
        for endpoint in (bound.endpoint, "ipc://%s/nobody" % self.temp_dir()):
            for option in ("-f", "-b"):
                status, out, err = self.bench(option, endpoint)
                self.assertEqual((status, out), (NO_CONNECTION, ""))
                self.assertRegex(err, r"\Abulkhead-bench: %s: nothing listens there \(.*\); is "
                                 r"the broker running\?\n\Z" % endpoint)

    def test_bad_options(self):
        here = ["-f", "tcp://127.0.0.1:1"]
        for args, said in (
                ([], "--frontend or --backend is missing: where does the broker listen?"),
                (["--frobnicate"], 'unknown option "--frobnicate"'),
                (["-f"], 'an argument is missing after "-f"'),
                (["-f", "localhost:5555"], '"localhost:5555": an endpoint begins with tcp://'),
                (["-f", "tcp://127.0.0.1"], '"tcp://127.0.0.1": port is missing'),
                (["tcp://127.0.0.1:1"], 'unexpected argument "tcp://127.0.0.1:1": an endpoint '
                                        "follows -f or -b"),
                (here + ["-c", "0"], '--clients: not a number from 1 to 1000000: "0"'),
                (here + ["-c", "1.5"], '--clients: not a whole number: "1.5"'),
                (here + ["--rate", "fast"], '--rate: not a number from 0.001 to 1000000000: "fast"'),
                (here + ["-d", "nan"], "--duration: not a number from 0 "),
                (here + ["-s", "1G"], '--size: not a number of bytes up to 1024M: "1G"'),
                (here + ["-s", "1000M", "-p", "5"], "larger than 4 GiB"),
                (here + ["-n", "5", "-d", "5"], "--count and --duration exclude each other"),
                (here + ["-w", "3"], "--workers need a --backend"),
                (["-b", "tcp://127.0.0.1:1", "-r", "5"], "need a --frontend"),
                (here + ["--bare"], "--bare needs --echo, or workers")):
            with self.subTest(args=args):
                status, out, err = self.bench(*args)
                self.assertEqual((status, out), (USAGE, ""))
                self.assertTrue(err.startswith("bulkhead-bench: ") and said in err, err)
                self.assertTrue(err.endswith("\nTry bulkhead-bench --help.\n"), err)

    def test_help_and_version(self):
        status, out, err = self.bench("--help")
        self.assertEqual((status, err), (DONE, ""))
        self.assertIn("usage: bulkhead-bench -f ENDPOINT", out)
        status, out, err = self.bench("-V")
        self.assertEqual((status, err), (DONE, ""))
        self.assertRegex(out, r"\Abulkhead-bench \d")

    def test_an_output_that_takes_nothing(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run([BENCH, "--help"], check=False, stdout=full,
                                  stderr=subprocess.PIPE, text=True, timeout=DEADLINE)
        self.assertEqual(done.returncode, ERRORS)
        self.assertIn("bulkhead-bench: standard output: No space left", done.stderr)


if __name__ == "__main__":
    unittest.main()
