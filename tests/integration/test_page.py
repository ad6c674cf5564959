# SPDX-License-Identifier: MIT
"""The status page: what is served, and what people see of it in a browser."""

import base64
import hashlib
import json
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
from admin import Admin
from browser import Browser
from harness import DEADLINE
from zmqcase import ZmqCase

HOSTILE = b"<img/src=x/onerror=\"document.title='broken-into'\"><b>&amp;"
CROWD = 400


# The parts of the page's head that are covered by something else.
HIDDEN = """["h1", "#who", "#state", "#alert-text", "nav a"].filter(what => {
    const e = document.querySelector(what), r = e.getBoundingClientRect();
    const over = document.elementFromPoint(r.left + r.width / 2, r.top + r.height / 2);
    return r.bottom > 0 && !e.contains(over);
})"""


class PageCase(ZmqCase):
    def start(self, proxies=1, broker=None, **kw):
        more = {"%s p%d" % (side, i): {"bind": "tcp://127.0.0.1:*"}
                for side in ("frontend", "backend") for i in range(1, proxies)}
        broker = dict({"http": "tcp://127.0.0.1:*"}, **(broker or {}))
        d = self.daemon(sections=self.sections(broker=broker, **more, **kw))
        return d, Admin(d.wait_event("http_listening")["endpoint"])


class Served(PageCase):
    def test_headers(self):
        _, admin = self.start()
        answer = admin.get("/")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["Content-Type"], "text/html; charset=utf-8")
        self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
        self.assertEqual(answer.headers["Cache-Control"], "no-store")
        self.assertEqual(int(answer.headers["Content-Length"]), len(answer.body))
        self.assertTrue(answer.text.startswith("<!DOCTYPE html>"))
        self.assertTrue(answer.text.endswith("</html>\n"))
        head = admin.ask("/", "HEAD")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(head.headers["Content-Length"], answer.headers["Content-Length"])
        self.assertEqual(admin.post("/").status, 405)

    def test_the_policy_allows_its_own_style_and_script_alone(self):
        _, admin = self.start()
        answer = admin.get("/")
        policy = dict(rule.strip().split(" ", 1)
                      for rule in answer.headers["Content-Security-Policy"].split(";"))
        for tag, rule in (("style", "style-src"), ("script", "script-src")):
            inside = re.findall(b"<%s[^>]*>(.*?)</%s>" % (tag.encode(), tag.encode()),
                                answer.body, re.S)
            self.assertEqual(len(inside), 1, tag)
            digest = base64.b64encode(hashlib.sha256(inside[0]).digest()).decode()
            self.assertEqual(policy.pop(rule), "'sha256-%s'" % digest)
        self.assertEqual(policy, {
            "default-src": "'none'", "connect-src": "'self'", "img-src": "data:",
            "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'"})
        # no other request: no attribute that loads anything, no address except its own
        self.assertNotRegex(answer.text, r"<[^>]*\s(style|on[a-z]+)=")
        self.assertEqual(set(re.findall(r"https?://[^\"'\s]*", answer.text)),
                         {"http://www.w3.org/2000/svg"})
        self.assertNotRegex(answer.text, r"innerHTML|outerHTML|insertAdjacentHTML|document\.write")

    def test_other_answers_may_do_nothing(self):
        _, admin = self.start()
        for path in ("/metrics", "/api/peers", "/nothing", "/api/reload"):
            self.assertEqual(admin.get(path).headers["Content-Security-Policy"],
                             "default-src 'none'; frame-ancestors 'none'", path)


