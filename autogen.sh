#!/bin/sh
# SPDX-License-Identifier: MIT
# Makes configure. Needs autoconf, automake and pkg-config.
set -eu
cd "$(dirname "$0")"
mkdir -p build-aux
exec autoreconf -fi
