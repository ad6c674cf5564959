"""The status page: what is served, and what people see of it in a browser."""

import base64
import hashlib
import re
import signal
import threading
import unittest

import zmq

from admin import Admin
from browser import Browser
from harness import DEADLINE
from zmqcase import ZmqCase

HOSTILE = b"<img src=x onerror=\"document.title='broken into'\"><b>&amp;"
CROWD = 400


class PageCase(ZmqCase):
    def start(self, **kw):
        broker = dict({"http": "tcp://127.0.0.1:*"}, **kw.pop("broker", {}))
        d = self.daemon(broker=broker, **kw)
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
        # nothing else is asked of anybody: no attribute that acts, no address but its own
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


class InBrowser(PageCase):
    def browse(self, admin, width=1280, height=900, **kw):
        # closed before the daemon is stopped, and before it is looked at for complaints
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
        """Two more answers of the daemon are shown."""
        at = int(browser.run("document.documentElement.dataset.asked || 0"))
        browser.wait("document.documentElement.dataset.asked >= %d" % (at + 2))

    @staticmethod
    def tile(name, proxy="default"):
        """An expression: the text of a tile, \"\" when it is not shown."""
        return "([...document.querySelectorAll('[data-proxy=%s] .tile')].filter(t => !t.hidden && " \
               "t.querySelector('dt').textContent === '%s').map(t => t.innerText)[0] || '')" % (
                   proxy, name)

    def fill(self, d, client):
        """Until the one worker takes no more: small requests over a Unix socket, one at a time."""
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
        self.assertIn("no backend peer is ready", browser.text("#missing"))
        self.worker(d, endpoint=d.backend)
        hostile = self.client(d, identity=HOSTILE)
        self.fill(d, hostile)
        d.wait_event("peer_stalled", side="backend")
        browser.wait("[...document.querySelectorAll('#peers tbody tr')].some(r => "
                     "/▲\\sstalled/.test(r.cells[0].innerText) && "
                     "r.cells[2].innerText.startsWith('backend'))")
        browser.wait("document.querySelector('#events').innerText.includes('peer stalled')")
        browser.wait(self.tile("Workers ready") + ".includes('1 stalled')")

        self.echo(d.backend, kind=zmq.DEALER)
        browser.wait("document.querySelector('#state').innerText === '● ready'")
        stop = threading.Event()
        load = threading.Thread(target=self.load, args=(d.frontend, stop), daemon=True)
        load.start()
        try:
            for chart in (1, 2):     # two lines of the first chart: requests, replies
                browser.wait("+document.querySelector('.proxy .legend li:nth-child(%d) .number')"
                             ".innerText.replace(',', '') > 0" % chart)
            browser.wait("/[µm]s/.test(%s)" % self.tile("Median time"))
            browser.wait("/L/.test(document.querySelector('.proxy .plot path.c0').getAttribute('d'))")
            browser.wait("[...document.querySelectorAll('#peers tbody tr')].some(r => "
                         "parseFloat(r.cells[7].innerText) > 0)")
        finally:
            stop.set()
            load.join(DEADLINE)

        odd = self.worker(d, endpoint=d.backend)
        for _ in range(3):
            odd.send_message([b"nobody", b"", b"lost"])
        browser.wait(self.tile("Dropped") + ".includes('3 unroutable')")
        browser.wait("document.querySelector('.proxy').innerText.includes('unroutable → frontend')")
        stats = d.sync()
        browser.wait(self.tile("Requests/s") + ".includes('%s in all')" %
                     format(stats.backend["received"], ","))

        rows = browser.text("#peers tbody")
        self.assertIn(HOSTILE.decode(), rows)
        self.assertEqual(browser.run("document.querySelectorAll('main img, #peers b').length"), 0)
        self.assertNotIn("broken into", browser.run("document.title"))
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
            pass                     # what the stalled worker has is not answered
        finally:
            s.close(0)

    def test_a_crowd_is_paged_filtered_sorted_and_updated_in_place(self):
        d, admin = self.start()
        for i in range(CROWD):
            self.client(d, identity=b"device-%04d" % i)
        self.client(d, identity=b"\xff\x01").send_message([b"", b"one"])
        browser = self.browse(admin)
        browser.wait("document.querySelector('#range').innerText === '1–50 of %d'" % (CROWD + 1))
        names = "[...document.querySelectorAll('#peers tbody td:nth-child(2) div:first-child')]" \
                ".map(e => e.innerText)"
        self.assertEqual(browser.run(names + ".length"), 50)
        # what was clicked, typed and scrolled stays through refreshes, and so do the rows
        browser.run("document.querySelectorAll('#peers th button')[1].click()")
        self.assertEqual(browser.run(names)[:2], ["0xff01", "device-0000"])
        browser.run("document.querySelectorAll('#peers th button')[1].click()")
        self.assertEqual(browser.run(names)[:2], ["device-%04d" % (CROWD - i) for i in (1, 2)])
        self.assertEqual(browser.run(
            "document.querySelector('#peers th[aria-sort]').getAttribute('aria-sort')"), "descending")
        browser.run("document.querySelector('#next').click()")
        browser.run("window.scrollTo(0, 500); window.kept = "
                    "[...document.querySelectorAll('#peers tbody tr, #events tbody tr')]; 0")
        before = browser.run(names)
        self.refreshed(browser)
        self.refreshed(browser)
        self.assertEqual(browser.run(names), before)
        self.assertEqual(before[0], "device-%04d" % (CROWD - 51))
        self.assertTrue(browser.run("kept.every(r => r.isConnected)"))
        self.assertEqual(browser.run("window.scrollY"), 500)
        browser.run("(() => { const f = document.querySelector('#filter'); f.value = 'DEVICE-0123'; "
                    "f.dispatchEvent(new Event('input')); })()")
        self.assertEqual(browser.run(names), ["device-0123"])
        self.refreshed(browser)
        self.assertEqual(browser.run(names), ["device-0123"])
        self.assertTrue(browser.run("document.querySelector('#pager').hidden"))

    def test_a_daemon_that_does_not_answer(self):
        d, admin = self.start()
        browser = self.browse(admin)
        self.assertTrue(browser.run("document.querySelector('#alert').hidden"))
        d.send_signal(signal.SIGSTOP)
        try:
            browser.wait("!document.querySelector('#alert').hidden")
            self.assertRegex(browser.text("#alert"), "The daemon has not answered for .* s: no answer")
            self.assertEqual(browser.text("#state"), "no answer")
        finally:
            d.send_signal(signal.SIGCONT)
        browser.wait("document.querySelector('#alert').hidden")
        browser.wait("document.querySelector('#state').innerText === '▲ not ready'")

    def test_a_phone(self):
        d, admin = self.start()
        self.client(d, identity=b"x" * 255)
        browser = self.browse(admin, 360, 740, mobile=True)
        browser.wait("document.querySelectorAll('#peers tbody tr').length === 1")
        self.assertEqual(browser.run("document.documentElement.scrollWidth"), 360)
        small = browser.run("[...document.querySelectorAll('body *')].filter(e => e.innerText && "
                            "parseFloat(getComputedStyle(e).fontSize) < 10).length")
        self.assertEqual(small, 0)

    def test_contrast_by_day_and_by_night(self):
        """Each colour of text on each ground that it is put on: 4.5 to 1, as WCAG AA has it."""
        _, admin = self.start()
        browser = self.browse(admin)
        pairs = [(t, "card") for t in ("text", "muted", "green", "orange", "red", "blue")] + \
            [("text", g) for g in ("bg", "hover", "good", "warn", "bad", "calm")] + \
            [("muted", "bg"), ("muted", "hover"), ("green", "good"), ("orange", "warn"),
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
    """Of #rgb or #rrggbb."""
    digits = text[1:] if len(text) == 7 else "".join(c + c for c in text[1:])
    parts = [int(digits[i:i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


if __name__ == "__main__":
    unittest.main()
