#!/bin/sh
# SPDX-License-Identifier: MIT
# The scripts that a newcomer runs first, as far as possible without installing or building: the
# logs that scripts/test counts, the output of a step and of install-deps, quickstart's file.
set -eu
top=$(cd "${top_srcdir:-$(dirname "$0")/..}" && pwd)
daemon=$(realpath "${BULKHEAD:-./bulkhead}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

complain() {
	echo "$1" >&2
	bad=1
}

# same WHAT: the files got and want
same() {
	diff -u "$work/want" "$work/got" >&2 || complain "$1"
}

# --- tally: single tests, counted and named -----------------------------------

logs=$work/build/test
mkdir -p "$logs/tests/unit" "$logs/tests/wire" "$logs/tests/integration"
echo 'CHECK: FAILED: of configure, and no test' >"$logs/config.log"
echo 'FAILED (failures=9)' >"$logs/test-suite.log"
cat >"$logs/tests/unit/test_x.log" <<'LOG'
Running suite(s): x
60%: Checks: 5, Failures: 1, Errors: 1
../../tests/unit/test_x.c:42:F:core:two_and_two:0: Assertion '2 + 2 == 5' failed
../../tests/unit/test_x.c:50:E:core:each:3: (after this point) Received signal 11
FAIL tests/unit/test_x (exit status: 1)
LOG
cat >"$logs/tests/wire/run.log" <<'LOG'
======================================================================
FAIL: test_y (test_a.Class.test_y) (i=3)
What the test is for: FAIL: nothing (at all)
ERROR: test_z (test_a.Class)
Ran 10 tests in 1.2s

FAILED (failures=1, errors=1, skipped=2)
FAIL tests/wire/run (exit status: 1)
LOG
cat >"$logs/tests/integration/run.log" <<'LOG'
== test_a
Ran 4 tests in 0.500s

OK (skipped=1)

Ran 4 tests in 1 modules
OK
PASS tests/integration/run (exit status: 0)
LOG
printf 'Segmentation fault\nFAIL tests/crash (exit status: 139)\n' >"$logs/tests/crash.log"
printf 'SKIP: nothing to do\nSKIP tests/none (exit status: 77)\n' >"$logs/tests/none.log"
printf '%s\n' 'CHECK: one' 'CHECK: OK two' 'CHECK: FAILED: mutant three lives' 'VERDICT: OK all' \
	'FAIL tests/mutants (exit status: 1)' >"$logs/tests/mutants.log"
printf '%s\n' '== tests/unit/test_q' '50%: Checks: 2, Failures: 0, Errors: 1' \
	'../tests/unit/test_q.c:1:E:a:b:0: gone' '== wire quick' 'ERROR: setUpClass (test_b.Class)' \
	'Ran 2 tests in 0.1s' 'FAILED (errors=1)' 'CHECK: FAILED: 2 of these parts under memcheck' \
	>"$logs/memcheck.log"
cat >"$work/want" <<'WANT'
17 9 4
tests/unit/test_q: b
wire: test_b.Class.setUpClass
wire: 2 of these parts under memcheck
tests/crash (exit status: 139)
tests/mutants: mutant three lives
tests/unit/test_x: two_and_two
tests/unit/test_x: each (3)
tests/wire/run: test_a.Class.test_y (i=3)
tests/wire/run: test_a.Class.test_z
WANT
"$top/scripts/tally" "$logs" >"$work/got"
same "tally counts or names other tests"

printf '50%%: Checks: 2, Failures: 1, Errors: 0\n' >"$work/nameless.log"
printf '%s\n' '1 1 0' 'nameless: 1 that left no name' >"$work/want"
"$top/scripts/tally" "$work/nameless.log" >"$work/got"
same "a failure without a name is not told"
mkdir "$work/empty"
echo '0 0 0' >"$work/want"
"$top/scripts/tally" "$work/empty" >"$work/got"
same "no logs are something else than nothing"

# --- steps: numbered; a failure shows the log's end; escapes on terminals only-

cat >"$work/steps" <<STEPS
. "$top/scripts/steps.sh"
steps_begin 5 "$work/steps.d"
step first 60 echo quiet
step second 60 sh -c 'echo loud; exit 3' || echo "status \$?"
steps_left_out 2
step fifth 60 sh -c 'exit 0'
steps_table
STEPS
cat >"$work/want" <<'WANT'
[1/5] first ...
[1/5] first T, T in all: ok
[2/5] second ...
loud
[2/5] second T, T in all: FAILED
status 3
[5/5] fifth ...
[5/5] fifth T, T in all: ok
 first T ok
 second T FAILED
 fifth T ok
 together T
WANT
sh "$work/steps" 2>&1 | sed 's/[0-9]*:[0-9][0-9]/T/g; s/  */ /g' >"$work/got"
same "steps show something else"

# stopped STATUS SIGNAL: with all that the step started
cat >"$work/steps" <<STEPS
. "$top/scripts/steps.sh"
steps_begin 1 "$work/steps.d"
step long 60 sh -c 'echo \$\$ >"$work/pid.new"; mv "$work/pid.new" "$work/pid"; exec sleep 50'
STEPS
sh "$work/steps" >"$work/got" 2>&1 &
stopped=$! status=0
tries=0
while [ ! -e "$work/pid" ] && [ "$tries" -lt 300 ]; do
	sleep 0.1
	tries=$((tries + 1))
done
kill "$stopped"
wait "$stopped" || status=$?
[ "$status" = 143 ] || complain "a stopped step ends with status $status"
! kill -0 "$(cat "$work/pid")" 2>/dev/null || complain "a stopped step goes on"

# --- install-deps: what it says, with programs of ours in apt's place ---------

tools=$work/bin
mkdir "$tools"
for tool in sh env dirname date mktemp rm cat fold sed grep tail mkdir sleep tr cut timeout awk; do
	ln -s "$(command -v "$tool")" "$tools/$tool"
done
printf '#!/bin/sh\nexit 1\n' >"$tools/dpkg-query"
cat >"$tools/apt-get" <<APT
#!/bin/sh
echo "\$@" >>"$work/apt"
case " \$* " in
*" --assume-no "*) echo "0 upgraded, 3 newly installed."; echo "Need to get 12.3 MB of archives."; exit 1 ;;
*" install "*) [ ! -e "$work/broken" ] || { echo "E: no network"; exit 100; } ;;
esac
APT
printf '#!/bin/sh\necho 1000\n' >"$tools/id"
chmod +x "$tools"/dpkg-query "$tools"/apt-get "$tools"/id
deps() {
	PATH=$tools sh "$top/scripts/install-deps" build >"$work/got" 2>&1
}
! deps || complain "install-deps needs no root"
grep -q '^apt-get update && apt-get install -y --no-install-recommends gcc .* libsodium-dev$' "$work/got" ||
	complain "without root and sudo there is no command to paste"
