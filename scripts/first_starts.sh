#!/bin/sh
# Starts 32 processes at once on an empty home, again and again: scripts/first_starts.sh [ROUNDS], default 100.
set -eu
cd "$(dirname "$0")/.."
ROWHOUSE_TEST_ROUNDS=${1:-100} exec cargo test --release --test first_starts_together -- --nocapture
