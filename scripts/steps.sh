#!/bin/sh
# SPDX-License-Identifier: MIT
# What test, quickstart and install-deps show while they work; they source it. What a step prints goes to a
# log. On a terminal its time and its last line stand in one line of the screen, which its end replaces;
# elsewhere there is a line when it begins, one a minute, and one at its end.
steps_of=0 steps_at=0 steps_began=$(date +%s) steps_dir='' steps_child=''

# Seconds, as minutes:seconds.
took() {
	printf '%d:%02d' $(($1 / 60)) $(($1 % 60))
}

since() {
	echo $(($(date +%s) - $1))
}

# A command that ran in the background hears no Ctrl-C by itself; its group is timeout's.
steps_stop() {
	trap '' INT TERM HUP
	if [ -n "$steps_child" ]; then
		kill "$steps_child" 2>/dev/null || true
		wait "$steps_child" 2>/dev/null || true
	fi
	echo
	echo "stopped after $(took "$(since "$steps_began")")"
	exit "$1"
}

# steps_possible FOLDER: can it be built in? configure and make take no blanks in its path, nor what a shell
# takes for its own
steps_possible() {
	case $1 in
	*[[:space:]]*) echo "$1: this path has a blank; move the clone" >&2 ;;
	*[\\\"\#\$\&\'\`]*) echo "$1: this path has one of \\ \" # \$ & ' \`; move the clone" >&2 ;;
	*) return 0 ;;
	esac
	return 2
}

# steps_begin COUNT FOLDER: so many steps will follow, and leave their logs in FOLDER
steps_begin() {
	steps_of=$1 steps_at=0 steps_dir=$2
	mkdir -p "$steps_dir"
	: >"$steps_dir/times"
}

# steps_left_out COUNT: so many steps cannot be taken, after one that failed
steps_left_out() {
	steps_at=$((steps_at + $1))
}

# watched LOG LABEL COMMAND...: runs it, and returns its status
watched() {
	watched_log=$1 watched_label=$2
	shift 2
	watched_began=$(date +%s) watched_told=0 watched_pause=0.1 watched_tty=no watched_status=0
	if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then
		watched_tty=yes
	else
		echo "$watched_label ..."
	fi
	trap 'steps_stop 130' INT
	trap 'steps_stop 143' TERM HUP
	"$@" >"$watched_log" 2>&1 </dev/null &
	steps_child=$!
	while kill -0 "$steps_child" 2>/dev/null; do
		sleep "$watched_pause"
		watched_now=$(since "$watched_began")
		[ "$watched_now" -eq 0 ] || watched_pause=1
		if [ "$watched_tty" = no ] && [ "$watched_now" -lt $((watched_told + 60)) ]; then
			continue
		fi
		watched_line="$watched_label $(took "$watched_now")  $(tail -n 1 "$watched_log" |
			tr -cd '\40-\176')"
		watched_line=$(echo "$watched_line" | cut -c 1-78)
		if [ "$watched_tty" = yes ]; then
			printf '\r\033[K%s' "$watched_line"
		else
			echo "$watched_line"
			watched_told=$watched_now
		fi
	done
	wait "$steps_child" || watched_status=$?
	steps_child=
	trap - INT TERM HUP
	[ "$watched_tty" = no ] || printf '\r\033[K'
	return "$watched_status"
}

# step NAME SECONDS COMMAND...: the next one. It is ended after that time; its log's end is shown when it fails
step() {
	step_name=$1 step_limit=$2 step_status=0 step_began=$(date +%s)
	shift 2
	steps_at=$((steps_at + 1))
	watched "$steps_dir/$step_name.log" "[$steps_at/$steps_of] $step_name" \
		timeout -k 10 "$step_limit" "$@" || step_status=$?
	case $step_status in
	0) step_result=ok ;;
	124 | 137) step_result="FAILED: ended after $(took "$step_limit")" ;;
	*) step_result=FAILED ;;
	esac
	[ "$step_status" -eq 0 ] || tail -n 60 "$steps_dir/$step_name.log"
	printf '[%d/%d] %s %s, %s in all: %s\n' "$steps_at" "$steps_of" "$step_name" \
		"$(took "$(since "$step_began")")" "$(took "$(since "$steps_began")")" "$step_result"
	echo "$step_name $(since "$step_began") $step_result" >>"$steps_dir/times"
	return "$step_status"
}

# The time of each step, and of all.
steps_table() {
	awk 'function took(s) { return sprintf("%d:%02d", int(s / 60), s % 60) }
	     { name = $1; s = $2; sub(/^[^ ]+ [^ ]+ /, ""); printf "  %-24s %6s  %s\n", name, took(s), $0 }' \
		"$steps_dir/times"
	printf '  %-24s %6s\n' together "$(took "$(since "$steps_began")")"
}
