# SPDX-License-Identifier: MIT
"""A folder with Debian and systemd in it, booted by systemd-nspawn in a network of its own.

The folder is made once by debootstrap and kept outside the tree ($BULKHEAD_MACHINES, by default
/var/cache/bulkhead-machines); what a run writes goes to a volatile layer above it.
"""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

CACHE = os.environ.get("BULKHEAD_MACHINES", "/var/cache/bulkhead-machines")
NEEDED = ("debootstrap", "systemd-nspawn", "unshare", "nsenter", "ip", "ldd", "dpkg")
BOOT = 90           # seconds, to come up or to go down
DEADLINE = 60       # for anything that is waited for
PAUSE = threading.Event()


class Cannot(Exception):
    """This machine cannot run the test; the text says why."""


def skip(name, why):
    """The end of a test that cannot run here."""
    print("SKIPPED: %s: %s" % (name, why))
    sys.exit(77)


def own_network(name, *more):
    """Execute this script again in a private network, where the ports of the sample file are free.
    MORE: options of unshare."""
    if os.environ.get("BULKHEAD_OWN_NETWORK") == str(os.getppid()):
        if subprocess.call(["ip", "link", "set", "lo", "up"]) != 0:
            skip(name, "the loopback interface cannot be set up")
        return
    environ = dict(os.environ, BULKHEAD_OWN_NETWORK=str(os.getpid()))
    done = subprocess.run(["unshare", "--net", *more, "--", sys.executable] + sys.argv, env=environ,
                          check=False)
    sys.exit(done.returncode)


def run(*argv, check=True, timeout=DEADLINE, **kw):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=timeout, check=False, **kw)
    text = done.stdout.decode("utf-8", "replace")
    if check and done.returncode != 0:
        raise AssertionError("%s: status %d\n%s" % (" ".join(argv), done.returncode, text))
    return text if check else (done.returncode, text)


def wait_for(predicate, what, seconds=DEADLINE):
    """The first true value of predicate()."""
    until = time.monotonic() + seconds
    while True:
        got = predicate()
        if got:
            return got
        if time.monotonic() > until:
            raise AssertionError("%s did not come within %d s" % (what, seconds))
        PAUSE.wait(0.02)


def release():
    with open("/etc/os-release", encoding="utf-8") as f:
        fields = dict(line.strip().split("=", 1) for line in f if "=" in line)
    if fields.get("ID", "").strip('"') != "debian" or "VERSION_CODENAME" not in fields:
        raise Cannot("the folder is made of this machine's own release, which is no Debian")
    return fields["VERSION_CODENAME"].strip('"')


def libraries(binary):
    """The packages that the daemon's libraries come from."""
    found = set()
    for line in run("ldd", binary).splitlines():
        path = line.split("=>")[1].split()[0] if "=> /" in line else None
        for name in {path, path and os.path.realpath(path), path and "/usr" + path} - {None}:
            status, text = run("dpkg", "-S", name, check=False)
            if status == 0:
                found.add(text.split(":")[0])
                break
    return sorted(found - {"libc6"})


def mirror():
    """The mirror of this machine's packages, by apt; or debootstrap's default."""
    status, text = run("apt-get", "indextargets", "--format", "$(SITE) $(ORIGIN) $(LABEL)",
                       check=False)
    sites = [line.split()[0] for line in text.splitlines() if line.endswith(" Debian Debian")]
    return sites[:1] if status == 0 else []


def need(*programs):
    """Root, and these programs."""
    if os.getuid() != 0:
        raise Cannot("it takes root to boot a folder")
    missing = [name for name in programs
               if shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin") is None]
    if missing:
        raise Cannot("not installed: " + " ".join(missing))


def base(binary):
    """The folder; made if there is none that fits."""
    need(*NEEDED)
    packages = ["systemd", "systemd-sysv"] + libraries(binary)
    folder = os.path.join(CACHE, "-".join([release()] + packages))
    os.makedirs(CACHE, mode=0o700, exist_ok=True)
    with open(folder + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.isdir(folder):
            return folder
        new = folder + ".new"
        shutil.rmtree(new, ignore_errors=True)
        print("debootstrap makes %s" % folder, flush=True)
        try:
            status, text = run("debootstrap", "--variant=minbase",
                               "--include=" + ",".join(packages), release(), new, *mirror(),
                               check=False, timeout=900)
        except subprocess.TimeoutExpired:
            status, text = 1, "it took longer than 15 minutes"
        if status != 0:
            shutil.rmtree(new, ignore_errors=True)
            raise Cannot("debootstrap failed:\n" + "\n".join(text.splitlines()[-5:]))
        os.rename(new, folder)
    return folder


class Machine:
    def __init__(self, folder, stage):
        self.dir = tempfile.mkdtemp(prefix="bulkhead-machine-")
        self.console = open(os.path.join(self.dir, "console"), "w+b")
        self.proc = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit",
             "--directory=" + folder, "--machine=bulkhead-test-%d" % os.getpid(),
             "--volatile=overlay", "--link-journal=no", "--console=pipe", "--resolv-conf=off",
             "--bind-ro=%s:/run/host/stage" % stage],
            stdin=subprocess.DEVNULL, stdout=self.console, stderr=subprocess.STDOUT)
        try:
            self.leader = wait_for(self._leader, "the machine's systemd", BOOT)
            wait_for(self._up, "the end of booting", BOOT)
        except AssertionError as e:
            text = self.console_text()
            self.kill()
            raise Cannot("%s; its console:\n%s" % (e, text)) from None

    def console_text(self):
        self.console.seek(0)
        return "\n".join(self.console.read().decode("utf-8", "replace").splitlines()[-20:])

    def _leader(self):
        if self.proc.poll() is not None:
            raise AssertionError("systemd-nspawn ended with status %d" % self.proc.returncode)
        path = "/proc/%d/task/%d/children" % (self.proc.pid, self.proc.pid)
        with open(path, encoding="ascii") as f:
            pids = f.read().split()
        # for a moment there is another child before it
        return next((int(pid) for pid in pids if self._is_first(pid)), None)

    @staticmethod
    def _is_first(pid):
        """Is it process 1 of its namespace, and already systemd?"""
        try:
            with open("/proc/%s/status" % pid, encoding="utf-8") as f:
                text = f.read()
        except OSError:
            return False
        return re.search(r"^NSpid:.*\s1$", text, re.M) and text.startswith("Name:\tsystemd\n")

    def _up(self):
        if self.proc.poll() is not None:
            raise AssertionError("systemd-nspawn ended with status %d" % self.proc.returncode)
        return self.run("systemctl", "is-system-running", check=False)[1].strip() in (
            "running", "degraded")

    def run(self, *argv, **kw):
        """A command in the machine."""
        return run("nsenter", "--target", str(self.leader), "--all", "--root", "--wd", "--",
                   "/usr/bin/env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
                   "/sbin:/bin", "LC_ALL=C.UTF-8", *argv, **kw)

    def write(self, path, text):
        run("nsenter", "--target", str(self.leader), "--all", "--root", "--wd", "--",
            "/bin/sh", "-c", 'printf %s "$2" >"$1"', "sh", path, text)

    def close(self):
        """Power it off; kill it if that fails."""
        try:
            if self.proc.poll() is None:
                os.kill(self.leader, signal.SIGRTMIN + 4)
            self.proc.wait(BOOT)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        self.console.close()
        shutil.rmtree(self.dir, ignore_errors=True)
