#!/bin/sh
# SPDX-License-Identifier: MIT
# The protections that configure reports under "hardening" are in the daemon: read with readelf.
# HARDENING: configure's list; BULKHEAD: the daemon, its objects beside it.
set -eu
export LC_ALL=C
daemon=${BULKHEAD:-./bulkhead}
objects=$(dirname "$daemon")/libbulkhead.a
promised=${HARDENING?"configure's list, hardening_tokens in the Makefile"}
readelf=${READELF:-readelf}
bad=0 seen=

# to automake 77 is a skipped test
case $promised in
*off*) echo "SKIP: hardening: the build is configured without it"; exit 77 ;;
*instrumented*) echo "SKIP: hardening: the build has sanitizers or coverage"; exit 77 ;;
esac

header=$("$readelf" -hW "$daemon")
segments=$("$readelf" -lW "$daemon" | sed 's/\[Requesting.*//; s/R E/R-E/; s/RW /RW-/; s/R  /R-- /')
dynamic=$("$readelf" -dW "$daemon")
symbols=$("$readelf" --dyn-syms -W "$daemon")
loads=$(echo "$segments" | awk '$1 == "LOAD" { print $2, $7 }')

has() { # has TEXT PATTERN
	echo "$1" | grep -Eq -e "$2"
}

missing() {
	echo "$daemon: $1" >&2
	bad=1
}

# every object file has it, not just one of them
all_marked() {
	members=$("$readelf" -nW "$objects" "$(dirname "$daemon")/src/main.o" | grep -c '^File: ')
	marked=$("$readelf" -nW "$objects" "$(dirname "$daemon")/src/main.o" |
		grep -Ec 'x86 feature: .*IBT, .*SHSTK') || true
	[ "$members" -gt 1 ] && [ "$members" = "$marked" ]
}

# gcc records its flags in the debug information; without it, or with slim LTO objects, none.
noted=$("$readelf" -wi --dwarf-depth=1 "$objects" 2>/dev/null | grep 'DW_AT_producer.*GNU C') || true
lto=$("$readelf" -SW "$objects" | grep -c '\.gnu\.lto_') || true
flag_noted() {
	[ -z "$noted" ] || ! echo "$noted" | grep -qv -e " $1"
}

check() {
	case $1 in
	fortify)
		has "$symbols" ' __(v?snprintf|v?fprintf|printf|memcpy)_chk' ||
			missing "no function is FORTIFY's"
		;;
	stack-protector)
		has "$symbols" ' __stack_chk_fail' || missing "no stack protector"
		flag_noted -fstack-protector-strong || missing "files without stack protector"
		;;
	stack-clash)
		flag_noted -fstack-clash-protection || missing "files without stack clash protection"
		;;
	pie)
		has "$header" 'Type: +DYN' || missing "is not position independent"
		has "$dynamic" '\(FLAGS_1\).* PIE' || missing "is no PIE"
		;;
	relro)
		has "$segments" '^ *GNU_RELRO ' || missing "no RELRO"
		has "$dynamic" '\(FLAGS\).* BIND_NOW|\(FLAGS_1\).* NOW' || missing "RELRO is not full"
		;;
	nx)
		has "$segments" '^ *GNU_STACK .* RW-' || missing "the stack is executable"
		! has "$loads" 'RWE' || missing "a segment is writable and executable"
		;;
	separate-code)
		# headers and constants stand in the first one
		has "$loads" '^0x0+ R--' || missing "code has no segment of its own"
		;;
	cet)
		[ "$lto" -gt 0 ] || all_marked || missing "objects are not marked for CET"
		;;
	cet-mark)
		has "$("$readelf" -nW "$daemon")" 'x86 feature: .*IBT, .*SHSTK' ||
			missing "is not marked for CET"
		;;
	*)
		missing "unknown promise: $1"
		;;
	esac
}

for promise in $promised; do
	check "$promise"
	seen="$seen $promise "
done
# supported by every compiler and linker that can build this
for always in stack-protector pie relro nx; do
	case $seen in
	*" $always "*) ;;
	*) missing "configure did not find $always" ;;
	esac
done

[ "$bad" = 0 ] || { echo "CHECK: FAILED: hardening"; exit 1; }
echo "CHECK: hardening:$promised"
