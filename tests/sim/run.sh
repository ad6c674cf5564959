#!/bin/sh
# SPDX-License-Identifier: MIT
# The seeds of `make check`: those that a soak found once, then SIM_SEEDS others (default 2000), in two
# halves side by side.
set -eu
srcdir=${srcdir:-.}
while read -r seed what; do
	case $seed in
	'' | '#'*) continue ;;
	esac
	echo "seed $seed: $what"
	tests/sim/sim --seed "$seed"
done <"$srcdir/tests/sim/found"
seeds=${SIM_SEEDS:-2000} status=0
half=$((seeds / 2))
tests/sim/sim --seeds "$half" >tests/sim/half.out 2>&1 &
tests/sim/sim --seeds $((seeds - half)) --from $((half + 1)) || status=$?
wait $! || status=$?
cat tests/sim/half.out
rm -f tests/sim/half.out
exit "$status"
