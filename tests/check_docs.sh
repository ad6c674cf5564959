#!/bin/sh
# Every option is in bulkhead.ini(5) and in the sample file, with the default that the table has;
# every reason and every metric is in bulkhead(8); the pages are clean mdoc; the sample and --dump-config are good.
set -eu
top=${top_srcdir:-$(dirname "$0")/..}
daemon=${BULKHEAD:-./bulkhead}
page=$top/man/bulkhead.ini.5
sample=$top/conf/bulkhead.ini
bad=0

complain() {
	echo "$1" >&2
	bad=1
}

rows=$(./tests/list_options)
[ -n "$rows" ] || complain "the table of options is empty"
while read -r section name default; do
	grep -q "^\.It Ic $name\b" "$page" || complain "$name of [$section] is not in bulkhead.ini.5"
	grep -Eq "^[;#]?$name =" "$sample" || complain "$name of [$section] is not in conf/bulkhead.ini"
	[ "$default" = - ] || [ "$name" = max_connections ] || [ "$name" = control ] ||
		grep -Eq "^[;#]?$name = $default\$" "$sample" ||
		complain "$name: the sample does not show its default, $default"
done <<ROWS
$rows
ROWS

for metric in $(./tests/list_metrics); do
	grep -q "^\.It Li .*\b$metric\b" "$top/man/bulkhead.8" || complain "$metric is not in bulkhead.8"
done

# shellcheck disable=SC2013 # words
for reason in $(sed -n 's/^\tX([A-Z_]*, \([a-z_]*\)).*/\1/p' "$top/src/base/reasons.h"); do
	grep -q "^\.It Li $reason\$" "$top/man/bulkhead.8" || complain "$reason is not in bulkhead.8"
done

if command -v mandoc >/dev/null; then
	for manual in "$top"/man/*; do
		mandoc -Tlint -Wwarning "$manual" >&2 || complain "$manual: mandoc finds fault"
	done
else
	complain "mandoc is missing (Debian: mandoc)"
fi

for file in "$top"/conf/*.ini; do
	"$daemon" -t -c "$file" >/dev/null || complain "$file is not a good configuration"
done

[ "$bad" = 0 ] || { echo "CHECK: FAILED: documentation"; exit 1; }
echo "CHECK: documentation"
