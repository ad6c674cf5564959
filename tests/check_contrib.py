#!/usr/bin/python3
"""What lies in contrib/ for Prometheus and Grafana: every metric it names is in bulkhead(8), every
alert in docs/operating.md; and, by promtool, every expression parses and every alert fires when it
should, and not before."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

TOP = os.environ.get("top_srcdir") or os.path.join(os.path.dirname(os.path.realpath(__file__)), "..")
RULES = os.path.join(TOP, "contrib/prometheus/bulkhead.rules.yml")
LIMIT = 60      # seconds, for promtool

complaints = []


def complain(text):
    complaints.append(text)


def read(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as f:
        return f.read()


def documented():
    """The metrics of bulkhead(8), and of those the histograms."""
    names, histograms, current = set(), set(), []
    for line in read("man/bulkhead.8").splitlines():
        if line.startswith(".It Li "):
            current = re.findall(r"\b(?:bulkhead|process)_\w+", line)
            names.update(current)
        elif re.search(r"\bhistogram\b", line):
            histograms.update(current)
    return names, histograms


def series(names, histograms):
    """What a scrape has of these metrics."""
    return (names - histograms) | {h + tail for h in histograms
                                   for tail in ("_bucket", "_sum", "_count")}


def expressions(panels, path):
    for panel in panels:
        yield from expressions(panel.get("panels", []), path)
        where = "%s: %s" % (path, panel["title"])
        if panel["type"] != "row" and not panel.get("targets"):
            complain(where + ": a panel that shows nothing")
        for target in panel.get("targets", []):
            yield where, target["expr"]


def check_metrics(where, text, known):
    # labels are no metrics; what is in quotes is none either
    bare = re.sub(r'"[^"]*"', "", text)
    for name in re.findall(r"\b(?:bulkhead|process)_\w+", bare):
        if name not in known:
            complain("%s: %s is not in bulkhead.8" % (where, name))


def dashboard(known):
    try:
        board = json.loads(read("contrib/grafana/bulkhead.json"))
    except ValueError as e:
        complain("dashboard: no JSON: %s" % e)
        return []
    found = list(expressions(board["panels"], "dashboard"))
    found += [("dashboard: annotation " + a["name"], a["expr"]) for a in board["annotations"]["list"]]
    for variable in board["templating"]["list"]:
        check_metrics("dashboard: variable " + variable["name"], str(variable["query"]), known)
    for where, expr in found:
        check_metrics(where, expr, known)
    ids = [p["id"] for p in board["panels"]]
    if len(set(ids)) != len(ids):
        complain("dashboard: two panels with one id")
    if len(found) < 10:
        complain("dashboard: only %d expressions found" % len(found))
    return found


def check_alerts():
    text = read("contrib/prometheus/bulkhead.rules.yml")
    alerts = re.findall(r"^ *- alert: (\w+)$", text, re.M)
    if len(alerts) < 5:
        complain("only %d alerts found" % len(alerts))
    manual = read("docs/operating.md")
    for alert in alerts:
        if "| `%s` |" % alert not in manual:
            complain("%s is not in docs/operating.md" % alert)
    return text, alerts


def promtool(*args):
    done = subprocess.run(["promtool", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=LIMIT, check=False)
    if done.returncode != 0:
        complain("promtool %s:\n%s" % (" ".join(args), done.stdout.decode("utf-8", "replace")))


def ask_promtool(exprs, alerts):
    promtool("check", "rules", RULES)
    with tempfile.TemporaryDirectory() as work:
        # a dashboard's expressions as rules; JSON is YAML
        rules = [{"record": "expr:%d" % i, "expr": re.sub(r"\$__\w+", "5m", expr).replace(
            "$instance", ".*").replace("$proxy", ".*")} for i, (_, expr) in enumerate(exprs)]
        path = os.path.join(work, "dashboard.yml")
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, f)
        promtool("check", "rules", path)
        text = read("tests/prometheus_rules.yml")
        path = os.path.join(work, "test.yml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace("[RULES]", json.dumps([os.path.abspath(RULES)])).replace(
                "ALERTS_IN_ALL", str(len(alerts))))
        promtool("test", "rules", path)


def main():
    names, histograms = documented()
    if len(names) < 20 or not histograms:
        complain("bulkhead.8: only %d metrics found, %d of them histograms" % (
            len(names), len(histograms)))
    known = series(names, histograms)
    exprs = dashboard(known)
    text, alerts = check_alerts()
    # comments may speak of anything
    check_metrics("rules", re.sub(r"(?m)^\s*#.*$", "", text), known)
    if shutil.which("promtool"):
        ask_promtool(exprs, alerts)
    else:
        print("SKIPPED: promtool is missing (Debian: prometheus); names were checked all the same")
    for text in complaints:
        print(text, file=sys.stderr)
    print("CHECK: %scontrib" % ("FAILED: " if complaints else ""))
    return 1 if complaints else 0


sys.exit(main())
