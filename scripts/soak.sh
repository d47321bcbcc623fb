#!/bin/sh
# Runs the tests of many processes for long: scripts/soak.sh [HOURS], default 4.
set -eu
cd "$(dirname "$0")/.."
seconds=$(awk "BEGIN { print int(${1:-4} * 3600) }")
# Twice as long in all: c2 runs once in memory and once on disk.
ROWHOUSE_TEST_SECONDS=$seconds exec cargo test --release --test c2_write_and_checkpoint -- --nocapture
