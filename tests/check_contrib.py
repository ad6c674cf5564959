#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""contrib/ for Prometheus and Grafana: every metric it names is in bulkhead(8), every
alert in docs/operating.md; and, by promtool, every expression parses and every alert fires when it
should, and not before. The files of contrib/container agree with each other and with the daemon."""

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
    """The values of these metrics in a scrape."""
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
    # labels and quoted strings are not metrics
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


# --- contrib/container --------------------------------------------------------

def ignored():
    """The lines that .dockerignore must have: what git ignores, in the syntax of that file."""
    yield ".git"
    for line in read(".gitignore").splitlines():
        if line and not line.startswith("#"):
            sign, path = ("!", line[1:]) if line.startswith("!") else ("", line)
            path = path.rstrip("/")
            yield sign + (path[1:] if path.startswith("/") else "**/" + path)


def binds(service):
    """The path in the tree and in the container of each file or folder that is mounted."""
    for volume in service["volumes"]:
        source, target = volume.split(":")[:2]
        if source.startswith("."):
            yield os.path.normpath(os.path.join("contrib/container", source)), target


def check_bulkhead(compose, containerfile):
    service, ini = compose["bulkhead"], read("contrib/container/bulkhead/bulkhead.ini")
    where = "compose.yaml: bulkhead: "
    if service["build"] != {"context": "../..", "dockerfile": "contrib/container/Containerfile"}:
        complain(where + "builds something else")
    ports = set(re.findall(r"^(?:bind|http) = tcp://\*:(\d+)$", ini, re.M))
    if len(ports) != 3:
        complain("contrib/container/bulkhead/bulkhead.ini: not three ports on all addresses")
    if ports != set(re.findall(r"\d+", re.search("^EXPOSE (.*)$", containerfile, re.M)[1])):
        complain("Containerfile: EXPOSE names other ports than bulkhead.ini")
    if {p.split(":")[2] for p in service["ports"]} != ports:
        complain(where + "publishes other ports than bulkhead.ini has")
    if ("contrib/container/bulkhead", "/etc/bulkhead") not in binds(service):
        complain(where + "its configuration is not mounted")
    if "\nhttp_hosts = bulkhead\n" not in ini:
        complain("bulkhead.ini: http_hosts has not the name that prometheus.yml asks for")
    drain = re.search(r"^;drain_timeout = (\d+)s$", read("conf/bulkhead.ini"), re.M)
    if int(service["stop_grace_period"].rstrip("s")) <= int(drain[1]):
        complain(where + "is killed before it has drained")


def check_monitoring(compose, load):
    prometheus, grafana = compose["prometheus"], compose["grafana"]
    config = load(read("contrib/container/prometheus.yml"))
    job = config["scrape_configs"][0]
    if job["job_name"] != "bulkhead" or job["static_configs"] != [{"targets": ["bulkhead:9464"]}]:
        complain("prometheus.yml asks somebody else, or the alert BulkheadDown goes by another name")
    seen = {target: source for source, target in binds(prometheus)}
    for rules in config["rule_files"]:
        if seen.get("/etc/prometheus/" + rules) != "contrib/prometheus/" + rules:
            complain("compose.yaml: prometheus: the rules in %s are not there" % rules)
    if seen.get("/etc/prometheus/prometheus.yml") != "contrib/container/prometheus.yml":
        complain("compose.yaml: prometheus: its configuration is not mounted")

    seen = {target: source for source, target in binds(grafana)}
    provisioning = {os.path.basename(os.path.dirname(target)): load(read(source))
                    for target, source in seen.items()
                    if target.startswith("/etc/grafana/provisioning/") and target.endswith(".yml")}
    source = provisioning["datasources"]["datasources"][0]
    if provisioning["datasources"]["apiVersion"] != 1 or (source["type"], source["url"]) != (
            "prometheus", "http://prometheus:9090") or not source["isDefault"]:
        complain("datasources.yml: not the Prometheus of compose.yaml")
    if source["jsonData"]["timeInterval"] != config["global"]["scrape_interval"]:
        complain("datasources.yml: timeInterval is not prometheus.yml's scrape_interval")
    provider = provisioning["dashboards"]["providers"][0]
    board = provider["options"]["path"] + "/bulkhead.json"
    if provisioning["dashboards"]["apiVersion"] != 1 or provider["type"] != "file":
        complain("dashboards.yml: no provider of files")
    if seen.get(board) != "contrib/grafana/bulkhead.json":
        complain("compose.yaml: grafana: no dashboard in %s" % provider["options"]["path"])
    if grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] != board:
        complain("compose.yaml: grafana: its home is another file than %s" % board)
    # a provisioned file prompts for nothing, unlike an imported one
    if "__inputs" in json.loads(read("contrib/grafana/bulkhead.json")):
        complain("dashboard: has __inputs, which nobody would fill in")


def check_container():
    have = [l for l in read(".dockerignore").splitlines() if not l.startswith("#")]
    # a tarball has no .gitignore, and nothing was built in it
    if os.path.exists(os.path.join(TOP, ".gitignore")) and have != list(ignored()):
        complain(".dockerignore: not what .gitignore has; it wants to be\n" + "\n".join(ignored()))
    containerfile = read("contrib/container/Containerfile")
    for path in re.findall(r"^COPY (?!\.|--)(.*) \S+$", containerfile, re.M):
        for name in path.split():
            if not os.path.exists(os.path.join(TOP, name)):
                complain("Containerfile: there is no %s" % name)
    try:
        import yaml
    except ImportError:
        print("SKIPPED: the files of contrib/container are not read: no module yaml (Debian: python3-yaml)")
        return
    compose = yaml.safe_load(read("contrib/container/compose.yaml"))["services"]
    if set(compose) != {"bulkhead", "prometheus", "grafana"}:
        complain("compose.yaml: other services")
    for name, service in compose.items():
        for source, _ in binds(service):
            if not os.path.exists(os.path.join(TOP, source)):
                complain("compose.yaml: %s: there is no %s" % (name, source))
        for port in service["ports"]:
            if not re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port):
                complain("compose.yaml: %s: %s is not this machine alone" % (name, port))
        if name != "bulkhead" and not re.search(r":v?\d+\.\d+\.\d+$", service["image"]):
            complain("compose.yaml: %s: an image without a version" % name)
    check_bulkhead(compose, containerfile)
    check_monitoring(compose, yaml.safe_load)


def main():
    names, histograms = documented()
    if len(names) < 20 or not histograms:
        complain("bulkhead.8: only %d metrics found, %d of them histograms" % (
            len(names), len(histograms)))
    known = series(names, histograms)
    exprs = dashboard(known)
    text, alerts = check_alerts()
    # comments may mention anything
    check_container()
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
