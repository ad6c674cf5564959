#!/bin/sh
# SPDX-License-Identifier: MIT
# soak.sh SECONDS [FIRST_SEED]: run the simulation for that long, on new seeds, and print which
# lines of src/ it reached. Called by `make soak` in a build directory.
set -eu
seconds=$1
from=${2:-$(date +%s)000}
top=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(pwd)/soak

mkdir -p "$dir"
cd "$dir"
[ -f Makefile ] || "$top/configure" --quiet --enable-coverage --disable-hardening CFLAGS="-O1 -g" >/dev/null
make -s -j"$(nproc)" tests/sim/sim
find . -name '*.gcda' -exec rm -f {} +
echo "soak: $seconds seconds from seed $from"
status=0
tests/sim/sim --seconds "$seconds" --from "$from" || status=$?

echo "lines of src/ reached:"
find src -name '*.gcda' | sort | while read -r data; do
	gcov -n -o "$(dirname "$data")" "$data" 2>/dev/null
done | awk '/^File/ { file = substr($2, 2, length($2) - 2); sub(".*/src/", "src/", file) }
	/^Lines executed/ && file ~ /^src\/.*\.c$/ && !seen[file]++ {
		split($2, a, ":"); printf "  %7s of %5d  %s\n", a[2], $4, file
		lines += $4; reached += $4 * a[2] / 100 }
	END { if (lines > 0) printf "  %6.2f%% of %5d  together\n", reached / lines * 100, lines }'
exit "$status"
