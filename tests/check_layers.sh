#!/bin/sh
# SPDX-License-Identifier: MIT
# Includes point one way: base <- zmtp <- net <- broker <- admin <- daemon <- main; and
# base <- ctl, which talks to the daemon by its socket alone. libevent is net's, and
# sockets are none of zmtp's and broker's business.
set -eu
src=${top_srcdir:-$(dirname "$0")/..}/src
rooms="base zmtp net broker admin daemon"
bad=0

complain() {
	echo "$1" >&2
	bad=1
}

allowed=
for room in $rooms; do
	allowed="$allowed $room"
	[ -d "$src/$room" ] || complain "src/$room is missing"
	found=$(grep -n '^#include "' "$src/$room"/*.[ch] | sed 's/^\([^"]*\)"\([^/"]*\)\/.*/\2 \1/')
	echo "$found" | while read -r to where; do
		case " $allowed " in
		*" $to "*) ;;
		*) echo "src/$room must not include $to/: $where" ;;
		esac
	done
done >"${TMPDIR:-/tmp}/check_layers.$$"
[ -s "${TMPDIR:-/tmp}/check_layers.$$" ] && { cat "${TMPDIR:-/tmp}/check_layers.$$" >&2; bad=1; }
rm -f "${TMPDIR:-/tmp}/check_layers.$$"

found=$(grep -n '^#include "' "$src"/ctl/*.[ch] | grep -v -e '"base/' -e '"ctl/' || true)
[ -z "$found" ] || complain "src/ctl must include base/ and its own alone: $found"

outside() { # outside PATTERN ROOM...: no file of these rooms includes it
	pattern=$1
	shift
	for room in "$@"; do
		if grep -n "#include <$pattern" "$src/$room"/*.[ch]; then
			complain "src/$room must not include <$pattern...>"
		fi
	done
}
outside 'event' base zmtp broker admin daemon ctl
outside 'sys/socket.h' zmtp broker
if grep -ln '#include <sys/socket.h' "$src"/base/*.[ch] | grep -v '/sink\.c$'; then
	complain "in src/base the log's sink alone knows sockets"
fi
outside 'sys/epoll.h' base zmtp net broker admin daemon
if grep -ln '#include <event2' "$src"/net/*.[ch] | grep -v -e '/poll\.c$' -e '/resolver\.c$'; then
	complain "libevent lives in net/poll.c and net/resolver.c alone"
fi

# What daemon/ and admin/ may use of broker/ and net/: what these headers declare. The insides of
# peers, requests and queues are declared in the others.
doors="broker/broker.h broker/describe.h broker/drain.h broker/opts.h broker/proxy.h
	net/backoff.h net/conn.h net/connector.h net/endpoint.h net/inherit.h net/listener.h
	net/log_watch.h net/loop.h net/opts.h net/sockfile.h net/sys.h"
# shellcheck disable=SC2013 # words
for file in $(grep -ho '#include "\(broker\|net\)/[^"]*' "$src"/daemon/*.[ch] "$src"/admin/*.[ch] |
	sed 's/.*"//' | sort -u); do
	# shellcheck disable=SC2086,SC2116 # a list of words, each with a blank around it
	case " $(echo $doors) " in
	*" $file "*) ;;
	*) complain "src/daemon and src/admin must not include $file: it is none of their doors" ;;
	esac
done
# ... and loops and sides, whose structs these declare for broker/ and net/, are asked as well.
found=$(grep -nE '(loop|[^_]proxy|broker|listener|connector|conn)->[a-z_]+->|[^a-z_]loop->[a-z_]+' \
	"$src"/daemon/*.c "$src"/admin/*.c || true)
[ -z "$found" ] || complain "daemon/ and admin/ must ask, and not reach into a struct: $found"

# In broker/ no file calls one that comes later in this list: each stands on what is before it.
order="members topics subscriptions audience envelope request deliveries balance router
	backlog peer silence ration replies assign suspect requeue redeliver serve contest
	queue_drain queue_describe drain workers queue proxy describe shortage blame
	memory_turns memory broker"
calls=${TMPDIR:-/tmp}/check_layers.$$
: >"$calls"
at=0 missing=
for file in $order; do
	at=$((at + 1))
	[ -f "$src/broker/$file.c" ] || complain "src/broker/$file.c is in the order, and not there"
	[ -f "src/broker/$file.o" ] || { missing="$missing $file.o" && continue; }
	nm "src/broker/$file.o" | awk -v f="$file" -v at="$at" '
		NF == 3 && $2 ~ /[TDBR]/ { print "has", $3, at, f }
		NF == 2 && $1 == "U" { print "calls", $2, at, f }' >>"$calls"
done
for file in "$src"/broker/*.c; do
	# shellcheck disable=SC2086,SC2116 # a list of words, each with a blank around it
	case " $(echo $order) " in
	*" $(basename "$file" .c) "*) ;;
	*) complain "$file has no place in the order of broker/ (tests/check_layers.sh)" ;;
	esac
done
found=$(awk '$1 == "has" { at[$2] = $3; file[$2] = $4; next }
	{ name[++n] = $2; by[n] = $3; from[n] = $4 }
	END { for (i = 1; i <= n; i++) if (at[name[i]] > by[i])
		print from[i] ".c calls " name[i] " of " file[name[i]] ".c" }' "$calls")
[ -z "$missing" ] ||
	complain "no object of src/broker/$missing: is this the folder that was built in, and whole?"
rm -f "$calls"
[ -z "$found" ] || complain "broker/ has an order, and this goes up: $found"

# The states of a connection beside enum conn_state are each set by one file: see net/conn.h.
sets() { # sets FILE STRUCT FIELD...: only FILE assigns these
	file=$1
	struct=$2
	shift 2
	for field in "$@"; do
		found=$(grep -nE "$struct->$field *([|&]?=[^=]|\\+\\+|--)" "$src"/*/*.[ch] |
			grep -v "/$file:" || true)
		[ -z "$found" ] || complain "$file alone sets $struct->$field: $found"
	done
}
sets net/conn.c conn state was_ready service
sets net/conn_wait.c conn paused hung_up
sets net/conn_out.c conn output was_full
sets net/conn_leave.c conn ending
sets net/heartbeat.c conn unpinged window_closed
# ... and those of a proxy: see broker/proxy.h.
sets broker/proxy.c proxy life paused closing_reason
sets broker/serve.c proxy client_departed
sets 'broker/\(redeliver.c\|redeliver_impl.h\)' proxy tracking

found=$(grep -n '[/%] PROXY_SIDES' "$src"/*/*.[ch] | grep -v '/broker/broker_impl.h:' || true)
[ -z "$found" ] || complain "only broker/broker_impl.h knows how sides are numbered: $found"
found=$(grep -nE 'PROXY_SIDES - 1 - |side(_name)?[[(]1 - ' "$src"/*/*.[ch] || true)
[ -z "$found" ] || complain "the other side is side_other(), or broker_other_side(): $found"

if grep -n '#include <pthread.h>' "$src"/*/*.[ch]; then
	complain "there are no threads"
fi

[ "$bad" = 0 ] || { echo "CHECK: FAILED: layers"; exit 1; }
echo "CHECK: layers"