[ ! -e "$work/apt" ] || complain "apt-get is run without root"
printf '#!/bin/sh\necho 0\n' >"$tools/id"
deps || complain "install-deps fails for root"
awk '/^Need to get 12.3 MB/ { said = NR } /^Installing/ { done = NR } END { exit !(said && said < done) }' \
	"$work/got" || complain "what is downloaded is not told before"
tail -n 1 "$work/apt" | grep -q ' install -y .* gcc ' || complain "nothing is installed"
: >"$work/broken"
! deps || complain "install-deps takes a failure for success"
grep -q 'E: no network' "$work/got" || complain "why apt-get failed is not told"

# --- scripts/test: what it ends with, in a clone and with a make of ours ------

clone=$work/clone
mkdir -p "$clone/scripts"
cp "$top/scripts/test" "$top/scripts/steps.sh" "$top/scripts/tally" "$top/scripts/install-deps" "$clone/scripts"
printf '#!/bin/sh\nexit 0\n' >"$clone/autogen.sh"
printf '#!/bin/sh\nexit 0\n' >"$clone/configure"
printf '#!/bin/sh\nprintf installed\n' >"$tools/dpkg-query"
cat >"$tools/make" <<'MAKE'
#!/bin/sh
case " $* " in
*' check-side-by-side '*)
	mkdir -p tests/unit tests/wire
	printf '%s\n' 'Ran 2 tests in 0.1s' 'OK (skipped=1)' 'SKIPPED: no IPv6 here: test_b' >tests/wire/run.log
	case $PWD in
	*/test) printf '%s\n' '50%: Checks: 2, Failures: 1, Errors: 0' 'a.c:1:F:c:sums:0: no' >tests/unit/test_a.log
		exit 2 ;;
	*) echo '100%: Checks: 2, Failures: 0, Errors: 0' >tests/unit/test_a.log ;;
	esac ;;