class Events(PageCase):
    def events(self, admin):
        return admin.api("events")["events"]

    def test_peers_come_and_go(self):
        d, admin = self.start()
        client = self.client(d, identity=b"one")
        d.wait_event("peer_ready")
        client.close()
        d.wait_event("peer_closed")
        events = self.events(admin)
        self.assertEqual([e["number"] for e in events], list(range(1, len(events) + 1)))
        self.assertEqual([e["event"] for e in events][-2:], ["peer_ready", "peer_closed"])
        self.assertIn("reason=peer_closed", events[-1]["text"])
        self.assertEqual(events[-1]["level"], "info")
        self.assertEqual(admin.api("status")["last_event"], events[-1]["number"])

    def test_a_quiet_log_does_not_hide_them(self):
        d, admin = self.start(broker={"log_level": "notice"})
        self.client(d)
        admin.wait(lambda: self.events(admin), lambda e: e[-1]["event"] == "peer_ready")
        self.assertFalse(d.find_events("peer_ready"))

    def test_peers_that_come_and_go_push_nothing_else_out(self):
        d, admin = self.start()
        for _ in range(60):
            self.client(d).close()
        d.wait_event("peer_closed", count=60)
        events = self.events(admin)
        self.assertEqual(events[-1]["event"], "peer_closed")
        self.assertLessEqual(len(events), 96)
        self.assertIn("started", [e["event"] for e in events])

    def test_nothing_of_the_configuration(self):
        d, admin = self.start()
        with open(d.config, encoding="utf-8") as f:
            text = f.read()
        with open(d.config, "w", encoding="utf-8") as f:
            f.write(text + "[defaults]\nsend_timeout = 1234ms\n")
        d.send_signal(signal.SIGHUP)
        d.wait_event("reload_change", change=re.compile("send_timeout"))
        d.wait_event("reloaded")
        events = self.events(admin)
        self.assertEqual(events[-1]["event"], "reloaded")
        self.assertNotIn("send_timeout", str(events))
        self.assertNotIn("reload_change", str(events))

    def test_nothing_of_it_when_an_operator_reloads_it(self):
        path = self.temp_dir() + "/c"
        d, admin = self.start(broker={"control": path})
        with open(d.config, encoding="utf-8") as f:
            text = f.read()
        for more in "send_timeout = 1234ms\n", "send_timeout = soon\n":
            with open(d.config, "w", encoding="utf-8") as f:
                f.write(text + "[defaults]\n" + more)
            Admin(path).post("/api/reload")
        d.wait_event("admin", command="reload", detail=re.compile("1234ms"))
        d.wait_event("admin", command="reload", detail=re.compile("soon"))
        events = self.events(admin)
        self.assertNotIn("1234ms", str(events))
        self.assertNotIn("soon", str(events))


class History(PageCase):
    def test_it_is_kept_while_nobody_looks(self):
        d, admin = self.start()
        self.echo(d.backend)
        self.ready(d, "backend")
        admin.wait(lambda: admin.api("history"), lambda h: h["times"])
        client = self.client(d)
        client.send_message([b"", b"one"])
        client.recv_message()

        def requests(answer):
            return [sum(p["requests"]) for p in answer["proxies"] if p["name"] == "default"]

        whole = admin.wait(lambda: admin.api("history"), lambda h: requests(h) == [1])
        self.assertEqual((whole["interval_ms"], whole["kept_ms"]), (2000, 900000))
        self.assertEqual(len(whole["times"]), len(whole["lengths_ms"]))
        self.assertEqual(whole["times"], sorted(whole["times"]))
        proxy = whole["proxies"][0]
        self.assertEqual({k: len(v) for k, v in proxy.items() if k != "name"}, dict.fromkeys(
            ("requests", "replies", "dropped_requests", "dropped_replies", "queued_requests",
             "queued_replies", "unanswered", "p50_us", "p90_us", "p99_us"), len(proxy["requests"])))
        self.assertGreater(max(proxy["p50_us"]), 0)
        after = admin.wait(lambda: admin.api("history/%d" % whole["times"][-1]),
                           lambda h: h["times"])
        self.assertGreater(after["times"][0], whole["times"][-1])
        self.assertEqual(len(after["proxies"][0]["requests"]), len(after["times"]))

    def test_what_is_asked_is_checked(self):
        _, admin = self.start()
        self.assertEqual(admin.get("/api/history/").status, 400)
        answer = admin.get("/api/history/soon")
        self.assertEqual((answer.status, answer.text), (404, "invalid argument: use a time in ms\n"))
        self.assertEqual(admin.get("/api/history/-1").status, 200)
        self.assertEqual(admin.get("/api/history/99999999999999999999").json["times"], [])
        self.assertEqual(admin.post("/api/history").status, 405)

    def test_there_is_none_without_a_page(self):
        """Without an HTTP port there is no cost: the admin process requests nothing by itself."""
        path = self.temp_dir() + "/control"
        d = self.daemon(broker={"control": path})
        d.wait_event("control_listening")
        admin = Admin(path)
        turns = admin.api("stats")["turns"]
        for _ in range(3):
            self.client(d).close()
        admin.wait(lambda: admin.api("stats"), lambda s: s["turns"] > turns)
        self.assertEqual(admin.api("history")["times"], [])


