# SPDX-License-Identifier: MIT
"""The body of the `run` scripts: find the test_*.py beside them and run them.

    run [-v] [-l] [-j JOBS] [NAME ...]

A NAME picks the tests whose id (module.Class.test) contains it.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def stop(*_):
    # Runs atexit, which kills the daemons.
    sys.exit(143)


def parallel(script, modules, args):
    """Each module in a process of its own, `args.jobs` at a time."""
    waiting, running, bad, total = sorted(modules), {}, [], 0
    while waiting or running:
        while waiting and len(running) < args.jobs:
            name = waiting.pop(0)
            argv = [sys.executable, script, "--module", name] + (["-v"] if args.verbose else [])
            proc = subprocess.Popen(argv + args.names, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT)
            running[proc.pid] = (name, proc)
        name, proc = next(iter(running.values()))
        out = proc.communicate()[0].decode("utf-8", "replace")
        del running[proc.pid]
        print("== %s\n%s" % (name, out), flush=True)
        found = re.search(r"^Ran (\d+) test", out, re.M)
        total += int(found[1]) if found else 0
        if proc.returncode != 0:
            bad.append(name)
    print("Ran %d tests in %d modules" % (total, len(modules)))
    print("FAILED: " + " ".join(bad) if bad else "OK")
    return 1 if bad or not total else 0


def tell_skipped(result):
    """A line for each reason, which scripts/test shows at its end."""
    reasons = {}
    for test, reason in result.skipped:
        reasons.setdefault(reason, []).append(test.id())
    for reason, names in reasons.items():
        print("SKIPPED: %s: %s" % (reason, names[0] if len(names) == 1 else "%s and %d more" % (
            names[0], len(names) - 1)), flush=True)


def main(script):
    here = os.path.dirname(os.path.realpath(script))
    parser = argparse.ArgumentParser(prog=os.path.relpath(script), description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-v", "--verbose", action="store_true", help="name each test")
    parser.add_argument("-l", "--list", action="store_true", help="list the tests, run nothing")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="modules at the same time")
    parser.add_argument("--module", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()

    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    signal.signal(signal.SIGTERM, stop)
    import harness
    if not args.list and not os.access(harness.BINARY, os.X_OK):
        sys.exit("%s: no daemon at %s (name it in BULKHEAD)" % (parser.prog, harness.BINARY))
    os.environ["BULKHEAD"] = harness.BINARY

    loader = unittest.TestLoader()
    tests = list(flatten(loader.discover(here, pattern="test_*.py", top_level_dir=here)))
    if loader.errors:
        print("\n".join(loader.errors), file=sys.stderr)
        return 1
    if args.module:
        tests = [t for t in tests if t.id().split(".")[0] == args.module]
    if args.names:
        tests = [t for t in tests if any(n in t.id() for n in args.names)]
    if args.list:
        print("\n".join(t.id() for t in tests))
        return 0
    if not tests:
        sys.exit("%s: no test has that name" % parser.prog)
    if args.jobs > 1:
        return parallel(script, {t.id().split(".")[0] for t in tests}, args)
    result = unittest.TextTestRunner(verbosity=2 if args.verbose else 1).run(
        unittest.TestSuite(tests))
    tell_skipped(result)
    return 0 if result.wasSuccessful() else 1
