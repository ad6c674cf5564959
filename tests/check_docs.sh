#!/bin/sh
# SPDX-License-Identifier: MIT
# Every option is in bulkhead.ini(5) and in the sample file, with the default that the table has;
# every reason and every metric is in bulkhead(8), every reason in docs/operating.md too, every command
# of bulkheadctl and option of bulkhead-bench in its page and in the shells' completions; the pages are
# clean mdoc; the sample and --dump-config are valid, and no sample listens where other machines can
# connect. The files, tests and mutants named in documents for developers exist.
set -eu
top=${top_srcdir:-$(dirname "$0")/..}
daemon=${BULKHEAD:-./bulkhead}
page=$top/man/bulkhead.ini.5
sample=$top/conf/bulkhead.ini
bad=0

complain() {
	echo "$1" >&2
	bad=1
}

rows=$(./tests/list_options)
ini_options=$rows
[ -n "$rows" ] || complain "the table of options is empty"
reloading=$(sed -n '/^\.Sh RELOAD$/,/^\.Sh OPTIONS/p' "$page")
while read -r section name default reload; do
	grep -q "^\.It Ic $name\b" "$page" || complain "$name of [$section] is not in bulkhead.ini.5"
	grep -Eq "^[;#]?$name =" "$sample" || complain "$name of [$section] is not in conf/bulkhead.ini"
	[ "$reload" = at_once ] || echo "$reloading" | grep -Eq "^\.Ic (.* )?$name( |\$)" ||
		complain "$name: bulkhead.ini.5 does not say that a reload is not enough"
	[ "$default" = - ] || [ "$name" = max_connections ] || [ "$name" = control ] ||
		grep -Eq "^[;#]?$name = $default\$" "$sample" ||
		complain "$name: the sample does not show its default, $default"
done <<ROWS
$rows
ROWS

# the command's words, from the table; top is bulkheadctl's own
commands="$(sed -n 's/^\tX([a-z_]*, "\([a-z-]*\)", .*/\1/p' "$top/src/base/commands.h") top"
for command in $commands; do
	grep -q "^\.It Ic $command\b" "$top/man/bulkheadctl.1" || complain "$command is not in bulkheadctl.1"
	for file in bulkheadctl.bash _bulkheadctl; do
		grep -qw -e "$command" "$top/contrib/completion/$file" || complain "$command is not in $file"
	done
done

# the options of the test client, from the table; those for bench/ are completed nowhere
options=$(sed -n 's/^\t{"\([a-z]*\)", [a-z]*_argument, .*/\1/p' "$top/bench/options.c")
[ -n "$options" ] || complain "bulkhead-bench has no option"
for option in $options; do
	grep -Eq "^\.It Fl ([a-zA-Z] , )?-$option( |\$)" "$top/man/bulkhead-bench.1" ||
		complain "--$option is not in bulkhead-bench.1"
	case $option in bare | oneway | idle | paired | stall | spin | pid) continue ;; esac
	for file in bulkhead-bench.bash _bulkhead-bench; do
		grep -qw -e "--$option" "$top/contrib/completion/$file" || complain "--$option is not in $file"
	done
done
# shellcheck disable=SC2013 # words
for word in $(sed -n 's/^\tX([A-Z]*, \([a-z]*\), .*/\1/p' "$top/bench/peers.h"); do
	grep -q "^\.It Li $word\$" "$top/man/bulkhead-bench.1" || complain "$word is not in bulkhead-bench.1"
done
for file in bulkheadctl.bash bulkhead-bench.bash; do
	bash -n "$top/contrib/completion/$file" || complain "$file does not parse"
done

for metric in $(./tests/list_metrics); do
	grep -q "^\.It Li .*\b$metric\b" "$top/man/bulkhead.8" || complain "$metric is not in bulkhead.8"
done

# shellcheck disable=SC2013 # words
for reason in $(sed -n 's/^\tX([A-Z_]*, \([a-z_]*\)).*/\1/p' "$top/src/base/reasons.h"); do
	grep -q "^\.It Li $reason\$" "$top/man/bulkhead.8" || complain "$reason is not in bulkhead.8"
done

# reasons TABLE TITLE: each has a row under that title in docs/operating.md with advice
reasons() {
	rows=$(sed -n "/^#define $1_REASONS/,/^\$/s/^\tX([A-Z_]*, \([a-z_]*\)).*/\1/p" "$top/src/base/reasons.h")
	[ -n "$rows" ] || complain "there is no $1 reason"
	rows_told=$(sed -n "/^## $2\$/,/^## /p" "$top/docs/operating.md")
	for reason in $rows; do
		echo "$rows_told" | grep -q "^| \`$reason\` | [A-Z\`].* | [A-Z\`].* |\$" ||
			complain "$reason is not in docs/operating.md under '$2'"
	done
	# shellcheck disable=SC2016 # these are no commands
	for told in $(echo "$rows_told" | sed -n 's/^| `\([a-z_]*\)` .*/\1/p'); do
		echo "$rows" | grep -qx "$told" || complain "docs/operating.md tells of $told, which is no reason"
	done
}
reasons CLOSE "Why a connection closed"
reasons DROP "Why a message was dropped"

