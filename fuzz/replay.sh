#!/bin/sh
# Every checked-in input, through its target.
set -eu
top=${top_srcdir:-$(dirname "$0")/..}
for target in session endpoint config; do
	./fuzz/replay_$target "$top/fuzz/corpus/$target" || { echo "CHECK: FAILED: corpus of $target"; exit 1; }
done
echo "CHECK: fuzz corpora"
