#!/bin/sh
# SPDX-License-Identifier: MIT
# Instructions per message against bench/instructions.expected: more than 5 % above fails. Skipped
# on any other build than the one that was recorded. BULKHEAD: the daemon.
set -eu
exec "${top_srcdir:-$(dirname "$0")/..}/bench/instructions" --check