*' analyze '*) mkdir -p analyze; echo 'CHECK: OK shellcheck' >analyze/shellcheck.log ;;
*' chaos '*) echo 'CHECK: OK calm' ;;
*' check-systemd '*) echo 'SKIPPED: systemd: not here' ;;
*' check-package '*) echo 'died early'; exit 1 ;;
*' bench '*) exit 1 ;;
esac
MAKE
chmod +x "$clone/autogen.sh" "$clone/configure" "$tools/make"
cat >"$work/want" <<'WANT'
SKIPPED: no IPv6 here: test_b
SKIPPED: systemd: not here
2 skipped: what they need is not here

failed:
 test-check: tests/unit/test_a: sums
 package: see build/logs/package.log
 bench: see build/logs/bench.log

7 passed, 3 failed
WANT
status=0
PATH=$tools:$PATH "$clone/scripts/test" >"$work/all" 2>&1 || status=$?
[ "$status" = 1 ] || complain "scripts/test ends with status $status when tests fail"
sed -n '/^SKIPPED/,$p' "$work/all" | sed 's/^  */ /' >"$work/got"
same "scripts/test ends with something else"
grep -q '^\[14/14\] dist .*: ok$' "$work/all" || complain "scripts/test counts its steps wrongly"

# --- analyze: findings fail; tools of other versions are named and left out ---

analyze() {
	mkdir -p "$work/analyze"
	# shellcheck disable=SC2016 # that shell's word
	printf '#!/bin/sh\n[ "$1" != -dumpversion ] || { echo %s; exit 0; }\nexit 1\n' "$1" >"$tools/gcc"
	printf '#!/bin/sh\necho "Debian LLVM version %s"\n' "$2" >"$tools/clang-tidy"
	printf '#!/bin/sh\necho "Cppcheck %s"\n' "$3" >"$tools/cppcheck"
	printf '#!/bin/sh\nexit 0\n' >"$tools/shellcheck"
	chmod +x "$tools"/gcc "$tools"/clang-tidy "$tools"/cppcheck "$tools"/shellcheck
	status=0
	(cd "$work/analyze" && PATH=$tools:$PATH ANALYZE_FLAGS=given "$top/scripts/analyze") >"$work/all" 2>&1 || status=$?
	sed -n 's/^\(CHECK: .*\): [0-9]* files$/\1/p; /skipped/p; /^SKIPPED/p' "$work/all" >"$work/got"
}
analyze 14 19.1.7 2.17.1
[ "$status" = 0 ] || complain "analyze fails where all tools are other versions"
cat >"$work/want" <<'WANT'
SKIPPED: cppcheck is version 2.17.1, and src/ is kept clean for 2.10 (ANALYZE_ANY=yes runs it)
CHECK: cppcheck, skipped: another version
SKIPPED: gcc -fanalyzer is version 14, and src/ is kept clean for 12 (ANALYZE_ANY=yes runs it)
CHECK: gcc -fanalyzer, skipped: another version
SKIPPED: clang-tidy is version 19.1.7, and src/ is kept clean for 14 (ANALYZE_ANY=yes runs it)
CHECK: clang-tidy, skipped: another version
CHECK: OK shellcheck
WANT
same "analyze says something else of other versions"
analyze 12 14.0.6 2.10
[ "$status" = 1 ] || complain "a finding of gcc passes"
printf 'CHECK: %s\n' 'OK cppcheck' 'FAILED gcc -fanalyzer' 'OK clang-tidy' 'OK shellcheck' >"$work/want"
same "analyze says something else of its own versions"

# --- quickstart's own file, and what needs nothing ----------------------------

for script in quickstart test; do
	"$top/scripts/$script" --help >"$work/got" || complain "$script --help fails"
	grep -q "^usage: scripts/$script" "$work/got" || complain "$script --help does not help"
done
status=0
"$top/scripts/test" --quick >/dev/null 2>&1 || status=$?
[ "$status" = 2 ] || complain "scripts/test takes any option"

# a path that configure does not accept is reported before anything is done
odd=$work/'a clone'
mkdir -p "$odd/scripts" "$odd/dollar\$"
cp "$top/scripts/quickstart" "$top/scripts/test" "$top/scripts/steps.sh" "$odd/scripts"
cp -r "$odd/scripts" "$odd/dollar\$"
mv "$odd/dollar\$" "$work"
for script in quickstart test; do
	status=0
	"$odd/scripts/$script" >"$work/got" 2>&1 || status=$?
	echo "$odd: this path has a blank; move the clone" >"$work/want"
	same "$script says something else of a blank"
	[ "$status" = 2 ] || complain "$script ends with status $status where a path has a blank"
	! "$work/dollar\$/scripts/$script" >"$work/got" 2>&1 || complain "$script takes a path with a dollar"
	grep -q 'move the clone$' "$work/got" || complain "$script does not tell of a dollar in a path"
