#!/bin/sh
# SPDX-License-Identifier: MIT
# Every mutant must be found, most of them within the 2,000 seeds that `make check` runs; otherwise
# the simulation proves nothing. MUTANTS=quick: without the slow ones.
set -u
slow=${srcdir:-.}/tests/sim/mutants/slow
seeds=${SIM_SEEDS:-10000} bad=0

for m in tests/sim/mutants/*.c; do
	name=$(basename "$m" .c)
	if [ "${MUTANTS:-all}" = quick ] && grep -q "^$name " "$slow"; then
		echo "mutant $name is left out: it takes long"
		continue
	fi
	if out=$("tests/sim/mutants/$name" --quiet --seeds "$seeds" 2>&1); then
		echo "CHECK: FAILED: mutant $name lives after $seeds seeds"
		bad=1
		continue
	fi
	found=$(printf '%s\n' "$out" | grep -a -m1 -e '^VIOLATION' -e '^CRASH' -e 'Assertion' -e '^==.*ERROR:' -e 'runtime error')
	if [ -z "$found" ]; then
		printf '%s\n' "$out" | tail -n 5
		echo "CHECK: FAILED: mutant $name ends without a violation"
		bad=1
		continue
	fi
	echo "CHECK: mutant $name: $found"
done
exit $bad
