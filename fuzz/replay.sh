#!/bin/sh
# SPDX-License-Identifier: MIT
# Every checked-in input through its target; a line for each target.
set -u
top=${top_srcdir:-$(dirname "$0")/..}
bad=0
for program in $FUZZ_PROGRAMS; do
	name=${program#fuzz/fuzz_}
	count=$(find "$top/fuzz/corpus/$name" -type f | wc -l)
	if [ "$count" -gt 0 ] && "./$program" "$top/fuzz/corpus/$name"/*; then
		echo "CHECK: fuzz corpus of $name, $count inputs"
	else
		echo "CHECK: FAILED: fuzz corpus of $name"
		bad=1
	fi
done
exit $bad