done

# arguments: as the broker takes them, files named from where one is; in our clone, with a make that brings
# this daemon, which checks and dumps, but does not run
cp "$top/scripts/quickstart" "$clone/scripts"
cat >"$tools/make" <<MAKE
#!/bin/sh
echo "\$*" >"$work/made"
cat >"\$2/bulkhead" <<'BROKER'
#!/bin/sh
case " \$* " in
*" --test "* | *" -t "* | *" -V "* | *" --dump-config "*) exec "$daemon" "\$@" ;;
esac
echo "runs in \$PWD: \$*"
BROKER
chmod +x "\$2/bulkhead"
MAKE
# quick ARGUMENT...: returns its status; its output is in $work/all
quick() {
	status=0
	(cd "$work/elsewhere" && PATH=$tools:$PATH "$clone/scripts/quickstart" "$@") >"$work/all" 2>&1 || status=$?
}
mkdir "$work/elsewhere"
printf '[frontend]\nbind = ipc://%s/f\n[backend]\nbind = ipc://%s/b\n' "$work" "$work" >"$work/elsewhere/mini.ini"
file=$work/elsewhere/mini.ini
quick -vc mini.ini
tail -n 1 "$work/all" >"$work/got"
echo "runs in $work/elsewhere: -c $file -v" >"$work/want"
same "quickstart -vc FILE does something else"
grep -q "^$clone/build/quickstart/bulkhead-bench -f ipc://$work/f -b ipc://$work/b\$" "$work/all" ||
	complain "quickstart does not say how to put a load on it"
grep -qx -- "-C $clone/build/quickstart -j[0-9]* bulkhead bulkheadctl bulkhead-bench" "$work/made" ||
	complain "quickstart builds something else"
for arguments in '--conf mini.ini -t' '-tcmini.ini' '--test --config=mini.ini'; do
	# shellcheck disable=SC2086 # words
	quick $arguments
	tail -n 1 "$work/all" >"$work/got"
	echo "$file: the configuration is good" >"$work/want"
	same "quickstart $arguments says something else"
done
for arguments in '-t -c' '--foo' '-c mini.ini more' '-z' '--config'; do
	rm -f "$work/made"
	# shellcheck disable=SC2086 # words
	quick $arguments
	[ "$status" = 1 ] || complain "quickstart $arguments ends with status $status"
	[ ! -e "$work/made" ] || complain "quickstart $arguments builds before it complains"
	grep -q '^scripts/quickstart: ' "$work/all" || complain "quickstart $arguments: no word of what is wrong"
done
# every option of the broker is one of quickstart's
for option in $("$daemon" --help | sed -n 's/^  .*--\([a-z-]*\).*/\1/p'); do
	grep -Eq "^	-l .*[ ,]?$option(:|,| )" "$top/scripts/quickstart" || complain "quickstart does not know --$option"
done

sed -n '/^write_ini() {$/,/^}$/p' "$top/scripts/quickstart" >"$work/write"
cat >>"$work/write" <<'WRITE'
top=/a dir='/a b' control='/a b/control.sock'
write_ini
WRITE
sh "$work/write" >"$work/quickstart.ini"
"$daemon" -t -c "$work/quickstart.ini" >/dev/null || complain "quickstart's file is not good"
"$daemon" --dump-config -c "$work/quickstart.ini" | grep -E '^(control|http|bind) = .' >"$work/got"
printf '%s\n' 'control = /a b/control.sock' 'http = tcp://127.0.0.1:9464' 'bind = tcp://127.0.0.1:5555' \
	'bind = tcp://127.0.0.1:5556' >"$work/want"
same "quickstart's file says something else"
sed 's/^;\(redeliver\|answer_timeout\)/\1/' "$work/quickstart.ini" >"$work/two.ini"
"$daemon" -t -c "$work/two.ini" >/dev/null || complain "the two lines in quickstart's file are not good"

[ "$bad" = 0 ] || { echo "CHECK: FAILED: scripts"; exit 1; }
echo "CHECK: scripts"