FORMAT = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "src", "admin", "page",
                      "format.js")


class Formats(harness.Case):
    """The page's text for values and events: its script, without a document or a daemon. Run by
    Node.js if it is installed, otherwise in a browser."""

    def js(self, expression):
        with open(FORMAT, encoding="utf-8") as f:
            script = f.read()
        node = shutil.which("node") or shutil.which("nodejs")
        if node:
            made = subprocess.run([node, "-"], stdout=subprocess.PIPE, timeout=DEADLINE, check=True,
                                  input=("%s\nprocess.stdout.write(JSON.stringify(%s));" % (
                                      script, expression)).encode())
            return json.loads(made.stdout)
        browser = Browser()
        try:
            return browser.run("(() => {%s\nreturn %s;})()" % (script, expression))
        finally:
            browser.close()

    def event(self, text, event="peer_closed", level="info", second=0, minute=0):
        return {"event": event, "level": level, "text": text,
                "time": "2026-01-01T10:%02d:%02d.000Z" % (minute, second)}

    def folded(self, *events):
        """The event, the count and the last text of each group."""
        return self.js("fold(%s).map(g => [g.events[0].event, g.events.length, "
                       "detailOf(g.events[0].fields)])" % json.dumps(events))

    def test_values(self):
        self.assertEqual(self.js(
            "[count(0), count(99999), count(1234567), bytes(0), bytes(1536), bytes(5e9), rate(null), "
            "rate(0.25), rate(1500), seconds(0.000012), seconds(0.0053), seconds(0.5), seconds(12), "
            "age(1234), age(59000), age(61000), age(3700000), age(90000000)]"),
            ["0", "99,999", "1.2M", "0 B", "1.5 KiB", "4.7 GiB", "–", "0.3", "1,500", "12 µs", "5.3 ms",
             "500 ms", "12 s", "1.2 s", "59 s", "1m 01s", "1h 01m", "1d 01h"])

    def test_quantiles(self):
        buckets = "[{le: 1, count: %d}, {le: 2, count: %d}, {le: 4, count: %d}, {le: null, count: %d}]"
        now, before = buckets % (10, 20, 20, 11), buckets % (10, 10, 10, 10)
        self.assertEqual(self.js("[.25, .5, .9, 1].map(q => +quantile(%s, %s, q).toFixed(3))" % (now, before)),
                         [1.525, 2.1, 3.78, 4])
        self.assertEqual(self.js("quantile(%s, %s, .5)" % (now, now)), None)

    def test_scales(self):
        self.assertEqual(self.js("[[0], [3], [399, 5], [41], [90001]].map(v => "
                                 "linearScale(v, 2).ticks)"),
                         [[0, 1, 2], [0, 2, 4], [0, 200, 400], [0, 30, 60], [0, 50000, 100000]])
        # one of 7 s among many of 100 us: a decade has the height of every other
        self.assertEqual(self.js("(s => [s.ticks.map(seconds), [1e-4, 1e-3, 7].map(v => "
                                 "+s.at(v).toFixed(2))])(logScale([1e-4, 2e-4, 7]))"),
                         [["100 µs", "1.0 ms", "10 ms", "100 ms", "1.0 s", "10 s"], [0, 0.2, 0.97]])
        self.assertEqual(self.js("logScale([]).ticks.map(seconds)"), ["10 µs", "100 µs", "1.0 ms"])

    def test_events_have_units_and_no_escapes(self):
        self.assertEqual(self.folded(self.event(
            'proxy=p side=backend peer=7 address=tcp://[::1]:5 reason=io_error age_ms=61000 '
            'messages_in=1234 bytes_in=1048576 bytes_out=0 poisoned=yes rerouted=0 outstanding=3 '
            'silent_ms=2500 pid=123456 memory_bytes=2048 detail="a \\"b\\" \\\\x41 K\\xc3\\xb6ln\\x0a\\x0aend" '
            'routing_id=-')),
            [["peer_closed", 1, "#7 · tcp://[::1]:5 · reason io_error · connected for 1m 01s · "
              "messages in 1,234 · read 1.0 MiB · a message was cut (poisoned) · unanswered 3 · "
              "silent for 2.5 s · pid 123456 · memory 2.0 KiB · a \"b\" \\x41 Köln end"]])
        # an event that was cut in the middle of a value
        self.assertEqual(self.folded(self.event('detail="to be contin')),
                         [["peer_closed", 1, "to be contin"]])

    def test_repeated_events_are_folded(self):
        ready = [self.event("proxy=p side=frontend peer=%d address=tcp://a:%d type=REQ" % (i, i),
                            "peer_ready", second=i) for i in range(5)]
        other = [self.event("proxy=q side=frontend peer=9 address=tcp://b:1 type=REQ", "peer_ready"),
                 self.event("proxy=p side=frontend peer=8 address=tcp://b:2 reason=send_timeout",
                            level="warning", second=2),
                 self.event("proxy=p side=frontend peer=8 address=tcp://b:2 reason=peer_closed",
                            second=3)]
        mixed = other[:1] + ready[:3] + other[1:] + ready[3:]
        self.assertEqual([g[:2] for g in self.folded(*mixed)],
                         [["peer_ready", 5], ["peer_closed", 1], ["peer_closed", 1], ["peer_ready", 1]])
        self.assertEqual(self.folded(*mixed)[0][2], "#4 · tcp://a:4 · type REQ")
        # after a pause it is news again
        late = self.event(ready[0]["text"], "peer_ready", minute=5)
        self.assertEqual([g[1] for g in self.folded(*ready, late)], [1, 5])
        self.assertEqual(self.folded(), [])


