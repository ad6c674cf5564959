# SPDX-License-Identifier: MIT
"""Files of Unix sockets: owners, users who may tamper with them, and two brokers that want one.

An adversary's actions between two system calls of the daemon are done by a library that is
preloaded before the C library's bind and connect.
"""

import fcntl
import grp
import os
import pwd
import shutil
import socket
import stat
import subprocess
import unittest

import harness
from harness import Case

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int is_ours(const struct sockaddr *addr)
{
	const char *path = getenv("SHIM_PATH");
	return path != NULL && addr->sa_family == AF_UNIX &&
		strcmp(((const struct sockaddr_un *)addr)->sun_path, path) == 0;
}

int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "bind");
	const char *victim = getenv("SHIM_VICTIM"), *path = getenv("SHIM_PATH");
	int r = real(fd, addr, len);
	char away[300];

	if (r == 0 && victim != NULL && is_ours(addr)) {
		snprintf(away, sizeof(away), "%s.away", path);
		rename(path, away);
		if (symlink(victim, path) != 0)
			abort();
	}
	return r;
}

int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
	int r = real(fd, addr, len);

	if (getenv("SHIM_SLOW") != NULL && is_ours(addr))
		usleep(150000);
	return r;
}
"""

ROOT = unittest.skipUnless(os.getuid() == 0, "only root can become somebody else")
NOBODY = pwd.getpwnam("nobody")


class SocketFile(Case):
    def setUp(self):
        self.dir = self.temp_dir()
        self.path = os.path.join(self.dir, "f")

    def shim(self):
        if shutil.which("cc") is None or harness.INSTRUMENTED:
            self.skipTest("no compiler, or a daemon that wants no other library loaded first")
        where = self.temp_dir()
        os.chmod(where, 0o755)
        with open(where + "/shim.c", "w", encoding="utf-8") as f:
            f.write(SHIM)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", where + "/shim.so", where + "/shim.c", "-ldl"],
                       check=True)
        return {"LD_PRELOAD": where + "/shim.so", "SHIM_PATH": self.path}

    def keys(self, **broker):
        return {"frontend": {"bind": "ipc://" + self.path}, "broker": broker}

    def served(self, d):
        self.exchange(self.client(d), self.worker(d))

    def owner(self, path=None):
        st = os.stat(path or self.path)
        return st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)

    def reload(self, d, **sections):
        mark = d.mark()
        os.chmod(d.dir, 0o755)                   # it is no longer root who reads it
        with open(d.config, "w", encoding="utf-8") as f:
            f.write(harness.make_ini(self.sections(**sections)))
        d.send_signal(harness.signal.SIGHUP)
        d.wait_event("reloaded", after=mark)
        self.assertEqual(d.find_events("retune_failed"), [])


@ROOT
class Owner(SocketFile):
    THEIRS = (NOBODY.pw_uid, NOBODY.pw_gid, 0o660)

    def test_in_their_directory(self):
        os.chown(self.dir, NOBODY.pw_uid, NOBODY.pw_gid)
        d = self.daemon(**self.keys(user="nobody"))
        self.assertEqual(self.owner(), self.THEIRS)
        self.served(d)
        d.stop()
        self.assertFalse(os.path.exists(self.path), "the file stayed behind a clean stop")

    def test_bound_by_a_reload(self):
        os.chown(self.dir, NOBODY.pw_uid, NOBODY.pw_gid)
        d = self.daemon(**self.keys(user="nobody"))
        self.reload(d, broker={"user": "nobody"}, frontend={
            "bind": ["ipc://" + self.path, "ipc://%s2" % self.path], "ipc_mode": "0666"})
        self.assertEqual(self.owner(self.path + "2"), self.THEIRS[:2] + (0o666,))
        self.assertEqual(self.owner(), self.THEIRS[:2] + (0o666,))

    def test_in_roots_directory(self):
        """The daemon's user cannot remove the socket: logged, and replaced at the next start."""
        os.chmod(self.dir, 0o755)
        for _ in range(2):
            d = self.daemon(**self.keys(user="nobody"))
            self.assertEqual(self.owner(), self.THEIRS)
            self.served(d)
            d.stop()
            self.assertTrue(d.find_events("socket_left", endpoint="ipc://" + self.path))

    def test_the_group_alone(self):
        group = grp.getgrgid(NOBODY.pw_gid).gr_name
        d = self.daemon(**self.keys(group=group))
        self.assertEqual(self.owner(), (0, NOBODY.pw_gid, 0o660))
        self.served(d)

    def test_a_changed_backlog_is_applied(self):
        os.chmod(self.dir, 0o755)
        d = self.daemon(broker={"user": "nobody"}, frontend={"bind": "ipc://" + self.path, "backlog": 2})
        self.assertEqual(self.backlog(d), 3)
        self.reload(d, broker={"user": "nobody"},
                    frontend={"bind": "ipc://" + self.path, "backlog": 20})
        self.assertEqual(self.backlog(d), 21)

    def backlog(self, d):
        """How many connections are possible while nobody accepts."""
        peers = []
        d.sync()
        d.send_signal(harness.signal.SIGSTOP)
        try:
            while True:
                s = self.closing(socket.socket(socket.AF_UNIX))
                s.setblocking(False)
                if s.connect_ex(self.path) != 0:
                    return len(peers)
                peers.append(s)
        finally:
            d.send_signal(harness.signal.SIGCONT)
            for s in peers:
                s.close()


