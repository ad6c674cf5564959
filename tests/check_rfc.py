#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Each rule in tests/rfc.md names a test that exists and is run, or the reason for a deviation.
Prints how many rules are held, and how many are not. `check_rfc.py FILE` checks another file."""

import ast
import collections
import functools
import glob
import os
import re
import sys

TESTS = os.path.join(os.environ.get("top_srcdir") or
                     os.path.join(os.path.dirname(os.path.realpath(__file__)), ".."), "tests")
KEYWORDS = ("SHALL", "SHALL NOT", "MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "REQUIRED",
            "RECOMMENDED", "shall", "shall not", "must", "must not", "should", "should not")
NAMES = r"`[^`]+`(?:, `[^`]+`)*"
HELD = re.compile(NAMES)
NOT_HELD = re.compile(r"(deviates|not ours), because\s*(.*?)(?:: (%s))?" % NAMES)
VIOLATION = re.compile(r'\bviolation\(\s*((?:"(?:[^"\\]|\\.)*"\s*(?:PRI\w+\s*)?)+)')

# Wrong rows, each with a part of its complaint: they are checked first.
WRONG = (
    ("a | SHALL | b | `wire/test_session.py:Greeting.test_nothing`", "no test test_nothing"),
    ("a | SHALL | b | `wire/test_session.py:Nobody.test_versions`", "no class Nobody"),
    ("a | SHALL | b | `wire/test_session.py:Greeting`", "names no test"),
    ("a | SHALL | b | `wire/test_nothing.py:Greeting.test_versions`", "no file"),
    ("a | SHALL | b | `lib/zmtp.py:Peer.send`", "is not run"),
    ("a | SHALL | b | `unit/test_zmtp.c:nothing`", "no test nothing"),
    ("a | SHALL | b | `sim/peers.c:a text that is not there`", "no violation"),
    ("a | SHALL | b | `sim/mutants/nothing.patch`", "no file"),
    ("a | SHALL | b | `no_such_check.sh`", "no file"),
    ("a | SHALL | b | `lib/runner.py`", "is not run"),
    ("a | SHALL | b | ", "names no test"),
    ("a | SHALL | b | held somewhere", "names no test"),
    ("a | SHALL | b | deviates", "names no test"),
    ("a | SHALL | b | deviates, because ", "gives no reason"),
    ("a | SHALL | b | deviates, because so: `wire/test_session.py:Greeting.test_nothing`", "no test"),
    ("a | SHALL | b | not ours, because of `unit/test_zmtp.c:nothing`, and so on", "in the middle"),
    ("a | MAY | b | `unit/test_zmtp.c:commands`", "is no keyword"),
    ("a | SHALL | `unit/test_zmtp.c:commands`", "columns"),
)


class Wrong(Exception):
    pass


@functools.lru_cache(maxsize=None)
def read(name):
    try:
        with open(os.path.join(TESTS, name), encoding="utf-8") as f:
            return f.read()
    except OSError:
        raise Wrong("there is no file tests/%s" % name) from None


@functools.lru_cache(maxsize=None)
def makefiles():
    """The words of all local.am files, which name each program and script that is run."""
    words = set()
    for path in glob.glob(os.path.join(TESTS, "**", "local.am"), recursive=True):
        words.update(read(os.path.relpath(path, TESTS)).split())
    return words


def must_run(word, name):
    if word not in makefiles():
        raise Wrong("%s is not run: %s is in no local.am" % (name, word))


@functools.lru_cache(maxsize=None)
def classes(name):
    """Class -> (its tests, its bases), of a Python file."""
    return {node.name: ({f.name for f in node.body if isinstance(f, ast.FunctionDef)},
                        [b.id for b in node.bases if isinstance(b, ast.Name)])
            for node in ast.parse(read(name)).body if isinstance(node, ast.ClassDef)}


def has_test(name, cls, test):
    tests, bases = classes(name).get(cls, ((), ()))
    return test in tests or any(has_test(name, base, test) for base in bases)


def check_python(name, test):
    cls, _, test = test.partition(".")
    if not test.startswith("test"):
        raise Wrong("%s: that names no test: Class.test is wanted" % name)
    if cls not in classes(name):
        raise Wrong("%s has no class %s" % (name, cls))
    if not has_test(name, cls, test):
        raise Wrong("%s: %s has no test %s" % (name, cls, test))


def check_unit(name, test):
    text = read(name)
    if not re.search(r"^START_TEST\(%s\)$" % re.escape(test), text, re.M) or \
            not re.search(r"\btcase_add_(loop_)?test\(\s*tc,\s*%s\b" % re.escape(test), text):
        raise Wrong("%s has no test %s, or does not run it" % (name, test))


def check_violation(name, text):
    for found in VIOLATION.findall(read(name)):
        if text in "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', found)):
            return
    raise Wrong("%s reports no violation '%s'" % (name, text))


def check_name(what):
    name, _, test = what.partition(":")
    folder, _, file = name.rpartition("/")
    read(name)
    if folder == "sim/mutants":
        must_run(file[:-len(".patch")], name)
    elif not test:
        if not os.access(os.path.join(TESTS, name), os.X_OK) or "tests/" + name not in makefiles():
            raise Wrong("%s is not run" % name)
    elif folder == "sim":
        must_run("tests/" + name, name)
        check_violation(name, test)
    elif folder == "unit":
        must_run("tests/" + name[:-len(".c")], name)
        check_unit(name, test)
    else:
        must_run("tests/%s/run" % folder, name)
        check_python(name, test)


def check_row(line):
    """Returns held, deviates or not ours."""
    cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
    if len(cells) != 4:
        raise Wrong("the row has %d columns: section, keyword, rule, held by" % len(cells))
    if cells[1] not in KEYWORDS:
        raise Wrong("'%s' is no keyword of RFC 2119" % cells[1])
    kind, names = "held", cells[3]
    if not HELD.fullmatch(cells[3]):
        found = NOT_HELD.fullmatch(cells[3])
        if not found:
            raise Wrong("the row names no test, and does not say why")
        kind, reason, names = found.groups()
        if not reason:
            raise Wrong("the row gives no reason")
        if re.search(r"`[^`]*(\.(py|c|sh|patch)\b)[^`]*`", reason):
            raise Wrong("a test is named in the middle of a reason: write it after a colon, at the end")
    for name in re.findall("`([^`]+)`", names or ""):
        check_name(name)
    return kind


def check_itself():
    for row, words in WRONG:
        try:
            check_row("| %s |" % row)
        except Wrong as e:
            if words in str(e):
                continue
            yield "a wrong row has another complaint (%s): %s" % (e, row)
        else:
            yield "a wrong row has no complaint: %s" % row


def main(path):
    complaints = list(check_itself())
    counts, title = {}, None
    with open(path, encoding="utf-8") as f:
        lines = f.read().splitlines()
    for number, line in enumerate(lines, 1):
        heading = re.match(r"#+ (.*)", line)
        if heading:
            title = re.match(r"## (RFC \d+):", line)
            title = title[1] if title else None
            if title in counts:
                complaints.append("%d: a second table of %s" % (number, title))
            if title:
                counts[title] = collections.Counter()
        elif line.startswith("|") and not re.match(r"\|( Section \||---)", line):
            try:
                if not title:
                    raise Wrong("the row is below no heading '## RFC n:'")
                counts[title][check_row(line)] += 1
            except Wrong as e:
                complaints.append("%d: %s" % (number, e))
    for title, count in counts.items():
        if not count:
            complaints.append("%s has no rule" % title)
    if not counts:
        complaints.append("there is no table")
    for complaint in complaints:
        print("%s: %s" % (os.path.basename(path), complaint), file=sys.stderr)
    if complaints:
        print("CHECK: FAILED: rules of the RFCs")
        return 1
    said = "%d rules: %d held, %d deviate, %d not ours"
    counts["all"] = sum(counts.values(), collections.Counter())
    for title, c in counts.items():
        print("%s: " % title + said % (sum(c.values()), c["held"], c["deviates"], c["not ours"]))
    print("CHECK: rules of the RFCs")
    return 0


sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(TESTS, "rfc.md")))
