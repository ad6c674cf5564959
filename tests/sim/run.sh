#!/bin/sh
# SPDX-License-Identifier: MIT
# The seeds of `make check`: those that a soak found once, then SIM_SEEDS others (default 2000).
set -eu
srcdir=${srcdir:-.}
while read -r seed what; do
	case $seed in
	'' | '#'*) continue ;;
	esac
	echo "seed $seed: $what"
	tests/sim/sim --seed "$seed"
done <"$srcdir/tests/sim/found"
exec tests/sim/sim --seeds "${SIM_SEEDS:-2000}"