@ROOT
class Adversary(SocketFile):
    """The daemon's future account replaces the socket with a link, right after bind."""

    def attack(self, *owners, mode=0o755, **broker):
        os.chmod(self.dir, mode)
        os.chown(self.dir, *owners)
        victim = os.path.join(self.temp_dir(), "secret")
        with open(victim, "w", encoding="utf-8") as f:
            f.write("secret")
        os.chmod(victim, 0o600)
        env = dict(self.shim(), SHIM_VICTIM=victim)
        d = harness.Daemon(self.sections(**self.keys(**broker)), env=env, wait=False)
        self.addCleanup(d.kill)
        with d.lock:
            d.lock.wait_for(lambda: d.eof or any(e["event"] == "started" for e in d.events),
                            harness.DEADLINE)
        self.assertEqual(self.owner(victim), (0, 0, 0o600))
        self.assertTrue(os.path.islink(self.path), "the attack did not happen")

    def test_in_its_directory(self):
        self.attack(NOBODY.pw_uid, NOBODY.pw_gid, user="nobody")

    def test_in_the_directory_of_a_third(self):
        self.attack(1, 1, user="nobody")

    def test_where_root_stays_root(self):
        self.attack(NOBODY.pw_uid, NOBODY.pw_gid)


class Two(SocketFile):
    def test_one_of_two_has_it(self):
        """Both find a stale file at the same time."""
        env = dict(self.shim(), SHIM_SLOW="1")
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(self.path)
            s.listen(1)
        both = []
        for _ in range(2):
            both.append(harness.Daemon(self.sections(**self.keys()), env=env, wait=False))
            self.addCleanup(both[-1].kill)
        for d in both:
            with d.lock:
                d.lock.wait_for(lambda d=d: d.eof or any(e["event"] == "started" for e in d.events),
                                harness.DEADLINE)
        started = [d for d in both if d.find_events("started")]
        self.assertEqual(len(started), 1)
        other = both[1 - both.index(started[0])]
        self.assertEqual(other.wait(), 2)
        self.assertIn("another process listens on it", other.log_tail())
        self.served(started[0])
        self.assertEqual(started[0].stop().frontend["sent"], 1)
        self.assertEqual(os.listdir(self.dir), [])

    def test_a_lock_that_nobody_gives_back(self):
        fd = os.open(self.dir, os.O_RDONLY)
        self.addCleanup(os.close, fd)
        fcntl.flock(fd, fcntl.LOCK_EX)
        d = harness.Daemon(self.sections(**self.keys()), wait=False)
        self.addCleanup(d.kill)
        self.assertEqual(d.wait(), 2)
        self.assertIn("another process keeps the directory locked", d.log_tail())
