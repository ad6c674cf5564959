#!/bin/sh
# SPDX-License-Identifier: MIT
# run.sh SRCDIR SECONDS ONLY PROGRAM...: every target for that long, one after the other, in the
# build directory; then a line for each. Fails when one found something.
set -u
srcdir=$1 seconds=$2 only=$3
shift 3
run=fuzz/run
found=0 ran=0
mkdir -p "$run"
: >"$run/summary"

# value FILE PATTERN: the last number behind it
value() {
	number=$(sed -n "s/.*$2 *\([0-9][0-9]*\).*/\1/p" "$1" | tail -n 1)
	echo "${number:--}"
}

for program; do
	name=${program#fuzz/fuzz_}
	[ -z "$only" ] || [ "$only" = "$name" ] || continue
	ran=$((ran + 1))
	log=$run/$name.log
	# the scratch corpus stays for the next run, what was found as well
	mkdir -p "$run/$name" "$run/found"
	dict=
	[ ! -f "$srcdir/fuzz/dict/$name.dict" ] || dict=-dict=$srcdir/fuzz/dict/$name.dict
	echo "fuzzing $name for $seconds seconds: $log"
	"./$program" ${dict:+"$dict"} -max_total_time="$seconds" -timeout=60 -report_slow_units=60 \
		-rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$run/found/$name-" \
		"$run/$name" "$srcdir/fuzz/corpus/$name" >"$log" 2>&1
	status=$?
	files=$(sed -n 's/.*Test unit written to //p' "$log" | grep -v -- -slow-unit-)
	count=$(printf '%s' "$files" | grep -c .)
	[ "$status" -eq 0 ] || [ "$count" -gt 0 ] || count=1
	found=$((found + count))
	printf '%-10s %12s executions  coverage %5s edges %6s features  %s found\n' "$name" \
		"$(value "$log" 'stat::number_of_executed_units:')" "$(value "$log" ' cov:')" \
		"$(value "$log" ' ft:')" "$count" >>"$run/summary"
	if [ "$count" -gt 0 ]; then
		tail -n 40 "$log"
		if [ -n "$files" ]; then
			echo "reproduce with:"
			for file in $files; do
				echo "    $(pwd)/$program $(pwd)/$file"
			done | tee -a "$run/summary"
		else
			echo "    exit status $status, see $(pwd)/$log" | tee -a "$run/summary"
		fi
	fi
done
if [ "$ran" -eq 0 ]; then
	echo "no target is called $only" >&2
	exit 1
fi
echo
cat "$run/summary"
[ "$found" -eq 0 ]
