#!/bin/sh
# SPDX-License-Identifier: MIT
# Every C file conforms to .clang-format, and no line of it is over 100 columns, except in tables
# (between "clang-format off" and "on") and in strings of tests. Every source file names its licence.
# Section banners are 80 columns wide.
set -eu
top=$(cd "${top_srcdir:-$(dirname "$0")/..}" && pwd)
version=14
bad=0
cd "$top"

complain() {
	echo "$1" >&2
	bad=1
}

# In a checkout, the files that git tracks: not those that were built there.
files() {
	git ls-files -- "$@" 2>/dev/null | grep . || for pattern; do
		find src tests bench fuzz examples scripts -name "$pattern" ! -path '*/build/*'
	done
}

c_files=$(files '*.c' '*.h')
for f in $c_files; do
	expand -t 8 "$f" | awk -v f="$f" -v tests="${f##tests/*}" '
		/clang-format off/ { off = 1 }
		/clang-format on/ { off = 0 }
		length($0) > 100 && !off && !(tests == "" && /"/) {
			print f ":" NR ": over 100 columns: " $0
		}'
done >"${TMPDIR:-/tmp}/check_format.$$"
[ ! -s "${TMPDIR:-/tmp}/check_format.$$" ] || { cat "${TMPDIR:-/tmp}/check_format.$$" >&2; bad=1; }
rm -f "${TMPDIR:-/tmp}/check_format.$$"

for f in $c_files $(files '*.py' '*.sh' '*.js' '*.css'); do
	awk -v f="$f" '/^(\/\*|#) -+ / && length($0) != 80 { print f ":" NR ": not 80 columns wide: " $0; bad = 1 }
		END { exit bad }' "$f" >&2 || bad=1
done

for f in $c_files $(files '*.py' '*.sh' '*.js' '*.css'); do
	head -n 2 "$f" | grep -q 'SPDX-License-Identifier: MIT' || complain "$f does not name its licence"
done

formatter=
for f in "clang-format-$version" clang-format; do
	case $($f --version 2>/dev/null) in
	*"version $version."*) formatter=$f && break ;;
	esac
done
if [ -n "$formatter" ]; then
	# shellcheck disable=SC2086
	$formatter --dry-run --Werror $c_files || complain "clang-format -i FILE puts it right"
elif [ "$bad" = 0 ]; then
	echo "SKIP: clang-format $version is missing (other versions format some lines otherwise)"
	exit 77
fi
exit $bad
