#!/bin/sh
# SPDX-License-Identifier: MIT
echo "Check is missing (Debian: check): the unit tests were not built" >&2
echo "CHECK: FAILED: Check is missing"
exit 1