# README.md, SECURITY.md and docs/: each block of ini is a valid configuration, each
# `option = value` names an option, and each link leads to a file
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
blocks=0
for text in "$top"/README.md "$top"/SECURITY.md "$top"/docs/*.md; do
	rm -f "$work"/*
	awk -v dir="$work" '/^```ini$/ { file = dir "/" ++n ".ini"; next } /^```/ { file = ""; next }
		file { print > file }' "$text"
	for file in "$work"/*.ini; do
		[ -e "$file" ] || continue
		blocks=$((blocks + 1))
		"$daemon" -t -c "$file" >/dev/null || complain "$text: its ${file##*/} is not a good configuration"
	done
	# shellcheck disable=SC2013,SC2016 # words; these are no commands
	for name in $(grep -o '`[a-z_]* = [^`]*`' "$text" | sed 's/^`\([a-z_]*\) .*/\1/' | sort -u); do
		echo "$ini_options" | grep -q "^[a-z]* $name " || complain "$text: $name is not an option"
	done
	# shellcheck disable=SC2013 # words
	for link in $(grep -o '](\([^)#:]*\))' "$text" | sed 's/^](//; s/)$//'); do
		[ -e "$(dirname "$text")/$link" ] || complain "$text: there is no $link"
	done
done
[ "$blocks" -gt 0 ] || complain "README.md and docs/ show no configuration"

# README.md and docs/ are installed with the files that they name; both say how to make a package
installed=$(sed -n '/^dist_examples_/,/[^\\]$/p; /^dist_page_DATA/p' "$top/Makefile.am" "$top/systemd/local.am")
# shellcheck disable=SC2013 # words
for named in $(grep -oh 'examples/[a-z_-]*\.[a-z]*' "$top"/README.md "$top"/docs/*.md | sort -u) \
	$(sed -n 's/^!\[.*](\(.*\))$/\1/p' "$top/README.md"); do
	echo "$installed" | grep -qF "${named##*/}" || complain "$named is told of, but not installed"
done
for text in README.md docs/operating.md; do
	grep -q '^    scripts/install-deps build && sudo apt-get install build-essential debhelper check$' "$top/$text" ||
		complain "$text makes a package without what dpkg-buildpackage needs"
done

# names FILE PATTERN: the words of it that match, one per line
names() {
	grep -oE "(^|[^A-Za-z0-9_./-])$2" "$top/$1" | sed 's/^[^A-Za-z]//; s/[.:]*$//; s|/$||' | sort -u
}
named=0
for text in HACKING.md RELIABILITY.md SECURITY.md bench/README.md fuzz/README.md tests/README.md \
	tests/sim/README.md; do
	for name in $(names "$text" '(src|tests|bench|fuzz|scripts|examples|conf|contrib|man|docs|systemd)/[A-Za-z0-9_./-]+'); do
		named=$((named + 1))
		case $name in fuzz/run/* | fuzz/run | scripts/screenshot) continue ;; esac # made by a run; not in a tarball
		[ -e "$top/$name" ] || [ -e "$top/$name.c" ] || complain "$text: there is no $name"
	done
	for name in $(names "$text" '(base|zmtp|net|broker|admin|daemon|ctl)/[a-z0-9_]+\.[ch]'); do
		[ -e "$top/src/$name" ] || complain "$text: there is no src/$name"
	done
	for name in $(names "$text" 'test_[a-z_]+\.(c|py)'); do
		[ -n "$(find "$top/tests" -name "$name")" ] || complain "$text: there is no test $name"
	done
	# shellcheck disable=SC2016 # no commands
	for name in $(grep -oE 'mutants?[^|.;]*' "$top/$text" | grep -oE '`[a-z]+(-[a-z]+)+`' | tr -d '`'); do
		[ -e "$top/tests/sim/mutants/$name.patch" ] || complain "$text: there is no mutant $name"
	done
done
[ "$named" -gt 50 ] || complain "the documents for developers name only $named files"

if command -v mandoc >/dev/null; then
	for manual in "$top"/man/*; do
		mandoc -Tlint -Wwarning "$manual" >&2 || complain "$manual: mandoc finds fault"
	done
else
	complain "mandoc is missing (Debian: mandoc)"
fi

for file in "$top"/conf/*.ini; do
	"$daemon" -t -c "$file" >/dev/null || complain "$file is not a good configuration"
	! "$daemon" --dump-config -c "$file" | grep -E '^(bind|http) = tcp://' | grep -v '//127\.0\.0\.1:' >&2 ||
		complain "$file: used unchanged, it opens a port to a network"
done
! grep '^ListenStream=' "$top/systemd/bulkhead.socket" | grep -v '=127\.0\.0\.1:' >&2 ||
	complain "bulkhead.socket: used unchanged, it opens a port to a network"

[ "$bad" = 0 ] || { echo "CHECK: FAILED: documentation"; exit 1; }
echo "CHECK: documentation"
