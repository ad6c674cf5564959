#!/bin/sh
# SPDX-License-Identifier: MIT
# `make install` into an empty DESTDIR: everything is there, the installed daemon runs, and a
# changed configuration survives a second install and an uninstall.
set -eu
dest=$(mktemp -d)
trap 'rm -rf "$dest"' EXIT
fail() {
	echo "$1" >&2
	echo "CHECK: FAILED: install"
	exit 1
}

# this is no sub-make: the jobserver is not ours
MAKEFLAGS="" ${MAKE:-make} -s install DESTDIR="$dest" >/dev/null
prefix=$dest$(sed -n 's/^prefix = //p' Makefile)
daemon=$(find "$dest" -name bulkhead -type f -perm -u+x | head -n 1)
[ -n "$daemon" ] || fail "the daemon is not installed"
"$daemon" -V | grep -q '^bulkhead [0-9]' || fail "the installed daemon does not run"
ctl=$(find "$dest" -name bulkheadctl -type f -perm -u+x | head -n 1)
[ -n "$ctl" ] || fail "bulkheadctl is not installed"
"$ctl" -V | grep -q '^bulkheadctl [0-9]' || fail "the installed bulkheadctl does not run"
bench=$(find "$dest" -name bulkhead-bench -type f -perm -u+x | head -n 1)
[ -n "$bench" ] || fail "bulkhead-bench is not installed"
"$bench" -V | grep -q '^bulkhead-bench [0-9]' || fail "the installed bulkhead-bench does not run"
for file in bulkhead-bench.1 _bulkhead-bench '*/completions/bulkhead-bench' '*/completions/bulkheadctl'; do
	[ -n "$(find "$dest" -name "$file" -o -path "$file")" ] || fail "$file is not installed"
done
for file in bulkhead.8 bulkhead.ini.5 bulkheadctl.1 bulkhead.ini _bulkheadctl; do
	[ -n "$(find "$dest" -name "$file")" ] || fail "$file is not installed"
done

# check_unit UNIT FILE: filled in, for the daemon and the FILE, and not exposed
check_unit() {
	[ -n "$1" ] || fail "a unit is not installed"
	if grep -n '@[a-z-]*@' "$1"; then fail "$1 is not filled in"; fi
	path=$(dirname "${daemon#"$dest"}")/bulkhead
	grep -q "^ExecStart=$path -c /.*/$2.ini --last-good %S/bulkhead/$2.last-good\$" "$1" ||
		fail "$1 starts another daemon"
	grep -q "^ExecReload=$path -t -c /.*/$2.ini\$" "$1" || fail "$1 does not check before a reload"
	if systemd-analyze --version >/dev/null 2>&1; then
		systemd-analyze security --offline=true --threshold=20 "$1" >"$dest/score" 2>&1 ||
			{ cat "$dest/score"; fail "$1 is exposed"; }
		grep 'Overall exposure' "$dest/score" || fail "systemd-analyze gave no score"
	fi
}

unit=$(find "$dest" -name bulkhead.service)
if [ -n "$unit" ]; then
	for file in '*/sysusers.d/bulkhead.conf' '*/tmpfiles.d/bulkhead.conf' bulkhead.socket; do
		[ -n "$(find "$dest" -path "$file" -o -name "$file")" ] || fail "$file is not installed"
	done
	check_unit "$unit" bulkhead
	check_unit "$(find "$dest" -name 'bulkhead@.service')" %i
fi

# the documents' examples, as printed there; a demonstration finds the installed daemon
examples=$(dirname "$(find "$dest" -name demo.py)")
for file in bulkhead.json bulkhead.rules.yml minimal.ini frozen_worker.py poison_guard.py reconnect.py; do
	[ -e "$examples/$file" ] || fail "$file is not installed as an example"
done
"$daemon" -t -c "$examples/minimal.ini" >/dev/null || fail "the installed minimal.ini is not good"
if /usr/bin/python3 -c 'import zmq' 2>/dev/null; then
	(cd "$dest" && unset BULKHEAD && PATH=$(dirname "$daemon"):$PATH "$examples/reconnect.py" >"$dest/said" 2>&1) ||
		{ cat "$dest/said"; fail "the installed reconnect.py fails"; }
	grep -q '^VERDICT: 100 of 100' "$dest/said" || fail "the installed reconnect.py says something else"
	[ ! -e "$examples/__pycache__" ] || fail "an example leaves files beside itself"
else
	echo "SKIPPED: no pyzmq for the installed examples"
fi

ini=$(find "$dest" -name bulkhead.ini -path '*/bulkhead/*' | head -n 1)
"$daemon" -t -c "$ini" >/dev/null || fail "the installed configuration is not good"
echo '# mine' >>"$ini"
MAKEFLAGS="" ${MAKE:-make} -s install DESTDIR="$dest" >/dev/null
grep -q '^# mine$' "$ini" || fail "a second install overwrote the configuration"
MAKEFLAGS="" ${MAKE:-make} -s uninstall DESTDIR="$dest" >/dev/null
grep -q '^# mine$' "$ini" || fail "uninstall removed a changed configuration"
[ ! -e "$daemon" ] || fail "uninstall left the daemon in $prefix"
echo "CHECK: install"
