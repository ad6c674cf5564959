#!/bin/sh
# The seeds of `make check`: SIM_SEEDS of them (default 2000).
set -eu
exec tests/sim/sim --seeds "${SIM_SEEDS:-2000}"