class InBrowser(PageCase):
    def browse(self, admin, width=1280, height=900, **kw):
        # closed before the daemon is stopped, and before its log is checked
        browser = Browser()
        self.addCleanup(self.end, browser)
        browser.size(width, height, **kw)
        browser.open(admin.where.replace("tcp:", "http:") + "/")
        self.refreshed(browser)
        return browser

    @staticmethod
    def end(browser):
        browser.close()
        assert not browser.complaints, browser.complaints

    @staticmethod
    def refreshed(browser):
        """Wait until two more answers of the daemon are shown."""
        at = int(browser.run("document.documentElement.dataset.asked || 0"))
        browser.wait("document.documentElement.dataset.asked >= %d" % (at + 2))

    @staticmethod
    def tile(name, proxy="default"):
        """An expression: the text of a tile, \"\" when it is not shown."""
        return "([...document.querySelectorAll('[data-proxy=%s] .tile')].filter(t => !t.hidden && " \
               "t.querySelector('dt').textContent === '%s').map(t => t.innerText)[0] || '')" % (
                   proxy, name)

    def fill(self, d, client):
        """Send small requests over a Unix socket, one by one, until the worker takes no more."""
        for i in range(2000):
            client.send_message([b"", b"s" * 500])
            if d.wait_stats(lambda s: s.backend["received"] == i + 1).backend["queued"]:
                return
        self.fail("the worker's socket never filled up")

    def test_load_and_a_stalled_worker(self):
        there = self.temp_dir()
        d, admin = self.start(backend={
            "bind": "ipc://%s/w" % there, "connect": "ipc://%s/nobody" % there,
            "send_timeout": "10s", "send_buffer": "4096", "heartbeat_interval": "0",
            "reconnect_min": "1m", "reconnect_max": "1m"})
        browser = self.browse(admin)
        self.assertEqual(browser.text("#state"), "▲ not ready")
        self.assertIn("no backend peer is ready", browser.text("#now"))
        self.assertIn("do they connect to this backend?", browser.text("#now"))
        self.worker(d, endpoint=d.backend)
        hostile = self.client(d, identity=HOSTILE)
        self.fill(d, hostile)
        d.wait_event("peer_stalled", side="backend")
        browser.wait("[...document.querySelectorAll('#peers tbody tr')].some(r => "
                     "/▲\\sstalled/.test(r.cells[0].innerText) && "
                     "r.cells[2].innerText.startsWith('backend'))")
        browser.wait("document.querySelector('#events').innerText.includes('peer stalled')")
        browser.wait(self.tile("Workers ready") + ".includes('1 stalled')")
        browser.wait("document.querySelector('#peers tbody tr').className === 'warn'")

        self.echo(d.backend, kind=zmq.DEALER)
        browser.wait("document.querySelector('#state').innerText === '● ready'")
        stop = threading.Event()
        load = threading.Thread(target=self.load, args=(d.frontend, stop), daemon=True)
        load.start()
        try:
            for chart in (1, 2):     # two lines of the first chart: requests, replies
                browser.wait("+document.querySelector('.proxy .legend li:nth-child(%d) .number')"
                             ".innerText.replace(',', '') > 0" % chart)
            browser.wait("/[µm]s/.test(%s)" % self.tile("Time in the broker"))
            browser.wait("/L/.test(document.querySelector('.proxy .area path.c0').getAttribute('d'))")
            browser.wait("[...document.querySelectorAll('#peers tbody tr')].some(r => "
                         "parseFloat(r.cells[7].innerText) > 0)")
        finally:
            stop.set()
            load.join(DEADLINE)

        odd = self.worker(d, endpoint=d.backend)
        for _ in range(3):
            odd.send_message([b"nobody", b"", b"lost"])
        browser.wait(self.tile("Dropped") + ".includes('3 unroutable')")
        stats = d.sync()
        browser.wait(self.tile("Requests/s") + ".includes('%s in all')" %
                     format(stats.backend["received"], ","))

        rows = browser.text("#peers tbody")
        self.assertIn(HOSTILE.decode(), rows)
        self.assertEqual(browser.run("document.querySelectorAll('main img, #peers b').length"), 0)
        self.assertNotIn("broken-into", browser.run("document.title"))
        self.assertRegex(rows, r"↻\sreconnecting\s+next attempt in \d+ s, at \d\d:\d\d:\d\d")
        self.assertIn("ipc://%s/nobody" % there, rows)
        self.assertIn("peer ready", browser.text("#events"))

    def load(self, endpoint, stop):
        s = self.ctx.socket(zmq.DEALER)
        s.setsockopt(zmq.LINGER, 0)
        s.setsockopt(zmq.RCVTIMEO, 1000)
        s.connect(endpoint)
        try:
            while not stop.is_set():
                for _ in range(20):
                    s.send_multipart([b"", b"load"])
                for _ in range(20):
                    s.recv_multipart()
        except zmq.Again:
            pass                     # the stalled worker's requests are not answered
        finally:
            s.close(0)

    def test_a_crowd_is_paged_filtered_sorted_and_updated_in_place(self):
        d, admin = self.start()
        for i in range(CROWD):
            self.client(d, identity=b"device-%04d" % i)
        self.client(d, identity=b"\xff\x01").send_message([b"", b"one"])
        browser = self.browse(admin)
        browser.wait("document.querySelector('#peers-pager span').innerText === '1–20 of %d'" % (CROWD + 1))
        names = "[...document.querySelectorAll('#peers tbody td:nth-child(2) div:first-child')]" \
                ".map(e => e.innerText)"
        self.assertEqual(browser.run(names + ".length"), 20)
        # selection, input and scroll position survive refreshes, and so do the rows
        browser.run("document.querySelectorAll('#peers th button')[1].click()")
        self.assertEqual(browser.run(names)[:2], ["0xff01", "device-0000"])
        browser.run("document.querySelectorAll('#peers th button')[1].click()")
        self.assertEqual(browser.run(names)[:2], ["device-%04d" % (CROWD - i) for i in (1, 2)])
        self.assertEqual(browser.run(
            "document.querySelector('#peers th[aria-sort]').getAttribute('aria-sort')"), "descending")
        browser.run("document.querySelector('#peers-pager button:last-child').click()")
        browser.run("window.scrollTo(0, 500); window.kept = "
                    "[...document.querySelectorAll('#peers tbody tr, #events tbody tr')]; 0")
        before = browser.run(names)
        self.refreshed(browser)
        self.refreshed(browser)
        self.assertEqual(browser.run(names), before)
        self.assertEqual(before[0], "device-%04d" % (CROWD - 21))
        self.assertTrue(browser.run("kept.every(r => r.isConnected)"))
        self.assertEqual(browser.run("window.scrollY"), 500)
        browser.run("(() => { const f = document.querySelector('#filter'); f.value = 'DEVICE-0123'; "
                    "f.dispatchEvent(new Event('input')); })()")
        self.assertEqual(browser.run(names), ["device-0123"])
        self.refreshed(browser)
        self.assertEqual(browser.run(names), ["device-0123"])
        # new peers are one line, and the single events are a click away
        browser.run("document.querySelector('nav a[href=\"#events-card\"]').click()")
        top = browser.run("document.querySelector('#events').getBoundingClientRect().top")
        self.assertTrue(0 < top < 900, top)
        self.assertIn("× 4", browser.text("#events"))
        self.assertLess(browser.run("document.querySelectorAll('#events tbody tr').length"), 14)
        self.assertTrue(browser.run("document.querySelector('#peers-pager').hidden"))

    def test_which_broker_and_what_is_wrong(self):
        d, admin = self.start(backend={"redeliver": "yes", "answer_timeout": "300ms",
                                       "silent_after": "0"})
        host = socket.gethostname()
        browser = self.browse(admin)
        places = "[...document.querySelectorAll('.tile')].map(t => [t.querySelector('dt')" \
                 ".innerText, t.offsetLeft, t.offsetTop].join())"
        self.assertEqual(browser.run("document.title"), "▲ 1 on %s – Bulkhead" % host)
        self.assertEqual(browser.text("#who"), "on " + host)
        before = browser.run(places)
        self.assertGreater(len(before), 12)
        hanging = self.worker(d, endpoint=d.backend)
        self.ready(d, "backend")
        self.client(d, identity=b"c").send_message([b"", b"one"])
        hanging.recv_message()
        d.wait_event("worker_suspect")
        self.echo(d.backend)
        browser.wait("document.querySelector('#now').className === 'bar bad'")
        browser.wait("document.querySelector('#now .who').innerText !== ''")
        bar = browser.text("#now")
        self.assertIn("✖ proxy default: 1 worker is suspect (past answer_timeout)", bar)
        self.assertIn("check its process", bar)
        self.assertIn("#1 tcp://", bar)
        self.assertEqual(browser.run("document.querySelector('#state').innerText"), "● ready")
        browser.wait(self.tile("Workers ready") + ".match(/^Workers ready\\n+1\\n+1 suspect$/)")
        first = "document.querySelector('#peers tbody tr')"
        self.assertEqual(browser.run(first + ".className"), "bad")
        self.assertIn("suspect", browser.run(first + ".innerText"))
        # it links to the peer; and no tile was added, removed or moved
        self.assertEqual(browser.run(places), before)
        browser.run("document.querySelector('#now .who button').click()")
        self.assertEqual(browser.run("document.querySelectorAll('#peers tbody tr').length"), 1)
        hanging.close()
        browser.wait("document.querySelector('#now').className === 'bar good'")
        browser.wait("document.title === 'on %s – Bulkhead'" % host)
        self.assertEqual(browser.run(places), before)

    def test_more_troubles_than_are_listed_are_counted(self):
        _, admin = self.start(proxies=35)
        browser = self.browse(admin)
        browser.wait("document.querySelector('#all-troubles').innerText === 'Show all 35'")
        self.assertEqual(browser.run("document.querySelectorAll('#troubles li').length"), 33)
        self.assertIn("and 3 more", browser.run("document.querySelector('#troubles').textContent"))

    def test_several_troubles_take_no_more_room(self):
        _, admin = self.start(proxies=5)
        browser = self.browse(admin)
        browser.wait("document.querySelector('#all-troubles').innerText === 'Show all 5'")
        height = browser.run("document.querySelector('#now').offsetHeight")
        browser.run("document.querySelector('#all-troubles').click()")
        self.assertEqual(browser.run("[...document.querySelectorAll('#troubles li')].filter("
                                     "l => l.offsetHeight > 0).length"), 5)
        self.assertGreater(browser.run("document.querySelector('#now').offsetHeight"), height)
        browser.run("document.querySelector('#all-troubles').click()")
        self.assertEqual(browser.run("document.querySelector('#now').offsetHeight"), height)

    def test_charts_go_back_to_before_the_page_and_over_a_hidden_tab(self):
        d, admin = self.start()
        self.echo(d.backend)
        self.ready(d, "backend")
        admin.wait(lambda: admin.api("history"), lambda h: h["times"])
        client = self.client(d, identity=b"c")
        client.send_message([b"", b"x"])
        client.recv_message()
        admin.wait(lambda: admin.api("history"),
                   lambda h: h["proxies"] and sum(h["proxies"][0]["requests"]) == 1)
        browser = self.browse(admin)
        rows = "past.rows.get('default')"
        self.assertEqual(browser.run(rows + ".filter(r => r.requests > 0).length"), 1)
        browser.run("(() => { Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
                    " document.dispatchEvent(new Event('visibilitychange')); })()")
        last = admin.api("history")["times"][-1]
        client.send_message([b"", b"y"])
        client.recv_message()
        admin.wait(lambda: admin.api("history/%d" % last), lambda h: len(h["times"]) >= 2)
        browser.run("(() => { delete document.hidden; "
                    "document.dispatchEvent(new Event('visibilitychange')); })()")
        self.refreshed(browser)
        browser.wait(rows + ".filter(r => r.requests > 0).length === 2 || document.hidden")
        times = browser.run(rows + ".map(r => r.time)")
        kept = [t / 1000 for t in admin.api("history")["times"]]
        self.assertEqual(times, kept[1:len(times) + 1])
        # an admin process that was restarted has no history yet
        browser.run("takeHistory({kept_ms: 900000, times: [], lengths_ms: [], proxies: []})")
        self.assertGreaterEqual(browser.run(rows + ".length"), len(times))
        # the lines of requests and replies coincide: a band, and dashes over it
        self.assertEqual(browser.run("[0, 1].map(i => getComputedStyle(document.querySelector("
                                     "'.proxy .area path.c' + i)).strokeDasharray !== 'none')"),
                         [False, True])
        self.assertEqual(browser.run("[0, 1].map(i => parseFloat(getComputedStyle(document."
                                     "querySelector('.proxy .area path.c' + i)).strokeWidth) > 3)"),
                         [True, False])
        # axes have units
        ticks = "[...document.querySelectorAll('.proxy figure:nth-child(%d) .ticks span')].map(s => s.innerText)"
        self.assertTrue(all(t.endswith("/s") for t in browser.run(ticks % 1)))
        self.assertTrue(all(t.endswith(" msg") for t in browser.run(ticks % 2)))
        self.assertRegex(" ".join(browser.run(ticks % 3)), r"µs.* (µs|ms|s)$")
        self.assertEqual(browser.run("[...document.querySelectorAll('.proxy .times')]"
                                     ".map(t => t.lastChild.innerText)"), ["now"] * 4)

    def test_a_frozen_view_asks_for_nothing(self):
        d, admin = self.start()
        browser = self.browse(admin)
        self.assertEqual(browser.text("#freeze"), "Freeze view")
        browser.run("document.querySelector('#freeze').click()")
        browser.wait("!busy")
        asked = browser.run("asked")
        self.client(d, identity=b"late")
        self.ready(d, "frontend")
        browser.run("tick()")
        self.assertEqual(browser.run("asked"), asked)
        self.assertNotIn("late", browser.text("#peers"))
        self.assertIn("frozen at", browser.text("#fresh"))
        browser.run("document.querySelector('#freeze').click()")
        browser.wait("document.querySelector('#peers').innerText.includes('late')")
        self.assertEqual(browser.text("#freeze"), "Freeze view")

    def test_a_daemon_that_does_not_answer(self):
        d, admin = self.start()
        browser = self.browse(admin)
        self.assertTrue(browser.run("document.querySelector('#alert').hidden"))
        d.send_signal(signal.SIGSTOP)
        try:
            browser.wait("!document.querySelector('#alert').hidden")
            self.assertRegex(browser.text("#alert"), "The daemon has not answered for .* s: "
                             "the message loop has not responded for a second")
            self.assertEqual(browser.text("#state"), "no answer")
            # the tab shows it, too; and the alert hides neither the broker's name nor its state
            self.assertEqual(browser.run("document.title"),
                             "✖ no answer on %s – Bulkhead" % socket.gethostname())
            for scrolled in (0, 300):
                browser.run("window.scrollTo(0, %d)" % scrolled)
                self.assertEqual(browser.run(HIDDEN), [])
        finally:
            d.send_signal(signal.SIGCONT)
        browser.wait("document.querySelector('#alert').hidden")
        browser.wait("document.querySelector('#state').innerText === '▲ not ready'")
        browser.wait("document.title === '▲ 1 on %s – Bulkhead'" % socket.gethostname())
        browser.complaints = [c for c in browser.complaints if "503" not in c]

    def test_what_tiles_say_fits(self):
        _, admin = self.start()
        browser = self.browse(admin)
        for width in (360, 700, 1280, 1600, 1800, 1920):
            browser.size(width, 900, mobile=width == 360)
            self.refreshed(browser)
            self.assertEqual(browser.run("""(() => {
                const put = (name, what) => proxies.get("default").tiles.put(name, "539 ms", what);
                for (const name of ["Time in the broker", "Answer time"]) put(name, "p50, p99 10.5 s");
                put("Workers ready", "3 suspect, 12 stalled, 7 silent");
                put("Dropped", "12.3k queue_full, 1,234 malformed");
                return [...document.querySelectorAll(".tile dd")].filter(e =>
                    e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight + 1).map(e => e.innerText);
            })()"""), [], width)

    def test_a_phone(self):
        d, admin = self.start()
        self.client(d, identity=b"x" * 255)
        browser = self.browse(admin, 360, 740, mobile=True)
        browser.wait("document.querySelectorAll('#peers tbody tr').length === 1")
        self.assertEqual(browser.run("innerWidth"), 360)
        self.assertEqual(browser.run("document.documentElement.scrollWidth"), 360)
        # no horizontal scrolling is needed, and each number is below its name
        self.assertEqual(browser.run("[...document.querySelectorAll('.scroll')].filter("
                                     "e => e.scrollWidth > e.clientWidth).length"), 0)
        self.assertEqual(browser.run("getComputedStyle(document.querySelector('#peers td.n'), "
                                     "'::before').content"), '"Unanswered"')
        browser.run("(() => { const s = document.querySelector('#sort'); s.value = '1'; "
                    "s.dispatchEvent(new Event('input')); })()")
        self.assertEqual(browser.run("view.sort"), 1)
        small = browser.run("[...document.querySelectorAll('body *')].filter(e => e.innerText && "
                            "parseFloat(getComputedStyle(e).fontSize) < 10).length")
        self.assertEqual(small, 0)

    def test_contrast_by_day_and_by_night(self):
        """Each colour of text on each of its backgrounds: 4.5 to 1, as WCAG AA requires."""
        _, admin = self.start()
        browser = self.browse(admin)
        pairs = [(t, "card") for t in ("text", "muted", "green", "orange", "red", "blue")] + \
            [("text", g) for g in ("bg", "hover", "good", "warn", "bad", "calm")] + \
            [("muted", "bg"), ("muted", "hover"), ("blue", "bg"), ("green", "good"), ("orange", "warn"),
             ("red", "bad"), ("card", "red")]
        grounds = set()
        for dark in (False, True):
            browser.size(1280, 900, dark=dark)
            colours = {}
            for name in {n for p in pairs for n in p}:
                value = browser.run("getComputedStyle(document.documentElement)"
                                    ".getPropertyValue('--%s').trim()" % name)
                colours[name] = luminance(value)
            grounds.add(colours["bg"] < 0.2)
            for front, back in pairs:
                a, b = sorted((colours[front], colours[back]))
                self.assertGreaterEqual((b + 0.05) / (a + 0.05), 4.5, (front, back, dark))
        self.assertEqual(grounds, {False, True})


def luminance(text):
    """The channels of #rgb or #rrggbb."""
    digits = text[1:] if len(text) == 7 else "".join(c + c for c in text[1:])
    parts = [int(digits[i:i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


if __name__ == "__main__":
    unittest.main()
